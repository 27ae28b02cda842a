//! Why a file or an instance is not used, in words for whoever dropped or configured it.

use std::path::PathBuf;

use super::super::{
    PluginState,
    describe::DescribeError,
    directory::{DirectoryError, ReadError},
    elf::InspectError,
    reason_of,
    stage::{NeedsIsolation, StageError},
    trust::TrustError,
};
use crate::schema::{Violation, listed};

/// Why a file in the plugins directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory itself.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It was not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not one that may be run.
    #[error(transparent)]
    Untrusted(#[from] TrustError),
    /// It is not a plugin, or not one for this process.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// Another has its name.
    #[error(
        "`{}` calls itself `{name}`, and so does `{}`, which came first: remove one of them",
        path.display(), first.display()
    )]
    NameTaken {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The other file.
        first: PathBuf,
    },
    /// It was not copied.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// It says nothing of itself.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// Nobody configured it, and it needs that.
    #[error(
        "no `[[instance]]` says `plugin = \"{name}\"`, and it needs a configuration: {}",
        listed(violations)
    )]
    NeedsConfiguration {
        /// The plugin.
        name: String,
        /// What is missing.
        violations: Vec<Violation>,
    },
    /// Nobody granted it what it needs.
    #[error(
        "no `[[instance]]` says `plugin = \"{name}\"`, and it needs what only that can grant: give it one with {}",
        quoted(lines)
    )]
    NeedsGrant {
        /// The plugin.
        name: String,
        /// What its instance needs to say.
        lines: Vec<String>,
    },
    /// An instance of another plugin has its name.
    #[error(
        "no `[[instance]]` says `plugin = \"{0}\"`, and the instance that has that name is one of another plugin: \
         give it an `[[instance]]` of its own"
    )]
    InstanceNameTaken(String),
}

impl LoadError {
    /// What it makes of a plugin: that nobody uses it is nothing wrong.
    pub(super) fn state(&self) -> PluginState {
        match self {
            Self::NeedsConfiguration { .. } | Self::NeedsGrant { .. } | Self::InstanceNameTaken(_) => {
                PluginState::Idle {
                    reason: reason_of(self),
                }
            }
            Self::Directory(_)
            | Self::Read(_)
            | Self::Untrusted(_)
            | Self::Inspect(_)
            | Self::NameTaken { .. }
            | Self::Stage(_)
            | Self::Describe(_) => PluginState::parked(self),
        }
    }
}

/// Why an instance cannot be.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such plugin.
    #[error("no plugin calls itself `{plugin}`; there is: {}", known(there))]
    NoPlugin {
        /// What the instance names.
        plugin: String,
        /// What there is.
        there: Vec<String>,
    },
    /// There is, but it is not used.
    #[error("its plugin is parked: {0}")]
    PluginParked(String),
    /// It is to live in the router, and must not.
    #[error(transparent)]
    NeedsIsolation(#[from] NeedsIsolation),
    /// It needs what it is not granted.
    #[error(
        "plugin `{plugin}` needs what it is not granted; add to its `[[instance]]`: {}",
        quoted(lines)
    )]
    NotGranted {
        /// The plugin.
        plugin: String,
        /// What the configuration needs to say.
        lines: Vec<String>,
    },
    /// What is configured is not what the plugin wants.
    #[error("its configuration does not fit plugin `{plugin}`: {}", listed(violations))]
    Configuration {
        /// The plugin.
        plugin: String,
        /// Where and why.
        violations: Vec<Violation>,
    },
}

fn quoted(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| format!("`{line}`")).collect();
    lines.join(", ")
}

fn known(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        format!("`{}`", names.join("`, `"))
    }
}
