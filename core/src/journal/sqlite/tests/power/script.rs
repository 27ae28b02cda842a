//! The script: every kind of write, one after the other and at once, over two lives and a failing disk; or the first start on a
//! journal of the version before.

use std::path::{Path, PathBuf};

use jackfield_stage::disk::Faults;

use super::{
    super::{super::prune::Piece, disk::join_all, *},
    DIRECTORY, SCRIPT, SEED,
    told::Teller,
};
use crate::{
    clock::Jump,
    delivery::{Coalesce, Keep, Line, Outcome, State},
    journal::{
        Asker, Bound, Canceled, Cause, Claim, ReplayKeys, Rest, Retention,
        contract::{self, StoppedClock, arrival, asked, at, failure, generation, owed},
    },
    rate::Rate,
    reason::Reason,
    router::Owed,
};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// A journal is made.
    New,
    /// One of version 1 is brought up to date.
    Old,
}

impl Script {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Old => "old",
        }
    }
}

/// Beneath directories that are made first, as on a machine that is new to Jackfield.
pub(super) fn data(root: &Path) -> PathBuf {
    root.join("lib/jackfield/data")
}

/// Of two pieces.
pub(super) fn rules() -> String {
    "rules ".repeat(20_000)
}

/// An arrival whose dedup key is the id of the event.
pub(super) fn keyed(event: EventId, owed: Vec<Owed>) -> Arrival {
    with_body(event, owed, None)
}

fn with_body(event: EventId, owed: Vec<Owed>, body: Option<Bytes>) -> Arrival {
    let mut sent = arrival(0, None, owed);
    let mut of_it = sent.routed.event().clone();
    of_it.id = event;
    let (payload, owed) = (sent.routed.payload().clone(), sent.routed.owed().to_vec());
    let payload = body.unwrap_or(payload);
    sent.routed = Routed::for_test(of_it, payload, Some(event.to_string()), generation(), owed);
    sent
}

#[test]
#[ignore = "the tests of power cuts run it as a process of its own"]
fn a_process_follows_a_script() {
    let Some(root) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let teller = Teller::default();
    runtime.block_on(async {
        match std::env::var(SCRIPT).unwrap().as_str() {
            "new" => {
                // The second life begins on what the first left.
                let random = fastrand::Rng::with_seed(seed);
                let mut life = Life::begin(&root, &teller, random).await;
                life.live(3).await;
                let mut life = life.end().await;
                life.live(3).await;
                life.grow_old().await;
                life.end().await.end().await;
            }
            "old" => bring_up_to_date(&root, &teller).await,
            other => panic!("there is no script `{other}`"),
        }
    });
}

/// A process that works on a journal.
struct Life<'t> {
    root: PathBuf,
    directory: PathBuf,
    journal: SqliteJournal,
    clock: Arc<StoppedClock>,
    teller: &'t Teller,
    random: fastrand::Rng,
}

impl<'t> Life<'t> {
    async fn begin(root: &Path, teller: &'t Teller, random: fastrand::Rng) -> Self {
        let (directory, clock) = (data(root), Arc::new(StoppedClock::at(0)));
        let options = Options {
            clock: clock.clone(),
            ..Options::default()
        };
        let journal = SqliteJournal::open(&directory, options).unwrap();
        let since = teller.moment();
        journal.store_rules(&generation(), &rules()).await.unwrap();
        let thing = format!("rules {}", generation().0);
        teller
            .tell(&journal, since, &thing, &rules().len().to_string())
            .await;
        let since = teller.moment();
        journal
            .put_in_force(&generation(), Cause::Start, None)
            .await
            .unwrap();
        teller
            .tell(&journal, since, &format!("force {}", generation().0), "1")
            .await;
        Self {
            root: root.to_owned(),
            directory,
            journal,
            clock,
            teller,
            random,
        }
    }

    /// Ends, and another begins.
    async fn end(self) -> Self {
        self.journal.close().await.unwrap();
        drop(self.journal);
        Self::begin(&self.root, self.teller, self.random).await
    }

