//! `routes explain`: why each route matched an event or did not.

mod follow;
#[cfg(test)]
mod tests;

use std::{io::Read, path::Path};

use anyhow::Context;
use clap::Args;
use jackfield_event::{Event, EventId};

use super::{
    Output, Shape, history, say, say_json, show,
    table::{paint, short, state},
    wait,
};
use crate::{
    admin::{Became, Explained, Idle, Skipped, deliveries_of},
    config,
    delivery::Phase,
    journal::History,
    reason::Reason,
    router::{Explanation, Generation, RuleFile},
};

/// Say of every route whether it matches an event, and where it does not, what failed first; and of a stored event, what
/// became of it.
///
/// The routes are those of the rule files, as they are now. With `--follow`, events are explained as they come in, by the
/// rules under which each was routed, until Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A stored event (evt_…), a file with an event in JSON (or what `events show -o json` printed), or `-` for
    /// standard input.
    #[arg(required_unless_present = "follow")]
    event: Option<String>,
    /// Explain events as they come in; with `-o json`, one to a line.
    #[arg(short, long, conflicts_with = "event")]
    follow: bool,
    /// Only this route.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Explain {
    pub(super) fn run(self, path: &Path) -> anyhow::Result<()> {
        let Self {
            event,
            follow: _,
            route,
            output,
        } = self;
        let Some(event) = event else {
            return wait(follow::follow(&*history(path)?, route.as_deref(), output.output))?;
        };
        let stored = match event.parse::<EventId>() {
            Ok(id) => Some((id, history(path)?)),
            Err(_) => None,
        };
        // Which routes match depends on the patterns alone, so that neither plugins nor secrets are asked for.
        let generation = Generation::compile(&RuleFile::load(&config::routes(path)?)?, None)?;
        let mut explained = match &stored {
            Some((id, history)) => wait(of_stored(*id, &**history, &generation))??,
            None => {
                let json = unwrapped(read(&event)?);
                Event::from_json(&json).with_context(|| {
                    format!("{event} is not an event; `jackfield schema event` shows one")
                })?;
                Explained::of_any(&generation, &json)?
            }
        };
        if let Some(route) = &route {
            explained.retain(|explained| explained.explanation.route == *route);
            anyhow::ensure!(!explained.is_empty(), "there is no route `{route}`");
        }
        match output.output {
            Shape::Json => say_json(&explained),
            Shape::Table => Ok(say(words(&explained))?),
        }
    }
}

/// What the routes say to a stored event, and what came of it.
async fn of_stored(
    id: EventId,
    history: &dyn History,
    generation: &Generation,
) -> anyhow::Result<Vec<Explained>> {
    let story = history.event(id).await?;
    let story = story.with_context(|| format!("there is no event {id}"))?;
    let deliveries = deliveries_of(history, id).await?;
    Explained::of_stored(generation, &story, &deliveries).with_context(|| format!("{id} cannot be explained"))
}

/// The JSON in a file, or on standard input.
fn read(event: &str) -> anyhow::Result<Vec<u8>> {
    if event == "-" {
        let mut json = Vec::new();
        std::io::stdin().read_to_end(&mut json)?;
        return Ok(json);
    }
    std::fs::read(event)
        .with_context(|| format!("`{event}` is neither an event (evt_…) nor a file that can be read"))
}

/// The event within what `events show -o json` prints, and everything else as it is.
fn unwrapped(json: Vec<u8>) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct Shown {
        event: Box<serde_json::value::RawValue>,
    }
    match serde_json::from_slice::<Shown>(&json) {
        Ok(shown) if Event::from_json(&json).is_err() => shown.event.get().as_bytes().to_vec(),
        _ => json,
    }
}

/// What is to be said of the event, and all routes, each with what came of it.
fn words(explained: &[Explained]) -> String {
    let missing = explained.iter().find_map(|explained| explained.missing);
    let missing = missing.map(|missing| {
        format!("note: {missing}, so that no clause on `data.payload` can be held against it")
    });
    let duplicates = explained.iter().find_map(|explained| explained.duplicates);
    let duplicates = duplicates.map(|times| {
        let times = match times {
            1 => "once more".to_owned(),
            times => format!("{times} more times"),
        };
        format!(
            "note: it came {times}, for which nothing more is owed ({})",
            Reason::Duplicate
        )
    });
    let routes = explained.iter().map(|explained| {
        let mut lines = vec![said(&explained.explanation)];
        lines.extend(explained.deliveries.iter().map(became));
        lines.extend(explained.idle.iter().map(idle));
        lines.join("\n")
    });
    let lines: Vec<_> = missing.into_iter().chain(duplicates).chain(routes).collect();
    match lines.is_empty() {
        true => "there are no routes".to_owned(),
        false => lines.join("\n"),
    }
}

/// What became of a delivery, in a line, and in more what its state does not tell.
fn became(delivery: &Became) -> String {
    let Became { record, skipped } = delivery;
    let mut line = format!("{INDENT}{} {}", record.id, state(record.state));
    if record.parent.is_some() {
        line += ", a replay";
    }
    let why = match &record.failure {
        Some(failure) => Some((failure.reason, Some(failure.error.as_str()))),
        None => record.reason.map(|reason| (reason, record.detail.as_deref())),
    };
    if let Some((reason, detail)) = why {
        line += &format!(": {}", coded(reason, detail));
    }
    if let Some(successor) = &record.successor {
        line += &format!(", by {successor}");
    }
    if record.held {
        line += ", and holds up those of its order key";
    }
    if record.blocked {
        line += ", behind an older one of its order key";
    }
    let gathered = record.gathered.iter().map(show::gathered);
    for more in gathered.chain(skipped.iter().map(self::skipped)) {
        line += &format!("\n{INDENT}  {more}");
    }
    line
}

/// That a step had nothing to do.
fn skipped(skipped: &Skipped) -> String {
    let step = short(&skipped.step, 64);
    let phase = match skipped.phase {
        Phase::Steps => "",
        Phase::OnFailure => "on failure, ",
    };
    match skipped.reason {
        Some(reason) => format!(
            "{phase}step `{step}` skipped: {}",
            coded(reason, skipped.message.as_deref())
        ),
        None => format!("{phase}step `{step}` skipped"),
    }
}

/// Why a route that matches owes nothing.
fn idle(idle: &Idle) -> String {
    match idle.reason {
        Some(reason) => format!("{INDENT}{}", coded(reason, Some(&idle.detail))),
        None => format!("{INDENT}{}", idle.detail),
    }
}

/// A code, with the words that belong to the case.
fn coded(reason: Reason, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{reason} ({})", short(detail, 160)),
        None => reason.to_string(),
    }
}

fn said(explanation: &Explanation) -> String {
    let route = short(&explanation.route, 64);
    if explanation.matched {
        return format!("{} {route}", paint("matches    ", "32"));
    }
    let mut text = format!("{} {route}", paint("does not   ", "33"));
    if let Some(failed) = &explanation.failed {
        text += &format!("\n{INDENT}{}", short(&failed.to_string(), 400));
        if let Some(hint) = &failed.hint {
            text += &format!("\n{INDENT}{}", short(hint, 200));
        }
    }
    text
}

const INDENT: &str = "              ";
