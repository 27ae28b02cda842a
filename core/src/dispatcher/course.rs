//! One delivery from its claim to the end of the claim: step by step, outcome by outcome.
//!
//! Every way out of a step is a [`StepEnd`](crate::journal::StepEnd) that the journal commits, or the delivery goes back unchanged with
//! the reason why it waits. Where the journal cannot commit, the course stands still until it can.

mod conclude;
mod deadline;
mod ending;
mod passage;
mod ready;
mod record;
mod rest;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    conclude::Called,
    ending::Ending,
    ready::{NotReady, Ready},
    record::Abandoned,
};
use super::{Shared, workdir::Trace};
use crate::{
    delivery::{Outcome, Phase},
    journal::{AttemptStart, Begun, Claim},
    plugin::{Report, StepCall},
    reason::Reason,
    router::{Route, Step},
};

/// A claimed delivery on its way.
pub(super) struct Course<'s> {
    shared: &'s Shared,
    claim: Claim,
    /// Told where a person does not want the delivery any more, or the router ends.
    cancel: CancellationToken,
}

/// What a step's turn came to.
enum Turn {
    /// The claim goes on, from where it stands now.
    GoOn,
    /// The claim has ended.
    Over,
}

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

    /// Calls the step once, its start on disk before and its outcome after.
    async fn attempt(&mut self, route: &Route, step: &Step, ready: Ready) -> Result<Turn, Abandoned> {
        let instance = Arc::clone(ready.visit.instance());
        if let Some(due) = self.resting(&instance.name) {
            self.withdraw(ready).await;
            return self.release(Some(due)).await;
        }
        let attempt = self.claim.attempts + 1;
        let start = self.start(step, attempt, &ready);
        match self.shared.journal.begin(start).await {
            Ok(Begun::Now) => self.claim.attempts = attempt,
            Ok(Begun::Later { reason, .. }) => {
                self.withdraw(ready).await;
                self.put_off(&instance.name, reason);
                return Ok(Turn::Over);
            }
            Ok(Begun::Settled(state)) => {
                self.withdraw(ready).await;
                return self.settled(state).await;
            }
            Err(error) => {
                // Its turn comes once more, and all is looked at anew: its deadline may have passed meanwhile.
                self.withdraw(ready).await;
                self.stand_still(error).await?;
                return Ok(Turn::GoOn);
            }
        }
        // On a slow disk it may have come too late for the call itself.
        if let Err(NotReady::Fail(reason, error)) = self.in_time() {
            self.withdraw(ready).await;
            let ending = Ending {
                attempt: Some(attempt),
                ..Ending::without_call(reason, error)
            };
            return self.fail(route, step, ending).await;
        }
        let call = self.call(step, attempt, ready.input, instance.timeout);
        let report = instance.caller.call(call).await;
        drop((ready.visit, ready.permit));
        self.shared.room.notify_one();
        let (report, trace) = self.keep_files(report).await;
        self.shared.metrics.attempt(&instance.name, report.outcome);
        self.heed_pause(&ready.passage, &report).await?;
        self.shared
            .heed_outcome(&instance.name, self.claim.delivery, &report)
            .await;
        let called = Called {
            attempt,
            report,
            trace,
            cut_short: self.shared.cancel.is_cancelled() || instance.is_leaving(),
        };
        let (shared, free) = (self.shared, ready.passage.let_go(&self.shared.calls));
        tokio::join!(self.conclude(route, step, called), shared.hand_on(free)).0
    }

    /// What the journal is told before the call.
    fn start(&self, step: &Step, attempt: u32, ready: &Ready) -> AttemptStart {
        AttemptStart {
            delivery: self.claim.delivery,
            owner: self.shared.owner.clone(),
            phase: self.claim.phase,
            step: self.claim.step,
            step_id: step.id().to_owned(),
            instance: ready.visit.instance().name.clone(),
            attempt,
            input: ready.input.clone(),
            started: self.shared.clock.now(),
            bounds: ready.passage.bounds.clone(),
        }
    }

    /// What the plugin is told.
    fn call(&self, step: &Step, attempt: u32, input: Bytes, timeout: Duration) -> StepCall {
        StepCall {
            event: self.claim.events.last().cloned().unwrap_or_default(),
            input,
            delivery: self.claim.delivery,
            route: self.claim.route.clone(),
            step: step.id().to_owned(),
            attempt,
            idempotency_key: self.idempotency_key(step),
            deadline: Instant::now() + self.time_left().map_or(timeout, |left| left.min(timeout)),
            workdir: self.shared.work.of(self.claim.delivery),
            cancelled: self.cancel.child_token(),
        }
    }

    /// Has what a step that is done left in the work directory on disk, before it is said to be done.
    ///
    /// Only that has files for the steps after it. How anything else ended stands, whatever became of its files: what
    /// may have happened is not to be made again for their sake.
    async fn keep_files(&self, report: Report) -> (Report, Trace) {
        if report.outcome != Outcome::Done {
            return (report, Trace::default());
        }
        match self.shared.work.sync(self.claim.delivery).await {
            Ok(trace) => (report, trace),
            Err(error) => {
                let report = Report {
                    outcome: Outcome::Retry,
                    reason: Some(Reason::WorkDirectoryFailed),
                    code: 0,
                    output: None,
                    message: Some(format!("the step's files could not be synced: {error}")),
                    retry_after: None,
                };
                (report, Trace::default())
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
