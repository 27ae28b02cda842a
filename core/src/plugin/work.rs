//! What an instance is asked to do: a step of a delivery, or, as a provider, a request.

use std::fmt;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::StepCall;

/// One request for a source whose provider is the instance.
#[derive(Clone)]
pub struct RequestCall {
    /// Headers, and what is configured for the source, in JSON as the ABI has it. It has secrets in it.
    pub head: Bytes,
    /// The body as it came.
    pub body: Bytes,
    /// When it is given up.
    pub deadline: Instant,
    /// Tells the plugin to stop.
    pub cancelled: CancellationToken,
}

impl fmt::Debug for RequestCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCall")
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Either.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Step(StepCall),
    Request(RequestCall),
}

impl Work {
    pub(super) fn deadline(&self) -> Instant {
        match self {
            Self::Step(call) => call.deadline,
            Self::Request(request) => request.deadline,
        }
    }

    pub(super) fn cancelled(&self) -> &CancellationToken {
        match self {
            Self::Step(call) => &call.cancelled,
            Self::Request(request) => &request.cancelled,
        }
    }

    /// The idempotency key of a step. A request has none: no receipt is kept for it, and it raises no other events than its own.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Step(call) => Some(&call.idempotency_key),
            Self::Request(_) => None,
        }
    }

    /// The delivery, for the log.
    pub(super) fn delivery(&self) -> String {
        match self {
            Self::Step(call) => call.delivery.to_string(),
            Self::Request(_) => String::new(),
        }
    }

    /// The step's id, for the log.
    pub(super) fn step(&self) -> &str {
        match self {
            Self::Step(call) => &call.step,
            Self::Request(_) => "",
        }
    }
}
