//! Whether a plugin gives back the thread that calls it.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// How long one plugin has kept the threads that called it.
pub(super) struct Patience {
    calls: AtomicU32,
    /// Of the calls of this window.
    slow: AtomicU32,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            calls: AtomicU32::new(0),
            slow: AtomicU32::new(0),
        }
    }

    /// That for a plugin which nobody wants to wait for, not even once.
    pub(super) fn none() -> Self {
        Self {
            slow: AtomicU32::new(STRIKES),
            ..Self::new()
        }
    }

    /// Whether it is at an end, for good.
    pub(super) fn is_over(&self) -> bool {
        self.slow.load(Relaxed) >= STRIKES
    }

    /// Notes how long a call kept its thread; whether that was once too often.
    pub(super) fn note(&self, kept: Duration) -> bool {
        // Calls that come at the same time may count for this window or the next: it is only there so that what the machine
        // does once in a million calls is not held against a plugin for ever.
        if self.calls.fetch_add(1, Relaxed) % WINDOW == WINDOW - 1 && !self.is_over() {
            self.slow.store(0, Relaxed);
        }
        kept > SLOW && self.slow.fetch_add(1, Relaxed) + 1 == STRIKES
    }
}

/// A call is handed over in microseconds; whoever takes this long works or waits. More than any preemption.
const SLOW: Duration = Duration::from_millis(10);
/// How often that may happen within a window.
const STRIKES: u32 = 3;
/// Calls of a window.
const WINDOW: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: Duration = Duration::from_micros(1);
    const LATE: Duration = Duration::from_millis(11);

    #[test]
    fn it_ends_with_the_third_slow_call_of_a_window_and_for_good() {
        let patience = Patience::new();
        assert_eq!([LATE, PROMPT, LATE].map(|kept| patience.note(kept)), [false; 3]);
        assert!(!patience.is_over());
        assert!(patience.note(LATE), "once too often");
        assert!(!patience.note(LATE), "that is said once");
        for _ in 0..2 * WINDOW {
            patience.note(PROMPT);
        }
        assert!(patience.is_over());
    }

    #[test]
    fn slow_calls_that_are_far_between_are_forgiven() {
        let patience = Patience::new();
        for call in 0..10 * WINDOW {
            let kept = if call % (WINDOW / 2) == 0 { LATE } else { PROMPT };
            assert!(!patience.note(kept));
        }
        assert!(!patience.is_over());
    }

    #[test]
    fn some_plugins_have_none_from_the_start() {
        assert!(Patience::none().is_over());
    }
}
