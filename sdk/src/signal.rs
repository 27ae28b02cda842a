//! Something that is said once, to all who wait for it.

use std::{
    fmt,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// Something that is said once, to all who wait for it. It costs a call nothing as long as nobody waits.
#[derive(Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waiting: Notify,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// Waits until it is raised, if it has not been.
    pub(crate) async fn raised(&self) {
        let mut waiting = pin!(self.waiting.notified());
        // Waits from here on, so that it cannot be raised between the question and the waiting.
        waiting.as_mut().enable();
        if !self.is_raised() {
            waiting.await;
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.is_raised()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc, task::Poll};

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_hear_it_and_so_do_all_who_come_later() {
        let signal = Arc::new(Signal::default());
        let mut waiting = JoinSet::new();
        for _ in 0..3 {
            let signal = Arc::clone(&signal);
            waiting.spawn(async move { signal.raised().await });
        }
        tokio::task::yield_now().await;
        signal.raise();
        assert_eq!(waiting.join_all().await.len(), 3);
        signal.raised().await;
        assert!(signal.is_raised());
    }

    #[tokio::test]
    async fn nobody_hears_what_was_not_said() {
        let signal = Signal::default();
        let mut raised = pin!(signal.raised());
        let polled = poll_fn(|cx| Poll::Ready(raised.as_mut().poll(cx))).await;
        assert!(polled.is_pending() && !signal.is_raised());
    }
}
