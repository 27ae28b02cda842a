//! What is found out about a plugin: by reading it, and by what a child tells that runs it.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    super::{Sandbox, note::Identity},
    footprint::Changes,
    misfits::Misfit,
    requests::Unproven,
};
use crate::plugin::{
    describe::DescribeError,
    digest::Digest,
    directory::{ReadError, UntrustedError},
    elf::{Anatomy, Hazard, InspectError},
    manifest::Manifest,
};

/// Everything that the checks go by. What could not be found out because something before it failed is `None`.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) file: Result<FileFound, ReadError>,
    pub(super) library: Option<Result<LibraryFound, InspectError>>,
    pub(super) manifest: Option<Result<Manifest, DescribeError>>,
    pub(super) loading: Tried<Loading>,
    pub(super) start: Tried<Starts>,
    /// Whether a person gave the configuration.
    pub(super) config_was_given: bool,
    pub(super) bad_configs: Tried<BadConfigs>,
    pub(super) bad_inputs: Tried<BadCalls>,
    /// Of one that brings a provider.
    pub(super) requests: Tried<BadRequests>,
    /// One of each kind that it can be asked for.
    pub(super) storms: Vec<Tried<Storm>>,
}

impl Evidence {
    /// What there is when nothing but the file is known.
    pub(super) fn of(file: Result<FileFound, ReadError>, config_was_given: bool) -> Self {
        Self {
            file,
            library: None,
            manifest: None,
            config_was_given,
            loading: Tried::skipped("the library was not loaded"),
            start: Tried::skipped("the plugin has no manifest to go by"),
            bad_configs: Tried::skipped("the plugin has no manifest to go by"),
            bad_inputs: Tried::skipped("the plugin has no manifest to go by"),
            requests: Tried::skipped("the plugin has no manifest to go by"),
            storms: vec![Tried::skipped("the plugin has no manifest to go by")],
        }
    }

    /// Says why there are no instances.
    pub(super) fn skip_instances(&mut self, why: &str) {
        self.start = Tried::skipped(why);
        self.skip_calls();
    }

    /// Says that there are no calls, since there is no instance.
    pub(super) fn skip_calls(&mut self) {
        self.bad_inputs = Tried::skipped("there is no instance to call");
        self.requests = Tried::skipped("there is no instance to take requests");
        self.storms = vec![Tried::skipped("there is no instance to call")];
    }

    /// Whether an instance can be made.
    pub(super) fn starts(&self) -> bool {
        matches!(&self.start, Tried::Saw(starts) if starts.answers.first() == Some(&Answer::Made))
    }

    /// Whether the plugin says that it brings a provider.
    pub(super) fn is_provider(&self) -> bool {
        matches!(&self.manifest, Some(Ok(manifest)) if manifest.is_provider())
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        let library = self.library.as_ref()?.as_ref().ok()?;
        Some(&library.identity)
    }

    pub(super) fn anatomy(&self) -> Option<&Anatomy> {
        self.file.as_ref().ok()?.anatomy.as_ref()
    }
}

impl<T> Tried<T> {
    pub(super) fn skipped(why: &str) -> Self {
        Self::Skipped(why.to_owned())
    }
}

/// A file that could be read.
#[derive(Debug)]
pub(super) struct FileFound {
    pub(super) size: usize,
    pub(super) digest: Digest,
    /// Why it could not be used from where it lies.
    pub(super) untrusted: Option<UntrustedError>,
    pub(super) anatomy: Option<Anatomy>,
}

/// A library that could be loaded.
#[derive(Debug)]
pub(super) struct LibraryFound {
    pub(super) identity: Identity,
    /// Why the router itself must not load it.
    pub(super) hazards: Vec<Hazard>,
    pub(super) warnings: Vec<String>,
}

/// What came of running the plugin.
#[derive(Debug)]
pub(super) enum Tried<T> {
    /// It was not run.
    Skipped(String),
    /// It did not come to an end.
    Broke(Broken),
    /// It did, and this was seen.
    Saw(T),
}

