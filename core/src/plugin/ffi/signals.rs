//! What the process does on signals, noted before foreign code is loaded and put back after it.

use std::{mem::MaybeUninit, ptr};

/// What was set for every signal.
pub(in crate::plugin) struct Snapshot(Vec<(i32, libc::sigaction)>);

impl Snapshot {
    /// Notes what is set now.
    pub(in crate::plugin) fn take() -> Self {
        Self(
            (1..=LAST)
                .filter_map(|signal| Some((signal, current(signal)?)))
                .collect(),
        )
    }

    /// For which signals something else is set by now.
    pub(in crate::plugin) fn changed(&self) -> Vec<i32> {
        let changed = self.0.iter().filter(|(signal, before)| differs(*signal, before));
        changed.map(|(signal, _)| *signal).collect()
    }

    /// Puts back whatever was changed since, and says which signals that were.
    pub(super) fn restore(&self) -> Vec<i32> {
        let changed = self.0.iter().filter(|(signal, before)| differs(*signal, before));
        let restored = changed.filter(|(signal, before)| set(*signal, before));
        restored.map(|(signal, _)| *signal).collect()
    }
}

fn differs(signal: i32, before: &libc::sigaction) -> bool {
    current(signal).is_some_and(|now| !same(before, &now))
}

fn current(signal: i32) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a NULL action asks only, and there is room for the answer.
    let status = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeros are a valid `sigaction`, and otherwise the call has filled it in.
    (status == 0).then(|| unsafe { action.assume_init() })
}

fn set(signal: i32, action: &libc::sigaction) -> bool {
    // SAFETY: the action is one that was set before, so what it names is still there: it is ours or the system's.
    unsafe { libc::sigaction(signal, action, ptr::null_mut()) == 0 }
}

fn same(one: &libc::sigaction, other: &libc::sigaction) -> bool {
    // The C library adds a flag of its own to whatever it sets.
    one.sa_sigaction == other.sa_sigaction && (one.sa_flags ^ other.sa_flags) & !SA_RESTORER == 0
}

/// `SA_RESTORER` of the kernel.
const SA_RESTORER: i32 = 0x0400_0000;
/// The last signal of Linux.
const LAST: i32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_was_replaced_is_put_back() {
        // One that nothing else in a test uses.
        let signal = libc::SIGWINCH;
        let before = Snapshot::take();
        let mut ignore = current(signal).unwrap();
        ignore.sa_sigaction = libc::SIG_IGN;
        assert!(set(signal, &ignore));
        assert_eq!(before.restore(), [signal]);
        assert_eq!(current(signal).unwrap().sa_sigaction, libc::SIG_DFL);
        assert!(before.restore().is_empty());
    }
}
