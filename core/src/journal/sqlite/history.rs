//! What people read: events, deliveries and what became of them.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::{DeliveryId, EventId, Timestamp, join_payload};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter, types::Type};

use super::{OpenError, pool::Pool, ring, row, rules, schema};
use crate::{
    clock::Clock,
    delivery::{Keep, State},
    journal::{
        AttemptRecord, Counts, DeliveryFilter, DeliveryMark, DeliveryRecord, DeliveryStory, DiskUse,
        EventFilter, EventRecord, EventStory, Gathered, GenerationRecord, History, JournalError, Kept,
        KeptReceipt, Order, RejectionRecord, RequestRecord, Rest, RoutedEvent, Stretch,
    },
    reason::Reason,
    router::GenerationId,
};

/// A journal to read: beside a running router, after its end, or after a kill.
#[derive(Clone, Debug)]
pub struct SqliteHistory {
    pub(super) pool: Arc<Pool>,
    pub(super) clock: Arc<dyn Clock>,
    directory: Arc<Path>,
}

impl SqliteHistory {
    /// Opens the journal in `directory`.
    ///
    /// # Errors
    ///
    /// Where there is none, or it is another version's.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Ok(Self {
            pool: Pool::open(directory)?,
            clock,
            directory: directory.into(),
        })
    }
}

#[async_trait]
impl History for SqliteHistory {
    async fn events(&self, filter: EventFilter) -> Result<Vec<EventRecord>, JournalError> {
        self.pool
            .read(move |connection| events(connection, &filter))
            .await
    }

    async fn stretch(&self, stretch: Stretch) -> Result<Vec<RoutedEvent>, JournalError> {
        self.pool
            .read(move |connection| self::stretch(connection, &stretch))
            .await
    }

    async fn event_count(&self, since: Option<Timestamp>) -> Result<u64, JournalError> {
        self.pool
            .read(move |connection| event_count(connection, since))
            .await
    }

    async fn event(&self, id: EventId) -> Result<Option<EventStory>, JournalError> {
        self.pool.read(move |connection| event(connection, id)).await
    }

