//! Lines: the deliveries of one route and order key. They come one after the other, and as the route has it, events
//! that come close together gather in one, and a newer one takes the place of those that wait.
//!
//! At most one delivery of a line is at its head (`delivery_head`): running, backing off, due, or dead and holding the others up.
//! Only one whose deadline has passed is claimed beside it, to be given up. What is behind it is *blocked*, pending without a `due`, and in no queue. One that gathers is not in the line's way: it is in its
//! instance's queue until its burst is over, and finds its place then.

use jackfield_event::{DeliveryId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{
    append::{Beginning, Origin},
    job::Fault,
    row,
    store::Store,
};
use crate::{
    delivery::{Coalesce, Keep, NewestBy, State},
    journal::JournalError,
    router::Owed,
};

/// An event that comes to a line.
struct Newcomer<'a> {
    owed: &'a Owed,
    key: &'a str,
    event: i64,
    /// When it happened, where the line goes by that.
    time: Option<i64>,
}

impl Store<'_> {
    /// Writes what a route owes for an event that just arrived: a delivery of its own, or a place in one that gathers.
    pub(super) fn owe_arrival(
        &mut self,
        owed: &Owed,
        event: i64,
        time: Timestamp,
        origin: &Origin<'_>,
    ) -> rusqlite::Result<DeliveryId> {
        let key = match &owed.order {
            Ok(Some(key)) if owed.line.needs_key() && owed.deadline.is_ok() => key,
            Ok(_) | Err(_) => return self.owe(owed, &[event], origin),
        };
        let newcomer = Newcomer {
            owed,
            key,
            event,
            time: (owed.line.newest_by == NewestBy::Time).then(|| time.as_millis()),
        };
        if let Some(coalesce) = &owed.line.coalesce
            && let Some(delivery) = self.gather(&newcomer, coalesce, origin)?
        {
            return Ok(delivery);
        }
        let events = [(event, newcomer.time)];
        let newer = match owed.line.supersede {
            true => self.newer(&newcomer)?,
            false => None,
        };
        if let Some(newer) = newer {
            return self.insert_delivery(owed, &events, origin, Beginning::Superseded { by: newer });
        }
        if owed.line.supersede {
            self.supersede(&newcomer, origin.created)?;
        }
        let beginning = match &owed.line.coalesce {
            Some(coalesce) => Beginning::Gathering {
                due: origin.created.saturating_add(coalesce.window),
                closes: origin.created.saturating_add(coalesce.max_wait),
                keep: coalesce.keep,
            },
            None => self.turn(&owed.route, key)?,
        };
        self.insert_delivery(owed, &events, origin, beginning)
    }

    /// Adds the event to the delivery of its line that gathers, where one does under the same rules.
    fn gather(
        &mut self,
        newcomer: &Newcomer<'_>,
        coalesce: &Coalesce,
        origin: &Origin<'_>,
    ) -> rusqlite::Result<Option<DeliveryId>> {
        let gathering: Option<(i64, String, i64)> = self
            .cached(
                "SELECT seq, id, closes FROM delivery INDEXED BY delivery_gathering \
                 WHERE route = ? AND order_key = ? AND closes IS NOT NULL AND rules = ? ORDER BY seq DESC LIMIT 1",
            )?
            .query_row(params![newcomer.owed.route, newcomer.key, origin.rules], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((seq, id, closes)) = gathering else {
            return Ok(None);
        };
        // A clock that was set back, or a dispatcher that is late: what is over takes nobody in.
        if closes <= origin.created.as_millis() {
            self.close_burst(seq)?;
            return Ok(None);
        }
        self.insert
            .delivery_event
            .execute(params![seq, newcomer.event, newcomer.time])?;
        self.note_newest(newcomer, seq)?;
        self.adopt_deadline(newcomer, coalesce, seq, origin)?;
        let gathered: i64 = self
            .cached("SELECT count(*) FROM delivery_event WHERE delivery = ?")?
            .query_row([seq], |row| row.get(0))?;
        if gathered >= i64::from(coalesce.max_items.get()) {
            self.close_burst(seq)?;
        } else {
            let due = origin.created.saturating_add(coalesce.window).as_millis();
            self.cached("UPDATE delivery SET due = min(?, closes) WHERE seq = ?")?
                .execute(params![due, seq])?;
        }
        Ok(Some(row::id(&id)?))
    }

    /// The deadline of a burst is that of the event that its steps see; of all of them, the first.
    fn adopt_deadline(
        &mut self,
        newcomer: &Newcomer<'_>,
        coalesce: &Coalesce,
        seq: i64,
        origin: &Origin<'_>,
    ) -> rusqlite::Result<()> {
        let deadline = newcomer.owed.deadline.as_ref().ok().copied().flatten();
        let deadline = deadline.map(|deadline| deadline.of(origin.created).as_millis());
        match (coalesce.keep, deadline) {
            (Keep::Newest, _) => self
                .cached(
                    "UPDATE delivery SET deadline = ?1 WHERE seq = ?2 AND (?3 IS NULL \
                     OR ?3 = (SELECT max(time) FROM delivery_event WHERE delivery = ?2))",
                )?
                .execute(params![deadline, seq, newcomer.time])?,
            (Keep::All, Some(deadline)) => self
                .cached("UPDATE delivery SET deadline = min(coalesce(deadline, ?1), ?1) WHERE seq = ?2")?
                .execute([deadline, seq])?,
            (Keep::All, None) => 0,
        };
        Ok(())
    }

    /// Ends a burst: its delivery is due at once, or behind what is there of its line.
    pub(super) fn close_burst(&mut self, seq: i64) -> rusqlite::Result<()> {
        let (route, key): (String, String) = self
            .cached("SELECT route, order_key FROM delivery WHERE seq = ?")?
            .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let older: bool = self
            .cached(
                "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_key \
                 WHERE route = ? AND order_key = ? AND (settled IS NULL OR held = 1) AND seq < ?)",
            )?
            .query_row(params![route, key, seq], |row| row.get(0))?;
        let waits = older || self.is_headed_beside(&route, &key, seq)?;
        self.cached(
            "UPDATE delivery SET state = 'pending', due = iif(?, NULL, 0), closes = NULL, reason = NULL WHERE seq = ?",
        )?
        .execute(params![waits, seq])?;
        self.moved(State::Waiting, State::Pending);
        self.wake |= !waits;
        Ok(())
    }

    /// The delivery of a newer event of the line, where there is one that is not dead and this event comes late.
    fn newer(&self, newcomer: &Newcomer<'_>) -> rusqlite::Result<Option<i64>> {
        let Some(time) = newcomer.time else {
            return Ok(None);
        };
        // One that is gone from the journal was settled long ago, and what is newest is remembered for it.
        self.cached(
            "SELECT newest.delivery FROM newest LEFT JOIN delivery ON delivery.seq = newest.delivery \
             WHERE newest.route = ? AND newest.order_key = ? AND newest.time > ? \
             AND coalesce(delivery.state, 'succeeded') NOT IN ('dead', 'canceled')",
        )?
        .query_row(params![newcomer.owed.route, newcomer.key, time], |row| row.get(0))
        .optional()
    }

    /// Remembers the event as the newest of its line, where it is.
    fn note_newest(&mut self, newcomer: &Newcomer<'_>, delivery: i64) -> rusqlite::Result<()> {
        let (Some(time), true) = (newcomer.time, newcomer.owed.line.supersede) else {
            return Ok(());
        };
        self.cached(
            "INSERT INTO newest (route, order_key, time, delivery) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (route, order_key) DO UPDATE SET time = ?3, delivery = ?4 WHERE time <= ?3 \
             OR (SELECT state FROM delivery WHERE seq = newest.delivery) IN ('dead', 'canceled')",
        )?
        .execute(params![newcomer.owed.route, newcomer.key, time, delivery])?;
        Ok(())
    }

    /// Settles what waits in the line and may be replaced: the next delivery to be written takes its place. What is running
    /// stays, and what was interrupted, since it may have acted; so does what a person asked for again, and what is told of
    /// a failure.
    fn supersede(&mut self, newcomer: &Newcomer<'_>, now: Timestamp) -> rusqlite::Result<()> {
        let successor = self.marks.delivery + 1;
        self.note_newest(newcomer, successor)?;
        let (route, key) = (newcomer.owed.route.as_str(), newcomer.key);
        let waiting: Vec<(i64, String)> = self
            .cached(
                "SELECT seq, state FROM delivery INDEXED BY delivery_key \
                 WHERE route = ? AND order_key = ? AND (settled IS NULL OR held = 1) AND settled IS NULL \
                 AND replaceable = 1 AND phase = 'steps' AND state IN ('pending', 'waiting') \
                 AND reason IS NOT 'interrupted'",
            )?
            .query_map([route, key], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if waiting.is_empty() {
            return Ok(());
        }
        for (seq, state) in waiting {
            self.cached(
                "UPDATE delivery SET state = 'superseded', settled = ?, successor = ?, due = NULL, closes = NULL, \
                 reason = 'superseded', detail = (SELECT 'after step `' || step_id || '`' FROM attempt \
                 WHERE delivery = delivery.seq AND phase = 'steps' AND step = delivery.step - 1 \
                 AND outcome IN ('done', 'skipped') LIMIT 1) WHERE seq = ?",
            )?
            .execute(params![now.as_millis(), successor, seq])?;
            self.moved(row::word(&state)?, State::Superseded);
        }
        self.advance(route, key)
    }

    /// How a delivery begins that comes to this line now: due at once, or behind what is there.
    pub(super) fn turn(&self, route: &str, key: &str) -> rusqlite::Result<Beginning> {
        let taken: bool = self
            .cached(
                "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_key \
                 WHERE route = ? AND order_key = ? AND (settled IS NULL OR held = 1))",
            )?
            .query_row([route, key], |row| row.get(0))?;
        Ok(match taken {
            true => Beginning::Blocked,
            false => Beginning::Due,
        })
    }

    /// Lets the next of a line go, where nothing is at its head.
    pub(super) fn advance(&mut self, route: &str, key: &str) -> rusqlite::Result<()> {
        if self.is_headed_beside(route, key, NOBODY)? {
            return Ok(());
        }
        let freed = self
            .cached(
                "UPDATE delivery SET due = 0 WHERE state = 'pending' AND seq = (SELECT seq FROM delivery \
                 INDEXED BY delivery_key WHERE route = ? AND order_key = ? AND (settled IS NULL OR held = 1) \
                 ORDER BY seq LIMIT 1)",
            )?
            .execute([route, key])?;
        self.wake |= freed > 0;
        Ok(())
    }

    /// Whether another delivery than this one is at the head of a line.
    pub(super) fn is_headed_beside(&self, route: &str, key: &str, seq: i64) -> rusqlite::Result<bool> {
        self.cached(
            "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_head WHERE route = ? AND order_key = ? \
             AND (held = 1 OR lease IS NOT NULL OR (due IS NOT NULL AND closes IS NULL)) AND seq <> ?)",
        )?
        .query_row(params![route, key, seq], |row| row.get(0))
    }

    /// Lets go of the line that a dead delivery holds up.
    pub(super) fn skip(&mut self, delivery: DeliveryId) -> Result<(), Fault> {
        let let_go: Option<(String, String)> = self
            .cached("UPDATE delivery SET held = 0 WHERE id = ? AND held = 1 RETURNING route, order_key")?
            .query_row([delivery.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((route, key)) = let_go else {
            return Err(self.not_held(delivery)?.into());
        };
        Ok(self.advance(&route, &key)?)
    }

    /// Why a delivery cannot be skipped.
    fn not_held(&self, delivery: DeliveryId) -> rusqlite::Result<JournalError> {
        let state: Option<String> = self
            .cached("SELECT state FROM delivery WHERE id = ?")?
            .query_row([delivery.to_string()], |row| row.get(0))
            .optional()?;
        Ok(match state {
            Some(state) => JournalError::Refused(format!(
                "delivery {delivery} is {state} and holds nothing up; only a dead one of a route with `on_stuck = \"hold\"` does"
            )),
            None => JournalError::NotFound(format!("there is no delivery {delivery}")),
        })
    }
}

/// No delivery has this number.
const NOBODY: i64 = 0;
