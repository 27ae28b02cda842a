//! What a test does to an instance that a router does not: it watches calls being polled, and keeps the instance's clock.
//!
//! The harness hands its probe over beside the C functions, within the one copy of the SDK that it shares with the plugin. A router
//! has none, and its plugins pay for the question alone.

use std::{cell::RefCell, future::poll_fn, pin::pin, sync::Arc, task::Poll};

use tokio::runtime::Handle;

/// The test's side.
pub(crate) trait Probe: Send + Sync {
    /// Whether the instance's time is the test's.
    #[cfg(feature = "virtual-time")]
    fn is_paused(&self) -> bool;

    /// Whether the instance goes no further, as if its process were gone.
    fn has_crashed(&self) -> bool;

    /// The instance has this runtime.
    fn built(&self, runtime: &Handle);

    /// The instance is made, or is not going to be. On its own runtime.
    fn created(&self);

    /// Whether it is counted how often the call waits. Such a call begins on the instance's own runtime, which polls it no more often
    /// than it has to.
    fn counts(&self, call: u64) -> bool;

    /// The author's future is about to be polled.
    fn polling(&self, call: u64);

    /// It has been, on the same thread, and waits for something; or it has ended.
    fn polled(&self, call: u64, waits: bool);

    /// The call is about to be reported as ended. On the instance's own runtime, where it has come so far.
    fn ended(&self, call: u64);
}

thread_local! {
    static OFFERED: RefCell<Option<Arc<dyn Probe>>> = const { RefCell::new(None) };
}

/// Has `create` make an instance that takes this probe.
pub(crate) fn offer<T>(probe: Arc<dyn Probe>, create: impl FnOnce() -> T) -> T {
    OFFERED.set(Some(probe));
    let made = create();
    OFFERED.take();
    made
}

/// The probe for the instance that is made on this thread, if there is one.
pub(crate) fn take() -> Option<Arc<dyn Probe>> {
    OFFERED.take()
}

/// One call under a probe, or under none. Its drop is the call's end.
pub(crate) struct Watch {
    probe: Option<Arc<dyn Probe>>,
    call: u64,
}

impl Watch {
    pub(crate) fn new(probe: Option<Arc<dyn Probe>>, call: u64) -> Self {
        Self { probe, call }
    }

    /// Whether it is all the same where the call is polled first.
    pub(crate) fn lets_begin_anywhere(&self) -> bool {
        !self.probe.as_ref().is_some_and(|probe| probe.counts(self.call))
    }

    /// Runs the author's future.
    pub(crate) async fn over<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let Some(probe) = &self.probe else {
                return future.as_mut().poll(cx);
            };
            if probe.has_crashed() {
                return Poll::Pending;
            }
            probe.polling(self.call);
            let polled = future.as_mut().poll(cx);
            probe.polled(self.call, polled.is_pending());
            polled
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.ended(self.call);
        }
    }
}