    async fn event_request(&self, id: EventId) -> Result<Option<RequestRecord>, JournalError> {
        self.pool.read(move |connection| request(connection, id)).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, JournalError> {
        let now = self.clock.now();
        self.pool
            .read(move |connection| {
                let mut records = deliveries(connection, &filter)?;
                for record in &mut records {
                    tell_rest(connection, record, now)?;
                }
                Ok(records)
            })
            .await
    }

    async fn delivery_count(&self, filter: DeliveryFilter) -> Result<u64, JournalError> {
        self.pool
            .read(move |connection| delivery_count(connection, &filter))
            .await
    }

    async fn states(&self, deliveries: Vec<DeliveryId>) -> Result<BTreeMap<DeliveryId, State>, JournalError> {
        self.pool
            .read(move |connection| states(connection, &deliveries))
            .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryStory>, JournalError> {
        let now = self.clock.now();
        self.pool
            .read(move |connection| {
                let mut story = delivery(connection, id)?;
                if let Some(story) = &mut story {
                    tell_rest(connection, &mut story.record, now)?;
                }
                Ok(story)
            })
            .await
    }

    async fn disk_use(&self) -> Result<DiskUse, JournalError> {
        let log = schema::log_file(&self.directory);
        self.pool.read(move |connection| disk_use(connection, &log)).await
    }

    async fn counts(&self) -> Result<Counts, JournalError> {
        self.pool.read(counts).await
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<RejectionRecord>, JournalError> {
        let directory = Arc::clone(&self.directory);
        // Not a query, but as blocking as one.
        self.pool.read(move |_| Ok(ring::read(&directory, limit))).await
    }

    async fn rules(&self, generation: &GenerationId) -> Result<Option<String>, JournalError> {
        let hash = generation.0.clone();
        self.pool
            .read(move |connection| rules::text(connection, &hash))
            .await
    }

    async fn generations(&self, limit: usize) -> Result<Vec<GenerationRecord>, JournalError> {
        self.pool
            .read(move |connection| generations(connection, limit))
            .await
    }

    async fn generations_like(&self, prefix: &str) -> Result<Vec<GenerationId>, JournalError> {
        let prefix = prefix.to_owned();
        self.pool
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT hash FROM rules WHERE substr(hash, 1, length(?1)) = ?1 LIMIT 2")?
                    .query_map([prefix], |row| Ok(GenerationId(row.get(0)?)))?
                    .collect()
            })
            .await
    }

    async fn rests(&self) -> Result<BTreeMap<String, Rest>, JournalError> {
        let now = self.clock.now();
        self.pool.read(move |connection| rests(connection, now)).await
    }

    async fn unsettled_generations(&self) -> Result<Vec<GenerationId>, JournalError> {
        self.pool.read(unsettled_generations).await
    }

    async fn kv_get(&self, instance: &str, key: &str) -> Result<Option<Bytes>, JournalError> {
        let (instance, key, now) = (instance.to_owned(), key.to_owned(), self.clock.now().as_millis());
        self.pool
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT value FROM kv WHERE instance = ? AND key = ? AND (expires IS NULL OR expires > ?)",
                    )?
                    .query_row(params![instance, key, now], |row| row.get::<_, Vec<u8>>(0))
                    .optional()
            })
            .await
            .map(|value| value.map(Bytes::from))
    }

    async fn receipt(&self, idempotency_key: &str) -> Result<Option<KeptReceipt>, JournalError> {
        let key = idempotency_key.to_owned();
        self.pool
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT stage = 'done', body FROM receipt WHERE key = ?")?
                    .query_row([key], |row| {
                        Ok(KeptReceipt {
                            done: row.get(0)?,
                            body: row.get::<_, Vec<u8>>(1)?.into(),
                        })
                    })
                    .optional()
            })
            .await
    }
}

/// A query that is put together of what a filter asks for.
struct Query {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Query {
    fn new(sql: &str) -> Self {
        Self {
            sql: format!("{sql} WHERE TRUE"),
            values: Vec::new(),
        }
    }

    fn and(&mut self, condition: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            let _ = write!(self.sql, " AND {condition}");
        }
    }

    /// Begins where events of that moment do: their ids sort by time, and have an index, which bounds the walk.
    fn from(&mut self, since: Option<Timestamp>) {
        let since = since.map(|since| EventId::new(since, 0).to_string());
        self.and("seq >= (SELECT min(seq) FROM event WHERE id >= ?)", since);
    }

    fn newest<T>(
        self,
        connection: &Connection,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.ordered(connection, "DESC", limit, read, |_| false)
    }

    fn oldest<T>(
        self,
        connection: &Connection,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.oldest_until(connection, limit, read, |_| false)
    }

    /// Reads none beyond the first that is enough.
    fn oldest_until<T>(
        self,
        connection: &Connection,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
        is_enough: impl FnMut(&T) -> bool,
    ) -> rusqlite::Result<Vec<T>> {
        self.ordered(connection, "ASC", limit, read, is_enough)
    }

    fn ordered<T>(
        mut self,
        connection: &Connection,
        order: &str,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
        mut is_enough: impl FnMut(&T) -> bool,
    ) -> rusqlite::Result<Vec<T>> {
        let _ = write!(
            self.sql,
            " ORDER BY seq {order} LIMIT {limit}",
            limit = limit.min(MOST)
        );
        let mut statement = connection.prepare_cached(&self.sql)?;
        let mut list = Vec::new();
        for found in statement.query_map(params_from_iter(self.values), read)? {
            list.push(found?);
            if list.last().is_some_and(&mut is_enough) {
                break;
            }
        }
        Ok(list)
    }
}

