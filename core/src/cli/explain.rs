//! `routes explain`: why each route matched an event or did not.

use std::{io::Read, path::Path};

use anyhow::Context;
use clap::Args;
use jackfield_event::{Event, EventId};
use serde::Serialize;

use super::{
    Output, Shape, history, say, say_json,
    table::{paint, short, state},
    wait,
};
use crate::{
    config,
    journal::{DeliveryFilter, DeliveryRecord, EventStory},
    router::{Explanation, Generation, GenerationId, RuleFile},
};

/// Say of every route whether it matches an event, and where it does not, what failed first; and of a stored event, what
/// became of it.
///
/// The routes are those of the rule files, as they are now.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A stored event (evt_…), a file with an event in JSON (or what `events show -o json` printed), or `-` for
    /// standard input.
    event: String,
    /// Only this route.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// What a route says to an event, and what it came to owe.
#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    /// The deliveries of a stored event along the route, replays included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deliveries: Vec<DeliveryRecord>,
}

impl Explain {
    pub(super) fn run(self, path: &Path) -> anyhow::Result<()> {
        let Self { event, route, output } = self;
        let stored = event.parse().map(|id| stored(id, path)).ok().transpose()?;
        let json = match &stored {
            Some((story, _)) => story.event.get().as_bytes().to_vec(),
            None => unwrapped(read(&event)?),
        };
        Event::from_json(&json)
            .with_context(|| format!("{event} is not an event; `jackfield schema event` shows one"))?;
        // Which routes match depends on the patterns alone, so that neither plugins nor secrets are asked for.
        let generation = Generation::compile(&RuleFile::load(&config::routes(path)?)?, None)?;
        let mut explanations = generation.explain(&json)?;
        if let Some(route) = &route {
            explanations.retain(|explanation| explanation.route == *route);
            anyhow::ensure!(!explanations.is_empty(), "there is no route `{route}`");
        }
        let (story, deliveries) = stored.unzip();
        let explained = explained(explanations, &deliveries.unwrap_or_default());
        match output.output {
            Shape::Json => say_json(&explained),
            Shape::Table => {
                let words: Vec<_> = explained
                    .iter()
                    .map(|explained| explained.words(story.as_ref(), generation.id()))
                    .collect();
                Ok(say(if words.is_empty() {
                    "there are no routes".to_owned()
                } else {
                    words.join("\n")
                })?)
            }
        }
    }
}

/// A stored event, and its deliveries.
fn stored(id: EventId, path: &Path) -> anyhow::Result<(EventStory, Vec<DeliveryRecord>)> {
    let history = history(path)?;
    let story = wait(history.event(id))??.with_context(|| format!("there is no event {id}"))?;
    let filter = DeliveryFilter {
        event: Some(id),
        limit: usize::MAX,
        ..DeliveryFilter::default()
    };
    Ok((story, wait(history.deliveries(filter))??))
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

/// Each explanation with those of the deliveries that are of its route.
fn explained(explanations: Vec<Explanation>, deliveries: &[DeliveryRecord]) -> Vec<Explained> {
    let explained = explanations.into_iter().map(|explanation| {
        let of_route = deliveries
            .iter()
            .filter(|delivery| delivery.route == explanation.route);
        Explained {
            deliveries: of_route.cloned().collect(),
            explanation,
        }
    });
    explained.collect()
}

impl Explained {
    fn words(&self, stored: Option<&EventStory>, today: &GenerationId) -> String {
        let mut lines = vec![words(&self.explanation)];
        lines.extend(self.deliveries.iter().map(became));
        // Why nothing came of a match.
        if let Some(story) = stored.filter(|_| self.explanation.matched && self.deliveries.is_empty()) {
            lines.push(match story.record.generation == *today {
                true => format!("{INDENT}owes nothing, which is a fault of the router: please report it"),
                false => format!(
                    "{INDENT}owed nothing when it came: other rules were in force then; `jackfield replay {}` routes it again",
                    story.record.id
                ),
            });
        }
        lines.join("\n")
    }
}

/// What became of a delivery, in a line.
fn became(delivery: &DeliveryRecord) -> String {
    let mut line = format!("{INDENT}{} {}", delivery.id, state(delivery.state));
    if delivery.parent.is_some() {
        line += ", a replay";
    }
    let why = match &delivery.failure {
        Some(failure) => Some((failure.reason, Some(failure.error.as_str()))),
        None => delivery.reason.map(|reason| (reason, delivery.detail.as_deref())),
    };
    if let Some((reason, detail)) = why {
        line += &format!(": {}", reason.code());
        line += &detail
            .map(|detail| format!(" ({})", short(detail, 160)))
            .unwrap_or_default();
    }
    if let Some(successor) = &delivery.successor {
        line += &format!(", by {successor}");
    }
    if delivery.held {
        line += ", and holds up those of its order key";
    }
    if delivery.blocked {
        line += ", behind an older one of its order key";
    }
    line
}

const INDENT: &str = "              ";

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

fn words(explanation: &Explanation) -> String {
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
