//! Waits, with more or less regard for others.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use jackfield_sdk::prelude::*;
use serde_json::Value;

/// Tells the host that a call waits.
pub(super) fn tell(cx: &Cx) {
    cx.metric("waits_total", &[], 1.0);
}

pub(super) async fn until_cancelled(cx: &Cx) -> Result<Outcome<Value>> {
    tell(cx);
    cx.cancelled().await;
    Err(Error::cancelled("stopped"))
}

pub(super) async fn tidy(cx: &Cx) -> Result<Value> {
    cx.kv().put("begun", "yes").await?;
    tell(cx);
    cx.cancelled().await;
    cx.kv().delete("begun").await?;
    Ok(json!("tidied"))
}

/// Goes on on a thread of the plugin's own, if it does not run on one already.
async fn leave_the_caller() {
    tokio::task::yield_now().await;
}

/// Keeps its thread and the processor.
pub(super) async fn hog(cx: &Cx) -> Result<Outcome<Value>> {
    leave_the_caller().await;
    tell(cx);
    while !cx.is_cancelled() {
        std::thread::yield_now();
    }
    Err(Error::cancelled("stopped"))
}

/// What calls wait for that heed nothing else; each ring wakes one.
#[derive(Default)]
pub(super) struct Bell {
    rings: Mutex<usize>,
    rung: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) -> Value {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.rung.notify_one();
        Value::Null
    }

    /// Keeps the thread, but lets the runtime go on elsewhere.
    pub(super) async fn wait_here(&self, cx: &Cx) -> Value {
        leave_the_caller().await;
        tell(cx);
        tokio::task::block_in_place(|| self.wait());
        Value::Null
    }

    pub(super) async fn wait_aside(bell: &Arc<Self>, cx: &Cx) -> Result<Value> {
        tell(cx);
        let bell = Arc::clone(bell);
        tokio::task::spawn_blocking(move || bell.wait()).await?;
        Ok(Value::Null)
    }

    pub(super) fn wait(&self) {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_while(rings, |rings| *rings == 0);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}
