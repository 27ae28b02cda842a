//! Files, locks, versions, and a disk that fills up.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, task::Poll};

use super::*;
use crate::{
    delivery::{Phase, State},
    journal::{
        Arrival,
        contract::{Bench, arrival, generation, owed},
    },
    router::Routed,
};

#[test]
fn a_second_router_is_refused_and_told_who_has_the_journal() {
    let directory = Directory::new();
    let first = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    let refused = SqliteJournal::open(directory.path(), Options::default())
        .unwrap_err()
        .to_string();
    let (start, end) = refused.split_once(", since ").unwrap();
    assert_eq!(start, format!("another router (process {}", std::process::id()));
    let (since, end) = end.split_once(')').unwrap();
    assert!(since.parse::<Timestamp>().is_ok(), "{since}");
    let path = directory.path().display();
    assert_eq!(
        end,
        format!(" uses the data directory {path}; stop it, or give this one a `data_dir` of its own")
    );
    drop(first);
    SqliteJournal::open(directory.path(), Options::default()).unwrap();
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let parent = Directory::new();
    let directory = parent.path().join("data").join("jackfield");
    let journal = SqliteJournal::open(&directory, Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    for path in &names {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    assert_eq!(names.len(), 5, "{names:?}");
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_waits_and_holds_up_no_other() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    let mut owe = Vec::new();
    for _ in 0..2 {
        let sent = arrival(0, None, vec![owed("a", "slack", None)]);
        owe.push(journal.append(sent).await.unwrap());
    }
    let (damaged, whole) = (owe[0].deliveries()[0], owe[1].deliveries()[0]);
    let connection = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    connection
        .execute("UPDATE event SET envelope = '[]' WHERE seq = 1", [])
        .unwrap();
    let claims = journal
        .claim(ClaimRequest {
            owner: "me".into(),
            now: contract::at(0),
            lease: Duration::from_secs(60),
            limit: 8,
            busy: vec![],
        })
        .await
        .unwrap();
    assert_eq!(
        claims.iter().map(|claim| claim.delivery).collect::<Vec<_>>(),
        [whole]
    );
    let record = journal.delivery(damaged).await.unwrap().unwrap().record;
    assert_eq!(
        (record.state, record.reason, record.due),
        (State::Waiting, Some(Reason::Unreadable), Some(contract::at(60)))
    );
}

#[test]
fn what_is_no_journal_of_ours_is_left_alone() {
    let open = |directory: &Directory| {
        let error = SqliteJournal::open(directory.path(), Options::default())
            .unwrap_err()
            .to_string();
        let read = SqliteHistory::open(directory.path(), Arc::new(SystemClock))
            .unwrap_err()
            .to_string();
        let path = directory.path().display().to_string();
        (error.replace(&path, "…"), read.replace(&path, "…"))
    };
    let newer = Directory::new();
    drop(SqliteJournal::open(newer.path(), Options::default()).unwrap());
    let connection = rusqlite::Connection::open(schema::file(newer.path())).unwrap();
    connection
        .pragma_update(None, "user_version", schema::VERSION + 1)
        .unwrap();
    drop(connection);
    let said = format!(
        "the journal …/journal.db has schema version {}, and this Jackfield knows versions up to {}; use the newer one that \
         wrote it",
        schema::VERSION + 1,
        schema::VERSION
    );
    assert_eq!(open(&newer), (said.clone(), said));

    let foreign = Directory::new();
    let connection = rusqlite::Connection::open(schema::file(foreign.path())).unwrap();
    connection
        .execute_batch("CREATE TABLE customer (name TEXT)")
        .unwrap();
    drop(connection);
    let said = "…/journal.db is an SQLite database, but not a journal of Jackfield's; move it away";
    assert_eq!(open(&foreign), (said.into(), said.into()));

    let garbage = Directory::new();
    fs::write(
        schema::file(garbage.path()),
        "not a database at all, but long enough to have a header".repeat(9),
    )
    .unwrap();
    let said = "the journal …/journal.db cannot be opened: file is not a database";
    assert_eq!(open(&garbage).0, said);

    let begun = Directory::new();
    fs::write(schema::file(begun.path()), "").unwrap();
    let error = SqliteHistory::open(begun.path(), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, OpenError::Missing(_)), "{error}");
    SqliteJournal::open(begun.path(), Options::default()).unwrap();

    let error = SqliteHistory::open(Path::new("/nonexistent"), Arc::new(SystemClock))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "there is no journal at /nonexistent/journal.db; the first `jackfield run` makes it"
    );
}

