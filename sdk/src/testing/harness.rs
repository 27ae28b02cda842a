//! One instance under test.

use std::{
    fmt, fs,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use super::{
    Code,
    call::{Call, Report, Running, Time},
    clock::Clock,
    driver::Driver,
    engine::{Engine, Op, on_a_thread},
    host::TestHost,
    library::{library, only_within},
};
use crate::{
    Plugin,
    ffi::double::{CallParts, Driven, Failure, describe},
    probe::Probe,
};

/// One instance of the plugin `P`, driven through the same C functions that the router calls.
///
/// It needs a tokio runtime around it, any. When it is dropped, the instance is shut down. Where `jackfield plugin test` runs the test,
/// it is an instance of the [built library](super::library) instead.
///
/// ```
/// use jackfield_sdk::{prelude::*, testing::{Call, Code, Harness}};
/// use std::time::Duration;
/// #
/// # struct Echo;
/// # #[async_trait]
/// # impl Plugin for Echo {
/// #     type Config = Empty;
/// #     type Input = String;
/// #     type Output = String;
/// #     const NAME: &'static str = "example";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
/// # async fn call(&self, input: String, _: &Cx) -> Result<Outcome<String>> {
/// #     Ok(Outcome::Done(input))
/// # }
/// # }
/// #
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let echo = Harness::<Echo>::start(json!({})).await.unwrap();
/// assert_eq!(Harness::<Echo>::manifest()["name"], "example");
/// assert_eq!(echo.call(Call::new(json!("hello"))).await.done(), "hello");
/// assert!(echo.shutdown(Duration::from_secs(5)).await, "nothing of it is left");
/// let refused = Harness::<Echo>::start(json!({ "colour": "red" })).await.unwrap_err();
/// assert_eq!(refused.code, Code::Invalid);
/// # });
/// ```
pub struct Harness<P> {
    engine: Option<Engine>,
    host: TestHost,
    clock: Option<Arc<Clock>>,
    workdir: OnceLock<TempDir>,
    plugin: PhantomData<fn() -> P>,
}

/// Why there is no instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What kind of failure it was.
    pub code: Code,
    /// What the plugin says.
    pub message: String,
}

impl<P: Plugin> Harness<P> {
    /// Starts an instance with this configuration, on a host of its own.
    ///
    /// # Errors
    ///
    /// Where the configuration does not fit, or [`Plugin::create`] fails.
    pub async fn start(config: Value) -> Result<Self, Refused> {
        Self::start_on(&TestHost::new(), config).await
    }

