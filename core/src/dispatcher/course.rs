//! One delivery from its claim to the end of the claim: step by step, outcome by outcome.
//!
//! Every way out of a step is a [`StepEnd`] that the journal commits, or the delivery goes back unchanged with
//! the reason why it waits. Where the journal cannot commit, the course stands still until it can.

mod deadline;
mod ending;
mod passage;
mod rest;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jackfield_event::Timestamp;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{JOURNAL_REST, Shared, limits::Passage, workdir::Trace};
use crate::{
    delivery::{OnStuck, Outcome, Phase, State},
    journal::{AttemptStart, Begun, Claim, Ended, Failure, JournalError, Next, StepEnd},
    plugin::{Report, StepCall, Visit},
    reason::Reason,
    router::{Context, ContextError, FailureView, RenderError, Route, Step},
};

use ending::Ending;

/// A claimed delivery on its way.
pub(super) struct Course<'s> {
    shared: &'s Shared,
    claim: Claim,
    /// Told where a person does not want the delivery any more, or the router ends.
    cancel: CancellationToken,
}

/// What a step's turn came to.
enum Turn {
    /// The claim goes on with the next step.
    GoOn,
    /// The claim has ended.
    Over,
}

/// A step that is ready to be called.
struct Ready {
    visit: Visit,
    permit: OwnedSemaphorePermit,
    input: Bytes,
    passage: Passage,
}

/// How a call ended.
struct Called {
    attempt: u32,
    report: Report,
    /// How the work directory looks behind it.
    trace: Trace,
    /// Whether the router or the instance was about to end.
    cut_short: bool,
}

/// Why a step is not called now.
enum NotReady {
    /// Its `if` is false.
    Skip,
    /// It cannot be called, now or later.
    Fail(Reason, String),
    /// It can be called later: after a while for a reason, or as soon as there is room.
    Later(Option<(Reason, String)>),
}

/// Until when a delivery that goes back waits, and why; at once where there is nothing to wait for.
type Due = Option<(Timestamp, Reason, String)>;

/// How many attempts beyond the policy's a step gets after interruptions that may not have been its doing.
const INTERRUPTIONS: u32 = 3;

/// The journal is closed or the claim was lost: nothing more can be recorded.
struct Abandoned;

impl<'s> Course<'s> {
    pub(super) fn new(shared: &'s Shared, claim: Claim, cancel: CancellationToken) -> Self {
        Self {
            shared,
            claim,
            cancel,
        }
    }

    /// Runs until the claim ends.
    pub(super) async fn run(mut self) {
        let (generations, journal) = (&self.shared.generations, &*self.shared.journal);
        let generation = match generations.get(&self.claim.generation, journal).await {
            Ok(generation) => generation,
            Err(error) => {
                let error = format!("its rules cannot be read: {error}");
                let _ = self.release(self.later(Reason::Unreadable, error)).await;
                return;
            }
        };
        let Some(route) = generation
            .as_deref()
            .and_then(|generation| generation.find(&self.claim.route))
        else {
            let error = format!(
                "the rules of generation {} are missing, or do not compile any more",
                self.claim.generation
            );
            let _ = self.give_up(error).await;
            return;
        };
        loop {
            if self.shared.stopping.is_cancelled() || self.cancel.is_cancelled() {
                let _ = self.release(None).await;
                return;
            }
            match self.turn(route).await {
                Ok(Turn::GoOn) => {}
                Ok(Turn::Over) | Err(Abandoned) => return,
            }
        }
    }

