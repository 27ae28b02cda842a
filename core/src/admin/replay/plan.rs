//! What is to be made of a delivery or an event that a person asks for again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::{DeliveryId, Event, EventId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Replay, RulesOf};
use crate::{
    admin::Problem,
    delivery::{Outcome, Phase, State},
    journal::{
        self, Ask, Asked, Asker, AttemptRecord, DeliveryStory, First, History, JournalError, ReplayKeys,
        Taken,
    },
    router::{Generation, GenerationId, Owed, Route, Routed},
};

/// Where rules are to be found.
#[async_trait]
pub trait Rulebook: Send + Sync {
    /// Those in force.
    async fn in_force(&self) -> Result<Arc<Generation>, JournalError>;

    /// Those of a generation.
    async fn find(&self, id: &GenerationId) -> Result<Arc<Generation>, JournalError>;
}

/// What is to be made.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Of a delivery, another.
    Delivery(Box<DeliveryPlan>),
    /// Of an event, one for each route.
    Event(Box<EventPlan>),
}

/// A delivery that is to be made of another.
#[derive(Clone, Debug)]
pub struct DeliveryPlan {
    /// What the journal is to make.
    pub replay: journal::Replay,
    /// Its route.
    pub route: String,
    /// The rules that it is made under.
    pub generation: GenerationId,
    /// What becomes of each step.
    pub steps: Vec<StepPlan>,
}

/// What becomes of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepPlan {
    /// Its id.
    pub id: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a step of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is made.
    Made,
    /// It comes before those that are asked for, and is made first, since the files that it left are gone.
    MadeForItsFiles,
    /// It comes before those that are asked for, and what it put out stands.
    TakenOver,
    /// A person says that it is done.
    Resolved,
}

/// Deliveries that an event is to owe.
#[derive(Clone, Debug)]
pub struct EventPlan {
    /// The event.
    pub event: EventId,
    /// It, and what it owes.
    pub routed: Routed,
    /// What is noted with each of the deliveries.
    pub asked: Asked,
}

/// How a person settles whether a step is done.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is, with this output.
    Done(Option<Box<RawValue>>),
    /// It is not.
    Repeat,
}

/// Plans what is asked for of one delivery or event. Nothing is made, and no step is rendered.
///
/// # Errors
///
/// Where it cannot be done, or is not there; with the reason.
pub async fn plan(
    replay: &Replay,
    id: &str,
    history: &dyn History,
    rules: &dyn Rulebook,
) -> Result<Plan, Problem> {
    if let Ok(id) = id.parse::<DeliveryId>() {
        if !replay.routes.is_empty() {
            let words =
                format!("delivery {id} has its route; only an event can be given to one route of several");
            return Err(Problem::new(400, words));
        }
        let planned = of_delivery(replay, id, history, rules).await?;
        return Ok(Plan::Delivery(Box::new(planned)));
    }
    if let Ok(id) = id.parse::<EventId>() {
        if replay.from.is_some() {
            let words = format!("event {id} has no steps; only a delivery can be done from one on");
            return Err(Problem::new(400, words));
        }
        let planned = of_event(replay, id, history, rules).await?;
        return Ok(Plan::Event(Box::new(planned)));
    }
    let words = format!("`{id}` is neither an event (evt_…) nor a delivery (dlv_…)");
    Err(Problem::new(400, words))
}

async fn of_delivery(
    replay: &Replay,
    id: DeliveryId,
    history: &dyn History,
    rules: &dyn Rulebook,
) -> Result<DeliveryPlan, Problem> {
    let story = settled(id, replay.once, history).await?;
    let then = &story.record.generation;
    let generation = match replay.rules.as_ref().unwrap_or(&RulesOf::Then) {
        RulesOf::Today => rules.in_force().await?,
        RulesOf::Then => rules.find(then).await?,
        RulesOf::Generation(name) => rules.find(&history.generation(name).await?).await?,
    };
    let route = route(&generation, &story.record.route)?;
    let under = match generation.id() == then {
        true => None,
        false => Some((generation.id().clone(), owed(&generation, &story, history).await?)),
    };
    let from = match &replay.from {
        Some(step) => place(route, step)?,
        None => 0,
    };
    let asked = Asked {
        what: Ask::Replay,
        from: replay.from.clone(),
        keys: replay.keys,
        asker: replay.asker.clone(),
    };
    let mut planned = behind(&story, route, from, asked)?;
    planned.generation = generation.id().clone();
    planned.replay.keys = replay.keys;
    planned.replay.under = under;
    planned.replay.once = replay.once;
    let reason = story.record.failure.map(|failure| failure.reason);
    match planned.replay.refused_for(reason) {
        Some(words) => Err(Problem::new(409, words)),
        None => Ok(planned),
    }
}

