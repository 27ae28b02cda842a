//! The router's wall clock, which is set from outside; and what may have been told by it when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jackfield_stage::disk::Faults;
use tokio::time::Instant;

/// Sets it, and remembers when it was set.
#[derive(Debug)]
pub(crate) struct Clock {
    faults: Faults,
    history: Settings,
}

/// How the clock was set, over all of a run. Milliseconds are those by which it is ahead.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A moment, and what the machine's own clock said then, in milliseconds since 1970.
    began: (Instant, i64),
    set: Vec<Setting>,
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    /// It came about between these.
    from: Instant,
    to: Instant,
    ahead: i64,
}

impl Clock {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            faults,
            history: Settings::never(),
        }
    }

    pub(crate) fn ahead(&self) -> i64 {
        self.history.set.last().map_or(0, |setting| setting.ahead)
    }

    pub(crate) fn set(&mut self, ahead: i64) -> anyhow::Result<()> {
        let from = Instant::now();
        self.faults.shift_clock(ahead)?;
        let to = Instant::now();
        self.history.set.push(Setting { from, to, ahead });
        Ok(())
    }

    pub(crate) fn into_settings(self) -> Settings {
        self.history
    }
}

impl Settings {
    /// It goes as the machine's own clock does, from now on.
    pub(crate) fn never() -> Self {
        let now = Instant::now();
        #[expect(
            clippy::disallowed_methods,
            reason = "what the router's clock is held against"
        )]
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = Setting {
            from: now,
            to: now,
            ahead: 0,
        };
        Self {
            began: (now, millis(wall)),
            set: vec![first],
        }
    }

    /// How often it was set between two moments.
    pub(crate) fn count(&self, from: Instant, to: Instant) -> usize {
        let set = self.set.iter().skip(1);
        set.filter(|setting| setting.to >= from && setting.from <= to)
            .count()
    }

    /// How far it was ahead between two moments: at least, and at most.
    fn range(&self, from: Instant, to: Instant) -> (i64, i64) {
        let over = self
            .set
            .iter()
            .rposition(|setting| setting.to <= from)
            .unwrap_or(0);
        let held = self.set[over..].iter().filter(|setting| setting.from <= to);
        held.fold((i64::MAX, i64::MIN), |(least, most), setting| {
            (least.min(setting.ahead), most.max(setting.ahead))
        })
    }

    /// Whether by this clock so much time may have passed between a moment of the first stretch and one of the second.
    pub(crate) fn may_have_passed(
        &self,
        time: Duration,
        (first, last): (Instant, Instant),
        until: Instant,
    ) -> bool {
        let (least, _) = self.range(first, last);
        let (_, most) = self.range(first, until);
        most - least + millis(until - first) >= millis(time)
    }

    /// The earliest that it may have said between two moments, in milliseconds since 1970.
    pub(crate) fn earliest(&self, from: Instant, to: Instant) -> i64 {
        let (began, wall) = self.began;
        wall + millis(from.saturating_duration_since(began)) + self.range(from, to).0
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
impl Settings {
    /// It leaps by so much, at any moment of a test.
    pub(crate) fn leaping(by: Duration) -> Self {
        let mut settings = Self::never();
        let (from, to) = (settings.began.0, settings.began.0 + Duration::from_secs(3600));
        settings.set.push(Setting {
            from,
            to,
            ahead: millis(by),
        });
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// A clock that was set by so much after so many seconds.
    fn settings(set: &[(u64, i64)]) -> (Settings, impl Fn(u64) -> Instant) {
        let began = Instant::now();
        let at = move |seconds| began + Duration::from_secs(seconds);
        let first = std::iter::once(&(0, 0));
        let set = first.chain(set).map(|(seconds, ahead)| Setting {
            from: at(*seconds),
            to: at(*seconds),
            ahead: *ahead,
        });
        let settings = Settings {
            began: (began, 1_000_000),
            set: set.collect(),
        };
        (settings, at)
    }

    #[test]
    fn a_time_may_have_passed_where_the_clock_leapt_or_as_long_was_waited() {
        let (settings, at) = settings(&[(10, HOUR), (20, 0)]);
        let passed = |first, last, until| {
            settings.may_have_passed(Duration::from_secs(600), (at(first), at(last)), at(until))
        };
        assert!(passed(5, 6, 12));
        assert!(passed(5, 6, 700));
        assert!(!passed(5, 6, 9));
        assert!(!passed(12, 13, 30), "it was set back");
        assert!(passed(8, 12, 15), "it may have been told before the leap");
    }

    #[test]
    fn the_earliest_that_it_may_have_said_is_before_a_leap_forward_and_after_one_back() {
        let (settings, at) = settings(&[(10, HOUR), (20, 0)]);
        assert_eq!(settings.earliest(at(9), at(12)), 1_009_000);
        assert_eq!(settings.earliest(at(11), at(12)), 1_011_000 + HOUR);
        assert_eq!(settings.earliest(at(11), at(22)), 1_011_000);
        assert_eq!(settings.count(at(11), at(22)), 1);
    }
}
