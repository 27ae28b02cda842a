//! What the journal is told, again and again until it takes it, and where the claim stands then.

use jackfield_event::Timestamp;

use super::{Course, Turn, ending::Ending};
use crate::{
    delivery::{Phase, State},
    dispatcher::JOURNAL_REST,
    journal::{Claim, Ended, JournalError, Next, StepEnd},
    reason::Reason,
};

/// Until when a delivery that goes back waits, and why; at once where there is nothing to wait for.
pub(super) type Due = Option<(Timestamp, Reason, String)>;

/// The journal is closed or the claim was lost: nothing more can be recorded.
pub(super) struct Abandoned;

impl Course<'_> {
    /// Moves the claim on to what was just committed.
    async fn proceed(&mut self, next: Next) -> Result<Turn, Abandoned> {
        match next {
            Next::Step { .. } => {
                self.claim.step += 1;
                self.begin_anew();
                Ok(Turn::GoOn)
            }
            Next::OnFailure { failure, .. } => {
                self.claim.phase = Phase::OnFailure;
                // Its steps see the outputs of one another, as they would after a restart.
                self.claim.outputs.clear();
                self.claim.step = 0;
                self.begin_anew();
                self.claim.failure = Some(failure);
                Ok(Turn::GoOn)
            }
            Next::Wait { .. } => Ok(Turn::Over),
            Next::Settle { state, .. } => self.settled(state).await,
            Next::Hold { .. } => {
                tracing::error!(
                    delivery.id = %self.claim.delivery, route = %self.claim.route,
                    "a dead delivery holds up those of its order key"
                );
                self.settled(State::Dead).await
            }
        }
    }

    /// Nothing is known of the step at which the claim stands now.
    fn begin_anew(&mut self) {
        self.claim.attempts = 0;
        self.claim.crashed = false;
        self.claim.stalled_since = None;
        self.claim.waited_for = None;
    }

    pub(super) async fn settled(&self, state: State) -> Result<Turn, Abandoned> {
        tracing::info!(
            delivery.id = %self.claim.delivery, route = %self.claim.route, state = state.word(), "delivery settled"
        );
        self.shared.work.remove(self.claim.delivery).await;
        Ok(Turn::Over)
    }

    /// Commits how the step ended and what follows, and moves on to that.
    pub(super) async fn record(
        &mut self,
        step_id: &str,
        ending: Ending,
        next: Next,
    ) -> Result<Turn, Abandoned> {
        let end = StepEnd {
            delivery: self.claim.delivery,
            owner: self.shared.owner.clone(),
            phase: self.claim.phase,
            step: self.claim.step,
            step_id: step_id.to_owned(),
            attempt: ending.attempt,
            outcome: ending.outcome,
            reason: ending.reason,
            message: ending.message,
            output: ending.output,
            trace: ending.trace.number(),
            ended: self.shared.clock.now(),
            next: next.clone(),
        };
        match self.insist(|| self.shared.journal.end(end.clone())).await? {
            Ended::AsSaid => self.proceed(next).await,
            Ended::Canceled => self.settled(State::Canceled).await,
            Ended::Superseded => self.settled(State::Superseded).await,
        }
    }

    /// Until when to wait for something that is missing, and why.
    pub(super) fn later(&self, reason: Reason, detail: String) -> Due {
        let due = self
            .shared
            .clock
            .now()
            .saturating_add(self.shared.options.look_again);
        Some((due, reason, detail))
    }

    pub(super) async fn release(&self, due: Due) -> Result<Turn, Abandoned> {
        let Claim { delivery, .. } = self.claim;
        let release = || {
            self.shared
                .journal
                .release(delivery, &self.shared.owner, due.clone())
        };
        match self.insist(release).await? {
            Ended::AsSaid => Ok(Turn::Over),
            Ended::Canceled => self.settled(State::Canceled).await,
            Ended::Superseded => self.settled(State::Superseded).await,
        }
    }

    /// Repeats what the journal refuses until it does it.
    pub(super) async fn insist<T, F: Future<Output = Result<T, JournalError>>>(
        &self,
        write: impl Fn() -> F,
    ) -> Result<T, Abandoned> {
        loop {
            match write().await {
                Ok(written) => return Ok(written),
                Err(error) => self.stand_still(error).await?,
            }
        }
    }

    /// Waits a while after the journal refused a record, where it may take it later: a full disk may have room again.
    pub(super) async fn stand_still(&self, error: JournalError) -> Result<(), Abandoned> {
        match error {
            JournalError::Store(_) => {
                tracing::warn!(delivery.id = %self.claim.delivery, error = %error, "the journal refused a record");
                tokio::select! {
                    () = tokio::time::sleep(JOURNAL_REST) => Ok(()),
                    () = self.shared.cancel.cancelled() => Err(Abandoned),
                }
            }
            JournalError::NotFound(_) | JournalError::Refused(_) | JournalError::Closed => {
                tracing::warn!(delivery.id = %self.claim.delivery, error = %error, "delivery left as it is");
                Err(Abandoned)
            }
        }
    }
}
