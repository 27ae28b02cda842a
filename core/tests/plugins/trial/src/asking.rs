//! What a plugin asks of the host.

use std::{sync::Arc, time::Duration};

use jackfield_sdk::{NewEvent, prelude::*, tracing::Instrument as _};
use serde_json::Value;

use super::waiting::Bell;

pub(super) async fn keep(cx: &Cx) -> Result<Value> {
    let kv = cx.kv();
    kv.put("cursor", "17").await?;
    let kept = kv
        .get("cursor")
        .await?
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    kv.delete("cursor").await?;
    let gone = kv.get("cursor").await?.is_none();
    Ok(json!({ "kept": kept, "gone": gone }))
}

pub(super) async fn keep_briefly(cx: &Cx) -> Result<Value> {
    cx.kv().put_for("brief", "x", Duration::from_millis(1500)).await?;
    Ok(Value::Null)
}

pub(super) async fn keep_large(cx: &Cx, size: usize) -> Result<Value> {
    cx.kv().put("large", vec![b'a'; size]).await?;
    let kept = cx.kv().get("large").await?;
    Ok(json!(kept.map_or(0, |kept| kept.len())))
}

pub(super) async fn keep_at(cx: &Cx, key: &str) -> Result<Value> {
    cx.kv().put(key, "x").await?;
    Ok(Value::Null)
}

pub(super) async fn forget(cx: &Cx) -> Result<Value> {
    cx.kv().delete("never there").await?;
    Ok(Value::Null)
}

/// Asks for many things at once.
pub(super) async fn burst(cx: &Cx, size: usize) -> Result<Value> {
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..size {
        let kv = cx.kv();
        puts.spawn(async move { kv.put(&format!("burst/{number}"), number.to_string()).await });
    }
    while let Some(put) = puts.join_next().await {
        put??;
    }
    Ok(json!(size))
}

/// Goes on to ask when the call has ended.
pub(super) fn late(cx: &Cx, bell: &Arc<Bell>) -> Value {
    let (kv, bell) = (cx.kv(), Arc::clone(bell));
    let runtime = tokio::runtime::Handle::current();
    drop(runtime.clone().spawn_blocking(move || {
        bell.wait();
        // Nobody is left who could be told of an error; the test looks for the value.
        let _ = runtime.block_on(kv.put("late", "yes"));
    }));
    Value::Null
}

pub(super) async fn receipt(cx: &Cx) -> Result<Value> {
    match cx.receipt::<Value, Value>().await? {
        Receipt::Absent => {
            cx.intend(&json!({ "about": "to" })).await?;
            Ok(json!("absent"))
        }
        Receipt::Intended(_) => {
            cx.record(&json!({ "has": "been" })).await?;
            Ok(json!("intended"))
        }
        Receipt::Done(_) => Ok(json!("done")),
    }
}

pub(super) async fn secret(cx: &Cx, token: Option<&Secret>) -> Result<Value> {
    let named = cx.secret("/token").await?;
    let same = token.is_some_and(|token| token.expose() == named.expose());
    let missing = cx.secret("/missing").await.is_err();
    Ok(json!({ "same": same, "missing": missing }))
}

pub(super) async fn emit(cx: &Cx) -> Result<Value> {
    let event = NewEvent::new("com.example.trial");
    Ok(json!(cx.emit("first", &event).await?))
}

pub(super) fn log(cx: &Cx) -> Value {
    tracing::warn!(kind = "trial", "a line of {}", cx.step());
    tracing::trace!("a line that nobody wants");
    cx.metric("trials_total", &[("kind", "log")], 2.0);
    Value::Null
}

pub(super) async fn log_within() -> Value {
    let outer = tracing::info_span!("publish", commit = "abc", files = tracing::field::Empty);
    let inner = tracing::info_span!(parent: &outer, "upload", part = 2);
    let work = async {
        outer.record("files", 3);
        tokio::task::yield_now().await;
        tracing::warn!(part = 4, "a line within");
    };
    work.instrument(inner).await;
    Value::Null
}

pub(super) fn shout(size: usize) -> Value {
    tracing::warn!("{}", "a".repeat(size));
    Value::Null
}
