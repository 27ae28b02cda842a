//! How far the writer is behind: anybody may ask, and nobody waits for the answer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Since when the oldest job of the writer's present round has been waiting.
#[derive(Debug)]
pub(super) struct Lag {
    epoch: Instant,
    /// In milliseconds after the epoch, and one more; 0 while the writer rests.
    since: AtomicU64,
}

impl Lag {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            since: AtomicU64::new(0),
        }
    }

    /// A round begins, whose oldest job has been waiting since `asked`.
    pub(super) fn begin(&self, asked: Instant) {
        let since = asked.saturating_duration_since(self.epoch).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX - 1);
        self.since.store(since + 1, Ordering::Relaxed);
    }

    /// The round has ended.
    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// How long that job has been waiting; nothing while the writer rests.
    pub(super) fn length(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self
                .epoch
                .elapsed()
                .saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_the_oldest_job_and_none_while_the_writer_rests() {
        let lag = Lag::new();
        assert_eq!(lag.length(), Duration::ZERO);
        lag.begin(Instant::now());
        assert!(lag.length() < Duration::from_secs(60));
        let lag = Lag {
            epoch: Instant::now() - Duration::from_secs(100),
            ..lag
        };
        lag.begin(Instant::now() - Duration::from_secs(90));
        assert!(lag.length() >= Duration::from_secs(90));
        lag.end();
        assert_eq!(lag.length(), Duration::ZERO);
    }
}
