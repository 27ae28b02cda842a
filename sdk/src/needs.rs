//! What a plugin needs of the machine.

use serde::Serialize;

/// What a plugin needs of the machine, besides its processor: [`Plugin::NEEDS`](crate::Plugin::NEEDS).
///
/// The process of an instance can do what its plugin says here *and* its `[instance.grant]` grants, and nothing else: no
/// file is opened, no host reached and no program started without. An instance that lacks a grant for something that is
/// said here is parked, with the lines to add.
///
/// ```
/// use jackfield_sdk::Needs;
///
/// // Talks to Slack, and to nobody else.
/// const NOTIFIER: Needs = Needs::NOTHING.network(&["slack.com:443"]);
///
/// // Runs git, on files of the delivery and in a directory that `cache` in its configuration names. Which hosts it talks to, if
/// // any, depends on its configuration.
/// const COMMITTER: Needs = Needs::NOTHING
///     .network(&[])
///     .programs(&["git"])
///     .work()
///     .write(&["/cache"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Needs {
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<&'static [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Files>,
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<&'static [&'static str]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Files {
    read: &'static [&'static str],
    write: &'static [&'static str],
}

impl Needs {
    /// Nothing: the default.
    pub const NOTHING: Self = Self {
        network: None,
        files: None,
        programs: None,
    };

    /// It talks to hosts: to these, `host[:port]`, unless its configuration says others, so that one at least must be
    /// granted. With none it can do without the network as well.
    #[must_use]
    pub const fn network(mut self, hosts: &'static [&'static str]) -> Self {
        self.network = Some(hosts);
        self
    }

    /// It works on files in [`Cx::workdir`](crate::Cx::workdir).
    #[must_use]
    pub const fn work(mut self) -> Self {
        self.files = Some(self.all_files());
        self
    }

    /// It reads the files, or what is in the directories, that its configuration names at these JSON Pointers, as in `/ssh/key`.
    /// What is not configured is not needed.
    #[must_use]
    pub const fn read(mut self, pointers: &'static [&'static str]) -> Self {
        let mut files = self.all_files();
        files.read = pointers;
        self.files = Some(files);
        self
    }

    /// It writes as well to those that are named at these. A directory that is not there is made before the plugin starts.
    #[must_use]
    pub const fn write(mut self, pointers: &'static [&'static str]) -> Self {
        let mut files = self.all_files();
        files.write = pointers;
        self.files = Some(files);
        self
    }

    /// It runs programs: these, by name, and others that its configuration may name. Each brings the libraries that it
    /// needs, and the shipped router knows what `git` and `ssh` need besides.
    #[must_use]
    pub const fn programs(mut self, names: &'static [&'static str]) -> Self {
        self.programs = Some(names);
        self
    }

    const fn all_files(&self) -> Files {
        match self.files {
            Some(files) => files,
            None => Files {
                read: &[],
                write: &[],
            },
        }
    }
}

impl Default for Needs {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl Needs {
    /// Whether a manifest need not speak of it.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::NOTHING
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn needs_are_written_as_the_router_reads_them() {
        let needs = Needs::NOTHING
            .network(&["slack.com:443"])
            .read(&["/key"])
            .write(&["/cache"])
            .work();
        let expected =
            json!({ "network": ["slack.com:443"], "files": { "read": ["/key"], "write": ["/cache"] } });
        assert_eq!(serde_json::to_value(needs).unwrap(), expected);
        assert_eq!(
            serde_json::to_value(Needs::NOTHING.work()).unwrap(),
            json!({ "files": { "read": [], "write": [] } })
        );
        assert_eq!(
            serde_json::to_value(Needs::NOTHING.programs(&[])).unwrap(),
            json!({ "programs": [] })
        );
    }
}
