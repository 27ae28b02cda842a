//! What is too old goes, or what is too much: found beside the writer, and removed by it in small pieces.
//!
//! Finding reads a lot and changes nothing, so that a reader does it. What it found is looked at again by the writer,
//! within the transaction that removes it: a replay may have come in between. Layer by layer, an event loses its
//! payload, then all but an outline, then its rows with everything that became of it. Where the journal is too large,
//! all ages shrink by the same share until enough has gone, so that whatever is closest to its age goes first. That of
//! dead letters does not: they lie there until somebody has looked.

mod remove;
mod search;

use std::time::Duration;

use rusqlite::{Connection, params};

pub(super) use search::Search;

use crate::journal::Retention;

/// What an event loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Payload,
    Envelope,
    Outcome,
}

/// A piece of work for the writer.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Events that lose a layer, with their ages shrunk to this share.
    Events {
        layer: Layer,
        share: u32,
        events: Vec<Candidate>,
    },
    /// A generation that nothing names any more but its history.
    Rules,
    /// Receipts of steps whose delivery there is not.
    Receipts(Vec<String>),
    /// Pages at the end of the file that hold nothing.
    FreePages,
}

/// An event that may lose a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) seq: i64,
    pub(super) received: i64,
    pub(super) dedup_until: Option<i64>,
}

/// Whether an event may lose a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    /// Its age has not come; unshrunk, it comes at that moment.
    Young {
        /// In milliseconds.
        comes: i64,
    },
    /// At no age: something of it is not settled or holds its line up, or its dedup key holds.
    Needed,
}

/// The ages that hold at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages<'r> {
    pub(super) retention: &'r Retention,
    /// In [`WHOLE`]ths.
    pub(super) share: u32,
    pub(super) now: i64,
    /// Events up to this one have no dedup key that holds, whatever they say: too many came after them.
    pub(super) forgotten: i64,
}

/// A share of all.
pub(super) const WHOLE: u32 = 16;

impl Layer {
    pub(super) const ALL: [Self; 3] = [Self::Payload, Self::Envelope, Self::Outcome];

    fn age(self, retention: &Retention) -> Duration {
        match self {
            Self::Payload => retention.payloads,
            Self::Envelope => retention.events,
            Self::Outcome => retention.outcomes,
        }
    }
}

impl Ages<'_> {
    /// What is of `layer` is kept where something happened after this moment.
    pub(super) fn cutoff(&self, layer: Layer) -> i64 {
        self.back(layer.age(self.retention))
    }

    fn back(&self, age: Duration) -> i64 {
        let age = match self.share {
            WHOLE => millis(age),
            // Divided first: it may be as good as for ever.
            share => millis(age) / i64::from(WHOLE) * i64::from(share),
        };
        self.now.saturating_sub(age)
    }

    /// Whether the event may lose the layer now.
    pub(super) fn judge(
        &self,
        connection: &Connection,
        layer: Layer,
        event: Candidate,
    ) -> rusqlite::Result<Verdict> {
        let holds = event.dedup_until.is_some_and(|until| until > self.now) && event.seq > self.forgotten;
        if layer == Layer::Outcome && holds {
            return Ok(Verdict::Needed);
        }
        let (last, dead): (Option<i64>, Option<bool>) = connection
            .prepare_cached(
                "SELECT max(iif(held = 1, ?2, coalesce(settled, ?2))), max(state = 'dead' AND NOT EXISTS (SELECT 1 FROM delivery AS child \
                 WHERE child.parent = delivery.seq)) \
                 FROM delivery_event JOIN delivery ON delivery.seq = delivery_event.delivery WHERE event = ?1",
            )?
            .query_row(params![event.seq, i64::MAX], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut age = layer.age(self.retention);
        let mut cutoff = self.back(age);
        if dead == Some(true) {
            age = age.max(self.retention.dead_letters);
            cutoff = self.now.saturating_sub(millis(age));
        }
        Ok(match last.unwrap_or(event.received).max(event.received) {
            i64::MAX => Verdict::Needed,
            happened if happened > cutoff => Verdict::Young {
                comes: happened.saturating_add(millis(age)),
            },
            _ => Verdict::Go,
        })
    }
}

fn millis(age: Duration) -> i64 {
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}

/// The newest event whose dedup key is forgotten, as the table of keys could not hold more.
///
/// A block of keys covers as many events as it can; those before the oldest block are in no table.
pub(super) fn forgotten(connection: &Connection) -> rusqlite::Result<i64> {
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(last) FROM dedup_block")?
        .query_row([], |row| row.get(0))?;
    Ok(oldest.map_or(0, |last| last - 2 * super::store::BLOCK_EVENTS))
}

/// A generation whose text nothing needs: neither in force, nor displaced by what is, nor in force within what is
/// kept, nor named by what is not settled.
///
/// Which events name a generation has no index, and needs none: those did that arrived while it was in force, and
/// deliveries go with their events. An hour allows for what was on its way when it changed.
pub(super) const UNNEEDED_RULES: &str = "SELECT seq FROM rules WHERE text <> '' AND stored < ?1 \
     AND seq NOT IN (SELECT rules FROM (SELECT rules, lead(since) OVER (ORDER BY seq) AS until FROM in_force) \
     WHERE until IS NULL OR until >= ?1) \
     AND hash NOT IN (SELECT displaced FROM in_force WHERE displaced IS NOT NULL \
     AND seq = (SELECT max(seq) FROM in_force)) \
     AND seq NOT IN (SELECT rules FROM delivery WHERE due IS NOT NULL UNION \
     SELECT rules FROM delivery WHERE lease IS NOT NULL UNION \
     SELECT rules FROM delivery WHERE order_key IS NOT NULL AND settled IS NULL) LIMIT 1";

/// The moment before which a generation must have gone out of force.
pub(super) fn rules_cutoff(connection: &Connection, ages: &Ages<'_>) -> rusqlite::Result<i64> {
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT received FROM event ORDER BY id LIMIT 1")?
        .query_map([], |row| row.get(0))?
        .next()
        .transpose()?;
    let kept = ages.cutoff(Layer::Outcome);
    Ok(oldest.map_or(kept, |oldest| oldest.min(kept)) - 3_600_000)
}