    async fn live(&mut self, rounds: u32) {
        for round in 0..rounds {
            self.work().await;
            match round % 3 {
                0 => {
                    self.supersede().await;
                    self.coalesce().await;
                    self.keep_values().await;
                }
                1 => {
                    self.fail().await;
                    self.hold_and_cancel().await;
                }
                _ => {
                    checkpoint(&self.directory).unwrap();
                    self.wait().await;
                    self.replay_event().await;
                    self.set_clock().await;
                }
            }
        }
    }

    /// A group of arrivals; then what is due is claimed, and one step of it carried out.
    async fn work(&mut self) {
        let arrivals: Vec<_> = (0..self.random.usize(1..12))
            .map(|_| {
                let routes = (0..self.random.usize(0..3)).map(|_| {
                    let key = self.random.bool().then(|| self.random.u8(0..4).to_string());
                    owed("a", WORK, key.as_deref())
                });
                let routes = routes.collect();
                keyed(EventId::new(at(0), self.random.u128(..)), routes)
            })
            .collect();
        let since = self.teller.moment();
        for committed in join_all(arrivals.into_iter().map(|sent| self.journal.append(sent))).await {
            let committed = committed.unwrap();
            let deliveries = committed.deliveries().len();
            self.tell(since, "owes", committed.event(), deliveries).await;
        }
        let claims = self.claim(WORK, 0, 8).await;
        let randoms: Vec<_> = claims.iter().map(|_| self.random.fork()).collect();
        let claims = claims.iter().zip(randoms);
        join_all(claims.map(|(claim, random)| self.carry_out(claim, random))).await;
    }

    async fn carry_out(&self, claim: &Claim, mut random: fastrand::Rng) {
        let (delivery, attempt) = (claim.delivery, claim.attempts + 1);
        let since = self.teller.moment();
        let start = contract::start(delivery, claim.phase, 0, attempt);
        self.journal.begin(start).await.unwrap();
        self.tell(since, "attempts", delivery, 1).await;
        let receipt = KeptReceipt {
            done: random.bool(),
            body: Bytes::from_static(b"{}"),
        };
        if random.bool() {
            let (key, done, since) = (format!("{delivery}/step-0"), receipt.done, self.teller.moment());
            self.journal.keep_receipt(&key, receipt).await.unwrap();
            self.tell(since, "receipt", key, done).await;
        }
        let state = match random.bool() {
            true => State::Succeeded,
            false => State::Dead,
        };
        let failure = (state == State::Dead).then(failure);
        self.settle(claim, Next::Settle { state, failure }, state).await;
    }

    /// Syncs fail for a while: nothing is told, and what the disk has lost by it must not be missed afterwards.
    async fn fail(&mut self) {
        let faults = Faults::of_this_program().expect("it runs under an interposer");
        faults.fail_syncs(Some(rustix::io::Errno::IO)).unwrap();
        for _ in 0..self.random.usize(1..4) {
            let event = EventId::new(at(0), self.random.u128(..));
            let refused = self
                .journal
                .append(keyed(event, vec![owed("a", WORK, None)]))
                .await;
            let refused = refused.unwrap_err();
            assert!(
                matches!(refused, AppendError::Unavailable(JournalError::Store(_))),
                "{refused}"
            );
        }
        if self.random.bool() {
            assert!(checkpoint(&self.directory).is_err());
        }
        faults.fail_syncs(None).unwrap();
    }

    /// The newer of two takes the place of the other.
    async fn supersede(&mut self) {
        let line = Line {
            supersede: true,
            ..Line::default()
        };
        let key = self.key();
        let first = self.owe("superseding", line, &key).await;
        let since = self.teller.moment();
        let second = self.owe("superseding", line, &key).await;
        self.tell(since, "state", first, "superseded").await;
        self.tell(since, "after", first, second).await;
        let claims = self.claim("superseding", 0, 9).await;
        self.begin_and_settle(&claims, State::Succeeded).await;
    }

