//! Whether events can be taken in, found out by doing what taking one in needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use crate::journal::Journal;

/// Finds out whether the router is ready.
#[derive(Debug)]
pub(super) struct Health {
    journal: Arc<dyn Journal>,
    draining: Arc<AtomicBool>,
    /// The last good look. The lock is held over a look, so that many who ask at once cause one.
    good: Mutex<Option<Instant>>,
}

/// Tells the admin side what it cannot find out.
#[derive(Clone, Debug)]
pub struct Handle(Arc<AtomicBool>);

impl Handle {
    /// From now on the router is not ready: it is stopping.
    pub fn drain(&self) {
        self.0.store(true, Relaxed);
    }
}

impl Health {
    pub(super) fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            draining: Arc::default(),
            good: Mutex::new(None),
        }
    }

    pub(super) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.draining))
    }

    /// `Ok` where a commit has just succeeded, or did so within the last second.
    pub(super) async fn check(&self) -> Result<(), String> {
        if self.draining.load(Relaxed) {
            return Err("the router is stopping".to_owned());
        }
        let mut good = self.good.lock().await;
        if good.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        *good = None;
        let lag = self.journal.lag();
        if lag >= PATIENCE {
            return Err(format!(
                "the journal has not committed for {:.1} s",
                lag.as_secs_f64()
            ));
        }
        // A commit of a few bytes is the only proof that commits succeed; it is overwritten by the next.
        let probe = self.journal.kv_put(OWN_STORE, "readyz", Some("1".into()), None);
        match tokio::time::timeout(PATIENCE, probe).await {
            Ok(Ok(())) => {
                *good = Some(Instant::now());
                Ok(())
            }
            Ok(Err(error)) => Err(format!("the journal cannot commit: {error}")),
            Err(_) => Err(format!("the journal did not commit within {PATIENCE:?}")),
        }
    }
}

/// A name that no instance can have.
const OWN_STORE: &str = "@router";
const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Options, SqliteJournal};

    #[tokio::test]
    async fn the_router_is_ready_only_while_commits_succeed_and_it_is_not_stopping() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Arc::new(SqliteJournal::open(directory.path(), Options::default()).unwrap());
        let health = Health::new(Arc::clone(&journal) as Arc<dyn Journal>);
        assert_eq!(health.check().await, Ok(()));

        health.handle().drain();
        assert_eq!(health.check().await, Err("the router is stopping".to_owned()));

        let health = Health::new(Arc::clone(&journal) as Arc<dyn Journal>);
        journal.close().await.unwrap();
        let why = health.check().await.unwrap_err();
        assert!(why.contains("the journal cannot commit"), "{why}");
    }
}
