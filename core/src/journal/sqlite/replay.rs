//! What a person asks for again: deliveries that name their parent, or that an event comes to owe anew.

use std::collections::BTreeMap;

use jackfield_event::{DeliveryId, EventId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{
    append::{Beginning, Origin},
    history::{kept, missing_of_delivery},
    job::Fault,
    row,
    store::Store,
};
use crate::{
    delivery::{Line, State},
    journal::{Asked, First, JournalError, Replay, ReplayKeys, Taken},
    reason::Reason,
    router::{Owed, Routed},
};

impl Store<'_> {
    /// Makes new deliveries of settled ones: each of them, or why there is none.
    pub(super) fn replay(
        &mut self,
        replays: &[Replay],
        now: Timestamp,
    ) -> Result<Vec<Result<DeliveryId, JournalError>>, Fault> {
        let mut made = Vec::with_capacity(replays.len());
        for replay in replays {
            made.push(match self.replay_one(replay, now) {
                Ok(delivery) => Ok(delivery),
                Err(Fault::Refused(error)) => Err(error),
                Err(fault @ Fault::Store(_)) => return Err(fault),
            });
        }
        Ok(made)
    }

    /// Makes one; where it is refused, nothing of it was written.
    fn replay_one(&mut self, replay: &Replay, now: Timestamp) -> Result<DeliveryId, Fault> {
        let parent = self.parent(replay.parent)?;
        parent.check(replay)?;
        if replay.once {
            self.check_once(&parent, replay.parent)?;
        }
        let rules = match &replay.under {
            Some((generation, _)) => self.rules(generation)?,
            None => parent.rules,
        };
        let events: Vec<(i64, Option<i64>)> = self
            .cached("SELECT event, time FROM delivery_event WHERE delivery = ?")?
            .query_map([parent.seq], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let id = replay.parent.to_string();
        if let Some(missing) = missing_of_delivery(self.connection, parent.seq)? {
            let words = format!("delivery {id} cannot be replayed: {missing}");
            return Err(JournalError::Refused(words).into());
        }
        let origin = Origin {
            created: now,
            rules,
            parent: Some(parent.seq),
            key_root: match replay.keys {
                ReplayKeys::Keep => Some(parent.key_root.as_deref().unwrap_or(&id)),
                ReplayKeys::Renew => None,
            },
            arrives: false,
        };
        let owed = &undated(replay.under.as_ref().map_or(&parent.owed, |(_, owed)| owed));
        let beginning = self.beginning(&parent, owed)?;
        let delivery = self.insert_delivery(owed, &events, &origin, beginning)?;
        let seq = self.marks.delivery;
        if let Some(keep) = &parent.keep {
            self.cached("UPDATE delivery SET keep = ? WHERE seq = ?")?
                .execute(params![keep, seq])?;
        }
        self.hand_newest_on(parent.seq, seq)?;
        self.note_asked(seq, &replay.asked)?;
        let mut key_roots = match replay.keys {
            ReplayKeys::Keep => parent.key_roots,
            ReplayKeys::Renew => BTreeMap::new(),
        };
        if let Some(step) = &replay.fresh {
            key_roots.insert(step.clone(), delivery.to_string());
        }
        if !key_roots.is_empty() {
            self.cached("UPDATE delivery SET key_roots = ? WHERE seq = ?")?
                .execute(params![row::to_json(&key_roots), seq])?;
        }
        for taken in &replay.taken {
            self.take_over(seq, replay.parent, taken, now)?;
        }
        match &replay.first {
            First::Beginning => {}
            First::Step { step, instance } => {
                let step = i64::try_from(*step).unwrap_or(i64::MAX);
                self.cached("UPDATE delivery SET step = ?, instance = ? WHERE seq = ?")?
                    .execute(params![step, instance, seq])?;
            }
            First::Nothing => self.settle_at_once(seq, owed, now)?,
        }
        Ok(delivery)
    }

    /// Makes the deliveries that a stored event owes under some rules.
    pub(super) fn replay_event(
        &mut self,
        event: EventId,
        routed: &Routed,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<Vec<DeliveryId>, Fault> {
        let seq: i64 = self
            .cached("SELECT seq FROM event WHERE id = ?")?
            .query_row([event.to_string()], |row| row.get(0))
            .optional()?
            .ok_or_else(|| JournalError::NotFound(format!("there is no event {event}")))?;
        let kept = kept(self.connection, seq)?;
        if let Some(missing) = kept.missing() {
            let words = format!("the event {event} cannot be replayed: {missing}");
            return Err(JournalError::Refused(words).into());
        }
        let origin = Origin {
            created: now,
            rules: self.rules(routed.generation())?,
            parent: None,
            key_root: None,
            arrives: false,
        };
        let mut deliveries = Vec::new();
        for owed in routed.owed() {
            deliveries.push(self.owe(&undated(owed), &[seq], &origin)?);
            self.note_asked(self.marks.delivery, asked)?;
        }
        Ok(deliveries)
    }

    fn parent(&self, delivery: DeliveryId) -> Result<Parent, Fault> {
        let parent = self
            .cached(
                "SELECT seq, route, rules, order_key, first_instance, key_root, state, settled, \
                 failure ->> '$.reason', key_roots, held = 1 AS held, keep FROM delivery WHERE id = ?",
            )?
            .query_row([delivery.to_string()], |row| {
                Ok(Parent {
                    seq: row.get(0)?,
                    rules: row.get(2)?,
                    owed: Owed {
                        route: row.get(1)?,
                        instance: row.get(4)?,
                        on_failure: None,
                        order: Ok(row.get(3)?),
                        line: Line::default(),
                        deadline: Ok(None),
                    },
                    key_root: row.get(5)?,
                    key_roots: row::maybe_json_at(row, "key_roots")?.unwrap_or_default(),
                    state: row.get(6)?,
                    settled: row.get::<_, Option<i64>>(7)?.is_some(),
                    reason: row.get(8)?,
                    held: row.get::<_, Option<bool>>("held")?.unwrap_or_default(),
                    keep: row.get("keep")?,
                })
            })
            .optional()?;
        Ok(parent.ok_or_else(|| JournalError::NotFound(format!("there is no delivery {delivery}")))?)
    }

    fn check_once(&self, parent: &Parent, id: DeliveryId) -> Result<(), Fault> {
        let earlier: Option<String> = self
            .cached("SELECT id FROM delivery WHERE parent = ? ORDER BY seq DESC LIMIT 1")?
            .query_row([parent.seq], |row| row.get(0))
            .optional()?;
        match earlier {
            None => Ok(()),
            Some(earlier) => Err(JournalError::Refused(format!(
                "delivery {id} was replayed before, as {earlier}; look how that one ended"
            ))
            .into()),
        }
    }

    fn note_asked(&self, seq: i64, asked: &Asked) -> rusqlite::Result<()> {
        self.cached("UPDATE delivery SET asked = ? WHERE seq = ?")?
            .execute(params![row::to_json(asked), seq])?;
        Ok(())
    }

    /// Writes how a step stands that is not made again.
    fn take_over(&self, seq: i64, parent: DeliveryId, taken: &Taken, now: Timestamp) -> rusqlite::Result<()> {
        let reason = match taken.resolved {
            true => Reason::Resolved,
            false => Reason::TakenOver,
        };
        self.cached(
            "INSERT INTO attempt (delivery, phase, step, attempt, step_id, started, ended, outcome, reason, message, output) \
             VALUES (?1, 'steps', ?2, 0, ?3, ?4, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            seq,
            i64::try_from(taken.step).unwrap_or(i64::MAX),
            taken.step_id,
            now.as_millis(),
            taken.outcome.word(),
            reason.code(),
            format!("as in {parent}"),
            taken.output.as_deref().map(row::json),
        ])?;
        Ok(())
    }

    /// How a replay begins: of one that holds its line up it takes the place, so that nothing overtakes it there.
    fn beginning(&mut self, parent: &Parent, owed: &Owed) -> rusqlite::Result<Beginning> {
        if parent.held {
            self.cached("UPDATE delivery SET held = 0 WHERE seq = ?")?
                .execute([parent.seq])?;
            if owed.order == parent.owed.order
                && let Ok(Some(key)) = &owed.order
                && !self.is_headed_beside(&owed.route, key, parent.seq)?
            {
                return Ok(Beginning::Due);
            }
            // Under other rules it belongs to another line, and nothing is in the way of this one any more.
            if let Ok(Some(key)) = &parent.owed.order {
                self.advance(&parent.owed.route, key)?;
            }
        }
        match &owed.order {
            Ok(Some(key)) => self.turn(&owed.route, key),
            Ok(None) | Err(_) => Ok(Beginning::Due),
        }
    }

    /// Settles a delivery that was just written and of which nothing is left to do.
    fn settle_at_once(&mut self, seq: i64, owed: &Owed, now: Timestamp) -> rusqlite::Result<()> {
        self.cached("UPDATE delivery SET state = 'succeeded', due = NULL, settled = ? WHERE seq = ?")?
            .execute(params![now.as_millis(), seq])?;
        self.moved(State::Pending, State::Succeeded);
        match &owed.order {
            Ok(Some(key)) => self.advance(&owed.route, key),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

/// The same without a deadline: a person asks for it now, whenever it was of use first.
fn undated(owed: &Owed) -> Owed {
    Owed {
        deadline: Ok(None),
        ..owed.clone()
    }
}

/// The delivery that is replayed.
struct Parent {
    seq: i64,
    rules: i64,
    owed: Owed,
    key_root: Option<String>,
    key_roots: BTreeMap<String, String>,
    state: String,
    settled: bool,
    reason: Option<String>,
    /// Whether it holds its line up.
    held: bool,
    /// What its steps see of a burst.
    keep: Option<String>,
}

impl Parent {
    fn check(&self, replay: &Replay) -> Result<(), JournalError> {
        let id = replay.parent;
        if !self.settled {
            return Err(JournalError::Refused(format!(
                "delivery {id} is {}, not settled; what is under way is not replayed",
                self.state
            )));
        }
        let reason = self.reason.as_deref().and_then(|reason| reason.parse().ok());
        match replay.refused_for(reason) {
            Some(words) => Err(JournalError::Refused(words)),
            None => Ok(()),
        }
    }
}
