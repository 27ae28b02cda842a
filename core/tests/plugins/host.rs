//! A router in memory: what plugins ask of it, remembered.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jackfield::plugin::{Host, HostError, Receipt};
use tokio::sync::{Notify, Semaphore};

/// A router in memory.
#[derive(Debug)]
pub(crate) struct Recorder {
    kept: Mutex<Kept>,
    /// One permit for each request that may be answered; without a limit until `hold`.
    answers: Semaphore,
    /// Told of each metric.
    pub(crate) counted: Notify,
}

/// Instance, name, labels, value.
pub(crate) type Metric = (String, String, Vec<(String, String)>, f64);

/// What it was asked to keep.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) values: BTreeMap<String, Bytes>,
    pub(crate) receipts: BTreeMap<String, Receipt>,
    pub(crate) emitted: BTreeMap<String, Bytes>,
    pub(crate) metrics: Vec<Metric>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
            counted: Notify::new(),
        }
    }

    /// Answers nothing any more.
    pub(crate) fn hold(&self) {
        self.answers.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answering(&self) {
        self.answers.acquire().await.expect("it is never closed").forget();
        self.answers.add_permits(1);
    }
}

#[async_trait]
impl Host for Recorder {
    async fn kv_get(&self, instance: &str, key: &str) -> Result<Option<Bytes>, HostError> {
        self.answering().await;
        Ok(self.kept().values.get(&format!("{instance}/{key}")).cloned())
    }

    async fn kv_put(
        &self,
        instance: &str,
        key: &str,
        value: Option<Bytes>,
        _ttl: Option<Duration>,
    ) -> Result<(), HostError> {
        self.answering().await;
        let key = format!("{instance}/{key}");
        match value {
            Some(value) => self.kept().values.insert(key, value),
            None => self.kept().values.remove(&key),
        };
        Ok(())
    }

    async fn receipt(&self, instance: &str, key: &str) -> Result<Option<Receipt>, HostError> {
        self.answering().await;
        Ok(self.kept().receipts.get(&format!("{instance}/{key}")).cloned())
    }

    async fn keep_receipt(&self, instance: &str, key: &str, receipt: Receipt) -> Result<(), HostError> {
        self.answering().await;
        self.kept().receipts.insert(format!("{instance}/{key}"), receipt);
        Ok(())
    }

    async fn emit(&self, instance: &str, key: &str, event: Bytes) -> Result<String, HostError> {
        self.answering().await;
        self.kept().emitted.insert(format!("{instance}/{key}"), event);
        Ok("evt_emitted".to_owned())
    }

    fn metric(&self, instance: &str, name: &str, labels: &[(String, String)], value: f64) {
        self.kept()
            .metrics
            .push((instance.to_owned(), name.to_owned(), labels.to_vec(), value));
        self.counted.notify_one();
    }
}
