//! A library as a test drives it: checked and staged as in a router, and made into one instance.

use std::{collections::BTreeMap, io, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{runtime::Handle, sync::watch};

use super::{Options, relay::Relay};
use crate::plugin::{
    Caller, CreateError, Egress, Exit, Grant, Housing, InProcess, Isolation, Library, Limits, Runner,
    Sandbox, Setup, Worker, describe,
    directory::Candidate,
    elf, ffi,
    manifest::Manifest,
    reason_of,
    stage::{Stage, Staged},
    survey::SIZE_LIMIT,
    worker::WorkerError,
};

/// A library that has passed all that comes before it is loaded.
#[derive(Debug)]
pub struct Prepared {
    staged: Staged,
    manifest: Manifest,
    /// The manifest as the plugin wrote it.
    raw: Value,
    options: Options,
}

/// Why there is no instance.
pub(super) enum Unmade {
    /// The plugin says no, with this code.
    Refused(u32, String),
    /// Something else.
    Failed(String),
}

impl Prepared {
    /// Takes a library through all the steps before it is loaded, as a router does.
    ///
    /// # Errors
    /// The reason, in words, for which a router would not load it.
    pub async fn new(library: &Path, options: Options) -> Result<Self, String> {
        let (candidate, _untrusted) =
            Candidate::named(library, SIZE_LIMIT).map_err(|error| reason_of(&error))?;
        let inspected = elf::inspect(candidate, ffi::glibc()).map_err(|error| reason_of(&error))?;
        let stage = Stage::open(&options.scratch).map_err(|error| reason_of(&error))?;
        let staged = stage.put(inspected).map_err(|error| reason_of(&error))?;
        let manifest = describe::describe(&staged, &stage, &Runner::this())
            .await
            .map_err(|error| reason_of(&error))?;
        let raw = stage.manifest(staged.digest());
        let raw = raw.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(Self {
            staged,
            manifest,
            raw: raw.ok_or("its manifest cannot be kept")?,
            options,
        })
    }

    /// What the plugin calls itself.
    pub fn plugin(&self) -> &str {
        &self.manifest.name
    }

    /// The manifest as the plugin wrote it.
    pub(super) fn raw(&self) -> Value {
        self.raw.clone()
    }

    /// Makes an instance.
    pub(super) async fn make(&self, config: Value, relay: Arc<Relay>) -> Result<Instance, Unmade> {
        let failed = |words| Unmade::Failed(words);
        let grant = self.grant(&config);
        let setup = Setup {
            plugin: self.manifest.name.clone(),
            instance: INSTANCE.to_owned(),
            config,
            secrets: BTreeMap::new(),
            host: relay,
            runtime: Handle::current(),
            limit: CREATE_LIMIT,
            grace: CANCEL_GRACE,
            busy: true,
            tally: Arc::default(),
        };
        match self.options.isolation {
            Isolation::Process => {
                let housing = self
                    .housing(&grant)
                    .await
                    .map_err(|error| failed(reason_of(&error)))?;
                let worker = Worker::start(self.staged.clone(), setup, housing).await;
                worker.map(Instance::Apart).map_err(|error| match error {
                    WorkerError::Refused {
                        own: Some((code, message)),
                        ..
                    } => Unmade::Refused(code, message),
                    error => failed(reason_of(&error)),
                })
            }
            Isolation::None => {
                let harmless = self
                    .staged
                    .harmless()
                    .map_err(|error| failed(reason_of(&error)))?;
                let library = Library::open(harmless).map_err(|error| failed(reason_of(&error)))?;
                let instance = InProcess::create(library, setup).await;
                instance.map(Instance::Here).map_err(|error| match error {
                    CreateError::Refused { code, message } => Unmade::Refused(code, message),
                    error => failed(reason_of(&error)),
                })
            }
        }
    }

    /// What the plugin needs in this configuration, and what is granted besides.
    fn grant(&self, config: &Value) -> Grant {
        let mut grant = Grant::of_all(&self.manifest.needs, config);
        let extra = &self.options.grant;
        grant.read.extend(extra.read.iter().cloned());
        grant.write.extend(extra.write.iter().cloned());
        grant.programs.extend(extra.programs.iter().cloned());
        grant
    }

    async fn housing(&self, grant: &Grant) -> io::Result<Housing> {
        let needs = &self.manifest.needs;
        let egress = match grant.is_networked(needs) {
            true => Some(Egress::open(&Handle::current()).await?),
            false => None,
        };
        Ok(Housing {
            program: Runner::this().program,
            limits: Limits::default(),
            // Tests have their work directories among all temporary files.
            sandbox: Sandbox::of(
                needs,
                grant,
                &std::env::temp_dir(),
                egress.as_ref().map(Egress::port),
            ),
            exit: egress.map(|egress| Exit {
                egress,
                destinations: grant.network.clone(),
            }),
            revived: watch::Sender::default(),
        })
    }
}

/// An instance, wherever it lives.
pub(super) enum Instance {
    Apart(Worker),
    Here(InProcess),
}

impl Instance {
    /// What makes its calls.
    pub(super) fn caller(&self) -> &dyn Caller {
        match self {
            Self::Apart(worker) => worker,
            Self::Here(instance) => instance,
        }
    }

    /// Ends it. Whether all of it ended within `grace`.
    pub(super) async fn end(&self, grace: Duration) -> bool {
        match self {
            Self::Apart(worker) => worker.end(grace).await,
            Self::Here(instance) => instance.end(grace).await == Some(true),
        }
    }
}

/// What the instance is called, as the SDK's harness calls it.
const INSTANCE: &str = "test";
/// As in a router.
const CREATE_LIMIT: Duration = Duration::from_secs(30);
const CANCEL_GRACE: Duration = Duration::from_secs(5);
