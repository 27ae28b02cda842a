//! How fast calls may begin.
//!
//! This is a token bucket in the form that needs one number to remember (GCRA): the *pace*, when the call after those that have
//! begun would come if they kept to the rate evenly. A burst lets that many begin ahead of it. All of it is in microseconds
//! since 1970, so that a thousand calls a second can be told apart.

use std::{fmt, num::NonZeroU32, time::Duration};

use crate::document;

/// So many calls in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    calls: NonZeroU32,
    per: Duration,
    burst: NonZeroU32,
}

impl Rate {
    /// `calls` in `per`, evenly, but for `burst` that may begin at once after a rest. `None` where that is less than a
    /// millisecond for a call, or more than a year.
    pub fn new(calls: NonZeroU32, per: Duration, burst: NonZeroU32) -> Option<Self> {
        let rate = Self { calls, per, burst };
        (MILLISECOND..=YEAR).contains(&rate.interval()).then_some(rate)
    }

    /// Reads `10/s`, `100/m`, `1/30s`: a number of calls, and of the time that they take; evenly.
    pub fn parse(text: &str) -> Option<Self> {
        let (calls, per) = text.split_once('/')?;
        let per = match per.starts_with(|c: char| c.is_ascii_digit()) {
            true => document::duration(per)?,
            false => document::duration(&format!("1{per}"))?,
        };
        Self::new(calls.parse().ok()?, per, NonZeroU32::MIN)
    }

    /// The same, but with a burst.
    pub fn with_burst(self, burst: NonZeroU32) -> Self {
        Self { burst, ..self }
    }

    /// From one call to the next, in microseconds.
    pub fn interval(&self) -> i64 {
        let per = i64::try_from(self.per.as_micros()).unwrap_or(i64::MAX);
        per / i64::from(self.calls.get())
    }

    /// From when on the next call may begin.
    pub fn opens(&self, pace: i64) -> i64 {
        pace.saturating_sub(self.ahead())
    }

    /// The pace after a call that begins `now`. One that was told to come at its time and is late by no more than `late`
    /// does not put off those after it: they keep to the times that they were told.
    pub fn begun(&self, pace: i64, now: i64, late: i64) -> i64 {
        pace.max(now - late).saturating_add(self.interval())
    }

    /// How far ahead of the pace a burst may be.
    fn ahead(&self) -> i64 {
        self.interval().saturating_mul(i64::from(self.burst.get()) - 1)
    }

    /// The pace as far as it can be: no call leaves one behind that is further away, but a clock that is set back does.
    pub fn sane(&self, pace: i64, now: i64) -> i64 {
        pace.min(now.saturating_add(self.ahead()).saturating_add(self.interval()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = if self.calls.get() == 1 { "call" } else { "calls" };
        write!(f, "{} {calls} in {:?}", self.calls, self.per)
    }
}

const MILLISECOND: i64 = 1_000;
const YEAR: i64 = 365 * 24 * 3600 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, interval: Option<i64>) {
        assert_eq!(Rate::parse(text).map(|rate| rate.interval()), interval, "{text}");
    }

    #[test]
    fn a_rate_is_a_number_of_calls_and_a_time() {
        check("10/s", Some(100_000));
        check("1/s", Some(1_000_000));
        check("50/m", Some(1_200_000));
        check("1/30s", Some(30_000_000));
        check("3/1d", Some(28_800_000_000));
        check("1000/s", Some(1_000));
        for wrong in [
            "", "10", "/s", "0/s", "10/", "10/x", "-1/s", "1.5/s", "1/0s", "2000/s", "1/400d", "1 / s",
        ] {
            check(wrong, None);
        }
    }

    /// When calls begin that come at these seconds, each waiting for its turn.
    fn begin(rate: Rate, comes: &[i64]) -> Vec<i64> {
        let mut pace = 0;
        let begin = |comes: &i64| {
            let now = (comes * 1_000_000).max(rate.opens(pace));
            pace = rate.begun(pace, now, 0);
            now / 1_000_000
        };
        comes.iter().map(begin).collect()
    }

    #[test]
    fn calls_come_evenly_and_a_burst_ahead() {
        let even = Rate::parse("1/10s").unwrap();
        assert_eq!(begin(even, &[100, 100, 100, 150]), [100, 110, 120, 150]);
        let burst = even.with_burst(3.try_into().unwrap());
        assert_eq!(begin(burst, &[100; 5]), [100, 100, 100, 110, 120]);
        assert_eq!(
            begin(burst, &[100, 100, 100, 115, 115]),
            [100, 100, 100, 115, 120]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_time_has_more_calls_than_the_rate_and_the_burst_allow(
            comes in proptest::collection::vec(1_000i64..1_100, 1..60),
            burst in 1u32..5,
        ) {
            let mut comes = comes;
            comes.sort_unstable();
            let rate = Rate::parse("1/10s").unwrap().with_burst(burst.try_into().unwrap());
            let begun = begin(rate, &comes);
            for (index, first) in begun.iter().enumerate() {
                for time in [10, 50, 200] {
                    let within = begun[index..].iter().filter(|at| **at < first + time).count();
                    proptest::prop_assert!(within <= usize::try_from(time / 10 + i64::from(burst) - 1).unwrap());
                }
            }
        }
    }

    #[test]
    fn one_that_is_a_little_late_does_not_put_off_the_others() {
        let rate = Rate::parse("1/s").unwrap();
        let pace = rate.begun(0, 5_000_000, 0);
        assert_eq!(pace, 6_000_000);
        assert_eq!(rate.begun(pace, 6_020_000, 100_000), 7_000_000);
        assert_eq!(rate.begun(pace, 9_000_000, 100_000), 9_900_000);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_close_it_for_longer_than_a_burst() {
        let rate = Rate::parse("1/s").unwrap();
        let pace = rate.sane(rate.begun(0, 3_600_000_000, 0), 5_000_000);
        assert_eq!(rate.opens(pace), 6_000_000);
    }
}
