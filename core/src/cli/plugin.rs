//! `plugin`: what a plugin's author and a router's operator ask of plugins.

mod call;
mod check;
mod inspect;
mod list;
mod lock;
mod new;
mod test;

use std::{path::Path, process::ExitCode};

use clap::Subcommand;

/// Plugins and their instances.
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    New(new::New),
    Check(check::Check),
    Test(test::Test),
    Inspect(inspect::Inspect),
    List(list::List),
    Lock(lock::Lock),
    Call(call::Call),
}

impl Plugin {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Self::New(command) => command.run()?,
            Self::Check(command) => return command.run(),
            Self::Test(command) => return command.run(),
            Self::Inspect(command) => return command.run(config),
            Self::Call(command) => return command.run(config),
            Self::List(command) => command.run(config)?,
            Self::Lock(command) => return command.run(config),
        }
        Ok(ExitCode::SUCCESS)
    }
}
