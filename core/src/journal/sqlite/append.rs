//! The way in: an arrival becomes rows, or turns out to be a duplicate. Replays owe deliveries in the same way.

use bytes::Bytes;
use jackfield_event::{DeliveryId, Event, EventId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{
    dedup::{self, Entry},
    job::Fault,
    store::Store,
};
use crate::{
    delivery::{Keep, Phase, State},
    journal::{Arrival, Committed, Failure},
    reason::Reason,
    router::{GenerationId, Owed},
};

/// An arrival as the writer takes it: all that can be done before it is its turn is done.
#[derive(Debug)]
pub(super) struct NewEvent {
    id: EventId,
    id_text: String,
    source: String,
    kind: String,
    received: Timestamp,
    time: Timestamp,
    generation: GenerationId,
    envelope: String,
    headers: String,
    body: Bytes,
    dedup: Option<Key>,
    owed: Vec<Owed>,
}

#[derive(Debug)]
struct Key {
    text: String,
    hash: u64,
    until: i64,
}

impl NewEvent {
    pub(super) fn new(arrival: Arrival) -> Self {
        let Arrival {
            routed,
            headers,
            received,
            dedup_window,
        } = arrival;
        let routed = routed.into_parts();
        let Event {
            id,
            sourcename: source,
            kind,
            time,
            ..
        } = *routed.event;
        Self {
            id,
            id_text: id.to_string(),
            received,
            time,
            generation: routed.generation,
            envelope: routed.envelope,
            headers: serde_json::to_string(&headers).expect("pairs of strings have a JSON form"),
            body: routed.payload,
            dedup: routed.dedup.map(|text| Key {
                hash: dedup::hash(&source, &text),
                text,
                until: received.saturating_add(dedup_window).as_millis(),
            }),
            owed: routed.owed,
            source,
            kind,
        }
    }

    /// How much memory it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        self.body.len() + self.envelope.len() + self.headers.len()
    }
}

/// What deliveries that are made together have in common.
pub(super) struct Origin<'a> {
    pub(super) created: Timestamp,
    pub(super) rules: i64,
    pub(super) parent: Option<i64>,
    pub(super) key_root: Option<&'a str>,
    /// Whether an event has just arrived for them: what a person asks for again is replaced by nothing.
    pub(super) arrives: bool,
}

/// How a delivery begins.
pub(super) enum Beginning {
    /// It can be claimed at once.
    Due,
    /// It is behind another of its line.
    Blocked,
    /// It gathers a burst.
    Gathering {
        /// Until when, if nothing else comes.
        due: Timestamp,
        /// Until when at the latest.
        closes: Timestamp,
        /// What its steps will see of it.
        keep: Keep,
    },
    /// A newer one was there before it.
    Superseded {
        /// Which.
        by: i64,
    },
    /// It is given up from the start, and in no line.
    Dead(Failure),
    /// The same, and there are steps that tell of it.
    OnFailure {
        /// Why.
        failure: Failure,
        /// The instance that the first of them uses.
        instance: String,
    },
}

