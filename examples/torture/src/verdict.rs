//! Holds what the journal says against what was promised to the senders and what the puppets were told. Each thing that is
//! not as it must be comes out as a sentence.

mod attempts;
mod order;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jackfield::{
    delivery::{Outcome, Phase, State},
    journal::{DeliveryMark, DeliveryStory, EventFilter, EventRecord, Failure, History},
    reason::Reason,
};

use crate::{
    master::{Call, Order},
    senders::Promises,
    site::{BURST, NEWEST, ROUTES},
};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    pub(crate) states: BTreeMap<&'static str, u64>,
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    pub(crate) orders: BTreeMap<Order, u64>,
    /// Calls that were made again after one that had come to its end, of which the router did not hear.
    pub(crate) repeated: u64,
    /// Calls whose outcome the router did not hear.
    pub(crate) unheard: u64,
    /// Redeliveries that the journal recognized.
    pub(crate) recognized: u64,
    /// What is not as it must be.
    pub(crate) wrong: Vec<String>,
}

/// Everything that is held against everything else.
struct Evidence<'e> {
    promises: &'e Promises,
    /// By delivery, each in the order in which they came.
    calls: HashMap<&'e str, Vec<&'e Call>>,
    /// The event that each job became in the journal.
    events: BTreeMap<String, EventRecord>,
    stories: BTreeMap<String, Story>,
}

/// What the journal says of a delivery, as far as anybody outside can know it.
#[derive(Debug)]
struct Story {
    id: String,
    route: String,
    /// Whether a person asked for it: it replays another one.
    is_replay: bool,
    /// The newest last.
    events: Vec<String>,
    state: State,
    failure: Option<Failure>,
    attempts: Vec<Attempt>,
}

/// What it says of an attempt; 0 where a step ended without one.
#[derive(Debug)]
struct Attempt {
    phase: Phase,
    step: String,
    number: u32,
    outcome: Option<Outcome>,
    reason: Option<Reason>,
}

impl From<DeliveryStory> for Story {
    fn from(story: DeliveryStory) -> Self {
        let record = story.record;
        let attempts = story.attempts.into_iter().map(|attempt| Attempt {
            phase: attempt.phase,
            step: attempt.step_id,
            number: attempt.attempt.unwrap_or(0),
            outcome: attempt.outcome,
            reason: attempt.reason,
        });
        Self {
            id: record.id.to_string(),
            route: record.route,
            is_replay: record.parent.is_some(),
            events: record.events.iter().map(ToString::to_string).collect(),
            state: record.state,
            failure: record.failure,
            attempts: attempts.collect(),
        }
    }
}

/// Reads the whole journal and judges.
pub(crate) async fn judge(
    history: &dyn History,
    promises: &Promises,
    calls: &[Call],
    canceled: &BTreeSet<String>,
) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut evidence = Evidence {
        promises,
        calls: HashMap::new(),
        events: BTreeMap::new(),
        stories: BTreeMap::new(),
    };
    for call in calls {
        evidence.calls.entry(&call.told.delivery).or_default().push(call);
        *verdict.orders.entry(call.order).or_default() += 1;
    }
    evidence.read(history, &mut verdict).await?;
    verdict.wrong.extend(promises.strange.iter().cloned());
    evidence.promised(&mut verdict);
    evidence.owed(&mut verdict);
    for (id, story) in &evidence.stories {
        let calls = evidence.calls.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        verdict.deliveries += 1;
        *verdict.states.entry(story.state.word()).or_default() += 1;
        if let Some(failure) = &story.failure {
            *verdict.reasons.entry(failure.reason.code()).or_default() += 1;
        }
        attempts::check(story, calls, &mut verdict);
        if story.state == State::Canceled && !canceled.contains(id) {
            verdict
                .wrong
                .push(format!("{id} is canceled, and nobody asked for it"));
        }
    }
    for delivery in evidence
        .calls
        .keys()
        .filter(|id| !evidence.stories.contains_key(**id))
    {
        verdict.wrong.push(format!(
            "{delivery} was called for, and the journal does not know it"
        ));
    }
    order::check(&evidence.stories, calls, &mut verdict);
    evidence.newest(&mut verdict);
    Ok(verdict)
}

