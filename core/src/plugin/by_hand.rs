//! One call that a person makes, beside all deliveries: with the instance's permits and time-out, and nothing written down.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use jackfield_event::{DeliveryId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant as Moment, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Instance, Report, StepCall, log::Listening, workdir};
use crate::{
    delivery::Outcome,
    reason::Reason,
    schema::{Violation, listed},
};

pub use super::log::Logged;

/// A call that a person makes.
#[derive(Clone, Debug)]
pub struct ByHand {
    /// The event, in JSON.
    pub event: Bytes,
    /// The input.
    pub input: Value,
    /// The directory in which the call gets a work directory of its own.
    pub work_root: PathBuf,
    /// Whether that is left as it is, and not removed afterwards.
    pub keep: bool,
    /// The present moment.
    pub now: Timestamp,
}

/// How it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Called {
    /// How it ended.
    pub outcome: Outcome,
    /// The code for it, where the outcome is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What went wrong, or why there was nothing to do, in the plugin's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the plugin put out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// How long the plugin asks to wait before the next attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// Its work directory, if that was kept and the plugin made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<PathBuf>,
    /// What the plugin logged for it.
    #[serde(default)]
    pub logs: Vec<Logged>,
}

/// Why it was not made.
#[derive(Debug, thiserror::Error)]
pub enum ByHandError {
    /// The instance could not do anything with it.
    #[error("the input does not fit plugin `{plugin}`: {}", listed(violations))]
    Misfit {
        /// The plugin.
        plugin: String,
        /// Where and why.
        violations: Vec<Violation>,
    },
    /// Another has its place, or none.
    #[error("the instance `{0}` was replaced or removed meanwhile; call again")]
    Replaced(String),
    /// There was no turn.
    #[error(
        "every call that the instance `{instance}` may have at a time is taken, and none ended within {limit:?}"
    )]
    Busy {
        /// The instance.
        instance: String,
        /// How long was waited.
        limit: Duration,
    },
}

impl Instance {
    /// Makes a call that a person asks for.
    ///
    /// # Errors
    /// When it is not made: the input does not fit, the instance is busy for as long as a call may take, or on its way out.
    pub async fn call_by_hand(self: &Arc<Self>, by_hand: ByHand) -> Result<Called, ByHandError> {
        let violations = self.input_schema.check(&by_hand.input);
        if !violations.is_empty() {
            return Err(ByHandError::Misfit {
                plugin: self.plugin.clone(),
                violations,
            });
        }
        let turn = timeout_at(
            Moment::now() + self.timeout,
            Arc::clone(&self.permits).acquire_owned(),
        );
        let Ok(Ok(_permit)) = turn.await else {
            return Err(ByHandError::Busy {
                instance: self.name.clone(),
                limit: self.timeout,
            });
        };
        let Some(_visit) = self.enter() else {
            return Err(ByHandError::Replaced(self.name.clone()));
        };
        let delivery = DeliveryId::new(by_hand.now, fastrand::u128(..));
        let workdir = Workdir {
            path: by_hand.work_root.join(delivery.to_string()),
            keep: by_hand.keep,
        };
        // A key that no step has had: whatever the plugin keeps a receipt of, this is new.
        let key = format!("{delivery}/{STEP}");
        let listening = Listening::to(&key);
        let began = Moment::now();
        let call = StepCall {
            event: by_hand.event,
            input: Bytes::from(by_hand.input.to_string()),
            delivery,
            route: ROUTE.to_owned(),
            step: STEP.to_owned(),
            attempt: 1,
            idempotency_key: key,
            deadline: began + self.timeout,
            workdir: workdir.path.clone(),
            cancelled: CancellationToken::new(),
        };
        let report = self.caller.call(call).await;
        Ok(called(
            report,
            began.elapsed(),
            workdir.end().await,
            listening.end(),
        ))
    }
}

fn called(report: Report, took: Duration, workdir: Option<PathBuf>, logs: Vec<Logged>) -> Called {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Called {
        outcome: report.outcome,
        reason: report.reason,
        message: report.message,
        // That it is JSON was seen when the call ended.
        output: report
            .output
            .and_then(|output| serde_json::from_slice(&output).ok()),
        retry_after_ms: report.retry_after.map(millis),
        took_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        workdir,
        logs,
    }
}

/// The call's own directory, which the plugin makes if it needs it. Dropped, as when nobody waits any more, it is left to the
/// sweep of work directories that no delivery has, at the router's next start.
struct Workdir {
    path: PathBuf,
    keep: bool,
}

impl Workdir {
    /// Removes it, or says where it is.
    async fn end(self) -> Option<PathBuf> {
        if self.keep {
            return self.path.exists().then_some(self.path);
        }
        let path = self.path.clone();
        let removed = tokio::task::spawn_blocking(move || workdir::remove(&path)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(path = %self.path.display(), error = %error, "the work directory of a call could not be removed");
        }
        None
    }
}

/// What the plugin is told that it is called by: no route of a rule file has a space in its name.
const ROUTE: &str = "by hand";
const STEP: &str = "call";
