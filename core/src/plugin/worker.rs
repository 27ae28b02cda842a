//! Instances in processes of their own: whatever a plugin does there, the router lives, and so do the other plugins.
//!
//! [`Worker`] is the router's side: a [`Caller`] like the one in process, over a process that it starts, watches, and
//! starts again. The process (`jackfield plugin-worker`) is this same program with the same loader and the same
//! [`InProcess`](super::InProcess); a socket between the two carries frames both ways, many calls at a time.
//!
//! - [`wire`] has the frames, and what writes and reads them.
//! - [`life`] is one process, from its start to its end.
//! - [`process`] is what that process does, within its [`limits`].
//!
//! What always holds: every call ends in one [`Report`](super::Report). When the process dies, the calls that were in it
//! are retried, with the signal and the last words on its standard error; how often is for whoever makes them to say.
//! Before that, what is in its group is asked to end, and killed where it goes on; programs of the SDK's are in groups of
//! their own, and the kernel kills them with it, though not what they have started. A process never asks in the name of
//! another instance than its own. It need not read what it is told: so much waits for it and no more, nobody waits longer
//! than a call has time, and who asks on without reading the answers is ended.

mod life;
mod limits;
mod process;
mod wire;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Caller, Egress, Report, RequestCall, Sandbox, Setup, StepCall, Vitals,
    destination::Destination,
    report::{Stopped, crashed, cut_short, down, not_begun},
    stage::Staged,
    work::Work,
};
pub use life::WorkerError;
use life::{End, Expected, Life, Watch};
pub use limits::Limits;
pub use process::worker_main;

/// An instance in a process of its own.
pub struct Worker {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// Of what the processes of an instance are, and what bounds them.
#[derive(Clone, Debug)]
pub struct Housing {
    /// This program, with the hidden command that ends in [`worker_main`].
    pub program: PathBuf,
    /// What they may take.
    pub limits: Limits,
    /// What they may do.
    pub sandbox: Sandbox,
    /// Which hosts they may talk to, and by what; none without.
    pub exit: Option<Exit>,
    /// Counted up when one lives again of which no calls were made for a while.
    pub revived: watch::Sender<u64>,
}

/// The way out of an instance's processes.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The proxy.
    pub egress: Egress,
    /// The hosts that are granted.
    pub destinations: Vec<Destination>,
}

struct Shared {
    setup: Setup,
    staged: Staged,
    housing: Housing,
    state: watch::Sender<State>,
    /// Ends the supervision, and with it the process.
    ending: CancellationToken,
    grace: Mutex<Duration>,
    stuck: AtomicUsize,
    /// Whether the instance, when it was shut down, ended as a whole.
    whole: AtomicBool,
}

/// Whether calls can be made.
#[derive(Clone)]
enum State {
    /// They can, of this process.
    Up(Arc<Life>),
    /// The process has died, and the next one has not started yet.
    Down {
        why: Arc<str>,
        /// It has died so often in turn that there is no use in waiting for the next one.
        keeps_dying: bool,
    },
    /// The instance has been shut down.
    Over,
}

impl State {
    fn keeps_dying(&self) -> bool {
        match self {
            Self::Down { keeps_dying, .. } => *keeps_dying,
            Self::Up(_) | Self::Over => false,
        }
    }
}

impl Worker {
    /// Starts a process for an instance of the staged library, and returns when the instance is there.
    ///
    /// # Errors
    /// When the process cannot be started, or the plugin refuses or does not answer in time.
    pub async fn start(staged: Staged, setup: Setup, housing: Housing) -> Result<Self, WorkerError> {
        let (life, watch) = Life::start(&staged, &setup, &housing).await?;
        let runtime = setup.runtime.clone();
        let shared = Arc::new(Shared {
            setup,
            staged,
            housing,
            state: watch::Sender::new(State::Up(life)),
            ending: CancellationToken::new(),
            grace: Mutex::new(Duration::ZERO),
            stuck: AtomicUsize::new(0),
            whole: AtomicBool::new(false),
        });
        let tasks = TaskTracker::new();
        tasks.spawn_on(supervise(Arc::clone(&shared), watch, tasks.clone()), &runtime);
        tasks.close();
        Ok(Self { shared, tasks })
    }

    /// Ends the instance. Whether all of it ended within `grace`.
    pub(in crate::plugin) async fn end(&self, grace: Duration) -> bool {
        *self.shared.grace.lock().unwrap_or_else(PoisonError::into_inner) = grace;
        self.shared.ending.cancel();
        self.tasks.wait().await;
        self.shared.whole.load(Relaxed)
    }

    async fn carry_out(&self, work: Work) -> Report {
        let (life, expected) = match self.life(&work).await {
            Ok(expecting) => expecting,
            Err(report) => return report,
        };
        match life.call(work, expected, &self.shared.setup).await {
            Ok(report) => report,
            Err(death) if self.shared.ending.is_cancelled() => cut_short(death.to_string()),
            Err(death) => crashed(death.to_string()),
        }
    }

    /// A process that expects the call, as soon as there is one; or why the call is not made.
    async fn life(&self, work: &Work) -> Result<(Arc<Life>, Expected), Report> {
        let expecting = |life: &Arc<Life>| Some((Arc::clone(life), life.expect(work)?));
        if let State::Up(life) = &*self.shared.state.borrow()
            && let Some(expecting) = expecting(life)
        {
            return Ok(expecting);
        }
        let mut states = self.shared.state.subscribe();
        loop {
            let why = match &*states.borrow_and_update() {
                State::Up(life) => match expecting(life) {
                    Some(expecting) => return Ok(expecting),
                    None => "its worker has ended, and another is to come".into(),
                },
                State::Down {
                    why,
                    keeps_dying: true,
                } => return Err(down(why)),
                State::Down { why, .. } => Arc::clone(why),
                State::Over => return Err(not_begun(Stopped::Cancelled, "the instance has been shut down")),
            };
            tokio::select! {
                // The sender lives as long as this does.
                _ = states.changed() => {}
                () = work.cancelled().cancelled() => return Err(not_begun(Stopped::Cancelled, &why)),
                () = sleep_until(work.deadline()) => return Err(not_begun(Stopped::Deadline, &why)),
            }
        }
    }
}

