//! `routes list`: the routes in force.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use hyper::Method;
use serde::Serialize;

use super::super::{
    Output, Shape,
    control::{ask, is_running},
    from_here, history, say, say_json,
    table::{Table, age, short},
    wait,
};
use crate::{
    admin::{RefusedRules, Standing},
    config::data_dir,
    delivery::Phase,
    journal::{GenerationRecord, History},
    router::{Generation, Route},
};

/// List the routes in force, and say why the rule files are not, where they were refused.
///
/// Without a router, these are the routes that were in force at its end.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    output: Output,
}

/// The rules in force.
#[derive(Debug, Serialize)]
struct Listed {
    in_force: GenerationRecord,
    routes: Vec<Listing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedRules>,
}

/// One of the routes.
#[derive(Debug, Serialize)]
struct Listing {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The instances that its steps use.
    steps: Vec<String>,
    on_failure: Vec<String>,
}

impl List {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let data_dir = data_dir(config)?;
        let history = history(config)?;
        let (in_force, refused) = if is_running(&data_dir)? {
            let standing: Standing =
                serde_json::from_slice(&ask(&data_dir, Method::GET, "/v1/routes", Vec::new())?)?;
            (standing.in_force, standing.refused)
        } else {
            eprintln!(
                "no router runs on {}; these rules were in force at the end:",
                data_dir.display()
            );
            (last(&*history)?, None)
        };
        let text = wait(history.rules(&in_force.id))??.context("the journal does not have these rules")?;
        let generation = Generation::from_stored(&text)?;
        let listed = Listed {
            routes: generation.routes().iter().map(Listing::of).collect(),
            in_force,
            refused,
        };
        match self.output.output {
            Shape::Json => say_json(&listed),
            Shape::Table => listed.print(),
        }
    }
}

/// The generation that is in force, or was at the end.
pub(super) fn last(history: &dyn History) -> anyhow::Result<GenerationRecord> {
    let last = wait(history.generations(1))??.pop();
    last.context("no rules have been in force yet; `jackfield check` says what the rule files have")
}

impl Listing {
    fn of(route: &Route) -> Self {
        let steps = |phase| {
            let steps = route.steps(phase).iter();
            steps.map(|step| step.instance().to_owned()).collect()
        };
        Self {
            name: route.name().to_owned(),
            description: route.description().map(str::to_owned),
            steps: steps(Phase::Steps),
            on_failure: steps(Phase::OnFailure),
        }
    }
}

impl Listed {
    fn print(&self) -> anyhow::Result<()> {
        let mut table = Table::new(["ROUTE", "STEPS", "ON FAILURE", "DESCRIPTION"]);
        for route in &self.routes {
            let steps = |steps: &[String]| match steps {
                [] => "-".to_owned(),
                steps => steps.join(" → "),
            };
            table.row([
                route.name.clone(),
                steps(&route.steps),
                steps(&route.on_failure),
                short(route.description.as_deref().unwrap_or("-"), 60),
            ]);
        }
        let GenerationRecord {
            id,
            since,
            cause,
            displaced,
            ..
        } = &self.in_force;
        say(format!(
            "{}\n\nGeneration {id}, in force since {} ({}).",
            table.show("no routes"),
            age(*since),
            cause.word()
        ))?;
        if displaced.is_some() {
            eprintln!("\n{ROLLED_BACK}");
        }
        if let Some(RefusedRules { since, faults }) = &self.refused {
            eprintln!(
                "\nThe rule files were refused {}, and are not in force:\n\n{}",
                age(*since),
                from_here(faults)
            );
        }
        Ok(())
    }
}

/// What a rollback comes to.
pub(super) const ROLLED_BACK: &str = "These rules are in force by a rollback, in place of the rule files. They hold until those change, over restarts as \
     well; `jackfield routes reload` takes the rule files up as they are.";