/// How a child that ran the plugin came to its end instead.
#[derive(Debug)]
pub(super) struct Broken {
    /// As in `crashed (SIGSEGV)`.
    pub(super) how: String,
    /// What it was doing.
    pub(super) during: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.how, self.during)
    }
}

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) library: PathBuf,
    pub(super) plugin: String,
    pub(super) limit: Duration,
    /// Where calls may leave files.
    pub(super) workdir: PathBuf,
    pub(super) sandbox: Sandbox,
    pub(super) task: Task,
}

/// What it is to try.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Load the library: [`Loading`].
    Load,
    /// Start and end instances with this configuration: [`Starts`].
    Start { config: String },
    /// Start instances with what does not fit: [`BadConfigs`].
    BadConfigs(Vec<Misfit>),
    /// Call with what does not fit: [`BadCalls`].
    BadInputs {
        config: String,
        event: String,
        inputs: Vec<Misfit>,
    },
    /// Hand requests over that prove nothing: [`BadRequests`].
    Requests { config: String, requests: Vec<Unproven> },
    /// Begin many and cancel them: [`Storm`]. Head and body of a request stand in the places of event and input.
    Storm {
        config: String,
        kind: Kind,
        event: String,
        input: String,
    },
}

/// What an instance can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Calls,
    Requests,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Requests => "requests",
        }
    }
}

/// What the child says, line by line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line<T> {
    /// What it is about to do, as in `while it was loaded`.
    During(String),
    /// It cannot go on, for a reason that the plugin need not be the cause of.
    Unable(String),
    /// What it saw. The last line.
    Saw(T),
}

/// What loading does.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Loading {
    /// In what the process had changed.
    pub(super) changes: Changes,
}

/// What two starts in turn do, and two ends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Starts {
    pub(super) answers: Vec<Answer>,
    /// Whether each instance ended whole.
    pub(super) ended: Vec<bool>,
    /// In what the process had changed while the first instance lived.
    pub(super) alive: Changes,
    pub(super) left: Left,
}

/// What was left when everything that a task made had ended: once, and once more after the same was done again, beyond that. What
/// is opened once in a process, and kept, is left by the first round alone. Of what does not end, nothing can be said.
pub(super) type Left = Vec<Changes>;

/// What becomes of configurations that do not fit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BadConfigs {
    /// What was wrong with each, and what `create` said to it.
    pub(super) answers: Vec<(String, Answer)>,
    pub(super) left: Left,
}

/// What `create` says to a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// There is an instance.
    Made,
    /// There is none, for this reason.
    Refused { message: String, panicked: bool },
    /// There is none, and no reason.
    Silent,
    /// Neither came in time.
    Late,
}

/// How calls end whose input does not fit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BadCalls {
    /// What was wrong with the input, and how the call ended.
    pub(super) calls: Vec<(String, Called)>,
    /// Calls that were ended when they were not running.
    pub(super) strays: usize,
    pub(super) left: Left,
}

/// How one call ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Called {
    /// Whether the plugin went to work with it.
    pub(super) taken: bool,
    pub(super) message: String,
    pub(super) panicked: bool,
}

/// What becomes of requests that prove nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BadRequests {
    /// What was wrong with each, and what was heard of it.
    pub(super) heard: Vec<(Unproven, Heard)>,
    /// Calls that were ended when they were not running.
    pub(super) strays: usize,
    pub(super) left: Left,
}

/// What is heard of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Heard {
    /// It is not believed.
    Refused,
    /// It is, for this proof.
    Believed(String),
    /// It has just an answer.
    Handshake,
    /// No verdict, but an end: the sender is asked to try again.
    NoVerdict { message: String, panicked: bool },
    /// What is no verdict.
    Nonsense(String),
    /// Nothing in time.
    Late,
}

/// How calls or requests end that are cancelled.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Storm {
    pub(super) kind: Kind,
    pub(super) begun: usize,
    /// How many ended with which outcome.
    pub(super) outcomes: BTreeMap<String, usize>,
    /// How many did not end although they were asked to.
    pub(super) late: usize,
    /// Calls that were ended when they were not running.
    pub(super) strays: usize,
    /// Whether each instance ended whole.
    pub(super) ended: bool,
    /// What panics in them said.
    pub(super) panics: Vec<String>,
    pub(super) left: Left,
}
