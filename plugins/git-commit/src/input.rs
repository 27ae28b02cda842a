//! What a step asks for: [`Input`] as a rule renders it, [`Job`] as it was checked; and what it gets, [`Output`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jackfield_sdk::event::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Options, RepositoryError},
    message::{self, Identity, MessageError, Trailers},
    remote::Remote,
    target::{Target, TargetError},
};

/// What to commit, and where.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The repository: `https://host/path`, `user@host:path`, `ssh://…`, or an absolute path on this machine. It must be
    /// in `repositories` of the instance.
    pub repository: String,
    /// The branch. By default the repository's default branch.
    #[serde(default)]
    pub branch: Option<String>,
    /// What to do where the branch does not exist.
    #[serde(default)]
    pub create: Create,
    /// The file or directory to commit, usually what an earlier step put into the delivery's work directory.
    #[serde(default)]
    pub from: Option<String>,
    /// Where it goes in the repository: a directory (`tokens/`) for a directory, a file, or a directory ending with `/`, for
    /// a file. By default the repository's root.
    #[serde(default)]
    pub to: Option<String>,
    /// Whether the directory `to` belongs to this step: files below it that are not in `from` are then deleted. By default
    /// nothing is ever deleted.
    #[serde(default)]
    pub own: bool,
    /// Files below `to`, relative to it, that stay although `to` is owned; a directory ends with `/`.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Several mappings, in place of `from`, `to`, `own` and `keep`.
    #[serde(default)]
    pub files: Vec<Mapping>,
    /// The commit's message. By default the event's title.
    #[serde(default)]
    pub message: Option<String>,
    /// The commit's author. By default the event's actor, and without one the committer.
    #[serde(default)]
    pub author: Option<Identity>,
    /// Further trailers, such as `Reviewed-by`.
    #[serde(default)]
    pub trailers: BTreeMap<String, String>,
    /// The SHA-256 of the artifact that the files came from, kept as a trailer.
    #[serde(default)]
    pub artifact_sha256: Option<String>,
    /// Which files are executable.
    #[serde(default)]
    pub executable: Executable,
}

/// What goes where.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The file or directory to commit.
    pub from: String,
    /// Where it goes in the repository. By default the repository's root.
    #[serde(default)]
    pub to: Option<String>,
    /// Whether the directory `to` belongs to this step: files below it that are not in `from` are then deleted.
    #[serde(default)]
    pub own: bool,
    /// Files below `to`, relative to it, that stay although `to` is owned; a directory ends with `/`.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// What to do where the branch does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Create {
    /// Fail, unless the repository has no branch at all: then the first commit makes it.
    #[default]
    Never,
    /// Start it at the repository's default branch.
    FromDefault,
    /// Start it without history.
    Orphan,
}

/// Which files are executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Executable {
    /// Those that are executable in the repository; a new file is not.
    #[default]
    AsInRepository,
    /// Those that are executable in `from`.
    AsInSource,
    /// None.
    Never,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The commit: the one that this step made, or, where nothing had changed, the branch's last one.
    pub sha: String,
    /// Whether this step made a commit.
    pub changed: bool,
    /// The commit's page, where the forge is known; absent for a repository on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The branch.
    pub branch: String,
    /// How many files the commit changed, added or deleted.
    pub files: usize,
}

/// An [`Input`] that was checked against the instance's [`Options`].
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) remote: Remote,
    pub(crate) branch: Option<Branch>,
    pub(crate) create: Create,
    pub(crate) mappings: Vec<Placement>,
    pub(crate) executable: Executable,
    pub(crate) author: Identity,
    /// The commit's whole text, trailers and all.
    pub(crate) text: String,
    /// The idempotency key as it stands in the trailer.
    pub(crate) key: String,
}

/// A [`Mapping`] that was checked.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) from: PathBuf,
    pub(crate) to: Target,
    pub(crate) own: bool,
    pub(crate) keep: Vec<Target>,
}