    /// Two events become one delivery.
    async fn coalesce(&mut self) {
        let line = Line {
            coalesce: Some(Coalesce {
                window: Duration::from_secs(10),
                max_wait: Duration::from_secs(30),
                max_items: 9.try_into().unwrap(),
                keep: Keep::All,
            }),
            ..Line::default()
        };
        let key = self.key();
        let burst = self.owe("coalescing", line, &key).await;
        let since = self.teller.moment();
        self.tell(since, "state", burst, "waiting").await;
        self.tell(since, "events", burst, 1).await;
        let since = self.teller.moment();
        assert_eq!(self.owe("coalescing", line, &key).await, burst);
        self.tell(since, "events", burst, 2).await;
        let since = self.teller.moment();
        assert!(self.claim("coalescing", 10, 9).await.is_empty());
        self.tell(since, "state", burst, "pending").await;
        let claims = self.claim("coalescing", 10, 9).await;
        self.begin_and_settle(&claims, State::Succeeded).await;
    }

    /// One that is dead holds its line up, is replayed, and skipped; those behind it are canceled.
    async fn hold_and_cancel(&mut self) {
        let key = self.key();
        let first = self.owe("held", Line::default(), &key).await;
        let [second, third] = [
            self.owe("held", Line::default(), &key).await,
            self.owe("held", Line::default(), &key).await,
        ];
        self.hold(first).await;
        let since = self.teller.moment();
        let replay = self
            .journal
            .replay_delivery(first, ReplayKeys::Keep)
            .await
            .unwrap();
        self.tell(since, "parent", replay, first).await;
        self.tell_changes(since).await;
        self.hold(replay).await;
        let since = self.teller.moment();
        self.journal.skip(replay).await.unwrap();
        self.tell(since, "held", replay, false).await;

        let claims = self.claim("held", 0, 9).await;
        assert_eq!(claims[0].delivery, second);
        let asked = self.journal.cancel(second, Asker::default()).await.unwrap();
        assert_eq!(asked, Canceled::Asked);
        let since = self.teller.moment();
        self.journal.release(second, "me", None).await.unwrap();
        self.tell(since, "state", second, "canceled").await;
        let since = self.teller.moment();
        self.journal.cancel(third, Asker::default()).await.unwrap();
        self.tell(since, "state", third, "canceled").await;
    }

    async fn hold(&self, delivery: DeliveryId) {
        let claims = self.claim("held", 0, 9).await;
        assert_eq!(claims[0].delivery, delivery);
        self.begin_attempt(&claims[0]).await;
        let next = Next::Hold { failure: failure() };
        let since = self.teller.moment();
        self.settle(&claims[0], next, State::Dead).await;
        self.tell(since, "held", delivery, true).await;
    }

    /// What a plugin keeps, changes and forgets.
    async fn keep_values(&mut self) {
        let key = self.key();
        for value in [Some("1"), Some("2"), None] {
            let since = self.teller.moment();
            let bytes = value.map(|value| Bytes::from_static(value.as_bytes()));
            self.journal.kv_put("slack", &key, bytes, None).await.unwrap();
            self.tell(since, "kv", &key, value.unwrap_or("gone")).await;
        }
        let since = self.teller.moment();
        self.journal
            .kv_put("slack", "last", Some(key.clone().into()), None)
            .await
            .unwrap();
        self.tell(since, "kv", "last", key).await;
    }