fn events(connection: &Connection, filter: &EventFilter) -> rusqlite::Result<Vec<EventRecord>> {
    let mut query = Query::new(EVENT);
    query.from(filter.since);
    query.and("received >= ?", filter.since.map(Timestamp::as_millis));
    query.and(
        "seq < (SELECT seq FROM event WHERE id = ?)",
        filter.before.map(|id| id.to_string()),
    );
    query.and("source = ?", filter.source.clone());
    query.and("type = ?", filter.kind.clone());
    query.newest(connection, filter.limit, |row| event_record(connection, row))
}

fn stretch(connection: &Connection, stretch: &Stretch) -> rusqlite::Result<Vec<RoutedEvent>> {
    let mut query =
        Query::new("SELECT seq, id, envelope, body FROM event JOIN request ON request.event = event.seq");
    match stretch.after {
        Some(place) => query.and("seq > ?", Some(i64::try_from(place).unwrap_or(i64::MAX))),
        None => query.from(stretch.since),
    }
    query.and("received >= ?", stretch.since.map(Timestamp::as_millis));
    let read = |row: &Row<'_>| {
        Ok(RoutedEvent {
            place: unsigned(row.get("seq")?),
            id: row::id_at(row, "id")?,
            envelope: row.get("envelope")?,
            payload: row.get::<_, Vec<u8>>("body")?.into(),
        })
    };
    let mut bytes = 0;
    query.oldest_until(connection, stretch.limit, read, |event| {
        bytes += event.envelope.len() + event.payload.len();
        bytes >= stretch.bytes
    })
}

fn event_count(connection: &Connection, since: Option<Timestamp>) -> rusqlite::Result<u64> {
    let mut query = Query::new("SELECT count(*) FROM event");
    query.from(since);
    query.and("received >= ?", since.map(Timestamp::as_millis));
    let mut statement = connection.prepare_cached(&query.sql)?;
    statement.query_row(params_from_iter(query.values), |row| row.get(0).map(unsigned))
}

fn event(connection: &Connection, id: EventId) -> rusqlite::Result<Option<EventStory>> {
    connection
        .prepare_cached(&format!("{EVENT} WHERE id = ?"))?
        .query_row([id.to_string()], |row| {
            let record = event_record(connection, row)?;
            let (kept, json) = event_as_kept(connection, row.get("seq")?)?;
            Ok(EventStory {
                record,
                dedup: row.get("dedup")?,
                kept,
                event: row::raw(row::json(&json).into_owned()),
            })
        })
        .optional()
}

