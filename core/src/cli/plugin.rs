//! `plugin`: what a plugin's author and a router's operator ask of plugins.

mod check;
mod list;

use std::{path::Path, process::ExitCode};

use clap::Subcommand;

use crate::config;

/// Plugins and their instances.
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    List(list::List),
    Check(check::Check),
}

impl Plugin {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(command) => command.run(&config::data_dir(config)?)?,
            Self::Check(command) => return command.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}
