//! What an instance under test lives in: this process, or one that drives the built library.

use std::{sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use super::{
    driver::{self, Driver},
    harness::Watcher,
};
use crate::{
    call::Report,
    ffi::double::{self, CallParts, Driven},
};

/// An instance, wherever it lives.
pub(super) enum Engine {
    /// In this process, of the plugin that is linked into the test, and what watches it.
    Here(Driven, Arc<Watcher>),
    /// In another, of the built library.
    There(Driver),
}

/// What a running call can be canceled by. Where it is dropped before the call's end, nobody waits for that any more.
pub(super) enum Op {
    Here(double::Op),
    There(driver::Op),
}

impl Engine {
    /// Makes a call. How it ends comes by the receiver.
    pub(super) fn call(&self, parts: CallParts) -> (Op, oneshot::Receiver<Report>) {
        match self {
            Self::Here(driven, _) => here(driven.call(parts)),
            Self::There(driver) => there(driver.call(&parts)),
        }
    }

    /// Hands a request to the plugin, which must be a provider: its head for an event, its body for an input.
    pub(super) fn receive(&self, parts: CallParts) -> (Op, oneshot::Receiver<Report>) {
        match self {
            Self::Here(driven, _) => here(driven.receive(parts)),
            Self::There(driver) => there(driver.receive(&parts)),
        }
    }

    /// Ends the instance. Whether all of it has ended within `grace`.
    ///
    /// # Panics
    ///
    /// Where it has, and a call has not ended exactly once.
    pub(super) async fn shutdown(self, grace: Duration) -> bool {
        match self {
            Self::Here(mut driven, _) => {
                let (ended, counts) = on_a_thread(move || driven.shutdown(grace)).await;
                assert!(
                    !ended || counts.iter().all(|count| *count == 1),
                    "each call ends exactly once: {counts:?}"
                );
                ended
            }
            Self::There(driver) => driver.shutdown(grace).await,
        }
    }

    /// Ends the instance without a word to anybody.
    pub(super) async fn crash(self) {
        match self {
            Self::Here(_, ref watcher) => {
                watcher.crash();
                self.shutdown(Duration::ZERO).await;
            }
            Self::There(driver) => driver.crash().await,
        }
    }
}

fn here((op, ended): (double::Op, oneshot::Receiver<Report>)) -> (Op, oneshot::Receiver<Report>) {
    (Op::Here(op), ended)
}

fn there((op, ended): (driver::Op, oneshot::Receiver<Report>)) -> (Op, oneshot::Receiver<Report>) {
    (Op::There(op), ended)
}

impl Op {
    pub(super) fn cancel(&self) {
        match self {
            Self::Here(op) => op.cancel(),
            Self::There(op) => op.cancel(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.times_ended() > 0
    }

    /// How often the plugin has said that the call has ended; of one in another process, the first time is heard.
    pub(super) fn times_ended(&self) -> usize {
        match self {
            Self::Here(op) => op.times_ended(),
            Self::There(op) => usize::from(op.has_ended()),
        }
    }
}

/// Runs what may block on a thread of its own.
pub(super) async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = oneshot::channel();
    let thread = thread::spawn(move || {
        let _ = tell.send(work());
    });
    match told.await {
        Ok(value) => value,
        Err(_) => std::panic::resume_unwind(thread.join().expect_err("it ended without a value")),
    }
}
