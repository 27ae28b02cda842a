//! `POST /v1/call`: a person calls an instance.

use bytes::Bytes;
use hyper::body::Incoming;
use jackfield_event::Event;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{Problem, Shared, answer};
use crate::plugin::{ByHand, ByHandError, Called};

/// Whom to call, and with what.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The instance.
    pub instance: String,
    /// The input.
    pub input: Value,
    /// The event.
    pub event: Box<RawValue>,
    /// Whether the work directory is left as it is.
    #[serde(default)]
    pub keep: bool,
}

pub(super) async fn call(shared: &Shared, body: Incoming) -> Result<Called, Problem> {
    let Call {
        instance: name,
        input,
        event,
        keep,
    } = answer::read(body, LONGEST).await?;
    Event::from_json(event.get().as_bytes())
        .map_err(|error| Problem::new(400, format!("the event is none: {error}")))?;
    let Some(instance) = shared.plugins.instance(&name) else {
        let words = match shared.plugins.parked(&name) {
            Some(reason) => format!("the instance `{name}` is parked: {reason}"),
            None => format!("there is no instance `{name}`; `jackfield plugin list` names them"),
        };
        return Err(Problem::new(404, words));
    };
    let by_hand = ByHand {
        event: Bytes::copy_from_slice(event.get().as_bytes()),
        input,
        work_root: shared.work_root.clone(),
        keep,
        now: shared.clock.now(),
    };
    let called = instance.call_by_hand(by_hand).await?;
    tracing::info!(
        instance = name,
        outcome = called.outcome.word(),
        message = called.message,
        "called by hand"
    );
    Ok(called)
}

impl From<ByHandError> for Problem {
    fn from(error: ByHandError) -> Self {
        let status = match &error {
            ByHandError::Misfit { .. } => 400,
            ByHandError::Busy { .. } | ByHandError::Replaced(_) => 503,
        };
        Self::new(status, error.to_string())
    }
}

/// Room for an event of the largest body, and an input.
const LONGEST: usize = 64 << 20;
