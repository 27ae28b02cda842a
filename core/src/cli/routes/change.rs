//! `routes reload` and `routes rollback`: other rules in the place of those in force.

use std::path::Path;

use clap::Args;
use hyper::Method;

use super::{
    super::{Output, Shape, control::ask, say, say_json},
    list::ROLLED_BACK,
};
use crate::{
    admin::{RollBack, Taken},
    config::data_dir,
    fault::Faults,
};

/// Take up the rule files as they are now, which ends a rollback.
///
/// A running router does so by itself when they change; this waits until it has, and tells what is wrong with them. Rules
/// that are refused change nothing; the exit code is 78 then.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reload {
    #[command(flatten)]
    output: Output,
}

/// Put an earlier generation in force, in place of the rule files.
///
/// It holds until the rule files change, over restarts of the router as well; `routes reload` ends it sooner.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rollback {
    /// The generation, or as much of its name as tells it from others; `routes history` lists them.
    generation: String,
    #[command(flatten)]
    output: Output,
}

impl Reload {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        change(config, "/v1/routes/reload", Vec::new(), self.output)
    }
}

impl Rollback {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let request = serde_json::to_vec(&RollBack { to: self.generation })?;
        change(config, "/v1/routes/rollback", request, self.output)
    }
}

fn change(config: &Path, path: &str, request: Vec<u8>, output: Output) -> anyhow::Result<()> {
    let answer = ask(&data_dir(config)?, Method::POST, path, request).inspect_err(|error| {
        if error.is::<Faults>() {
            eprintln!("The rules in force stay, since these are refused:\n");
        }
    })?;
    let taken: Taken = serde_json::from_slice(&answer)?;
    match output.output {
        Shape::Json => say_json(&taken),
        Shape::Table => Ok(say(words(&taken))?),
    }
}

fn words(taken: &Taken) -> String {
    let Taken {
        generation,
        before,
        routes,
        displaced,
    } = taken;
    let unit = if *routes == 1 { "route" } else { "routes" };
    let mut text = match generation == before {
        true => format!("Nothing has changed: generation {generation} is in force, with {routes} {unit}."),
        false => {
            format!("Generation {generation} is in force, with {routes} {unit}; before it, {before} was.")
        }
    };
    if displaced.is_some() {
        text = format!("{text}\n{ROLLED_BACK}");
    }
    text
}
