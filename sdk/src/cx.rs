//! The context of one call.

use std::{
    fmt,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use jackfield_event::Event;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    Kv, NewEvent, Receipt, Secret,
    call::Report,
    command::Scope,
    error::{Error, Result},
    ffi::{OpenCall, Stage},
    shared::Open,
    signal::Signal,
};

/// The context of one call: what it is about, and what the router does for it.
///
/// It lives as long as the call and not longer, so it cannot be moved into a spawned task. What such a task needs
/// ([`kv`](Self::kv), [`scope`](Self::scope)) can be taken out of it first.
///
/// ```
/// use jackfield_sdk::{prelude::*, testing::{Call, Harness}, tokio};
/// #
/// # struct Reporter;
/// # #[async_trait]
/// # impl Plugin for Reporter {
/// #     type Config = Empty;
/// #     type Input = String;
/// #     type Output = String;
/// #     const NAME: &'static str = "example";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
///
/// async fn call(&self, input: String, cx: &Cx) -> Result<Outcome<String>> {
///     let title = cx.event()?.data.title.as_deref().unwrap_or("nothing");
///     let report = format!("{input}: {title}, at attempt {} of {}", cx.attempt(), cx.step());
///     tokio::fs::write(cx.workdir()?.join("report.txt"), &report).await?;      // for the steps after this one
///     cx.metric("reports_total", &[("kind", "text")], 1.0);
///     Ok(Outcome::Done(report))
/// }
/// # }
/// #
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let reporter = Harness::<Reporter>::start(json!({})).await.unwrap();
/// let report = reporter.call(Call::new(json!("It says")).attempt(2)).await.done();
/// assert_eq!(report, "It says: A test, at attempt 2 of step");
/// assert_eq!(std::fs::read(reporter.workdir().join("report.txt")).unwrap(), report.as_str().unwrap().as_bytes());
/// assert_eq!(reporter.host().metric("reports_total"), 1.0);
/// # });
/// ```
pub struct Cx {
    // The order matters: dropping `call` ends the call, and only then is it open no more.
    call: OpenCall,
    cancel: Arc<Signal>,
    event: OnceLock<Event>,
    shared: Open,
}

/// What the call is about.
impl Cx {
    /// The event. It is read when it is first asked for.
    ///
    /// # Errors
    ///
    /// Where it has a shape that this SDK does not know: an event of a newer router, for example.
    pub fn event(&self) -> Result<&Event> {
        if let Some(event) = self.event.get() {
            return Ok(event);
        }
        let event = Event::from_json(self.call.event())
            .map_err(|error| Error::invalid(format_args!("the event cannot be read: {error}")))?;
        Ok(self.event.get_or_init(|| event))
    }

    /// The event in JSON, byte for byte as the router keeps it.
    pub fn event_json(&self) -> &[u8] {
        self.call.event()
    }

    /// The delivery's id: `dlv_…`.
    pub fn delivery(&self) -> &str {
        self.call.delivery()
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        self.call.route()
    }

    /// The step's id within its route.
    pub fn step(&self) -> &str {
        self.call.step()
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.call.attempt()
    }

    /// A text that is the same for every attempt at this step of this delivery, and different for all others: what a service
    /// with idempotent requests wants to be given.
    pub fn idempotency_key(&self) -> &str {
        self.call.idempotency_key()
    }

    /// When the router cancels the call, if it does.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline()
    }

    /// How much time there is until the [deadline](Self::deadline); none once it is over.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jackfield_sdk::prelude::*;
    /// /// What to give to a client that has a time-out of its own: a little less than is left.
    /// fn limit(cx: &Cx) -> Duration {
    ///     let left = cx.time_left().unwrap_or(Duration::from_secs(60));
    ///     left.mul_f64(0.9)
    /// }
    /// ```
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// A directory of the delivery's own, where a step leaves files for the steps after it. It is made here, by the first
    /// who asks, is synced to disk after the step, and goes when the delivery has settled.
    ///
    /// # Errors
    ///
    /// Where it cannot be made. As `?` has it, the step is then tried again.
    pub fn workdir(&self) -> io::Result<&Path> {
        let path = self.call.workdir();
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(path),
        }
    }

    /// The W3C trace context of the call, to hand on to services; empty where there is none.
    pub fn traceparent(&self) -> &str {
        self.call.traceparent()
    }

    /// Waits until the call should end.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jackfield_sdk::{prelude::*, testing::{Call, Code, Harness}, tokio::{self, time::sleep}};
    /// struct Careful;
    ///
    /// #[async_trait]
    /// impl Plugin for Careful {
    ///     const CANCEL_GRACE: Duration = Duration::from_secs(2);
    ///     // …
    /// #   type Config = Empty;
    /// #   type Input = Empty;
    /// #   type Output = String;
    /// #   const NAME: &'static str = "careful";
    /// #   const VERSION: &'static str = "1.0.0";
    /// #   async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
    ///     async fn call(&self, _: Empty, cx: &Cx) -> Result<Outcome<String>> {
    ///         tokio::select! {
    ///             () = sleep(Duration::from_secs(3600)) => Ok(Outcome::Done("slept".to_owned())),
    ///             () = cx.cancelled() => Err(Error::cancelled("stopped, and the lock is released")),
    ///         }
    ///     }
    /// }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// # let careful = Harness::<Careful>::start(json!({})).await.unwrap();
    /// # let running = careful.begin(Call::new(json!({})));
    /// # running.cancel();
    /// # assert_eq!(running.end().await.code, Code::Cancelled);
    /// # });
    /// ```
    ///
    /// Of use with a [`CANCEL_GRACE`](crate::Plugin::CANCEL_GRACE); without one, the call's
    /// future is dropped at the same moment.
    pub async fn cancelled(&self) {
        self.cancel.raised().await;
    }

    /// Whether the call should end: for loops that do not `.await`.
    pub fn is_cancelled(&self) -> bool {
        self.call.is_cancelled() || self.cancel.is_raised()
    }

    /// The limits of the call, for programs that [`command`](crate::command) starts: `run(cx)` takes them from here by itself.
    pub fn scope(&self) -> Scope {
        self.shared
            .scope
            .for_call(self.deadline(), Arc::clone(&self.cancel))
    }
}

