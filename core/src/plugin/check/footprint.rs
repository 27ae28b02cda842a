//! What belongs to the process and not to a plugin: noted before foreign code runs, and compared after it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::super::{describe::signal_name, ffi::Snapshot};

/// What the process is like at a moment.
pub(super) struct Footprint {
    signals: Snapshot,
    umask: String,
    directory: String,
    environment: BTreeMap<String, String>,
    threads: BTreeMap<String, String>,
    descriptors: BTreeMap<String, String>,
}

/// In what it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changes {
    /// Of what all plugins share, in words, each with what it was and is.
    pub(super) shared: Vec<String>,
    /// Threads that there were not, by their names.
    pub(super) threads: Vec<String>,
    /// Descriptors that there were not, by what they lead to.
    pub(super) descriptors: Vec<String>,
}

impl Footprint {
    pub(super) fn take() -> Self {
        Self {
            signals: Snapshot::take(),
            umask: umask(),
            directory: linked("/proc/self/cwd"),
            environment: environment(),
            threads: threads(),
            descriptors: descriptors(),
        }
    }

    /// What has changed since.
    pub(super) fn changes(&self) -> Changes {
        let now = Self::take();
        let mut shared: Vec<_> = self.signals.changed().into_iter().map(signal_words).collect();
        for (what, before, after) in [
            ("the umask", &self.umask, &now.umask),
            ("the working directory", &self.directory, &now.directory),
        ] {
            if before != after {
                shared.push(format!("{what}, from {before} to {after}"));
            }
        }
        let names: BTreeSet<_> = self.environment.keys().chain(now.environment.keys()).collect();
        for name in names {
            if self.environment.get(name) != now.environment.get(name) {
                // Not what it is set to, which may be a secret.
                shared.push(format!("the variable {name} of the environment"));
            }
        }
        Changes {
            shared,
            threads: added(&self.threads, &now.threads),
            descriptors: added(&self.descriptors, &now.descriptors),
        }
    }
}

impl Changes {
    /// Whether threads and descriptors are those that there were.
    pub(super) fn left_nothing(&self) -> bool {
        self.threads.is_empty() && self.descriptors.is_empty()
    }
}

/// Words for a signal whose handler was replaced.
pub(super) fn signal_words(signal: i32) -> String {
    format!("the handler of {}", signal_name(signal))
}

/// From `/proc`, since the function that reads it also sets it.
fn umask() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.unwrap_or_default().trim().to_owned()
}

fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect()
}

fn threads() -> BTreeMap<String, String> {
    entries("/proc/self/task", |path| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        Some(name.trim().to_owned())
    })
}

fn descriptors() -> BTreeMap<String, String> {
    // What reads the directory has it open.
    let own = format!("/proc/{}/fd", std::process::id());
    entries("/proc/self/fd", |path| {
        let to = fs::read_link(path).ok()?.to_string_lossy().into_owned();
        (to != own).then_some(to)
    })
}

/// What `of` says of the entries of a directory; one that is gone meanwhile is left out.
fn entries(directory: &str, of: impl Fn(&Path) -> Option<String>) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                of(&entry.path())?,
            ))
        })
        .collect()
}

fn added(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let new = after.iter().filter(|(number, _)| !before.contains_key(*number));
    new.map(|(_, name)| name.clone()).collect()
}

fn linked(path: &str) -> String {
    fs::read_link(path).unwrap_or_default().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_was_opened_is_told_by_where_it_leads() {
        let before = Footprint::take();
        let file = tempfile::NamedTempFile::new().unwrap();
        let changes = before.changes();
        assert!(
            changes.descriptors.contains(&file.path().display().to_string()),
            "{changes:?}"
        );
    }
}
