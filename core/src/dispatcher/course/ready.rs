//! What must be so before a step is called.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Course;
use crate::{
    dispatcher::limits::Passage,
    fault::chain,
    plugin::Visit,
    reason::Reason,
    router::{Context, ContextError, FailureView, RenderError, Step},
};

/// A step that is ready to be called.
pub(super) struct Ready {
    pub(super) visit: Visit,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) input: Bytes,
    pub(super) passage: Passage,
}

/// Why a step is not called now.
pub(super) enum NotReady {
    /// Its `if` is false.
    Skip,
    /// It cannot be called, now or later.
    Fail(Reason, String),
    /// It can be called later: after a while for a reason, or as soon as there is room.
    Later(Option<(Reason, String)>),
}

/// How many attempts beyond the policy's a step gets after interruptions that may not have been its doing.
const INTERRUPTIONS: u32 = 3;

impl Course<'_> {
    /// Whether the step is to be called, with what, and when it is its turn.
    pub(super) async fn prepare(&self, step: &Step) -> Result<Ready, NotReady> {
        // Beyond the policy's last attempt come only those that were interrupted: each time, the router ended. A call
        // that ends it every time must not do so for ever.
        if self.claim.attempts >= step.retry().attempts.get().saturating_add(INTERRUPTIONS) {
            let error = format!(
                "the router ended during the last {INTERRUPTIONS} of {} attempts",
                self.claim.attempts
            );
            return Err(NotReady::Fail(Reason::AttemptsExhausted, error));
        }
        self.in_time()?;
        let context = self.context()?;
        if !step.enabled(&context)? {
            return Err(NotReady::Skip);
        }
        let Some(instance) = self.shared.registry.instance(step.instance()) else {
            let name = step.instance();
            return Err(match self.shared.registry.parked(name) {
                Some(why) => self.missing(
                    Reason::InstanceParked,
                    format!("the instance `{name}` is parked: {why}"),
                ),
                None => self.missing(Reason::InstanceMissing, format!("there is no instance `{name}`")),
            });
        };
        if let Some(why) = instance.caller.down() {
            let detail = format!("the process of instance `{}` keeps dying: {why}", instance.name);
            return Err(self.missing(Reason::InstanceDown, detail));
        }
        let input = step.render(&context, Some(&instance.input_schema))?;
        let gate = self.shared.gates.of(&instance.name, &instance.permits);
        let permit = tokio::select! {
            biased;
            // Nothing new is begun: who stands in line goes back to the journal.
            () = self.shared.stopping.cancelled() => None,
            () = self.cancel.cancelled() => None,
            permit = gate.enter() => permit,
            () = self.overdue() => None,
        };
        // It may have stood in line for long.
        self.in_time()?;
        // An instance that was replaced meanwhile lets nobody in: the delivery comes back, and finds the other.
        match permit.zip(instance.enter()) {
            Some((permit, visit)) => Ok(Ready {
                visit,
                permit,
                passage: self.passage(&instance.name, &context, &input)?,
                input: serde_json::to_vec(&input)
                    .expect("a JSON value has a JSON form")
                    .into(),
            }),
            None => Err(NotReady::Later(None)),
        }
    }

    /// The instance is not there, and has not been for too long or is waited for.
    fn missing(&self, reason: Reason, detail: String) -> NotReady {
        let now = self.shared.clock.now();
        let patience = self.shared.options.patience;
        match self.claim.stalled_since {
            Some(since) if now.saturating_since(since) >= patience => {
                let error =
                    format!("{detail}; it was waited for since {since}, and no longer than {patience:?}");
                NotReady::Fail(reason, error)
            }
            Some(_) | None => NotReady::Later(Some((reason, detail))),
        }
    }

    fn context(&self) -> Result<Context, ContextError> {
        let failure = self.claim.failure.as_ref().map(|failure| FailureView {
            step: failure.step.as_deref(),
            reason: failure.reason,
            error: &failure.error,
        });
        Context::new(
            &self.claim.route,
            self.claim.delivery,
            &self.claim.events,
            &self.claim.outputs,
            failure,
        )
    }
}

impl From<ContextError> for NotReady {
    fn from(error: ContextError) -> Self {
        Self::Fail(Reason::TemplateFailed, chain(&error))
    }
}

impl From<RenderError> for NotReady {
    fn from(error: RenderError) -> Self {
        Self::Fail(error.reason(), chain(&error))
    }
}
