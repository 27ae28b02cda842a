//! `routes plan`: what other rules would have made of what came in.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use jackfield_event::{EventId, Timestamp};
use serde::Serialize;

use super::{
    super::{
        Output, Shape, history,
        lists::{before_now, time},
        progress::Progress,
        say, say_json,
        table::{paint, short},
        wait,
    },
    stored::{Rules, beginning},
};
use crate::{
    config,
    journal::{History, Stretch},
    router::{Change, Comparison, Difference, Generation, GenerationId, RuleFile},
};

/// Say what other rules would have made of the events that came in; nothing is done.
///
/// Every stored event is held against the rules in force and against the others: which routes it would take or leave,
/// in what line and until when, and what their steps would be given. What an earlier step would have put out stands there by its name. Exits with
/// 0 where nothing would be different, and with 3 where something would.
#[derive(Debug, Args)]
pub(in crate::cli) struct Plan {
    /// The other rules: a file or a directory; by default the rule files of the configuration, as they are now.
    rules: Option<PathBuf>,
    /// In place of the rules in force, a generation, or as much of its name as tells it from others.
    #[arg(long, value_name = "GENERATION")]
    against: Option<String>,
    /// Only events of the last while, as in 30m, 24h or 7d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Duration>,
    #[command(flatten)]
    output: Output,
}

/// What would be different.
#[derive(Debug, Serialize)]
struct Outlook<'g> {
    before: GenerationId,
    after: GenerationId,
    /// How many events were compared.
    events: u64,
    /// How many were not, since their payload is not kept any more.
    left_out: u64,
    /// Routes that only the other rules have, and that only these have.
    added: Vec<&'g str>,
    removed: Vec<&'g str>,
    /// By route, where any event would fare differently.
    routes: BTreeMap<&'g str, Fate>,
}

/// What becomes of one route.
#[derive(Debug, Default, Serialize)]
struct Fate {
    /// Events that would take it and did not.
    gained: Marks,
    /// Events that took it and would not.
    lost: Marks,
    /// Events that take it either way, and those of them that would be dealt with otherwise.
    kept: u64,
    altered: Marks,
    /// In what, a few in full.
    differences: Vec<Example>,
}

/// How many events, and a few of them.
#[derive(Debug, Default, Serialize)]
struct Marks {
    count: u64,
    examples: Vec<EventId>,
}

/// What is otherwise for one event.
#[derive(Debug, Serialize)]
struct Example {
    event: EventId,
    #[serde(flatten)]
    difference: Difference,
}

impl Plan {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        let history = history(config)?;
        let before = Rules::stored(&*history, self.against.as_deref())?;
        let path = self.rules.map_or_else(|| config::routes(config), Ok)?;
        // What they mean for events depends on them alone, so that neither plugins nor secrets are asked for.
        let before = Generation::compile(&before.files, None)?;
        let after = Generation::compile(&RuleFile::load(&path)?, None)?;
        let since = self.since.and_then(before_now);
        let outlook = wait(outlook(&*history, &before, &after, since))??;
        match self.output.output {
            Shape::Json => say_json(&outlook)?,
            Shape::Table => say(outlook.words())?,
        }
        Ok(match outlook.is_same() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(DIFFERENT),
        })
    }
}

/// Holds all events since then against both, a stretch at a time.
async fn outlook<'g>(
    history: &dyn History,
    before: &'g Generation,
    after: &'g Generation,
    since: Option<Timestamp>,
) -> anyhow::Result<Outlook<'g>> {
    let comparison = Comparison::new(before, after);
    let mut outlook = Outlook {
        before: before.id().clone(),
        after: after.id().clone(),
        events: 0,
        left_out: 0,
        added: comparison.added(),
        removed: comparison.removed(),
        routes: BTreeMap::new(),
    };
    let count = history.event_count(since).await?;
    let mut progress = Progress::of(count, count > SHOWN);
    let mut last = None;
    loop {
        let stretch = Stretch {
            since,
            after: last,
            limit: STRETCH,
            bytes: STRETCH_BYTES,
        };
        let events = history.stretch(stretch).await?;
        let Some(newest) = events.last() else { break };
        last = Some(newest.place);
        for event in &events {
            let compared = comparison.compare(event.envelope.as_bytes(), &event.payload)?;
            for route in compared.kept {
                outlook.routes.entry(route).or_default().kept += 1;
            }
            for change in compared.changes {
                outlook.note(event.id, change);
            }
        }
        outlook.events += u64::try_from(events.len()).unwrap_or(u64::MAX);
        progress.show(outlook.events);
    }
    progress.end();
    // Those that came in meanwhile were compared as well.
    outlook.left_out = count.saturating_sub(outlook.events);
    outlook.routes.retain(|_, fate| fate.is_changed());
    Ok(outlook)
}

