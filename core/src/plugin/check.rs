//! Tries a plugin out before a router has to: what `jackfield plugin check` does, and what authors run in CI.
//!
//! A file comes in, an [`Examination`] goes out: one [`Finding`] for each check, in order, with what was found and what to do
//! next. First [`Evidence`](evidence::Evidence) is gathered, by reading the file and by running it in children of this same
//! program, one for each task, so that a crash or a hang is evidence like other evidence. Then each of the
//! [`checks`] judges it, and runs nothing. What always holds: nothing of the plugin runs in this process, and every
//! child ends within the limit.

mod checks;
mod child;
mod evidence;
mod footprint;
mod misfits;
mod requests;
mod trial;

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::runtime::Handle;

pub use trial::trial_main;

use self::evidence::{Assignment, Evidence, FileFound, Kind, LibraryFound, Task, Tried};
use super::{
    Egress, Grant, Runner, Sandbox, describe,
    digest::Digest,
    directory::Candidate,
    egress::Pass,
    elf::{self, Anatomy},
    ffi,
    manifest::Manifest,
    note::Identity,
    stage::{Stage, StageError, Staged},
    survey::SIZE_LIMIT,
};
use crate::schema::{Schema, Violation, listed};

/// What is to be tried out, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The library.
    pub file: PathBuf,
    /// The configuration of the instances that are made; by default the empty one, where the plugin's schema lets that in.
    pub config: Option<Value>,
    /// The input of the calls that are made; by default the empty one, where the plugin's schema lets that in.
    pub input: Option<Value>,
    /// The event of those calls, in JSON.
    pub event: Bytes,
    /// A directory that may be filled, for private copies of the library and for work directories.
    pub scratch: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// How long each of the children may take.
    pub limit: Duration,
}

/// What came of all checks.
#[derive(Debug, Serialize)]
pub struct Examination {
    /// The library.
    pub file: PathBuf,
    /// Who it says that it is, as far as that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Identity>,
    /// The SHA-256 of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Whether no check failed.
    pub passed: bool,
    /// What each check found, in their order.
    pub checks: Vec<Finding>,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its name.
    pub check: &'static str,
    /// What it makes of that.
    pub verdict: Verdict,
    /// What was found; of one that was skipped, why.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a check makes of what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Passed,
    /// It works, and could be better.
    Warning,
    /// It must not be like this.
    Failed,
    /// It could not be told.
    Skipped,
}

impl Verdict {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Why nothing can be tried out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The private copy cannot be made.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// There is no child.
    #[error("the children that plugins are tried out in cannot be run")]
    Child(#[from] io::Error),
    /// The configuration that was given is not one of this plugin.
    #[error("the configuration that was given does not fit the plugin: {}", listed(.0))]
    Config(Vec<Violation>),
    /// The input that was given is not one of this plugin.
    #[error("the input that was given does not fit the plugin: {}", listed(.0))]
    Input(Vec<Violation>),
}

/// Tries a plugin out.
///
/// # Errors
/// When it cannot be tried out, for a reason that is not the plugin's.
pub async fn examine(options: Options) -> Result<Examination, CheckError> {
    let (candidate, file) = match Candidate::named(&options.file, SIZE_LIMIT) {
        Ok((candidate, untrusted)) => {
            let file = FileFound {
                size: candidate.bytes().len(),
                digest: candidate.digest(),
                anatomy: Anatomy::of(candidate.bytes()),
                untrusted,
            };
            (Some(candidate), Ok(file))
        }
        Err(error) => (None, Err(error)),
    };
    let mut evidence = Evidence::of(file, options.config.is_some());
    if let Some(candidate) = candidate {
        gather(&options, candidate, &mut evidence).await?;
    }
    let asked = checks::ALL.iter().filter(|check| check.applies(&evidence));
    let checks: Vec<_> = asked.map(|check| check.judge(&evidence)).collect();
    Ok(Examination {
        plugin: evidence.identity().cloned(),
        digest: evidence.file.as_ref().ok().map(|file| file.digest),
        passed: checks.iter().all(|finding| finding.verdict != Verdict::Failed),
        checks,
        file: options.file,
    })
}

/// Goes on from one step to the next, as a router would, for as long as each passes.
async fn gather(options: &Options, candidate: Candidate, evidence: &mut Evidence) -> Result<(), CheckError> {
    let library = match elf::inspect(candidate, ffi::glibc()) {
        Ok(library) => library,
        Err(error) => {
            evidence.library = Some(Err(error));
            return Ok(());
        }
    };
    evidence.library = Some(Ok(LibraryFound {
        identity: library.identity().clone(),
        hazards: library.hazards().to_vec(),
        warnings: library.warnings().to_vec(),
    }));
    let stage = Stage::open(&options.scratch)?;
    let staged = stage.put(library)?;
    let mut trials = Trials {
        options,
        staged: &staged,
        sandbox: Sandbox::default().observed(),
        way_out: None,
    };
    evidence.loading = trials.run(Task::Load).await?;
    let runner = Runner {
        program: options.program.clone(),
        limit: options.limit,
        ..Runner::this()
    };
    let manifest = describe::describe(&staged, &stage, &runner).await;
    if let Ok(manifest) = &manifest {
        trials.of_instances(manifest, evidence).await?;
    }
    evidence.manifest = Some(manifest);
    Ok(())
}

/// What runs the plugin.
struct Trials<'t> {
    options: &'t Options,
    staged: &'t Staged,
    /// What it may do: to be loaded, nothing.
    sandbox: Sandbox,
    /// How it gets to the hosts that it says that it talks to.
    way_out: Option<(Egress, Pass)>,
}

