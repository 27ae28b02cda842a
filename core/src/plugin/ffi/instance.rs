//! Instances that live in this process, and the calls that are made of them.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use jackfield_abi as abi;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
    time::{Instant, timeout},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    call::{CALLS, Call},
    host::{Bridge, refresh_level},
    library::Library,
    making::{CreateError, Making, Pointer},
    patience::Patience,
};
use crate::{
    plugin::{
        Caller, Host, Report, RequestCall, StepCall, Tally, Vitals,
        report::{self, Ended, Stopped},
        work::Work,
    },
    secret::Secret,
};

/// With what an instance is made.
pub struct Setup {
    /// The plugin's name.
    pub plugin: String,
    /// The instance's name.
    pub instance: String,
    /// Its configuration, which fits the plugin's schema, secrets resolved.
    pub config: Value,
    /// The secrets that it may ask for by name.
    pub secrets: BTreeMap<String, Secret>,
    /// What it may ask of the router.
    pub host: Arc<dyn Host>,
    /// Where that is done.
    pub runtime: Handle,
    /// How long the making may take.
    pub limit: Duration,
    /// How long a call that was asked to end may take to do so.
    pub grace: Duration,
    /// Whether a plugin that does not promise to be prompt is called on threads of their own from the start, since
    /// the thread that calls has more to do.
    pub busy: bool,
    /// Where its calls are counted.
    pub tally: Arc<Tally>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: it holds secrets.
        f.debug_struct("Setup")
            .field("plugin", &self.plugin)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// An instance in this process. One that is dropped without [`Caller::shutdown`] lives on, out of reach.
pub struct InProcess {
    shared: Arc<Shared>,
    grace: Duration,
    tally: Arc<Tally>,
}

struct Shared {
    library: Library,
    instance: Pointer,
    bridge: Arc<Bridge>,
    /// Whether no call may be begun any more.
    ending: AtomicBool,
    /// Read while a call is handed over; written, once `ending` is set, to wait for those that are.
    handing: RwLock<()>,
    /// Whether it is called on the threads that bring its calls.
    patience: Patience,
}

impl InProcess {
    /// Makes an instance, on a thread of its own.
    ///
    /// # Errors
    /// When the plugin refuses or does not answer in time.
    pub async fn create(library: Library, setup: Setup) -> Result<Self, CreateError> {
        let config = setup.config.to_string().into_bytes();
        Self::create_from(library, setup, config).await
    }

    /// Like [`InProcess::create`], with these bytes in the place of the configuration, whatever they are.
    pub(in crate::plugin) async fn create_from(
        library: Library,
        setup: Setup,
        config: Vec<u8>,
    ) -> Result<Self, CreateError> {
        let (plugin, instance) = (setup.plugin.clone(), setup.instance.clone());
        let bridge = Bridge::new((plugin, instance), setup.host, setup.secrets, setup.runtime);
        let (sender, receiver) = oneshot::channel();
        let making = Making {
            library,
            bridge: Arc::clone(&bridge),
            name: setup.instance,
            config,
            deadline: monotonic(setup.limit),
        };
        if let Err(error) = on_thread(move || making.run(sender)) {
            bridge.forget();
            return Err(CreateError::Thread(error));
        }
        let patience = match setup.busy && !library.prompt {
            true => Patience::none(),
            false => Patience::new(),
        };
        // The plugin knows the limit too, and may still say what took so long.
        match timeout(setup.limit + LATE, receiver).await {
            Ok(Ok(Ok(instance))) => Ok(Self {
                shared: Arc::new(Shared {
                    library,
                    instance,
                    bridge,
                    ending: AtomicBool::new(false),
                    handing: RwLock::new(()),
                    patience,
                }),
                grace: setup.grace,
                tally: setup.tally,
            }),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(CreateError::TimedOut(setup.limit)),
        }
    }

