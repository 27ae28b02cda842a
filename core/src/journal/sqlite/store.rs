//! The writer's view of the database: statements, and what it knows without asking. Transactions begin and end here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jackfield_event::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, params};

use super::{
    dedup::{self, Dedup, Entry},
    settled::Settled,
};
use crate::{delivery::State, router::GenerationId};

/// The state of the one writer.
pub(super) struct Store<'c> {
    pub(super) connection: &'c Connection,
    pub(super) insert: Inserts<'c>,
    pub(super) dedup: Dedup,
    dedup_keys: usize,
    /// The newest event whose key is in a block.
    covered: i64,
    /// The rows of rules that were asked for.
    pub(super) rules: HashMap<GenerationId, i64>,
    /// What changes with a transaction and goes back with it.
    pub(super) marks: Marks,
    /// What was settled in transactions that are committed.
    settled: Arc<Mutex<Settled>>,
    /// Whether a delivery may have become claimable since the last look.
    pub(super) wake: bool,
}

/// Statements of the hot path, held apart from the cache.
pub(super) struct Inserts<'c> {
    pub(super) event: Statement<'c>,
    pub(super) request: Statement<'c>,
    pub(super) delivery: Statement<'c>,
    pub(super) delivery_event: Statement<'c>,
}

/// The writer's memory of the open transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// The newest event.
    pub(super) event: i64,
    /// The newest delivery that there has been.
    pub(super) delivery: i64,
    tally: [i64; TALLIES.len()],
    settled: Settled,
    dedup_tail: usize,
}

impl<'c> Store<'c> {
    /// Reads what the writer must know; ends the claims of routers that are gone, and removes what they left half done.
    pub(super) fn open(
        connection: &'c Connection,
        now: Timestamp,
        dedup_keys: usize,
        settled: Arc<Mutex<Settled>>,
    ) -> rusqlite::Result<Self> {
        let insert = Inserts {
            event: connection.prepare(
                "INSERT INTO event (seq, id, received, source, type, rules, dedup, dedup_until, headers, envelope) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
            request: connection.prepare("INSERT INTO request (event, body) VALUES (?, ?)")?,
            delivery: connection.prepare(
                "INSERT INTO delivery (seq, id, route, rules, created, parent, key_root, order_key, first_instance, \
                 instance, phase, state, due, failure, settled, reason, replaceable, keep, closes, successor, deadline, \
                 step, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
            )?,
            delivery_event: connection.prepare("INSERT INTO delivery_event (delivery, event, time) VALUES (?, ?, ?)")?,
        };
        let newest = |table| {
            connection.query_row(&format!("SELECT coalesce(max(seq), 0) FROM {table}"), [], |row| {
                row.get(0)
            })
        };
        let marks = Marks {
            event: newest("event")?,
            delivery: i64::max(newest("delivery")?, own_number(connection, NEWEST_PRUNED)?),
            tally: [0; TALLIES.len()],
            settled: Settled::default(),
            dedup_tail: 0,
        };
        let mut store = Self {
            connection,
            insert,
            dedup: Dedup::new(),
            dedup_keys,
            covered: 0,
            rules: HashMap::new(),
            marks,
            settled,
            wake: false,
        };
        store.load_dedup()?;
        store.catch_up_with_the_clock(now)?;
        store.within_transaction(|store| {
            store.sweep_rules()?;
            store.end_claims(now, None)
        })?;
        Ok(store)
    }

    /// Follows a clock that was set back while nobody ran: it shows less than when the newest rows were written. Where these are
    /// older than the last time that the clock was followed, it was by then.
    fn catch_up_with_the_clock(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        let followed = |key| own_number(self.connection, key);
        let written: Option<i64> = self.connection.query_row(
            "SELECT max(written) FROM (SELECT received AS written FROM event WHERE seq = ?1 AND seq > ?2 \
             UNION ALL SELECT created FROM delivery WHERE seq = ?3 AND seq > ?4)",
            [
                self.marks.event,
                followed(FOLLOWED_EVENT)?,
                self.marks.delivery,
                followed(FOLLOWED_DELIVERY)?,
            ],
            |row| row.get(0),
        )?;
        let back = written.map_or(0, |written| written - now.as_millis());
        if back < SET_BACK {
            return Ok(());
        }
        tracing::warn!(
            seconds = back / 1_000,
            "the clock shows less than when the journal was last written; what waits goes on from there"
        );
        self.within_transaction(|store| store.shift(-back, None))
    }

    /// Does `work` in a transaction of its own.
    pub(super) fn within_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let before = self.begin()?;
        let result = work(self).and_then(|done| self.commit().map(|()| done));
        if result.is_err() {
            self.roll_back(before);
        }
        result
    }