impl Trials<'_> {
    async fn of_instances(&mut self, manifest: &Manifest, evidence: &mut Evidence) -> Result<(), CheckError> {
        let config = given(&manifest.config_schema, self.options.config.as_ref());
        let config = config.map_err(CheckError::Config)?;
        let input = given(&manifest.input_schema, self.options.input.as_ref());
        let input = match manifest.is_action() {
            true => input.map_err(CheckError::Input)?,
            // What no step can use takes no input.
            false => Given::Nothing(String::new()),
        };
        self.grant(manifest, config.value()).await?;
        let misfits = misfits::of(&manifest.config_schema, config.value());
        evidence.bad_configs = self.run(Task::BadConfigs(misfits)).await?;
        let config = match config {
            Given::Value(config) => config.to_string(),
            Given::Nothing(missing) => {
                evidence.skip_instances(&format!(
                    "the plugin has to be configured ({missing}): give it `--instance-config JSON` or `@file`"
                ));
                return Ok(());
            }
        };
        let event = String::from_utf8_lossy(&self.options.event).into_owned();
        evidence.start = self
            .run(Task::Start {
                config: config.clone(),
            })
            .await?;
        if !evidence.starts() {
            evidence.skip_calls();
            return Ok(());
        }
        let inputs = misfits::of(&manifest.input_schema, input.value());
        evidence.bad_inputs = self
            .run(Task::BadInputs {
                config: config.clone(),
                event: event.clone(),
                inputs,
            })
            .await?;
        if manifest.is_provider() {
            let (config, requests) = (config.clone(), requests::all());
            evidence.requests = self.run(Task::Requests { config, requests }).await?;
        }
        evidence.storms.clear();
        if manifest.is_action() {
            let storm = match input {
                Given::Value(input) => {
                    let (config, input) = (config.clone(), input.to_string());
                    self.storm(Kind::Calls, config, event, input).await?
                }
                Given::Nothing(missing) => Tried::Skipped(format!(
                    "a call has to have an input ({missing}): give one with `--input JSON` or `@file`"
                )),
            };
            evidence.storms.push(storm);
        }
        if manifest.is_provider() {
            let (head, body) = requests::one();
            let storm = self.storm(Kind::Requests, config, head, body).await?;
            evidence.storms.push(storm);
        }
        Ok(())
    }

    /// Has it do from here on what it says that it needs, as if all of that were granted, and nothing else.
    async fn grant(&mut self, manifest: &Manifest, config: &Value) -> io::Result<()> {
        let needs = &manifest.needs;
        let grant = Grant::of_all(needs, config);
        if grant.is_networked(needs) {
            let egress = Egress::open(&Handle::current()).await?;
            let pass = egress.admit(&manifest.name, &manifest.name, &grant.network)?;
            self.way_out = Some((egress, pass));
        }
        let port = self.way_out.as_ref().map(|(egress, _)| egress.port());
        self.sandbox = Sandbox::of(needs, &grant, &self.work(), port).observed();
        Ok(())
    }

    /// Where calls may leave files.
    fn work(&self) -> PathBuf {
        self.options.scratch.join("work")
    }

    async fn storm(
        &self,
        kind: Kind,
        config: String,
        event: String,
        input: String,
    ) -> Result<Tried<evidence::Storm>, CheckError> {
        let task = Task::Storm {
            config,
            kind,
            event,
            input,
        };
        self.run(task).await
    }

    async fn run<T: DeserializeOwned>(&self, task: Task) -> Result<Tried<T>, CheckError> {
        let assignment = Assignment {
            library: self.staged.path().to_owned(),
            plugin: self.staged.identity().name.clone(),
            limit: self.options.limit,
            workdir: self.work(),
            sandbox: self.sandbox.clone(),
            task,
        };
        let hazards = self.staged.hazards();
        let pass = self.way_out.as_ref().map(|(_, pass)| pass);
        let tried = child::run(&self.options.program, hazards, pass, &assignment).await?;
        // The author does not know of the private copy.
        let copy = self.staged.path().display().to_string();
        let file = self.options.file.display().to_string();
        Ok(match tried {
            Tried::Broke(mut broken) => {
                broken.how = broken.how.replace(&copy, &file);
                Tried::Broke(broken)
            }
            tried => tried,
        })
    }
}

/// What a plugin is given of what a person gave.
enum Given {
    Value(Value),
    /// Nothing, since nothing was given and the empty object would not do.
    Nothing(String),
}

impl Given {
    /// What there is to go by.
    fn value(&self) -> &Value {
        match self {
            Self::Value(value) => value,
            Self::Nothing(_) => &Value::Null,
        }
    }
}

/// Refuses what a person gave and does not fit.
fn given(schema: &Schema, given: Option<&Value>) -> Result<Given, Vec<Violation>> {
    let value = given.cloned().unwrap_or_else(|| json!({}));
    let violations = schema.check(&value);
    match (violations.is_empty(), given) {
        (true, _) => Ok(Given::Value(value)),
        (false, Some(_)) => Err(violations),
        (false, None) => Ok(Given::Nothing(listed(&violations))),
    }
}
