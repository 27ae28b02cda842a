//! The plugins and instances of a router: found, checked, loaded, looked up by name, and ended.
//!
//! [`Options`] come in. A [`Survey`] does all that can be done without running foreign code in this process, which is
//! all that `check` needs; [`Registry::load`] then loads and starts what passed. Neither fails as a whole: what is
//! wrong is *parked* with the reason, in the words of whatever step found it, and the rest runs.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinSet};

use super::{
    Caller, Host,
    describe::Runner,
    digest::Digest,
    ffi::{InProcess, Library, OpenError, Setup},
    instance::{Instance, InstanceOptions, Isolation},
    reason_of,
    survey::{Ready, Survey},
    worker::Worker,
};
use crate::schema::Catalog;

/// What plugins there may be, and which instances of them.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where plugins are dropped; nothing is loaded where there is none.
    pub dir: Option<PathBuf>,
    /// Where the router keeps its own files, private copies of plugins among them.
    pub data_dir: PathBuf,
    /// How plugins are asked for their manifests; its program is that of worker processes, too.
    pub runner: Runner,
    /// The configured instances; their names differ.
    pub instances: Vec<InstanceOptions>,
}

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
    /// The SHA-256 of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Whether it is in use.
    #[serde(flatten)]
    pub state: PluginState,
    /// What is unusual about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Its instances.
    pub instances: Vec<InstanceRecord>,
}

/// What is known of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its name.
    pub name: String,
    /// The plugin that it is to be one of.
    pub plugin: String,
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

    pub(super) fn parked(error: &dyn std::error::Error) -> Self {
        Self::Parked {
            reason: reason_of(error),
        }
    }

    /// The state of a plugin with these instances: in use, unless not one of them is.
    pub(super) fn of_all(instances: &[InstanceRecord]) -> Self {
        let used = instances.is_empty() || instances.iter().any(|record| record.state == Self::Loaded);
        if used {
            Self::Loaded
        } else {
            instances[0].state.clone()
        }
    }
}

/// The plugins and instances of a running router.
#[derive(Debug, Default)]
pub struct Registry {
    plugins: Vec<PluginRecord>,
    instances: Vec<InstanceRecord>,
    catalog: Catalog,
    running: BTreeMap<String, Arc<Instance>>,
}

impl Registry {
    /// Loads and starts whatever can be. What the instances ask of the router is done by `host`, on `runtime`.
    ///
    /// Signal handlers of the process are set before this, not meanwhile: those that change while a library is loaded
    /// are put back.
    pub async fn load(options: Options, host: Arc<dyn Host>, runtime: Handle) -> Self {
        let program = options.runner.program.clone();
        let survey = Survey::take(options).await;
        let (mut instances, catalog) = (survey.instances(), survey.catalog());
        // All libraries are loaded before any instance starts, so that what an instance does to the process's signals
        // is not taken for the doing of a library that is being loaded.
        let mut opened = Vec::new();
        for (index, plan) in survey.plans.iter().enumerate() {
            let Ok(ready) = &plan.plugin else { continue };
            let place = match plan.options.isolation {
                Isolation::None => open(ready).await.map(Place::Here),
                Isolation::Process => Ok(Place::Process(program.clone())),
            };
            match place {
                Ok(place) => opened.push((index, place, Arc::clone(ready), plan.options.clone())),
                Err(error) => instances[index].state = PluginState::parked(&error),
            }
        }
        let mut starting = JoinSet::new();
        for (index, place, ready, options) in opened {
            let started = start(place, ready, options, Arc::clone(&host), runtime.clone());
            starting.spawn(async move { (index, started.await) });
        }
        let mut running = BTreeMap::new();
        for (index, started) in starting.join_all().await {
            match started {
                Ok(instance) => drop(running.insert(instance.name.clone(), Arc::new(instance))),
                Err(error) => instances[index].state = PluginState::parked(&*error),
            }
        }
        let registry = Self {
            plugins: survey.records(&instances),
            instances,
            catalog,
            running,
        };
        registry.announce();
        registry
    }

