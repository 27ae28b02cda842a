//! Numbers for things that a plugin holds on to: whatever it does with one, a lookup is all that happens.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The things of one kind that live, by their handles. A handle is never 0 and never used again.
#[derive(Debug)]
pub(super) struct Handles<T> {
    last: AtomicUsize,
    /// By the handle's last digits, so that threads that come with different ones seldom meet.
    // Leaves: nothing is locked, called or dropped while one is held.
    live: [Mutex<BTreeMap<usize, Arc<T>>>; SHARDS],
}

impl<T> Handles<T> {
    pub(super) const fn new() -> Self {
        Self {
            last: AtomicUsize::new(0),
            live: [const { Mutex::new(BTreeMap::new()) }; SHARDS],
        }
    }

    /// A new handle, for something that [`Handles::keep`] is to be given.
    pub(super) fn next(&self) -> usize {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps `thing` alive under `handle` until it is taken.
    pub(super) fn keep(&self, handle: usize, thing: Arc<T>) {
        self.live(handle).insert(handle, thing);
    }

    /// The thing, while it is kept.
    pub(super) fn get(&self, handle: usize) -> Option<Arc<T>> {
        self.live(handle).get(&handle).cloned()
    }

    /// The thing, for the first who asks.
    pub(super) fn take(&self, handle: usize) -> Option<Arc<T>> {
        self.live(handle).remove(&handle)
    }

    /// All that are kept.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        (0..SHARDS)
            .flat_map(|shard| self.live(shard).values().cloned().collect::<Vec<_>>())
            .collect()
    }

    fn live(&self, handle: usize) -> MutexGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.live[handle % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const SHARDS: usize = 16;

/// A handle in the place of a context pointer.
pub(super) fn to_context(handle: usize) -> *mut c_void {
    ptr::without_provenance_mut(handle)
}

/// The handle in a context pointer.
pub(super) fn from_context(context: *mut c_void) -> usize {
    context.addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_taken_once_and_its_handle_is_not_used_again() {
        static HANDLES: Handles<&str> = Handles::new();
        let first = HANDLES.next();
        HANDLES.keep(first, Arc::new("first"));
        assert_eq!(HANDLES.get(first).as_deref(), Some(&"first"));
        assert_eq!(HANDLES.take(first).as_deref(), Some(&"first"));
        assert_eq!(HANDLES.take(first), None);
        assert!(HANDLES.next() > first);
        assert_eq!(from_context(to_context(first)), first);
    }
}
