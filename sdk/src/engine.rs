//! What an instance runs on: a runtime of its own, with one worker thread.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime, all of whose threads are counted.
pub(crate) enum Engine {
    /// As a router has it.
    Threads(Runtime),
    /// For tests: its clock stands still, or leaps.
    #[cfg(feature = "virtual-time")]
    Paused(paused::Paused),
}

/// What is done at the beginning and at the end of each thread.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) begin: Arc<dyn Fn() + Send + Sync>,
    pub(crate) end: Arc<dyn Fn() + Send + Sync>,
    pub(crate) alive: Arc<AtomicUsize>,
}

impl Engine {
    pub(crate) fn start(name: &str, hooks: Hooks) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1);
        prepare(&mut builder, name, hooks).build().map(Self::Threads)
    }

    #[cfg(feature = "virtual-time")]
    pub(crate) fn start_paused(name: &str, hooks: Hooks) -> io::Result<Self> {
        paused::Paused::start(name, hooks).map(Self::Paused)
    }

    pub(crate) fn handle(&self) -> &Handle {
        match self {
            Self::Threads(runtime) => runtime.handle(),
            #[cfg(feature = "virtual-time")]
            Self::Paused(paused) => paused.handle(),
        }
    }

    /// Ends it: tasks at their next `.await`, threads within `grace`.
    pub(crate) fn end(self, grace: Duration) {
        match self {
            Self::Threads(runtime) => runtime.shutdown_timeout(grace),
            #[cfg(feature = "virtual-time")]
            Self::Paused(paused) => paused.end(grace),
        }
    }
}

impl Hooks {
    fn begin(&self) {
        self.alive.fetch_add(1, Ordering::Relaxed);
        (self.begin)();
    }

    fn end(&self) {
        (self.end)();
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn prepare<'a>(builder: &'a mut Builder, name: &str, hooks: Hooks) -> &'a mut Builder {
    let at_end = hooks.clone();
    builder
        .thread_name(name)
        .enable_all()
        .on_thread_start(move || hooks.begin())
        .on_thread_stop(move || at_end.end())
}

/// A clock can be stopped only in a runtime that one thread of somebody else's drives: here is that thread.
#[cfg(feature = "virtual-time")]
mod paused {
    use std::{io, sync::mpsc, thread, time::Duration};

    use tokio::{
        runtime::{Builder, Handle},
        sync::oneshot,
    };

    use super::{Hooks, prepare};

    pub(crate) struct Paused {
        handle: Handle,
        /// Ends the thread, with this grace for what is blocked.
        stop: oneshot::Sender<Duration>,
        ended: mpsc::Receiver<()>,
    }

    impl Paused {
        pub(super) fn start(name: &str, hooks: Hooks) -> io::Result<Self> {
            let mut builder = Builder::new_current_thread();
            let runtime = prepare(&mut builder, name, hooks.clone())
                .start_paused(true)
                .build()?;
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel();
            let (tell, ended) = mpsc::sync_channel(1);
            let drive = move || {
                hooks.begin();
                let grace = runtime.block_on(stopped).unwrap_or_default();
                runtime.shutdown_timeout(grace);
                hooks.end();
                let _ = tell.send(());
            };
            thread::Builder::new().name(name.to_owned()).spawn(drive)?;
            Ok(Self { handle, stop, ended })
        }

        pub(super) fn handle(&self) -> &Handle {
            &self.handle
        }

        pub(super) fn end(self, grace: Duration) {
            let _ = self.stop.send(grace);
            // A thread that is stuck is left alone, as one of a router's instance is.
            let _ = self.ended.recv_timeout(grace);
        }
    }
}