    /// Ends the instance, once; `false` where it cannot be ended, and stays.
    pub(in crate::plugin) async fn end(&self, grace: Duration) -> Option<bool> {
        let shared = &self.shared;
        if shared.ending.swap(true, Ordering::AcqRel) {
            return None;
        }
        for call in CALLS.all() {
            if Arc::ptr_eq(&call.bridge, &shared.bridge) {
                call.cancel(&shared.library);
            }
        }
        let ended = shared.end(grace).await;
        if ended {
            shared.bridge.forget();
        }
        Some(ended)
    }

    async fn carry_out(&self, work: Work) -> Report {
        refresh_level();
        let deadline = monotonic(work.deadline().saturating_duration_since(Instant::now()));
        let bridge = &self.shared.bridge;
        let (call, ended) = Call::new(work, Arc::clone(bridge), deadline);
        let held = Held {
            call,
            library: &self.shared.library,
            _pending: bridge.pending.token(),
        };
        let carried_out = async {
            self.shared.begin(&held.call);
            self.end_of(&held, ended).await
        };
        self.tally.count(carried_out).await
    }

    /// Waits for the end of a call; past its deadline, or when it is not wanted any more, asks for it and waits a
    /// little longer.
    async fn end_of(&self, held: &Held<'_>, mut ended: oneshot::Receiver<Ended>) -> Report {
        let work = &held.call.work;
        let stopped = tokio::select! {
            biased;
            // Where it was asked to end, that was the end of the instance.
            ended = &mut ended => {
                let stopped = held.call.is_cancelled().then_some(Stopped::Cancelled);
                return told(ended, stopped);
            }
            () = work.cancelled().cancelled() => Stopped::Cancelled,
            () = tokio::time::sleep_until(work.deadline()) => Stopped::Deadline,
        };
        held.call.cancel(&self.shared.library);
        if let Ok(ended) = timeout(self.grace, &mut ended).await {
            return told(ended, Some(stopped));
        }
        tracing::warn!(
            plugin = self.shared.bridge.plugin,
            instance = self.shared.bridge.instance,
            delivery.id = work.delivery(),
            step = work.step(),
            "plugin call does not end; it goes on, and nobody waits for it"
        );
        report::stuck(stopped, self.grace)
    }
}

impl Shared {
    /// Hands a call to the plugin: here, or on a thread of its own, if this plugin has shown that it may block.
    fn begin(self: &Arc<Self>, call: &Arc<Call>) {
        if !self.patience.is_over() {
            return self.begin_here(call);
        }
        let (shared, held) = (Arc::clone(self), Arc::clone(call));
        let pending = self.bridge.pending.token();
        if let Err(error) = on_thread(move || {
            shared.hand_over(&held);
            drop(pending);
        }) {
            call.end(refused(
                abi::CODE_NONE,
                format!("no thread can be started to call the plugin: {error}"),
            ));
        }
    }

    fn begin_here(&self, call: &Arc<Call>) {
        let before = std::time::Instant::now();
        if self.library.prompt {
            self.hand_over(call);
        } else {
            aside(|| self.hand_over(call));
        }
        if self.patience.note(before.elapsed()) {
            tracing::warn!(
                plugin = self.bridge.plugin,
                instance = self.bridge.instance,
                "plugin blocks the thread that calls it; each of its calls gets a thread of its own from now on"
            );
        }
    }

    fn hand_over(&self, call: &Arc<Call>) {
        // Held over the call of the plugin: the end does not begin in the middle of it.
        let _handing = self.handing.read().unwrap_or_else(PoisonError::into_inner);
        if self.ending.load(Ordering::Acquire) {
            return call.end(refused(
                abi::CODE_SHUTDOWN,
                "the instance has been shut down".to_owned(),
            ));
        }
        call.begin(&self.library, self.instance.0);
    }