fn event_record(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<EventRecord> {
    let seq: i64 = row.get("seq")?;
    let deliveries = connection
        .prepare_cached(
            "SELECT id, route, state FROM delivery_event JOIN delivery ON delivery.seq = delivery_event.delivery \
             WHERE event = ? ORDER BY delivery",
        )?
        .query_map([seq], |row| {
            Ok(DeliveryMark {
                id: row::id_at(row, "id")?,
                route: row.get("route")?,
                state: row::word_at(row, "state")?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(EventRecord {
        id: row::id_at(row, "id")?,
        received: row::time_at(row, "received")?,
        source: row.get("source")?,
        provider: row.get("provider")?,
        kind: row.get("type")?,
        subject: row.get("subject")?,
        title: row.get("title")?,
        generation: GenerationId(row.get("generation")?),
        duplicates: unsigned(row.get("duplicates")?),
        deliveries,
    })
}

/// An event's JSON with its payload.
pub(super) fn event_json(connection: &Connection, event: i64) -> rusqlite::Result<Vec<u8>> {
    connection
        .prepare_cached(
            "SELECT envelope, body FROM event JOIN request ON request.event = event.seq WHERE seq = ?",
        )?
        .query_row([event], |row| {
            let (envelope, body) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?);
            join_payload(envelope.as_bytes(), body)
                .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
        })
}

/// How much of an event that is there is kept.
pub(super) fn kept(connection: &Connection, event: i64) -> rusqlite::Result<Kept> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM request WHERE event = event.seq), emptied IS NOT NULL FROM event WHERE seq = ?",
        )?
        .query_row([event], |row| {
            Ok(match (row.get(0)?, row.get(1)?) {
                (true, _) => Kept::Whole,
                (false, false) => Kept::WithoutPayload,
                (false, true) => Kept::Outline,
            })
        })
}

/// An event's JSON with its payload, as far as either is there.
fn event_as_kept(connection: &Connection, event: i64) -> rusqlite::Result<(Kept, Vec<u8>)> {
    let kept = kept(connection, event)?;
    let json = match kept {
        Kept::Whole => event_json(connection, event)?,
        Kept::WithoutPayload | Kept::Outline => connection
            .prepare_cached("SELECT CAST(envelope AS BLOB) FROM event WHERE seq = ?")?
            .query_row([event], |row| row.get(0))?,
    };
    Ok((kept, json))
}

/// What is no longer kept of the events of a delivery, in words.
pub(super) fn missing_of_delivery(
    connection: &Connection,
    delivery: i64,
) -> rusqlite::Result<Option<String>> {
    let gone: Option<i64> = connection
        .prepare_cached("SELECT gone FROM delivery WHERE seq = ?")?
        .query_row([delivery], |row| row.get(0))?;
    let events: Vec<(i64, String)> = connection
        .prepare_cached(
            "SELECT seq, id FROM delivery_event JOIN event ON event.seq = delivery_event.event WHERE delivery = ? ORDER BY seq",
        )?
        .query_map([delivery], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if let Some(gone) = gone {
        let all = i64::try_from(events.len())
            .unwrap_or(i64::MAX)
            .saturating_add(gone);
        let are = if gone == 1 { "is" } else { "are" };
        let words = format!(
            "{gone} of its {all} events {are} no longer kept at all (`outcomes` in `[retention]` says how long)"
        );
        return Ok(Some(words));
    }
    for (event, id) in events {
        if let Some(missing) = kept(connection, event)?.missing() {
            return Ok(Some(format!("of its event {id}, {missing}")));
        }
    }
    Ok(None)
}

fn request(connection: &Connection, id: EventId) -> rusqlite::Result<Option<RequestRecord>> {
    connection
        .prepare_cached(
            "SELECT received, headers, body FROM event JOIN request ON request.event = event.seq WHERE id = ?",
        )?
        .query_row([id.to_string()], |row| {
            Ok(RequestRecord {
                received: row::time_at(row, "received")?,
                headers: serde_json::from_str(row.get_ref("headers")?.as_str()?)
                    .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))?,
                body: row.get::<_, Vec<u8>>("body")?.into(),
            })
        })
        .optional()
}

fn deliveries(connection: &Connection, filter: &DeliveryFilter) -> rusqlite::Result<Vec<DeliveryRecord>> {
    let query = filtered(DELIVERY, filter);
    let read = |row: &Row<'_>| delivery_record(connection, row);
    match filter.order {
        Order::Newest => query.newest(connection, filter.limit, read),
        Order::Oldest => query.oldest(connection, filter.limit, read),
    }
}

fn delivery_count(connection: &Connection, filter: &DeliveryFilter) -> rusqlite::Result<u64> {
    let query = filtered("SELECT count(*) FROM delivery", filter);
    let mut statement = connection.prepare_cached(&query.sql)?;
    statement.query_row(params_from_iter(query.values), |row| row.get(0).map(unsigned))
}

