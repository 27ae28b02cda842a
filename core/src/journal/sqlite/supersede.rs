//! Newer deliveries take the place of those of their line that wait.
//!
//! What is running stays, and what may have acted; so does what a person asked for again, and what tells of a failure. Which event
//! is the newest is known by arrival, or by `newest`, where the line goes by the time at which events happened.

use std::sync::LazyLock;

use jackfield_event::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{line::Newcomer, row, store::Store};
use crate::{delivery::State, reason::Reason};

impl Store<'_> {
    /// The delivery of a newer event of the line, where this event comes late and that one was not given up.
    pub(super) fn newer(&self, newcomer: &Newcomer<'_>) -> rusqlite::Result<Option<i64>> {
        let Some(time) = newcomer.time else {
            return Ok(None);
        };
        self.cached(&format!(
            "SELECT delivery FROM newest WHERE route = ? AND order_key = ? AND time > ? AND NOT {GIVEN_UP}"
        ))?
        .query_row(params![newcomer.owed.route, newcomer.key, time], |row| row.get(0))
        .optional()
    }

    /// Remembers the event as the newest of its line, where it is.
    pub(super) fn note_newest(&mut self, newcomer: &Newcomer<'_>, delivery: i64) -> rusqlite::Result<()> {
        let (Some(time), true) = (newcomer.time, newcomer.owed.line.supersede) else {
            return Ok(());
        };
        self.cached(&format!(
            "INSERT INTO newest (route, order_key, time, delivery) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (route, order_key) DO UPDATE SET time = ?3, delivery = ?4 WHERE time <= ?3 OR {GIVEN_UP}"
        ))?
        .execute(params![newcomer.owed.route, newcomer.key, time, delivery])?;
        Ok(())
    }

    /// Remembers that a replay stands for what its parent stood for.
    pub(super) fn hand_newest_on(&mut self, parent: i64, replay: i64) -> rusqlite::Result<()> {
        self.cached(
            "UPDATE newest SET delivery = ?2 FROM delivery WHERE delivery.seq = ?1 AND newest.route = delivery.route \
             AND newest.order_key = delivery.order_key AND newest.delivery = ?1",
        )?
        .execute([parent, replay])?;
        Ok(())
    }

    /// Settles what waits in the line and may be replaced: the next delivery to be written takes its place.
    pub(super) fn supersede(&mut self, newcomer: &Newcomer<'_>, now: Timestamp) -> rusqlite::Result<()> {
        let successor = self.marks.delivery + 1;
        self.note_newest(newcomer, successor)?;
        let (route, key) = (newcomer.owed.route.as_str(), newcomer.key);
        let waiting = self.replaceable(route, key)?;
        if waiting.is_empty() {
            return Ok(());
        }
        for (seq, state) in waiting {
            self.replace(seq, state, successor, now)?;
        }
        self.advance(route, key)
    }

    /// Settles a delivery that was just given back and now waits, where a newer one came into its line while it was at work, and is
    /// not about to be given up itself. Says whether it did.
    pub(super) fn yield_to_newer(
        &mut self,
        seq: i64,
        route: &str,
        key: &str,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let newer: Option<i64> = self
            .cached(
                "SELECT max(seq) FROM delivery INDEXED BY delivery_replaceable \
                 WHERE route = ? AND order_key = ? AND replaceable = 1 AND settled IS NULL AND seq > ? \
                 AND phase = 'steps' AND (deadline IS NULL OR deadline > ?)",
            )?
            .query_row(params![route, key, seq, now.as_millis()], |row| row.get(0))?;
        let Some(newer) = newer else {
            return Ok(false);
        };
        let waiting = self.replaceable(route, key)?;
        let Some((_, state)) = waiting.into_iter().find(|(waits, _)| *waits == seq) else {
            return Ok(false);
        };
        self.replace(seq, state, newer, now)?;
        self.advance(route, key)?;
        Ok(true)
    }

    /// What waits in a line and may be replaced.
    fn replaceable(&self, route: &str, key: &str) -> rusqlite::Result<Vec<(i64, State)>> {
        self.cached(&REPLACEABLE)?
            .query_map([route, key], |row| Ok((row.get(0)?, row::word_at(row, "state")?)))?
            .collect()
    }

    fn replace(&mut self, seq: i64, state: State, successor: i64, now: Timestamp) -> rusqlite::Result<()> {
        self.cached(
            "UPDATE delivery SET state = 'superseded', settled = ?, successor = ?, due = NULL, closes = NULL, \
             reason = 'superseded', detail = (SELECT 'after step `' || step_id || '`' FROM attempt \
             WHERE delivery = delivery.seq AND phase = 'steps' AND step = delivery.step - 1 \
             AND outcome IN ('done', 'skipped') LIMIT 1) WHERE seq = ?",
        )?
        .execute(params![now.as_millis(), successor, seq])?;
        self.moved(state, State::Superseded);
        Ok(())
    }
}

/// Whether the delivery that had the newest event of a line was given up, for good: one that is dead and holds its line up
/// is yet to be dealt with. One that is gone from the journal was settled long ago.
const GIVEN_UP: &str = "EXISTS (SELECT 1 FROM delivery WHERE seq = newest.delivery AND state IN ('dead', 'canceled') \
     AND held IS NOT 1)";

/// The deliveries of a line that wait and may be replaced, with their states. The last attempt of the present step tells
/// whether it may have acted.
static REPLACEABLE: LazyLock<String> = LazyLock::new(|| {
    let doubtful = Reason::ALL.iter().filter(|reason| reason.leaves_doubt());
    let doubtful: Vec<_> = doubtful.map(|reason| format!("'{reason}'")).collect();
    format!(
        "SELECT seq, state FROM delivery INDEXED BY delivery_replaceable \
         WHERE route = ? AND order_key = ? AND replaceable = 1 AND settled IS NULL \
         AND phase = 'steps' AND state IN ('pending', 'waiting') \
         AND NOT EXISTS (SELECT 1 FROM attempt WHERE delivery = delivery.seq AND attempt.phase = 'steps' \
         AND attempt.step = delivery.step AND attempt = attempts AND attempt > 0 \
         AND (outcome IS NULL OR attempt.reason IN ({})))",
        doubtful.join(", ")
    )
});
