//! A process follows a script and every change that it makes on disk is recorded. Then the power fails at each sync of it, and
//! of what was not synced survives nothing, everything or any part: what the process had been told is on disk, is there. Some syncs
//! fail, and take with them what they were for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use jackfield_stage::disk::{Change, Faults, Interposer, Platter, Recording, Survivors};

use super::{disk::join_all, *};
use crate::{
    delivery::{Outcome, State},
    journal::{
        Claim,
        contract::{self, arrival, at, generation, owed},
    },
};

const DIRECTORY: &str = "JACKFIELD_TEST_POWER_DIRECTORY";
const SEED: &str = "JACKFIELD_TEST_POWER_SEED";

/// What the process was told, each with how long the record was then.
#[derive(Default)]
struct Told {
    rules: Vec<u64>,
    /// How many deliveries each event owes.
    events: BTreeMap<EventId, (u64, usize)>,
    /// Attempts of which the start was on disk.
    begun: BTreeMap<DeliveryId, u64>,
    ended: BTreeMap<DeliveryId, (u64, State)>,
    receipts: BTreeMap<String, u64>,
}

/// Beneath directories that are made first, as on a machine that is new to Jackfield.
fn data(root: &Path) -> PathBuf {
    root.join("lib/jackfield/data")
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_at_each_sync() {
    let seed = std::env::var(SEED).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (home, root) = (Directory::new(), Directory::new());
    let interposer = Interposer::new(home.path(), root.path()).unwrap().recording();
    let told = follow_the_script(&interposer, root.path(), seed);
    let recording = Recording::read(interposer.trace().unwrap()).unwrap();
    assert!(told.events.len() > 20 && told.ended.len() > 20 && !told.receipts.is_empty());

    let disk = in_memory();
    let (mut platter, mut before) = (Platter::default(), 0);
    let (mut syncs, mut cuts) = (0, 0);
    for (position, change) in recording.changes() {
        if matches!(change, Change::Synced(_)) && platter.unsynced() > 0 {
            syncs += 1;
            let [some, torn] = [random.fork(), random.fork()];
            for survivors in [
                Survivors::None,
                Survivors::All,
                Survivors::Some(some),
                Survivors::Torn(torn),
            ] {
                check(&platter, survivors, disk.path(), before, &told, seed).await;
                cuts += 1;
            }
        }
        platter.apply(change);
        before = *position;
    }
    check(&platter, Survivors::None, disk.path(), u64::MAX, &told, seed).await;
    println!("{cuts} power cuts at {syncs} syncs");
    assert!(syncs > 50, "{syncs}");
}

/// The disk that is played has teeth: one that does not do what it says of the log loses what was told.
#[tokio::test]
async fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let (home, root) = (Directory::new(), Directory::new());
    let interposer = Interposer::new(home.path(), root.path()).unwrap().recording();
    let told = follow_the_script(&interposer, root.path(), 1);
    let recording = Recording::read(interposer.trace().unwrap()).unwrap();
    let (mut platter, mut logs) = (Platter::default(), BTreeSet::new());
    // When all was told, before the close copies the log into the database.
    let last = told.events.values().map(|(when, _)| *when).max().unwrap();
    for (_, change) in recording.changes().iter().take_while(|(at, _)| *at <= last) {
        match change {
            Change::Created(file, path) | Change::Opened(file, path) if path.ends_with("journal.db-wal") => {
                logs.insert(*file);
            }
            Change::Closed(file) => {
                logs.remove(file);
            }
            Change::Synced(file) if logs.contains(file) => continue,
            _ => {}
        }
        platter.apply(change);
    }
    let disk = in_memory();
    platter.power_cut(Survivors::None, disk.path()).unwrap();
    let lost = match SqliteHistory::open(&data(disk.path()), Arc::new(SystemClock)) {
        Ok(history) => {
            let mut lost = 0;
            for event in told.events.keys() {
                lost += usize::from(history.event(*event).await.unwrap().is_none());
            }
            lost
        }
        Err(_) => told.events.len(),
    };
    assert!(lost > 0, "nothing of {} is lost", told.events.len());
}

/// Where thousands of files may be written without wearing out a disk.
fn in_memory() -> Directory {
    let memory = Path::new("/dev/shm");
    Directory(match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    })
}

