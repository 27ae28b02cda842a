//! Reading beside a router, after its end and after a kill; and the examples of the document.

use std::{fs, os::unix::fs::MetadataExt};

use super::*;
use crate::journal::{
    Cause,
    contract::{arrival, generation, owed},
};

async fn events(directory: &Path) -> usize {
    let history = SqliteHistory::open(directory, Arc::new(SystemClock)).unwrap();
    history.events(EventFilter::default()).await.unwrap().len()
}

#[tokio::test]
async fn a_journal_is_read_while_it_is_written_after_its_end_and_after_a_kill() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let history = SqliteHistory::open(directory.path(), Arc::new(SystemClock)).unwrap();
    for number in 1..=3 {
        journal.append(arrival(0, None, vec![])).await.unwrap();
        assert_eq!(
            history.events(EventFilter::default()).await.unwrap().len(),
            number
        );
    }
    drop(history);

    // The files as a kill leaves them: the log not copied, its index gone with the machine.
    let killed = Directory::new();
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(directory.path().join(name), killed.path().join(name)).unwrap();
    }
    assert_eq!(events(killed.path()).await, 3);

    journal.close().await.unwrap();
    assert!(!directory.path().join("journal.db-wal").exists());
    assert_eq!(events(directory.path()).await, 3);
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    assert_eq!(journal.counts().await.unwrap().events, 3);
}

/// Whether this process has a lock of SQLite's on the file, as the kernel tells.
fn is_locked(file: &Path) -> bool {
    let inode = format!(":{}", fs::metadata(file).unwrap().ino());
    let process = std::process::id().to_string();
    fs::read_to_string("/proc/locks").unwrap().lines().any(|lock| {
        let words: Vec<_> = lock.split_whitespace().collect();
        matches!(words[..], [_, "POSIX", _, _, of, on, ..] if of == process && on.ends_with(&inode))
    })
}

/// Without that lock, a `sqlite3` that leaves takes itself for the last reader and removes the log under the router.
#[tokio::test]
async fn a_router_holds_its_database_locked_against_those_who_leave() {
    let directory = Directory::new();
    for found in ["none", "its own"] {
        let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
        journal.store_rules(&generation(), "the rules").await.unwrap();
        assert_eq!(events(directory.path()).await, 0);
        assert!(is_locked(&directory.path().join("journal.db")), "found {found}");
    }
}

#[tokio::test]
async fn who_reads_cannot_write() {
    let directory = Directory::new();
    drop(SqliteJournal::open(directory.path(), Options::default()).unwrap());
    let history = SqliteHistory::open(directory.path(), Arc::new(SystemClock)).unwrap();
    let written = history
        .pool
        .read(|connection| connection.execute("DELETE FROM tally", []))
        .await;
    assert!(written.unwrap_err().to_string().contains("readonly"));
}

#[tokio::test]
async fn the_examples_of_the_document_run() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let rules = generation();
    journal.put_in_force(&rules, Cause::Start, None).await.unwrap();
    let dead = owed_dead();
    journal
        .append(arrival(0, Some("key"), vec![owed("a", "slack", None), dead]))
        .await
        .unwrap();

    let document = include_str!("../../../../JOURNAL.md");
    let examples: Vec<_> = document
        .split("```sql\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .flat_map(|block| block.split(';'))
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect();
    assert!(examples.len() > 5, "{examples:?}");
    let history = SqliteHistory::open(directory.path(), Arc::new(SystemClock)).unwrap();
    for example in examples {
        let sql = example.clone();
        let rows = history
            .pool
            .read(move |connection| {
                let mut statement = connection.prepare(&sql)?;
                let mut rows = statement.query([])?;
                let mut count = 0;
                while rows.next()?.is_some() {
                    count += 1;
                }
                Ok(count)
            })
            .await
            .unwrap_or_else(|error| panic!("{error}: {example}"));
        assert!(
            rows > 0 || example.contains("attempts"),
            "nothing is found by {example}"
        );
    }
}

#[tokio::test]
async fn the_view_of_events_joins_their_payload_as_we_do() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    for title in [None, Some("}}"), Some("ä")] {
        let mut sent = arrival(0, None, vec![]);
        let mut event = sent.routed.event().clone();
        event.data.title = title.map(str::to_owned);
        sent.routed = Routed::for_test(event, sent.routed.payload().clone(), None, generation(), vec![]);
        let committed = journal.append(sent).await.unwrap();
        let id = committed.event().to_string();
        let query = move |connection: &rusqlite::Connection| {
            connection.query_row("SELECT json FROM events WHERE id = ?", [id], |row| {
                row.get::<_, String>(0)
            })
        };
        let seen = journal.history.pool.read(query).await.unwrap();
        assert_eq!(
            seen,
            journal
                .event(committed.event())
                .await
                .unwrap()
                .unwrap()
                .event
                .get()
        );
    }
}

#[tokio::test]
async fn the_dead_are_found_by_their_index() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    let plan =
        "EXPLAIN QUERY PLAN SELECT * FROM delivery WHERE TRUE AND state = 'dead' ORDER BY seq DESC LIMIT 50";
    let query = |connection: &rusqlite::Connection| {
        connection.query_row(plan, [], |row| row.get::<_, String>("detail"))
    };
    let plan = journal.history.pool.read(query).await.unwrap();
    assert_eq!(plan, "SCAN delivery USING INDEX delivery_dead");
}

fn owed_dead() -> crate::router::Owed {
    crate::router::Owed {
        order: Err("undefined".into()),
        line: crate::delivery::Line::default(),
        ..owed("b", "slack", None)
    }
}