/// Plans what a person's verdict makes of a delivery that was given up with a doubt.
///
/// # Errors
///
/// Where there is no doubt, or it has been settled.
pub(in crate::admin) async fn resolve(
    id: DeliveryId,
    verdict: Verdict,
    asker: Asker,
    history: &dyn History,
    rules: &dyn Rulebook,
) -> Result<DeliveryPlan, Problem> {
    let story = settled(id, true, history).await?;
    let step = doubtful(&story)?.to_owned();
    let generation = rules.find(&story.record.generation).await?;
    let route = route(&generation, &story.record.route)?;
    let at = place(route, &step)?;
    let (what, from) = match verdict {
        Verdict::Done(_) => (Ask::ResolveDone, at + 1),
        Verdict::Repeat => (Ask::ResolveRepeat, at),
    };
    let asked = Asked {
        what,
        from: Some(step.clone()),
        keys: ReplayKeys::Keep,
        asker,
    };
    let mut known = story;
    if let Verdict::Done(output) = &verdict {
        known.attempts.push(resolved(&known, at, &step, output.clone()));
    }
    let mut planned = behind(&known, route, from, asked)?;
    planned.replay.once = true;
    match verdict {
        Verdict::Repeat => planned.replay.fresh = Some(step),
        Verdict::Done(_) => {
            for taken in &mut planned.replay.taken {
                taken.resolved |= taken.step == at;
            }
            if let Some(step) = planned.steps.get_mut(at) {
                step.fate = Fate::Resolved;
            }
        }
    }
    Ok(planned)
}

/// A delivery that can be replayed.
async fn settled(id: DeliveryId, once: bool, history: &dyn History) -> Result<DeliveryStory, Problem> {
    let story = history
        .delivery(id)
        .await?
        .ok_or_else(|| Problem::new(404, format!("there is no delivery {id}")))?;
    let state = story.record.state;
    if !state.is_settled() {
        let words = format!(
            "delivery {id} is {}, not settled; what is under way is not replayed",
            state.word()
        );
        return Err(Problem::new(409, words));
    }
    if let Some(missing) = &story.missing {
        return Err(Problem::new(
            409,
            format!("delivery {id} cannot be replayed: {missing}"),
        ));
    }
    if let (true, Some(last)) = (once, story.record.replays.last()) {
        let words = format!("delivery {id} was replayed before, as {last}; look how that one ended");
        return Err(Problem::new(409, words));
    }
    Ok(story)
}

fn route<'g>(generation: &'g Generation, name: &str) -> Result<&'g Route, Problem> {
    generation.find(name).ok_or_else(|| {
        let words = format!("there is no route `{name}` in generation {}", generation.id());
        Problem::new(409, words)
    })
}

/// Where a step stands among those of its route.
fn place(route: &Route, id: &str) -> Result<usize, Problem> {
    let steps = route.steps(Phase::Steps);
    steps.iter().position(|step| step.id() == id).ok_or_else(|| {
        let ids: Vec<_> = steps.iter().map(|step| format!("`{}`", step.id())).collect();
        let words = format!(
            "route `{}` has no step `{id}`; its steps are {}",
            route.name(),
            ids.join(", ")
        );
        Problem::new(400, words)
    })
}

/// What the delivery's route owes under other rules.
async fn owed(
    generation: &Generation,
    story: &DeliveryStory,
    history: &dyn History,
) -> Result<Owed, Problem> {
    let record = &story.record;
    let id = record.id;
    let event = match record.events.last() {
        Some(event) => history.event(*event).await?,
        None => None,
    };
    let event = event.ok_or_else(|| Problem::new(409, format!("the event of delivery {id} is gone")))?;
    let owed = generation.owe(&record.route, event.event.get().as_bytes());
    let owed = owed.ok_or_else(|| Problem::new(409, format!("there is no route `{}`", record.route)))?;
    match &owed.order {
        Ok(_) => Ok(owed),
        Err(error) => Err(Problem::new(
            409,
            format!("delivery {id} has no order key: {error}"),
        )),
    }
}

/// A delivery of which the steps from number `from` on are made, and those before that only where they have to be.
fn behind(story: &DeliveryStory, route: &Route, from: usize, asked: Asked) -> Result<DeliveryPlan, Problem> {
    let parent = story.record.id;
    let (mut steps, mut taken, mut first) = (Vec::new(), Vec::new(), None);
    for (place, step) in route.steps(Phase::Steps).iter().enumerate() {
        let (id, instance) = (step.id(), step.instance());
        let fate = match place < from {
            false => Fate::Made,
            true => {
                let last = last_of(story, id).ok_or_else(|| {
                    let words = format!(
                        "step `{id}` comes before that and was not done in delivery {parent}; replay it from there, or whole"
                    );
                    Problem::new(409, words)
                })?;
                match last.files {
                    true => Fate::MadeForItsFiles,
                    false => {
                        taken.push(taken_over(place, last));
                        Fate::TakenOver
                    }
                }
            }
        };
        if first.is_none() && matches!(fate, Fate::Made | Fate::MadeForItsFiles) {
            first = Some((place, instance.to_owned()));
        }
        steps.push(StepPlan {
            id: id.to_owned(),
            fate,
        });
    }
    let first = match first {
        Some((0, _)) => First::Beginning,
        Some((step, instance)) => First::Step { step, instance },
        None => First::Nothing,
    };
    Ok(DeliveryPlan {
        replay: journal::Replay {
            first,
            taken,
            asked,
            ..journal::Replay::whole(parent, ReplayKeys::Keep)
        },
        route: route.name().to_owned(),
        generation: story.record.generation.clone(),
        steps,
    })
}

