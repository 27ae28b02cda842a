//! Bounds on attempts: how fast they may begin, and who waits for that.
//!
//! What is bounded goes through a *bucket*: an instance's, or that of an instance and a key. Its row has the pace of what has
//! begun, written in the transaction that begins an attempt, so that no restart knows less of it. Who finds a bucket closed waits
//! at it, `waiting` like any other, with a `due` of its own at the end of those that wait there: nobody has to wake it, and a
//! thousand of them come one by one. Whoever goes through hands the bucket on to the oldest that waits, so that they go in the
//! order of arrival, and as soon as they can, whatever they were told.

use jackfield_event::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{deliveries::Claimed, job::Fault, store::Store};
use crate::{
    delivery::State,
    journal::{AttemptStart, Begun, Bound, Ended, Rest},
    rate::Rate,
    reason::Reason,
};

/// The row of a bucket, or what stands for one that is not there.
#[derive(Clone, Default)]
struct Bucket {
    pace: i64,
    tail: i64,
    rests: Option<i64>,
    reason: Option<String>,
    detail: Option<String>,
}

/// A bucket as it is found.
struct Look<'s> {
    bound: &'s Bound,
    bucket: Bucket,
    /// From when on one may go through, at the earliest now.
    opens: i64,
    /// Whether it cannot be gone through now: it is not open, or others come first.
    closed: bool,
    /// Whether anybody waits at it.
    waited_at: bool,
}