/// The name of a branch, without `refs/heads/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch(String);

/// A step asks for what cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("`branch` is {0:?}, which is not the name of a branch such as `main`")]
    Branch(String),
    #[error("neither `from` nor `files` says what to commit")]
    NoFiles,
    #[error("`files` takes the place of `from`, `to`, `own` and `keep`: give one or the other")]
    Both,
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("`keep` is for a directory that is owned, and `{0}` is not: set `own`")]
    KeepWithoutOwn(Target),
    #[error(transparent)]
    Message(#[from] MessageError),
}

impl Job {
    /// Checks `input`, the step's idempotency key being `key` and its work directory `workdir`.
    pub(crate) fn new(
        input: Input,
        event: &Event,
        key: &str,
        workdir: &Path,
        options: &Options,
    ) -> Result<Self, InputError> {
        let remote = options.repository(&input.repository)?;
        let branch = input.branch.as_deref().map(Branch::parse).transpose()?;
        let trailers = Trailers::new(&input.trailers, event, input.artifact_sha256.as_deref(), key)?;
        let message = message::message(input.message.as_deref(), event)?;
        Ok(Self {
            remote,
            branch,
            create: input.create,
            executable: input.executable,
            author: author(input.author.as_ref(), event, &options.committer)?,
            text: trailers.under(&message),
            key: key.to_owned(),
            mappings: mappings(input)?
                .into_iter()
                .map(|mapping| Placement::new(mapping, workdir))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Placement {
    fn new(mapping: Mapping, workdir: &Path) -> Result<Self, InputError> {
        let to = Target::parse(mapping.to.as_deref().unwrap_or_default())?;
        if !mapping.own && !mapping.keep.is_empty() {
            return Err(InputError::KeepWithoutOwn(to));
        }
        let keep = mapping
            .keep
            .iter()
            .map(|path| to.join(path))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            from: workdir.join(mapping.from),
            own: mapping.own,
            keep,
            to,
        })
    }
}

impl Branch {
    /// Reads a name, by the rules of `git check-ref-format` and somewhat more strictly.
    pub(crate) fn parse(text: &str) -> Result<Self, InputError> {
        let name = text.strip_prefix("refs/heads/").unwrap_or(text);
        let good_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        let refused = name.len() > 240
            || name.starts_with(['-', '+'])
            || name.starts_with("refs/")
            || matches!(name, "HEAD" | "@")
            || name.ends_with('.')
            || name.contains("..")
            || name.contains("@{")
            || name.contains(bad)
            || !name.split('/').all(good_part);
        if refused {
            Err(InputError::Branch(text.chars().take(80).collect()))
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The ref.
    pub(crate) fn reference(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

fn mappings(input: Input) -> Result<Vec<Mapping>, InputError> {
    let Input {
        from,
        to,
        own,
        keep,
        files,
        ..
    } = input;
    match (from, files.is_empty()) {
        (Some(from), true) => Ok(vec![Mapping { from, to, own, keep }]),
        (None, false) if to.is_none() && !own && keep.is_empty() => Ok(files),
        (None, true) => Err(InputError::NoFiles),
        (_, false) => Err(InputError::Both),
    }
}

fn author(given: Option<&Identity>, event: &Event, committer: &Identity) -> Result<Identity, MessageError> {
    match given {
        Some(given) => given
            .sanitized()
            .ok_or_else(|| MessageError::Author(given.name.chars().take(80).collect())),
        None => Ok(Identity::of_actor(event).unwrap_or_else(|| committer.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(input: Value) -> Result<Job, String> {
        let config = json!({ "repositories": ["https://h/acme/*"], "committer": { "name": "Bot", "email": "bot@acme" } });
        let options = Options::new(serde_json::from_value(config).unwrap(), PathBuf::new)?;
        let input: Input = serde_json::from_value(input).map_err(|error| error.to_string())?;
        Job::new(
            input,
            &jackfield_sdk::testing::event(),
            "key",
            Path::new("/work"),
            &options,
        )
        .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(mut input: Value, shown: &str) {
        input["repository"] = json!("https://h/acme/x");
        assert_eq!(job(input).unwrap_err(), shown);
    }

    #[test]
    fn an_input_becomes_a_job() {
        let job = job(json!({
            "repository": "https://h/acme/x", "branch": "refs/heads/main", "from": "fetch/out", "to": "tokens/", "own": true,
            "keep": ["README.md"], "message": "Update", "trailers": { "Reviewed-by": "x" },
        }))
        .unwrap();
        assert_eq!(job.branch.unwrap().as_str(), "main");
        let [mapping] = &job.mappings[..] else {
            panic!("one mapping")
        };
        assert_eq!(
            (mapping.from.to_str(), mapping.to.as_str()),
            (Some("/work/fetch/out"), "tokens")
        );
        assert_eq!(mapping.keep[0].as_str(), "tokens/README.md");
        assert_eq!(
            job.author,
            Identity {
                name: "Bot".into(),
                email: "bot@acme".into()
            }
        );
        let trailers = "Reviewed-by: x\nEvent-Id: evt_01kdvdna000000000000000000\nIdempotency-Key: key\n";
        assert_eq!(job.text, format!("Update\n\n{trailers}"));
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        refused(json!({}), "neither `from` nor `files` says what to commit");
        let both = "`files` takes the place of `from`, `to`, `own` and `keep`: give one or the other";
        refused(json!({ "from": "a", "files": [{ "from": "b" }] }), both);
        refused(json!({ "to": "a", "files": [{ "from": "b" }] }), both);
        refused(json!({ "own": true, "files": [{ "from": "b" }] }), both);
        refused(
            json!({ "from": "a", "to": "/etc" }),
            "path \"/etc\" is absolute: it must be relative to the repository's root",
        );
        refused(
            json!({ "from": "a", "keep": ["x"] }),
            "`keep` is for a directory that is owned, and `.` is not: set `own`",
        );
        refused(
            json!({ "from": "a", "own": true, "keep": [".."] }),
            "path \"..\" holds the name \"..\", which leaves the repository or belongs to git",
        );
        refused(
            json!({ "from": "a", "author": { "name": "x", "email": "<>" } }),
            "author `x` is not a name and an address",
        );
        refused(
            json!({ "from": "a", "artifact_sha256": "1f" }),
            "`artifact_sha256` is `1f`, which is not a SHA-256 of 64 hexadecimal digits",
        );
        refused(json!({ "from": "a", "message": "\n" }), "the message is empty");
        refused(
            json!({ "from": "a", "trailers": { "Event-Id": "x" } }),
            "trailer `Event-Id` is written by this plugin alone",
        );
        assert!(
            job(json!({ "repository": "https://h/acme/x", "from": "a", "form": "b" }))
                .unwrap_err()
                .contains("unknown field `form`")
        );
    }

    #[test]
    fn branches_have_plain_names() {
        for (text, name) in [
            ("main", "main"),
            ("refs/heads/a/b", "a/b"),
            ("renovate/x-1.2", "renovate/x-1.2"),
            ("ü", "ü"),
        ] {
            assert_eq!(Branch::parse(text).unwrap().as_str(), name);
        }
        for text in [
            "",
            "-",
            "--force",
            "+main",
            "a b",
            "a..b",
            "a:b",
            "a~1",
            "a^",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a\nb",
            ".a",
            "a/.b",
            "a/",
            "/a",
            "a//b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "a@{1}",
            "HEAD",
            "refs/tags/x",
            "refs/heads/refs/heads/x",
            "a\0",
        ] {
            assert!(Branch::parse(text).is_err(), "{text:?}");
        }
        assert!(Branch::parse(&"a".repeat(241)).is_err());
    }
}
