//! The router, as an instance sees it that a test drives: whatever is asked is asked of the test.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    told::Told,
    words::{Answer, Asked, Blob, Notice, Stage, micros},
};
use crate::{
    plugin::{Host, HostError, Receipt, ReceiptStage},
    secret::Secret,
};

/// Relays what is asked, and the answers.
pub(super) struct Relay {
    told: Told,
    next: AtomicU64,
    /// Who waits for which answer. A leaf lock.
    questions: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    /// The keys of calls that go on. A leaf lock.
    keys: Mutex<HashSet<String>>,
}

impl Relay {
    pub(super) fn new(told: Told) -> Self {
        Self {
            told,
            next: AtomicU64::new(1),
            questions: Mutex::default(),
            keys: Mutex::default(),
        }
    }

    pub(super) fn answered(&self, question: u64, answer: Answer) {
        if let Some(asker) = lock(&self.questions).remove(&question) {
            // Whoever asked may have been given up.
            let _ = asker.send(answer);
        }
    }

    pub(super) fn begun(&self, key: &str) {
        lock(&self.keys).insert(key.to_owned());
    }

    pub(super) fn ended(&self, key: &str) {
        lock(&self.keys).remove(key);
    }

    async fn ask(&self, asked: Asked) -> Answer {
        let question = self.next.fetch_add(1, Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.questions).insert(question, sender);
        self.told.tell(&Notice::Ask { question, asked });
        let gone = |_| Answer::Unavailable("the test is gone".to_owned());
        answer.await.unwrap_or_else(gone)
    }

    /// Asks for something that is there or not.
    async fn find(&self, asked: Asked) -> Result<Option<(Bytes, Option<Stage>)>, HostError> {
        match self.ask(asked).await {
            Answer::Found { value, stage } => Ok(Some((value.0, stage))),
            Answer::NotFound => Ok(None),
            Answer::Refused(message) => Err(HostError::Invalid(message)),
            Answer::Unavailable(message) => Err(HostError::Unavailable(message)),
        }
    }

    /// The key of the call that raises an event, and the event's own name, of both in one, as a router has them.
    fn apart<'k>(&self, key: &'k str) -> Option<(&'k str, &'k str)> {
        let keys = lock(&self.keys);
        let mut slashes = key.match_indices('/').map(|(at, _)| (&key[..at], &key[at + 1..]));
        slashes.rfind(|(call, _)| keys.contains(*call))
    }
}

#[async_trait]
impl Host for Relay {
    async fn kv_get(&self, _: &str, key: &str) -> Result<Option<Bytes>, HostError> {
        let key = key.to_owned();
        let found = self.find(Asked::KvGet { key }).await?;
        Ok(found.map(|(value, _)| value))
    }

    async fn kv_put(
        &self,
        _: &str,
        key: &str,
        value: Option<Bytes>,
        life: Option<Duration>,
    ) -> Result<(), HostError> {
        let key = key.to_owned();
        let asked = match value {
            None => Asked::KvDelete { key },
            Some(value) => Asked::KvPut {
                key,
                value: Blob(value),
                life_us: life.map_or(0, micros),
            },
        };
        self.find(asked).await.map(drop)
    }

    async fn receipt(&self, _: &str, key: &str) -> Result<Option<Receipt>, HostError> {
        let key = key.to_owned();
        let found = self.find(Asked::Receipt { key }).await?;
        Ok(found.map(|(body, stage)| Receipt {
            stage: match stage {
                Some(Stage::Intent) | None => ReceiptStage::Intent,
                Some(Stage::Done) => ReceiptStage::Done,
            },
            body,
        }))
    }

    async fn keep_receipt(&self, _: &str, key: &str, receipt: Receipt) -> Result<(), HostError> {
        let (key, body) = (key.to_owned(), Blob(receipt.body));
        let asked = match receipt.stage {
            ReceiptStage::Intent => Asked::Intend { key, body },
            ReceiptStage::Done => Asked::Record { key, body },
        };
        self.find(asked).await.map(drop)
    }

    async fn emit(&self, _: &str, key: &str, event: Bytes) -> Result<String, HostError> {
        let apart = self
            .apart(key)
            .map(|(key, name)| (key.to_owned(), name.to_owned()));
        let (key, name) =
            apart.ok_or_else(|| HostError::Invalid(format!("no call of `{key}` is running")))?;
        let event = Blob(event);
        let found = self.find(Asked::Emit { key, name, event }).await?;
        let (id, _) = found.unwrap_or_default();
        Ok(String::from_utf8_lossy(&id).into_owned())
    }

    async fn secret(&self, _: &str, name: &str) -> Result<Option<Secret>, HostError> {
        let name = name.to_owned();
        let found = self.find(Asked::Secret { name }).await?;
        Ok(found.map(|(secret, _)| Secret::new(String::from_utf8_lossy(&secret))))
    }

    fn metric(&self, _: &str, name: &str, labels: &[(String, String)], value: f64) {
        self.told.tell(&Notice::Metric { name, labels, value });
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

/// Nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_from_the_call_that_raises_it() {
        let relay = Relay::new(Told::new(std::fs::File::open("/dev/null").unwrap()));
        for key in ["dlv_1/post", "dlv_1/post/await-2"] {
            relay.begun(key);
        }
        assert_eq!(relay.apart("dlv_1/post/done"), Some(("dlv_1/post", "done")));
        assert_eq!(relay.apart("dlv_1/post/a/b"), Some(("dlv_1/post", "a/b")));
        assert_eq!(
            relay.apart("dlv_1/post/await-2/done"),
            Some(("dlv_1/post/await-2", "done"))
        );
        relay.ended("dlv_1/post");
        assert_eq!(relay.apart("dlv_1/post/done"), None);
    }
}