/// The deliveries that pass the filter.
fn filtered(sql: &str, filter: &DeliveryFilter) -> Query {
    let mut query = Query::new(sql);
    // Words of ours; that of the dead stands alone, so that their index can be used.
    match filter.states.as_slice() {
        [] => {}
        [state] => {
            let _ = write!(query.sql, " AND state = '{}'", state.word());
        }
        states => {
            let words: Vec<_> = states.iter().map(|state| format!("'{}'", state.word())).collect();
            let _ = write!(query.sql, " AND state IN ({})", words.join(", "));
        }
    }
    if filter.unreplayed {
        query.sql.push_str(
            " AND NOT EXISTS (SELECT 1 FROM delivery AS replay WHERE replay.parent = delivery.seq)",
        );
    }
    let since = filter.since.map(|since| DeliveryId::new(since, 0).to_string());
    query.and("seq >= (SELECT min(seq) FROM delivery WHERE id >= ?)", since);
    query.and("created >= ?", filter.since.map(Timestamp::as_millis));
    query.and("created < ?", filter.until.map(Timestamp::as_millis));
    query.and(
        "seq < (SELECT seq FROM delivery WHERE id = ?)",
        filter.before.map(|id| id.to_string()),
    );
    query.and(
        "seq > (SELECT seq FROM delivery WHERE id = ?)",
        filter.after.map(|id| id.to_string()),
    );
    query.and("route = ?", filter.route.clone());
    query.and(
        "coalesce(failure ->> '$.reason', reason) = ?",
        filter.reason.map(Reason::code),
    );
    query.and(
        "seq IN (SELECT delivery FROM delivery_event WHERE event = (SELECT seq FROM event WHERE id = ?))",
        filter.event.map(|id| id.to_string()),
    );
    query.and(
        &format!("{OF_AN_EVENT} AND event.source = ?)"),
        filter.source.clone(),
    );
    query.and(&format!("{OF_AN_EVENT} AND event.type = ?)"), filter.kind.clone());
    query
}

fn states(
    connection: &Connection,
    deliveries: &[DeliveryId],
) -> rusqlite::Result<BTreeMap<DeliveryId, State>> {
    let mut state = connection.prepare_cached("SELECT state FROM delivery WHERE id = ?")?;
    let mut states = BTreeMap::new();
    for id in deliveries {
        let found = state.query_row([id.to_string()], |row| row::word_at(row, "state"));
        states.extend(found.optional()?.map(|state| (*id, state)));
    }
    Ok(states)
}

