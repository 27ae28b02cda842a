//! Lines: the deliveries of one route and order key. They come one after the other, and as the route has it, events
//! that come close together gather in one, and a newer one takes the place of those that wait.
//!
//! At most one delivery of a line is at its head (`delivery_head`): running, backing off, due, or dead and holding the others up.
//! Only one whose deadline has passed is claimed beside it, to be given up. What is behind it is *blocked*, pending without a
//! `due`, and in no queue. One that gathers is not in the line's way: it is in its instance's queue until its burst is over, and
//! finds its place then.

use jackfield_event::{DeliveryId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{
    append::{Beginning, Origin},
    burst::begin_burst,
    job::Fault,
    store::Store,
};
use crate::{delivery::NewestBy, journal::JournalError, router::Owed};

/// An event that comes to a line.
pub(super) struct Newcomer<'a> {
    pub(super) owed: &'a Owed,
    pub(super) key: &'a str,
    pub(super) event: i64,
    /// When it happened, where the line goes by that.
    pub(super) time: Option<i64>,
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
            // No later than it came: an event that claims to be from the future would be the newest for as long.
            time: (owed.line.newest_by == NewestBy::Time).then(|| time.min(origin.created).as_millis()),
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
            Some(coalesce) => begin_burst(owed, coalesce, origin),
            None => self.turn(&owed.route, key)?,
        };
        self.insert_delivery(owed, &events, origin, beginning)
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

    /// Whether a delivery may hold its line up when it dies: as one that was at its head can. Whoever stood behind another, or
    /// behind a burst, when its deadline passed holds nobody up, though what it stood behind may have gone meanwhile: then the next
    /// is still before it.
    pub(super) fn may_hold(&self, route: &str, key: &str, seq: i64) -> rusqlite::Result<bool> {
        let stood_behind: bool = self
            .cached(
                "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_key \
                 WHERE route = ?1 AND order_key = ?2 AND settled IS NULL AND seq < ?3 \
                 AND (closes IS NOT NULL OR (SELECT deadline FROM delivery WHERE seq = ?3) IS NOT NULL))",
            )?
            .query_row(params![route, key, seq], |row| row.get(0))?;
        Ok(!stood_behind && !self.is_headed_beside(route, key, seq)?)
    }

    /// Whether one that was at work stands behind another: it was claimed for its deadline, and the clock was set back since. One
    /// that was at the head does not stand behind those that were claimed so.
    pub(super) fn stands_behind(&self, route: &str, key: &str, seq: i64) -> rusqlite::Result<bool> {
        self.cached(
            "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_head WHERE route = ?1 AND order_key = ?2 \
             AND (held = 1 OR lease IS NOT NULL OR (due IS NOT NULL AND closes IS NULL)) AND seq <> ?3 \
             AND (seq < ?3 OR deadline IS NULL))",
        )?
        .query_row(params![route, key, seq], |row| row.get(0))
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
