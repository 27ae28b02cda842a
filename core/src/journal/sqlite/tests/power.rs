//! A process follows a script and every change that it makes on disk is recorded. Then the power fails at each sync of it, and
//! of what was not synced survives nothing, everything or any part: what the process had been told is on disk, is there. Some syncs
//! fail, and take with them what they were for.

mod script;
mod told;

use std::{collections::BTreeSet, path::Path, process::Command, sync::Arc};

use jackfield_stage::disk::{Change, Interposer, Platter, Recording, Survivors};

use self::{
    script::{Script, data, keyed, rules},
    told::{Told, look},
};
use super::*;
use crate::journal::contract::{StoppedClock, arrival, generation, owed};

const DIRECTORY: &str = "JACKFIELD_TEST_POWER_DIRECTORY";
const SEED: &str = "JACKFIELD_TEST_POWER_SEED";
const SCRIPT: &str = "JACKFIELD_TEST_POWER_SCRIPT";

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_at_each_sync() {
    let cut = cut_at_each_sync(Script::New).await;
    assert!(cut.syncs > 100 && cut.failed > 0, "{cut:?}");
    assert!(cut.told.count("owes") > 20 && cut.told.count("state") > 20);
    // Each kind of write is told of.
    for kind in [
        "after", "attempts", "due", "force", "held", "kv", "events", "pace", "parent", "receipt", "rests",
        "rules",
    ] {
        assert!(cut.told.count(kind) > 0, "nothing is told of `{kind}`");
    }
    assert!(cut.told.ever("owes", "gone"), "nothing is pruned");
    assert!(cut.shrunk, "the file gives no pages back");
}

#[tokio::test]
async fn a_power_cut_while_an_older_journal_is_brought_up_to_date_loses_nothing() {
    let cut = cut_at_each_sync(Script::Old).await;
    assert!(cut.syncs > 3 && cut.told.count("event") == 10, "{cut:?}");
}

/// The disk that is played has teeth: one that does not do what it says of the log loses what was told.
#[tokio::test]
async fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let (home, root) = (Directory::new(), Directory::new());
    let interposer = Interposer::new(home.path(), root.path()).unwrap().recording();
    let told = follow(Script::New, &interposer, root.path(), 1);
    let recording = Recording::read(interposer.trace().unwrap()).unwrap();
    let (mut platter, mut logs) = (Platter::default(), BTreeSet::new());
    // When all was told, before the close copies the log into the database.
    let last = told.last("owes", |is| is != "gone");
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
    let Ok(journal) = SqliteJournal::open(&data(disk.path()), options()) else {
        return;
    };
    let mut lost = 0;
    for (thing, may_be) in told.at(last) {
        lost += usize::from(!may_be.contains(&look(&journal, thing).await.as_str()));
    }
    assert!(lost > 0, "nothing is lost");
}

/// What came of a script.
#[derive(Debug)]
struct Cut {
    told: Told,
    /// At how many syncs the power failed.
    syncs: u32,
    /// How many of them were to fail.
    failed: u32,
    /// Whether the database file got shorter.
    shrunk: bool,
}