#[tokio::test]
async fn a_journal_of_version_1_goes_on_where_it_was() {
    let directory = Directory::new();
    let connection = rusqlite::Connection::open(schema::file(directory.path())).unwrap();
    connection.execute_batch(include_str!("version-1.sql")).unwrap();
    drop(connection);

    let bench = Bench::new(&directory).await;
    let redelivery = arrival(10, Some("push-0"), vec![owed("build", "git", Some("main"))]);
    assert!(bench.append(redelivery).await.is_duplicate());
    let claims = bench.claim(200).await;
    let stand = |claim: &Claim| (claim.route.clone(), claim.phase, claim.step, claim.attempts);
    assert_eq!(
        claims.iter().map(stand).collect::<Vec<_>>(),
        [
            // Interrupted, backing off, without its instance, giving up, pending; one more stands behind the last.
            ("card".into(), Phase::Steps, 0, 1),
            ("card".into(), Phase::Steps, 0, 1),
            ("build".into(), Phase::Steps, 0, 0),
            ("build".into(), Phase::OnFailure, 0, 1),
            ("build".into(), Phase::Steps, 0, 0),
        ]
    );
    bench.finish(claims[4].delivery, State::Succeeded).await;
    assert_eq!(bench.claim(200).await.len(), 1);

    let story = bench.journal.delivery(claims[0].delivery).await.unwrap().unwrap();
    assert_eq!(story.attempts[0].reason, Some(Reason::Interrupted));
    let key = format!("{}/step-0", claims[0].delivery);
    assert!(!bench.journal.receipt(&key).await.unwrap().unwrap().done);
    assert_eq!(
        bench.journal.kv_get("slack", "channel").await.unwrap().unwrap(),
        "C1"
    );
    let counts = bench.journal.counts().await.unwrap();
    assert_eq!(
        (counts.events, counts.duplicates, counts.deliveries["dead"]),
        (10, 2, 1)
    );
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_is_survived() {
    let directory = Directory::new();
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    journal.store_rules(&generation(), "the rules").await.unwrap();
    limit_pages(&journal, 150).await;

    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for round in 0..20 {
        let sent: Vec<_> = (0..10)
            .map(|number| large(&format!("{round}-{number}")))
            .collect();
        let appends = sent.iter().map(|sent| journal.append(sent.clone()));
        for (result, sent) in join_all(appends).await.into_iter().zip(sent) {
            match result {
                Ok(committed) => kept.push(committed.event()),
                Err(AppendError::Unavailable(JournalError::Store(error))) => {
                    assert_eq!(error, "database or disk is full (SQLite 13)");
                    refused.push(sent);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(
        !kept.is_empty() && refused.len() > 20,
        "{} kept, {} refused",
        kept.len(),
        refused.len()
    );
    for sent in &refused {
        assert!(journal.event(sent.routed.event().id).await.unwrap().is_none());
    }

    // There is room again: what was refused is sent once more, and is no duplicate.
    limit_pages(&journal, 1_000_000).await;
    for sent in refused {
        let committed = journal.append(sent).await.unwrap();
        assert!(!committed.is_duplicate());
        kept.push(committed.event());
    }
    drop(journal);
    let journal = SqliteJournal::open(directory.path(), Options::default()).unwrap();
    for event in &kept {
        assert_eq!(
            journal
                .event(*event)
                .await
                .unwrap()
                .unwrap()
                .record
                .deliveries
                .len(),
            1
        );
    }
    let counts = journal.counts().await.unwrap();
    assert_eq!((counts.events, counts.deliveries["pending"]), (200, 200));
}

async fn limit_pages(journal: &SqliteJournal, pages: u32) {
    let pragma = format!("PRAGMA max_page_count = {pages}");
    journal
        .ask(move |store| Ok(store.connection.query_row(&pragma, [], |_| Ok(()))?))
        .await
        .unwrap();
}

/// An arrival of some pages.
fn large(key: &str) -> Arrival {
    let mut sent = arrival(0, Some(key), vec![owed("a", "slack", None)]);
    let payload = format!("\"{}\"", "x".repeat(50_000));
    let event = sent.routed.event().clone();
    let owed = sent.routed.owed().to_vec();
    sent.routed = Routed::for_test(event, payload.into(), Some(key.to_owned()), generation(), owed);
    sent
}

/// Runs them all at once, so that they come to lie in one group, and gives the answers in their order.
pub(super) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in &mut waiting {
            if answer.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        if waiting.iter().all(|(_, answer)| answer.is_some()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, answer)| answer).collect()
}

impl SqliteJournal {
    /// From now on, or not any more, no attempt can be written down, as if the disk took nothing.
    pub(crate) async fn refuse_attempts(&self, refuse: bool) {
        let batch = match refuse {
            true => {
                "CREATE TEMP TRIGGER refused BEFORE INSERT ON attempt
                 BEGIN SELECT RAISE(ABORT, 'the disk takes nothing'); END"
            }
            false => "DROP TRIGGER refused",
        };
        self.ask(move |store| Ok(store.connection.execute_batch(batch)?))
            .await
            .unwrap();
    }

    /// Writes nothing that comes from now on until what this gives is dropped, as on a disk that stands still.
    pub(crate) async fn stand_still(&self) -> std::sync::mpsc::Sender<()> {
        let (moves, stands) = std::sync::mpsc::channel();
        let (job, _) = job::Asked::new(move |_| {
            let _ = stands.recv();
            Ok(())
        });
        self.sender().unwrap().send(job).await.unwrap();
        moves
    }
}
