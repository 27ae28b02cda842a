//! What the calls of an instance share: the host, the limits of its life, and that each is counted until it has ended.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{command::Scope, ffi::Host, signal::Signal};

/// What the calls of an instance share.
pub(crate) struct Shared {
    pub(crate) host: Arc<Host>,
    /// The limits of the instance's own programs.
    pub(crate) scope: Scope,
    /// Raised when the instance ends.
    pub(crate) closing: Arc<Signal>,
    open: AtomicUsize,
    none_open: Notify,
}

/// One call's part in what all share. It is open until this is dropped.
pub(crate) struct Open(Arc<Shared>);

impl Shared {
    pub(crate) fn new(host: Arc<Host>, plugin: &str) -> Arc<Self> {
        let closing = Arc::new(Signal::default());
        Arc::new(Self {
            host,
            scope: Scope::of_instance(plugin, Arc::clone(&closing)),
            closing,
            open: AtomicUsize::new(0),
            none_open: Notify::new(),
        })
    }

    /// Counts a call that begins.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::SeqCst);
        Open(Arc::clone(self))
    }

    pub(crate) fn is_any_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) != 0
    }

    /// Waits until no call is open, of an instance that ends: before, nobody is told.
    pub(crate) async fn none_open(&self) {
        loop {
            let mut told = pin!(self.none_open.notified());
            told.as_mut().enable();
            if !self.is_any_open() {
                return;
            }
            told.await;
        }
    }
}

impl std::ops::Deref for Open {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let was = self.0.open.fetch_sub(1, Ordering::SeqCst);
        if was == 1 && self.0.closing.is_raised() {
            self.0.none_open.notify_waiters();
        }
    }
}