    /// Ends the instance; `false` where it cannot be, and stays.
    async fn end(self: &Arc<Self>, grace: Duration) -> bool {
        let shared = Arc::clone(self);
        if on_control_thread(grace + LATE, move || shared.stop(grace)).await != Some(0) {
            return false;
        }
        self.bridge.close();
        self.bridge.pending.close();
        if timeout(grace + LATE, self.bridge.pending.wait()).await.is_err() {
            return false;
        }
        let shared = Arc::clone(self);
        let destroyed = on_control_thread(grace + LATE, move || {
            // SAFETY: it has been shut down, and nothing is pending: every op is released, every request answered.
            unsafe { (shared.library.destroy)(shared.instance.0) };
        });
        destroyed.await.is_some()
    }

    fn stop(&self, grace: Duration) -> u32 {
        drop(self.handing.write().unwrap_or_else(PoisonError::into_inner));
        let millis = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: the instance lives, no call is begun any more, and this happens once: `ending` sees to it.
        unsafe { (self.library.shutdown)(self.instance.0, millis) }
    }
}

#[async_trait]
impl Caller for InProcess {
    async fn call(&self, call: StepCall) -> Report {
        self.carry_out(Work::Step(call)).await
    }

    async fn receive(&self, request: RequestCall) -> Report {
        match self.shared.library.receive {
            Some(_) => self.carry_out(Work::Request(request)).await,
            None => report::no_provider(),
        }
    }

    async fn shutdown(&self, grace: Duration) {
        if self.end(grace).await == Some(false) {
            let shared = &self.shared;
            tracing::error!(
                plugin = shared.bridge.plugin,
                instance = shared.bridge.instance,
                stuck = self.stuck(),
                "plugin instance does not end; it is left alone until the process ends"
            );
        }
    }

    fn stuck(&self) -> usize {
        self.shared.bridge.stuck.load(Ordering::Relaxed)
    }

    fn vitals(&self) -> Vitals {
        self.tally.vitals()
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess")
            .field("bridge", &self.shared.bridge)
            .field("stuck", &self.stuck())
            .finish_non_exhaustive()
    }
}

/// A call that somebody waits for. Dropped, it is let go of; and asked to end, if it has not.
struct Held<'a> {
    call: Arc<Call>,
    library: &'a Library,
    _pending: TaskTrackerToken,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.call.give_up() && !self.call.is_cancelled() {
            self.call.cancel(self.library);
        }
        self.call.release(self.library);
    }
}

fn told(ended: Result<Ended, oneshot::error::RecvError>, stopped: Option<Stopped>) -> Report {
    match ended {
        Ok(ended) => report::of(ended, stopped),
        Err(_) => report::fault("the plugin ended the call in a way that could not be recorded".to_owned()),
    }
}

/// The end of a call that was never handed over.
fn refused(code: u32, message: String) -> Ended {
    Ended {
        outcome: abi::RETRY,
        code,
        message,
        ..Ended::default()
    }
}

/// Runs what may block for ever on a thread that nobody has to wait for, unlike those of a runtime that stops.
fn on_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name("plugin-control".to_owned())
        .spawn(work)
        .map(drop)
}

/// Does `work` here, but lets the runtime go on elsewhere meanwhile: a plugin that never gives the thread back takes
/// this one with it, and nothing else. To let it go on costs more than a whole call, so that a plugin that promises to
/// give it back is spared.
fn aside(work: impl FnOnce()) {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // The only thread there is, as in tests.
        Ok(_) | Err(_) => work(),
    }
}

/// Like [`on_thread`], and waits up to `limit` for its end.
async fn on_control_thread<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    on_thread(move || drop(sender.send(work()))).ok()?;
    timeout(limit, receiver).await.ok()?.ok()
}

/// The `CLOCK_MONOTONIC` of a moment that is `from_now` away, in nanoseconds.
fn monotonic(from_now: Duration) -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    let now = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    now.saturating_add(u64::try_from(from_now.as_nanos()).unwrap_or(u64::MAX))
}

/// How much later than it was told a plugin may still answer a control call.
const LATE: Duration = Duration::from_secs(2);
