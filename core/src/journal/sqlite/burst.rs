//! Bursts: events of one line that come close together gather in one delivery.
//!
//! While it gathers, a delivery waits in its instance's queue until its burst is over, and is in nobody's way; then it finds its
//! place in its line.

use jackfield_event::DeliveryId;
use rusqlite::{OptionalExtension, params};

use super::{
    append::{Beginning, Origin},
    line::Newcomer,
    row,
    store::Store,
};
use crate::{
    delivery::{Coalesce, Keep, State},
    router::Owed,
};

/// How the delivery of a burst begins. It is over by half of the time to its deadline at the latest: what is gathered until then
/// is to be carried out, not given up.
pub(super) fn begin_burst(owed: &Owed, coalesce: &Coalesce, origin: &Origin<'_>) -> Beginning {
    let now = origin.created;
    let deadline = owed.deadline.as_ref().ok().copied().flatten();
    let longest = match deadline.map(|deadline| deadline.of(now)) {
        Some(deadline) => coalesce.max_wait.min(deadline.saturating_since(now) / 2),
        None => coalesce.max_wait,
    };
    Beginning::Gathering {
        due: now.saturating_add(coalesce.window),
        closes: now.saturating_add(longest),
        keep: coalesce.keep,
    }
}

impl Store<'_> {
    /// Adds the event to the delivery of its line that gathers, where one does under the same rules.
    pub(super) fn gather(
        &mut self,
        newcomer: &Newcomer<'_>,
        coalesce: &Coalesce,
        origin: &Origin<'_>,
    ) -> rusqlite::Result<Option<DeliveryId>> {
        let gathering: Option<(i64, String, i64)> = self
            .cached(
                "SELECT seq, id, min(due, closes) FROM delivery INDEXED BY delivery_gathering \
                 WHERE route = ? AND order_key = ? AND closes IS NOT NULL AND rules = ? ORDER BY seq DESC LIMIT 1",
            )?
            .query_row(params![newcomer.owed.route, newcomer.key, origin.rules], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((seq, id, over)) = gathering else {
            return Ok(None);
        };
        // A dispatcher that is late, or does not look at all since the instance is busy or rests: what is over takes nobody in.
        if over <= origin.created.as_millis() {
            self.close_burst(seq)?;
            return Ok(None);
        }
        self.insert
            .delivery_event
            .execute(params![seq, newcomer.event, newcomer.time])?;
        self.note_newest(newcomer, seq)?;
        self.adopt_deadline(newcomer, coalesce, seq, origin)?;
        if self.is_full(coalesce, seq)? {
            self.close_burst(seq)?;
        } else {
            let (now, due) = (origin.created, origin.created.saturating_add(coalesce.window));
            self.cached(
                "UPDATE delivery SET closes = min(closes, coalesce(?1 + (deadline - ?1) / 2, closes)) WHERE seq = ?2",
            )?
            .execute(params![now.as_millis(), seq])?;
            self.cached("UPDATE delivery SET due = min(?, closes), rested = ? WHERE seq = ?")?
                .execute(params![due.as_millis(), now.as_millis(), seq])?;
        }
        Ok(Some(row::id(&id)?))
    }

    /// Whether a burst has as many events as it may, or as many bytes as are read into memory together.
    fn is_full(&self, coalesce: &Coalesce, seq: i64) -> rusqlite::Result<bool> {
        let (gathered, bytes): (i64, i64) = self
            .cached(
                "SELECT count(*), coalesce(sum(length(body)), 0) FROM delivery_event \
                 LEFT JOIN request ON request.event = delivery_event.event WHERE delivery = ?",
            )?
            .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let too_large = coalesce.keep == Keep::All && bytes >= MOST_BYTES;
        Ok(too_large || gathered >= i64::from(coalesce.max_items.get()))
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
}

/// How many bytes of bodies a burst has at most of which steps see all.
const MOST_BYTES: i64 = 8 << 20;
