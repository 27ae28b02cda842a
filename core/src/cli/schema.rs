//! `schema`: what files and events look like, for editors and other programs.

use clap::{Args, ValueEnum};

use super::say_json;

/// Print a JSON Schema (2020-12).
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of what.
    #[arg(value_enum)]
    of: Of,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    /// The common event: what rules match and plugins read.
    Event,
    /// The configuration file, `jackfield.toml`.
    Config,
}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.of {
            Of::Event => say_json(&jackfield_event::schema()),
            Of::Config => say_json(&crate::config::schema()),
        }
    }
}
