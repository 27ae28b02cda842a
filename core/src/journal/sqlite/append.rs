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
    delivery::State,
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
            ..
        } = *routed.event;
        Self {
            id,
            id_text: id.to_string(),
            received,
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
        };
        let deliveries = new
            .owed
            .iter()
            .map(|owed| self.owe(owed, &[seq], &origin))
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

    /// Writes one delivery of `events`: due at once, or behind the one before it of its order key, or dead where
    /// it could not be told which key that is.
    pub(super) fn owe(
        &mut self,
        owed: &Owed,
        events: &[i64],
        origin: &Origin<'_>,
    ) -> rusqlite::Result<DeliveryId> {
        let id = DeliveryId::new(origin.created, fastrand::u128(..));
        let seq = self.marks.delivery + 1;
        let created = origin.created.as_millis();
        let (key, failure) = match &owed.order {
            Ok(key) => (key.as_deref(), None),
            Err(error) => (
                None,
                Some(Failure {
                    step: None,
                    reason: Reason::OrderKeyFailed,
                    error: error.clone(),
                }),
            ),
        };
        let blocked = match key {
            Some(key) => self.is_taken(&owed.route, key)?,
            None => false,
        };
        let state = if failure.is_some() {
            State::Dead
        } else {
            State::Pending
        };
        let due = (state == State::Pending && !blocked).then_some(0);
        self.insert.delivery.execute(params![
            seq,
            id.to_string(),
            owed.route,
            origin.rules,
            created,
            origin.parent,
            origin.key_root,
            key,
            owed.instance,
            state.word(),
            due,
            failure.as_ref().map(super::row::failure),
            failure.is_some().then_some(created),
        ])?;
        for event in events {
            self.insert.delivery_event.execute([seq, *event])?;
        }
        self.marks.delivery = seq;
        self.tally(state.word(), 1);
        self.wake |= due.is_some();
        Ok(id)
    }

    /// Whether a delivery of the route and key is not settled.
    fn is_taken(&self, route: &str, key: &str) -> rusqlite::Result<bool> {
        self.cached(
            "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_key \
             WHERE route = ? AND order_key = ? AND settled IS NULL)",
        )?
        .query_row([route, key], |row| row.get(0))
    }
}
