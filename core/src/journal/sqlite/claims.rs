//! What a dispatcher gets for a claimed delivery, read beside the writer; and when to come back.

use std::collections::BTreeMap;

use bytes::Bytes;
use jackfield_event::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{history::event_json, row, writer::text};
use crate::{
    delivery::Keep,
    journal::{Claim, Taken},
    reason::Reason,
    router::GenerationId,
};

/// The deliveries that were claimed, as far as they can be read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) claims: Vec<Claim>,
    /// The rows that cannot, and why.
    pub(super) damaged: Vec<(i64, String)>,
}

/// Reads the deliveries that were claimed.
pub(super) fn read(connection: &Connection, claimed: &[i64]) -> Read {
    let mut read = Read::default();
    for seq in claimed {
        match claim(connection, *seq) {
            Ok(claim) => read.claims.push(claim),
            Err(error) => read.damaged.push((*seq, text(&error))),
        }
    }
    read
}

fn claim(connection: &Connection, seq: i64) -> rusqlite::Result<Claim> {
    connection
        .prepare_cached(
            "SELECT id, route, (SELECT hash FROM rules WHERE rules.seq = delivery.rules) AS generation, \
             coalesce(key_root, id) AS key_root, phase, step, attempts, deadline, stalled, detail, failure, keep, key_roots, \
             EXISTS (SELECT 1 FROM attempt WHERE delivery = delivery.seq AND attempt.phase = delivery.phase \
             AND attempt.step = delivery.step AND attempt.reason = 'plugin-crashed') AS crashed \
             FROM delivery WHERE seq = ?",
        )?
        .query_row([seq], |row| {
            let step: i64 = row.get("step")?;
            Ok(Claim {
                delivery: row::id_at(row, "id")?,
                route: row.get("route")?,
                generation: GenerationId(row.get("generation")?),
                events: events(connection, seq, row.get_ref("keep")?.as_str_or_null()?)?,
                key_root: row.get("key_root")?,
                key_roots: row::maybe_json_at(row, "key_roots")?.unwrap_or_default(),
                phase: row::word_at(row, "phase")?,
                step: usize::try_from(step).unwrap_or(0),
                attempts: row.get("attempts")?,
                crashed: row.get("crashed")?,
                deadline: row::maybe_time_at(row, "deadline")?,
                waited_for: match row.get("detail")? {
                    None => stood_behind(connection, seq)?,
                    detail => detail,
                },
                stalled_since: row.get::<_, Option<i64>>("stalled")?.and_then(Timestamp::from_millis),
                outputs: outputs(connection, seq, row.get_ref("phase")?.as_str()?, step)?,
                taken: taken(connection, seq, step)?,
                failure: row::maybe_json_at(row, "failure")?,
            })
        })
}

/// In words, the delivery behind which one with a deadline stands, if it does: it was claimed for that.
fn stood_behind(connection: &Connection, seq: i64) -> rusqlite::Result<Option<String>> {
    let older: Option<String> = connection
        .prepare_cached(
            "SELECT head.id FROM delivery JOIN delivery AS head INDEXED BY delivery_head ON head.route = delivery.route \
             AND head.order_key = delivery.order_key AND (head.held = 1 OR head.lease IS NOT NULL \
             OR (head.due IS NOT NULL AND head.closes IS NULL)) \
             WHERE delivery.seq = ? AND delivery.deadline IS NOT NULL AND head.seq <> delivery.seq ORDER BY head.seq LIMIT 1",
        )?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    Ok(older.map(|older| format!("it stood behind {older} of its order key")))
}

/// The events of a delivery, the newest last; where `keep` says so, the newest alone.
fn events(connection: &Connection, delivery: i64, keep: Option<&str>) -> rusqlite::Result<Vec<Bytes>> {
    let most = match keep {
        Some(keep) if keep == Keep::Newest.word() => 1,
        Some(_) | None => i64::MAX,
    };
    let mut events: Vec<Bytes> = connection
        .prepare_cached(
            "SELECT event FROM delivery_event WHERE delivery = ? ORDER BY time DESC, event DESC LIMIT ?",
        )?
        .query_and_then([delivery, most], |row| {
            Ok(event_json(connection, row.get(0)?)?.into())
        })?
        .collect::<rusqlite::Result<_>>()?;
    events.reverse();
    Ok(events)
}

