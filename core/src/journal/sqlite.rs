//! The journal on SQLite: one file that anybody can read with `sqlite3`, one thread that writes it.
//!
//! What comes in waits in a bounded queue; the writer commits all that waits in one transaction, synced, and
//! answers. Reading has connections of its own and never waits for the writer. A lock on the data directory, taken
//! before anything else, keeps a second router out. `JOURNAL.md` has the schema, the crash cases and the measurements.

mod answer;
mod append;
mod backup;
mod buckets;
mod burst;
mod cancel;
mod checkpoint;
mod claims;
mod dedup;
mod deliveries;
mod history;
mod job;
mod keep;
mod lag;
mod line;
mod lock;
mod pool;
mod prune;
mod replay;
mod ring;
mod row;
mod rules;
mod schema;
mod settled;
mod store;
mod supersede;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::BTreeMap,
    fs::File,
    ops::RangeInclusive,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::{DeliveryId, EventId, Timestamp};
use tokio::sync::{mpsc, watch};

use self::{
    answer::Answer,
    append::NewEvent,
    checkpoint::Checkpoints,
    job::{Fault, Job},
    lag::Lag,
    lock::Lock,
    prune::Search,
    ring::Ring,
    settled::Settled,
    store::Store,
};
pub use self::{
    backup::{BackupError, Copied, back_up},
    history::SqliteHistory,
    schema::OpenError,
};
use super::{
    AppendError, Arrival, Asked, Asker, AttemptStart, Begun, Bound, Canceled, Cause, Claim, ClaimRequest,
    Committed, Counts, DeliveryFilter, DeliveryRecord, DeliveryStory, DiskUse, Ended, EventFilter,
    EventRecord, EventStory, GenerationRecord, History, Journal, JournalError, KeptReceipt, Pruned,
    Rejection, RejectionRecord, Replay, RequestRecord, Rest, Retention, RoutedEvent, StepEnd, Stretch,
};
use crate::{
    clock::{Clock, Jump, SystemClock},
    delivery::State,
    reason::Reason,
    router::{GenerationId, Routed},
};

/// What can be set about a journal.
#[derive(Clone, Debug)]
pub struct Options {
    /// What tells the time where no caller gives it.
    pub clock: Arc<dyn Clock>,
    /// How many jobs may wait for the writer before arrivals are turned away.
    pub queue: usize,
    /// How many bytes of arrivals may wait for the writer before more are turned away.
    pub queue_bytes: usize,
    /// How many dedup keys are remembered at most, about 16 bytes of memory each; beyond it the oldest are
    /// forgotten before their window ends.
    pub dedup_keys: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            // At 30 µs each, the writer is through in a quarter of a second.
            queue: 8192,
            queue_bytes: 64 << 20,
            // Just before the shards of the table would grow beyond 55 MB.
            dedup_keys: 3_500_000,
        }
    }
}

/// A journal that is open to write.
#[derive(Debug)]
pub struct SqliteJournal {
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    waiting: Arc<AtomicUsize>,
    queue_bytes: usize,
    changes: watch::Receiver<u64>,
    lag: Arc<Lag>,
    /// What was settled since it was opened. The lock is held for one look or one sum.
    settled: Arc<Mutex<Settled>>,
    history: SqliteHistory,
    ring: Ring,
    clock: Arc<dyn Clock>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Where pruning stands. Held over a whole step of it: there is only one at a time.
    search: tokio::sync::Mutex<Search>,
}

