//! What plugins need, as their manifests say, and what instances are granted, as the configuration says.
//!
//! An instance gets what it both needs and is granted. Kinds are needed (the network, files, programs); which hosts,
//! paths and programs those are in particular is the configuration's word, since only that knows. What is granted but
//! not needed is therefore not given, and not an error either: a plugin that in its next version can do without must not
//! stop for it. What is needed but not granted parks the instance, with the lines to add.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::destination::{Destination, DestinationError};
use crate::secret::Secret;

/// What a plugin needs of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// That it talks to hosts: to these, usually. One that names none can do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Vec<String>>,
    /// That it works on files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FileNeeds>,
    /// That it runs programs: these at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Vec<String>>,
}

/// Which files a plugin needs besides the work directories: those that its configuration names at these JSON Pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileNeeds {
    /// To be read.
    pub read: Vec<String>,
    /// To be written.
    pub write: Vec<String>,
}

/// What an instance is granted: `[instance.grant]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The hosts that it may talk to.
    pub network: Vec<Destination>,
    /// What it may read: files, or directories with all that is in them.
    pub read: Vec<PathBuf>,
    /// What it may read and write. A directory that is not there is made.
    pub write: Vec<PathBuf>,
    /// What it may run: by name, or by the absolute path of the file.
    pub programs: Vec<String>,
}

impl Needs {
    /// Whether there is nothing to say about it.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what can be wrong about it.
    ///
    /// # Errors
    /// When a host is none.
    pub(super) fn check(&self) -> Result<(), DestinationError> {
        let mut hosts = self.network.iter().flatten();
        hosts.try_for_each(|host| host.parse::<Destination>().map(drop))
    }
}

impl Grant {
    /// All that a plugin needs in this configuration, and besides this every host: for what its author tries out. Files that are
    /// not there are left to the plugin to tell.
    pub(super) fn of_all(needs: &Needs, config: &Value) -> Self {
        let named = |pointers: &[String]| {
            pointers
                .iter()
                .flat_map(|pointer| paths(config.pointer(pointer)))
                .collect()
        };
        let files = needs.files.clone().unwrap_or_default();
        let mut read: Vec<PathBuf> = named(&files.read);
        read.retain(|path| path.exists());
        Self {
            network: needs.network.iter().map(|_| Destination::EVERYTHING).collect(),
            read,
            write: named(&files.write),
            programs: needs.programs.clone().unwrap_or_default(),
        }
    }

    /// The lines to add to an instance of this configuration, so that it has what it needs; none where it has.
    pub(super) fn missing(
        &self,
        needs: &Needs,
        config: &Value,
        secrets: &BTreeMap<String, Secret>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(hosts) = &needs.network
            && self.network.is_empty()
            && !hosts.is_empty()
        {
            lines.push(line("network", hosts));
        }
        if let Some(files) = &needs.files {
            let named = |pointers: &[String]| -> Vec<PathBuf> {
                // A path that is a secret is not shown; without a grant, the plugin finds out by itself.
                let shown = pointers.iter().filter(|pointer| !secrets.contains_key(*pointer));
                shown.flat_map(|pointer| paths(config.pointer(pointer))).collect()
            };
            let (read, write) = (named(&files.read), named(&files.write));
            let readable: Vec<_> = self.read.iter().chain(&self.write).collect();
            lines.extend(paths_line("read", &self.read, read, |path| {
                is_below(path, &readable)
            }));
            let writable: Vec<_> = self.write.iter().collect();
            lines.extend(paths_line("write", &self.write, write, |path| {
                is_below(path, &writable)
            }));
        }
        let programs = needs.programs.iter().flatten();
        let lacking: Vec<_> = programs.filter(|name| !self.runs(name)).cloned().collect();
        if !lacking.is_empty() {
            lines.push(line("programs", &[&self.programs[..], &lacking].concat()));
        }
        lines
    }

    /// The kinds that are granted and not needed.
    pub(super) fn idle(&self, needs: &Needs) -> Vec<&'static str> {
        let kinds = [
            ("network", !self.network.is_empty() && needs.network.is_none()),
            ("read", !self.read.is_empty() && needs.files.is_none()),
            ("write", !self.write.is_empty() && needs.files.is_none()),
            ("programs", !self.programs.is_empty() && needs.programs.is_none()),
        ];
        let idle = kinds.into_iter().filter(|(_, is_idle)| *is_idle);
        idle.map(|(kind, _)| kind).collect()
    }

    /// Whether a plugin that needs this is to talk to hosts.
    pub(super) fn is_networked(&self, needs: &Needs) -> bool {
        needs.network.is_some() && !self.network.is_empty()
    }

    fn runs(&self, name: &str) -> bool {
        let file_name = |granted: &String| Path::new(granted).file_name().is_some_and(|file| file == name);
        self.programs.iter().any(file_name)
    }
}

