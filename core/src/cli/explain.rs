//! `routes explain`: why each route matched an event or did not.

use std::{io::Read, path::Path};

use anyhow::Context;
use clap::Args;
use jackfield_event::{Event, EventId};

use super::{
    Output, Shape, history, say, say_json,
    table::{paint, short},
    wait,
};
use crate::{
    config,
    router::{Explanation, Generation, RuleFile},
};

/// Say of every route whether it matches an event, and where it does not, what failed first.
///
/// The routes are those of the rule files, as they are now.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A stored event (evt_…), a file with an event in JSON (or what `events show -o json` printed), or `-` for
    /// standard input.
    event: String,
    #[command(flatten)]
    output: Output,
}

impl Explain {
    pub(super) fn run(self, path: &Path) -> anyhow::Result<()> {
        let Self { event, output } = self;
        let json = unwrapped(read(&event, path)?);
        Event::from_json(&json)
            .with_context(|| format!("{event} is not an event; `jackfield schema event` shows one"))?;
        let rules = config::routes(path)?;
        // Which routes match depends on the patterns alone, so that neither plugins nor secrets are asked for.
        let generation = Generation::compile(&RuleFile::load(&rules)?, None)?;
        let explanations = generation.explain(&json)?;
        match output.output {
            Shape::Json => say_json(&explanations),
            Shape::Table => {
                let words: Vec<_> = explanations.iter().map(words).collect();
                Ok(say(if words.is_empty() {
                    "there are no routes".to_owned()
                } else {
                    words.join("\n")
                })?)
            }
        }
    }
}

/// The event's JSON: from the journal, a file, or standard input.
fn read(event: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    if let Ok(id) = event.parse::<EventId>() {
        let story = wait(history(path)?.event(id))??.with_context(|| format!("there is no event {id}"))?;
        return Ok(story.event.get().as_bytes().to_vec());
    }
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

fn words(explanation: &Explanation) -> String {
    let route = short(&explanation.route, 64);
    if explanation.matched {
        return format!("{} {route}", paint("matches    ", "32"));
    }
    let mut text = format!("{} {route}", paint("does not   ", "33"));
    if let Some(failed) = &explanation.failed {
        let found = if failed.actual.is_empty() {
            "nothing".to_owned()
        } else {
            failed.actual.join(", ")
        };
        text += &format!(
            "\n              {}: expected {}, found {}",
            failed.path,
            failed.expected.join(" or "),
            short(&found, 200)
        );
        if let Some(hint) = &failed.hint {
            text += &format!("\n              {}", short(hint, 200));
        }
    }
    text
}
