//! `replay`: settled deliveries again, or all that stored events owe.
//!
//! What is chosen by what it has in common is counted first, and then asked for piece by piece, the oldest first. Each piece is
//! one transaction: whenever this is interrupted, what was made is whole, and the same command goes on with the rest, since it
//! leaves out what has been replayed.

mod choice;
mod preview;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    sync::Arc,
};

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::{Output, Shape, control::post, history, progress::Progress, say, say_json, settle::Note, wait};
use crate::{
    admin::{self, Replayed, RulesOf},
    config,
    journal::{History, ReplayKeys},
};

use choice::Choice;
use preview::Preview;

/// Ask for something again.
///
/// A delivery is done again by the rules that it was made under, and only once it is settled; the new one names it. An event is
/// routed anew by today's rules, and each route that matches comes to owe a new delivery. Without either, dead letters are
/// chosen by what they have in common, counted, and replayed once you have agreed; those that have been replayed are left out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Replay {
    /// Settled deliveries (dlv_…), or stored events (evt_…).
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Only this route: of an event, which has to match it, or of what is chosen.
    #[arg(long, value_name = "NAME")]
    route: Vec<String>,
    /// Deliveries: begin with this step. What those before it put out stands; of those whose files are gone, the files are made
    /// again first.
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Deliveries: whether steps keep the idempotency keys by which they know what they have done, or get new ones and act again.
    #[arg(long, value_enum, default_value_t = Keys::Keep)]
    keys: Keys,
    /// The rules: today's, those of then, or those of a generation. By default an event is routed by today's, and a delivery done
    /// by those that it was made under.
    #[arg(long, value_name = "today|then|GENERATION", value_parser = rules)]
    rules: Option<RulesOf>,
    /// Only say what would be made.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before replaying what was chosen.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    note: Note,
    #[command(flatten)]
    output: Output,
    // Last, since its heading is that of all that comes after it.
    #[command(flatten)]
    choice: Choice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Keys {
    /// What did happen does not happen twice.
    Keep,
    /// Everything is done again.
    Renew,
}

impl Replay {
    pub(super) fn run(mut self, config: &Path) -> anyhow::Result<()> {
        let data_dir = config::data_dir(config)?;
        let (ids, yes, output) = (std::mem::take(&mut self.ids), self.yes, self.output);
        let route = self.route.clone();
        if !ids.is_empty() {
            if self.choice.is_made() {
                bail!("name deliveries and events, or choose some by what they have in common; not both");
            }
            return match self.dry_run {
                true => self.preview(history(config)?, ids, true),
                false => self.named(&data_dir, ids),
            };
        }
        let history = history(config)?;
        let chosen = wait(self.choice.count(&*history, &route))??;
        if self.dry_run {
            let ids = wait(chosen.all(&*history))??;
            return self.preview(history, ids, false);
        }
        if chosen.count == 0 {
            return match output.output {
                Shape::Json => say_json(&Replayed::default()),
                Shape::Table => Ok(say(format!("there are no {}", chosen.words))?),
            };
        }
        if !yes {
            agree(&chosen.question())?;
        }
        let once = !self.choice.again;
        let request = self.request(once);
        wait(many(&data_dir, &*history, &request, &chosen, output))?
    }

    fn request(self, once: bool) -> admin::Replay {
        admin::Replay {
            ids: Vec::new(),
            keys: match self.keys {
                Keys::Keep => ReplayKeys::Keep,
                Keys::Renew => ReplayKeys::Renew,
            },
            from: self.from,
            routes: Vec::new(),
            rules: self.rules,
            once,
            asker: self.note.asker(),
        }
    }

    /// Asks for what was named.
    fn named(self, data_dir: &Path, ids: Vec<String>) -> anyhow::Result<()> {
        let (output, routes) = (self.output, self.route.clone());
        let mut request = self.request(false);
        request.routes = routes;
        let mut all = Replayed::default();
        let asked = wait(async {
            for piece in ids.chunks(admin::PIECE) {
                request.ids = piece.to_vec();
                all.add(post(data_dir, "/v1/replay", &request).await?);
            }
            anyhow::Ok(())
        })?;
        // Whatever came in between, what was made is told.
        let is_nothing = all.deliveries.is_empty() && all.refused.is_empty();
        match output.output {
            Shape::Json if is_nothing && asked.is_err() => {}
            Shape::Json => say_json(&all)?,
            Shape::Table => {
                if is_nothing && asked.is_ok() {
                    say("no route matches, so that nothing is owed")?;
                }
                for delivery in &all.deliveries {
                    say(format!(
                        "{delivery}  is owed; `jackfield deliveries show {delivery}` follows it"
                    ))?;
                }
            }
        }
        end(&all, ids.len() as u64, asked)
    }