fn delivery(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Option<DeliveryStory>> {
    connection
        .prepare_cached(&format!("{DELIVERY} WHERE id = ?"))?
        .query_row([id.to_string()], |row| {
            Ok(DeliveryStory {
                record: delivery_record(connection, row)?,
                missing: missing_of_delivery(connection, row.get("seq")?)?,
                attempts: attempts(connection, row.get("seq")?)?,
            })
        })
        .optional()
}

fn delivery_record(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    let events: Vec<_> = connection
        .prepare_cached(
            "SELECT id FROM delivery_event JOIN event ON event.seq = delivery_event.event WHERE delivery = ? \
             ORDER BY time, seq",
        )?
        .query_map([row.get::<_, i64>("seq")?], |row| row::id_at(row, "id"))?
        .collect::<rusqlite::Result<_>>()?;
    let gone = row.get::<_, Option<i64>>("gone")?.map_or(0, unsigned);
    let gathers = row.get::<_, Option<i64>>("closes")?.is_some();
    let keep = row::maybe_word_at::<Keep>(row, "keep")?;
    let replays = connection
        .prepare_cached("SELECT id FROM delivery WHERE parent = ? ORDER BY seq")?
        .query_map([row.get::<_, i64>("seq")?], |row| row::id_at(row, "id"))?
        .collect::<rusqlite::Result<_>>()?;
    let state: State = row::word_at(row, "state")?;
    let due: Option<i64> = row.get("due")?;
    Ok(DeliveryRecord {
        id: row::id_at(row, "id")?,
        route: row.get("route")?,
        generation: GenerationId(row.get("generation")?),
        gathered: keep.and_then(|keep| Gathered::of(&events, gone, keep, gathers)),
        events,
        parent: row
            .get::<_, Option<String>>("parent_id")?
            .map(|id| row::id(&id))
            .transpose()?,
        successor: row
            .get::<_, Option<String>>("successor_id")?
            .map(|id| row::id(&id))
            .transpose()?,
        asked: row::maybe_json_at(row, "asked")?,
        replays,
        cancel: row::maybe_json_at(row, "cancel")?,
        order_key: row.get("order_key")?,
        deadline: row::maybe_time_at(row, "deadline")?,
        state,
        held: row.get::<_, Option<i64>>("held")? == Some(1),
        blocked: state == State::Pending && due.is_none(),
        phase: row::word_at(row, "phase")?,
        step: usize::try_from(row.get::<_, i64>("step")?).unwrap_or(0),
        attempts: row.get("attempts")?,
        instance: row.get("instance")?,
        created: row::time_at(row, "created")?,
        due: match due {
            Some(0) => None,
            _ => row::maybe_time_at(row, "due")?,
        },
        reason: row::maybe_word_at(row, "reason")?,
        detail: row.get("detail")?,
        failure: row::maybe_json_at(row, "failure")?,
        settled: row::maybe_time_at(row, "settled")?,
    })
}

fn attempts(connection: &Connection, delivery: i64) -> rusqlite::Result<Vec<AttemptRecord>> {
    let json = |row: &Row<'_>, column| -> rusqlite::Result<_> {
        Ok(row.get::<_, Option<String>>(column)?.map(row::raw))
    };
    connection
        .prepare_cached(
            "SELECT *, phase = 'steps' AND outcome IS 'done' AND attempt > 0 AND trace IS NOT (SELECT trace FROM attempt \
             AS earlier WHERE earlier.delivery = attempt.delivery AND earlier.phase = attempt.phase \
             AND earlier.step < attempt.step AND earlier.outcome = 'done' AND earlier.attempt > 0 \
             ORDER BY earlier.step DESC LIMIT 1) AS files \
             FROM attempt WHERE delivery = ? ORDER BY phase = 'on-failure', step, attempt = 0, attempt",
        )?
        .query_map([delivery], |row| {
            Ok(AttemptRecord {
                phase: row::word_at(row, "phase")?,
                step: usize::try_from(row.get::<_, i64>("step")?).unwrap_or(0),
                step_id: row.get("step_id")?,
                attempt: Some(row.get("attempt")?).filter(|attempt| *attempt > 0),
                instance: row.get("instance")?,
                input: json(row, "input")?,
                started: row::time_at(row, "started")?,
                ended: row::maybe_time_at(row, "ended")?,
                outcome: row::maybe_word_at(row, "outcome")?,
                reason: row::maybe_word_at(row, "reason")?,
                message: row.get("message")?,
                output: json(row, "output")?,
                files: row.get("files")?,
            })
        })?
        .collect()
}

fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let mut counts = Counts::default();
    let mut tally = connection.prepare_cached("SELECT name, count FROM tally")?;
    let mut rows = tally.query([])?;
    while let Some(row) = rows.next()? {
        let count = unsigned(row.get(1)?);
        match row.get_ref(0)?.as_str()? {
            "event" => counts.events = count,
            "duplicate" => counts.duplicates = count,
            state => {
                counts.deliveries.insert(row::word::<State>(state)?.word(), count);
            }
        }
    }
    let oldest: Option<i64> = connection
        .prepare_cached(
            "SELECT min(created) FROM (SELECT (SELECT seq FROM delivery INDEXED BY delivery_due WHERE due = 0 \
             AND instance = queue.instance ORDER BY seq LIMIT 1) AS first FROM (SELECT DISTINCT instance FROM delivery \
             INDEXED BY delivery_due WHERE due = 0) AS queue) JOIN delivery ON delivery.seq = first",
        )?
        .query_row([], |row| row.get(0))?;
    counts.oldest_pending = oldest.and_then(Timestamp::from_millis);
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT received FROM event ORDER BY id LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    counts.oldest_event = oldest.and_then(Timestamp::from_millis);
    Ok(counts)
}

fn disk_use(connection: &Connection, log: &Path) -> rusqlite::Result<DiskUse> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0).map(unsigned));
    let page = pragma("page_size")?;
    Ok(DiskUse {
        database: pragma("page_count")? * page,
        free: pragma("freelist_count")? * page,
        // Gone after a clean end.
        log: log.metadata().map_or(0, |log| log.len()),
    })
}

