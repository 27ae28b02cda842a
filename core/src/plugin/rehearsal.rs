//! A router that is none: what plugins ask of it is kept in memory, and gone with it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Host, HostError, Receipt};

/// The [`Host`] of an instance that is tried out, or called by hand where no router runs. Nothing expires in it, and
/// what a plugin raises or counts leads nowhere.
#[derive(Debug, Default)]
pub struct Rehearsal {
    // A leaf lock.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    values: HashMap<String, Bytes>,
    receipts: HashMap<String, Receipt>,
    raised: Vec<String>,
}

impl Rehearsal {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Host for Rehearsal {
    async fn kv_get(&self, _instance: &str, key: &str) -> Result<Option<Bytes>, HostError> {
        Ok(self.kept().values.get(key).cloned())
    }

    async fn kv_put(
        &self,
        _instance: &str,
        key: &str,
        value: Option<Bytes>,
        _ttl: Option<Duration>,
    ) -> Result<(), HostError> {
        let values = &mut self.kept().values;
        match value {
            Some(value) => drop(values.insert(key.to_owned(), value)),
            None => drop(values.remove(key)),
        }
        Ok(())
    }

    async fn receipt(&self, _instance: &str, key: &str) -> Result<Option<Receipt>, HostError> {
        Ok(self.kept().receipts.get(key).cloned())
    }

    async fn keep_receipt(&self, _instance: &str, key: &str, receipt: Receipt) -> Result<(), HostError> {
        self.kept().receipts.insert(key.to_owned(), receipt);
        Ok(())
    }

    async fn emit(&self, _instance: &str, key: &str, _event: Bytes) -> Result<String, HostError> {
        let raised = &mut self.kept().raised;
        let number = raised.iter().position(|known| known == key).unwrap_or_else(|| {
            raised.push(key.to_owned());
            raised.len() - 1
        });
        Ok(format!("evt_rehearsal{number}"))
    }

    fn metric(&self, _instance: &str, _name: &str, _labels: &[(String, String)], _value: f64) {}
}
