//! Until when a delivery is of any use.

use std::{fmt, str::FromStr, time::Duration};

use jackfield_event::Timestamp;

use crate::document;

/// When nothing new is begun any more of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At this moment, as with a link that expires then.
    At(Timestamp),
    /// So long after it came to be owed.
    After(Duration),
}

/// The text is neither a moment nor a time.
#[derive(Debug, thiserror::Error)]
#[error(
    "found \"{0}\", expected an RFC 3339 time such as 2026-01-01T00:00:00Z, a time after the arrival such as 24h, or nothing"
)]
pub struct NoDeadline(String);

impl Deadline {
    /// The moment, for a delivery that came to be owed at `owed`.
    pub fn of(self, owed: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::After(time) => owed.saturating_add(time),
        }
    }
}

impl FromStr for Deadline {
    type Err = NoDeadline;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let after = document::duration(text).map(Self::After);
        let at = || text.parse().ok().map(Self::At);
        after
            .or_else(at)
            .ok_or_else(|| NoDeadline(text.chars().take(SHOWN).collect()))
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(moment) => moment.fmt(f),
            Self::After(time) => write!(f, "{time:?} after the arrival"),
        }
    }
}

/// How much is shown of what is none: an event may say anything.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_moment_or_a_time_after_the_arrival() {
        let owed: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let of = |text: &str| {
            text.parse::<Deadline>()
                .map(|deadline| deadline.of(owed).to_string())
        };
        assert_eq!(of("2026-01-02T03:04:05+01:00").unwrap(), "2026-01-02T02:04:05Z");
        assert_eq!(of(" 24h ").unwrap(), "2026-01-02T00:00:00Z");
        for wrong in ["soon", "", "24", "2026-01-02", "1767225600"] {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("found \"{wrong}\"")), "{error}");
        }
    }
}
