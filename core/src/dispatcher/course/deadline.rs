//! Until when a delivery is of use: after its deadline, nothing of its steps is begun.
//!
//! The steps of `on_failure` have none: they tell of it.

use std::time::Duration;

use jackfield_event::Timestamp;

use super::{Course, ready::NotReady};
use crate::{delivery::Phase, reason::Reason};

impl Course<'_> {
    /// When nothing is begun any more, in this phase.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.claim.deadline.filter(|_| self.claim.phase == Phase::Steps)
    }

    /// How long a call may take for its sake. By a clock that is not set: what is begun is not cut short by a jump.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline()
            .map(|deadline| deadline.saturating_since(self.shared.clock.now()))
    }

    /// Waits until it is too late; for ever, where it is never.
    pub(super) async fn overdue(&self) {
        match self.time_left() {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    }

    /// Whether something may still be begun, or the end of the delivery in words.
    pub(super) fn in_time(&self) -> Result<(), NotReady> {
        match self.deadline() {
            Some(deadline) if self.shared.clock.now() >= deadline => {
                let waited = match (&self.claim.waited_for, self.claim.stalled_since) {
                    (Some(detail), Some(since)) => format!("; waiting since {since}: {detail}"),
                    (Some(detail), None) => format!("; {detail}"),
                    (None, _) => String::new(),
                };
                let error = format!("the deadline {deadline} has passed{waited}");
                Err(NotReady::Fail(Reason::DeadlinePassed, error))
            }
            Some(_) | None => Ok(()),
        }
    }
}
