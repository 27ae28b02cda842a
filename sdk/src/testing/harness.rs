//! One instance under test.

use std::{
    fmt, fs,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Code,
    call::{Call, Report, Running},
    host::TestHost,
};
use crate::{
    Plugin,
    ffi::double::{CallParts, Driven, describe},
};

/// One instance of the plugin `P`, driven through the same C functions that the router calls.
///
/// It needs a tokio runtime around it, any. When it is dropped, the instance is shut down.
pub struct Harness<P> {
    driven: Option<Driven>,
    host: TestHost,
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
        let (double, level) = (host.as_double(), host.level());
        let config = config.to_string();
        let made = on_a_thread(move || Driven::create::<P>(double, level, "test", config.as_bytes())).await;
        match made {
            Ok(driven) => Ok(Self {
                driven: Some(driven),
                host: host.clone(),
                workdir: OnceLock::new(),
                plugin: PhantomData,
            }),
            Err(failure) => Err(Refused {
                code: failure.code,
                message: failure.message,
            }),
        }
    }

    /// What the plugin says about itself: its name, its version, its schemas.
    ///
    /// # Panics
    ///
    /// Where that is not JSON: a schema of the plugin's panicked.
    pub fn manifest() -> Value {
        serde_json::from_slice(describe::<P>()).expect("a manifest is JSON")
    }

    /// Makes a call and waits for its end.
    pub async fn call(&self, call: Call) -> Report {
        self.begin(call).end().await
    }

    /// Begins a call.
    pub fn begin(&self, call: Call) -> Running {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.host.open_call(id, &call.key);
        let now = Instant::now();
        let parts = CallParts {
            id,
            attempt: call.attempt,
            deadline: Some(now + call.deadline),
            event: call.event,
            input: call.input,
            delivery: "dlv_test".to_owned(),
            route: "test".to_owned(),
            step: "step".to_owned(),
            idempotency_key: call.key,
            workdir: call.workdir.unwrap_or_else(|| self.workdir().to_owned()),
            traceparent: String::new(),
        };
        let (op, ended) = self.driven().call(parts);
        Running {
            op,
            ended,
            host: self.host.clone(),
            id,
            cancel_at: call.cancel_after.map(|pause| now + pause),
        }
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
        let mut driven = self.driven.take().expect("it is taken here and in drop only");
        let (ended, counts) = on_a_thread(move || driven.shutdown(grace)).await;
        assert!(
            !ended || counts.iter().all(|count| *count == 1),
            "each call ends exactly once: {counts:?}"
        );
        ended
    }

    /// Ends the instance as a crash does: calls stop where they are, without a word to anybody. What they have kept on the
    /// [host](Self::host) stays; start another instance on it to see what that makes of it.
    pub async fn crash(self) {
        self.shutdown(Duration::ZERO).await;
    }

    fn driven(&self) -> &Driven {
        self.driven.as_ref().expect("it is taken by value only")
    }
}

impl<P> Drop for Harness<P> {
    fn drop(&mut self) {
        if let Some(driven) = self.driven.take() {
            // The shutdown waits for the instance's own runtime, which a thread of another runtime must not.
            let _ = thread::spawn(move || drop(driven)).join();
        }
    }
}

impl<P> fmt::Debug for Harness<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Harness")
    }
}

/// Runs what may block on a thread of its own.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = oneshot::channel();
    let thread = thread::spawn(move || {
        let _ = tell.send(work());
    });
    match told.await {
        Ok(value) => value,
        Err(_) => std::panic::resume_unwind(thread.join().expect_err("it ended without a value")),
    }
}

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