    /// Takes the present step to its end.
    async fn turn(&mut self, route: &Route) -> Result<Turn, Abandoned> {
        let Some(step) = route.steps(self.claim.phase).get(self.claim.step) else {
            // A generation is immutable, so a claim points past its steps only if the journal was tampered with.
            let error = format!("the route has no step number {}", self.claim.step + 1);
            return self.give_up(error).await;
        };
        if let (Phase::Steps, Some(taken)) = (self.claim.phase, self.claim.taken.remove(&self.claim.step)) {
            return self.pass(route, step, Ending::taken(taken)).await;
        }
        match self.prepare(step).await {
            Ok(ready) => self.attempt(route, step, ready).await,
            Err(NotReady::Skip) => self.pass(route, step, Ending::condition_false()).await,
            Err(NotReady::Fail(reason, error)) => {
                self.fail(route, step, Ending::without_call(reason, error)).await
            }
            Err(NotReady::Later(why)) => {
                let due = why.and_then(|(reason, detail)| self.later(reason, detail));
                self.release(due).await
            }
        }
    }

    /// Whether the step is to be called, with what, and when it is its turn.
    async fn prepare(&self, step: &Step) -> Result<Ready, NotReady> {
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
            let detail = match self.shared.registry.parked(step.instance()) {
                Some(reason) => format!("the instance `{}` is parked: {reason}", step.instance()),
                None => format!("there is no instance `{}`", step.instance()),
            };
            return Err(self.missing(Reason::InstanceMissing, detail));
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

    /// Calls the step once, its start on disk before and its outcome after.
    async fn attempt(&mut self, route: &Route, step: &Step, ready: Ready) -> Result<Turn, Abandoned> {
        let attempt = self.claim.attempts + 1;
        let instance = Arc::clone(ready.visit.instance());
        if let Some(due) = self.resting(&instance.name) {
            self.withdraw(ready).await;
            return self.release(Some(due)).await;
        }
        let start = AttemptStart {
            delivery: self.claim.delivery,
            owner: self.shared.owner.clone(),
            phase: self.claim.phase,
            step: self.claim.step,
            step_id: step.id().to_owned(),
            instance: instance.name.clone(),
            attempt,
            input: ready.input.clone(),
            started: self.shared.clock.now(),
            bounds: ready.passage.bounds.clone(),
        };
        match self.insist(|| self.shared.journal.begin(start.clone())).await? {
            Begun::Now => {}
            Begun::Later { reason, .. } => {
                self.withdraw(ready).await;
                self.put_off(&instance.name, reason);
                return Ok(Turn::Over);
            }
            Begun::Settled(state) => {
                self.withdraw(ready).await;
                return self.settled(state).await;
            }
        }
        self.claim.attempts = attempt;
        let call = StepCall {
            event: self.claim.events.last().cloned().unwrap_or_default(),
            input: ready.input,
            delivery: self.claim.delivery,
            route: self.claim.route.clone(),
            step: step.id().to_owned(),
            attempt,
            idempotency_key: self.idempotency_key(step),
            deadline: Instant::now()
                + self
                    .time_left()
                    .map_or(instance.timeout, |left| left.min(instance.timeout)),
            workdir: self.shared.work.of(self.claim.delivery),
            cancelled: self.cancel.child_token(),
        };
        let mut report = instance.caller.call(call).await;
        drop((ready.visit, ready.permit));
        self.shared.room.notify_one();
        // Only what is done has files for the steps after it. How anything else ended stands, whatever became of its
        // files: what may have happened is not to be made again for their sake.
        let mut trace = Trace::default();
        if report.outcome == Outcome::Done {
            match self.shared.work.sync(self.claim.delivery).await {
                Ok(found) => trace = found,
                Err(error) => {
                    report = Report {
                        outcome: Outcome::Retry,
                        reason: Some(Reason::WorkDirectoryFailed),
                        code: 0,
                        output: None,
                        message: Some(format!("the step's files could not be synced: {error}")),
                        retry_after: None,
                    };
                }
            }
        }
        self.shared.metrics.attempt(&instance.name, report.outcome);
        self.heed_pause(&ready.passage, &report).await?;
        self.shared
            .heed_outcome(&instance.name, self.claim.delivery, &report)
            .await;
        let cut_short = self.shared.cancel.is_cancelled() || instance.is_leaving();
        let called = Called {
            attempt,
            report,
            trace,
            cut_short,
        };
        let (shared, free) = (self.shared, ready.passage.let_go(&self.shared.calls));
        tokio::join!(self.conclude(route, step, called), shared.hand_on(free)).0
    }

    /// Makes of a report what the retry policy and the route say.
    async fn conclude(&mut self, route: &Route, step: &Step, called: Called) -> Result<Turn, Abandoned> {
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

    /// A call that was in its worker process the last two times when that died is taken for the cause: it is not made a third
    /// time. One that was there by chance is unlikely to be so twice, and a person can ask for it again.
    fn quarantined(&self, report: Report) -> Report {
        if report.reason != Some(Reason::PluginCrashed) || !self.claim.crashed {
            return report;
        }
        let death = report.message.unwrap_or_default();
        Report {
            outcome: Outcome::Fatal,
            reason: Some(Reason::Quarantined),
            message: Some(format!(
                "{death}; the call was in it the last 2 times that it did"
            )),
            ..report
        }
    }

    /// The step is done or skipped: the one after it is next, or the delivery has settled.
    async fn pass(&mut self, route: &Route, step: &Step, ending: Ending) -> Result<Turn, Abandoned> {
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
    async fn fail(&mut self, route: &Route, step: &Step, ending: Ending) -> Result<Turn, Abandoned> {
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
    async fn give_up(&mut self, error: String) -> Result<Turn, Abandoned> {
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

    async fn settled(&self, state: State) -> Result<Turn, Abandoned> {
        tracing::info!(
            delivery.id = %self.claim.delivery, route = %self.claim.route, state = state.word(), "delivery settled"
        );
        self.shared.metrics.settled(state);
        self.shared.work.remove(self.claim.delivery).await;
        Ok(Turn::Over)
    }

    /// Commits how the step ended and what follows, and moves on to that.
    async fn record(&mut self, step_id: &str, ending: Ending, next: Next) -> Result<Turn, Abandoned> {
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
    fn later(&self, reason: Reason, detail: String) -> Due {
        let due = self
            .shared
            .clock
            .now()
            .saturating_add(self.shared.options.look_again);
        Some((due, reason, detail))
    }

    async fn release(&self, due: Due) -> Result<Turn, Abandoned> {
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

    /// Repeats what the journal refuses until it does it: a full disk may have room again.
    async fn insist<T, F: Future<Output = Result<T, JournalError>>>(
        &self,
        write: impl Fn() -> F,
    ) -> Result<T, Abandoned> {
        loop {
            match write().await {
                Ok(written) => return Ok(written),
                Err(error @ JournalError::Store(_)) => {
                    tracing::warn!(delivery.id = %self.claim.delivery, error = %error, "the journal refused a record");
                    tokio::select! {
                        () = tokio::time::sleep(JOURNAL_REST) => {}
                        () = self.shared.cancel.cancelled() => return Err(Abandoned),
                    }
                }
                Err(
                    error @ (JournalError::NotFound(_) | JournalError::Refused(_) | JournalError::Closed),
                ) => {
                    tracing::warn!(delivery.id = %self.claim.delivery, error = %error, "delivery left as it is");
                    return Err(Abandoned);
                }
            }
        }
    }

    /// The same for every attempt of this step, and for no other step. What a replay keeps are the keys of what was to be
    /// done; that it failed as well is news, whatever was said about the parent.
    fn idempotency_key(&self, step: &Step) -> String {
        let claim = &self.claim;
        match claim.phase {
            Phase::Steps => {
                let root = claim.key_roots.get(step.id()).unwrap_or(&claim.key_root);
                format!("{root}/{}", step.id())
            }
            Phase::OnFailure => format!("{}/on_failure/{}", claim.delivery, step.id()),
        }
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

/// What becomes of a dead delivery.
fn bury(route: &Route, failure: Failure) -> Next {
    match route.line().on_stuck {
        OnStuck::GoOn => Next::Settle {
            state: State::Dead,
            failure: Some(failure),
        },
        OnStuck::Hold => Next::Hold { failure },
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