/// The paths that a value of a configuration names: itself, or each of a list.
fn paths(value: Option<&Value>) -> Vec<PathBuf> {
    match value {
        Some(Value::String(path)) => vec![path.into()],
        Some(Value::Array(values)) => values
            .iter()
            .filter_map(Value::as_str)
            .map(PathBuf::from)
            .collect(),
        _ => Vec::new(),
    }
}

fn is_below(path: &Path, granted: &[&PathBuf]) -> bool {
    granted.iter().any(|granted| path.starts_with(granted))
}

fn paths_line(
    key: &str,
    granted: &[PathBuf],
    needed: Vec<PathBuf>,
    is_granted: impl Fn(&Path) -> bool,
) -> Option<String> {
    let mut all: Vec<_> = granted.to_vec();
    for path in needed {
        if !is_granted(&path) && !all.contains(&path) {
            all.push(path);
        }
    }
    let shown: Vec<_> = all.iter().map(|path| path.display()).collect();
    (all.len() > granted.len()).then(|| line(key, &shown))
}

/// A line of the configuration file.
fn line(key: &str, values: &[impl Display]) -> String {
    // What JSON writes of a string, TOML reads.
    let values: Vec<_> = values
        .iter()
        .map(|value| Value::from(value.to_string()).to_string())
        .collect();
    format!("grant.{key} = [{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn needs(json: Value) -> Needs {
        serde_json::from_value(json).unwrap()
    }

    fn missing(grant: &Grant, needs: &Needs) -> String {
        let config = json!({ "cache": "cache", "ssh": { "key": "/keys/key", "known_hosts": "/keys/known \"hosts\"" }, "token": "/t" });
        let secrets = BTreeMap::from([("/token".to_owned(), Secret::new("/t"))]);
        grant.missing(needs, &config, &secrets).join("\n")
    }

    fn committer() -> Needs {
        needs(json!({
            "network": [], "programs": ["git"],
            "files": { "read": ["/ssh/key", "/ssh/known_hosts", "/ca_file", "/token"], "write": ["/cache"] }
        }))
    }

    #[test]
    fn what_is_needed_and_not_granted_is_said_in_lines_to_add() {
        let grant = Grant {
            read: vec!["/keys/key".into()],
            programs: vec!["ssh".to_owned()],
            ..Grant::default()
        };
        insta::assert_snapshot!(missing(&grant, &committer()), @r#"
        grant.read = ["/keys/key", "/keys/known \"hosts\""]
        grant.write = ["cache"]
        grant.programs = ["ssh", "git"]
        "#);
        let poster = needs(json!({ "network": ["slack.com:443", "hooks.slack.com"] }));
        insta::assert_snapshot!(missing(&grant, &poster), @r#"grant.network = ["slack.com:443", "hooks.slack.com"]"#);
    }

    #[test]
    fn a_grant_counts_for_all_below_it_and_by_the_name_of_a_program() {
        let grant = Grant {
            read: vec!["/keys".into()],
            write: vec!["cache".into()],
            programs: vec!["/opt/git/bin/git".to_owned()],
            ..Grant::default()
        };
        assert_eq!(missing(&grant, &committer()), "");
        let beside = Grant {
            read: vec!["/key".into(), "/keys/ke".into()],
            ..grant
        };
        assert!(missing(&beside, &committer()).contains("/keys/key"));
    }

    #[test]
    fn what_is_granted_and_not_needed_is_told() {
        let grant = Grant {
            network: vec!["slack.com".parse().unwrap()],
            read: vec!["/".into()],
            ..Grant::default()
        };
        assert_eq!(grant.idle(&Needs::default()), ["network", "read"]);
        assert_eq!(grant.idle(&committer()), [""; 0]);
    }

    #[test]
    fn a_need_that_this_router_does_not_know_is_refused() {
        for wrong in [
            json!({ "devices": ["/dev/kvm"] }),
            json!({ "files": { "exec": [] } }),
        ] {
            assert!(serde_json::from_value::<Needs>(wrong).is_err());
        }
        assert!(
            needs(json!({ "network": ["https://slack.com"] }))
                .check()
                .is_err()
        );
    }
}
