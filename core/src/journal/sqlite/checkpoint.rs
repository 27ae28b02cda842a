//! Keeps the write-ahead log short: its pages are copied into the database by a thread beside the writer.
//!
//! That thread alone would never let the log begin anew, since the writer is always a step ahead of it: measured,
//! 1.9 GB after 12 seconds. So where the log is still long, the writer copies the rest itself, which is little by
//! then, and the next commit begins the log anew. A reader that holds an old snapshot puts that off until it ends.
//!
//! SQLite syncs the database when the whole log is copied, and not before: that would be the writer's part, with all that
//! the thread has copied. So the thread syncs it itself, each time, and the writer waits for little of that, too.

use std::{
    fmt,
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use super::{OpenError, schema};

/// The thread beside the writer, and what the writer knows of the log.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Pages in the log after the last commit.
    pages: Arc<AtomicI64>,
    /// How long the log was when a checkpoint was last asked for.
    asked: i64,
    /// At what length the writer finishes a checkpoint itself.
    limit: i64,
    /// Held during a checkpoint: SQLite lets only one run, and turns a second one away.
    running: Arc<Mutex<()>>,
    ask: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread for the database that `writer` writes, and `database` is.
    pub(super) fn start(
        directory: &Path,
        writer: &mut Connection,
        database: Arc<File>,
    ) -> Result<Self, OpenError> {
        let path = schema::file(directory);
        let pages = Arc::new(AtomicI64::new(0));
        let seen = Arc::clone(&pages);
        writer
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
                seen.store(i64::from(pages), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(OpenError::store(&path))?;
        let connection = schema::open_to_write(directory)?;
        let running = Arc::new(Mutex::new(()));
        // One request that waits is enough: it takes in all that was written by then.
        let (ask, asked) = mpsc::sync_channel(1);
        let lock = Arc::clone(&running);
        let thread = thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || {
                while asked.recv().is_ok() {
                    let _running = lock.lock().unwrap_or_else(PoisonError::into_inner);
                    checkpoint(&connection);
                    warn_of(database.sync_data());
                }
            })
            .map_err(OpenError::io(&path))?;
        Ok(Self {
            pages,
            asked: 0,
            limit: LONG,
            running,
            ask: Some(ask),
            thread: Some(thread),
        })
    }

    /// Copies what the log has now.
    pub(super) fn copy_now(&self, writer: &Connection) {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoint(writer);
    }

    /// Looks at the log's length after a commit.
    pub(super) fn tend(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.asked {
            self.asked = 0;
            self.limit = LONG;
        }
        if pages >= self.limit {
            // The thread is at it, beside the commits; when it is done, little is left.
            let is_running = matches!(self.running.try_lock(), Err(TryLockError::WouldBlock));
            if is_running && pages < self.limit + LONG {
                return;
            }
            self.copy_now(writer);
            // Where a reader holds the log, the next try is for when there is more to gain.
            (self.asked, self.limit) = (pages, pages + LONG);
        } else if pages >= self.asked + STEP
            && let Some(ask) = &self.ask
            && ask.try_send(()).is_ok()
        {
            self.asked = pages;
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; the log is whole without it.
            let _ = thread.join();
        }
    }
}

fn checkpoint(connection: &Connection) {
    warn_of(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
}

/// Nothing is lost: the log keeps what could not be copied. A full disk shows in the commits soon enough.
fn warn_of<E: fmt::Display>(copied: Result<(), E>) {
    if let Err(error) = copied {
        tracing::warn!(error = %error, "the journal's log could not be copied into the database");
    }
}

/// Pages after which the thread is asked to copy: 8 MB.
const STEP: i64 = 512;

/// Pages after which the writer finishes the copy as soon as the thread rests, and after twice as many in any case: 32 MB.
const LONG: i64 = 2048;
