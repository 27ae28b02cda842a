//! The dispatcher: follows the journal and carries out what it owes.
//!
//! Claims come in from the journal; calls go out to plugin instances, and every start and end of an attempt goes
//! back into the journal before anything rests on it. A restart is the same path as a run: a claim says at which
//! step to go on. What always holds: no call is made before its start is on disk, and no delivery ends but with
//! a recorded state and reason. How a request came in is none of its business.

mod breaker;
mod course;
mod gate;
mod generations;
mod limits;
mod metrics;
mod workdir;

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jackfield_event::{DeliveryId, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{self, Clock},
    journal::{Claim, ClaimRequest, Journal, JournalError},
    plugin::Registry,
    reason::Reason,
};

pub use breaker::Breaker;
pub use generations::Generations;
pub use limits::{KeyLimit, Limits};
pub use metrics::Metrics;

use breaker::Breakers;
use course::Course;
use gate::Gates;
use limits::Calls;
use workdir::WorkRoot;

/// What a dispatcher needs to know beside its parts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where deliveries have their work directories.
    pub work_root: PathBuf,
    /// How long a claim outlives this process's last sign of life.
    pub lease: Duration,
    /// How long to wait before looking again for an instance that is missing, where nobody says that it is there.
    pub look_again: Duration,
    /// How long a delivery waits for one before it is given up.
    pub patience: Duration,
    /// How long running attempts may take to end after a stop, those included that are cancelled in the end.
    pub grace: Duration,
    /// How many deliveries are claimed at once.
    pub batch: NonZeroUsize,
    /// What bounds the calls of instances, by their names.
    pub limits: BTreeMap<String, Limits>,
}

impl Options {
    /// The defaults, with work directories under `work_root`.
    pub fn new(work_root: PathBuf) -> Self {
        Self {
            work_root,
            lease: Duration::from_secs(60),
            look_again: Duration::from_secs(30),
            patience: DEFAULT_PATIENCE,
            grace: Duration::from_secs(20),
            batch: NonZeroUsize::new(32).expect("32 is not zero"),
            limits: BTreeMap::new(),
        }
    }
}

/// Carries out deliveries until it is stopped.
#[derive(Debug)]
pub struct Dispatcher {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    instances: watch::Receiver<u64>,
    time: clock::Watch,
}

/// How long a delivery waits for an instance that is missing, where nothing is said.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What all deliveries share.
#[derive(Debug)]
struct Shared {
    journal: Arc<dyn Journal>,
    registry: Arc<Registry>,
    generations: Arc<Generations>,
    clock: Arc<dyn Clock>,
    options: Options,
    owner: String,
    gates: Gates,
    /// The calls that run, by what bounds them.
    calls: Arc<Calls>,
    breakers: Breakers,
    /// What bounds the calls of an instance of which nothing is said.
    unsaid: Limits,
    work: WorkRoot,
    metrics: Metrics,
    running: Mutex<Running>,
    /// When their leases were last renewed.
    renewed: Mutex<Timestamp>,
    /// Rung when a course ends or a queue at an instance empties.
    room: Notify,
    /// No new steps are begun.
    stopping: CancellationToken,
    /// Running calls are told to stop.
    cancel: CancellationToken,
}

/// What is at work here.
#[derive(Debug, Default)]
struct Running {
    /// By their names, a delivery never has two courses at a time.
    courses: HashMap<DeliveryId, Place>,
    /// Claims that came while a course of their delivery was there, which is not any more.
    left: Vec<Claim>,
    /// Deliveries that a person canceled between their claim and the start of their course.
    early: HashSet<DeliveryId>,
}

/// A delivery's place among those at work.
#[derive(Debug)]
struct Place {
    /// Tells its course to stop.
    cancel: CancellationToken,
    /// What was claimed meanwhile: a course gives its claim back before it has tidied up, and a lease may run out under a stalled
    /// disk. Where the course still has the delivery, the journal refuses what comes of this one.
    next: Option<Claim>,
}

impl Running {
    /// A place for a claim's course, with what tells that to stop; none where there is one that has not ended.
    fn take_up(&mut self, claim: Claim, all: &CancellationToken) -> Option<(Claim, CancellationToken)> {
        match self.courses.entry(claim.delivery) {
            Entry::Occupied(mut place) => {
                place.get_mut().next = Some(claim);
                None
            }
            Entry::Vacant(place) => {
                let cancel = all.child_token();
                if self.early.remove(&claim.delivery) {
                    cancel.cancel();
                }
                place.insert(Place {
                    cancel: cancel.clone(),
                    next: None,
                });
                Some((claim, cancel))
            }
        }
    }