impl SqliteJournal {
    /// Opens the journal in `directory`, making both where they are missing, and ends the claims of routers that are
    /// gone. Blocks for the time of some reads and syncs.
    ///
    /// # Errors
    ///
    /// Where another router has it, it is not ours, or the disk refuses.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        schema::make_directory(directory)?;
        let lock = Lock::take(directory, options.clock.now())?;
        let connection = schema::open_to_write(directory)?;
        let (jobs, queue) = mpsc::channel(options.queue);
        let (changed, changes) = watch::channel(0);
        let lag = Arc::new(Lag::new());
        let settled = Arc::<Mutex<Settled>>::default();
        let outlets = Outlets {
            changed,
            lag: Arc::clone(&lag),
            settled: Arc::clone(&settled),
        };
        let writer = start_writer(directory, lock, connection, queue, outlets, &options)?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            waiting: Arc::default(),
            queue_bytes: options.queue_bytes,
            changes,
            lag,
            settled,
            history: SqliteHistory::open(directory, Arc::clone(&options.clock))?,
            ring: Ring::open(directory)?,
            clock: options.clock,
            writer: Mutex::new(Some(writer)),
            search: tokio::sync::Mutex::default(),
        })
    }

    /// Has the writer do `work`, and waits until it is on disk.
    async fn ask<T, W>(&self, work: W) -> Result<T, JournalError>
    where
        T: Send + 'static,
        W: FnMut(&mut Store<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (job, answer) = job::Asked::new(work);
        self.sender()?.send(job).await.map_err(|_| JournalError::Closed)?;
        answered(answer).await
    }

    fn sender(&self) -> Result<mpsc::Sender<Box<dyn Job>>, JournalError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.clone().ok_or(JournalError::Closed)
    }

    /// Puts an arrival into the queue, where there is room.
    fn hand_over(&self, job: Box<dyn Job>) -> Result<(), AppendError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || AppendError::Unavailable(JournalError::Closed);
        match jobs.as_ref().ok_or_else(closed)?.try_send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(AppendError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closed()),
        }
    }

    /// Lets the writer finish and waits for it. Blocks.
    fn stop(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the thread has been printed, and whoever waited for it was told.
            let _ = writer.join();
        }
        self.ring.close();
    }
}

impl Drop for SqliteJournal {
    /// What waits is committed, and the lock is free afterwards.
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answered<T>(answer: Answer<Result<T, JournalError>>) -> Result<T, JournalError> {
    answer.await.unwrap_or(Err(JournalError::Closed))
}

/// By which the writer tells others what it did, beside its answers.
struct Outlets {
    changed: watch::Sender<u64>,
    lag: Arc<Lag>,
    settled: Arc<Mutex<Settled>>,
}

/// Starts the one thread that writes; returns when it is ready to.
fn start_writer(
    directory: &Path,
    lock: Lock,
    mut connection: rusqlite::Connection,
    queue: mpsc::Receiver<Box<dyn Job>>,
    outlets: Outlets,
    options: &Options,
) -> Result<JoinHandle<()>, OpenError> {
    let path = schema::file(directory);
    let database = Arc::new(File::open(&path).map_err(OpenError::io(&path))?);
    let checkpoints = Checkpoints::start(directory, &mut connection, Arc::clone(&database))?;
    let (now, dedup_keys) = (options.clock.now(), options.dedup_keys);
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let writer = thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            // Let go of last, when SQLite has closed the database: the lock, and before it the file, which takes SQLite's
            // locks with it.
            let (_lock, _database) = (lock, database);
            let connection = connection;
            let mut checkpoints = checkpoints;
            let Outlets {
                changed,
                lag,
                settled,
            } = outlets;
            match Store::open(&connection, now, dedup_keys, settled) {
                Ok(store) => {
                    let _ = ready.send(Ok(()));
                    writer::run(store, queue, &changed, &lag, &mut checkpoints);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })
        .map_err(OpenError::io(directory))?;
    match started.recv() {
        Ok(Ok(())) => Ok(writer),
        Ok(Err(error)) => Err(OpenError::store(&path)(error)),
        Err(_) => Err(OpenError::io(directory)(std::io::Error::other(
            "the journal's thread ended",
        ))),
    }
}

/// Bytes that wait for the writer, until it has dealt with them.
#[derive(Debug)]
struct Waiting {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Waiting {
    /// Counts `bytes`, unless the limit was reached before.
    fn admit(total: &Arc<AtomicUsize>, bytes: usize, limit: usize) -> Option<Self> {
        let waiting = Self {
            total: Arc::clone(total),
            bytes,
        };
        (total.fetch_add(bytes, Ordering::Relaxed) < limit).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, arrival: Arrival) -> Result<Committed, AppendError> {
        let new = NewEvent::new(arrival);
        let waiting =
            Waiting::admit(&self.waiting, new.bytes(), self.queue_bytes).ok_or(AppendError::Full)?;
        let (job, answer) = job::Asked::new(move |store: &mut Store<'_>| {
            let _counted = &waiting;
            store.append(&new)
        });
        self.hand_over(job)?;
        answered(answer).await.map_err(AppendError::Unavailable)
    }

    fn reject(&self, rejection: Rejection) {
        self.ring.push(rejection);
    }

