//! `events capture`: a case for `routes test` out of what happened.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use jackfield_event::EventId;

use super::{say, wait};
use crate::{
    case::capture::{Captured, From, capture},
    config,
    journal::History,
    router::{Generation, RuleFile},
};

/// Print a case for `routes test`: an event, the routes that match it, and what their steps are given.
///
/// Steps put out what they put out in history. What is known for a secret by its name or its form is redacted, and told; look
/// through the rest before you pass it on.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Capture {
    /// The event, as evt_…
    id: EventId,
    /// Begin with the request that the event came from, so that its translation is tried out as well.
    #[arg(long)]
    request: bool,
    /// Under the rules by which the event was routed, in place of the rule files as they are now.
    #[arg(long)]
    as_routed: bool,
    /// What the case is called; by default by the type of the event and its id.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

impl Capture {
    pub(super) fn run(self, config: &Path, history: &dyn History) -> anyhow::Result<()> {
        let from = match self.request {
            true => From::Request,
            false => From::Event,
        };
        let generation = match self.as_routed {
            true => {
                let story = wait(history.event(self.id))??;
                let story = story.with_context(|| format!("there is no event {}", self.id))?;
                let text = wait(history.rules(&story.record.generation))??;
                Generation::from_stored(&text.context("the journal does not have these rules")?)?
            }
            false => Generation::compile(&RuleFile::load(&config::routes(config)?)?, None)?,
        };
        let Captured {
            text,
            redacted,
            changed,
        } = wait(capture(history, self.id, &generation, from, self.name))??;
        say(text)?;
        if !redacted.is_empty() {
            eprintln!("redacted: {}", redacted.join(", "));
        }
        if !changed.is_empty() {
            eprintln!(
                "warning: with what is redacted, `{}` would come out otherwise",
                changed.join("`, `")
            );
        }
        Ok(())
    }
}

const EXAMPLES: &str = "\
Examples:
  jackfield events capture evt_… > tokens.case.toml     a file of cases begins with one
  jackfield events capture evt_… >> tokens.case.toml    and takes more of them";