/// The power fails, and somebody looks what is there.
async fn check(platter: &Platter, survivors: Survivors, disk: &Path, position: u64, told: &Told, seed: u64) {
    let cut = format!("at {position} of seed {seed}, surviving: {survivors:?}");
    Platter::wipe(disk).unwrap();
    platter.power_cut(survivors, disk).unwrap();
    let journal =
        SqliteJournal::open(&data(disk), Options::default()).unwrap_or_else(|error| panic!("{error} {cut}"));
    let was_told = |when: u64| when <= position;
    match journal.rules(&generation()).await.unwrap() {
        Some(text) => assert_eq!(text, rules(), "of the rules there is a part {cut}"),
        None => assert!(
            !told.rules.iter().any(|when| was_told(*when)),
            "rules are lost {cut}"
        ),
    }
    for (event, (_, deliveries)) in told.events.iter().filter(|(_, (when, _))| was_told(*when)) {
        let story = journal.event(*event).await.unwrap();
        let record = story.unwrap_or_else(|| panic!("{event} is lost {cut}")).record;
        assert_eq!(record.deliveries.len(), *deliveries, "{event} {cut}");
    }
    for (delivery, _) in told.begun.iter().filter(|(_, when)| was_told(**when)) {
        let story = journal.delivery(*delivery).await.unwrap().unwrap();
        assert!(
            !story.attempts.is_empty(),
            "the attempt of {delivery} is lost {cut}"
        );
    }
    for (delivery, (_, state)) in told.ended.iter().filter(|(_, (when, _))| was_told(*when)) {
        let record = journal.delivery(*delivery).await.unwrap().unwrap().record;
        assert_eq!(record.state, *state, "{delivery} {cut}");
    }
    for (key, _) in told.receipts.iter().filter(|(_, when)| was_told(**when)) {
        assert!(
            journal.receipt(key).await.unwrap().is_some(),
            "receipt {key} is lost {cut}"
        );
    }
    sound(&journal, &cut).await;
    goes_on(&journal, told, position, &cut).await;
}

/// Whether all that is there, told or not, is whole and counted.
async fn sound(journal: &SqliteJournal, cut: &str) {
    let cut = cut.to_owned();
    let counted = journal.counts().await.unwrap();
    let look = move |connection: &rusqlite::Connection| {
        let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        assert_eq!(text("PRAGMA integrity_check")?, "ok", "{cut}");
        assert_eq!(
            count("SELECT count(*) FROM pragma_foreign_key_check")?,
            0,
            "{cut}"
        );
        let events = count("SELECT count(*) FROM event")?;
        assert_eq!(events, count("SELECT count(*) FROM request")?, "{cut}");
        assert_eq!(u64::try_from(events), Ok(counted.events), "{cut}");
        for (state, counted) in counted.deliveries {
            let real = count(&format!("SELECT count(*) FROM delivery WHERE state = '{state}'"))?;
            assert_eq!(u64::try_from(real), Ok(counted), "{state} {cut}");
        }
        Ok(())
    };
    journal.history.pool.read(look).await.unwrap();
}

/// Of two pieces.
fn rules() -> String {
    "rules ".repeat(20_000)
}

/// Whether a redelivery is known again, and the journal takes something new.
async fn goes_on(journal: &SqliteJournal, told: &Told, position: u64, cut: &str) {
    journal.store_rules(&generation(), &rules()).await.unwrap();
    if let Some((event, _)) = told.events.iter().rfind(|(_, (when, _))| *when <= position) {
        let again = journal.append(keyed(*event, vec![])).await.unwrap();
        assert_eq!((again.event(), again.is_duplicate()), (*event, true), "{cut}");
    }
    let new = journal
        .append(arrival(0, None, vec![owed("a", "slack", None)]))
        .await
        .unwrap();
    assert!(journal.event(new.event()).await.unwrap().is_some(), "{cut}");
}

/// An arrival whose dedup key is the id of the event.
fn keyed(event: EventId, owed: Vec<crate::router::Owed>) -> Arrival {
    let mut sent = arrival(0, None, owed);
    let mut of_it = sent.routed.event().clone();
    of_it.id = event;
    let (payload, owed) = (sent.routed.payload().clone(), sent.routed.owed().to_vec());
    sent.routed = Routed::for_test(of_it, payload, Some(event.to_string()), generation(), owed);
    sent
}

fn follow_the_script(interposer: &Interposer, root: &Path, seed: u64) -> Told {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "journal::sqlite::tests::power::a_process_follows_a_script",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(DIRECTORY, root)
        .env(SEED, seed.to_string())
        .envs(interposer.environment())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let mut told = Told::default();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let words: Vec<_> = line.split(' ').collect();
        let when = |text: &str| text.parse().unwrap();
        match words[..] {
            ["told", at, "rules"] => told.rules.push(when(at)),
            ["told", at, "owes", event, deliveries] => {
                let deliveries = deliveries.parse().unwrap();
                told.events.insert(event.parse().unwrap(), (when(at), deliveries));
            }
            ["told", at, "begun", delivery] => {
                told.begun.insert(delivery.parse().unwrap(), when(at));
            }
            ["told", at, "ended", delivery, state] => {
                let state = serde_json::from_value(state.into()).unwrap();
                told.ended.insert(delivery.parse().unwrap(), (when(at), state));
            }
            ["told", at, "receipt", key] => {
                told.receipts.insert(key.to_owned(), when(at));
            }
            _ => {}
        }
    }
    told
}

