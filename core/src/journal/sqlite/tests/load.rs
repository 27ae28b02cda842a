//! Many keys, long logs, and what an append costs.

use std::fs;

use super::{disk::join_all, *};
use crate::{
    journal::contract::{arrival, generation, owed},
    router::Owed,
};

fn options(dedup_keys: usize) -> Options {
    Options {
        dedup_keys,
        ..Options::default()
    }
}

fn sent(seconds: i64, key: &str, payload: &Bytes, owed: Vec<Owed>) -> Arrival {
    let mut sent = arrival(seconds, None, vec![]);
    let event = sent.routed.event().clone();
    sent.routed = Routed::for_test(event, payload.clone(), Some(key.to_owned()), generation(), owed);
    sent
}

/// Appends events with these keys, a thousand at a time.
async fn append(journal: &SqliteJournal, seconds: i64, keys: impl Iterator<Item = usize>) -> usize {
    let keys: Vec<_> = keys.collect();
    let mut new = 0;
    for chunk in keys.chunks(1_000) {
        let payload = Bytes::from_static(b"{}");
        let appends = chunk
            .iter()
            .map(|key| journal.append(sent(seconds, &format!("key-{key}"), &payload, Vec::new())));
        new += join_all(appends)
            .await
            .into_iter()
            .filter(|result| !result.as_ref().unwrap().is_duplicate())
            .count();
    }
    new
}

async fn blocks(journal: &SqliteJournal) -> i64 {
    let count = |connection: &rusqlite::Connection| {
        connection.query_row("SELECT count(*) FROM dedup_block", [], |row| row.get(0))
    };
    journal.history.pool.read(count).await.unwrap()
}

#[tokio::test]
async fn thousands_of_keys_are_known_after_a_restart_until_their_window_ends() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), options(1_000_000)).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    assert_eq!(append(&journal, 0, 0..10_000).await, 10_000);
    assert_eq!(blocks(&journal).await, 2);
    drop(journal);

    let journal = SqliteJournal::open(directory.path(), options(1_000_000)).unwrap();
    assert_eq!(append(&journal, 99, 0..10_000).await, 0);
    // The window of all that is known is over; new blocks take the place of the old.
    assert_eq!(append(&journal, 1_000, 9_000..20_000).await, 11_000);
    assert_eq!(blocks(&journal).await, 2);
    drop(journal);
    let journal = SqliteJournal::open(directory.path(), options(1_000_000)).unwrap();
    assert_eq!(append(&journal, 1_000, 0..20_000).await, 9_000);
}

#[tokio::test]
async fn of_too_many_keys_the_oldest_are_forgotten_and_the_rest_is_known() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), options(5_000)).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    append(&journal, 0, 0..20_000).await;
    assert!(blocks(&journal).await <= 2);
    assert_eq!(append(&journal, 1, 16_000..20_000).await, 0);
    assert_eq!(append(&journal, 1, 0..1_000).await, 1_000);
}

#[tokio::test]
async fn the_log_stays_short_under_steady_writing() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let payload = Bytes::from(format!("\"{}\"", "x".repeat(100_000)));
    let mut longest = 0;
    for round in 0..150 {
        let appends =
            (0..10).map(|number| journal.append(sent(0, &format!("{round}-{number}"), &payload, vec![])));
        assert!(join_all(appends).await.into_iter().all(|result| result.is_ok()));
        longest = fs::metadata(directory.path().join("journal.db-wal"))
            .unwrap()
            .len()
            .max(longest);
    }
    assert_eq!(journal.counts().await.unwrap().events, 1_500);
    assert!(
        longest < 80 << 20,
        "150 MB were written through a log of {longest} bytes"
    );
}

#[tokio::test]
async fn a_queue_that_is_full_turns_arrivals_away() {
    let directory = Directory::new();
    let options = Options {
        queue_bytes: 1_000_000,
        ..Options::default()
    };
    let journal = SqliteJournal::open(directory.path(), options).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let payload = Bytes::from(format!("\"{}\"", "x".repeat(300_000)));
    // The writer is held up, so that they wait; the first answer that is "full" comes at once.
    let (go, held) = std::sync::mpsc::channel::<()>();
    let hold = journal.ask(move |_| {
        let _ = held.recv();
        Ok(())
    });
    let appends = (0..6).map(|number| {
        let append = journal.append(sent(0, &number.to_string(), &payload, vec![]));
        let go = go.clone();
        async move {
            let result = append.await;
            let _ = go.send(());
            result
        }
    });
    let (_, results) = tokio::join!(hold, join_all(appends));
    let full = results
        .iter()
        .filter(|result| matches!(result, Err(AppendError::Full)))
        .count();
    let kept = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((kept, full), (4, 2));
    // What was turned away may come again, and now there is room.
    for number in 0..6 {
        let again = journal
            .append(sent(0, &number.to_string(), &payload, vec![]))
            .await
            .unwrap();
        assert_eq!(again.is_duplicate(), number < 4, "{number}");
    }
}