    fn lag(&self) -> Duration {
        self.lag.length()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    fn settled(&self) -> BTreeMap<&'static str, u64> {
        let settled = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.by_state()
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, JournalError> {
        let (now, due) = (request.now, request.now.saturating_add(request.lease));
        let claimed = self.ask(move |store| store.claim(&request)).await?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        // Beside the writer, which has better things to do. Where it fails, the lease brings them back.
        let read = self
            .history
            .pool
            .read(move |connection| Ok(claims::read(connection, &claimed)))
            .await?;
        if !read.damaged.is_empty() {
            self.ask(move |store| store.set_aside(&read.damaged, due, now))
                .await?;
        }
        Ok(read.claims)
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, JournalError> {
        self.history
            .pool
            .read(move |connection| claims::next_due(connection, now))
            .await
    }

    async fn renew(
        &self,
        owner: &str,
        deliveries: Vec<DeliveryId>,
        now: Timestamp,
        lease: Duration,
    ) -> Result<(), JournalError> {
        let owner = owner.to_owned();
        self.ask(move |store| store.renew(&owner, &deliveries, now, lease))
            .await
    }

    async fn release(
        &self,
        delivery: DeliveryId,
        owner: &str,
        due: Option<(Timestamp, Reason, String)>,
    ) -> Result<Ended, JournalError> {
        let (owner, now) = (owner.to_owned(), self.clock.now());
        self.ask(move |store| store.release(delivery, &owner, due.as_ref(), now))
            .await
    }

    async fn wake(&self, instances: Vec<String>, reason: Reason) -> Result<(), JournalError> {
        self.ask(move |store| store.wake_up(&instances, reason)).await
    }

    async fn clock_was_set(&self, jump: Jump, told: RangeInclusive<Timestamp>) -> Result<(), JournalError> {
        self.ask(move |store| Ok(store.shift(jump.as_millis(), Some(&told))?))
            .await
    }

    async fn begin(&self, start: AttemptStart) -> Result<Begun, JournalError> {
        self.ask(move |store| store.begin_attempt(&start)).await
    }

    async fn hand_on(&self, free: Bound) -> Result<(), JournalError> {
        let now = self.clock.now();
        self.ask(move |store| store.make_room(&free, now)).await
    }

    async fn rest(&self, bucket: &str, rest: Option<Rest>) -> Result<(), JournalError> {
        let (bucket, now) = (bucket.to_owned(), self.clock.now());
        self.ask(move |store| store.rest(&bucket, rest.as_ref(), now))
            .await
    }

    async fn end(&self, end: StepEnd) -> Result<Ended, JournalError> {
        self.ask(move |store| store.end_step(&end)).await
    }

    async fn replay(
        &self,
        replays: Vec<Replay>,
    ) -> Result<Vec<Result<DeliveryId, JournalError>>, JournalError> {
        let now = self.clock.now();
        self.ask(move |store| store.replay(&replays, now)).await
    }

    async fn replay_event(
        &self,
        event: EventId,
        routed: Routed,
        asked: Asked,
    ) -> Result<Vec<DeliveryId>, JournalError> {
        let now = self.clock.now();
        self.ask(move |store| store.replay_event(event, &routed, &asked, now))
            .await
    }

    async fn cancel(&self, delivery: DeliveryId, asker: Asker) -> Result<Canceled, JournalError> {
        let now = self.clock.now();
        self.ask(move |store| store.cancel(delivery, &asker, now)).await
    }

    async fn skip(&self, delivery: DeliveryId) -> Result<(), JournalError> {
        self.ask(move |store| store.skip(delivery)).await
    }

    async fn store_rules(&self, generation: &GenerationId, text: &str) -> Result<(), JournalError> {
        let (id, now) = (generation.clone(), self.clock.now().as_millis());
        if self.ask(move |store| store.keep_rules(&id, now)).await? {
            return Ok(());
        }
        let (first, more) = rules::pieces(text);
        for (number, piece) in (1..).zip(more) {
            let (id, piece) = (generation.clone(), piece.to_owned());
            self.ask(move |store| store.store_piece(&id, number, &piece))
                .await?;
        }
        let (id, first) = (generation.clone(), first.to_owned());
        self.ask(move |store| store.store_rules(&id, &first, now)).await
    }

    async fn put_in_force(
        &self,
        generation: &GenerationId,
        cause: Cause,
        displaced: Option<&GenerationId>,
    ) -> Result<GenerationRecord, JournalError> {
        let (generation, displaced, now) = (generation.clone(), displaced.cloned(), self.clock.now());
        self.ask(move |store| store.put_in_force(&generation, cause, displaced.as_ref(), now))
            .await
    }

    async fn kv_put(
        &self,
        instance: &str,
        key: &str,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), JournalError> {
        let (instance, key, now) = (instance.to_owned(), key.to_owned(), self.clock.now());
        self.ask(move |store| store.kv_put(&instance, &key, value.as_deref(), ttl, now))
            .await
    }

    async fn keep_receipt(&self, idempotency_key: &str, receipt: KeptReceipt) -> Result<(), JournalError> {
        let (key, now) = (idempotency_key.to_owned(), self.clock.now());
        self.ask(move |store| store.keep_receipt(&key, &receipt, now))
            .await
    }

    async fn prune(&self, retention: &Retention) -> Result<Pruned, JournalError> {
        let mut search = self.search.lock().await;
        let (mut looking, wanted, now) = (*search, retention.clone(), self.clock.now());
        let look = move |connection: &rusqlite::Connection| {
            let found = looking.look(connection, &wanted, now)?;
            Ok((looking, found))
        };
        let (looked, found) = self.history.pool.read(look).await?;
        let Some(piece) = found.piece else {
            *search = looked;
            return Ok(Pruned {
                exceeded: found.exceeded,
                more: found.more,
                ..Pruned::default()
            });
        };
        let retention = retention.clone();
        let removed = self
            .ask(move |store| store.remove(&piece, &retention, now.as_millis()))
            .await?;
        // Only now: what could not be removed is found again.
        *search = looked;
        if let Some((layer, event)) = removed.left {
            search.go_back_to(layer, event);
        }
        Ok(removed.pruned)
    }

    async fn sync(&self) -> Result<(), JournalError> {
        self.ask(|_| Ok(())).await
    }

    async fn close(&self) -> Result<(), JournalError> {
        self.sync().await?;
        self.ring.close();
        self.history.pool.close().await;
        // The writer ends when its queue does, and takes the checkpoints and the lock with it.
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                return Err(JournalError::Store("the journal's thread panicked".into()));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl History for SqliteJournal {
    async fn events(&self, filter: EventFilter) -> Result<Vec<EventRecord>, JournalError> {
        self.history.events(filter).await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventStory>, JournalError> {
        self.history.event(id).await
    }

    async fn stretch(&self, stretch: Stretch) -> Result<Vec<RoutedEvent>, JournalError> {
        self.history.stretch(stretch).await
    }

    async fn event_count(&self, since: Option<Timestamp>) -> Result<u64, JournalError> {
        self.history.event_count(since).await
    }

    async fn event_request(&self, id: EventId) -> Result<Option<RequestRecord>, JournalError> {
        self.history.event_request(id).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, JournalError> {
        self.history.deliveries(filter).await
    }

    async fn delivery_count(&self, filter: DeliveryFilter) -> Result<u64, JournalError> {
        self.history.delivery_count(filter).await
    }

    async fn states(&self, deliveries: Vec<DeliveryId>) -> Result<BTreeMap<DeliveryId, State>, JournalError> {
        self.history.states(deliveries).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryStory>, JournalError> {
        self.history.delivery(id).await
    }

    async fn disk_use(&self) -> Result<DiskUse, JournalError> {
        self.history.disk_use().await
    }

    async fn counts(&self) -> Result<Counts, JournalError> {
        self.history.counts().await
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<RejectionRecord>, JournalError> {
        Ok(self.ring.recent(limit))
    }

    async fn rules(&self, generation: &GenerationId) -> Result<Option<String>, JournalError> {
        self.history.rules(generation).await
    }

    async fn generations(&self, limit: usize) -> Result<Vec<GenerationRecord>, JournalError> {
        self.history.generations(limit).await
    }

    async fn generations_like(&self, prefix: &str) -> Result<Vec<GenerationId>, JournalError> {
        self.history.generations_like(prefix).await
    }

    async fn rests(&self) -> Result<BTreeMap<String, Rest>, JournalError> {
        self.history.rests().await
    }

    async fn unsettled_generations(&self) -> Result<Vec<GenerationId>, JournalError> {
        self.history.unsettled_generations().await
    }

    async fn kv_get(&self, instance: &str, key: &str) -> Result<Option<Bytes>, JournalError> {
        self.history.kv_get(instance, key).await
    }

    async fn receipt(&self, idempotency_key: &str) -> Result<Option<KeptReceipt>, JournalError> {
        self.history.receipt(idempotency_key).await
    }
}
