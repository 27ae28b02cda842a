//! Time as an argument: whoever decides by time is given it, so that a test can give another.

use std::{fmt, ops::RangeInclusive, time::Duration};

use jackfield_event::Timestamp;

/// Tells the wall-clock time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// How long it has been since some moment, by a clock that nobody sets: what two readings differ by has passed.
    fn steady(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now().as_millis()).unwrap_or(0))
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
        std::time::SystemTime::now().into()
    }

    fn steady(&self) -> Duration {
        // It goes on while the machine sleeps, as the wall clock does.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::try_from(now).unwrap_or_default()
    }
}

/// How far a clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// Later than it would be.
    Forward(Duration),
    /// Earlier.
    Back(Duration),
}

impl Jump {
    /// The same as a difference in milliseconds.
    pub fn as_millis(self) -> i64 {
        let millis = |by: Duration| i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        match self {
            Self::Forward(by) => millis(by),
            Self::Back(by) => -millis(by),
        }
    }
}

/// Notices that a clock was set.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    wall: Timestamp,
    steady: Duration,
}

impl Watch {
    /// Begins to watch.
    pub fn begin(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            steady: clock.steady(),
        }
    }

    /// The moments that have passed since an earlier look, as the clock tells them that shows what this look saw.
    pub fn stretch_since(&self, last: &Self) -> RangeInclusive<Timestamp> {
        let passed = self.steady.saturating_sub(last.steady);
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let began = self.wall.as_millis().saturating_sub(passed);
        Timestamp::from_millis(began).unwrap_or(self.wall)..=self.wall
    }

    /// How far the clock was set since the last look; nothing where it went as it should, but for a little.
    pub fn look(&mut self, clock: &dyn Clock) -> Option<Jump> {
        let last = std::mem::replace(self, Self::begin(clock));
        let expected = last.wall.saturating_add(self.steady.saturating_sub(last.steady));
        let jump = match self.wall >= expected {
            true => Jump::Forward(self.wall.saturating_since(expected)),
            false => Jump::Back(expected.saturating_since(self.wall)),
        };
        Some(jump).filter(|jump| jump.as_millis().unsigned_abs() >= NOTICED)
    }
}

/// In milliseconds. Less is how clocks are put right by and by, and what lies between two readings.
const NOTICED: u64 = 2_000;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Set(Mutex<(i64, u64)>);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.lock().unwrap().0).unwrap()
        }

        fn steady(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().1)
        }
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once_and_one_that_goes_is_not() {
        let clock = Set(Mutex::new((1_000_000, 50)));
        let mut watch = Watch::begin(&clock);
        for (wall, steady, jump) in [
            (1_010_000, 10_050, None),
            (1_010_500, 10_050, None),
            (1_070_500, 10_050, Some(Jump::Forward(Duration::from_secs(60)))),
            (1_071_500, 11_050, None),
            (71_500, 12_050, Some(Jump::Back(Duration::from_millis(1_001_000)))),
            (72_500, 13_050, None),
        ] {
            *clock.0.lock().unwrap() = (wall, steady);
            assert_eq!(watch.look(&clock), jump, "{wall}");
        }
    }

    #[test]
    fn what_passed_since_the_last_look_is_told_by_the_clock_as_it_is_now() {
        let clock = Set(Mutex::new((1_000_000, 50)));
        let (last, mut watch) = (Watch::begin(&clock), Watch::begin(&clock));
        // It went on for ten seconds, in the midst of which it was set back.
        *clock.0.lock().unwrap() = (400_000, 10_050);
        watch.look(&clock);
        let stretch = watch.stretch_since(&last);
        assert_eq!(
            (stretch.start().as_millis(), stretch.end().as_millis()),
            (390_000, 400_000)
        );
    }

    #[test]
    fn the_clock_of_the_machine_goes_as_it_should() {
        let mut watch = Watch::begin(&SystemClock);
        assert_eq!(watch.look(&SystemClock), None);
        assert!(SystemClock.steady() > Duration::ZERO);
    }
}
