//! What follows from how a call ended, by the retry policy and the route.

use std::time::Duration;

use super::{Course, Turn, ending::Ending, record::Abandoned};
use crate::{
    delivery::{OnStuck, Outcome, Phase, State},
    dispatcher::workdir::Trace,
    journal::{Failure, Next},
    plugin::Report,
    reason::Reason,
    router::{Route, Step},
};

/// How a call ended.
pub(super) struct Called {
    pub(super) attempt: u32,
    pub(super) report: Report,
    /// How the work directory looks behind it.
    pub(super) trace: Trace,
    /// Whether the router or the instance was about to end.
    pub(super) cut_short: bool,
}

impl Course<'_> {
    /// Makes of a report what the retry policy and the route say.
    pub(super) async fn conclude(
        &mut self,
        route: &Route,
        step: &Step,
        called: Called,
    ) -> Result<Turn, Abandoned> {
        let Called {
            attempt,
            report,
            trace,
            cut_short,
        } = called;
        let Report {
            outcome,
            reason,
            output,
            message,
            retry_after,
            ..
        } = self.quarantined(report);
        tracing::debug!(
            delivery.id = %self.claim.delivery, route = %self.claim.route, step = step.id(), attempt,
            outcome = outcome.word(), reason = reason.map(Reason::code), message, "attempt ended"
        );
        let reason = reason.or(match outcome {
            Outcome::Done => None,
            Outcome::Skipped => Some(Reason::PluginSkipped),
            Outcome::Retry => Some(Reason::PluginRetry),
            Outcome::Fatal => Some(Reason::PluginFatal),
            Outcome::Ambiguous => Some(Reason::PluginAmbiguous),
        });
        let ending = Ending {
            attempt: Some(attempt),
            outcome,
            reason,
            message,
            output,
            trace,
            last: None,
        };
        match outcome {
            Outcome::Done | Outcome::Skipped => self.pass(route, step, ending).await,
            Outcome::Fatal | Outcome::Ambiguous => self.fail(route, step, ending).await,
            // By the end of the router or of the instance, which says nothing of the step: it is due at once, as after
            // a kill.
            Outcome::Retry if ending.reason == Some(Reason::Interrupted) && cut_short => {
                self.release(None).await
            }
            Outcome::Retry => match step.retry().after(attempt, fastrand::f64(), retry_after) {
                Some(rest) => self.back_off(route, step, ending, rest).await,
                None => self.fail(route, step, ending.exhausted(attempt)).await,
            },
        }
    }

    /// A call that was in its worker process twice when that died is taken for the cause, whatever came between, and is not made
    /// again. One that was there by chance is unlikely to be so twice, and a person can ask for it again.
    fn quarantined(&self, report: Report) -> Report {
        if report.reason != Some(Reason::PluginCrashed) || !self.claim.crashed {
            return report;
        }
        let death = report.message.unwrap_or_default();
        Report {
            outcome: Outcome::Fatal,
            reason: Some(Reason::Quarantined),
            message: Some(format!("{death}; it is the second time with this call in it")),
            ..report
        }
    }

    /// The step is done or skipped: the one after it is next, or the delivery has settled.
    pub(super) async fn pass(
        &mut self,
        route: &Route,
        step: &Step,
        ending: Ending,
    ) -> Result<Turn, Abandoned> {
        if let (Outcome::Done, Some(output)) = (ending.outcome, &ending.output) {
            self.claim.outputs.insert(step.id().to_owned(), output.clone());
        }
        let next = self.after(route);
        self.record(step.id(), ending, next).await
    }

    /// The step is due again after `rest`; unless its deadline comes before: nobody is served by waiting for that.
    async fn back_off(
        &mut self,
        route: &Route,
        step: &Step,
        ending: Ending,
        rest: Duration,
    ) -> Result<Turn, Abandoned> {
        let due = self.shared.clock.now().saturating_add(rest);
        if let Some(deadline) = self.deadline().filter(|deadline| due >= *deadline) {
            return self.fail(route, step, ending.too_late(deadline)).await;
        }
        let reason = ending.reason.unwrap_or(Reason::PluginRetry);
        tracing::warn!(
            delivery.id = %self.claim.delivery, route = %self.claim.route, step = step.id(),
            reason = reason.code(), error = ending.message, rest = ?rest, "step to be tried again"
        );
        let next = Next::Wait {
            due,
            reason,
            detail: ending.message.clone(),
        };
        self.record(step.id(), ending, next).await
    }

    /// The step is given up, and with it the delivery. A step of `on_failure` takes only itself down: the others
    /// are as likely to be somebody's way to learn of it.
    pub(super) async fn fail(
        &mut self,
        route: &Route,
        step: &Step,
        ending: Ending,
    ) -> Result<Turn, Abandoned> {
        let failure = ending.failure(Some(step.id()));
        if !self.cancel.is_cancelled() || self.shared.cancel.is_cancelled() {
            self.mourn(&failure);
        }
        let next = match self.claim.phase {
            Phase::Steps => match route.steps(Phase::OnFailure).first() {
                Some(first) => Next::OnFailure {
                    failure,
                    instance: first.instance().to_owned(),
                },
                None => bury(route, failure),
            },
            Phase::OnFailure => self.after(route),
        };
        self.record(step.id(), ending, next).await
    }

    /// Settles a delivery whose steps cannot be told, hence neither can those of its `on_failure`.
    pub(super) async fn give_up(&mut self, error: String) -> Result<Turn, Abandoned> {
        let ending = Ending::without_call(Reason::GenerationMissing, error);
        let failure = ending.failure(None);
        self.mourn(&failure);
        self.record(
            "",
            ending,
            Next::Settle {
                state: State::Dead,
                failure: Some(failure),
            },
        )
        .await
    }

    fn mourn(&self, failure: &Failure) {
        tracing::error!(
            delivery.id = %self.claim.delivery, route = %self.claim.route, step = failure.step,
            reason = failure.reason.code(), error = %failure.error, "step given up"
        );
    }

    /// What follows the present step where nothing stands in its way.
    fn after(&self, route: &Route) -> Next {
        match route.steps(self.claim.phase).get(self.claim.step + 1) {
            Some(step) => Next::Step {
                instance: step.instance().to_owned(),
            },
            None => match self.claim.phase {
                Phase::Steps => Next::Settle {
                    state: State::Succeeded,
                    failure: None,
                },
                Phase::OnFailure => match self.claim.failure.clone() {
                    Some(failure) => bury(route, failure),
                    None => Next::Settle {
                        state: State::Dead,
                        failure: None,
                    },
                },
            },
        }
    }
}

/// What becomes of a dead delivery. One that failed before its first step is in no line that it could hold up.
fn bury(route: &Route, failure: Failure) -> Next {
    match (route.line().on_stuck, &failure.step) {
        (OnStuck::Hold, Some(_)) => Next::Hold { failure },
        (OnStuck::Hold, None) | (OnStuck::GoOn, _) => Next::Settle {
            state: State::Dead,
            failure: Some(failure),
        },
    }
}