/// What the steps before `step` put out that were done.
fn outputs(
    connection: &Connection,
    delivery: i64,
    phase: &str,
    step: i64,
) -> rusqlite::Result<BTreeMap<String, Bytes>> {
    if step == 0 {
        return Ok(BTreeMap::new());
    }
    connection
        .prepare_cached(
            "SELECT step_id, output FROM attempt WHERE delivery = ? AND phase = ? AND step < ? AND outcome = 'done' \
             AND output IS NOT NULL",
        )?
        .query_map(params![delivery, phase, step], |row| Ok((row.get(0)?, row.get::<_, String>(1)?.into())))?
        .collect()
}

/// The steps from `step` on that a replay does not make, since what became of them is known.
fn taken(connection: &Connection, delivery: i64, step: i64) -> rusqlite::Result<BTreeMap<usize, Taken>> {
    connection
        .prepare_cached(
            "SELECT step, step_id, outcome, output, reason FROM attempt WHERE delivery = ? AND phase = 'steps' \
             AND step >= ? AND attempt = 0 AND reason IN (?, ?)",
        )?
        .query_map(
            params![delivery, step, Reason::TakenOver.code(), Reason::Resolved.code()],
            |row| {
                let step = usize::try_from(row.get::<_, i64>("step")?).unwrap_or(0);
                let taken = Taken {
                    step,
                    step_id: row.get("step_id")?,
                    outcome: row::word_at(row, "outcome")?,
                    output: row.get::<_, Option<String>>("output")?.map(Bytes::from),
                    resolved: row::word_at::<Reason>(row, "reason")? == Reason::Resolved,
                };
                Ok((step, taken))
            },
        )?
        .collect()
}

/// When the next waiting delivery is due after `now`, or the next claim runs out.
pub(super) fn next_due(connection: &Connection, now: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
    let mut next: Option<i64> = connection
        .prepare_cached("SELECT min(lease) FROM delivery INDEXED BY delivery_lease WHERE lease IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    let deadline: Option<i64> = connection
        .prepare_cached(
            "SELECT deadline FROM delivery INDEXED BY delivery_deadline WHERE deadline IS NOT NULL AND settled IS NULL \
             AND phase = 'steps' AND lease IS NULL AND reason IS NOT 'unreadable' ORDER BY deadline LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?;
    next = deadline.into_iter().chain(next).min();
    // One seek for each instance, as in a claim.
    let mut instance = connection.prepare_cached(
        "SELECT instance FROM delivery INDEXED BY delivery_due WHERE due IS NOT NULL AND instance > ? \
         ORDER BY instance LIMIT 1",
    )?;
    let mut due = connection.prepare_cached(
        "SELECT due FROM delivery INDEXED BY delivery_due WHERE instance = ? AND due > ? ORDER BY due LIMIT 1",
    )?;
    let mut after = String::new();
    while let Some(name) = instance
        .query_row([&after], |row| row.get::<_, String>(0))
        .optional()?
    {
        let first: Option<i64> = match rests_until(connection, &name, now)? {
            Some(until) => Some(until),
            None => due
                .query_row(params![name, now.as_millis()], |row| row.get(0))
                .optional()?,
        };
        next = first.into_iter().chain(next).min();
        after = name;
    }
    Ok(next.and_then(Timestamp::from_millis))
}

/// Until when the bucket of an instance rests, as far as that is in the future.
fn rests_until(connection: &Connection, instance: &str, now: Timestamp) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT rests FROM bucket WHERE name = ? AND rests > ?")?
        .query_row(params![instance, now.as_millis()], |row| row.get(0))
        .optional()
}