    /// Starts an instance on this host: one that is prepared, or one that another instance has left something on.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub async fn start_on(host: &TestHost, config: Value) -> Result<Self, Refused> {
        Self::make(host, config, None).await
    }

    /// Starts an instance whose time the test keeps: for it, an hour of sleep takes no time at all.
    ///
    /// Its time stands still, but for two occasions. [`advance`](Self::advance) lets as much of it pass as it is told to. And while a
    /// test waits for the end of a call, of the start or of the shutdown, time leaps to the instance's next timer whenever everything
    /// in it waits: also to the call's deadline, at which it is canceled as ever. The host answers at once.
    ///
    /// What the plugin waits for in the world outside, a server or a program, is not waited for by its clock: time limits around such
    /// things may be over before they are.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jackfield_sdk::{prelude::*, testing::{Call, Ended, Harness, TestHost}, tokio::time::sleep};
    /// # struct Patient;
    /// # #[async_trait]
    /// # impl Plugin for Patient {
    /// #     type Config = Empty;
    /// #     type Input = Empty;
    /// #     type Output = ();
    /// #     const NAME: &'static str = "patient";
    /// #     const VERSION: &'static str = "1.0.0";
    /// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
    /// #     async fn call(&self, _: Empty, _: &Cx) -> Result<Outcome<()>> {
    /// #         sleep(Duration::from_secs(3600)).await;
    /// #         Ok(Outcome::Done(()))
    /// #     }
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// // `Patient` sleeps for an hour.
    /// let patient = Harness::<Patient>::start_paused(&TestHost::new(), json!({})).await.unwrap();
    /// let running = patient.begin(Call::new(json!({})).deadline(Duration::from_secs(7200)));
    /// patient.advance(Duration::from_secs(3599)).await;
    /// assert!(!running.has_ended());
    /// assert_eq!(running.end().await.outcome, Ended::Done);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    #[cfg(feature = "virtual-time")]
    pub async fn start_paused(host: &TestHost, config: Value) -> Result<Self, Refused> {
        only_within("time is kept by the test");
        host.reply_inline();
        Self::make(host, config, Some(Clock::new())).await
    }

    async fn make(host: &TestHost, config: Value, clock: Option<Arc<Clock>>) -> Result<Self, Refused> {
        let made = match library() {
            Some(library) => {
                if host.replies_inline() {
                    only_within("the host replies within requests");
                }
                Driver::start(library, &Self::linked_manifest(), host, &config)
                    .await
                    .map(Engine::There)
            }
            None => Self::make_here(host, config, clock.clone()).await,
        };
        match made {
            Ok(engine) => Ok(Self {
                engine: Some(engine),
                host: host.clone(),
                clock,
                workdir: OnceLock::new(),
                plugin: PhantomData,
            }),
            Err(Failure { code, message }) => Err(Refused { code, message }),
        }
    }

    async fn make_here(host: &TestHost, config: Value, clock: Option<Arc<Clock>>) -> Result<Engine, Failure> {
        let (double, level) = (host.as_double(), host.level());
        let probe = Arc::new(Watcher {
            host: host.clone(),
            clock,
            crashed: AtomicBool::new(false),
        });
        let (config, watcher) = (config.to_string(), Arc::clone(&probe));
        let made =
            on_a_thread(move || Driven::create::<P>(double, level, probe, "test", config.as_bytes())).await;
        made.map(|driven| Engine::Here(driven, watcher))
    }

    /// What the plugin says about itself: its name, its version, its schemas.
    ///
    /// # Panics
    ///
    /// Where that is not JSON: a schema of the plugin's panicked.
    pub fn manifest() -> Value {
        match library() {
            Some(library) => Driver::manifest(library),
            None => Self::linked_manifest(),
        }
    }

    fn linked_manifest() -> Value {
        serde_json::from_slice(describe::<P>()).expect("a manifest is JSON")
    }

    /// Makes a call and waits for its end.
    pub async fn call(&self, call: Call) -> Report {
        self.begin(call).end().await
    }

    /// Begins a call.
    pub fn begin(&self, call: Call) -> Running {
        self.begin_as(next_id(), call)
    }

    /// Hands a request to the plugin, whose head and body stand in the places of event and input.
    pub(super) fn hand_in(&self, request: Call) -> Running {
        self.begin_by(Engine::receive, next_id(), request)
    }

    pub(super) fn begin_as(&self, id: u64, call: Call) -> Running {
        self.begin_by(Engine::call, id, call)
    }

    fn begin_by(
        &self,
        begin: impl FnOnce(&Engine, CallParts) -> (Op, oneshot::Receiver<crate::call::Report>),
        id: u64,
        call: Call,
    ) -> Running {
        self.host.open_call(id, &call.key);
        if let Some(clock) = &self.clock {
            clock.begin(id);
        }
        let now = Instant::now();
        let limit = call.cancel_after.unwrap_or(call.deadline).min(call.deadline);
        let parts = CallParts {
            id,
            attempt: call.attempt,
            deadline: Some(now + call.deadline),
            event: call.event,
            input: call.input,
            delivery: DELIVERY.to_owned(),
            route: "test".to_owned(),
            step: "step".to_owned(),
            idempotency_key: call.key,
            workdir: call.workdir.unwrap_or_else(|| self.workdir().to_owned()),
            traceparent: String::new(),
        };
        let (op, ended) = begin(self.engine(), parts);
        let op = Arc::new(op);
        let time = match &self.clock {
            None => Time::Ours(std::time::Instant::now() + limit),
            Some(clock) => {
                let op = op.clone();
                Time::Theirs(clock.clone(), clock.after(limit, move || op.cancel()))
            }
        };
        Running {
            op,
            ended,
            host: self.host.clone(),
            id,
            time,
        }
    }

    /// Lets so much of the instance's time pass. All that falls due in it happens in its order, and has come to where it waits again
    /// when this returns, as far as it needs nothing from outside.
    ///
    /// # Panics
    ///
    /// Where the instance was not started with [`start_paused`](Self::start_paused).
    #[cfg(feature = "virtual-time")]
    pub async fn advance(&self, by: Duration) {
        let clock = self.clock.as_ref();
        let clock =
            clock.expect("only the time of an instance that was started with `start_paused` can be advanced");
        clock.advance(by).await;
    }

    /// The host under it.
    pub fn host(&self) -> &TestHost {
        &self.host
    }

    /// The directory that calls work in that bring none of their own. It goes with the harness.
    pub fn workdir(&self) -> &Path {
        &self.workdir.get_or_init(TempDir::new).0
    }

    /// Shuts the instance down within `grace`. Whether all of it has ended in time, its threads too.
    ///
    /// # Panics
    ///
    /// Where it has, and a call has not ended exactly once.
    pub async fn shutdown(mut self, grace: Duration) -> bool {
        self.take().shutdown(grace).await
    }

    /// Ends the instance as a crash does: calls stop where they are, without a word to anybody, and [`Plugin::shutdown`] is not
    /// called. What they have kept on the [host](Self::host) stays; start another instance on it to see what that makes of it.
    pub async fn crash(mut self) {
        self.take().crash().await;
    }

    fn take(&mut self) -> Engine {
        self.set_time_free();
        self.engine.take().expect("it is taken by value and in drop only")
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is taken by value only")
    }
}

