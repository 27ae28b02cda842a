//! The way out: deliveries are claimed, attempted and settled.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use jackfield_event::{DeliveryId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{job::Fault, row, store::Store};
use crate::{
    delivery::{Phase, State},
    journal::{AttemptStart, Begun, ClaimRequest, Ended, Failure, JournalError, Next, StepEnd},
    reason::Reason,
};

/// A claimed delivery, as far as the writer has to know it.
pub(super) struct Claimed {
    pub(super) seq: i64,
    phase: Phase,
    step: i64,
    attempts: u32,
    /// Whether a person has asked for it to be canceled.
    canceled: bool,
}

impl Store<'_> {
    /// Claims what is due, oldest first, and says which rows they are.
    ///
    /// Each instance has its own queue in `delivery_due`, so that deliveries of a busy one are not even looked at,
    /// and deliveries behind another of their order key are in no queue.
    pub(super) fn claim(&mut self, request: &ClaimRequest) -> Result<Vec<i64>, Fault> {
        self.end_claims(request.now, Some(request.now))?;
        let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
        // Two queries for each instance: `OR` would have SQLite sort both queues whole.
        let mut due = BTreeSet::new();
        let mut bursts = Vec::new();
        for instance in self.instances()? {
            if request.busy.contains(&instance) || self.is_resting(&instance, request.now)? {
                continue;
            }
            let mut take = |sql, parameters: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
                let mut statement = self.cached(sql)?;
                let mut rows = statement.query(parameters)?;
                while let Some(row) = rows.next()? {
                    let seq = row.get(0)?;
                    if row.get(2)? {
                        bursts.push(seq);
                    } else {
                        due.insert((seq, row.get::<_, bool>(1)?));
                    }
                }
                Ok(())
            };
            take(
                "SELECT seq, FALSE, FALSE FROM delivery INDEXED BY delivery_due WHERE instance = ? AND due = 0 \
                 ORDER BY seq LIMIT ?",
                params![instance, limit],
            )?;
            take(
                "SELECT seq, TRUE, closes IS NOT NULL FROM delivery INDEXED BY delivery_due WHERE instance = ? AND due > 0 AND due <= ? \
                 ORDER BY due LIMIT ?",
                params![instance, request.now.as_millis(), limit],
            )?;
        }
        // What has gathered finds its place in its line, and is claimed the next time where that is the first.
        for burst in bursts {
            self.close_burst(burst)?;
            // There may be more of them than were looked at.
            self.wake = true;
        }
        for (seq, waits, gathers) in self.overdue(request.now, limit)? {
            if gathers {
                self.close_burst(seq)?;
            }
            due.insert((seq, waits && !gathers));
        }
        let lease = request.now.saturating_add(request.lease).as_millis();
        let mut claimed = Vec::new();
        for (seq, waited) in due.into_iter().take(request.limit) {
            self.cached(
                "UPDATE delivery SET state = 'running', owner = ?1, lease = ?2, due = NULL, \
                 reason = iif(deadline <= ?3, reason, NULL), detail = iif(deadline <= ?3, detail, NULL) WHERE seq = ?4",
            )?
            .execute(params![request.owner, lease, request.now.as_millis(), seq])?;
            self.moved(
                if waited { State::Waiting } else { State::Pending },
                State::Running,
            );
            claimed.push(seq);
        }
        Ok(claimed)
    }

    /// Deliveries whose deadline has passed, whether they are due, back off, wait for a busy instance or stand behind
    /// another: there is nothing to wait for any more. But for those that cannot be read, which do not end by being claimed.
    fn overdue(&self, now: Timestamp, limit: i64) -> rusqlite::Result<Vec<(i64, bool, bool)>> {
        self.cached(
            "SELECT seq, state = 'waiting', closes IS NOT NULL FROM delivery INDEXED BY delivery_deadline WHERE deadline <= ? \
             AND settled IS NULL AND phase = 'steps' AND lease IS NULL AND reason IS NOT 'unreadable' \
             ORDER BY deadline LIMIT ?",
        )?
        .query_map(params![now.as_millis(), limit], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect()
    }

    /// The instances that deliveries are due for, now or later: one seek in the index for each.
    fn instances(&self) -> rusqlite::Result<Vec<String>> {
        let mut next = self.cached(
            "SELECT instance FROM delivery INDEXED BY delivery_due WHERE due IS NOT NULL AND instance > ? \
             ORDER BY instance LIMIT 1",
        )?;
        let mut instances: Vec<String> = Vec::new();
        let mut after = String::new();
        while let Some(instance) = next
            .query_row([&after], |row| row.get::<_, String>(0))
            .optional()?
        {
            after.clone_from(&instance);
            instances.push(instance);
        }
        Ok(instances)
    }

    /// Ends claims whose lease ran out by `expired`, or all of them: what was being attempted was interrupted, and
    /// the delivery is due at once.
    pub(super) fn end_claims(&mut self, now: Timestamp, expired: Option<Timestamp>) -> rusqlite::Result<()> {
        let until = expired.map_or(i64::MAX, Timestamp::as_millis);
        let over: Vec<i64> = self
            .cached(
                "SELECT seq FROM delivery INDEXED BY delivery_lease WHERE lease IS NOT NULL AND lease <= ?",
            )?
            .query_map([until], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for seq in over {
            let interrupted = self.interrupt(seq, now)?;
            let reason = interrupted.then_some(Reason::Interrupted.code());
            self.give_back(seq, State::Pending, 0, reason, None, now)?;
        }
        Ok(())
    }

    /// Marks attempts of a delivery that have not ended as interrupted, and says whether there was one.
    fn interrupt(&mut self, seq: i64, now: Timestamp) -> rusqlite::Result<bool> {
        let marked = self
            .cached("UPDATE attempt SET ended = ?, reason = ? WHERE delivery = ? AND ended IS NULL")?
            .execute(params![now.as_millis(), Reason::Interrupted.code(), seq])?;
        Ok(marked > 0)
    }

    /// Ends the claim of a running delivery that is not settled, and is not to be canceled either.
    pub(super) fn give_back(
        &mut self,
        seq: i64,
        state: State,
        due: i64,
        reason: Option<&str>,
        detail: Option<&str>,
        now: Timestamp,
    ) -> rusqlite::Result<Ended> {
        let (route, key, canceled): (String, Option<String>, bool) = self
            .cached(
                "UPDATE delivery SET state = ?, due = ?, rested = ?, reason = ?, detail = ?, bucket = NULL, owner = NULL, \
                 lease = NULL WHERE seq = ? RETURNING route, order_key, cancel IS NOT NULL",
            )?
            .query_row(
                params![state.word(), due, now.as_millis(), reason, detail, seq],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
        self.moved(State::Running, state);
        if canceled {
            self.settle_canceled(seq, state, now)?;
            return Ok(Ended::Canceled);
        }
        self.wake = true;
        let Some(key) = key else {
            return Ok(Ended::AsSaid);
        };
        if self.yield_to_newer(seq, &route, &key, now)? {
            return Ok(Ended::Superseded);
        }
        if state == State::Pending && self.stands_behind(&route, &key, seq)? {
            // What tells of its failure stands behind nobody.
            self.cached("UPDATE delivery SET due = NULL WHERE seq = ? AND phase = 'steps'")?
                .execute([seq])?;
        }
        Ok(Ended::AsSaid)
    }

    pub(super) fn renew(
        &mut self,
        owner: &str,
        deliveries: &[DeliveryId],
        now: Timestamp,
        lease: Duration,
    ) -> Result<(), Fault> {
        let until = now.saturating_add(lease).as_millis();
        for delivery in deliveries {
            self.cached("UPDATE delivery SET lease = ? WHERE id = ? AND owner = ? AND lease IS NOT NULL")?
                .execute(params![until, delivery.to_string(), owner])?;
        }
        Ok(())
    }

    /// Ends claims that were just made, of rows that cannot be read: they wait until `due`, each with its reason.
    pub(super) fn set_aside(
        &mut self,
        damaged: &[(i64, String)],
        due: Timestamp,
        now: Timestamp,
    ) -> Result<(), Fault> {
        for (seq, error) in damaged {
            tracing::error!(seq, error, "the journal could not read a delivery");
            let (due, reason) = (waiting_until(due), Some(Reason::Unreadable.code()));
            self.give_back(*seq, State::Waiting, due, reason, Some(error), now)?;
        }
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        delivery: DeliveryId,
        owner: &str,
        due: Option<&(Timestamp, Reason, String)>,
        now: Timestamp,
    ) -> Result<Ended, Fault> {
        let claimed = self.claimed(delivery, owner)?;
        let interrupted = self.interrupt(claimed.seq, now)?;
        Ok(match due {
            None => {
                let reason = interrupted.then_some(Reason::Interrupted.code());
                self.set_stalled(claimed.seq, None)?;
                self.give_back(claimed.seq, State::Pending, 0, reason, None, now)?
            }
            Some((due, reason, detail)) => {
                // For a rest of its instance there is no limit to the patience.
                let since = (*reason != Reason::InstanceResting).then_some(now);
                self.set_stalled(claimed.seq, since)?;
                let detail = Some(detail.as_str()).filter(|detail| !detail.is_empty());
                self.give_back(
                    claimed.seq,
                    State::Waiting,
                    waiting_until(*due),
                    Some(reason.code()),
                    detail,
                    now,
                )?
            }
        })
    }

    /// Since when nothing could be begun of a delivery: of several times the first, until something is.
    fn set_stalled(&self, seq: i64, since: Option<Timestamp>) -> rusqlite::Result<()> {
        let since = since.map(Timestamp::as_millis);
        self.cached(
            "UPDATE delivery SET stalled = iif(?1 IS NULL, NULL, coalesce(stalled, ?1)) WHERE seq = ?2",
        )?
        .execute(params![since, seq])?;
        Ok(())
    }

    /// Makes deliveries due that wait for one of `instances`, for this reason.
    pub(super) fn wake_up(&mut self, instances: &[String], reason: Reason) -> Result<(), Fault> {
        for instance in instances {
            let woken = self
                .cached(
                    "UPDATE delivery SET due = 1 WHERE seq IN (SELECT seq FROM delivery INDEXED BY delivery_due \
                     WHERE instance = ? AND due > 1) AND reason = ?",
                )?
                .execute(params![instance, reason.code()])?;
            self.wake |= woken > 0;
        }
        Ok(())
    }

    /// Moves the moments that are waited for, as the clock was moved by which they were told; those that were told by the clock
    /// as it is now, in these moments, stay. A deadline is the world's, and stays.
    pub(super) fn shift(
        &mut self,
        millis: i64,
        told: Option<&RangeInclusive<Timestamp>>,
    ) -> rusqlite::Result<()> {
        // Before all time, where nothing was.
        let (from, to) = told.map_or((i64::MIN, i64::MIN), |told| {
            (told.start().as_millis(), told.end().as_millis())
        });
        // By their indexes, and not past all that is settled. Who waits at a bucket is told by it again and again, when it opens.
        for instance in self.instances()? {
            self.cached(
                "UPDATE delivery SET due = max(due + ?1, 2) WHERE seq IN \
                 (SELECT seq FROM delivery INDEXED BY delivery_due WHERE instance = ?2 AND due > 1) \
                 AND iif(bucket IS NULL, coalesce(rested, created) NOT BETWEEN ?3 AND ?4, ?1 < 0 OR due < ?3)",
            )?
            .execute(params![millis, instance, from, to])?;
        }
        // When a burst closes was told as it began, whatever joined it since.
        self.cached(
            "UPDATE delivery SET due = min(due, max(closes + ?1, 2)), closes = closes + ?1 WHERE seq IN \
             (SELECT seq FROM delivery INDEXED BY delivery_gathering WHERE closes IS NOT NULL) \
             AND created NOT BETWEEN ?2 AND ?3",
        )?
        .execute([millis, from, to])?;
        self.cached(
            "UPDATE delivery SET lease = lease + ? WHERE seq IN \
             (SELECT seq FROM delivery INDEXED BY delivery_lease WHERE lease IS NOT NULL)",
        )?
        .execute([millis])?;
        self.wake = true;
        self.note_followed()?;
        self.shift_buckets(millis, told.map(|told| *told.start()))
    }

    /// Writes that an attempt begins.
    pub(super) fn begin_attempt(&mut self, start: &AttemptStart) -> Result<Begun, Fault> {
        let claimed = self.claimed(start.delivery, &start.owner)?;
        claimed.check(start.delivery, start.phase, start.step)?;
        if start.attempt != claimed.attempts + 1 {
            return Err(JournalError::Refused(format!(
                "delivery {} has begun {} attempts of step `{}`; the next is not number {}",
                start.delivery, claimed.attempts, start.step_id, start.attempt
            ))
            .into());
        }
        let begun = self.admit(&claimed, start)?;
        if begun != Begun::Now {
            return Ok(begun);
        }
        self.cached(
            "INSERT INTO attempt (delivery, phase, step, attempt, step_id, instance, started, input) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            claimed.seq,
            row::phase(start.phase),
            claimed.step,
            start.attempt,
            start.step_id,
            start.instance,
            start.started.as_millis(),
            row::json(&start.input),
        ])?;
        self.cached("UPDATE delivery SET attempts = ?, stalled = NULL WHERE seq = ?")?
            .execute(params![start.attempt, claimed.seq])?;
        Ok(begun)
    }

    /// Writes how a step or an attempt of it ended, and moves the delivery on.
    pub(super) fn end_step(&mut self, end: &StepEnd) -> Result<Ended, Fault> {
        let claimed = self.claimed(end.delivery, &end.owner)?;
        claimed.check(end.delivery, end.phase, end.step)?;
        self.write_outcome(&claimed, end)?;
        let given_up = !matches!(
            end.next,
            Next::Step { .. }
                | Next::Wait { .. }
                | Next::Settle {
                    state: State::Succeeded,
                    ..
                }
        );
        if claimed.canceled && given_up {
            self.settle_canceled(claimed.seq, State::Running, end.ended)?;
            return Ok(Ended::Canceled);
        }
        match &end.next {
            Next::Step { instance } => {
                self.cached("UPDATE delivery SET step = step + 1, attempts = 0, stalled = NULL, instance = ? WHERE seq = ?")?
                    .execute(params![instance, claimed.seq])?;
            }
            Next::Wait { due, reason, detail } => {
                let due = waiting_until(*due);
                return Ok(self.give_back(
                    claimed.seq,
                    State::Waiting,
                    due,
                    Some(reason.code()),
                    detail.as_deref(),
                    end.ended,
                )?);
            }
            Next::OnFailure { failure, instance } => {
                self.cached(
                    "UPDATE delivery SET phase = 'on-failure', step = 0, attempts = 0, stalled = NULL, reason = NULL, \
                     detail = NULL, instance = ?, failure = ? WHERE seq = ?",
                )?
                .execute(params![instance, row::failure(failure), claimed.seq])?;
            }
            Next::Settle { state, failure } => {
                self.settle(claimed.seq, *state, failure.as_ref(), end.ended, false)?;
            }
            Next::Hold { failure } => {
                self.settle(claimed.seq, State::Dead, Some(failure), end.ended, true)?;
            }
        }
        Ok(Ended::AsSaid)
    }

    fn write_outcome(&mut self, claimed: &Claimed, end: &StepEnd) -> Result<(), Fault> {
        let output = end.output.as_deref().map(row::json);
        let ended = end.ended.as_millis();
        let reason = end.reason.map(Reason::code);
        let Some(attempt) = end.attempt else {
            self.cached(
                "INSERT OR REPLACE INTO attempt (delivery, phase, step, attempt, step_id, started, ended, outcome, \
                 reason, message, output) VALUES (?1, ?2, ?3, 0, ?4, ?5, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                claimed.seq,
                row::phase(end.phase),
                claimed.step,
                end.step_id,
                ended,
                end.outcome.word(),
                reason,
                end.message,
                output,
            ])?;
            return Ok(());
        };
        let ended = self
            .cached(
                "UPDATE attempt SET ended = ?, outcome = ?, reason = ?, message = ?, output = ?, trace = ? \
                 WHERE delivery = ? AND phase = ? AND step = ? AND attempt = ? AND ended IS NULL",
            )?
            .execute(params![
                ended,
                end.outcome.word(),
                reason,
                end.message,
                output,
                end.trace,
                claimed.seq,
                row::phase(end.phase),
                claimed.step,
                attempt,
            ])?;
        if ended == 0 {
            return Err(JournalError::Refused(format!(
                "attempt {attempt} of step `{}` of delivery {} was not begun, or has ended",
                end.step_id, end.delivery
            ))
            .into());
        }
        Ok(())
    }

    /// Settles a running delivery, and lets the next one of its line go, unless it is to hold the line up: as one that is the
    /// first of it may.
    fn settle(
        &mut self,
        seq: i64,
        state: State,
        failure: Option<&Failure>,
        now: Timestamp,
        hold: bool,
    ) -> rusqlite::Result<()> {
        let failure = failure.map(row::failure);
        let (route, key): (String, Option<String>) = self
            .cached(
                "UPDATE delivery SET state = ?, settled = ?, failure = coalesce(?, failure), due = NULL, owner = NULL, \
                 lease = NULL, reason = NULL, detail = NULL, bucket = NULL WHERE seq = ? RETURNING route, order_key",
            )?
            .query_row(params![state.word(), now.as_millis(), failure, seq], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        self.moved(State::Running, state);
        let Some(key) = key else { return Ok(()) };
        if hold && self.may_hold(&route, &key, seq)? {
            self.cached("UPDATE delivery SET held = 1 WHERE seq = ?")?
                .execute([seq])?;
            return Ok(());
        }
        self.advance(&route, &key)
    }

    fn claimed(&self, delivery: DeliveryId, owner: &str) -> Result<Claimed, Fault> {
        let claimed = self
            .cached(
                "SELECT seq, phase, step, attempts, cancel IS NOT NULL AS canceled FROM delivery \
                 WHERE id = ? AND owner = ? AND lease IS NOT NULL",
            )?
            .query_row(params![delivery.to_string(), owner], |row| {
                Ok(Claimed {
                    seq: row.get(0)?,
                    phase: row::word_at(row, "phase")?,
                    step: row.get(2)?,
                    attempts: row.get(3)?,
                    canceled: row.get(4)?,
                })
            })
            .optional()?;
        Ok(claimed.ok_or_else(|| {
            JournalError::NotFound(format!("delivery {delivery} is not claimed by `{owner}`"))
        })?)
    }
}

impl Claimed {
    fn check(&self, delivery: DeliveryId, phase: Phase, step: usize) -> Result<(), JournalError> {
        if self.phase == phase && usize::try_from(self.step) == Ok(step) {
            return Ok(());
        }
        Err(JournalError::Refused(format!(
            "delivery {delivery} is at step {} of its {} list, not at step {step} of {}",
            self.step,
            row::phase(self.phase),
            row::phase(phase)
        )))
    }
}

/// A waiting delivery's `due`: never 0, which means that it does not wait.
fn waiting_until(due: Timestamp) -> i64 {
    due.as_millis().max(1)
}
