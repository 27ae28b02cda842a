//! The time of an instance whose clock the test keeps.
//!
//! A paused tokio runtime leaps to its next timer whenever it has nothing else to do, but for as long as one of its blocking threads
//! is at work. So one is, for as long as time is to stand still.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{AbortHandle, yield_now},
    time::sleep,
};

/// How often what falls due may wake one another before an advance is over.
const SETTLING: usize = 16;

pub(super) struct Clock {
    runtime: OnceLock<Handle>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Calls that have begun and not ended.
    open: HashSet<u64>,
    /// Those whose ends a test waits for.
    awaited: HashSet<u64>,
    advances: usize,
    /// The instance starts, or ends: that it does in whatever time it needs.
    free: bool,
    /// Keeps the blocking thread.
    still: Option<mpsc::Sender<()>>,
}

/// Something that happens at its time, unless this is dropped before.
pub(super) struct Timer(AbortHandle);

#[cfg_attr(
    not(feature = "virtual-time"),
    expect(dead_code, reason = "without the feature there is no such clock")
)]
impl Clock {
    /// A clock that runs until the instance is made.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            runtime: OnceLock::new(),
            state: Mutex::new(State {
                free: true,
                ..State::default()
            }),
        })
    }

    /// Lets so much time pass, and all happen that falls due in it, in its order.
    pub(super) async fn advance(self: &Arc<Self>, by: Duration) {
        let (tell, told) = oneshot::channel();
        let clock = self.clone();
        self.runtime().spawn(async move {
            // In a task of the runtime: time cannot leap before its timer is set.
            clock.change(|state| state.advances += 1);
            sleep(by).await;
            clock.change(|state| state.advances -= 1);
            for _ in 0..SETTLING {
                yield_now().await;
            }
            let _ = tell.send(());
        });
        told.await.expect("the instance is there");
    }
}

impl Clock {
    pub(super) fn built(&self, runtime: &Handle) {
        let _ = self.runtime.set(runtime.clone());
    }

    pub(super) fn created(&self) {
        self.change(|state| state.free = false);
    }

    /// Lets time run from here on.
    pub(super) fn set_free(&self) {
        self.change(|state| state.free = true);
    }

    pub(super) fn begin(&self, call: u64) {
        self.change(|state| {
            state.open.insert(call);
        });
    }

    /// Lets time run until the call ends.
    pub(super) fn run_until_the_end_of(&self, call: u64) {
        self.change(|state| {
            if state.open.contains(&call) {
                state.awaited.insert(call);
            }
        });
    }

    pub(super) fn ended(&self, call: u64) {
        self.change(|state| {
            state.open.remove(&call);
            state.awaited.remove(&call);
        });
    }

    /// Has `work` done when so much time has passed.
    pub(super) fn after(&self, pause: Duration, work: impl FnOnce() + Send + 'static) -> Timer {
        let task = self.runtime().spawn(async move {
            sleep(pause).await;
            work();
        });
        Timer(task.abort_handle())
    }

    fn runtime(&self) -> &Handle {
        self.runtime.get().expect("the instance was made with it")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        if state.runs() {
            state.still = None;
        } else if state.still.is_none()
            && let Some(runtime) = self.runtime.get()
        {
            let (keep, kept) = mpsc::channel::<()>();
            runtime.spawn_blocking(move || kept.recv());
            state.still = Some(keep);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn runs(&self) -> bool {
        self.free || self.advances > 0 || !self.awaited.is_empty()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
