//! The one thread that writes: it takes all that waits, does it in one transaction, and answers when it is on disk.
//!
//! No timer: while one group is synced, the next one gathers. A job that fails is done again apart from the others,
//! so that it fails alone; a commit that fails, fails for its whole group.

use rusqlite::ErrorCode;
use tokio::sync::{mpsc, watch};

use super::{answer::Round, checkpoint::Checkpoints, job::Job, lag::Lag, store::Store};
use crate::journal::JournalError;

/// Works until every sender is gone.
pub(super) fn run(
    mut store: Store<'_>,
    mut jobs: mpsc::Receiver<Box<dyn Job>>,
    changes: &watch::Sender<u64>,
    lag: &Lag,
    checkpoints: &mut Checkpoints,
) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        lag.begin(group[0].asked());
        let committed = commit(&mut store, &mut group);
        if let Err(error) = &committed {
            tracing::error!(error = %error, jobs = group.len(), "the journal could not commit");
            // Where there is no room for more of the log, what is in it already is copied, and it can begin anew.
            checkpoints.copy_now(store.connection);
        }
        let mut round = Round::default();
        for job in group.drain(..) {
            job.tell(committed.clone(), &mut round);
        }
        drop(round);
        if std::mem::take(&mut store.wake) {
            changes.send_modify(|change| *change += 1);
        }
        checkpoints.tend(store.connection);
        lag.end();
    }
}

/// Does a group in one transaction; where one job fails, once more with each apart.
fn commit(store: &mut Store<'_>, group: &mut [Box<dyn Job>]) -> Result<(), JournalError> {
    let together = store.within_transaction(|store| group.iter_mut().try_for_each(|job| job.run(store)));
    let result = match together {
        Err(error) if is_of_one_job(&error) => store.within_transaction(|store| {
            group.iter_mut().try_for_each(|job| {
                if let Err(error) = store.apart(|store| job.run(store))? {
                    tracing::error!(error = %text(&error), "the journal could not write a row");
                    job.fail(&error);
                }
                Ok(())
            })
        }),
        result => result,
    };
    result.map_err(|error| JournalError::Store(text(&error)))
}

/// Whether the fault lies in what was to be written, and not in the disk or the database.
fn is_of_one_job(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => {
            matches!(
                code,
                ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
            )
        }
        // Not from SQLite: a value that could not be converted.
        None => true,
    }
}

/// SQLite's message with its code, which tells a full disk from a failing one.
pub(super) fn text(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(message)) => {
            format!("{message} (SQLite {})", code.extended_code)
        }
        error => error.to_string(),
    }
}

/// How many jobs a group takes at most: enough that a group never waits for its size.
const GROUP: usize = 1024;
