//! Panics, wherever there can be one.

use jackfield_sdk::prelude::*;
use serde_json::Value;

/// Where an instance, as such, can panic.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    Create,
    Shutdown,
    Drop,
}

impl Place {
    pub(super) fn reached(self, panic: Option<Self>) {
        assert!(panic != Some(self), "on purpose");
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

pub(super) async fn late() -> Value {
    tokio::task::yield_now().await;
    panic!("on purpose");
}

pub(super) async fn in_task() -> Value {
    let (tasks, runs) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::runtime::Handle::current().spawn(async move {
        let _held = tasks;
        panic!("on purpose");
    });
    // It has ended when it lets go of this.
    let _ = runs.await;
    json!(task.await.is_err_and(|error| error.is_panic()))
}

pub(super) fn with_bomb() -> Value {
    std::panic::panic_any(Bomb);
}

pub(super) async fn after_intent(cx: &Cx) -> Result<Value> {
    cx.intend(&json!({ "about": "to" })).await?;
    panic!("on purpose");
}

pub(super) async fn when_dropped(cx: &Cx) -> Value {
    let _bomb = Bomb;
    super::waiting::tell(cx);
    std::future::pending().await
}
