//! A bound on log lines: one for each decision, until there are too many to read.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use jackfield_event::Timestamp;

/// Lets so many lines of a second pass and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Pace {
    second: AtomicI64,
    passed: AtomicU64,
    held_back: AtomicU64,
}

impl Pace {
    /// Whether a line may be written now, and how many were held back before it.
    pub(super) fn pass(&self, now: Timestamp) -> Option<u64> {
        let second = now.as_secs();
        if self.second.load(Relaxed) != second && self.second.swap(second, Relaxed) != second {
            self.passed.store(0, Relaxed);
        }
        if self.passed.fetch_add(1, Relaxed) < LINES_PER_SECOND {
            return Some(self.held_back.swap(0, Relaxed));
        }
        self.held_back.fetch_add(1, Relaxed);
        None
    }
}

/// More than a person reads, and little enough to cost nothing beside the requests themselves.
const LINES_PER_SECOND: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_back_is_told_with_the_next_line() {
        let pace = Pace::default();
        let at = |second| Timestamp::from_secs(second).unwrap();
        let passed = (0..80).filter(|_| pace.pass(at(7)) == Some(0)).count();
        assert_eq!(passed, 50);
        assert_eq!(pace.pass(at(7)), None);
        assert_eq!(pace.pass(at(8)), Some(31));
        assert_eq!(pace.pass(at(8)), Some(0));
    }
}