    /// The course of a delivery has ended.
    fn leave(&mut self, delivery: DeliveryId) {
        let Some(Place { cancel, next }) = self.courses.remove(&delivery) else {
            return;
        };
        if next.is_some() && cancel.is_cancelled() {
            self.early.insert(delivery);
        }
        self.left.extend(next);
    }
}

/// By which others tell the dispatcher what a person asked for.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// A delivery was canceled that nobody worked at: nothing else is to be done for it.
    pub async fn canceled(&self, delivery: DeliveryId) {
        self.0.work.remove(delivery).await;
    }

    /// A delivery that is at work is to be canceled: its call is told to stop, and no other is begun.
    pub fn cancel(&self, delivery: DeliveryId) {
        let mut running = self.0.running();
        match running.courses.get(&delivery) {
            Some(place) => place.cancel.cancel(),
            None => drop(running.early.insert(delivery)),
        }
    }
}

impl Dispatcher {
    /// A dispatcher over `journal` that calls the instances of `registry`.
    ///
    /// # Errors
    ///
    /// Where the directory for work directories cannot be made.
    pub fn new(
        journal: Arc<dyn Journal>,
        registry: Arc<Registry>,
        generations: Arc<Generations>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> std::io::Result<Self> {
        let (changes, mut instances) = (journal.changes(), registry.changes());
        // What an earlier run left waiting may find its instance there today.
        instances.mark_changed();
        let renewed = Mutex::new(clock.now());
        let owner = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        let shared = Shared {
            journal,
            registry,
            generations,
            clock,
            owner,
            gates: Gates::default(),
            calls: Arc::default(),
            breakers: Breakers::default(),
            unsaid: Limits::default(),
            work: WorkRoot::open(&options.work_root)?,
            metrics: Metrics::default(),
            running: Mutex::default(),
            renewed,
            room: Notify::new(),
            stopping: CancellationToken::new(),
            cancel: CancellationToken::new(),
            options,
        };
        Ok(Self {
            time: clock::Watch::begin(&*shared.clock),
            shared: Arc::new(shared),
            changes,
            instances,
        })
    }

    /// By which others tell it what a person asked for.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Counters to register.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Runs until `stop`, or until the journal is gone; then lets running attempts end within the grace.
    pub async fn run(mut self, stop: CancellationToken) {
        let courses = TaskTracker::new();
        let shared = Arc::clone(&self.shared);
        let sweeping = shared.work.sweep_now_and_then(&*shared.journal);
        tokio::select! {
            () = stop.cancelled() => {}
            () = sweeping => {}
            () = self.follow(&courses) => {}
        }
        shared.drain(courses).await;
    }

    /// Claims whatever is due, until the journal is gone: nothing can be carried out without one, and whoever started
    /// this begins anew.
    async fn follow(&mut self, courses: &TaskTracker) {
        self.shared.recall_rests().await;
        loop {
            self.keep_time().await;
            self.wake().await;
            // Marked before the claim: what changes during it wakes the wait below.
            self.changes.borrow_and_update();
            let claimed = match self.shared.claim().await {
                Ok(claims) => self.shared.start(claims, courses),
                Err(error @ JournalError::Closed) => {
                    tracing::error!(error = %error, "the dispatcher ends");
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "the journal refused a claim");
                    tokio::time::sleep(JOURNAL_REST).await;
                    continue;
                }
            };
            if claimed < self.shared.options.batch.get() {
                self.wait().await;
            }
        }
    }

    /// Where the clock was set, has what waits follow it: else all of it would be due at once, or not for as long.
    async fn keep_time(&mut self) {
        let before = self.time;
        let Some(jump) = self.time.look(&*self.shared.clock) else {
            return;
        };
        match self
            .shared
            .journal
            .clock_was_set(jump, self.time.stretch_since(&before))
            .await
        {
            Ok(()) => tracing::warn!(?jump, "the clock was set; what waits follows it"),
            Err(error) => {
                // Noticed again by the next look.
                self.time = before;
                tracing::warn!(error = %error, ?jump, "the clock was set, and what waits could not follow it yet");
            }
        }
    }

