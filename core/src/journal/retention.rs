//! How long a journal keeps what, and what is left of an event afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long what is kept. An age counts from the last thing that happened for an event: its arrival, or the end of
/// the last of its deliveries.
///
/// Whatever it says, nothing of an event goes while one of its deliveries is not settled, and none of its rows while its
/// dedup key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bodies of requests: what replays need.
    pub payloads: Duration,
    /// Events, as far as they are there without their payload. At least as long as `payloads`.
    pub events: Duration,
    /// What became of events: deliveries with their attempts, duplicates, receipts. At least as long as `events`.
    pub outcomes: Duration,
    /// All of it, of events with a dead letter that nobody has replayed, where that is longer; whatever the limits below say.
    pub dead_letters: Duration,
    /// How many events there are at most; of more, the oldest go before their time.
    pub max_events: Option<u64>,
    /// How many bytes the journal takes at most; of more, whatever is closest to its age goes before its time.
    pub max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            // Whoever replays does so within days; a month allows for holidays.
            payloads: 30 * DAY,
            // What rules are planned against and explained by: a quarter.
            events: 90 * DAY,
            // "What happened to it?" is asked for as long as anybody remembers it.
            outcomes: 180 * DAY,
            dead_letters: 180 * DAY,
            max_events: None,
            // Two million events of 3 KB with one delivery each. Room for it is on any disk that a service is given.
            max_bytes: 8 << 30,
        }
    }
}

/// What a step of pruning came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Payloads that are gone.
    pub payloads: u64,
    /// Events of which an outline is left.
    pub events: u64,
    /// Events that are gone with all that became of them.
    pub outcomes: u64,
    /// Whether the next step will find more to do.
    pub more: bool,
    /// The limits are exceeded by what may not go: it is not settled, a dead letter before its time, or its dedup key holds.
    pub exceeded: bool,
}

/// How much of an event is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// All of it.
    #[default]
    Whole,
    /// The event without its payload.
    WithoutPayload,
    /// That it was there: source, type and times.
    Outline,
}

impl Kept {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// What is no longer there, and why; nothing where all is.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::WithoutPayload => {
                Some("its payload is no longer kept (`payloads` in `[retention]` says how long)")
            }
            Self::Outline => Some("the event is no longer kept (`events` in `[retention]` says how long)"),
        }
    }
}

/// How much of the disk a journal takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// Bytes of the database.
    pub database: u64,
    /// Of these, bytes that hold nothing and are used next.
    pub free: u64,
    /// Bytes of its log.
    pub log: u64,
}
