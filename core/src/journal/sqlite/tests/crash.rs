//! A process that appends and settles is killed at random moments; what it had been told is on disk, is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use super::*;
use crate::{
    delivery::{Outcome, State},
    journal::contract::{arrival, at, generation, owed},
};

const DIRECTORY: &str = "JACKFIELD_TEST_CRASH_DIRECTORY";
const SEED: &str = "JACKFIELD_TEST_CRASH_SEED";

/// What a child said before it died: how many deliveries each event owes, and which deliveries are settled.
#[derive(Default)]
struct Heard {
    events: BTreeMap<EventId, usize>,
    settled: BTreeSet<DeliveryId>,
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let seed = std::env::var(SEED).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = Directory::new();
    let mut heard = Heard::default();
    for round in 0..4 {
        let (events, settled) = (heard.events.len(), heard.settled.len());
        run_and_kill(directory.path(), random.usize(1..400), &mut heard);
        assert!(heard.events.len() > events, "round {round} acknowledged nothing");
        assert!(heard.settled.len() > settled, "round {round} settled nothing");
        println!(
            "round {round}: {} events, {} settled",
            heard.events.len() - events,
            heard.settled.len() - settled
        );
        // First as the CLI would, with nobody to have recovered the log before it.
        check(
            &SqliteHistory::open(directory.path(), Arc::new(SystemClock)).unwrap(),
            &heard,
        )
        .await;
        check_writing(directory.path(), &heard).await;
    }
}

fn run_and_kill(directory: &Path, lines: usize, heard: &mut Heard) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "journal::sqlite::tests::crash::a_child_works_until_it_is_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let (mut read, settled) = (0, heard.settled.len());
    while output.read_line(&mut line).unwrap() > 0 {
        // What stood in the pipe when it died was said, but for a line that was cut short.
        match line
            .strip_suffix('\n')
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .as_deref()
        {
            Some(["owes", event, deliveries]) => {
                heard
                    .events
                    .insert(event.parse().unwrap(), deliveries.parse().unwrap());
                read += 1;
            }
            Some(["settled", delivery]) => {
                heard.settled.insert(delivery.parse().unwrap());
            }
            _ => {}
        }
        // Something of both is to be at stake; a child that settles nothing is a failure, and no reason to wait.
        if read >= lines && heard.settled.len() > settled || read > 20_000 {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
}

async fn check(history: &dyn History, heard: &Heard) {
    for (event, deliveries) in &heard.events {
        let story = history
            .event(*event)
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("{event} is lost"));
        assert_eq!(story.record.deliveries.len(), *deliveries, "{event}");
        for mark in story.record.deliveries {
            let settled = heard.settled.contains(&mark.id);
            assert!(
                !settled || mark.state == State::Succeeded,
                "{} is {:?}",
                mark.id,
                mark.state
            );
        }
    }
}

async fn check_writing(directory: &Path, heard: &Heard) {
    let journal = SqliteJournal::open(directory, Options::default()).unwrap();
    for event in heard.events.keys().step_by(7) {
        let again = journal
            .append(arrival(0, Some(&event.to_string()), vec![]))
            .await
            .unwrap();
        assert_eq!((again.event(), again.is_duplicate()), (*event, true));
    }
    let real: BTreeMap<String, i64> = journal
        .history
        .pool
        .read(|connection| {
            let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            assert_eq!(check, "ok");
            connection
                .prepare("SELECT state, count(*) FROM delivery GROUP BY state UNION ALL SELECT 'event', count(*) FROM event")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .await
        .unwrap();
    let counts = journal.counts().await.unwrap();
    assert_eq!(i64::try_from(counts.events), Ok(real["event"]));
    for (state, count) in counts.deliveries {
        assert_eq!(
            i64::try_from(count),
            Ok(real.get(state).copied().unwrap_or(0)),
            "{state}"
        );
    }
    assert_eq!(real.get("running"), None, "claims of the dead are ended");
}

#[test]
#[ignore = "the crash test runs it as a process of its own"]
fn a_child_works_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let journal = Arc::new(SqliteJournal::open(Path::new(&directory), Options::default()).unwrap());
        journal.store_rules(&generation(), "the rules").await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            tasks.spawn(append_for_ever(Arc::clone(&journal)));
        }
        for _ in 0..4 {
            tasks.spawn(settle_for_ever(Arc::clone(&journal)));
        }
        tasks.join_all().await;
    });
}

async fn append_for_ever(journal: Arc<SqliteJournal>) {
    loop {
        let routes = (0..fastrand::usize(0..3)).map(|_| {
            let key = fastrand::bool().then(|| fastrand::u8(0..20).to_string());
            owed("a", "slack", key.as_deref())
        });
        let mut sent = arrival(0, None, routes.collect());
        let (event, key) = (sent.routed.event().clone(), sent.routed.event().id.to_string());
        sent.routed = Routed::for_test(
            event,
            sent.routed.payload().clone(),
            Some(key),
            generation(),
            sent.routed.owed().to_vec(),
        );
        let committed = journal.append(sent).await.unwrap();
        say(&format!(
            "owes {} {}\n",
            committed.event(),
            committed.deliveries().len()
        ));
    }
}

async fn settle_for_ever(journal: Arc<SqliteJournal>) {
    let mut changes = journal.changes();
    loop {
        let request = ClaimRequest {
            owner: "me".into(),
            now: at(0),
            lease: Duration::from_secs(60),
            limit: 8,
            busy: vec![],
        };
        let claims = journal.claim(request).await.unwrap();
        if claims.is_empty() {
            changes.changed().await.unwrap();
        }
        for claim in claims {
            let (delivery, attempt) = (claim.delivery, claim.attempts + 1);
            journal
                .begin(contract::start(delivery, claim.phase, 0, attempt))
                .await
                .unwrap();
            let next = Next::Settle {
                state: State::Succeeded,
                failure: None,
            };
            let end = contract::end(delivery, claim.phase, 0, Some(attempt), Outcome::Done, next);
            journal.end(end).await.unwrap();
            say(&format!("settled {delivery}\n"));
        }
    }
}

/// One write, so that no two lines mix.
fn say(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}
