//! Time as an argument: whoever decides by time is given it, so that a test can give another.

use std::fmt;

use jackfield_event::Timestamp;

/// Tells the wall-clock time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
        std::time::SystemTime::now().into()
    }
}
