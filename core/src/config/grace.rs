//! How long stopping may take, and which part of it is whose.

use std::time::Duration;

/// How long stopping may take in all, shared out in the order of the flow.
///
/// Requests and attempts have a time of their own, so that neither takes that of whoever comes after them. What they leave is
/// there for the plugins, and what these leave is there for the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(Duration);

impl Grace {
    /// So much in all.
    pub fn new(whole: Duration) -> Self {
        Self(whole)
    }

    /// How long requests in flight may take: they are answered in moments.
    pub fn requests(self) -> Duration {
        self.twentieths(3)
    }

    /// How long running attempts may take, those included that are cancelled in the end.
    pub fn attempts(self) -> Duration {
        self.twentieths(10)
    }

    /// After how long what came in is on disk, or not waited for.
    pub fn until_synced(self) -> Duration {
        self.twentieths(4)
    }

    /// After how long attempts have ended, or are not waited for.
    pub fn until_attempts_ended(self) -> Duration {
        self.twentieths(15)
    }

    /// After how long plugins have ended, or are not waited for.
    pub fn until_plugins_ended(self) -> Duration {
        self.twentieths(18)
    }

    /// After how long the admin side has ended, or is not waited for.
    pub fn until_admin_ended(self) -> Duration {
        self.twentieths(19)
    }

    /// After how long all has ended, and the journal is closed.
    pub fn whole(self) -> Duration {
        self.0
    }

    fn twentieths(self, count: u32) -> Duration {
        self.0 / 20 * count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each part ends before it is no longer waited for, also where everything before it took as long as it may.
    #[test]
    fn all_of_a_stop_is_within_the_grace() {
        for seconds in [1, 25, 30, 3_600] {
            let grace = Grace::new(Duration::from_secs(seconds));
            let moments = [
                grace.requests(),
                grace.until_synced(),
                grace.until_synced() + grace.attempts(),
                grace.until_attempts_ended(),
                grace.until_plugins_ended(),
                grace.until_admin_ended(),
                grace.whole(),
            ];
            assert!(moments.is_sorted_by(|one, next| one < next), "{moments:?}");
            assert_eq!(grace.whole(), Duration::from_secs(seconds));
        }
    }
}