impl<'g> Outlook<'g> {
    fn note(&mut self, event: EventId, change: Change<'g>) {
        let (Change::Gained(route) | Change::Lost(route) | Change::Altered(route, _)) = change;
        let fate = self.routes.entry(route).or_default();
        match change {
            Change::Gained(_) => fate.gained.add(event),
            Change::Lost(_) => fate.lost.add(event),
            Change::Altered(_, differences) => {
                fate.altered.add(event);
                // One of each field tells what changes; a second one of the same field adds nothing.
                for difference in differences {
                    let is_new = fate.differences.iter().all(|known| {
                        (&known.difference.step, &known.difference.field)
                            != (&difference.step, &difference.field)
                    });
                    if is_new && fate.differences.len() < EXAMPLES {
                        fate.differences.push(Example { event, difference });
                    }
                }
            }
        }
    }

    fn is_same(&self) -> bool {
        self.routes.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }

    fn words(&self) -> String {
        let mut lines = vec![format!(
            "{} held against generation {} and the other rules:",
            counted(self.events, "event"),
            beginning(&self.before)
        )];
        if self.left_out > 0 {
            lines.push(format!(
                "{} left out, since {} (`payloads` in `[retention]`)",
                counted(self.left_out, "older event"),
                "their payload is no longer kept"
            ));
        }
        if self.is_same() {
            lines.push("nothing would be different".to_owned());
        }
        let named: BTreeSet<_> = self
            .routes
            .keys()
            .chain(&self.added)
            .chain(&self.removed)
            .collect();
        let none = Fate::default();
        for route in named {
            let fate = self.routes.get(route).unwrap_or(&none);
            let name = short(route, 64);
            if self.added.contains(route) || fate.gained.count > 0 {
                let new = if self.added.contains(route) { " (new)" } else { "" };
                lines.push(paint(
                    &format!("+ {name}{new}: {}", fate.gained.words("taken")),
                    "32",
                ));
            }
            if self.removed.contains(route) || fate.lost.count > 0 {
                let gone = if self.removed.contains(route) {
                    " (gone)"
                } else {
                    ""
                };
                lines.push(paint(
                    &format!("- {name}{gone}: {}", fate.lost.words("no longer taken")),
                    "31",
                ));
            }
            if fate.altered.count > 0 {
                let of = format!(
                    "of {} that take it, {}",
                    fate.kept,
                    fate.altered.words("dealt with otherwise")
                );
                lines.push(paint(&format!("~ {name}: {of}"), "33"));
            }
            for Example { event, difference } in &fate.differences {
                let Difference {
                    step,
                    field,
                    before,
                    after,
                } = difference;
                let step = step.iter().map(|step| format!("step {}, ", short(step, 64)));
                let step: String = step.collect();
                lines.push(format!("    {step}{}, for {event}:", short(field, 64)));
                lines.push(format!("      before  {}", short(before, 200)));
                lines.push(format!("      after   {}", short(after, 200)));
            }
        }
        lines.join("\n")
    }
}

impl Fate {
    fn is_changed(&self) -> bool {
        [&self.gained, &self.lost, &self.altered]
            .iter()
            .any(|marks| marks.count > 0)
    }
}

impl Marks {
    fn add(&mut self, event: EventId) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(event);
        }
    }

    fn words(&self, what: &str) -> String {
        let examples: Vec<_> = self.examples.iter().map(ToString::to_string).collect();
        match self.count {
            0 => format!("{what} by no event"),
            count => format!(
                "{what} by {}, as {}",
                counted(count, "event"),
                examples.join(", ")
            ),
        }
    }
}

fn counted(count: u64, unit: &str) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The exit code of a plan by which something would be different.
const DIFFERENT: u8 = 3;
/// Events that are read at a time.
const STRETCH: usize = 500;
/// How large they are together, but for the last of them, which may be of any size: what memory is bounded by.
const STRETCH_BYTES: usize = 4 << 20;
/// How many events and fields stand for all of their kind.
const EXAMPLES: usize = 3;
/// With how many events it takes long enough to be watched.
const SHOWN: u64 = 5_000;
