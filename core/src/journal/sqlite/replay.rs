//! What a person asks for again: deliveries that name their parent, or that an event comes to owe anew.

use jackfield_event::{DeliveryId, EventId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{
    append::{Beginning, Origin},
    job::Fault,
    store::Store,
};
use crate::{
    delivery::Line,
    journal::{JournalError, ReplayKeys},
    reason::Reason,
    router::{Owed, Routed},
};

impl Store<'_> {
    /// Makes a new delivery like a settled one.
    pub(super) fn replay_delivery(
        &mut self,
        delivery: DeliveryId,
        keys: ReplayKeys,
        now: Timestamp,
    ) -> Result<DeliveryId, Fault> {
        let id = delivery.to_string();
        let parent = self
            .cached(
                "SELECT seq, route, rules, order_key, first_instance, key_root, state, settled, \
                 failure ->> '$.reason', held = 1, keep FROM delivery WHERE id = ?",
            )?
            .query_row([&id], |row| {
                Ok(Parent {
                    seq: row.get(0)?,
                    rules: row.get(2)?,
                    owed: Owed {
                        route: row.get(1)?,
                        instance: row.get(4)?,
                        order: Ok(row.get(3)?),
                        line: Line::default(),
                        // A person asks for it now, whenever it was of use first.
                        deadline: Ok(None),
                    },
                    key_root: row.get(5)?,
                    state: row.get(6)?,
                    settled: row.get::<_, Option<i64>>(7)?.is_some(),
                    reason: row.get(8)?,
                    held: row.get::<_, Option<bool>>(9)?.unwrap_or_default(),
                    keep: row.get(10)?,
                })
            })
            .optional()?
            .ok_or_else(|| JournalError::NotFound(format!("there is no delivery {delivery}")))?;
        parent.check(delivery)?;
        let events: Vec<(i64, Option<i64>)> = self
            .cached("SELECT event, time FROM delivery_event WHERE delivery = ?")?
            .query_map([parent.seq], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let kept = parent.key_root.as_deref().unwrap_or(&id);
        let origin = Origin {
            created: now,
            rules: parent.rules,
            parent: Some(parent.seq),
            key_root: match keys {
                ReplayKeys::Keep => Some(kept),
                ReplayKeys::Renew => None,
            },
            arrives: false,
        };
        let beginning = match &parent.owed.order {
            // It takes the place of the one that holds the line up, and nothing overtakes it there.
            Ok(Some(_)) if parent.held => {
                self.cached("UPDATE delivery SET held = 0 WHERE seq = ?")?
                    .execute([parent.seq])?;
                Beginning::Due
            }
            Ok(Some(key)) => self.turn(&parent.owed.route, key)?,
            Ok(None) | Err(_) => Beginning::Due,
        };
        let replay = self.insert_delivery(&parent.owed, &events, &origin, beginning)?;
        if let Some(keep) = &parent.keep {
            self.cached("UPDATE delivery SET keep = ? WHERE seq = ?")?
                .execute(params![keep, self.marks.delivery])?;
        }
        Ok(replay)
    }

    /// Makes the deliveries that a stored event owes under other rules than it came under.
    pub(super) fn replay_event(
        &mut self,
        event: EventId,
        routed: &Routed,
        now: Timestamp,
    ) -> Result<Vec<DeliveryId>, Fault> {
        let seq: i64 = self
            .cached("SELECT seq FROM event WHERE id = ?")?
            .query_row([event.to_string()], |row| row.get(0))
            .optional()?
            .ok_or_else(|| JournalError::NotFound(format!("there is no event {event}")))?;
        let origin = Origin {
            created: now,
            rules: self.rules(routed.generation())?,
            parent: None,
            key_root: None,
            arrives: false,
        };
        let owed = routed.owed().iter();
        Ok(owed
            .map(|owed| self.owe(owed, &[seq], &origin))
            .collect::<rusqlite::Result<_>>()?)
    }
}

/// The delivery that is replayed.
struct Parent {
    seq: i64,
    rules: i64,
    owed: Owed,
    key_root: Option<String>,
    state: String,
    settled: bool,
    reason: Option<String>,
    /// Whether it holds its line up.
    held: bool,
    /// What its steps see of a burst.
    keep: Option<String>,
}

impl Parent {
    fn check(&self, id: DeliveryId) -> Result<(), JournalError> {
        if !self.settled {
            return Err(JournalError::Refused(format!(
                "delivery {id} is {}, not settled; what is under way is not replayed",
                self.state
            )));
        }
        let never_was = [
            (Reason::OrderKeyFailed, "order key, since `order_by`"),
            (Reason::DeadlineFailed, "deadline, since `deadline`"),
        ];
        for (reason, what) in never_was {
            if self.reason.as_deref() == Some(reason.code()) {
                return Err(JournalError::Refused(format!(
                    "delivery {id} has no {what} of its rules failed; mend the rule and replay the event"
                )));
            }
        }
        Ok(())
    }
}