impl Evidence<'_> {
    async fn read(&mut self, history: &dyn History, verdict: &mut Verdict) -> anyhow::Result<()> {
        let mut before = None;
        loop {
            let filter = EventFilter {
                before,
                limit: PAGE,
                ..EventFilter::default()
            };
            let page = history.events(filter).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            for event in page {
                verdict.events += 1;
                verdict.recognized += event.duplicates;
                for delivery in &event.deliveries {
                    if let Some(story) = history.delivery(delivery.id).await? {
                        self.stories.insert(delivery.id.to_string(), story.into());
                    }
                }
                let job = event.subject.clone().unwrap_or_default();
                let job = job.strip_prefix("job/").unwrap_or(&job).to_owned();
                if let Some(other) = self.events.insert(job.clone(), event) {
                    verdict
                        .wrong
                        .push(format!("{job} became two events, one of them {}", other.id));
                }
            }
        }
        Ok(())
    }

    /// Every acknowledged event is there, and no other.
    fn promised(&self, verdict: &mut Verdict) {
        for (job, event) in &self.promises.events {
            match self.events.get(job) {
                Some(found) if found.id.to_string() == *event => {}
                Some(found) => verdict
                    .wrong
                    .push(format!("{job} was acknowledged as {event} and is {}", found.id)),
                None => verdict
                    .wrong
                    .push(format!("{event} ({job}) was acknowledged and is lost")),
            }
        }
        for (job, event) in &self.events {
            if !self.promises.events.contains_key(job) {
                verdict.wrong.push(format!(
                    "{} ({job}) is there, and its sender knows nothing of it",
                    event.id
                ));
            }
        }
    }

    /// Every event owes one delivery to each route, all of them by one set of rules.
    fn owed(&self, verdict: &mut Verdict) {
        let routes: BTreeSet<_> = ROUTES.into_iter().collect();
        for (job, event) in &self.events {
            let marks = || event.deliveries.iter().filter(|mark| !self.is_replay(mark));
            let owed: BTreeSet<_> = marks().map(|mark| mark.route.as_str()).collect();
            if owed != routes || marks().count() != routes.len() {
                verdict.wrong.push(format!(
                    "{} ({job}) owes to {owed:?}, not to {routes:?}",
                    event.id
                ));
            }
            // A burst is one delivery of several events, which different rules may have decided about.
            let of_its_own = event.deliveries.iter().filter(|mark| mark.route != BURST);
            let calls = of_its_own.filter_map(|mark| self.calls.get(mark.id.to_string().as_str()));
            let sets: BTreeSet<_> = calls.flatten().map(|call| call.told.input.set).collect();
            if sets.len() > 1 {
                verdict.wrong.push(format!(
                    "{} ({job}) was handled by several sets of rules: {sets:?}",
                    event.id
                ));
            }
        }
    }

    fn is_replay(&self, mark: &DeliveryMark) -> bool {
        let story = self.stories.get(&mark.id.to_string());
        story.is_some_and(|story| story.is_replay)
    }

    /// Where newer ones take the place of older ones, the newest of all is among those that were carried out.
    fn newest(&self, verdict: &mut Verdict) {
        let mut last: BTreeMap<&str, (&str, &EventRecord)> = BTreeMap::new();
        for (job, event) in &self.events {
            // Jobs are in order, and so are their numbers within a key.
            last.insert(order::key(job), (job, event));
        }
        for (key, (job, event)) in last {
            for mark in event
                .deliveries
                .iter()
                .filter(|mark| [NEWEST, BURST].contains(&mark.route.as_str()) && !self.is_replay(mark))
            {
                if mark.state == State::Superseded {
                    verdict.wrong.push(format!(
                        "{} is superseded, and {job} is the newest of {key}",
                        mark.id
                    ));
                }
                let id = mark.id.to_string();
                let calls = self.calls.get(id.as_str()).map_or(&[][..], Vec::as_slice);
                if mark.state == State::Succeeded && !calls.iter().any(|call| call.told.input.job == *job) {
                    verdict.wrong.push(format!(
                        "{id} succeeded without a word of {job}, the newest of {key}"
                    ));
                }
            }
        }
    }
}

/// How many events are read at a time.
const PAGE: usize = 2000;
