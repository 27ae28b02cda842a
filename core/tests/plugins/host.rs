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
    /// Told of each metric, and of each value that is kept.
    told: Notify,
}

/// Instance, name, labels, value.
pub(crate) type Metric = (String, String, Vec<(String, String)>, f64);

/// What it was asked to keep.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) values: BTreeMap<String, Bytes>,
    /// For how long the values are kept that end.
    pub(crate) lives: BTreeMap<String, Duration>,
    /// Why nothing is kept or told, if nothing is.
    pub(crate) unavailable: Option<&'static str>,
    pub(crate) receipts: BTreeMap<String, Receipt>,
    pub(crate) emitted: BTreeMap<String, Bytes>,
    pub(crate) metrics: Vec<Metric>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
            told: Notify::new(),
        }
    }

    /// Answers nothing any more.
    pub(crate) fn hold(&self) {
        self.answers.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many calls have told that they wait.
    pub(crate) async fn waits(&self, count: usize) {
        let is_wait = |metric: &&Metric| metric.1 == "waits_total";
        self.until(|kept| kept.metrics.iter().filter(is_wait).count() >= count)
            .await;
    }

    /// Waits until what is kept is like that.
    pub(crate) async fn until(&self, like_that: impl Fn(&Kept) -> bool) {
        while !like_that(&self.kept()) {
            self.told.notified().await;
        }
    }

    async fn answering(&self) -> Result<(), HostError> {
        self.answers.acquire().await.expect("it is never closed").forget();
        self.answers.add_permits(1);
        match self.kept().unavailable {
            Some(why) => Err(HostError::Unavailable(why.to_owned())),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Host for Recorder {
    async fn kv_get(&self, instance: &str, key: &str) -> Result<Option<Bytes>, HostError> {
        self.answering().await?;
        Ok(self.kept().values.get(&format!("{instance}/{key}")).cloned())
    }

    async fn kv_put(
        &self,
        instance: &str,
        key: &str,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), HostError> {
        self.answering().await?;
        let (key, mut kept) = (format!("{instance}/{key}"), self.kept());
        if let Some(ttl) = ttl {
            kept.lives.insert(key.clone(), ttl);
        }
        match value {
            Some(value) => kept.values.insert(key, value),
            None => kept.values.remove(&key),
        };
        self.told.notify_one();
        Ok(())
    }

    async fn receipt(&self, instance: &str, key: &str) -> Result<Option<Receipt>, HostError> {
        self.answering().await?;
        Ok(self.kept().receipts.get(&format!("{instance}/{key}")).cloned())
    }

    async fn keep_receipt(&self, instance: &str, key: &str, receipt: Receipt) -> Result<(), HostError> {
        self.answering().await?;
        self.kept().receipts.insert(format!("{instance}/{key}"), receipt);
        Ok(())
    }

    async fn emit(&self, instance: &str, key: &str, event: Bytes) -> Result<String, HostError> {
        self.answering().await?;
        self.kept().emitted.insert(format!("{instance}/{key}"), event);
        Ok("evt_emitted".to_owned())
    }

    fn metric(&self, instance: &str, name: &str, labels: &[(String, String)], value: f64) {
        self.kept()
            .metrics
            .push((instance.to_owned(), name.to_owned(), labels.to_vec(), value));
        self.told.notify_one();
    }
}
