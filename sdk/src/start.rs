//! What an instance is given when it starts.

use std::sync::Arc;

use crate::{Kv, Proxy, Secret, command::Scope, error::Result, ffi::Host};

/// What an instance is given when it starts. It may be kept, and cloned, for work between calls.
///
/// ```
/// use jackfield_sdk::{prelude::*, testing::{Call, Harness, TestHost}};
///
/// /// Knows by what it was given whose it is, and where it had got to before the router was started again.
/// struct Follower { instance: String, cursor: Option<Vec<u8>> }
///
/// #[async_trait]
/// impl Plugin for Follower {
///     // …
/// #   type Config = Empty;
/// #   type Input = Empty;
/// #   type Output = String;
/// #   const NAME: &'static str = "follower";
/// #   const VERSION: &'static str = "1.0.0";
///     async fn create(_: Empty, start: Start) -> Result<Self> {
///         let cursor = start.kv().get("cursor").await?;
///         Ok(Self { instance: start.instance().to_owned(), cursor })
///     }
/// #   async fn call(&self, _: Empty, _: &Cx) -> Result<Outcome<String>> {
/// #       let cursor = String::from_utf8_lossy(self.cursor.as_deref().unwrap_or_default());
/// #       Ok(Outcome::Done(format!("{} at {cursor}", self.instance)))
/// #   }
/// }
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let host = TestHost::new();
/// host.set_kv("cursor", "17");
/// let follower = Harness::<Follower>::start_on(&host, json!({})).await.unwrap();
/// assert_eq!(follower.call(Call::new(json!({}))).await.done(), "test at 17");
/// # });
/// ```
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

    /// Adds `value` to the counter `name`, as [`Cx::metric`](crate::Cx::metric) does.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.host.metric(name, labels, value);
    }

    /// Where programs started by [`command`](crate::command) belong that are not part of a call: they have as much time as
    /// they like, and are ended with the instance, or with the start that is not finished in time.
    pub fn scope(&self) -> Scope {
        self.scope.clone()
    }
}
