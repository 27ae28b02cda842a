//! Instances: plugins with a name and a configuration.

use std::{collections::BTreeMap, fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::Semaphore;

use super::Caller;
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
            .finish_non_exhaustive()
    }
}

/// Where an instance lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// One permit for each call that may run at the same time.
    pub permits: Arc<Semaphore>,
    /// What the input of a step must fit.
    pub input_schema: Arc<Schema>,
    /// Makes the calls.
    pub caller: Arc<dyn Caller>,
}