/// Prints what an append costs: `cargo test --release --lib append_costs -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement, of use in a release build alone"]
async fn append_costs() {
    for (routes, group) in [(0, 128), (1, 128), (3, 128), (0, 16), (1, 1)] {
        let directory = Directory::new();
        let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
        journal.store_rules(&generation(), "the rules").await.unwrap();
        let payload = Bytes::from(format!("\"{}\"", "x".repeat(3_070)));
        let events = group * 4_000.min(100_000 / group);
        let (cpu, written, begun) = (writer_cpu(), bytes_written(), std::time::Instant::now());
        for first in (0..events).step_by(group) {
            let appends = (first..first + group).map(|number| {
                let owed = (0..routes)
                    .map(|route| owed(&format!("a-route-{route}"), "slack-notify", None))
                    .collect();
                journal.append(sent(
                    i64::try_from(number / 1_000).unwrap(),
                    &format!("key-{number}"),
                    &payload,
                    owed,
                ))
            });
            assert!(join_all(appends).await.into_iter().all(|result| result.is_ok()));
        }
        let per_event = |value: f64| value / f64::from(u32::try_from(events).unwrap());
        println!(
            "{routes} deliveries, groups of {group:3}: writer {:5.1} µs, all {:5.1} µs, {:5.1} KB written for each event",
            per_event((writer_cpu() - cpu) / 1e3),
            per_event(begun.elapsed().as_secs_f64() * 1e6),
            per_event((bytes_written() - written) / 1e3),
        );
        assert_eq!(
            journal.counts().await.unwrap().events,
            u64::try_from(events).unwrap()
        );
    }
}

/// Prints what a delivery costs from its claim to its end, beside a backlog that cannot be claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement, of use in a release build alone"]
async fn delivery_costs() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let payload = Bytes::from(format!("\"{}\"", "x".repeat(3_070)));
    for first in (0..50_000).step_by(500) {
        let appends = (first..first + 500).map(|number| {
            let keyed = owed("ordered", "slow", Some("7"));
            journal.append(sent(
                0,
                &number.to_string(),
                &payload,
                vec![owed("a", "slow", None), keyed],
            ))
        });
        assert!(join_all(appends).await.into_iter().all(|result| result.is_ok()));
    }
    let appends = (50_000..52_000).map(|number| {
        journal.append(sent(
            0,
            &number.to_string(),
            &payload,
            vec![owed("b", "quick", None)],
        ))
    });
    assert!(join_all(appends).await.into_iter().all(|result| result.is_ok()));
    let (mut claiming, mut settled) = (Duration::ZERO, 0);
    let (cpu, begun) = (writer_cpu(), std::time::Instant::now());
    loop {
        let request = ClaimRequest {
            owner: "me".into(),
            now: contract::at(0),
            lease: Duration::from_secs(60),
            limit: 64,
            busy: vec!["slow".into()],
        };
        let asked = std::time::Instant::now();
        let claims = journal.claim(request).await.unwrap();
        claiming += asked.elapsed();
        if claims.is_empty() {
            break;
        }
        join_all(claims.iter().map(|claim| async {
            journal
                .begin(contract::start(claim.delivery, claim.phase, 0, 1))
                .await
                .unwrap();
            let next = Next::Settle {
                state: crate::delivery::State::Succeeded,
                failure: None,
            };
            let outcome = crate::delivery::Outcome::Done;
            journal
                .end(contract::end(
                    claim.delivery,
                    claim.phase,
                    0,
                    Some(1),
                    outcome,
                    next,
                ))
                .await
                .unwrap();
        }))
        .await;
        settled += claims.len();
    }
    let each = |time: f64| time * 1e6 / f64::from(u32::try_from(settled).unwrap());
    println!(
        "behind 100,000 others: claim {:.1} µs, writer {:.1} µs, all {:.1} µs for each delivery",
        each(claiming.as_secs_f64()),
        each((writer_cpu() - cpu) / 1e9),
        each(begun.elapsed().as_secs_f64()),
    );
    assert_eq!(settled, 2_000);
}

/// Nanoseconds that the thread `journal` has run.
fn writer_cpu() -> f64 {
    let tasks = fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| task.unwrap().path());
    let writer = tasks
        .into_iter()
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "journal"))
        .unwrap();
    let schedule = fs::read_to_string(writer.join("schedstat")).unwrap();
    schedule.split(' ').next().unwrap().parse().unwrap()
}

fn bytes_written() -> f64 {
    let counters = fs::read_to_string("/proc/self/io").unwrap();
    counters
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .unwrap()
        .parse()
        .unwrap()
}
