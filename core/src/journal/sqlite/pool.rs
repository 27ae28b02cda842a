//! Connections to read by: a few, kept open, used on threads that may block.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{OpenError, schema, writer::text};
use crate::journal::JournalError;

/// Hands out connections; each read is one snapshot.
#[derive(Debug)]
pub(super) struct Pool {
    directory: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// As many as may read. Whoever gives a read up does not end it, and so its query holds the permit.
    permits: Arc<Semaphore>,
    closed: AtomicBool,
}

impl Pool {
    /// A pool over the journal in `directory`, which must be there.
    pub(super) fn open(directory: &Path) -> Result<Arc<Self>, OpenError> {
        let first = schema::open_to_read(directory)?;
        Ok(Arc::new(Self {
            directory: directory.to_owned(),
            idle: Mutex::new(vec![first]),
            permits: Arc::new(Semaphore::new(READERS)),
            closed: AtomicBool::new(false),
        }))
    }

    /// Reads with `query`, on a thread that may block.
    pub(super) async fn read<T, Q>(self: &Arc<Self>, query: Q) -> Result<T, JournalError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| JournalError::Closed)?;
        let pool = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let result = pool.read_here(query);
            drop(permit);
            result
        });
        reading.await.unwrap_or_else(|error| {
            Err(JournalError::Store(format!(
                "reading the journal failed: {error}"
            )))
        })
    }

    fn read_here<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_to_read(&self.directory)
                .map_err(|error| JournalError::Store(error.to_string()))?,
        };
        let result = in_snapshot(&connection, query).map_err(|error| JournalError::Store(text(&error)));
        let mut idle = self.idle();
        if !self.closed.load(Ordering::Relaxed) {
            idle.push(connection);
        }
        result
    }

    /// Waits for reads under way, closes all connections and refuses what comes later.
    pub(super) async fn close(&self) {
        // All permits: nobody reads any more.
        let all = u32::try_from(READERS).expect("a handful");
        if let Ok(permits) = self.permits.acquire_many(all).await {
            self.closed.store(true, Ordering::Relaxed);
            self.idle().clear();
            self.permits.close();
            drop(permits);
        }
    }

    /// The lock is held for a push or a pop, and no other is taken under it.
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what there is at one moment. A transaction of rusqlite's would have its statements prepared each time.
fn in_snapshot<T>(
    connection: &Connection,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let result = query(connection);
    let ended = connection
        .prepare_cached("ROLLBACK")
        .and_then(|mut end| end.execute([]));
    // What went wrong first is what is told.
    result.and_then(|read| ended.map(|_| read))
}

/// How many read at a time: lists and claims; each holds up to 2 MB of pages.
const READERS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_that_is_given_up_is_counted_and_waited_for_as_long_as_it_lasts() {
        let directory = tempfile::tempdir().unwrap();
        drop(schema::open_to_write(directory.path()).unwrap());
        let pool = Pool::open(directory.path()).unwrap();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (begun, mut began) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..READERS {
            let (gate, begun) = (Arc::clone(&gate), begun.clone());
            let read = pool.read(move |_| {
                begun.send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
                Ok(())
            });
            tokio::select! {
                _ = read => panic!("it ends when it is let go on"),
                _ = began.recv() => {}
            }
        }
        assert_eq!(pool.permits.available_permits(), 0);

        (0..READERS).for_each(|_| go.send(()).unwrap());
        pool.close().await;
        assert_eq!((Arc::strong_count(&gate), pool.idle().len()), (1, 0));
        assert!(matches!(pool.read(|_| Ok(())).await, Err(JournalError::Closed)));
    }
}
