//! What an author implements.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Cx, Error, Needs, Start,
    error::Result,
    provider::{Request, Verdict},
};

/// A plugin: what it is called, what it takes, and what it does.
///
/// A value of the type is one *instance*: the plugin with a configuration. Calls of an instance run concurrently, up to
/// the limit that the router's configuration sets. See the [crate's docs](crate) for a whole plugin.
#[async_trait]
pub trait Plugin: Send + Sync + Sized + 'static {
    /// The configuration of an instance: `[instance.config]`.
    ///
    /// Put `#[serde(deny_unknown_fields)]` on it, so that a slip of the pen is an error. A type that accepts `{}` gets an
    /// instance by the mere presence of the library.
    type Config: DeserializeOwned + JsonSchema + Send + 'static;
    /// What a step gives to each call: its rendered `with`.
    type Input: DeserializeOwned + JsonSchema + Send + 'static;
    /// What a call leaves to the steps after it: `steps.<id>` in their templates, at most 1 MiB in JSON; what is larger belongs into
    /// [`Cx::workdir`]. `()` for nothing.
    type Output: Serialize + JsonSchema + Send + 'static;

    /// The plugin's name, `[a-z0-9-]`: usually `env!("CARGO_PKG_NAME")`.
    const NAME: &'static str;
    /// The plugin's version: usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// One line for people: usually `env!("CARGO_PKG_DESCRIPTION")`.
    const DESCRIPTION: &'static str = "";
    /// More for people, in Markdown: usually `include_str!("../README.md")`.
    const DOCS: &'static str = "";
    /// What it needs of the machine: the network, files, programs. Nothing, unless said.
    const NEEDS: Needs = Needs::NOTHING;
    /// How long a canceled call may go on to tidy up, before its future is dropped.
    ///
    /// With the default, none, a canceled call ends at its next `.await`, and a plugin need not know of cancellation. One that
    /// sets it watches [`Cx::cancelled`]. The router waits a few seconds for the end of a canceled call, and counts those that
    /// take longer as stuck.
    const CANCEL_GRACE: Duration = Duration::ZERO;
    /// Whether a call begins on the very thread that brings it, and goes on there until it first waits. For a plugin that looks at
    /// what it is given and answers, in microseconds: that is less than it takes to wake a thread of its own.
    ///
    /// The thread is the router's, or that of the plugin's worker which reads what the router says. So nothing of a call may block
    /// before its first `.await` that waits, and what may take longer than some microseconds had better begin with
    /// [`yield_now`](tokio::task::yield_now), which hands it to the instance's own runtime; there everything goes on that has
    /// waited once. A plugin that keeps the thread for more than 10 ms, three times in a thousand calls, is warned of in the log,
    /// and each of its calls has a thread made for it from then on, which costs far more than this saves. One that never gives it
    /// back takes it from the router for good, unless it lives in a worker.
    ///
    /// ```
    /// # use jackfield_sdk::{prelude::*, testing::{Call, Harness}};
    /// # struct Gate;
    /// #[async_trait]
    /// impl Plugin for Gate {
    /// #     type Config = Empty;
    /// #     type Input = Vec<String>;
    /// #     type Output = ();
    /// #     const NAME: &'static str = "gate";
    /// #     const VERSION: &'static str = "1.0.0";
    ///     const INLINE: bool = true;
    /// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
    ///
    ///     async fn call(&self, allowed: Vec<String>, cx: &Cx) -> Result<Outcome<()>> {
    ///         let kind = &cx.event()?.kind;
    ///         Ok(match allowed.contains(kind) {
    ///             true => Outcome::Done(()),
    ///             false => Outcome::skipped(format!("nobody wants {kind}")),
    ///         })
    ///     }
    /// }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let gate = Harness::<Gate>::start(json!({})).await.unwrap();
    /// assert_eq!(gate.call(Call::new(json!([]))).await.message, "nobody wants io.supernova.job.success");
    /// # });
    /// ```
    const INLINE: bool = false;

    /// Makes an instance. It may connect, log in and look around; it must not act for any event yet.
    ///
    /// # Errors
    ///
    /// Whatever keeps the instance from working: it is then parked, with this error.
    async fn create(config: Self::Config, start: Start) -> Result<Self>;

    /// Carries out one attempt at one step.
    ///
    /// At-least-once: a call can be repeated after a crash, with the same [`Cx::idempotency_key`]. [`Cx::receipt`] is how to
    /// find out what the attempt before has done.
    ///
    /// # Errors
    ///
    /// [`Error`](crate::Error) says what kind of failure it was. Any `std` error becomes a retry by `?`.
    async fn call(&self, input: Self::Input, cx: &Cx) -> Result<Outcome<Self::Output>>;

    /// Ends the instance, after its last call. Runs under the router's grace period.
    async fn shutdown(&self) {}

    /// What the plugin is; not part of the interface: see [`Provider`](crate::provider::Provider).
    #[doc(hidden)]
    const CAPABILITIES: &'static [&'static str] = &["action"];

    /// Takes on a request, as a provider; not part of the interface either.
    ///
    /// # Errors
    ///
    /// Where there is no verdict: the sender is asked to try again.
    #[doc(hidden)]
    async fn receive(&self, _request: &Request<'_>) -> Result<Verdict> {
        Err(Error::unsupported("this plugin is no provider"))
    }
}

/// How a call that did not fail has ended; how one that did, its [`Error`](crate::Error) says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<O> {
    /// It happened.
    Done(O),
    /// There was nothing to do, for this reason.
    Skipped(String),
}

impl<O> Outcome<O> {
    /// There was nothing to do, for this reason.
    ///
    /// ```
    /// # use jackfield_sdk::Outcome;
    /// let outcome: Outcome<()> = Outcome::skipped("the branch is already there");
    /// assert_eq!(outcome, Outcome::Skipped("the branch is already there".to_owned()));
    /// ```
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }
}
