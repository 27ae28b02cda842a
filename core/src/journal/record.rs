//! What a journal tells of what it holds: plain records, each with a JSON form for `-o json` and the admin API.

use std::{collections::BTreeMap, net::IpAddr};

use bytes::Bytes;
use jackfield_event::{DeliveryId, EventId, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Asked, Asker, Failure, Kept};
use crate::{
    delivery::{Keep, Outcome, Phase, State},
    reason::Reason,
    router::GenerationId,
};

/// Which events to list. The default is the 50 newest.
#[derive(Clone, Debug)]
pub struct EventFilter {
    /// Of this source alone.
    pub source: Option<String>,
    /// Of this type alone.
    pub kind: Option<String>,
    /// Received at or after this moment.
    pub since: Option<Timestamp>,
    /// Older than this one: where the next page begins.
    pub before: Option<EventId>,
    /// How many at most.
    pub limit: usize,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self {
            source: None,
            kind: None,
            since: None,
            before: None,
            limit: 50,
        }
    }
}

/// Some of the events, for whoever goes through all of them.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Received at or after this moment.
    pub since: Option<Timestamp>,
    /// What arrived after this place: that of the last of the stretch before, which may be gone by now.
    pub after: Option<u64>,
    /// How many at most.
    pub limit: usize,
    /// With how many bytes, of envelopes and payloads, it is long enough. It ends with the event by which it has as many, so that
    /// there is always one.
    pub bytes: usize,
}

/// An event as it was routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedEvent {
    /// Its place in the order of arrival.
    pub place: u64,
    /// Its id.
    pub id: EventId,
    /// The event in JSON, without its payload.
    pub envelope: String,
    /// The payload.
    pub payload: Bytes,
}

/// Which deliveries to list. The default is the 50 newest.
#[derive(Clone, Debug)]
pub struct DeliveryFilter {
    /// In one of these states; in any, where it is empty.
    pub states: Vec<State>,
    /// Of this route alone.
    pub route: Option<String>,
    /// Of this event alone.
    pub event: Option<EventId>,
    /// Of an event of this source.
    pub source: Option<String>,
    /// Of an event of this type.
    pub kind: Option<String>,
    /// Given up, or waiting, for this reason.
    pub reason: Option<Reason>,
    /// Owed at or after this moment.
    pub since: Option<Timestamp>,
    /// Owed before this moment.
    pub until: Option<Timestamp>,
    /// Without those that have been replayed.
    pub unreplayed: bool,
    /// Older than this one: where the next page begins, from the newest on.
    pub before: Option<DeliveryId>,
    /// Newer than this one: where the next page begins, from the oldest on.
    pub after: Option<DeliveryId>,
    /// Which come first.
    pub order: Order,
    /// How many at most.
    pub limit: usize,
}

/// Which of a list come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    Newest,
    /// The oldest.
    Oldest,
}

impl Default for DeliveryFilter {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            route: None,
            event: None,
            source: None,
            kind: None,
            reason: None,
            since: None,
            until: None,
            unreplayed: false,
            before: None,
            after: None,
            order: Order::Newest,
            limit: 50,
        }
    }
}

/// An event, as a list shows it.
#[derive(Clone, Debug, Serialize)]
pub struct EventRecord {
    /// Its id.
    pub id: EventId,
    /// When its request arrived.
    pub received: Timestamp,
    /// The source's name.
    pub source: String,
    /// The provider's name.
    pub provider: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The rules that decided about it.
    pub generation: GenerationId,
    /// How many redeliveries of it were recognized.
    pub duplicates: u64,
    /// The deliveries that it came to owe, replays included; none where no route matched.
    pub deliveries: Vec<DeliveryMark>,
}

/// A delivery in a word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryMark {
    /// Its id.
    pub id: DeliveryId,
    /// Its route.
    pub route: String,
    /// Where it stands.
    pub state: State,
}

/// An event, whole.
#[derive(Clone, Debug, Serialize)]
pub struct EventStory {
    /// What a list shows of it.
    #[serde(flatten)]
    pub record: EventRecord,
    /// What tells redeliveries of it within its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// How much of it is kept.
    #[serde(default, skip_serializing_if = "Kept::is_whole")]
    pub kept: Kept,
    /// The event in JSON, payload and all, as far as it is kept.
    pub event: Box<RawValue>,
}

/// The request that an event came from.
#[derive(Clone, Debug, Serialize)]
pub struct RequestRecord {
    /// When it arrived.
    pub received: Timestamp,
    /// The headers that were kept.
    pub headers: Vec<(String, String)>,
    /// The body as it came; in JSON a string.
    #[serde(serialize_with = "text")]
    pub body: Bytes,
}

