//! What every journal promises, as tests that take any: an implementation lists them with [`contract!`].

pub(crate) mod arrivals;
pub(crate) mod cancel;
pub(crate) mod deadlines;
pub(crate) mod deliveries;
pub(crate) mod keeping;
pub(crate) mod limits;
pub(crate) mod line;
pub(crate) mod order;
pub(crate) mod pruning;
pub(crate) mod replay;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use jackfield_event::{DATA_SCHEMA, Data, DeliveryId, Event, EventId, SpecVersion, Timestamp, Verification};

use super::{
    Arrival, Asked, AttemptStart, Claim, ClaimRequest, Committed, DeliveryRecord, Failure, Journal, Next,
    Replay, ReplayKeys, StepEnd,
};
use crate::{
    clock::Clock,
    delivery::{Line, Outcome, Phase, State},
    reason::Reason,
    router::{GenerationId, Owed, Routed},
};

/// Somewhere that a journal can be opened, again and again, by the clock that it is given.
pub(crate) trait Place: Send + Sync {
    /// Opens it; what was committed before is there.
    fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Journal>;
}

/// Makes a test of each promise.
macro_rules! contract {
    ($place:expr; $($module:ident::{ $($promise:ident),+ $(,)? })+) => {
        $($(
            #[tokio::test]
            async fn $promise() {
                let place = $place;
                $crate::journal::contract::$module::$promise($crate::journal::contract::Bench::new(&place).await).await;
            }
        )+)+
    };
}
pub(crate) use contract;

/// A clock that stands still until it is set.
#[derive(Debug)]
pub(crate) struct StoppedClock(AtomicI64);

impl StoppedClock {
    /// It stands `seconds` into the test.
    pub(crate) fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds))
    }

    pub(crate) fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::Relaxed))
    }
}

/// A journal at work, and short words for what a test does with it.
pub(crate) struct Bench<'p> {
    place: &'p dyn Place,
    pub(crate) clock: Arc<StoppedClock>,
    pub(crate) journal: Arc<dyn Journal>,
}

/// The moment `seconds` into the test.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + seconds * 1_000).unwrap()
}

pub(crate) fn generation() -> GenerationId {
    GenerationId("0123abcd".into())
}

/// A delivery that is owed to `route` and begins with the instance `instance`.
pub(crate) fn owed(route: &str, instance: &str, key: Option<&str>) -> Owed {
    Owed {
        route: route.into(),
        instance: instance.into(),
        on_failure: None,
        order: Ok(key.map(str::to_owned)),
        line: Line::default(),
        deadline: Ok(None),
    }
}

/// A request of the source `screens` that arrives `seconds` into the test.
pub(crate) fn arrival(seconds: i64, dedup: Option<&str>, owed: Vec<Owed>) -> Arrival {
    let event = Event {
        specversion: SpecVersion::V1,
        id: EventId::new(at(seconds), fastrand::u128(..)),
        source: "/in/screens".into(),
        kind: "io.zeplin.project.screen.created".into(),
        subject: Some("screen/7".into()),
        time: at(seconds),
        datacontenttype: "application/json".into(),
        dataschema: DATA_SCHEMA.into(),
        provider: "zeplin".into(),
        sourcename: "screens".into(),
        providerdelivery: None,
        providerattempt: None,
        verified: Verification::Signature,
        data: Data {
            title: Some("A screen".into()),
            ..Data::default()
        },
    };
    let routed = Routed::for_test(
        event,
        PAYLOAD.into(),
        dedup.map(str::to_owned),
        generation(),
        owed,
    );
    Arrival {
        routed,
        headers: vec![("user-agent", "Zeplin".into())],
        received: at(seconds),
        dedup_window: Duration::from_secs(100),
    }
}

impl Arrival {
    /// The same, of an event that happened at another time.
    fn happened(self, time: Timestamp) -> Self {
        self.with(|event, _| event.time = time)
    }

    /// The same, with another body.
    fn with_body(mut self, body: Bytes) -> Self {
        let mut parts = self.routed.into_parts();
        parts.payload = body;
        self.routed = Routed::for_test(
            *parts.event,
            parts.payload,
            parts.dedup,
            parts.generation,
            parts.owed,
        );
        self
    }

    /// The same, routed under other rules.
    fn under(self, rules: GenerationId) -> Self {
        self.with(|_, generation| *generation = rules)
    }

    fn with(self, change: impl FnOnce(&mut Event, &mut GenerationId)) -> Self {
        let mut parts = self.routed.into_parts();
        change(&mut parts.event, &mut parts.generation);
        Self {
            routed: Routed::for_test(
                *parts.event,
                parts.payload,
                parts.dedup,
                parts.generation,
                parts.owed,
            ),
            ..self
        }
    }
}

/// Bytes that no reader of JSON would write again as they are.
pub(crate) const PAYLOAD: &[u8] = "{ \"ä\": 1.50,\r\n \"ä\": 2 }".as_bytes();

