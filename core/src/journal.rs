//! The journal: requests, events, deliveries, attempts and plugin state, durably.
//!
//! [`Journal`] is the interface to write by, [`History`] the one to read by; the contract that every
//! implementation keeps is `contract`. No type of a database crosses them, and nothing that must survive lives
//! only in one process: claims have owners and leases. What a method committed is on disk when its future is
//! ready. What is kept for how long is said by [`Retention`], and nothing that is owed goes.

mod asked;
#[cfg(test)]
pub(crate) mod contract;
mod record;
mod retention;
mod sqlite;

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::{DeliveryId, EventId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use asked::{Ask, Asked, Asker, Canceled, Ended, First, Replay, ReplayKeys, Taken};
pub use record::{
    AttemptRecord, CancelRecord, Cause, Counts, DeliveryFilter, DeliveryMark, DeliveryRecord, DeliveryStory,
    EventFilter, EventRecord, EventStory, Gathered, GenerationRecord, Order, Rejection, RejectionRecord,
    RequestRecord, RoutedEvent, Stretch,
};
pub use retention::{DiskUse, Kept, Pruned, Retention};
pub use sqlite::{BackupError, Copied, OpenError, Options, SqliteHistory, SqliteJournal, back_up};

use crate::{
    clock::Jump,
    delivery::{Outcome, Phase, State},
    rate::Rate,
    reason::Reason,
    router::{GenerationId, Routed},
};

/// An event and what it came from, to be committed whole.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The event and the deliveries that it owes; its payload is the request's body.
    pub routed: Routed,
    /// The headers that are kept, through an allow-list, secrets redacted.
    pub headers: Vec<(&'static str, String)>,
    /// When the request arrived.
    pub received: Timestamp,
    /// How long redeliveries of this event are told by its dedup key.
    pub dedup_window: Duration,
}

/// Proof that an event is on disk. Only a journal makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    event: EventId,
    duplicate: bool,
    deliveries: Vec<DeliveryId>,
}

impl Committed {
    /// The event: for a duplicate, the one that was first.
    pub fn event(&self) -> EventId {
        self.event
    }

    /// Whether the provider had delivered it before.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    /// The deliveries that came to be owed.
    pub fn deliveries(&self) -> &[DeliveryId] {
        &self.deliveries
    }
}

/// What a dispatcher asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Who asks: unique to a process's run.
    pub owner: String,
    /// The present moment.
    pub now: Timestamp,
    /// How long the claim holds without being renewed.
    pub lease: Duration,
    /// How many at most.
    pub limit: usize,
    /// Instances that take no more calls at present: deliveries whose next step uses one stay.
    pub busy: Vec<String>,
}

/// A delivery that one owner works at.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its route.
    pub route: String,
    /// The generation under which it was made.
    pub generation: GenerationId,
    /// Its events' JSON, payload and all, the newest last; at least one. Of a burst of which only the newest is kept, that.
    pub events: Vec<Bytes>,
    /// What idempotency keys of its steps begin with: its own id, or that of the delivery whose keys a replay keeps.
    pub key_root: String,
    /// What those of some of its steps begin with in place of it, by step id.
    pub key_roots: BTreeMap<String, String>,
    /// Which list of steps it is in.
    pub phase: Phase,
    /// The first step of that list without an outcome, from 0.
    pub step: usize,
    /// How many attempts of that step were started.
    pub attempts: u32,
    /// Whether one of them was in its plugin's worker process when that died.
    pub crashed: bool,
    /// When nothing is begun of its steps any more.
    pub deadline: Option<Timestamp>,
    /// What it waited for, in words, where its deadline came first.
    pub waited_for: Option<String>,
    /// Since when it has been given back for one reason or another, and nothing was begun.
    pub stalled_since: Option<Timestamp>,
    /// Outputs of the steps of `phase` before it that were done, by step id, in JSON.
    pub outputs: BTreeMap<String, Bytes>,
    /// Steps from there on that are not to be made, by their place, since it is known what became of them.
    pub taken: BTreeMap<usize, Taken>,
    /// Why it was given up, once it is in its `on_failure` phase.
    pub failure: Option<Failure>,
}

/// Why a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The id of the step that failed; absent where it failed before any.
    pub step: Option<String>,
    /// The code for it.
    pub reason: Reason,
    /// In words.
    pub error: String,
}