/// A delivery, as a list shows it.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryRecord {
    /// Its id.
    pub id: DeliveryId,
    /// Its route.
    pub route: String,
    /// The rules under which it was made.
    pub generation: GenerationId,
    /// Its events, the newest last.
    pub events: Vec<EventId>,
    /// That events of a burst gathered in it, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gathered: Option<Gathered>,
    /// The delivery that it replays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<DeliveryId>,
    /// The delivery that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successor: Option<DeliveryId>,
    /// What a person asked for that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The deliveries that replay it, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<DeliveryId>,
    /// That a person asked for it to be canceled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelRecord>,
    /// What orders it among those of its route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_key: Option<String>,
    /// When nothing is begun of it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Where it stands.
    pub state: State,
    /// Whether it stands behind an older one of its order key.
    pub blocked: bool,
    /// Whether it is dead and those behind it wait until a person lets them go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Which list of steps it is in.
    pub phase: Phase,
    /// The first step of that list without an outcome, from 0.
    pub step: usize,
    /// How many attempts of that step were started.
    pub attempts: u32,
    /// The instance that the step uses.
    pub instance: String,
    /// When it came to be owed.
    pub created: Timestamp,
    /// When it is due again, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Why it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why it waits, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it was settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Timestamp>,
}

/// That events of a burst gathered in a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gathered {
    /// `coalescing` while it goes on, then `coalesced`.
    pub reason: Reason,
    /// How many there are, with those that are no longer kept.
    pub events: u64,
    /// What the steps see of them.
    pub keep: Keep,
    /// The one that the steps see, where they see no other, and it is certain which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<EventId>,
}

impl Gathered {
    /// What is to be said of `events`, the newest last, beside which `gone` are no longer kept, where the delivery of a burst
    /// keeps so many.
    pub(super) fn of(events: &[EventId], gone: u64, keep: Keep, gathers: bool) -> Option<Self> {
        let count = gone.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
        let newest = events
            .last()
            .filter(|_| keep == Keep::Newest && gone == 0 && !gathers);
        (count > 1).then(|| Self {
            reason: match gathers {
                true => Reason::Coalescing,
                false => Reason::Coalesced,
            },
            events: count,
            keep,
            seen: newest.copied(),
        })
    }
}

/// A wish that a delivery is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRecord {
    /// When it came.
    pub at: Timestamp,
    /// Whose it is.
    #[serde(flatten)]
    pub asker: Asker,
}

/// A delivery, whole.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryStory {
    /// What a list shows of it.
    #[serde(flatten)]
    pub record: DeliveryRecord,
    /// What is no longer kept of its events, which it could not be replayed without; in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What was done for it, in the order in which it began.
    pub attempts: Vec<AttemptRecord>,
}

/// One attempt of a step, or the end of a step without one.
///
/// Without an outcome and a reason it is being made; with a reason alone it was interrupted.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptRecord {
    /// Which list of steps.
    pub phase: Phase,
    /// Which step of the list, from 0.
    pub step: usize,
    /// The step's id.
    pub step_id: String,
    /// Which attempt, from 1; absent where the step ended without a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The instance that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The rendered input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The code for it, where it is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What the plugin said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the plugin put out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
    /// Whether it changed anything in the work directory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub files: bool,
}

/// A generation that is in force, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// The generation.
    pub id: GenerationId,
    /// When it came into force, restarts under the same rules not counted.
    pub since: Timestamp,
    /// When the next one took its place; absent for the one that is in force, or was at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What put it in force.
    pub cause: Cause,
    /// The generation of the rule files, where this one is in force in place of it: after a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<GenerationId>,
}

/// What put a generation in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The router started.
    Start,
    /// The rule files changed.
    Change,
    /// The signal SIGHUP.
    Signal,
    /// A person asked for the rule files.
    Request,
    /// A person asked for an earlier generation.
    Rollback,
}

impl Cause {
    /// The word as it is spelled everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Change => "change",
            Self::Signal => "signal",
            Self::Request => "request",
            Self::Rollback => "rollback",
        }
    }
}

/// How much a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Redeliveries that were recognized.
    pub duplicates: u64,
    /// Deliveries by state, every state named.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// When the oldest delivery that could be claimed, and is not, came to be owed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<Timestamp>,
    /// When the oldest event arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_event: Option<Timestamp>,
}

/// A request that was refused. Never its body, nor a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// When it arrived.
    pub received: Timestamp,
    /// The source that it asked for, as far as it is known to be none of a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The code for it.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
    /// Who sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
}

/// A refused request, as it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionRecord {
    /// The request.
    #[serde(flatten)]
    pub rejection: Rejection,
    /// How many before it were not kept, since they came too fast.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn text<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::contract::at;

    #[test]
    fn of_a_burst_that_has_lost_an_event_nobody_knows_which_was_the_newest() {
        let events: Vec<_> = (1..=2).map(|n| EventId::new(at(0), n)).collect();
        for (count, gone, keep, gathers, expected) in [
            (2, 0, Keep::Newest, false, Some((2, Some(events[1])))),
            (2, 0, Keep::Newest, true, Some((2, None))),
            (2, 0, Keep::All, false, Some((2, None))),
            (2, 1, Keep::Newest, false, Some((3, None))),
            (1, 1, Keep::Newest, false, Some((2, None))),
            (1, 0, Keep::Newest, false, None),
        ] {
            let gathered = Gathered::of(&events[..count], gone, keep, gathers);
            let told = gathered.map(|gathered| (gathered.events, gathered.seen));
            assert_eq!(told, expected, "{count} {gone} {keep:?} {gathers}");
        }
    }
}