impl Store<'_> {
    /// Lets an attempt through all of its buckets, or puts its delivery back to wait at the one that opens last.
    pub(super) fn admit(&mut self, claimed: &Claimed, start: &AttemptStart) -> Result<Begun, Fault> {
        let came_from: Option<String> = self
            .cached("SELECT bucket FROM delivery WHERE seq = ?")?
            .query_row([claimed.seq], |row| row.get(0))?;
        if start.bounds.is_empty() && came_from.is_none() {
            return Ok(Begun::Now);
        }
        let now = micros(start.started);
        let mut looks = Vec::with_capacity(start.bounds.len());
        for bound in &start.bounds {
            looks.push(self.look(bound, claimed.seq, now)?);
        }
        let came_from = came_from.as_deref();
        let closed = looks
            .iter()
            .filter(|look| look.closed)
            .max_by_key(|look| look.opens);
        let begun = match closed {
            Some(closed) => {
                let left = came_from.filter(|left| *left != closed.bound.bucket);
                self.leave(left, &looks, now)?;
                self.wait_at(claimed.seq, closed, start.started)?
            }
            None => {
                self.cached("UPDATE delivery SET bucket = NULL WHERE seq = ?")?
                    .execute([claimed.seq])?;
                for look in &looks {
                    let late = if came_from == Some(&look.bound.bucket) {
                        LATE
                    } else {
                        0
                    };
                    self.go_through(look, now, late)?;
                }
                let left = came_from.filter(|left| looks.iter().all(|look| look.bound.bucket != *left));
                self.leave(left, &looks, now)?;
                Begun::Now
            }
        };
        self.sweep_buckets(start.started)?;
        Ok(begun)
    }

    /// How a bucket is found by who wants to go through it.
    fn look<'s>(&self, bound: &'s Bound, seq: i64, now: i64) -> rusqlite::Result<Look<'s>> {
        let bucket = self.sane_bucket(bound, now)?;
        let oldest = self.first_at(&bound.bucket)?;
        let opens = bucket.opens(bound, now);
        let passes = oldest.is_some_and(|oldest| oldest < seq);
        Ok(Look {
            bound,
            bucket,
            opens,
            closed: bound.full || opens > now || passes,
            waited_at: oldest.is_some(),
        })
    }

    /// The bucket of a bound, with a pace that its rate can have left.
    fn sane_bucket(&self, bound: &Bound, now: i64) -> rusqlite::Result<Bucket> {
        let mut bucket = self.bucket(&bound.bucket)?.unwrap_or_default();
        if let Some(rate) = &bound.rate {
            bucket.pace = rate.sane(bucket.pace, now);
        }
        Ok(bucket)
    }

    /// Hands on the bucket at which one waited that waits there no more.
    fn leave(&mut self, left: Option<&str>, looks: &[Look<'_>], now: i64) -> rusqlite::Result<()> {
        let Some(left) = left else { return Ok(()) };
        let look = looks.iter().find(|look| look.bound.bucket == left);
        self.hand_on(left, look.map_or(now, |look| look.opens))
    }

    /// Notes at a bucket that an attempt begins, and hands it on.
    fn go_through(&mut self, look: &Look<'_>, now: i64, late: i64) -> rusqlite::Result<()> {
        let name = &look.bound.bucket;
        let Some(rate) = &look.bound.rate else {
            return self.hand_on(name, now);
        };
        let bucket = Bucket {
            pace: rate.begun(look.bucket.pace, now, late),
            ..look.bucket.clone()
        };
        self.write_bucket(name, &bucket)?;
        self.hand_on(name, rate.opens(bucket.pace))
    }

    /// Ends the claim of a delivery, to wait at the end of those that wait at a bucket.
    fn wait_at(&mut self, seq: i64, look: &Look<'_>, now: Timestamp) -> rusqlite::Result<Begun> {
        let name = &look.bound.bucket;
        let step = look.bound.rate.as_ref().map_or(STEP, Rate::interval);
        let place = match look.waited_at {
            true => look.opens.max(look.bucket.tail).max(micros(now) + step),
            false => look.opens,
        };
        let bucket = Bucket {
            tail: place.saturating_add(step),
            ..look.bucket.clone()
        };
        let (reason, detail) = bucket.why(look.bound, micros(now));
        let due = millis(place);
        match self.give_back(seq, State::Waiting, due, Some(reason.code()), Some(&detail), now)? {
            Ended::AsSaid => {}
            // It waits no more, and takes no place from those that do.
            Ended::Canceled => return Ok(Begun::Settled(State::Canceled)),
            Ended::Superseded => return Ok(Begun::Settled(State::Superseded)),
        }
        self.write_bucket(name, &bucket)?;
        self.cached("UPDATE delivery SET bucket = ?, stalled = NULL WHERE seq = ?")?
            .execute(params![name, seq])?;
        if !look.bound.full {
            self.hand_on(name, look.opens)?;
        }
        Ok(Begun::Later {
            due: Timestamp::from_millis(due).unwrap_or(now),
            reason,
        })
    }

    /// Makes the oldest that waits at a bucket due when it opens, where it would come later.
    pub(super) fn hand_on(&mut self, bucket: &str, opens: i64) -> rusqlite::Result<()> {
        let handed = self
            .cached(
                "UPDATE delivery SET due = ?1 WHERE seq = (SELECT seq FROM delivery INDEXED BY delivery_bucket \
                 WHERE bucket = ?2 AND bucket IS NOT NULL AND state = 'waiting' ORDER BY seq LIMIT 1) AND due > ?1",
            )?
            .execute(params![millis(opens), bucket])?;
        self.wake |= handed > 0;
        Ok(())
    }

    /// Has the oldest that waits at a bucket look again, as soon as it may be let through.
    pub(super) fn make_room(&mut self, free: &Bound, now: Timestamp) -> Result<(), Fault> {
        let opens = self.sane_bucket(free, micros(now))?.opens(free, micros(now));
        Ok(self.hand_on(&free.bucket, opens)?)
    }

    /// Closes a bucket until a moment, whatever its rate; or opens it again, where it rests for an instance that failed.
    pub(super) fn rest(&mut self, name: &str, rest: Option<&Rest>, now: Timestamp) -> Result<(), Fault> {
        let found = self.bucket(name)?;
        let failed = Some(Reason::InstanceResting.code());
        if rest.is_none() && found.as_ref().and_then(|bucket| bucket.reason.as_deref()) != failed {
            return Ok(());
        }
        let bucket = found.unwrap_or_default();
        // Of several who ask for a pause, the longest is kept.
        let longer = bucket.rests_until(micros(now)).unwrap_or(0);
        if rest.is_some_and(|rest| micros(rest.until) <= longer) {
            return Ok(());
        }
        let bucket = Bucket {
            rests: rest.map(|rest| rest.until.as_millis()),
            reason: rest.map(|rest| rest.reason.code().to_owned()),
            detail: rest.map(|rest| rest.detail.clone()),
            ..bucket
        };
        self.write_bucket(name, &bucket)?;
        if rest.is_none() {
            self.hand_on(name, micros(now))?;
            self.wake = true;
        }
        Ok(())
    }

    /// Moves the times of buckets by so many milliseconds, as the clock was moved. Where it went forward, what lies after the
    /// moment in which it did so was told by the clock as it is now, and stays.
    pub(super) fn shift_buckets(&self, millis: i64, set: Option<Timestamp>) -> rusqlite::Result<()> {
        let old = set.filter(|_| millis > 0).map_or(i64::MAX, Timestamp::as_millis);
        self.cached(
            "UPDATE bucket SET pace = iif(pace / 1000 < ?2, pace + ?1 * 1000, pace), \
             tail = iif(tail / 1000 < ?2, tail + ?1 * 1000, tail), rests = iif(rests < ?2, rests + ?1, rests), \
             until = iif(until < ?2, until + ?1, until)",
        )?
        .execute([millis.clamp(-LONGEST_JUMP, LONGEST_JUMP), old])?;
        Ok(())
    }

    /// Whether the bucket of an instance rests: nothing of it need be claimed.
    pub(super) fn is_resting(&self, instance: &str, now: Timestamp) -> rusqlite::Result<bool> {
        Ok(self
            .bucket(instance)?
            .is_some_and(|bucket| bucket.rests_until(micros(now)).is_some()))
    }

    fn bucket(&self, name: &str) -> rusqlite::Result<Option<Bucket>> {
        self.cached("SELECT pace, tail, rests, reason, detail FROM bucket WHERE name = ?")?
            .query_row([name], |row| {
                Ok(Bucket {
                    pace: row.get(0)?,
                    tail: row.get(1)?,
                    rests: row.get(2)?,
                    reason: row.get(3)?,
                    detail: row.get(4)?,
                })
            })
            .optional()
    }

    /// Writes a bucket; each time some go of which there is nothing to be known any more, so that they do not pile up.
    fn write_bucket(&mut self, name: &str, bucket: &Bucket) -> rusqlite::Result<()> {
        let until = millis(bucket.pace.max(bucket.tail)).max(bucket.rests.unwrap_or(0));
        self.cached(
            "INSERT OR REPLACE INTO bucket (name, pace, tail, rests, reason, detail, until) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            name,
            bucket.pace,
            bucket.tail,
            bucket.rests,
            bucket.reason,
            bucket.detail,
            until
        ])?;
        Ok(())
    }

    /// Forgets a few buckets that say nothing any more.
    pub(super) fn sweep_buckets(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        self.cached(
            "DELETE FROM bucket WHERE name IN (SELECT name FROM bucket INDEXED BY bucket_until WHERE until <= ? LIMIT 8)",
        )?
        .execute([now.as_millis()])?;
        Ok(())
    }

    fn first_at(&self, bucket: &str) -> rusqlite::Result<Option<i64>> {
        self.cached(
            "SELECT seq FROM delivery INDEXED BY delivery_bucket WHERE bucket = ? AND bucket IS NOT NULL AND state = 'waiting' ORDER BY seq LIMIT 1",
        )?
        .query_row([bucket], |row| row.get(0))
        .optional()
    }
}

