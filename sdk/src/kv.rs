//! The instance's own key-value store.

use std::{sync::Arc, time::Duration};

use crate::{error::Result, ffi::Host};

/// The instance's own durable key-value store, from [`Cx::kv`](crate::Cx::kv) or [`Start::kv`](crate::Start::kv).
///
/// It outlives restarts and reloads. Other instances have their own. It is for small state (a cursor, a cached id); what one
/// step has done belongs into its [receipt](crate::Cx::receipt).
#[derive(Clone, Debug)]
pub struct Kv {
    host: Arc<Host>,
}

impl Kv {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host }
    }

    /// The value under `key`, if there is one.
    ///
    /// # Errors
    ///
    /// Where the router cannot read its store at present.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.host.kv_get(key).await;
        Ok(answer
            .found(|| format!("reading the key `{key}`"))?
            .map(|reply| reply.value))
    }

    /// Keeps `value` under `key`, in place of the one before. It is durable when this returns.
    ///
    /// # Errors
    ///
    /// Where the router cannot write, or refuses the key or the value, by their sizes for example.
    pub async fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.write(key, value.as_ref(), 0).await
    }

    /// Like [`put`](Self::put), but the entry ends after `life`.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    pub async fn put_for(&self, key: &str, value: impl AsRef<[u8]>, life: Duration) -> Result<()> {
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        self.write(key, value.as_ref(), millis.max(1)).await
    }

    async fn write(&self, key: &str, value: &[u8], ttl_ms: u64) -> Result<()> {
        let answer = self.host.kv_put(key, value, ttl_ms).await;
        answer.ok(|| format!("writing the key `{key}`")).map(drop)
    }

    /// Deletes `key`, if it is there. It is durably gone when this returns.
    ///
    /// # Errors
    ///
    /// Where the router cannot write.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let answer = self.host.kv_delete(key).await;
        answer.found(|| format!("deleting the key `{key}`")).map(drop)
    }
}
