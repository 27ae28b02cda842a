//! `routes history` and `routes show`: the generations that the journal keeps.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{
    super::{
        Output, Shape, history, say, say_json,
        table::{Table, age, span},
        wait,
    },
    list::last,
};
use crate::{
    clock::{Clock as _, SystemClock},
    journal::{GenerationRecord, History as Stored},
    router::{GenerationId, RuleFile},
};

/// List the generations of rules as they came into force, the newest first.
///
/// CAUSE is what put one in force: `start`, `change` of the rule files, `signal` (SIGHUP), `request` (`routes reload`) or
/// `rollback`.
#[derive(Debug, Args)]
pub(in crate::cli) struct History {
    /// How many at most.
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    output: Output,
}

/// Print the rules of a generation, file by file.
#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    /// The generation, or as much of its name as tells it from others; by default the one in force.
    generation: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Rules, whole.
#[derive(Debug, Serialize)]
pub(super) struct Rules {
    /// Of which generation they are; absent for rule files as they are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<GenerationId>,
    pub(super) files: Vec<RuleFile>,
}

impl History {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let records = wait(history(config)?.generations(self.limit))??;
        match self.output.output {
            Shape::Json => say_json(&records),
            Shape::Table => Ok(say(table(&records))?),
        }
    }
}

impl Show {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let rules = Rules::stored(&*history(config)?, self.generation.as_deref())?;
        if self.output.output == Shape::Json {
            return say_json(&rules);
        }
        let files = rules
            .files
            .iter()
            .map(|file| format!("# {}\n\n{}", file.name, file.text.trim_end()));
        Ok(say(files.collect::<Vec<_>>().join("\n\n"))?)
    }
}

impl Rules {
    /// Those of a generation, or of the one in force.
    pub(super) fn stored(history: &dyn Stored, generation: Option<&str>) -> anyhow::Result<Self> {
        let id = match generation {
            Some(prefix) => wait(history.generation(prefix))??,
            None => last(history)?.id,
        };
        let text = wait(history.rules(&id))??.context("the journal does not have these rules")?;
        Ok(Self {
            files: RuleFile::unpack(&text)?,
            generation: Some(id),
        })
    }
}

fn table(records: &[GenerationRecord]) -> String {
    let mut table = Table::new(["GENERATION", "SINCE", "FOR", "CAUSE", "IN PLACE OF"]);
    let now = SystemClock.now();
    for record in records {
        let until = record.until.unwrap_or(now);
        table.row([
            beginning(&record.id),
            age(record.since),
            span(until.saturating_since(record.since)),
            record.cause.word().to_owned(),
            record.displaced.as_ref().map_or_else(
                || "-".to_owned(),
                |files| format!("{} (the files)", beginning(files)),
            ),
        ]);
    }
    table.show("no rules have been in force yet")
}

/// As much of a generation's name as a person needs to tell it from others.
pub(super) fn beginning(id: &GenerationId) -> String {
    id.0.chars().take(12).collect()
}