    /// A registry of instances that were made elsewhere.
    pub fn of(instances: impl IntoIterator<Item = Instance>) -> Self {
        let mut registry = Self::default();
        for instance in instances {
            let (name, plugin) = (instance.name.clone(), instance.plugin.clone());
            registry
                .catalog
                .insert(name.clone(), Some(Arc::clone(&instance.input_schema)));
            registry.instances.push(InstanceRecord {
                name: name.clone(),
                plugin,
                state: PluginState::Loaded,
            });
            registry.running.insert(name, Arc::new(instance));
        }
        registry
    }

    /// The instance of that name, if it runs.
    pub fn instance(&self, name: &str) -> Option<Arc<Instance>> {
        self.running.get(name).cloned()
    }

    /// The instances that run, by name.
    pub fn running(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.running.values()
    }

    /// Why the instance of that name does not run, if it should.
    pub fn parked(&self, name: &str) -> Option<&str> {
        self.instances
            .iter()
            .find(|record| record.name == name)?
            .state
            .reason()
    }

    /// Every file in the plugins directory, and what became of it.
    pub fn list(&self) -> &[PluginRecord] {
        &self.plugins
    }

    /// Every instance that is configured or came about by itself, and what became of it.
    pub fn instances(&self) -> &[InstanceRecord] {
        &self.instances
    }

    /// Every name that `use` in a step may say.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Ends every instance, all at once. Each is given `grace`; what is stuck then is left alone.
    pub async fn shutdown(&self, grace: Duration) {
        let mut ending = JoinSet::new();
        for instance in self.running.values() {
            let caller = Arc::clone(&instance.caller);
            ending.spawn(async move { caller.shutdown(grace).await });
        }
        ending.join_all().await;
    }

    fn announce(&self) {
        for plugin in &self.plugins {
            let (file, digest) = (plugin.file.display(), plugin.digest.map(tracing::field::display));
            let (name, version) = (plugin.name.as_deref(), plugin.version.as_deref());
            match &plugin.state {
                PluginState::Loaded => tracing::info!(plugin = name, version, %file, digest, "plugin loaded"),
                PluginState::Idle { reason } => tracing::info!(plugin = name, %file, reason, "plugin idle"),
                PluginState::Parked { reason } => {
                    tracing::warn!(plugin = name, %file, reason, "plugin parked")
                }
            }
            for warning in &plugin.warnings {
                tracing::warn!(plugin = name, %file, warning, "plugin is unusual");
            }
        }
        for InstanceRecord { name, plugin, state } in &self.instances {
            match state {
                PluginState::Loaded => tracing::info!(instance = name, plugin, "instance started"),
                PluginState::Idle { reason } | PluginState::Parked { reason } => {
                    tracing::warn!(instance = name, plugin, reason, "instance parked")
                }
            }
        }
    }
}

async fn open(ready: &Ready) -> Result<Library, OpenError> {
    let staged = ready.staged.clone();
    let opened = tokio::task::spawn_blocking(move || Library::open(&staged)).await;
    opened.expect("opening a library does not panic: foreign code that does ends the process")
}

/// Where an instance is to live.
enum Place {
    /// In this process, where its library is loaded.
    Here(Library),
    /// In a process of this program.
    Process(PathBuf),
}

async fn start(
    place: Place,
    ready: Arc<Ready>,
    options: InstanceOptions,
    host: Arc<dyn Host>,
    runtime: Handle,
) -> Result<Instance, Box<dyn std::error::Error + Send + Sync>> {
    let setup = Setup {
        plugin: options.plugin.clone(),
        instance: options.name.clone(),
        config: options.config,
        secrets: options.secrets,
        host,
        runtime,
        limit: CREATE_LIMIT,
        grace: CANCEL_GRACE,
        busy: false,
    };
    let caller: Arc<dyn Caller> = match place {
        Place::Here(library) => Arc::new(InProcess::create(library, setup).await?),
        Place::Process(program) => Arc::new(Worker::start(ready.staged.clone(), setup, program).await?),
    };
    Ok(Instance {
        permits: Arc::new(Semaphore::new(
            options.concurrency.get().min(Semaphore::MAX_PERMITS),
        )),
        input_schema: Arc::clone(&ready.manifest.input_schema),
        version: ready.manifest.version.clone(),
        timeout: options.timeout,
        caller,
        name: options.name,
        plugin: options.plugin,
    })
}

/// How long a plugin may take to start.
const CREATE_LIMIT: Duration = Duration::from_secs(30);
/// How long a call that was asked to end may take to do so.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
