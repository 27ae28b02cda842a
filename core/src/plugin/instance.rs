//! Instances: plugins with a name and a configuration, and who is in them.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{Caller, Grant, Limits};
use crate::{schema::Schema, secret::Secret};

/// What the configuration says of an instance.
#[derive(Clone)]
pub struct InstanceOptions {
    /// Its name: what `use` in a step says.
    pub name: String,
    /// What the plugin calls itself.
    pub plugin: String,
    /// How many calls may run at the same time.
    pub concurrency: NonZeroUsize,
    /// How long a call may take.
    pub timeout: Duration,
    /// Where it lives.
    pub isolation: Isolation,
    /// What its process may take, where it has one of its own.
    pub limits: Limits,
    /// What it may do beyond that, where it needs it.
    pub grant: Grant,
    /// The plugin's own configuration, secrets resolved in it.
    pub config: Value,
    /// The secrets: by the JSON Pointer of their place in `config`, whose values are never shown, or by whatever
    /// other name the plugin may ask for them.
    pub secrets: BTreeMap<String, Secret>,
}

impl InstanceOptions {
    /// An instance of `plugin` with the plugin's own name and nothing configured.
    pub fn plain(plugin: &str) -> Self {
        Self {
            name: plugin.to_owned(),
            plugin: plugin.to_owned(),
            concurrency: DEFAULT_CONCURRENCY,
            timeout: DEFAULT_TIMEOUT,
            isolation: Isolation::default(),
            limits: Limits::default(),
            grant: Grant::default(),
            config: Value::Object(serde_json::Map::new()),
            secrets: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for InstanceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: it holds secrets.
        f.debug_struct("InstanceOptions")
            .field("name", &self.name)
            .field("plugin", &self.plugin)
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.timeout)
            .field("isolation", &self.isolation)
            .field("limits", &self.limits)
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

/// Where an instance lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In a process of its own, which is started again when it crashes.
    #[default]
    Process,
    /// In the router's own process: a call costs least, and a crash ends all.
    None,
}

/// How many calls of an instance may run at the same time, where nothing is said.
pub const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not zero");
/// How long a call of an instance may take, where nothing is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// An instance that can be called.
#[derive(Debug)]
pub struct Instance {
    /// Its name: what `use` in a step says.
    pub name: String,
    /// The plugin that it is one of.
    pub plugin: String,
    /// That plugin's version.
    pub version: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// One permit for each call that may run at the same time: in whatever generation of the plugin.
    pub permits: Arc<Semaphore>,
    /// What the input of a step must fit.
    pub input_schema: Arc<Schema>,
    /// Makes the calls. Whoever makes one has [entered](Self::enter) before.
    pub caller: Arc<dyn Caller>,
    /// Who is in it.
    pub visits: Visits,
}

impl Instance {
    /// Lets one call in; `None` once the instance is on its way out, and another has its place or none.
    pub fn enter(self: &Arc<Self>) -> Option<Visit> {
        Some(Visit {
            instance: Arc::clone(self),
            _token: self.visits.begin()?,
        })
    }

    /// Whether it is on its way out.
    pub fn is_leaving(&self) -> bool {
        *self.visits.closed()
    }

    /// Lets nobody in any more, waits until all are out or for `late`, and ends the instance, which has `grace` for it:
    /// what is still in it then is asked to end.
    pub async fn retire(&self, late: impl Future<Output = ()>, grace: Duration) {
        self.visits.close();
        tokio::select! {
            () = self.visits.tracker.wait() => {}
            () = late => {}
        }
        self.caller.shutdown(grace).await;
    }
}

/// Counts the calls that are in an instance, until it closes.
#[derive(Debug, Default)]
pub struct Visits {
    tracker: TaskTracker,
    /// Held over each entry, so that after the close nobody is between the question and the door. A leaf lock.
    closed: Mutex<bool>,
}

impl Visits {
    fn begin(&self) -> Option<TaskTrackerToken> {
        let closed = self.closed();
        (!*closed).then(|| self.tracker.token())
    }

    fn close(&self) {
        *self.closed() = true;
        self.tracker.close();
    }

    fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was let in. The instance stays whole until it is dropped, but for what is said at [`Instance::retire`].
#[derive(Debug)]
pub struct Visit {
    instance: Arc<Instance>,
    _token: TaskTrackerToken,
}

impl Visit {
    /// In which instance.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }
}
