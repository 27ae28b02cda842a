//! What an instance is given when it starts.

use std::sync::Arc;

use crate::{Kv, Proxy, Secret, command::Scope, error::Result, ffi::Host};

/// What an instance is given when it starts. It may be kept, and cloned, for work between calls.
#[derive(Clone, Debug)]
pub struct Start {
    host: Arc<Host>,
    instance: Arc<str>,
    scope: Scope,
}

impl Start {
    pub(crate) fn new(host: Arc<Host>, instance: &str, scope: Scope) -> Self {
        Self {
            host,
            instance: instance.into(),
            scope,
        }
    }

    /// The instance's name, as the router's configuration and `use` in a step say it.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The instance's own key-value store.
    pub fn kv(&self) -> Kv {
        Kv::new(self.host.clone())
    }

    /// Resolves a secret that the instance's configuration names. (Those of type [`Secret`] in it are resolved already.)
    ///
    /// # Errors
    ///
    /// Where the configuration has no secret of this name, or it cannot be read.
    pub async fn secret(&self, name: &str) -> Result<Secret> {
        self.host.secret(name).await.secret(name)
    }

    /// The way to the hosts that are granted, in a process of the plugin's own; `None` where it needs no proxy to them, or has
    /// none.
    pub fn proxy(&self) -> Option<Proxy> {
        Proxy::of_process()
    }

    /// Adds `value`, which is not negative, to the counter `name`. Labels have few distinct values: never an id.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.host.metric(name, labels, value);
    }

    /// Where programs started by [`command`](crate::command) belong that are not part of a call: they have as much time as
    /// they like, and are ended with the instance, or with the start that is not finished in time.
    pub fn scope(&self) -> Scope {
        self.scope.clone()
    }
}