impl Store<'_> {
    /// Writes a request, its event, its dedup key and its deliveries, or finds the event that was first.
    pub(super) fn append(&mut self, new: &NewEvent) -> Result<Committed, Fault> {
        if let Some(key) = &new.dedup
            && let Some((seq, event)) = self.first_with(&new.source, key, new.received)?
        {
            self.cached("INSERT INTO duplicate (event, received) VALUES (?, ?)")?
                .execute(params![seq, new.received.as_millis()])?;
            self.tally("duplicate", 1);
            return Ok(Committed {
                event,
                duplicate: true,
                deliveries: Vec::new(),
            });
        }
        let rules = self.rules(&new.generation)?;
        let seq = self.insert_event(new, rules)?;
        let origin = Origin {
            created: new.received,
            rules,
            parent: None,
            key_root: None,
            arrives: true,
        };
        let deliveries = new
            .owed
            .iter()
            .map(|owed| self.owe_arrival(owed, seq, new.time, &origin))
            .collect::<rusqlite::Result<_>>()?;
        Ok(Committed {
            event: new.id,
            duplicate: false,
            deliveries,
        })
    }

    /// The event that has the key, where its window is not over.
    fn first_with(
        &self,
        source: &str,
        key: &Key,
        now: Timestamp,
    ) -> rusqlite::Result<Option<(i64, EventId)>> {
        for seq in self.dedup.candidates(key.hash, self.marks.event) {
            let found: Option<String> = self
                .cached(
                    "SELECT id FROM event WHERE seq = ? AND dedup = ? AND source = ? AND dedup_until > ?",
                )?
                .query_row(params![seq, key.text, source, now.as_millis()], |row| row.get(0))
                .optional()?;
            if let Some(id) = found {
                return Ok(Some((seq, super::row::id(&id)?)));
            }
        }
        Ok(None)
    }

    fn insert_event(&mut self, new: &NewEvent, rules: i64) -> Result<i64, Fault> {
        let seq = self.marks.event + 1;
        self.insert.event.execute(params![
            seq,
            new.id_text,
            new.received.as_millis(),
            new.source,
            new.kind,
            rules,
            new.dedup.as_ref().map(|key| &key.text),
            new.dedup.as_ref().map(|key| key.until),
            new.headers,
            new.envelope,
        ])?;
        self.insert.request.execute(params![seq, &new.body[..]])?;
        self.marks.event = seq;
        self.tally("event", 1);
        if let Some(key) = &new.dedup {
            self.dedup.insert(Entry {
                hash: key.hash,
                event: seq,
                until: key.until,
            });
        }
        Ok(seq)
    }

    /// Writes one delivery of `events`, which neither gathers nor replaces: due at once, or behind the one before it
    /// of its order key, or given up where it could not be told which key or deadline it has.
    pub(super) fn owe(
        &mut self,
        owed: &Owed,
        events: &[i64],
        origin: &Origin<'_>,
    ) -> rusqlite::Result<DeliveryId> {
        let events: Vec<_> = events.iter().map(|event| (*event, None)).collect();
        let beginning = match (stillborn(owed), &owed.order) {
            (Some(stillborn), _) => stillborn,
            (None, Ok(Some(key))) => self.turn(&owed.route, key)?,
            (None, Ok(None) | Err(_)) => Beginning::Due,
        };
        self.insert_delivery(owed, &events, origin, beginning)
    }

    /// Writes one delivery of `events`, each with the time by which it is the newest, where its line goes by that.
    pub(super) fn insert_delivery(
        &mut self,
        owed: &Owed,
        events: &[(i64, Option<i64>)],
        origin: &Origin<'_>,
        beginning: Beginning,
    ) -> rusqlite::Result<DeliveryId> {
        let id = DeliveryId::new(origin.created, fastrand::u128(..));
        let seq = self.marks.delivery + 1;
        let created = origin.created.as_millis();
        let first = Row::new(beginning);
        let key = owed.order.as_ref().ok().and_then(Option::as_deref);
        let deadline = owed.deadline.as_ref().ok().copied().flatten();
        self.insert.delivery.execute(params![
            seq,
            id.to_string(),
            owed.route,
            origin.rules,
            created,
            origin.parent,
            origin.key_root,
            // One that is given up from the start is in no line, also where it was only its deadline that could not be told.
            key.filter(|_| first.failure.is_none()),
            owed.instance,
            first.instance.as_ref().unwrap_or(&owed.instance),
            super::row::phase(first.phase),
            first.state.word(),
            first.due,
            first.failure.as_ref().map(super::row::failure),
            first.state.is_settled().then_some(created),
            first.reason.map(Reason::code),
            (owed.line.supersede && origin.arrives).then_some(1),
            first.keep.map(Keep::word),
            first.closes,
            first.successor,
            deadline.map(|deadline| deadline.of(origin.created).as_millis()),
        ])?;
        for (event, time) in events {
            self.insert.delivery_event.execute(params![seq, event, time])?;
        }
        self.marks.delivery = seq;
        self.entered(first.state);
        // What is behind another may have a deadline that is to be waited for.
        self.wake |= first.due.is_some() || deadline.is_some();
        Ok(id)
    }
}

/// The columns that differ with how a delivery begins.
struct Row {
    phase: Phase,
    /// Of the first step that is made, where that is not the first of all.
    instance: Option<String>,
    state: State,
    due: Option<i64>,
    reason: Option<Reason>,
    keep: Option<Keep>,
    closes: Option<i64>,
    successor: Option<i64>,
    failure: Option<Failure>,
}

impl Row {
    fn new(beginning: Beginning) -> Self {
        let plain = Self {
            phase: Phase::Steps,
            instance: None,
            state: State::Pending,
            due: None,
            reason: None,
            keep: None,
            closes: None,
            successor: None,
            failure: None,
        };
        match beginning {
            Beginning::Due => Self {
                due: Some(0),
                ..plain
            },
            Beginning::Blocked => plain,
            Beginning::Gathering { due, closes, keep } => Self {
                state: State::Waiting,
                due: Some(due.min(closes).as_millis()),
                reason: Some(Reason::Coalescing),
                keep: Some(keep),
                closes: Some(closes.as_millis()),
                ..plain
            },
            Beginning::Superseded { by } => Self {
                state: State::Superseded,
                reason: Some(Reason::Superseded),
                successor: Some(by),
                ..plain
            },
            Beginning::Dead(failure) => Self {
                state: State::Dead,
                failure: Some(failure),
                ..plain
            },
            Beginning::OnFailure { failure, instance } => Self {
                phase: Phase::OnFailure,
                instance: Some(instance),
                due: Some(0),
                failure: Some(failure),
                ..plain
            },
        }
    }
}

/// How a delivery begins that is given up from the start: it could not be told which line it belongs to, or until when it is of
/// use.
fn stillborn(owed: &Owed) -> Option<Beginning> {
    let failure = |reason| {
        move |error: &String| Failure {
            step: None,
            reason,
            error: error.clone(),
        }
    };
    let order = owed.order.as_ref().err();
    let deadline = owed.deadline.as_ref().err();
    let failure = order
        .map(failure(Reason::OrderKeyFailed))
        .or_else(|| deadline.map(failure(Reason::DeadlineFailed)))?;
    Some(match owed.on_failure.clone() {
        Some(instance) => Beginning::OnFailure { failure, instance },
        None => Beginning::Dead(failure),
    })
}