    /// One goes through a bucket, and another waits at it; a third backs off, and a fourth waits for its instance.
    async fn wait(&mut self) {
        let bucket = format!("paced/{}", self.key());
        let bounds = vec![Bound {
            bucket: bucket.clone(),
            rate: Some(Rate::parse("1/60s").unwrap()),
            full: false,
        }];
        for _ in 0..4 {
            self.owe_free("paced").await;
        }
        let claims = self.claim("paced", 0, 9).await;
        let [through, waits, backs_off, lacks] = &claims[..] else {
            panic!("{} were claimed", claims.len());
        };
        let since = self.teller.moment();
        for claim in [through, waits] {
            let mut start = contract::start(claim.delivery, claim.phase, 0, 1);
            start.bounds.clone_from(&bounds);
            self.journal.begin(start).await.unwrap();
        }
        self.tell_whatever(since, &format!("pace {bucket}")).await;
        self.tell(since, "state", waits.delivery, "waiting").await;
        self.tell(since, "attempts", waits.delivery, 0).await;
        let state = State::Succeeded;
        self.settle(through, Next::Settle { state, failure: None }, state)
            .await;

        self.begin_attempt(backs_off).await;
        let since = self.teller.moment();
        let next = contract::wait_until(9_000);
        let end = contract::end(
            backs_off.delivery,
            backs_off.phase,
            0,
            Some(1),
            Outcome::Retry,
            next,
        );
        self.journal.end(end).await.unwrap();
        self.tell(since, "state", backs_off.delivery, "waiting").await;
        self.tell(since, "due", backs_off.delivery, at(9_000).as_millis())
            .await;
        let since = self.teller.moment();
        let missing = (at(9_000), Reason::InstanceMissing, "gone".to_owned());
        self.journal
            .release(lacks.delivery, "me", Some(missing))
            .await
            .unwrap();
        self.tell(since, "due", lacks.delivery, at(9_000).as_millis())
            .await;
        let since = self.teller.moment();
        self.journal
            .wake(vec!["paced".into()], Reason::InstanceMissing)
            .await
            .unwrap();
        self.tell_changes(since).await;

        let since = self.teller.moment();
        let rest = Rest {
            until: at(9_000),
            reason: Reason::RateLimited,
            detail: "a while".into(),
        };
        self.journal.rest(&bucket, Some(rest)).await.unwrap();
        self.tell(since, "rests", &bucket, at(9_000).as_millis()).await;
        let since = self.teller.moment();
        let claims = self.claim("paced", 0, 9).await;
        self.tell_changes(since).await;
        self.begin_and_settle(&claims, State::Dead).await;
    }

    /// An event comes to owe another delivery.
    async fn replay_event(&mut self) {
        let event = EventId::new(at(0), self.random.u128(..));
        let routed = keyed(event, vec![owed("again", "again", None)]).routed;
        self.journal.append(keyed(event, vec![])).await.unwrap();
        let since = self.teller.moment();
        let made = self.journal.replay_event(event, routed, asked()).await.unwrap();
        self.tell(since, "owes", event, 1).await;
        self.tell(since, "state", made[0], "pending").await;
        let claims = self.claim("again", 0, 9).await;
        self.begin_and_settle(&claims, State::Succeeded).await;
    }

    /// What waits follows a clock that is set.
    async fn set_clock(&self) {
        let since = self.teller.moment();
        let back = Jump::Back(Duration::from_secs(10));
        let told = at(-99)..=at(-98);
        self.journal.clock_was_set(back, told).await.unwrap();
        self.tell_changes(since).await;
    }

    /// What is settled is old enough to go, and the file gives its pages back.
    async fn grow_old(&mut self) {
        let large = Bytes::from(format!("\"{}\"", "x".repeat(400_000)));
        let event = EventId::new(at(0), self.random.u128(..));
        let since = self.teller.moment();
        self.journal
            .append(with_body(event, vec![], Some(large)))
            .await
            .unwrap();
        self.tell(since, "owes", event, 0).await;
        self.clock.set(400 * 86_400);
        let since = self.teller.moment();
        let retention = Retention::default();
        while self.journal.prune(&retention).await.unwrap().more {}
        self.tell_changes(since).await;
        // Fewer than it gives back on its own are free.
        self.journal
            .ask(|store| store.remove(&Piece::FreePages, &Retention::default(), 0))
            .await
            .unwrap();
        self.clock.set(0);
        self.work().await;
        checkpoint(&self.directory).unwrap();
    }

    async fn begin_and_settle(&self, claims: &[Claim], state: State) {
        assert!(!claims.is_empty());
        for claim in claims {
            self.begin_attempt(claim).await;
            let failure = (state == State::Dead).then(failure);
            self.settle(claim, Next::Settle { state, failure }, state).await;
        }
    }

    async fn begin_attempt(&self, claim: &Claim) {
        let attempt = claim.attempts + 1;
        let since = self.teller.moment();
        let start = contract::start(claim.delivery, claim.phase, 0, attempt);
        self.journal.begin(start).await.unwrap();
        self.tell(since, "attempts", claim.delivery, attempt).await;
    }

    async fn settle(&self, claim: &Claim, next: Next, state: State) {
        let (delivery, attempt) = (claim.delivery, claim.attempts + 1);
        let since = self.teller.moment();
        let end = contract::end(delivery, claim.phase, 0, Some(attempt), Outcome::Done, next);
        self.journal.end(end).await.unwrap();
        self.tell(since, "state", delivery, state.word()).await;
    }

