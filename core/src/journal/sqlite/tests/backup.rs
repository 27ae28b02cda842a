//! Copies that are made while the journal is written.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rusqlite::Connection;

use super::*;
use crate::journal::{
    BackupError, back_up,
    contract::{Bench, arrival, owed},
};

#[tokio::test]
async fn a_copy_under_load_has_all_that_was_acknowledged_before_and_a_router_goes_on_from_it() {
    let (directory, elsewhere) = (Directory::new(), Directory::new());
    let bench = Bench::new(&directory).await;
    let key = |number: usize| format!("key-{number}");
    let sent = |number: usize| arrival(0, Some(&key(number)), vec![owed("a", "slack", None)]);
    let mut before = Vec::new();
    for number in 0..500 {
        before.push(bench.append(sent(number)).await);
    }
    let (over, to) = (AtomicBool::new(false), elsewhere.path().join("copy.db"));
    let copying = {
        let (from, to) = (directory.path().to_owned(), to.clone());
        tokio::task::spawn_blocking(move || back_up(&from, &to, |_, _| ()))
    };
    let load = async {
        let mut number = 500;
        while !over.load(Relaxed) {
            bench.append(sent(number)).await;
            number += 1;
        }
        number
    };
    let copied = async {
        let copied = copying.await.unwrap().unwrap();
        over.store(true, Relaxed);
        copied
    };
    let (all, copied) = tokio::join!(load, copied);
    assert!(all > 500, "nothing was written meanwhile");
    assert!(
        (500..=u64::try_from(all).unwrap()).contains(&copied.events),
        "{copied:?}"
    );
    let metadata = fs::metadata(&to).unwrap();
    assert_eq!(
        (metadata.len(), metadata.permissions().mode() & 0o777),
        (copied.bytes, 0o600)
    );

    let restored = Directory::new();
    fs::copy(&to, schema::file(restored.path())).unwrap();
    let bench = Bench::new(&restored).await;
    assert_eq!(bench.journal.counts().await.unwrap().events, copied.events);
    for (number, committed) in before.iter().enumerate() {
        let again = bench.append(sent(number)).await;
        assert_eq!((again.is_duplicate(), again.event()), (true, committed.event()));
    }
    let claimed = bench.claim_as("me", 0, 10_000, &[]).await;
    assert_eq!(u64::try_from(claimed.len()).unwrap(), copied.events);
    assert_eq!(claimed[0].delivery, before[0].deliveries()[0]);
}

#[tokio::test]
async fn a_copy_of_an_old_journal_is_laid_out_as_a_new_one_and_has_all_of_it() {
    let (directory, elsewhere, restored) = (Directory::new(), Directory::new(), Directory::new());
    let old = Connection::open(schema::file(directory.path())).unwrap();
    old.pragma_update(None, "page_size", 16 * 1024).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(include_str!("version-1.sql")).unwrap();
    drop(old);
    let bench = Bench::new(&directory).await;
    bench.append(arrival(0, None, vec![])).await;

    let to = elsewhere.path().join("copy.db");
    let copied = back_up(directory.path(), &to, |_, _| ()).unwrap();
    let metadata = fs::metadata(&to).unwrap();
    assert_eq!(
        (metadata.len(), metadata.permissions().mode() & 0o777),
        (copied.bytes, 0o600)
    );
    let new = Directory::new();
    drop(Bench::new(&new).await);
    fs::copy(&to, schema::file(restored.path())).unwrap();
    let layout = |directory: &Directory| {
        let connection = Connection::open(schema::file(directory.path())).unwrap();
        let pragma =
            |name| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        [
            "auto_vacuum",
            "page_size",
            "journal_mode",
            "application_id",
            "user_version",
        ]
        .map(|name| pragma(name).unwrap())
    };
    assert_eq!(layout(&restored), layout(&new));
    assert_ne!(
        layout(&directory),
        layout(&new),
        "the journal itself is as it was"
    );

    let (before, after) = (bench.journal.counts().await.unwrap(), Bench::new(&restored).await);
    assert_eq!(after.journal.counts().await.unwrap(), before);
    assert_eq!(copied.events, before.events);
    let events = async |bench: &Bench<'_>| {
        let events = bench.journal.events(EventFilter::default()).await.unwrap();
        events.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(events(&after).await, events(&bench).await);
}

#[tokio::test]
async fn a_copy_overwrites_nothing_and_leaves_nothing_half_done() {
    let (directory, elsewhere) = (Directory::new(), Directory::new());
    let missing = back_up(directory.path(), &elsewhere.path().join("copy"), |_, _| ());
    assert!(
        matches!(missing, Err(BackupError::Open(OpenError::Missing(_)))),
        "{missing:?}"
    );
    drop(Bench::new(&directory).await);

    let to = elsewhere.path().join("copy");
    fs::write(&to, "mine").unwrap();
    let error = back_up(directory.path(), &to, |_, _| ()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{} is there already, and is not overwritten; name another file",
            to.display()
        )
    );
    assert_eq!(fs::read(&to).unwrap(), b"mine");
    fs::remove_file(&to).unwrap();

    let partial = elsewhere.path().join("copy.partial");
    fs::write(&partial, "").unwrap();
    let error = back_up(directory.path(), &to, |_, _| ()).unwrap_err();
    assert!(matches!(error, BackupError::UnderWay(_)), "{error}");
    fs::remove_file(&partial).unwrap();

    let nowhere = directory.path().join("missing/copy");
    let error = back_up(directory.path(), &nowhere, |_, _| ()).unwrap_err();
    assert!(matches!(error, BackupError::Io { .. }), "{error}");
    back_up(directory.path(), &to, |_, _| ()).unwrap();
    let names: Vec<_> = fs::read_dir(elsewhere.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["copy"]);
}