#[async_trait]
impl Caller for Worker {
    async fn call(&self, call: StepCall) -> Report {
        let tally = &self.shared.setup.tally;
        tally.count(self.carry_out(Work::Step(call))).await
    }

    async fn receive(&self, request: RequestCall) -> Report {
        let tally = &self.shared.setup.tally;
        tally.count(self.carry_out(Work::Request(request))).await
    }

    async fn shutdown(&self, grace: Duration) {
        self.end(grace).await;
    }

    fn stuck(&self) -> usize {
        self.shared.stuck.load(Relaxed)
    }

    fn down(&self) -> Option<Arc<str>> {
        match &*self.shared.state.borrow() {
            State::Down {
                why,
                keeps_dying: true,
            } => Some(Arc::clone(why)),
            State::Down { .. } | State::Up(_) | State::Over => None,
        }
    }

    fn vitals(&self) -> Vitals {
        let process = match &*self.shared.state.borrow() {
            State::Up(life) => life.process(),
            State::Down { .. } | State::Over => None,
        };
        self.shared.setup.tally.vitals_apart(process)
    }
}

impl Shared {
    /// Starts processes, each after a longer rest, until one lives.
    async fn start_again(&self, rest: &mut Duration) -> Watch {
        let Setup { plugin, instance, .. } = &self.setup;
        loop {
            sleep(*rest).await;
            *rest = (*rest * 2).min(LONGEST_REST);
            match Life::start(&self.staged, &self.setup, &self.housing).await {
                Ok((life, watch)) => {
                    tracing::info!(plugin, instance, "worker started again");
                    self.setup.tally.count_restart();
                    let was = self.state.send_replace(State::Up(life));
                    if was.keeps_dying() {
                        self.housing.revived.send_modify(|count| *count += 1);
                    }
                    return watch;
                }
                Err(error) => {
                    let reason = super::reason_of(&error);
                    tracing::error!(
                        plugin,
                        instance,
                        reason,
                        "worker cannot be started; it is tried again"
                    );
                    self.fall(&reason, *rest);
                }
            }
        }
    }

    /// Says that there is no process, and that the next one begins after `rest`.
    fn fall(&self, why: &str, rest: Duration) {
        let keeps_dying = rest >= LONG_REST;
        let was = self.state.send_replace(State::Down {
            why: why.into(),
            keeps_dying,
        });
        if keeps_dying && !was.keeps_dying() {
            let Setup { plugin, instance, .. } = &self.setup;
            tracing::error!(
                plugin,
                instance,
                "worker keeps dying; no calls are made until it lives"
            );
        }
    }

    fn grace(&self) -> Duration {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches one process after the other until the instance is shut down.
async fn supervise(shared: Arc<Shared>, mut watch: Watch, tasks: TaskTracker) {
    let Setup { plugin, instance, .. } = &shared.setup;
    let mut rest = FIRST_REST;
    loop {
        let since = Instant::now();
        let end = tokio::select! {
            end = watch.follow(&shared.setup, shared.housing.limits.silence, &shared.stuck) => end,
            () = shared.ending.cancelled() => {
                shared.state.send_replace(State::Over);
                let whole = watch.end(&shared.setup, shared.grace()).await;
                shared.whole.store(whole, Relaxed);
                return;
            }
        };
        let why = match end {
            End::Died(death) => {
                tracing::error!(plugin, instance, reason = %death, "worker died; it is started again");
                death.to_string()
            }
            End::Spent => {
                tracing::error!(
                    plugin,
                    instance,
                    "a call in the worker does not end; another worker takes its place"
                );
                tasks.spawn(outlive(Arc::clone(&shared), watch));
                "a call in the worker does not end".to_owned()
            }
        };
        if since.elapsed() >= HEALTHY {
            rest = FIRST_REST;
        }
        shared.fall(&why, rest);
        watch = tokio::select! {
            watch = shared.start_again(&mut rest) => watch,
            // What has begun to start is killed as it is dropped.
            () = shared.ending.cancelled() => {
                shared.state.send_replace(State::Over);
                return;
            }
        };
    }
}

/// Follows a process of which no more calls are made until those in it have ended, or the instance has to.
async fn outlive(shared: Arc<Shared>, mut watch: Watch) {
    let Setup { plugin, instance, .. } = &shared.setup;
    // What is stuck in it is nothing to the process in its place.
    let stuck = AtomicUsize::new(0);
    let end = tokio::select! {
        end = watch.follow(&shared.setup, shared.housing.limits.silence, &stuck) => Some(end),
        () = shared.ending.cancelled() => None,
    };
    match end {
        Some(End::Died(death)) => tracing::info!(plugin, instance, reason = %death, "worker ended"),
        Some(End::Spent) | None => watch.kill(&shared.setup).await,
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("setup", &self.shared.setup)
            .finish_non_exhaustive()
    }
}

/// How long to wait before a process is started again: at first, and at most when it keeps dying.
const FIRST_REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Who waits for so long, after five deaths in turn, waits for nothing: its deliveries are better off in the journal.
const LONG_REST: Duration = Duration::from_millis(320);
/// A process that lived for so long is not one that keeps dying.
const HEALTHY: Duration = Duration::from_secs(60);
