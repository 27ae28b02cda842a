//! A provider under test: one request in, one verdict out.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{Call, Harness, Refused, Report, TestHost};
use crate::{
    event::Timestamp,
    provider::{AsPlugin, Provider},
};

/// One instance of the provider `P`, driven through the same C functions that the router calls.
///
/// It needs a tokio runtime around it, any. When it is dropped, the instance is shut down.
pub struct ProviderHarness<P>(Harness<AsPlugin<P>>);

/// One request for a source that is called `test`.
#[derive(Clone)]
pub struct Incoming {
    head: Value,
    body: Vec<u8>,
    deadline: Duration,
}

impl<P: Provider> ProviderHarness<P> {
    /// Starts an instance with this configuration, on a host of its own.
    ///
    /// # Errors
    ///
    /// Where the configuration does not fit, or [`Provider::create`] fails.
    pub async fn start(config: Value) -> Result<Self, Refused> {
        Harness::start(config).await.map(Self)
    }

    /// What the plugin says about itself.
    pub fn manifest() -> Value {
        Harness::<AsPlugin<P>>::manifest()
    }

    /// Hands a request in, and gives the verdict as the router hears it: an object with `refused`, `event` or `handshake`.
    ///
    /// # Panics
    ///
    /// Where there is no verdict; the router would answer with a 503. [`end_of`](Self::end_of) is for tests of that.
    pub async fn receive(&self, request: Incoming) -> Value {
        self.end_of(request).await.done()
    }

    /// Hands a request in, and gives its end, whatever that is.
    pub async fn end_of(&self, request: Incoming) -> Report {
        let Incoming { head, body, deadline } = request;
        let call = Call::of_request(&head, body).deadline(deadline);
        self.0.receive(call).await
    }

    /// The host under it, with what was logged.
    pub fn host(&self) -> &TestHost {
        self.0.host()
    }
}

impl Incoming {
    /// A request with this body, without headers, to a source without secrets, with a minute to go. It arrives at the beginning of
    /// 2026.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        let head = json!({
            "source": "test", "received": "2026-01-01T00:00:00Z", "headers": [], "secrets": [], "unverified": false,
            "path_token": false, "options": {},
        });
        Self {
            head,
            body: body.into(),
            deadline: Duration::from_secs(60),
        }
    }

    /// With this header, too.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.push("headers", json!([name.to_lowercase(), value.into()]));
        self
    }

    /// To a source with this secret, too.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.push("secrets", secret.into());
        self
    }

    /// To a source with a path token, which is right.
    #[must_use]
    pub fn path_token(self) -> Self {
        self.with("path_token", true.into())
    }

    /// To a source that believes everybody.
    #[must_use]
    pub fn unverified(self) -> Self {
        self.with("unverified", true.into())
    }

    /// To a source with this `tolerance`.
    #[must_use]
    pub fn tolerance(self, tolerance: Duration) -> Self {
        self.with("tolerance_seconds", tolerance.as_secs().into())
    }

    /// To a source with these `options`.
    #[must_use]
    pub fn options(self, options: Value) -> Self {
        self.with("options", options)
    }

    /// With so long to go, after which it is cancelled.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// At this time.
    #[must_use]
    pub fn received(self, at: Timestamp) -> Self {
        self.with("received", json!(at))
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.head[key] = value;
        self
    }

    fn push(&mut self, key: &str, value: Value) {
        let list = self.head[key].as_array_mut();
        list.expect("`new` made it a list").push(value);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for ProviderHarness<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderHarness")
    }
}