/// An attempt that is about to be made.
#[derive(Clone, Debug)]
pub struct AttemptStart {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Who claimed it.
    pub owner: String,
    /// Which list of steps.
    pub phase: Phase,
    /// Which step of the list, from 0.
    pub step: usize,
    /// The step's id.
    pub step_id: String,
    /// The instance that is called.
    pub instance: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The rendered input, in JSON.
    pub input: Bytes,
    /// When.
    pub started: Timestamp,
    /// What it has to go through: where one of them does not let it, it does not begin.
    pub bounds: Vec<Bound>,
}

/// A bucket that an attempt has to go through: that of an instance, or of an instance and a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its name: the instance's, alone or with the key after a space.
    pub bucket: String,
    /// How fast attempts may go through, where that is bounded.
    pub rate: Option<Rate>,
    /// Whether it is full: as many calls that went through it are running as may at a time.
    pub full: bool,
}

/// Whether an attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It does.
    Now,
    /// It does not: the delivery waits for a bucket, and its claim has ended.
    Later {
        /// When it is due again, at the latest.
        due: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// It does not: its delivery is settled, canceled as a person asked, or superseded by one that came meanwhile.
    Settled(State),
}

/// That a bucket is closed for a while, whatever its rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: Reason,
    /// In words.
    pub detail: String,
}

/// How a step ended or an attempt of it, and what that makes of the delivery.
#[derive(Clone, Debug)]
pub struct StepEnd {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Who claimed it.
    pub owner: String,
    /// Which list of steps.
    pub phase: Phase,
    /// Which step of the list, from 0.
    pub step: usize,
    /// The step's id.
    pub step_id: String,
    /// The attempt that ended; absent where the step ended without a call.
    pub attempt: Option<u32>,
    /// How.
    pub outcome: Outcome,
    /// The code for it, where it is not done.
    pub reason: Option<Reason>,
    /// What the plugin said.
    pub message: Option<String>,
    /// What the plugin put out, in JSON.
    pub output: Option<Bytes>,
    /// How the work directory looked behind it, where it was done: a number that is another one where anything in there is.
    /// Absent where the directory was empty.
    pub trace: Option<i64>,
    /// When.
    pub ended: Timestamp,
    /// What becomes of the delivery.
    pub next: Next,
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The same owner goes on with the step after this one, of this list.
    Step {
        /// The instance that it uses.
        instance: String,
    },
    /// The same step is due again at `due`; the claim ends.
    Wait {
        /// When.
        due: Timestamp,
        /// Why.
        reason: Reason,
        /// In words.
        detail: Option<String>,
    },
    /// The same owner goes on with the first `on_failure` step.
    OnFailure {
        /// What failed.
        failure: Failure,
        /// The instance that the first `on_failure` step uses.
        instance: String,
    },
    /// It is settled; the claim ends and its order key is free.
    Settle {
        /// `Succeeded` or `Dead`.
        state: State,
        /// What failed, where it is dead.
        failure: Option<Failure>,
    },
    /// It is dead and the claim ends; it keeps its order key, where it has one, until a person lets go of that.
    Hold {
        /// What failed.
        failure: Failure,
    },
}

/// Keeps everything that a 200 promises.
#[async_trait]
pub trait Journal: History {
    // The way in.

    /// Commits a request, its event, its dedup key and its deliveries in one transaction, or finds it a duplicate.
    ///
    /// The text of the generation that decided must have been stored before.
    async fn append(&self, arrival: Arrival) -> Result<Committed, AppendError>;

    /// Notes that a request was refused. Never waits: of a flood, only some are kept, and how many are not.
    fn reject(&self, rejection: Rejection);

    /// How long what waits longest for its commit has been waiting; nothing where nothing waits. Never waits itself.
    fn lag(&self) -> Duration;

    // The way out.

    /// Changes whenever a delivery may have become claimable other than by the passing of time.
    fn changes(&self) -> watch::Receiver<u64>;

    /// How many deliveries were settled since it was opened, by state, every such state named; whatever settled them.
    fn settled(&self) -> BTreeMap<&'static str, u64>;

    /// Claims deliveries that are due, oldest first; of those with one order key of one route only the oldest. And those
    /// whose deadline has passed, whatever they wait for.
    ///
    /// One that cannot be read takes down none of the others: it waits, for that reason, and is tried again.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, JournalError>;

    /// When the next delivery is due that is not yet, or whose claim runs out.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, JournalError>;

    /// Holds an owner's claims of `deliveries` for another `lease` from `now`, as far as they are still its own.
    ///
    /// The owner names them, so that a claim of which it does not know, for an answer that was lost, runs out.
    async fn renew(
        &self,
        owner: &str,
        deliveries: Vec<DeliveryId>,
        now: Timestamp,
        lease: Duration,
    ) -> Result<(), JournalError>;