impl Bucket {
    /// From when on an attempt may go through.
    fn opens(&self, bound: &Bound, now: i64) -> i64 {
        let opens = match &bound.rate {
            Some(rate) => rate.opens(self.pace),
            None => i64::MIN,
        };
        let opens = opens.max(now).max(self.rests_until(now).unwrap_or(now));
        match bound.full {
            // Whoever leaves it hands it on; where that is lost, it is looked at again.
            true => opens.max(now.saturating_add(LOOK_AGAIN)),
            false => opens,
        }
    }

    /// Until when it rests. What was written by a clock that has been set back since does not count.
    fn rests_until(&self, now: i64) -> Option<i64> {
        let until = self.rests?.saturating_mul(1_000);
        (until > now && until <= now.saturating_add(LONGEST_REST)).then_some(until)
    }

    fn why(&self, bound: &Bound, now: i64) -> (Reason, String) {
        if self.rests_until(now).is_some() {
            let reason = self.reason.as_deref().and_then(|reason| reason.parse().ok());
            return (
                reason.unwrap_or(Reason::RateLimited),
                self.detail.clone().unwrap_or_default(),
            );
        }
        let bucket = &bound.bucket;
        match &bound.rate {
            Some(rate) if !bound.full => (Reason::RateLimited, format!("`{bucket}` takes {rate}")),
            Some(_) | None => (
                Reason::KeyBusy,
                format!("as many calls run for `{bucket}` as may at a time"),
            ),
        }
    }
}

fn micros(moment: Timestamp) -> i64 {
    moment.as_millis().saturating_mul(1_000)
}

/// The first whole millisecond that is not before it, as a `due`.
fn millis(micros: i64) -> i64 {
    micros.saturating_add(999).div_euclid(1_000).max(1)
}

/// How late one may come that was told its time, in microseconds, without putting off the others: what a dispatcher takes to
/// wake and to commit. So much more than the rate may begin within this time after a rest.
const LATE: i64 = 100_000;
/// How far apart those wait that wait for a call to end.
const STEP: i64 = 1_000_000;
/// When the first of them looks again.
const LOOK_AGAIN: i64 = 30_000_000;
/// A clock is not moved by more, in milliseconds: thirty thousand years.
const LONGEST_JUMP: i64 = 1_000_000_000_000_000;
/// Nothing rests for longer, in microseconds; `dispatcher` asks for less.
const LONGEST_REST: i64 = 24 * 3600 * 1_000_000;
