//! A provider under test: requests go in, and verdicts come out.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{Call, Harness, Running};
use crate::{
    event::Timestamp,
    provider::{AsPlugin, Provider},
};

/// One instance of the provider `P`, driven through the same C functions that the router calls: a [`Harness`], which takes requests as
/// well. How an instance is started, crashed and shut down, on which host and in which time, is said there.
///
/// ```
/// use jackfield_sdk::{prelude::*, provider::*, testing::{Code, Ended, HostCall, Incoming, ProviderHarness, TestHost}};
/// #
/// # struct Acme(Start);
/// # #[async_trait]
/// # impl Provider for Acme {
/// #     type Config = Empty;
/// #     const NAME: &'static str = "acme";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, start: Start) -> Result<Self> { Ok(Acme(start)) }
/// #     async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> {
/// #         let given = request.header("acme-key")?;
/// #         let key = self.0.kv().get("key").await.map_err(Refusal::not_now)?;
/// #         match key.is_some_and(|key| key == given.as_bytes()) {
/// #             true => Ok(Proof::SIGNATURE),
/// #             false => Err(Refusal::wrong_signature("it is another key")),
/// #         }
/// #     }
/// #     async fn translate(&self, _: &Request<'_>) -> Result<Translation> { Ok(Translation::unrecognized()) }
/// # }
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// // `Acme` believes whoever has the key that it keeps.
/// let host = TestHost::new();
/// host.set_kv("key", "open sesame");
/// let acme = ProviderHarness::<Acme>::start_on(&host, json!({})).await.unwrap();
/// let request = || Incoming::new("{}").header("Acme-Key", "open sesame");
/// assert_eq!(acme.receive(request()).await["event"]["verified"], "signature");
/// assert_eq!(acme.receive(Incoming::new("{}")).await["refused"]["reason"], "missing-header");
///
/// // Without a verdict, the sender is asked to try again.
/// host.fail(HostCall::KvGet, 1);
/// assert_eq!(acme.begin_request(request()).end().await.outcome, Ended::Retry);
///
/// host.hold(HostCall::KvGet);
/// let running = acme.begin_request(request());
/// host.held(HostCall::KvGet, 1).await;
/// running.cancel();
/// assert_eq!(running.end().await.code, Code::Cancelled);
/// # });
/// ```
pub type ProviderHarness<P> = Harness<AsPlugin<P>>;

/// One request for a source that is called `test`.
///
/// ```
/// use std::time::Duration;
/// use jackfield_sdk::{prelude::*, provider::*, testing::{Incoming, ProviderHarness}};
/// #
/// # struct Acme;
/// # #[async_trait]
/// # impl Provider for Acme {
/// #     type Config = Empty;
/// #     const NAME: &'static str = "acme";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Acme) }
/// #     async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> {
/// #         let sent = request.header("acme-time")?.parse().map_err(|_| Refusal::stale_timestamp("no time"))?;
/// #         request.check_age(sent, Duration::from_secs(300))?;
/// #         let key = request.header("acme-key")?;
/// #         match request.secrets().iter().any(|secret| secret.expose() == key) {
/// #             true => Ok(Proof::SIGNATURE),
/// #             false => Err(Refusal::wrong_signature("it is another key")),
/// #         }
/// #     }
/// #     async fn translate(&self, request: &Request<'_>) -> Result<Translation> {
/// #         let options: Options = request.options()?;
/// #         Ok(Draft::new("com.acme.came").subject(options["shop"].as_str().unwrap_or_default()).into())
/// #     }
/// # }
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let request = Incoming::new(r#"{"order":7}"#)
///     .header("Acme-Time", "2026-01-01T00:00:00Z")
///     .header("Acme-Key", "the old one")
///     .secret("the new one")
///     .secret("the old one")
///     .tolerance(Duration::from_secs(60))
///     .options(json!({ "shop": "north" }));
/// let acme = ProviderHarness::<Acme>::start(json!({})).await.unwrap();
/// assert_eq!(acme.receive(request.clone()).await["event"]["draft"]["subject"], "north");
///
/// let late = request.received("2026-01-01T00:01:01Z".parse().unwrap());
/// assert_eq!(acme.receive(late).await["refused"]["reason"], "stale-timestamp");
/// # });
/// ```
#[derive(Clone)]
pub struct Incoming {
    head: Value,
    body: Vec<u8>,
    deadline: Duration,
}

/// What is for instances of providers alone.
impl<P: Provider> Harness<AsPlugin<P>> {
    /// Hands a request in, and gives the verdict as the router hears it: an object with `refused`, `event` or `handshake`.
    ///
    /// # Panics
    ///
    /// Where there is no verdict; the router would answer with a 503. [`begin_request`](Self::begin_request) is for tests of that.
    pub async fn receive(&self, request: Incoming) -> Value {
        self.begin_request(request).end().await.done()
    }

    /// Hands a request in. Its end is the verdict, or what there is instead.
    pub fn begin_request(&self, request: Incoming) -> Running {
        let Incoming { head, body, deadline } = request;
        self.hand_in(Call::of_request(&head, body).deadline(deadline))
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