pub(super) fn generations(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<GenerationRecord>> {
    connection
        .prepare_cached(
            "SELECT hash, since, cause, displaced, (SELECT since FROM in_force AS next WHERE next.seq > in_force.seq \
             ORDER BY next.seq LIMIT 1) AS until FROM in_force JOIN rules ON rules.seq = in_force.rules \
             ORDER BY in_force.seq DESC LIMIT ?",
        )?
        .query_map([i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX)], |row| {
            Ok(GenerationRecord {
                id: GenerationId(row.get("hash")?),
                since: row::time_at(row, "since")?,
                until: row::maybe_time_at(row, "until")?,
                cause: row::word_at(row, "cause")?,
                displaced: row.get::<_, Option<String>>("displaced")?.map(GenerationId),
            })
        })?
        .collect()
}

fn rests(connection: &Connection, now: Timestamp) -> rusqlite::Result<BTreeMap<String, Rest>> {
    connection
        .prepare_cached("SELECT name, rests, reason, detail FROM bucket WHERE rests > ?")?
        .query_map([now.as_millis()], |row| Ok((row.get("name")?, rest(row)?)))?
        .collect()
}

fn rest(row: &Row<'_>) -> rusqlite::Result<Rest> {
    Ok(Rest {
        until: row::time_at(row, "rests")?,
        reason: row::word_at(row, "reason")?,
        detail: row.get::<_, Option<String>>("detail")?.unwrap_or_default(),
    })
}

/// Says why a delivery that is due is not claimed, where its instance rests: nothing is written to those that wait for that.
fn tell_rest(connection: &Connection, record: &mut DeliveryRecord, now: Timestamp) -> rusqlite::Result<()> {
    if record.state != State::Pending || record.blocked {
        return Ok(());
    }
    let rests = connection
        .prepare_cached("SELECT rests, reason, detail FROM bucket WHERE name = ? AND rests > ?")?
        .query_row(params![record.instance, now.as_millis()], rest)
        .optional()?;
    if let Some(Rest {
        until,
        reason,
        detail,
    }) = rests
    {
        (record.due, record.reason, record.detail) = (Some(until), Some(reason), Some(detail));
    }
    Ok(())
}

fn unsettled_generations(connection: &Connection) -> rusqlite::Result<Vec<GenerationId>> {
    // A delivery that is not settled is due, claimed, or behind one of its key: each of these has an index.
    connection
        .prepare_cached(
            "SELECT hash FROM rules WHERE seq IN (SELECT rules FROM delivery WHERE due IS NOT NULL UNION \
             SELECT rules FROM delivery WHERE lease IS NOT NULL UNION \
             SELECT rules FROM delivery WHERE order_key IS NOT NULL AND settled IS NULL) ORDER BY seq",
        )?
        .query_map([], |row| Ok(GenerationId(row.get(0)?)))?
        .collect()
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

const EVENT: &str = "SELECT seq, id, received, dedup, source, type, envelope ->> '$.provider' AS provider, \
     envelope ->> '$.subject' AS subject, envelope ->> '$.data.title' AS title, \
     (SELECT hash FROM rules WHERE rules.seq = event.rules) AS generation, \
     (SELECT count(*) FROM duplicate WHERE duplicate.event = event.seq) AS duplicates FROM event";

const OF_AN_EVENT: &str = "EXISTS (SELECT 1 FROM delivery_event JOIN event ON event.seq = delivery_event.event \
     WHERE delivery_event.delivery = delivery.seq";

const DELIVERY: &str = "SELECT *, (SELECT hash FROM rules WHERE rules.seq = delivery.rules) AS generation, \
     (SELECT id FROM delivery AS parents WHERE parents.seq = delivery.parent) AS parent_id, \
     (SELECT id FROM delivery AS others WHERE others.seq = delivery.successor) AS successor_id FROM delivery";

/// A list longer than this is asked for in pages.
const MOST: usize = 10_000;