/// How a step ended, where it is done or was skipped.
fn last_of<'s>(story: &'s DeliveryStory, step: &str) -> Option<&'s AttemptRecord> {
    story.attempts.iter().rfind(|attempt| {
        attempt.phase == Phase::Steps
            && attempt.step_id == step
            && matches!(attempt.outcome, Some(Outcome::Done | Outcome::Skipped))
    })
}

fn taken_over(place: usize, attempt: &AttemptRecord) -> Taken {
    Taken {
        step: place,
        step_id: attempt.step_id.clone(),
        outcome: attempt.outcome.unwrap_or(Outcome::Done),
        output: attempt
            .output
            .as_ref()
            .map(|output| Bytes::copy_from_slice(output.get().as_bytes())),
        resolved: false,
    }
}

/// The step of which nobody knows whether it was done.
fn doubtful(story: &DeliveryStory) -> Result<&str, Problem> {
    let record = &story.record;
    let refuse = |why: String| Problem::new(409, why);
    if !matches!(record.state, State::Dead | State::Canceled) {
        return Err(refuse(format!(
            "delivery {} is {}; only one that was given up leaves a doubt to settle",
            record.id,
            record.state.word()
        )));
    }
    let failed = record
        .failure
        .as_ref()
        .and_then(|failure| failure.step.as_deref());
    let last = story
        .attempts
        .iter()
        .rfind(|attempt| {
            attempt.phase == Phase::Steps
                && attempt.attempt.is_some()
                && failed.is_none_or(|step| step == attempt.step_id)
        })
        .ok_or_else(|| refuse(format!("no step of delivery {} was called", record.id)))?;
    let in_doubt = match last.outcome {
        Some(Outcome::Ambiguous) | None => true,
        Some(Outcome::Done | Outcome::Skipped) => false,
        Some(Outcome::Retry | Outcome::Fatal) => last.reason.is_some_and(|reason| reason.leaves_doubt()),
    };
    match in_doubt {
        true => Ok(&last.step_id),
        false => Err(refuse(format!(
            "step `{}` of delivery {} ended with {}, which leaves no doubt; `jackfield replay {} --from {}` does it again",
            last.step_id,
            record.id,
            last.reason
                .map_or_else(|| "done".to_owned(), |reason| format!("`{reason}`")),
            record.id,
            last.step_id
        ))),
    }
}

/// The attempt that a person vouches for.
fn resolved(story: &DeliveryStory, place: usize, step: &str, output: Option<Box<RawValue>>) -> AttemptRecord {
    let at = story.record.settled.unwrap_or(story.record.created);
    AttemptRecord {
        phase: Phase::Steps,
        step: place,
        step_id: step.to_owned(),
        attempt: None,
        instance: None,
        input: None,
        started: at,
        ended: Some(at),
        outcome: Some(Outcome::Done),
        reason: None,
        message: None,
        output,
        files: false,
    }
}

async fn of_event(
    replay: &Replay,
    id: EventId,
    history: &dyn History,
    rules: &dyn Rulebook,
) -> Result<EventPlan, Problem> {
    let story = history
        .event(id)
        .await?
        .ok_or_else(|| Problem::new(404, format!("there is no event {id}")))?;
    if let Some(missing) = story.kept.missing() {
        return Err(Problem::new(
            409,
            format!("the event {id} cannot be replayed: {missing}"),
        ));
    }
    let unreadable = |error: &dyn std::fmt::Display| {
        Problem::new(409, format!("the stored event {id} cannot be read: {error}"))
    };
    let generation = match replay.rules.as_ref().unwrap_or(&RulesOf::Today) {
        RulesOf::Today => rules.in_force().await?,
        RulesOf::Then => rules.find(&story.record.generation).await?,
        RulesOf::Generation(name) => rules.find(&history.generation(name).await?).await?,
    };
    let mut event = Event::from_json(story.event.get().as_bytes()).map_err(|error| unreadable(&error))?;
    // The router takes the payload beside the event, as it came.
    let payload = event.data.payload.take();
    let payload = payload.map_or_else(|| "null".to_owned(), |payload| payload.get().to_owned());
    let mut routed = generation
        .route(event, payload.into(), story.dedup)
        .map_err(|error| unreadable(&error))?;
    for name in &replay.routes {
        route(&generation, name)?;
        if !routed.owed().iter().any(|owed| owed.route == *name) {
            let words = format!(
                "event {id} does not match route `{name}`; `jackfield routes explain {id} --route {name}` says by what"
            );
            return Err(Problem::new(409, words));
        }
    }
    if !replay.routes.is_empty() {
        routed = routed.only(&replay.routes);
    }
    let asked = Asked {
        what: Ask::Replay,
        from: None,
        keys: ReplayKeys::Renew,
        asker: replay.asker.clone(),
    };
    Ok(EventPlan {
        event: id,
        routed,
        asked,
    })
}