    /// Says what would be made.
    fn preview(self, history: Arc<dyn History>, ids: Vec<String>, named: bool) -> anyhow::Result<()> {
        let (output, routes) = (self.output, self.route.clone());
        let once = !named && !self.choice.again;
        let mut request = self.request(once);
        if named {
            request.routes = routes;
        }
        let preview = wait(Preview::of(&request, &ids, history))??;
        match output.output {
            Shape::Json => say_json(&preview)?,
            Shape::Table => say(preview.words())?,
        }
        match preview.refused() {
            0 => Ok(()),
            refused => bail!("{refused} of {} would not be replayed", ids.len()),
        }
    }
}

/// Asks for what was chosen, piece by piece, until it is done or somebody has enough of it.
async fn many(
    data_dir: &Path,
    history: &dyn History,
    request: &admin::Replay,
    chosen: &choice::Chosen,
    output: Output,
) -> anyhow::Result<()> {
    let mut progress = Progress::of(chosen.count, chosen.count > PIECE as u64);
    let mut all = Replayed::default();
    let (mut last, mut done) = (None, 0);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let asked = async {
        loop {
            let ids = chosen.piece(history, last, PIECE, done).await?;
            let Some(newest) = ids.last() else { return Ok(()) };
            last = Some(*newest);
            let piece = admin::Replay {
                ids: ids.iter().map(ToString::to_string).collect(),
                ..request.clone()
            };
            let mut answer = std::pin::pin!(post::<_, Replayed>(data_dir, "/v1/replay", &piece));
            // What was asked for is brought to its end: it takes no longer than one transaction.
            let (replayed, interrupted) = tokio::select! {
                replayed = &mut answer => (replayed?, false),
                _ = &mut interrupt => (answer.await?, true),
            };
            done += ids.len() as u64;
            all.add(replayed);
            progress.show(done);
            match interrupted {
                true if done < chosen.count => bail!(
                    "stopped after {done} of {}; the same command goes on with the rest",
                    chosen.count
                ),
                true => return Ok(()),
                false => {}
            }
        }
    }
    .await;
    progress.end();
    // Whatever came in between, what was made is told.
    match output.output {
        Shape::Json => say_json(&all)?,
        Shape::Table => say(format!("{} deliveries are owed anew", all.deliveries.len()))?,
    }
    end(&all, done, asked)
}

/// Tells what was refused of `count`, and why it was not gone on with.
fn end(all: &Replayed, count: u64, asked: anyhow::Result<()>) -> anyhow::Result<()> {
    if let (1, [refused]) = (count, all.refused.as_slice()) {
        bail!("the router refused: {}", refused.error);
    }
    for refused in &all.refused {
        eprintln!("error: {}", refused.error);
    }
    asked?;
    match all.refused.len() {
        0 => Ok(()),
        refused => bail!("{refused} of {count} were not replayed"),
    }
}

/// Goes on only where a person agrees.
fn agree(question: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("{question}: nobody is there to agree; `--yes` does, and `--dry-run` says what would be made");
    }
    eprint!("{question}? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was replayed"),
    }
}

fn rules(text: &str) -> Result<RulesOf, &'static str> {
    match text {
        "" => Err("expected `today`, `then`, or the beginning of a generation's name"),
        "today" => Ok(RulesOf::Today),
        "then" => Ok(RulesOf::Then),
        name => Ok(RulesOf::Generation(name.to_owned())),
    }
}

/// How many are asked for at once.
const PIECE: usize = 100;

const EXAMPLES: &str = "\
Examples:
  jackfield replay dlv_…                        one again; what did happen does not happen twice
  jackfield replay dlv_… --from commit          from that step on
  jackfield replay dlv_… --rules today          by the rules as they are now
  jackfield replay evt_… --route tokens         what that route owes for the event
  jackfield replay --route tokens --since 2d    all dead letters of a route, after a word
  jackfield replay --reason attempts-exhausted  all that was tried in vain";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_by_a_word_or_by_a_name() {
        assert_eq!(rules("today"), Ok(RulesOf::Today));
        assert_eq!(rules("then"), Ok(RulesOf::Then));
        assert_eq!(rules("3f2a"), Ok(RulesOf::Generation("3f2a".into())));
        assert!(rules("").is_err());
    }
}
