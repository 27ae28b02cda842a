//! The instance's own key-value store.

use std::{sync::Arc, time::Duration};

use crate::{error::Result, ffi::Host};

/// The instance's own durable key-value store, from [`Cx::kv`](crate::Cx::kv) or [`Start::kv`](crate::Start::kv).
///
/// It outlives restarts and reloads. Other instances have their own. It is for small state (a cursor, a cached id); what one
/// step has done belongs into its [receipt](crate::Cx::receipt). A key is a text of 1 to 512 bytes, a value at most 1 MiB of any bytes;
/// what is not is refused, which is an error that is not tried again.
///
/// ```
/// use jackfield_sdk::{prelude::*, testing::{Call, Harness}};
/// #
/// # struct Counter;
/// # #[async_trait]
/// # impl Plugin for Counter {
/// #     type Config = Empty;
/// #     type Input = Empty;
/// #     type Output = u64;
/// #     const NAME: &'static str = "example";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
///
/// async fn call(&self, _: Empty, cx: &Cx) -> Result<Outcome<u64>> {
///     let kv = cx.kv();
///     let last = kv.get("count").await?.map_or(Ok(0), |bytes| serde_json::from_slice(&bytes))?;
///     kv.put("count", (last + 1).to_string()).await?;
///     Ok(Outcome::Done(last + 1))
/// }
/// # }
/// #
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let counter = Harness::<Counter>::start(json!({})).await.unwrap();
/// for count in 1..=3 {
///     assert_eq!(counter.call(Call::new(json!({}))).await.done(), count);
/// }
/// assert_eq!(counter.host().kv()["count"], b"3");
/// # });
/// ```
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

    /// Like [`put`](Self::put), but the entry ends after `life`, in whole milliseconds and at least one.
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
