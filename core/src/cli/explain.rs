//! `routes explain`: why each route matched an event or did not.

mod follow;

use std::{io::Read, path::Path};

use anyhow::Context;
use clap::Args;
use jackfield_event::{Event, EventId};

use super::{
    Output, Shape, history, say, say_json,
    table::{paint, short, state},
    wait,
};
use crate::{
    admin::{Explained, deliveries_of},
    config,
    journal::{DeliveryRecord, EventStory, Kept},
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
        let stored = event.parse().map(|id| stored(id, path)).ok().transpose()?;
        // Which routes match depends on the patterns alone, so that neither plugins nor secrets are asked for.
        let generation = Generation::compile(&RuleFile::load(&config::routes(path)?)?, None)?;
        let mut explained = match &stored {
            Some((story, deliveries)) => Explained::of_stored(&generation, story, deliveries)?,
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

/// A stored event, and its deliveries.
fn stored(id: EventId, path: &Path) -> anyhow::Result<(EventStory, Vec<DeliveryRecord>)> {
    let history = history(path)?;
    let story = wait(history.event(id))??.with_context(|| format!("there is no event {id}"))?;
    if let Some(missing) = story.kept.missing() {
        anyhow::ensure!(story.kept != Kept::Outline, "{id} cannot be explained: {missing}");
        eprintln!("note: {missing}, so that no clause on `data.payload` can match");
    }
    Ok((story, wait(deliveries_of(&*history, id))??))
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

/// All routes, each with what came of it.
fn words(explained: &[Explained]) -> String {
    let routes = explained.iter().map(|explained| {
        let mut lines = vec![said(&explained.explanation)];
        lines.extend(explained.deliveries.iter().map(became));
        lines.extend(explained.idle.iter().map(|why| format!("{INDENT}{why}")));
        lines.join("\n")
    });
    let routes: Vec<_> = routes.collect();
    match routes.is_empty() {
        true => "there are no routes".to_owned(),
        false => routes.join("\n"),
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