    /// Claims what is due for an instance, and for no other.
    async fn claim(&self, instance: &str, seconds: i64, limit: usize) -> Vec<Claim> {
        let others = INSTANCES.iter().filter(|other| **other != instance);
        let request = ClaimRequest {
            owner: "me".into(),
            now: at(seconds),
            lease: Duration::from_secs(60),
            limit,
            busy: others.map(|other| (*other).to_owned()).collect(),
        };
        self.journal.claim(request).await.unwrap()
    }

    async fn owe(&mut self, instance: &str, line: Line, key: &str) -> DeliveryId {
        let owed = Owed {
            line,
            ..owed(instance, instance, Some(key))
        };
        self.owe_to(owed).await
    }

    async fn owe_free(&mut self, instance: &str) -> DeliveryId {
        self.owe_to(owed(instance, instance, None)).await
    }

    async fn owe_to(&mut self, owed: Owed) -> DeliveryId {
        let event = EventId::new(at(0), self.random.u128(..));
        let since = self.teller.moment();
        let committed = self.journal.append(keyed(event, vec![owed])).await.unwrap();
        self.tell(since, "owes", event, 1).await;
        committed.deliveries()[0]
    }

    /// One that there was never before.
    fn key(&mut self) -> String {
        format!("{:016x}", self.random.u64(..))
    }

    async fn tell(&self, since: u64, kind: &str, name: impl std::fmt::Display, is: impl ToString) {
        let thing = format!("{kind} {name}");
        self.teller
            .tell(&self.journal, since, &thing, &is.to_string())
            .await;
    }

    async fn tell_whatever(&self, since: u64, thing: &str) {
        self.teller.tell_whatever(&self.journal, since, thing).await;
    }

    async fn tell_changes(&self, since: u64) {
        self.teller.tell_changes(&self.journal, since).await;
    }
}

/// Somebody has left a journal of version 1, and this version starts on it.
async fn bring_up_to_date(root: &Path, teller: &Teller) {
    let directory = data(root);
    schema::make_directory(&directory).unwrap();
    let old = rusqlite::Connection::open(schema::file(&directory)).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(include_str!("../version-1.sql")).unwrap();
    let words = |sql: &str| -> Vec<(String, String)> {
        let mut statement = old.prepare(sql).unwrap();
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        rows.map(Result::unwrap).collect()
    };
    let of_it = [
        (
            "event",
            words(
                "SELECT id, CAST(count(delivery) AS TEXT) FROM event LEFT JOIN delivery_event ON event = event.seq GROUP BY event.seq",
            ),
        ),
        (
            "state",
            words("SELECT id, state FROM delivery WHERE settled IS NOT NULL"),
        ),
        (
            "receipt",
            words("SELECT key, iif(stage = 'done', 'true', 'false') FROM receipt"),
        ),
        (
            "kv",
            words("SELECT key, CAST(value AS TEXT) FROM kv WHERE expires IS NULL"),
        ),
    ];
    drop(old);
    std::fs::File::open(&directory).unwrap().sync_all().unwrap();
    let since = teller.moment();
    for (kind, words) in of_it {
        assert!(!words.is_empty(), "{kind}");
        for (name, is) in words {
            teller.say(since, &format!("{kind} {name}"), &is);
        }
    }
    let journal = SqliteJournal::open(&directory, super::options()).unwrap();
    let random = &mut fastrand::Rng::with_seed(0);
    let event = EventId::new(at(0), random.u128(..));
    let since = teller.moment();
    journal.append(keyed(event, vec![])).await.unwrap();
    teller.tell(&journal, since, &format!("owes {event}"), "0").await;
    journal.close().await.unwrap();
}

/// As the thread beside the writer does after some megabytes: the log is copied into the database, and begins anew.
fn checkpoint(directory: &Path) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(schema::file(directory))?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// What is worked at all the time.
const WORK: &str = "slack";
/// Each write has an instance to itself.
const INSTANCES: [&str; 6] = [WORK, "superseding", "coalescing", "held", "paced", "again"];