    /// Gives a claimed delivery back unchanged, due again at `due` for `reason`, where there is one.
    ///
    /// An attempt of it that has not ended is marked as interrupted. Where a person has asked for it to be canceled, it is.
    async fn release(
        &self,
        delivery: DeliveryId,
        owner: &str,
        due: Option<(Timestamp, Reason, String)>,
    ) -> Result<Ended, JournalError>;

    /// Makes deliveries due at once that wait for one of `instances` for `reason`.
    async fn wake(&self, instances: Vec<String>, reason: Reason) -> Result<(), JournalError>;

    /// Commits that an attempt is about to be made: the next one of the step at which the delivery stands. Or puts the
    /// delivery back unchanged, where one of the buckets is closed: then it waits at it, behind those that came before.
    ///
    /// What goes through a bucket is committed with it, so that nothing that begins after a restart knows less of it.
    async fn begin(&self, start: AttemptStart) -> Result<Begun, JournalError>;

    /// Says that what bounds attempts is full no longer: the oldest that waits at its bucket is due as soon as its rate allows.
    async fn hand_on(&self, free: Bound) -> Result<(), JournalError>;

    /// Closes a bucket for a while; while that of an instance rests, nothing of the instance is claimed. Or ends the rest of an
    /// instance that failed, though not a pause that a service asked for.
    async fn rest(&self, bucket: &str, rest: Option<Rest>) -> Result<(), JournalError>;

    /// Commits how a step or an attempt ended and what that makes of the delivery. Where a person has asked for it to be
    /// canceled, it is, unless it goes on with the next step or has succeeded.
    async fn end(&self, end: StepEnd) -> Result<Ended, JournalError>;

    /// Follows a clock that was set: what waits goes on waiting for as long as it would have. What was told to wait in the
    /// moments of `told` was told so by the clock as it is now, and stays.
    async fn clock_was_set(&self, jump: Jump, told: RangeInclusive<Timestamp>) -> Result<(), JournalError>;

    // What people ask for.

    /// Makes new deliveries, each of a settled one that it names as its parent, all in one transaction. Each new one, or
    /// why there is none; that one cannot be made keeps none of the others.
    async fn replay(
        &self,
        replays: Vec<Replay>,
    ) -> Result<Vec<Result<DeliveryId, JournalError>>, JournalError>;

    /// Makes one new delivery like a settled one, from its beginning: what tests ask for most.
    #[cfg(test)]
    async fn replay_delivery(
        &self,
        delivery: DeliveryId,
        keys: ReplayKeys,
    ) -> Result<DeliveryId, JournalError> {
        let mut made = self.replay(vec![Replay::whole(delivery, keys)]).await?;
        made.pop().unwrap_or(Err(JournalError::Closed))
    }

    /// Makes the deliveries that a stored event owes under some rules, without a new event.
    async fn replay_event(
        &self,
        event: EventId,
        routed: Routed,
        asked: Asked,
    ) -> Result<Vec<DeliveryId>, JournalError>;

    /// Cancels a delivery that is pending or waits, which frees its order key; of one that is running it is noted, to be done
    /// as soon as the claim ends.
    async fn cancel(&self, delivery: DeliveryId, asker: Asker) -> Result<Canceled, JournalError>;

    /// Lets the deliveries go that wait behind a dead one which holds them up.
    async fn skip(&self, delivery: DeliveryId) -> Result<(), JournalError>;

    // Rules.

    /// Stores a generation's rule text under its hash; storing it again changes nothing.
    async fn store_rules(&self, generation: &GenerationId, text: &str) -> Result<(), JournalError>;

    /// Notes that a generation, whose text is stored, is in force from now on; in place of that of the rule files, where
    /// that one is `displaced`. Where it is already, and in the same way, nothing changes. Gives what is noted.
    async fn put_in_force(
        &self,
        generation: &GenerationId,
        cause: Cause,
        displaced: Option<&GenerationId>,
    ) -> Result<GenerationRecord, JournalError>;

    // What plugins keep.

    /// Writes `key` of the instance's own store; `None` deletes it. Expires after `ttl`, where there is one.
    async fn kv_put(
        &self,
        instance: &str,
        key: &str,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), JournalError>;

    /// Keeps a receipt under an idempotency key, in place of the one before.
    async fn keep_receipt(&self, idempotency_key: &str, receipt: KeptReceipt) -> Result<(), JournalError>;

    // What is not kept for ever.