/// What the router does for the call.
impl Cx {
    /// Adds `value`, which is finite and not negative, to the counter `name`. Name and labels begin with a letter and are made of `a-z`, `0-9`
    /// and `_`; what is not so is dropped, with a line in the router's log at `debug`. Labels have few distinct values: never an id.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.shared.host.metric(name, labels, value);
    }

    /// The instance's own key-value store; [`Kv`] shows how it is used.
    pub fn kv(&self) -> Kv {
        Kv::new(Arc::clone(&self.shared.host))
    }

    /// Resolves a secret that the instance's configuration names. (Those of type [`Secret`] in it are resolved already.)
    ///
    /// ```
    /// # use jackfield_sdk::{prelude::*, testing::{Call, Code, Harness, TestHost}};
    /// # struct Signer;
    /// # #[async_trait]
    /// # impl Plugin for Signer {
    /// #     type Config = Empty;
    /// #     type Input = String;
    /// #     type Output = bool;
    /// #     const NAME: &'static str = "signer";
    /// #     const VERSION: &'static str = "1.0.0";
    /// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
    /// async fn call(&self, account: String, cx: &Cx) -> Result<Outcome<bool>> {
    ///     let token = cx.secret(&format!("/tokens/{account}")).await?;
    ///     Ok(Outcome::Done(token.expose().starts_with("xoxb-")))
    /// }
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let host = TestHost::new();
    /// host.set_secret("/tokens/acme", "xoxb-1");
    /// let signer = Harness::<Signer>::start_on(&host, json!({})).await.unwrap();
    /// assert_eq!(signer.call(Call::new(json!("acme"))).await.done(), true);
    /// assert_eq!(signer.call(Call::new(json!("nobody"))).await.code, Code::Invalid);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Where the configuration has no secret of this name, or it cannot be read.
    pub async fn secret(&self, name: &str) -> Result<Secret> {
        self.shared.host.secret(name).await.secret(name)
    }

    /// Raises a follow-up event, which is routed like any other, and returns its id. It is on disk when this returns.
    ///
    /// `name`, 1 to 512 bytes, tells the events of one step apart: another attempt with the same name raises it once. In JSON the event
    /// has at most 1 MiB.
    ///
    /// ```
    /// # use jackfield_sdk::{prelude::*, testing::{Call, Harness}};
    /// # struct Publisher;
    /// # #[async_trait]
    /// # impl Plugin for Publisher {
    /// #     type Config = Empty;
    /// #     type Input = String;
    /// #     type Output = String;
    /// #     const NAME: &'static str = "publisher";
    /// #     const VERSION: &'static str = "1.0.0";
    /// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
    /// async fn call(&self, version: String, cx: &Cx) -> Result<Outcome<String>> {
    ///     let event = NewEvent::new("com.acme.tokens.published").subject(format!("tokens/{version}"));
    ///     Ok(Outcome::Done(cx.emit("published", &event).await?))
    /// }
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let publisher = Harness::<Publisher>::start(json!({})).await.unwrap();
    /// let id = publisher.call(Call::new(json!("1.4.0"))).await.done();
    /// // The next attempt raises no other.
    /// assert_eq!(publisher.call(Call::new(json!("1.4.0")).attempt(2)).await.done(), id);
    /// assert_eq!(publisher.host().emitted().len(), 1);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Where the router cannot write, or refuses the event: for what it says of itself, or since it would be one of a loop or a flood.
    /// Of one event from outside there may come 8 that plugins raise one after the other, and 1000 in all.
    pub async fn emit(&self, name: &str, event: &NewEvent) -> Result<String> {
        let json = to_json("the follow-up event", event)?;
        let reply = self
            .shared
            .host
            .emit(self.call.id(), name, &json)
            .await
            .ok(|| format!("raising the event `{name}`"))?;
        String::from_utf8(reply.value)
            .map_err(|_| Error::retry("the router's id of the new event is not UTF-8"))
    }

    /// What the attempts at this step before have written down.
    ///
    /// With [`intend`](Self::intend) and [`record`](Self::record) it makes an action that happens once, crash or no crash:
    ///
    /// ```
    /// # use jackfield_sdk::prelude::*;
    /// # async fn find_message(key: &str, since: u64) -> Result<Option<String>> { Ok(None) }
    /// # async fn post_message(key: &str) -> Result<String> { Ok("1.2".into()) }
    /// async fn post_once(cx: &Cx, now: u64) -> Result<String> {
    ///     let key = cx.idempotency_key();
    ///     let earlier = match cx.receipt::<u64, String>().await? {
    ///         Receipt::Done(message) => return Ok(message),
    ///         Receipt::Intended(since) => find_message(key, since).await?,
    ///         Receipt::Absent => None,
    ///     };
    ///     let message = match earlier {
    ///         Some(message) => message,
    ///         None => {
    ///             cx.intend(&now).await?;
    ///             post_message(key).await?
    ///         }
    ///     };
    ///     cx.record(&message).await?;
    ///     Ok(message)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A retry where the router cannot read its store at present; *ambiguous* where a receipt is there but cannot be
    /// read as `I` or `D`, since something has then happened that this version does not understand.
    pub async fn receipt<I: DeserializeOwned, D: DeserializeOwned>(&self) -> Result<Receipt<I, D>> {
        let answer = self.shared.host.receipt_get(self.call.id()).await;
        let Some(reply) = answer.found(|| "reading the receipt of this step".to_owned())? else {
            return Ok(Receipt::Absent);
        };
        let unreadable = |error: serde_json::Error| {
            Error::ambiguous(format_args!(
                "an earlier attempt left a receipt that cannot be read: {error}"
            ))
        };
        match reply.stage {
            Some(Stage::Intent) => serde_json::from_slice(&reply.value)
                .map(Receipt::Intended)
                .map_err(unreadable),
            Some(Stage::Done) => serde_json::from_slice(&reply.value)
                .map(Receipt::Done)
                .map_err(unreadable),
            None => Err(Error::ambiguous(
                "an earlier attempt left a receipt of an unknown stage",
            )),
        }
    }

    /// Writes down what is about to be done: at most 1 MiB in JSON. It is durable when this returns; only then act.
    ///
    /// # Errors
    ///
    /// Where the router cannot write. Nothing has happened yet: hand the error on.
    pub async fn intend<I: Serialize + Sync>(&self, intent: &I) -> Result<()> {
        self.keep(Stage::Intent, &to_json("the intent", intent)?).await
    }

    /// Writes down what was done: at most 1 MiB in JSON. It is durable when this returns.
    ///
    /// # Errors
    ///
    /// Where the router cannot write. The next attempt then finds the intent, and looks.
    pub async fn record<D: Serialize + Sync>(&self, done: &D) -> Result<()> {
        self.keep(Stage::Done, &to_json("the receipt", done)?).await
    }

    async fn keep(&self, stage: Stage, body: &[u8]) -> Result<()> {
        let host = &self.shared.host;
        let answer = host.receipt_put(self.call.id(), stage, body).await;
        answer
            .ok(|| "keeping the receipt of this step".to_owned())
            .map(drop)
    }
}

impl Cx {
    pub(crate) fn new(call: OpenCall, cancel: Arc<Signal>, shared: Open) -> Self {
        Self {
            call,
            cancel,
            event: OnceLock::new(),
            shared,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.call.id()
    }

    /// Waits until the instance ends.
    pub(crate) async fn closing(&self) {
        self.shared.closing.raised().await;
    }

    pub(crate) fn input_json(&self) -> &[u8] {
        self.call.input()
    }

    pub(crate) fn is_request(&self) -> bool {
        self.call.is_request()
    }

    /// Ends the call. Nothing borrowed from it can be left: that is what taking `self` says. It counts as open as long as
    /// what is returned.
    pub(crate) fn finish(self, report: &Report) -> Open {
        self.call.finish(report);
        self.shared
    }
}

fn to_json(what: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::fatal(format_args!("{what} has no JSON form: {error}")))
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx")
            .field("delivery", &self.delivery())
            .field("route", &self.route())
            .field("step", &self.step())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