#[test]
#[ignore = "the test of power cuts runs it as a process of its own"]
fn a_process_follows_a_script() {
    let Some(root) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut random = fastrand::Rng::with_seed(seed);
        // Two lives: the second begins on what the first left.
        for rounds in [6, 4] {
            let directory = data(Path::new(&root));
            let journal = SqliteJournal::open(&directory, Options::default()).unwrap();
            journal.store_rules(&generation(), &rules()).await.unwrap();
            tell("rules");
            journal
                .put_in_force(&generation(), crate::journal::Cause::Start, None)
                .await
                .unwrap();
            for round in 0..rounds {
                work(&journal, &mut random).await;
                if round % 3 == 1 {
                    fail(&journal, &directory, &mut random).await;
                }
                if round % 3 == 2 {
                    checkpoint(&directory).unwrap();
                }
            }
            journal.close().await.unwrap();
        }
    });
}

/// A group of arrivals; then what is due is claimed, and one step of it carried out.
async fn work(journal: &SqliteJournal, random: &mut fastrand::Rng) {
    let arrivals: Vec<_> = (0..random.usize(1..12))
        .map(|_| {
            let routes = (0..random.usize(0..3)).map(|_| {
                let key = random.bool().then(|| random.u8(0..4).to_string());
                owed("a", "slack", key.as_deref())
            });
            let routes = routes.collect();
            keyed(EventId::new(at(0), random.u128(..)), routes)
        })
        .collect();
    for committed in join_all(arrivals.into_iter().map(|sent| journal.append(sent))).await {
        let committed = committed.unwrap();
        tell(&format!(
            "owes {} {}",
            committed.event(),
            committed.deliveries().len()
        ));
    }
    let request = ClaimRequest {
        owner: "me".into(),
        now: at(0),
        lease: Duration::from_secs(60),
        limit: 8,
        busy: vec![],
    };
    let claims = journal.claim(request).await.unwrap();
    join_all(
        claims
            .iter()
            .map(|claim| carry_out(journal, claim, random.fork())),
    )
    .await;
}

async fn carry_out(journal: &SqliteJournal, claim: &Claim, mut random: fastrand::Rng) {
    let (delivery, attempt) = (claim.delivery, claim.attempts + 1);
    journal
        .begin(contract::start(delivery, claim.phase, 0, attempt))
        .await
        .unwrap();
    tell(&format!("begun {delivery}"));
    let receipt = KeptReceipt {
        done: random.bool(),
        body: Bytes::from_static(b"{}"),
    };
    if random.bool() {
        let key = format!("{delivery}/step-0");
        journal.keep_receipt(&key, receipt).await.unwrap();
        tell(&format!("receipt {key}"));
    }
    let state = if random.bool() {
        State::Succeeded
    } else {
        State::Dead
    };
    let failure = (state == State::Dead).then(contract::failure);
    let next = Next::Settle { state, failure };
    let end = contract::end(delivery, claim.phase, 0, Some(attempt), Outcome::Done, next);
    journal.end(end).await.unwrap();
    tell(&format!("ended {delivery} {}", state.word()));
}

/// Syncs fail for a while: nothing is told, and what the disk has lost by it must not be missed afterwards.
async fn fail(journal: &SqliteJournal, directory: &Path, random: &mut fastrand::Rng) {
    let faults = Faults::of_this_program().expect("it runs under an interposer");
    faults.fail_syncs(Some(rustix::io::Errno::IO)).unwrap();
    for _ in 0..random.usize(1..4) {
        let sent = keyed(
            EventId::new(at(0), random.u128(..)),
            vec![owed("a", "slack", None)],
        );
        let refused = journal.append(sent).await.unwrap_err();
        assert!(
            matches!(refused, AppendError::Unavailable(JournalError::Store(_))),
            "{refused}"
        );
    }
    if random.bool() {
        assert!(checkpoint(directory).is_err());
    }
    faults.fail_syncs(None).unwrap();
}

/// As the thread beside the writer does after some megabytes: the log is copied into the database, and begins anew.
fn checkpoint(directory: &Path) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(schema::file(directory))?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Says what is on disk by now, and how long the record is.
fn tell(what: &str) {
    let trace = std::env::var_os("JACKFIELD_DISK_TRACE").unwrap();
    println!("told {} {what}", std::fs::metadata(trace).unwrap().len());
}
