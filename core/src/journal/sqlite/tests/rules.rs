//! Rules of much text: stored in pieces, and never seen in part.

use std::{future::poll_fn, pin::pin, task::Poll};

use super::*;
use crate::{
    journal::contract::{arrival, generation},
    router::GenerationId,
};

fn open(directory: &Directory) -> SqliteJournal {
    SqliteJournal::open(directory.path(), Options::default()).unwrap()
}

fn id(name: &str) -> GenerationId {
    GenerationId(name.to_owned())
}

/// Of five pieces, cut in the midst of no character.
fn long() -> String {
    "ä€𝄞".repeat(30_000)
}

/// How many pieces lie in the journal beside the rows.
async fn pieces(journal: &SqliteJournal) -> u32 {
    let count = |connection: &rusqlite::Connection| {
        connection.query_row("SELECT count(*) FROM rules_piece", [], |row| row.get(0))
    };
    journal.history.pool.read(count).await.unwrap()
}

#[tokio::test]
async fn text_of_any_length_is_stored_and_found_whole() {
    let directory = Directory::new();
    let journal = open(&directory);
    for (name, text, more) in [
        ("short", "ä".to_owned(), 0),
        ("full", "x".repeat(64 << 10), 0),
        ("fuller", "x".repeat((64 << 10) + 1), 1),
        ("long", long(), 1 + 4),
    ] {
        journal.store_rules(&id(name), &text).await.unwrap();
        assert_eq!(
            journal.rules(&id(name)).await.unwrap(),
            Some(text.clone()),
            "{name}"
        );
        assert_eq!(pieces(&journal).await, more, "{name}");
        // As people see it.
        journal.put_in_force(&id(name), Cause::Start, None).await.unwrap();
        let name = name.to_owned();
        let seen = journal.history.pool.read(move |connection| {
            connection.query_row(
                "SELECT text FROM generations WHERE generation = ?",
                [name],
                |row| row.get::<_, String>(0),
            )
        });
        assert_eq!(seen.await.unwrap(), text);
    }
}

#[tokio::test]
async fn an_arrival_waits_for_one_piece_and_not_for_all() {
    let directory = Directory::new();
    let journal = open(&directory);
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let text = long();
    let long = id("long");
    let mut storing = pin!(journal.store_rules(&long, &text));
    // Begun, and then left alone.
    let begun = poll_fn(|context| Poll::Ready(storing.as_mut().poll(context).is_pending())).await;
    assert!(begun);
    journal.append(arrival(0, None, vec![])).await.unwrap();
    assert_eq!(journal.rules(&long).await.unwrap(), None);
    storing.await.unwrap();
    assert_eq!(journal.rules(&long).await.unwrap().as_ref(), Some(&text));
}

#[tokio::test]
async fn half_of_a_text_is_none_and_goes_with_the_next_start() {
    let directory = Directory::new();
    let journal = open(&directory);
    let (kept, cut) = (id("kept"), id("cut"));
    journal.store_rules(&kept, &long()).await.unwrap();
    // As it is when the router dies before the row.
    journal
        .ask(|store| store.store_piece(&id("cut"), 1, "…and the rest"))
        .await
        .unwrap();
    assert_eq!(journal.rules(&cut).await.unwrap(), None);
    let named = journal.put_in_force(&cut, Cause::Change, None).await;
    assert!(matches!(named, Err(JournalError::NotFound(_))), "{named:?}");
    assert_eq!(pieces(&journal).await, 4 + 1);
    drop(journal);

    let journal = open(&directory);
    assert_eq!(pieces(&journal).await, 4);
    assert_eq!(journal.rules(&kept).await.unwrap(), Some(long()));
    journal.store_rules(&cut, &long()).await.unwrap();
    assert_eq!(journal.rules(&cut).await.unwrap(), Some(long()));
}
