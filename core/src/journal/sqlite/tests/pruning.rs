//! What only a database file has: bytes, and pages that hold nothing.

use jackfield_event::EventId;

use super::*;
use crate::{
    delivery::State,
    journal::{
        Arrival, Kept, Retention,
        contract::{Bench, arrival, generation, owed},
    },
    router::Routed,
};

const PAYLOAD: usize = 400_000;

/// An arrival with much of a payload.
fn large(seconds: i64) -> Arrival {
    let mut sent = arrival(seconds, None, vec![]);
    let payload = format!("\"{}\"", "x".repeat(PAYLOAD));
    let event = sent.routed.event().clone();
    sent.routed = Routed::for_test(event, payload.into(), None, generation(), vec![]);
    sent
}

async fn prune(bench: &Bench<'_>, max_bytes: u64) -> bool {
    let retention = Retention {
        max_bytes,
        ..Retention::default()
    };
    for _ in 0..1_000 {
        let pruned = bench.journal.prune(&retention).await.unwrap();
        if !pruned.more {
            return pruned.exceeded;
        }
    }
    panic!("pruning comes to no end");
}

async fn kept(bench: &Bench<'_>, event: EventId) -> Option<Kept> {
    let story = bench.journal.event(event).await.unwrap();
    story.map(|story| story.kept)
}

#[tokio::test]
async fn an_event_with_very_many_duplicates_goes_like_others() {
    let directory = Directory::new();
    let bench = Bench::new(&directory).await;
    let event = bench.append(arrival(0, Some("key"), vec![])).await.event();
    for _ in 0..1_100 {
        let again = bench.append(arrival(1, Some("key"), vec![])).await;
        assert!(again.is_duplicate());
    }
    bench.append(arrival(9_000, None, vec![])).await;
    bench.set_clock(400 * 86_400);
    assert!(!prune(&bench, u64::MAX).await);
    assert_eq!(kept(&bench, event).await, None);
}

#[tokio::test]
async fn a_dead_letter_lies_there_for_its_time_though_what_is_owed_exceeds_the_limit() {
    let directory = Directory::new();
    let bench = Bench::new(&directory).await;
    for _ in 0..5 {
        let mut sent = large(0);
        let (event, payload) = (
            sent.routed.event().clone(),
            format!("\"{}\"", "x".repeat(PAYLOAD)),
        );
        let owed = vec![owed("a", "slack", Some("line"))];
        sent.routed = Routed::for_test(event, payload.into(), None, generation(), owed);
        bench.append(sent).await;
    }
    let died = bench
        .append(arrival(1, None, vec![owed("b", "slack", None)]))
        .await;
    bench.claim(1).await;
    bench.finish(died.deliveries()[0], State::Dead).await;
    bench.append(arrival(3, None, vec![])).await;
    bench.set_clock(60);
    assert!(prune(&bench, 1_000_000).await, "the limit cannot be kept");
    assert_eq!(kept(&bench, died.event()).await, Some(Kept::Whole));
    let dead = bench.journal.delivery(died.deliveries()[0]).await.unwrap();
    assert_eq!(dead.unwrap().record.state, State::Dead);
}

#[tokio::test]
async fn a_journal_that_is_too_large_loses_the_oldest_payloads_and_gives_its_pages_back() {
    let directory = Directory::new();
    let bench = Bench::new(&directory).await;
    let owing = bench.append({
        let mut sent = large(0);
        let event = sent.routed.event().clone();
        let owed = vec![owed("a", "slack", None)];
        sent.routed = Routed::for_test(event, "{}".into(), None, generation(), owed);
        sent
    });
    let owing = owing.await.event();
    let mut events = Vec::new();
    for day in 0..100 {
        events.push(bench.append(large(day * 8_000)).await.event());
    }
    bench.set_clock(100 * 8_000);
    let before = bench.journal.disk_use().await.unwrap();
    assert!(before.database > 40_000_000 && before.log > 0, "{before:?}");
    assert!(!prune(&bench, u64::MAX).await);
    assert_eq!(kept(&bench, events[0]).await, Some(Kept::Whole));

    let limit = 10_000_000;
    assert!(!prune(&bench, limit).await);
    let after = bench.journal.disk_use().await.unwrap();
    assert!(after.database - after.free <= limit, "{after:?}");
    assert!(
        after.database < before.database - 10_000_000,
        "{before:?} {after:?}"
    );
    // The oldest payloads, and no more than had to go; the events themselves are far from their age.
    assert_eq!(kept(&bench, owing).await, Some(Kept::Whole));
    assert_eq!(kept(&bench, events[0]).await, Some(Kept::WithoutPayload));
    assert_eq!(kept(&bench, events[99]).await, Some(Kept::Whole));
    assert!(after.database - after.free > 3_000_000, "{after:?}");

    // What is owed stays, and it is told that the limit cannot be kept.
    assert!(prune(&bench, 0).await);
    assert_eq!(kept(&bench, owing).await, Some(Kept::Whole));
    assert_eq!(kept(&bench, events[98]).await, None);
    let check = |connection: &rusqlite::Connection| {
        connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    };
    drop(bench);
    let connection = rusqlite::Connection::open(schema::file(directory.path())).unwrap();
    assert_eq!(check(&connection).unwrap(), "ok");
    let (rows, counted): (i64, i64) = connection
        .query_row(
            "SELECT (SELECT count(*) FROM event), count FROM tally WHERE name = 'event'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!((rows, counted), (2, 2));
}
