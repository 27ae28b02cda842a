//! `routes`: the rules in force, others in their place, and what they make of an event.

mod change;
mod diff;
mod list;
mod plan;
mod stored;
mod test;

use std::{path::Path, process::ExitCode};

use clap::Subcommand;

use super::explain::Explain;

/// Rules: those in force, others in their place, and what they make of an event.
#[derive(Debug, Subcommand)]
pub(super) enum Routes {
    List(list::List),
    Show(stored::Show),
    History(stored::History),
    Diff(diff::Diff),
    Plan(plan::Plan),
    Test(test::Test),
    Reload(change::Reload),
    Rollback(change::Rollback),
    Explain(Explain),
}

impl Routes {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(list) => list.run(config)?,
            Self::Show(show) => show.run(config)?,
            Self::History(history) => history.run(config)?,
            Self::Diff(diff) => diff.run(config)?,
            Self::Plan(plan) => return plan.run(config),
            Self::Test(test) => return test.run(config),
            Self::Reload(reload) => reload.run(config)?,
            Self::Rollback(rollback) => rollback.run(config)?,
            Self::Explain(explain) => explain.run(config)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
