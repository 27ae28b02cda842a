//! What is told of plugins and instances, to `plugin list` and the log.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plugin::{Isolation, digest::Digest, reason_of};

/// What is known of a file in the plugins directory: what `plugin list` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// The file; for what is wrong with the directory, that.
    pub file: PathBuf,
    /// What the plugin calls itself, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it does, in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The SHA-256 of the code: of that in use, where there is one, else of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Which of the plugin's generations is in use, counted from 1 since the router started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Whether it is in use.
    #[serde(flatten)]
    pub state: PluginState,
    /// What lies in the directory in place of what is in use, and why it is not used itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// What whoever signed it says of it, where a signature was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// What is unusual about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Its instances.
    pub instances: Vec<InstanceRecord>,
}

/// A file that was to replace a plugin in use, and did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The SHA-256 of the file, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Why, with what was found, what was expected, and what helps.
    pub reason: String,
}

/// What is known of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its name.
    pub name: String,
    /// The plugin that it is to be one of.
    pub plugin: String,
    /// Where it lives, or would.
    pub isolation: Isolation,
    /// Whether it runs.
    #[serde(flatten)]
    pub state: PluginState,
}

/// Whether a plugin or an instance is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum PluginState {
    /// It is. After a mere survey: it would be.
    Loaded,
    /// It is not, and need not be: nobody has configured it.
    Idle {
        /// What it would take to use it.
        reason: String,
    },
    /// It is not, and something is wrong.
    Parked {
        /// Why, with what was found, what was expected, and what helps.
        reason: String,
    },
}

impl PluginState {
    /// Why it is not in use.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Loaded => None,
            Self::Idle { reason } | Self::Parked { reason } => Some(reason),
        }
    }

    pub(in crate::plugin) fn parked(error: &dyn std::error::Error) -> Self {
        Self::Parked {
            reason: reason_of(error),
        }
    }

    /// The state of a plugin with these instances: in use, unless not one of them is.
    pub(in crate::plugin) fn of_all(instances: &[InstanceRecord]) -> Self {
        let used = instances.is_empty() || instances.iter().any(|record| record.state == Self::Loaded);
        if used {
            Self::Loaded
        } else {
            instances[0].state.clone()
        }
    }
}