    /// Removes some of what is too old or too much: little enough that nobody waits for it. Called again and again, it
    /// comes to the end of it.
    async fn prune(&self, retention: &Retention) -> Result<Pruned, JournalError>;

    // The end.

    /// Returns when all that was asked for before is on disk.
    async fn sync(&self) -> Result<(), JournalError>;

    /// Commits what was asked for, closes the store and lets go of its lock. What comes later is refused.
    async fn close(&self) -> Result<(), JournalError>;
}

/// Reads what a journal holds, of a running router or beside it.
#[async_trait]
pub trait History: Send + Sync + std::fmt::Debug {
    /// The events that pass the filter, newest first.
    async fn events(&self, filter: EventFilter) -> Result<Vec<EventRecord>, JournalError>;

    /// The events of a stretch, oldest first, as they were routed: those whose payload is kept. There are none where it is at the end.
    async fn stretch(&self, stretch: Stretch) -> Result<Vec<RoutedEvent>, JournalError>;

    /// How many events were received at or after this moment; all, without one.
    async fn event_count(&self, since: Option<Timestamp>) -> Result<u64, JournalError>;

    /// One event, its payload joined.
    async fn event(&self, id: EventId) -> Result<Option<EventStory>, JournalError>;

    /// The request that an event came from.
    async fn event_request(&self, id: EventId) -> Result<Option<RequestRecord>, JournalError>;

    /// The deliveries that pass the filter, newest first.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, JournalError>;

    /// How many deliveries pass the filter, whatever its limit is.
    async fn delivery_count(&self, filter: DeliveryFilter) -> Result<u64, JournalError>;

    /// Where deliveries stand, of those that there are.
    async fn states(&self, deliveries: Vec<DeliveryId>) -> Result<BTreeMap<DeliveryId, State>, JournalError>;

    /// One delivery with its attempts.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryStory>, JournalError>;

    /// How much of the disk it takes.
    async fn disk_use(&self) -> Result<DiskUse, JournalError>;

    /// How much there is of what.
    async fn counts(&self) -> Result<Counts, JournalError>;

    /// Requests that were refused lately, newest first.
    async fn rejections(&self, limit: usize) -> Result<Vec<RejectionRecord>, JournalError>;

    /// A generation's rule text, as long as it is kept.
    async fn rules(&self, generation: &GenerationId) -> Result<Option<String>, JournalError>;

    /// The generations as they came into force, the newest first.
    async fn generations(&self, limit: usize) -> Result<Vec<GenerationRecord>, JournalError>;

    /// The generations whose names begin with `prefix`, two at most.
    async fn generations_like(&self, prefix: &str) -> Result<Vec<GenerationId>, JournalError>;

    /// The generation that a person means, who may write no more than the beginning of its name.
    async fn generation(&self, prefix: &str) -> Result<GenerationId, JournalError> {
        let mut found = self.generations_like(prefix).await?;
        match found.len() {
            0 => Err(JournalError::NotFound(format!(
                "there is no generation `{prefix}`; `jackfield routes history` lists them"
            ))),
            1 => Ok(found.remove(0)),
            _ => Err(JournalError::Refused(format!(
                "the names of several generations begin with `{prefix}`; write more of it"
            ))),
        }
    }

    /// The buckets that rest now.
    async fn rests(&self) -> Result<BTreeMap<String, Rest>, JournalError>;

    /// The generations of deliveries that are not settled.
    async fn unsettled_generations(&self) -> Result<Vec<GenerationId>, JournalError>;

    /// Reads `key` of an instance's own store.
    async fn kv_get(&self, instance: &str, key: &str) -> Result<Option<Bytes>, JournalError>;

    /// Reads the receipt that is kept under an idempotency key.
    async fn receipt(&self, idempotency_key: &str) -> Result<Option<KeptReceipt>, JournalError>;
}

/// A trace of what a step is about to do, or has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReceipt {
    /// Whether it has acted; else it is about to, and whether it did must be looked up.
    pub done: bool,
    /// What the plugin wrote down, in JSON.
    pub body: Bytes,
}

/// Why an arrival was not committed. It is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// More wait for the writer than memory is set aside for.
    #[error("the journal's queue is full")]
    Full,
    /// The disk or the database refused.
    #[error("the journal could not commit")]
    Unavailable(#[source] JournalError),
}

/// Why the journal could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed: a full disk, a failing one.
    #[error("{0}")]
    Store(String),
    /// There is no such event, delivery or generation, or it is not this owner's any more.
    #[error("{0}")]
    NotFound(String),
    /// It stands otherwise than what was asked for needs.
    #[error("{0}")]
    Refused(String),
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}