    /// Opens a transaction; what it returns is for [`Store::roll_back`].
    fn begin(&mut self) -> rusqlite::Result<Marks> {
        self.marks.dedup_tail = self.dedup.tail();
        self.cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(self.marks)
    }

    /// Commits: what was done is on disk, or an error and nothing of it is.
    fn commit(&mut self) -> rusqlite::Result<()> {
        let block = self.write_block()?;
        for (name, change) in TALLIES.iter().zip(self.marks.tally) {
            if change != 0 {
                self.cached("UPDATE tally SET count = count + ? WHERE name = ?")?
                    .execute(params![change, name])?;
            }
        }
        self.cached("COMMIT")?.execute([])?;
        self.marks.tally = [0; TALLIES.len()];
        let settled = std::mem::take(&mut self.marks.settled);
        self.settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(settled);
        if let Some(Block { forgotten }) = block {
            self.covered = self.marks.event;
            self.dedup.clear_tail();
            for block in forgotten {
                self.dedup.forget(&block);
            }
        }
        Ok(())
    }

    /// Remembers the number of the newest delivery, which is about to go: after a restart it would be that of another one, and
    /// whatever names this one as its successor would name that.
    pub(super) fn keep_number(&self) -> rusqlite::Result<()> {
        self.keep_own(NEWEST_PRUNED, self.marks.delivery)
    }

    /// Remembers that what is there by now has followed the clock: it was told by it as it was before.
    pub(super) fn note_followed(&self) -> rusqlite::Result<()> {
        self.keep_own(FOLLOWED_EVENT, self.marks.event)?;
        self.keep_own(FOLLOWED_DELIVERY, self.marks.delivery)
    }

    fn keep_own(&self, key: &str, number: i64) -> rusqlite::Result<()> {
        self.cached("INSERT OR REPLACE INTO kv (instance, key, value) VALUES (?, ?, ?)")?
            .execute(params![OWN_STORE, key, number.to_string().into_bytes()])?;
        Ok(())
    }