impl<'p> Bench<'p> {
    pub(crate) async fn new(place: &'p dyn Place) -> Self {
        let clock = Arc::new(StoppedClock::at(0));
        let journal = place.open(clock.clone());
        journal.store_rules(&generation(), "the rules").await.unwrap();
        Self {
            place,
            clock,
            journal,
        }
    }

    /// Drops the journal as a kill would, as far as a process can do that to itself, and opens it again.
    pub(crate) fn reopen(mut self) -> Self {
        let clock = self.clock.clone();
        drop(self.journal);
        self.journal = self.place.open(clock);
        self
    }

    pub(crate) fn set_clock(&self, seconds: i64) {
        self.clock.set(seconds);
    }

    pub(crate) async fn append(&self, arrival: Arrival) -> Committed {
        self.journal.append(arrival).await.unwrap()
    }

    /// Commits an event with one delivery and returns the delivery.
    pub(crate) async fn owe(&self, seconds: i64, owed: Owed) -> DeliveryId {
        self.append(arrival(seconds, None, vec![owed])).await.deliveries()[0]
    }

    pub(crate) async fn claim(&self, seconds: i64) -> Vec<Claim> {
        self.claim_as("me", seconds, 100, &[]).await
    }

    pub(crate) async fn claim_as(
        &self,
        owner: &str,
        seconds: i64,
        limit: usize,
        busy: &[&str],
    ) -> Vec<Claim> {
        let request = ClaimRequest {
            owner: owner.into(),
            now: at(seconds),
            lease: Duration::from_secs(10),
            limit,
            busy: busy.iter().map(|instance| (*instance).to_owned()).collect(),
        };
        self.journal.claim(request).await.unwrap()
    }

    pub(crate) async fn claimed(&self, seconds: i64) -> Vec<DeliveryId> {
        self.claim(seconds)
            .await
            .iter()
            .map(|claim| claim.delivery)
            .collect()
    }

    /// Begins attempt `attempt` of step `step` and ends it.
    pub(crate) async fn attempt(
        &self,
        delivery: DeliveryId,
        step: usize,
        attempt: u32,
        outcome: Outcome,
        next: Next,
    ) {
        self.journal
            .begin(start(delivery, Phase::Steps, step, attempt))
            .await
            .unwrap();
        self.journal
            .end(end(delivery, Phase::Steps, step, Some(attempt), outcome, next))
            .await
            .unwrap();
    }

    /// Carries a claimed delivery of one step out.
    pub(crate) async fn finish(&self, delivery: DeliveryId, state: State) {
        let failure = (state == State::Dead).then(failure);
        self.attempt(delivery, 0, 1, Outcome::Done, Next::Settle { state, failure })
            .await;
    }

    pub(crate) async fn record(&self, delivery: DeliveryId) -> DeliveryRecord {
        self.journal.delivery(delivery).await.unwrap().unwrap().record
    }

    pub(crate) async fn state(&self, delivery: DeliveryId) -> State {
        self.journal
            .delivery(delivery)
            .await
            .unwrap()
            .unwrap()
            .record
            .state
    }
}

pub(crate) fn failure() -> Failure {
    Failure {
        step: Some("step-0".into()),
        reason: Reason::PluginFatal,
        error: "it broke".into(),
    }
}

pub(crate) fn start(delivery: DeliveryId, phase: Phase, step: usize, attempt: u32) -> AttemptStart {
    AttemptStart {
        delivery,
        owner: "me".into(),
        phase,
        step,
        step_id: format!("step-{step}"),
        instance: "slack".into(),
        attempt,
        input: Bytes::from_static(b"{\"text\":\"hello\"}"),
        started: at(1),
        bounds: Vec::new(),
    }
}

pub(crate) fn end(
    delivery: DeliveryId,
    phase: Phase,
    step: usize,
    attempt: Option<u32>,
    outcome: Outcome,
    next: Next,
) -> StepEnd {
    StepEnd {
        delivery,
        owner: "me".into(),
        phase,
        step,
        step_id: format!("step-{step}"),
        attempt,
        outcome,
        reason: (outcome != Outcome::Done).then_some(Reason::PluginRetry),
        message: Some("said so".into()),
        output: (outcome == Outcome::Done).then(|| format!("{{\"of\":{step}}}").into()),
        trace: None,
        ended: at(2),
        next,
    }
}

/// What a person asked for who wants something again.
pub(crate) fn asked() -> Asked {
    Replay::whole(DeliveryId::new(at(0), 0), ReplayKeys::Renew).asked
}

/// The next step, of the instance `slack`.
pub(crate) fn next() -> Next {
    Next::Step {
        instance: "slack".into(),
    }
}

/// The same step again.
pub(crate) fn wait_until(seconds: i64) -> Next {
    Next::Wait {
        due: at(seconds),
        reason: Reason::PluginRetry,
        detail: Some("503".into()),
    }
}