/// Has a process follow the script, and the power fail at each of its syncs.
async fn cut_at_each_sync(script: Script) -> Cut {
    let seed = std::env::var(SEED).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (home, root) = (Directory::new(), Directory::new());
    let interposer = Interposer::new(home.path(), root.path()).unwrap().recording();
    let mut cut = Cut {
        told: follow(script, &interposer, root.path(), seed),
        syncs: 0,
        failed: 0,
        shrunk: false,
    };
    let recording = Recording::read(interposer.trace().unwrap()).unwrap();
    let disk = in_memory();
    let (mut platter, mut before, mut database) = (Platter::default(), 0, BTreeSet::new());
    for (position, change) in recording.changes() {
        let is_sync = matches!(change, Change::Synced(_) | Change::Failed(_));
        // What somebody else laid there is none of ours until it is whole.
        if is_sync && platter.unsynced() > 0 && before >= cut.told.begins() {
            cut.syncs += 1;
            cut.failed += u32::from(matches!(change, Change::Failed(_)));
            let [some, torn] = [random.fork(), random.fork()];
            for survivors in [
                Survivors::None,
                Survivors::All,
                Survivors::Some(some),
                Survivors::Torn(torn),
            ] {
                check(&platter, survivors, disk.path(), before, &cut.told, seed).await;
            }
        }
        match change {
            Change::Created(file, path) | Change::Opened(file, path) if path.ends_with("journal.db") => {
                database.insert(*file);
            }
            Change::Closed(file) => {
                database.remove(file);
            }
            Change::Cut(file, _) => cut.shrunk |= database.contains(file),
            _ => {}
        }
        platter.apply(change);
        before = *position;
    }
    check(&platter, Survivors::None, disk.path(), u64::MAX, &cut.told, seed).await;
    println!(
        "the power was cut at {} syncs, {} of which were to fail",
        cut.syncs, cut.failed
    );
    cut
}

/// Where thousands of files may be written without wearing out a disk.
fn in_memory() -> Directory {
    let memory = Path::new("/dev/shm");
    Directory(match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    })
}

/// By a clock that stands where the script began.
fn options() -> Options {
    Options {
        clock: Arc::new(StoppedClock::at(0)),
        ..Options::default()
    }
}

/// The power fails, and somebody looks what is there.
async fn check(platter: &Platter, survivors: Survivors, disk: &Path, position: u64, told: &Told, seed: u64) {
    let cut = format!("at {position} of seed {seed}, surviving: {survivors:?}");
    Platter::wipe(disk).unwrap();
    platter.power_cut(survivors, disk).unwrap();
    let journal = SqliteJournal::open(&data(disk), options()).unwrap_or_else(|error| panic!("{error} {cut}"));
    for (thing, may_be) in told.lately(position) {
        let is = look(&journal, thing).await;
        assert!(
            may_be.contains(&is.as_str()),
            "{thing} is {is}, not {may_be:?} {cut}"
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
        assert!(events >= count("SELECT count(*) FROM request")?, "{cut}");
        assert_eq!(u64::try_from(events), Ok(counted.events), "{cut}");
        for (state, counted) in counted.deliveries {
            let real = count(&format!("SELECT count(*) FROM delivery WHERE state = '{state}'"))?;
            assert_eq!(u64::try_from(real), Ok(counted), "{state} {cut}");
        }
        Ok(())
    };
    journal.history.pool.read(look).await.unwrap();
}

/// Whether a redelivery is known again, and the journal takes something new.
async fn goes_on(journal: &SqliteJournal, told: &Told, position: u64, cut: &str) {
    if let Some(text) = journal.rules(&generation()).await.unwrap() {
        assert!(
            [rules().as_str(), "", "the rules"].contains(&text.as_str()),
            "of the rules there is a part {cut}"
        );
    }
    journal.store_rules(&generation(), &rules()).await.unwrap();
    let is_there = |may_be: &[&str]| !may_be.contains(&"gone");
    let known = told.at(position).filter(|(_, may_be)| is_there(may_be));
    if let Some(event) = known.filter_map(|(thing, _)| thing.strip_prefix("owes ")).last() {
        let event: EventId = event.parse().unwrap();
        let again = journal.append(keyed(event, vec![])).await.unwrap();
        assert_eq!((again.event(), again.is_duplicate()), (event, true), "{cut}");
    }
    let new = journal
        .append(arrival(0, None, vec![owed("a", "slack", None)]))
        .await
        .unwrap();
    assert!(journal.event(new.event()).await.unwrap().is_some(), "{cut}");
}

/// Runs it as a process of its own, under the interposer.
fn follow(script: Script, interposer: &Interposer, root: &Path, seed: u64) -> Told {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "journal::sqlite::tests::power::script::a_process_follows_a_script",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(DIRECTORY, root)
        .env(SEED, seed.to_string())
        .env(SCRIPT, script.word())
        .envs(interposer.environment())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    Told::read(&String::from_utf8(output.stdout).unwrap())
}
