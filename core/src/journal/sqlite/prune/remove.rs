//! Removes what was found, after another look, within the writer's transaction.

use rusqlite::{OptionalExtension as _, params};

use super::{Ages, Candidate, Layer, Piece, UNNEEDED_RULES, Verdict, WHOLE, forgotten, rules_cutoff};
use crate::{
    delivery::State,
    journal::{
        Pruned, Retention,
        sqlite::{job::Fault, row, store::Store},
    },
};

/// What came of a piece.
#[derive(Debug)]
pub(in super::super) struct Removed {
    pub(in super::super) pruned: Pruned,
    /// The first event that has not lost the layer yet, though it was found.
    pub(in super::super) left: Option<(Layer, i64)>,
}

impl Store<'_> {
    /// Removes a piece of what is too old or too much.
    pub(in super::super) fn remove(
        &mut self,
        piece: &Piece,
        retention: &Retention,
        now: i64,
    ) -> Result<Removed, Fault> {
        let mut ages = Ages {
            retention,
            share: WHOLE,
            now,
            forgotten: forgotten(self.connection)?,
        };
        let mut pruned = Pruned {
            more: true,
            ..Pruned::default()
        };
        let mut left = None;
        match piece {
            Piece::Events { layer, share, events } => {
                ages.share = *share;
                for event in events {
                    let goes = ages.judge(self.connection, *layer, *event)? == Verdict::Go;
                    if !goes || !self.take(*layer, *event, now, &mut pruned)? {
                        left = left.or(Some((*layer, event.seq)));
                    }
                }
            }
            Piece::Rules => {
                let cutoff = rules_cutoff(self.connection, &ages)?;
                let unneeded: Option<i64> = self
                    .cached(UNNEEDED_RULES)?
                    .query_row([cutoff], |row| row.get(0))
                    .optional()?;
                unneeded.map_or(Ok(()), |rules| self.forget_rules(rules))?;
            }
            Piece::Receipts(keys) => {
                for key in keys {
                    self.cached("DELETE FROM receipt WHERE key = ?")?.execute([key])?;
                }
            }
            // A megabyte or so: each page is moved from the end of the file into a hole.
            Piece::FreePages => self.connection.execute_batch("PRAGMA incremental_vacuum(64)")?,
        }
        Ok(Removed { pruned, left })
    }

    /// Takes a layer of an event, or as much of it as goes at once, and tells whether that is all.
    fn take(
        &mut self,
        layer: Layer,
        event: Candidate,
        now: i64,
        pruned: &mut Pruned,
    ) -> rusqlite::Result<bool> {
        match layer {
            Layer::Payload => pruned.payloads += self.take_payload(event.seq)?,
            Layer::Envelope => {
                pruned.payloads += self.take_payload(event.seq)?;
                // The provider stays for lists; source, type and times have columns.
                let emptied = self
                    .cached(
                        "UPDATE event SET envelope = json_object('provider', envelope ->> '$.provider'), headers = '[]', \
                         emptied = ? WHERE seq = ? AND emptied IS NULL",
                    )?
                    .execute([now, event.seq])?;
                pruned.events += u64::from(emptied > 0);
            }
            Layer::Outcome => {
                let gone = self.take_outcomes(event.seq)?;
                pruned.outcomes += u64::from(gone);
                return Ok(gone);
            }
        }
        Ok(true)
    }

    fn take_payload(&self, event: i64) -> rusqlite::Result<u64> {
        let gone = self
            .cached("DELETE FROM request WHERE event = ?")?
            .execute([event])?;
        Ok(u64::from(gone > 0))
    }

    /// Removes an event's rows with all that became of it; of very many duplicates, only some at a time.
    fn take_outcomes(&mut self, event: i64) -> rusqlite::Result<bool> {
        let duplicates = self
            .cached("DELETE FROM duplicate WHERE seq IN (SELECT seq FROM duplicate WHERE event = ? LIMIT ?)")?
            .execute([event, MANY])?;
        let duplicates = i64::try_from(duplicates).unwrap_or(i64::MAX);
        self.tally("duplicate", -duplicates);
        if duplicates == MANY {
            return Ok(false);
        }
        let deliveries: Vec<i64> = self
            .cached("DELETE FROM delivery_event WHERE event = ? RETURNING delivery")?
            .query_map([event], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        self.take_deliveries(deliveries)?;
        self.take_payload(event)?;
        self.cached("DELETE FROM event WHERE seq = ?")?.execute([event])?;
        self.tally("event", -1);
        Ok(true)
    }

    /// Removes those deliveries that stand for no event any more; the others note that one is gone. A replay goes before what it
    /// replays.
    fn take_deliveries(&mut self, mut deliveries: Vec<i64>) -> rusqlite::Result<()> {
        deliveries.sort_unstable_by(|a, b| b.cmp(a));
        for delivery in deliveries {
            let still: bool = self
                .cached("SELECT EXISTS (SELECT 1 FROM delivery_event WHERE delivery = ?)")?
                .query_row([delivery], |row| row.get(0))?;
            if still {
                self.cached("UPDATE delivery SET gone = coalesce(gone, 0) + 1 WHERE seq = ?")?
                    .execute([delivery])?;
                continue;
            }
            self.cached("DELETE FROM attempt WHERE delivery = ?")?
                .execute([delivery])?;
            // Whose `successor` it is, is not looked for: there is no index, and a list shows none where there is none.
            for names in [
                "UPDATE delivery SET parent = NULL WHERE parent = ?",
                "DELETE FROM newest WHERE (route, order_key) = (SELECT route, order_key FROM delivery WHERE seq = ?1) \
                 AND delivery = ?1",
            ] {
                self.cached(names)?.execute([delivery])?;
            }
            if delivery == self.marks.delivery {
                self.keep_number()?;
            }
            let (id, state): (String, State) = self
                .cached("DELETE FROM delivery WHERE seq = ? RETURNING id, state")?
                .query_row([delivery], |row| Ok((row.get(0)?, row::word_at(row, "state")?)))?;
            // Receipts of its steps are named after it, also those of replays that kept its keys.
            self.cached("DELETE FROM receipt WHERE key >= ? AND key < ?")?
                .execute(params![format!("{id}/"), format!("{id}0")])?;
            self.tally(state.word(), -1);
        }
        Ok(())
    }
}

/// Duplicates of one event that go in one piece.
const MANY: i64 = 1024;
