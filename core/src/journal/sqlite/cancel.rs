//! What a person does not want any more.

use jackfield_event::{DeliveryId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{job::Fault, row, store::Store};
use crate::{
    delivery::State,
    journal::{Asker, CancelRecord, Canceled, JournalError},
    reason::Reason,
};

impl Store<'_> {
    /// Cancels a delivery that nobody works at, or notes that it is to be canceled when its claim ends.
    pub(super) fn cancel(
        &mut self,
        delivery: DeliveryId,
        asker: &Asker,
        now: Timestamp,
    ) -> Result<Canceled, Fault> {
        let (seq, state): (i64, State) = self
            .cached("SELECT seq, state FROM delivery WHERE id = ?")?
            .query_row([delivery.to_string()], |row| {
                Ok((row.get(0)?, row::word_at(row, "state")?))
            })
            .optional()?
            .ok_or_else(|| JournalError::NotFound(format!("there is no delivery {delivery}")))?;
        if state.is_settled() {
            return Err(JournalError::Refused(format!(
                "delivery {delivery} is {} already, so that there is nothing to cancel",
                state.word()
            ))
            .into());
        }
        let cancel = CancelRecord {
            at: now,
            asker: asker.clone(),
        };
        // Who asked first stays.
        self.cached("UPDATE delivery SET cancel = coalesce(cancel, ?) WHERE seq = ?")?
            .execute(params![row::to_json(&cancel), seq])?;
        if state == State::Running {
            return Ok(Canceled::Asked);
        }
        self.settle_canceled(seq, state, now)?;
        Ok(Canceled::Settled)
    }

    /// Settles a delivery whose end a person has asked for, and lets the next one of its line go.
    pub(super) fn settle_canceled(&mut self, seq: i64, from: State, now: Timestamp) -> rusqlite::Result<()> {
        let (route, key, cancel): (String, Option<String>, Option<CancelRecord>) = self
            .cached(
                "UPDATE delivery SET state = 'canceled', settled = ?, due = NULL, owner = NULL, lease = NULL, closes = NULL, \
                 reason = ? \
                 WHERE seq = ? RETURNING route, order_key, cancel",
            )?
            .query_row(params![now.as_millis(), Reason::Canceled.code(), seq], |row| {
                Ok((row.get(0)?, row.get(1)?, row::maybe_json_at(row, "cancel")?))
            })?;
        let words = cancel.map(|cancel| cancel.asker.words());
        self.cached("UPDATE delivery SET detail = ? WHERE seq = ?")?
            .execute(params![words, seq])?;
        self.moved(from, State::Canceled);
        match key {
            Some(key) => self.advance(&route, &key),
            None => Ok(()),
        }
    }
}
