//! How deliveries of one route and one order key stand to one another: they form a line.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

/// What a route says of the deliveries in one of its lines. The default: each is carried out, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Whether a newer one takes the place of those that wait.
    pub supersede: bool,
    /// Which of two is the newer.
    pub newest_by: NewestBy,
    /// How events that come close together become one delivery.
    pub coalesce: Option<Coalesce>,
    /// What becomes of the line when its first is dead.
    pub on_stuck: OnStuck,
}

/// Which of two events is the newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewestBy {
    /// The one that arrived later.
    #[default]
    Arrival,
    /// The one that happened later, as the event's `time` says; of those of one time, the one that arrived later.
    Time,
}

/// What becomes of a line when its first delivery is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStuck {
    /// The next one goes on.
    #[default]
    GoOn,
    /// All wait until a person skips the dead one, or its replay succeeds.
    Hold,
}

/// How a burst of events becomes one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesce {
    /// The burst is over when for so long no event came.
    pub window: Duration,
    /// The burst is over so long after its first event at the latest.
    pub max_wait: Duration,
    /// The burst is over when it has so many events.
    pub max_items: NonZeroU32,
    /// What the steps see of it.
    pub keep: Keep,
}

/// What the steps of a delivery see of a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The newest event alone.
    #[default]
    Newest,
    /// All of them, the newest last.
    All,
}

impl Line {
    /// Whether there is anything about it that only deliveries with an order key can have.
    pub const fn needs_key(&self) -> bool {
        self.supersede || self.coalesce.is_some()
    }
}

impl NewestBy {
    /// The word as it is spelled everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Time => "time",
        }
    }
}

impl OnStuck {
    /// The word as it is spelled everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::GoOn => "go-on",
            Self::Hold => "hold",
        }
    }
}

impl Keep {
    /// The word as it is spelled everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::All => "all",
        }
    }
}

impl Coalesce {
    /// How many events a burst has at most, where nothing is said.
    pub const DEFAULT_ITEMS: NonZeroU32 = NonZeroU32::new(100).expect("100 is not zero");
    /// How many it may be given: a delivery's events are read into memory together.
    pub const MOST_ITEMS: u32 = 1000;
    /// How many windows a burst lasts at the longest, where nothing is said.
    pub const DEFAULT_WINDOWS: u32 = 10;
    /// The longest that an event may be kept waiting for others.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
}