    fn roll_back(&mut self, before: Marks) {
        // Where SQLite has rolled back by itself already, there is nothing left to do.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(error = %error, "the journal could not roll back");
        }
        self.forget_since(before);
    }

    /// Does `work` such that its failure takes back its own changes alone.
    ///
    /// # Errors
    ///
    /// The outer, where the whole transaction is lost; the inner, where `work` failed.
    pub(super) fn apart<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<rusqlite::Result<T>> {
        self.cached("SAVEPOINT job")?.execute([])?;
        let before = Marks {
            dedup_tail: self.dedup.tail(),
            ..self.marks
        };
        let result = work(self);
        if let Err(error) = result {
            if self.connection.is_autocommit() {
                return Err(error);
            }
            self.connection.execute_batch("ROLLBACK TO job; RELEASE job")?;
            self.forget_since(before);
            return Ok(Err(error));
        }
        self.cached("RELEASE job")?.execute([])?;
        Ok(result)
    }

    fn forget_since(&mut self, before: Marks) {
        self.dedup.undo(before.dedup_tail);
        self.marks = before;
        // One of them may have been stored in what was taken back.
        self.rules.clear();
    }

    pub(super) fn cached(&self, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
        self.connection.prepare_cached(sql)
    }

    /// Counts one more (or one less) of what `name` says.
    pub(super) fn tally(&mut self, name: &str, change: i64) {
        let at = TALLIES
            .iter()
            .position(|tally| *tally == name)
            .expect("every state has its tally");
        self.marks.tally[at] += change;
    }

    /// Counts a delivery that goes from one state to another.
    pub(super) fn moved(&mut self, from: State, to: State) {
        self.tally(from.word(), -1);
        self.entered(to);
    }

    /// Counts a delivery that is in a state from now on.
    pub(super) fn entered(&mut self, state: State) {
        self.tally(state.word(), 1);
        self.marks.settled.count(state);
    }

    /// Puts the table of dedup keys together: from the blocks, and from the events since the last one.
    fn load_dedup(&mut self) -> rusqlite::Result<()> {
        let mut blocks = self
            .connection
            .prepare("SELECT last, entries FROM dedup_block ORDER BY last")?;
        let mut rows = blocks.query([])?;
        while let Some(row) = rows.next()? {
            self.covered = row.get(0)?;
            self.dedup.load(row.get_ref(1)?.as_blob()?);
        }
        let mut events = self.connection.prepare(
            "SELECT seq, source, dedup, dedup_until FROM event WHERE seq > ? AND dedup IS NOT NULL ORDER BY seq",
        )?;
        let mut rows = events.query([self.covered])?;
        while let Some(row) = rows.next()? {
            let (source, key) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
            self.dedup.insert(Entry {
                hash: dedup::hash(source, key),
                event: row.get(0)?,
                until: row.get(3)?,
            });
        }
        Ok(())
    }

    /// Writes the keys that are in no block into one, once there are enough, and removes blocks whose keys are over.
    fn write_block(&mut self) -> rusqlite::Result<Option<Block>> {
        if self.dedup.tail() < BLOCK && self.marks.event - self.covered < BLOCK_EVENTS {
            return Ok(None);
        }
        let (entries, until) = self.dedup.block();
        let last = self.marks.event;
        self.cached("INSERT INTO dedup_block (last, until, entries) VALUES (?, ?, ?)")?
            .execute(params![last, until, entries])?;
        // The newest event's key holds for as long as its window says: what ends before its beginning is over.
        let received: i64 = self
            .cached("SELECT received FROM event WHERE seq = ?")?
            .query_row([last], |row| row.get(0))?;
        let mut forgotten = Vec::new();
        let oldest = "SELECT last, until, entries FROM dedup_block WHERE last > ? ORDER BY last LIMIT 1";
        let mut after = 0;
        while let Some((block, until, entries)) = self
            .cached(oldest)?
            .query_row([after], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, Vec<u8>>(2)?,
                ))
            })
            .optional()?
            && block < last
            && forgotten.len() < 4
        {
            let gone: usize = forgotten.iter().map(Vec::len).sum();
            let crowded = self.dedup.len() - gone / dedup::ENTRY > self.dedup_keys;
            if until > received && !crowded {
                break;
            }
            if until > received {
                tracing::warn!(
                    keys = self.dedup_keys,
                    "dedup keys are forgotten before their window ends: too many"
                );
            }
            self.cached("DELETE FROM dedup_block WHERE last = ?")?
                .execute([block])?;
            forgotten.push(entries);
            after = block;
        }
        Ok(Some(Block { forgotten }))
    }
}

/// A number that the journal keeps for itself; 0 where it does not.
fn own_number(connection: &Connection, key: &str) -> rusqlite::Result<i64> {
    let number = connection
        .query_row(
            "SELECT CAST(value AS INTEGER) FROM kv WHERE instance = ? AND key = ?",
            [OWN_STORE, key],
            |row| row.get(0),
        )
        .optional()?;
    Ok(number.unwrap_or(0))
}

/// What a transaction that wrote a block does to the table once it is committed.
struct Block {
    forgotten: Vec<Vec<u8>>,
}

/// The rows of `tally`.
const TALLIES: [&str; 9] = [
    "event",
    "duplicate",
    "pending",
    "running",
    "waiting",
    "succeeded",
    "dead",
    "superseded",
    "canceled",
];

/// Among what plugins keep, under a name that no instance can have.
const OWN_STORE: &str = "@journal";
const NEWEST_PRUNED: &str = "newest-pruned-delivery";
const FOLLOWED_EVENT: &str = "newest-event-that-followed-the-clock";
const FOLLOWED_DELIVERY: &str = "newest-delivery-that-followed-the-clock";

/// How many keys make a block: 48 KB, three pages.
const BLOCK: usize = 4096;

/// How many events make one though fewer of them have keys: a start reads at most as many again.
pub(super) const BLOCK_EVENTS: i64 = 65_536;

/// So many milliseconds tell a clock that was set from two that were read at once.
const SET_BACK: i64 = 60_000;