    /// Lets go on what waits for instances, where others run than before.
    async fn wake(&mut self) {
        if !self.instances.has_changed().unwrap_or(false) {
            return;
        }
        self.instances.borrow_and_update();
        let running = self.shared.registry.running();
        let up = running.iter().filter(|instance| instance.caller.down().is_none());
        let names: Vec<_> = up.map(|instance| instance.name.clone()).collect();
        for reason in [
            Reason::InstanceMissing,
            Reason::InstanceParked,
            Reason::InstanceDown,
        ] {
            if let Err(error) = self.shared.journal.wake(names.clone(), reason).await {
                // They are looked at again, only later.
                tracing::warn!(error = %error, "the journal could not wake deliveries");
            }
        }
    }

    /// Waits until something may be claimable.
    async fn wait(&mut self) {
        let now = self.shared.clock.now();
        let rest = match self.shared.journal.next_due(now).await {
            Ok(Some(due)) => due.saturating_since(now).clamp(SHORTEST_REST, LONGEST_REST),
            Ok(None) => LONGEST_REST,
            Err(_) => JOURNAL_REST,
        };
        let rest = rest.min(self.shared.options.lease / 3);
        tokio::select! {
            _ = self.changes.changed() => {}
            // Where nothing can change any more, the sender being gone, the time does it.
            Ok(()) = self.instances.changed() => self.instances.mark_changed(),
            () = self.shared.room.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

impl Shared {
    async fn claim(&self) -> Result<Vec<Claim>, JournalError> {
        let now = self.clock.now();
        self.renew(now).await?;
        let request = ClaimRequest {
            owner: self.owner.clone(),
            now,
            lease: self.options.lease,
            limit: self.options.batch.get(),
            busy: [self.gates.busy(), self.breakers.tried()].concat(),
        };
        let claimed = self.journal.claim(request).await?;
        let mut claims = std::mem::take(&mut self.running().left);
        claims.extend(claimed);
        Ok(claims)
    }

    /// Starts a course for each claim whose delivery has none.
    fn start(self: &Arc<Self>, claims: Vec<Claim>, courses: &TaskTracker) -> usize {
        let claimed = claims.len();
        for claim in claims {
            let taken = self.running().take_up(claim, &self.cancel);
            if let Some((claim, cancel)) = taken {
                let at_work = AtWork(Arc::clone(self), claim.delivery);
                courses.spawn(async move { Course::new(&at_work.0, claim, cancel).run().await });
            }
        }
        claimed
    }

    /// The lock is held for one look or change, and no other is taken under it.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the leases of what is at work here, where they have grown old by `now`.
    ///
    /// A claim ends leases that have run out by its own `now`, so this comes before each: where the clock was set
    /// forward, or the machine slept, no delivery is taken from under its course. What is not at work here is not
    /// renewed; a claim of which nobody knows any more thus comes back.
    async fn renew(&self, now: Timestamp) -> Result<(), JournalError> {
        let lease = self.options.lease;
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= renewed && now.saturating_since(renewed) < lease / 3 {
            return Ok(());
        }
        let running = self.running().courses.keys().copied().collect();
        self.journal.renew(&self.owner, running, now, lease).await?;
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    /// Lets running attempts end, and cancels what is left while there is a moment of the grace for it to say so.
    async fn drain(&self, courses: TaskTracker) {
        self.stopping.cancel();
        courses.close();
        let grace = self.options.grace;
        let moment = CANCEL_GRACE.min(grace / 4);
        if tokio::time::timeout(grace - moment, courses.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = courses.len(),
                "attempts outlast the grace and are cancelled"
            );
            self.cancel.cancel();
            let _ = tokio::time::timeout(moment, courses.wait()).await;
        }
    }
}

/// A delivery that is at work here, until it is dropped: also where its course ends in a panic, so that its lease then
/// runs out like that of any other that nobody knows of.
struct AtWork(Arc<Shared>, DeliveryId);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.running().leave(self.1);
        self.0.breakers.pass_on(self.1);
        self.0.room.notify_one();
    }
}

/// How long to leave a journal alone that refused something.
const JOURNAL_REST: Duration = Duration::from_secs(1);
/// What is due at once was just left by a claim, hence waits for room: that rings `room`.
const SHORTEST_REST: Duration = Duration::from_millis(20);
/// However quiet it is, look now and then: a clock that was set is noticed then.
const LONGEST_REST: Duration = Duration::from_secs(15);
/// How long cancelled calls have to end, at most.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
