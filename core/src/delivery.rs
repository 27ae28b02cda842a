//! The words of a delivery: its states, its phases, how attempts end and when they are made again, and how
//! deliveries of one order key stand to one another.

mod line;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use line::{Coalesce, Keep, Line, NewestBy, OnStuck};

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Owed, and nobody works at it. → running, superseded, canceled
    Pending,
    /// Claimed by an owner. → pending, waiting, succeeded, dead, superseded, canceled
    Running,
    /// Backing off, gathering, or waiting for what it needs, until it is due. → pending, running, superseded, canceled
    Waiting,
    /// Every step is done or skipped. Final.
    Succeeded,
    /// Given up, with the reason; its `on_failure` steps have settled. Final.
    Dead,
    /// A newer delivery of its route and key took its place. Final.
    Superseded,
    /// A person gave it up. Final.
    Canceled,
}

impl State {
    /// The word as it is spelled everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Superseded => "superseded",
            Self::Canceled => "canceled",
        }
    }

    /// Whether nothing more will happen to the delivery.
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Waiting => false,
            Self::Succeeded | Self::Dead | Self::Superseded | Self::Canceled => true,
        }
    }
}

/// Which of a route's two lists of steps a delivery is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The route's `step`s.
    #[default]
    Steps,
    /// The route's `on_failure` steps, once the delivery is given up.
    OnFailure,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It happened.
    Done,
    /// There was nothing to do.
    Skipped,
    /// It did not happen; a later attempt may succeed.
    Retry,
    /// It did not happen and will not.
    Fatal,
    /// It may have happened, and nothing can tell.
    Ambiguous,
}

impl Outcome {
    /// The word as it is spelled everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Retry => "retry",
            Self::Fatal => "fatal",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// How often a step is tried, and how long it rests between attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How many attempts there are in all.
    pub attempts: std::num::NonZeroU32,
    /// How the rests grow.
    pub backoff: Backoff,
    /// The longest first rest.
    pub first: Duration,
    /// The longest rest of all.
    pub max: Duration,
}

/// How the rests between attempts grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Each rest may be twice as long as the one before.
    Exponential,
    /// All rests may be as long as the first.
    Fixed,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: std::num::NonZeroU32::new(8).expect("8 is not zero"),
            backoff: Backoff::Exponential,
            first: Duration::from_secs(2),
            max: Duration::from_secs(600),
        }
    }
}

impl RetryPolicy {
    /// How long to rest after attempt number `attempt` (from 1) failed, or `None` where it was the last.
    ///
    /// Full jitter: `random` in `0.0..1.0` picks a point between nothing and the longest rest, so that
    /// deliveries that failed together do not come back together. What the plugin asked for (`asked`, its
    /// `Retry-After`) is a floor under that, even above `max`, as far as [`LONGEST_PAUSE`].
    pub fn after(&self, attempt: u32, random: f64, asked: Option<Duration>) -> Option<Duration> {
        if attempt >= self.attempts.get() {
            return None;
        }
        let doublings = match self.backoff {
            Backoff::Exponential => attempt.saturating_sub(1).min(31),
            Backoff::Fixed => 0,
        };
        let longest = self.first.saturating_mul(1 << doublings).min(self.max);
        let asked = asked.unwrap_or_default().min(self.max.max(LONGEST_PAUSE));
        Some(longest.mul_f64(random.clamp(0.0, 1.0)).max(asked))
    }
}

/// The longest rest that anybody may ask for. Whoever needs a longer one asks again then; and a mistake, or a stranger who
/// answers a plugin, puts nothing to sleep for days.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff) -> RetryPolicy {
        RetryPolicy {
            attempts: 5.try_into().unwrap(),
            backoff,
            first: Duration::from_secs(2),
            max: Duration::from_secs(10),
        }
    }

    #[track_caller]
    fn check(backoff: Backoff, expected: [Option<u64>; 6]) {
        let longest = |attempt| {
            policy(backoff)
                .after(attempt, 1.0, None)
                .map(|rest| rest.as_secs())
        };
        assert_eq!([1, 2, 3, 4, 5, 6].map(longest), expected);
    }

    #[test]
    fn rests_grow_to_the_maximum_and_end_with_the_attempts() {
        check(
            Backoff::Exponential,
            [Some(2), Some(4), Some(8), Some(10), None, None],
        );
        check(Backoff::Fixed, [Some(2), Some(2), Some(2), Some(2), None, None]);
    }

    #[test]
    fn a_rest_is_any_part_of_the_longest() {
        let rest = |random| policy(Backoff::Exponential).after(3, random, None);
        let expected = [0, 4, 8].map(|seconds| Some(Duration::from_secs(seconds)));
        assert_eq!([0.0, 0.5, 1.0].map(rest), expected);
    }

    #[test]
    fn a_plugin_that_asks_for_a_longer_rest_gets_it() {
        let asked = Some(Duration::from_secs(60));
        assert_eq!(policy(Backoff::Exponential).after(1, 0.5, asked), asked);
        assert_eq!(policy(Backoff::Exponential).after(5, 0.5, asked), None);
    }

    #[test]
    fn a_rest_that_is_asked_for_has_an_end() {
        let century = Some(Duration::from_secs(3_155_760_000));
        let mut policy = policy(Backoff::Exponential);
        assert_eq!(policy.after(1, 0.5, century), Some(LONGEST_PAUSE));
        // A policy that rests for longer of its own accord bears as much from others.
        policy.max = 3 * LONGEST_PAUSE;
        assert_eq!(policy.after(1, 0.5, century), Some(policy.max));
    }

    proptest::proptest! {
        #[test]
        fn a_rest_is_never_longer_than_the_maximum(attempt in 1u32.., random in 0.0f64..1.0) {
            if let Some(rest) = policy(Backoff::Exponential).after(attempt, random, None) {
                proptest::prop_assert!(rest <= Duration::from_secs(10));
            }
        }
    }
}
