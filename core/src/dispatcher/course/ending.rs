//! How a step ended, in words that the journal keeps and people read.

use bytes::Bytes;
use jackfield_event::Timestamp;

use super::super::workdir::Trace;
use crate::{
    delivery::Outcome,
    journal::{Failure, Taken},
    reason::Reason,
};

/// How a step, or an attempt of it, ended.
pub(super) struct Ending {
    pub(super) attempt: Option<u32>,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<Reason>,
    pub(super) message: Option<String>,
    pub(super) output: Option<Bytes>,
    /// How the work directory looks behind it.
    pub(super) trace: Trace,
    /// Why there is no other attempt, where that is not how this one ended.
    pub(super) last: Option<(Reason, String)>,
}

impl Ending {
    /// The step cannot be called.
    pub(super) fn without_call(reason: Reason, error: String) -> Self {
        Self {
            attempt: None,
            outcome: Outcome::Fatal,
            reason: Some(reason),
            message: Some(error),
            output: None,
            trace: Trace::default(),
            last: None,
        }
    }

    /// There is nothing to do.
    pub(super) fn condition_false() -> Self {
        let reason = Some(Reason::ConditionFalse);
        Self {
            attempt: None,
            outcome: Outcome::Skipped,
            reason,
            message: None,
            output: None,
            trace: Trace::default(),
            last: None,
        }
    }

    /// It is not made, since it is known what became of it.
    pub(super) fn taken(taken: Taken) -> Self {
        let reason = match taken.resolved {
            true => Reason::Resolved,
            false => Reason::TakenOver,
        };
        Self {
            attempt: None,
            outcome: taken.outcome,
            reason: Some(reason),
            message: None,
            output: taken.output,
            trace: Trace::default(),
            last: None,
        }
    }

    /// The same, after the last attempt that the policy allows.
    pub(super) fn exhausted(self, attempts: u32) -> Self {
        let words = format!("{}, in attempt {attempts} of {attempts}", self.error());
        Self {
            last: Some((Reason::AttemptsExhausted, words)),
            ..self
        }
    }

    /// The same, where the next attempt would come too late.
    pub(super) fn too_late(self, deadline: Timestamp) -> Self {
        let error = self.error();
        let words = format!("{error}; the next attempt would come after the deadline {deadline}");
        Self {
            last: Some((Reason::DeadlinePassed, words)),
            ..self
        }
    }

    /// How an attempt ended that does not count for good.
    fn error(&self) -> String {
        let reason = self.reason.map_or("retry", Reason::code);
        let error = self.message.as_deref();
        format!(
            "{} ({reason})",
            error.unwrap_or("the plugin asked for another attempt")
        )
    }

    pub(super) fn failure(&self, step: Option<&str>) -> Failure {
        let (reason, error) = self.last.clone().unwrap_or_else(|| {
            let reason = self.reason.unwrap_or(Reason::PluginFatal);
            (reason, self.message.clone().unwrap_or_else(|| reason.to_string()))
        });
        Failure {
            step: step.map(str::to_owned),
            reason,
            error,
        }
    }
}