impl<P> Harness<P> {
    /// The end takes whatever time it needs.
    fn set_time_free(&self) {
        if let Some(clock) = &self.clock {
            clock.set_free();
        }
    }
}

impl<P> Drop for Harness<P> {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.set_time_free();
            // The shutdown waits for the instance's own runtime, which a thread of another runtime must not.
            let _ = thread::spawn(move || drop(engine)).join();
        }
    }
}

impl<P> fmt::Debug for Harness<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Harness")
    }
}

/// What the instance under test is watched by.
pub(super) struct Watcher {
    host: TestHost,
    clock: Option<Arc<Clock>>,
    crashed: AtomicBool,
}

impl Watcher {
    /// From now on the instance goes no further.
    pub(super) fn crash(&self) {
        self.crashed.store(true, Ordering::Relaxed);
    }
}

impl Probe for Watcher {
    #[cfg(feature = "virtual-time")]
    fn is_paused(&self) -> bool {
        self.clock.is_some()
    }

    fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::Relaxed)
    }

    fn built(&self, runtime: &Handle) {
        if let Some(clock) = &self.clock {
            clock.built(runtime);
        }
    }

    fn created(&self) {
        if let Some(clock) = &self.clock {
            clock.created();
        }
    }

    fn counts(&self, call: u64) -> bool {
        self.host.is_to_cut(call)
    }

    fn polling(&self, call: u64) {
        self.host.polling(call);
    }

    fn polled(&self, call: u64, waits: bool) {
        self.host.polled(call, waits);
    }

    fn ended(&self, call: u64) {
        if let Some(clock) = &self.clock {
            clock.ended(call);
        }
    }
}

pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The delivery that all calls are of.
const DELIVERY: &str = "dlv_0000000000000000000000test";

/// A directory that goes when it is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("jackfield-harness-{}-{number}", std::process::id()));
        // A process of the same id may have left one behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the directory for temporary files can be written to");
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
