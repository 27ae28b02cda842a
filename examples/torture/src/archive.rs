//! What the journal says, looked at now and then: retention takes the most of it before the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use jackfield::{
    app,
    delivery::{Outcome, Phase, State},
    journal::{DeliveryFilter, DeliveryStory, EventFilter, Failure},
    reason::Reason,
};
use tokio::time::Instant;

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Archive {
    data: PathBuf,
    looked: Instant,
    /// How long that took.
    took: Duration,
    /// The jobs of the events that were ever seen, by the events' ids; none for one of which only an outline was left.
    pub(crate) events: BTreeMap<String, Option<String>>,
    /// The events that were there when it was last looked.
    pub(crate) there: BTreeSet<String>,
    /// When the events came by the router's clock, in milliseconds since 1970.
    pub(crate) times: BTreeMap<String, i64>,
    /// Deliveries that were seen settled, as they will stay; and in the end, all that there are.
    pub(crate) stories: BTreeMap<String, Story>,
    /// What was seen settled, and in another state afterwards.
    pub(crate) turned: Vec<String>,
    /// How many were seen to wait since what they call takes no more calls, over all looks.
    pub(crate) put_off: u64,
}

/// What the journal says of a delivery, as far as anybody outside can know it.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) id: String,
    pub(crate) route: String,
    /// Whether a person asked for it.
    pub(crate) is_replay: bool,
    /// The delivery that it replays.
    pub(crate) parent: Option<String>,
    /// The delivery that took its place.
    pub(crate) successor: Option<String>,
    /// The newest last.
    pub(crate) events: Vec<String>,
    pub(crate) state: State,
    pub(crate) held: bool,
    /// In milliseconds since 1970.
    pub(crate) deadline: Option<i64>,
    pub(crate) failure: Option<Failure>,
    pub(crate) attempts: Vec<Attempt>,
}

/// What it says of an attempt; 0 where a step ended without one.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) phase: Phase,
    pub(crate) step: String,
    pub(crate) number: u32,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) reason: Option<Reason>,
}

impl Archive {
    pub(crate) fn new(data: PathBuf) -> Self {
        Self {
            data,
            looked: Instant::now(),
            took: Duration::ZERO,
            events: BTreeMap::new(),
            there: BTreeSet::new(),
            times: BTreeMap::new(),
            stories: BTreeMap::new(),
            turned: Vec::new(),
            put_off: 0,
        }
    }

    /// When it was last looked.
    pub(crate) fn looked(&self) -> Instant {
        self.looked
    }

    /// Whether it is time for another look: often, so that what retention takes has been seen settled, but without looking
    /// most of the time.
    pub(crate) fn is_due(&self) -> bool {
        self.looked.elapsed() > OFTEN.max(self.took * 4)
    }

    /// Reads what has settled, beside a router that runs. Nothing of the journal stays open, so that the next life of the router
    /// finds it as a crash leaves it.
    pub(crate) async fn look(&mut self) -> anyhow::Result<()> {
        self.read(false).await
    }

    /// Reads all that there is, after the router's end.
    pub(crate) async fn close(&mut self) -> anyhow::Result<()> {
        self.read(true).await
    }

    async fn read(&mut self, all: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let history = app::history(&self.data)?;
        let waiting = DeliveryFilter {
            states: vec![State::Waiting],
            reason: Some(Reason::RateLimited),
            ..DeliveryFilter::default()
        };
        self.put_off += history.delivery_count(waiting).await?;
        let (mut before, mut there) = (None, BTreeSet::new());
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
                for mark in event
                    .deliveries
                    .iter()
                    .filter(|mark| all || mark.state.is_settled())
                {
                    let id = mark.id.to_string();
                    if !self.is_known(&id, mark.state)
                        && let Some(story) = history.delivery(mark.id).await?
                    {
                        self.stories.insert(id, story.into());
                    }
                }
                let id = event.id.to_string();
                self.times.insert(id.clone(), event.received.as_millis());
                let job = event.subject.map(|subject| {
                    let job = subject.strip_prefix("job/");
                    job.map_or_else(|| subject.clone(), str::to_owned)
                });
                let known = self.events.entry(id.clone()).or_default();
                *known = known.take().or(job);
                there.insert(id);
            }
        }
        self.there = there;
        self.looked = Instant::now();
        self.took = began.elapsed();
        Ok(())
    }

    /// Whether a delivery was seen settled before. Then it is in the same state, now and in the end.
    pub(crate) fn is_known(&mut self, id: &str, state: State) -> bool {
        let Some(story) = self.stories.get(id) else {
            return false;
        };
        if story.state != state {
            let (route, before, now) = (&story.route, story.state.word(), state.word());
            self.turned
                .push(format!("{id} of `{route}` was {before}, and later it was {now}"));
        }
        true
    }
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
            is_replay: record.asked.is_some(),
            parent: record.parent.map(|parent| parent.to_string()),
            successor: record.successor.map(|successor| successor.to_string()),
            events: record.events.iter().map(ToString::to_string).collect(),
            state: record.state,
            held: record.held,
            deadline: record.deadline.map(|deadline| deadline.as_millis()),
            failure: record.failure,
            attempts: attempts.collect(),
        }
    }
}

/// How often it is looked.
const OFTEN: Duration = Duration::from_secs(5);
/// How many events are read at a time.
const PAGE: usize = 2000;
