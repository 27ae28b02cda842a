//! Rules by the hash of their text, and which were in force when.
//!
//! Text of any length is stored without holding up who waits for a commit: what does not fit into its row comes before it in
//! pieces, each in a transaction of its own. The row's text, which comes last, says that all of it is there. So half of a text
//! is none, and where its end never comes, the next start removes it.

use jackfield_event::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{history, job::Fault, row, store::Store};
use crate::{
    journal::{Cause, GenerationRecord, JournalError},
    router::GenerationId,
};

/// The text in pieces, of which at least the first is there.
pub(super) fn pieces(mut text: &str) -> (&str, impl Iterator<Item = &str>) {
    let mut cut = move || {
        let longest = text.len().min(PIECE);
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end));
        let (piece, rest) = text.split_at(end.unwrap_or(longest));
        text = rest;
        piece
    };
    let first = cut();
    (
        first,
        std::iter::from_fn(move || Some(cut()).filter(|piece| !piece.is_empty())),
    )
}

/// The text of a generation's rules, where it is there and whole.
pub(super) fn text(connection: &Connection, hash: &str) -> rusqlite::Result<Option<String>> {
    // One statement sees one moment: what is pruned meanwhile goes whole.
    let mut statement = connection.prepare_cached(
        "SELECT 0 AS number, text FROM rules WHERE hash = ?1 AND text <> '' UNION ALL \
         SELECT number, text FROM rules_piece WHERE hash = (SELECT hash FROM rules WHERE hash = ?1 AND text <> '') \
         ORDER BY number",
    )?;
    let mut pieces = statement.query([hash])?;
    let mut whole = String::new();
    while let Some(piece) = pieces.next()? {
        whole.push_str(piece.get_ref("text")?.as_str()?);
    }
    Ok(Some(whole).filter(|text| !text.is_empty()))
}

impl Store<'_> {
    /// The row of a generation's rule text.
    pub(super) fn rules(&mut self, generation: &GenerationId) -> Result<i64, Fault> {
        if let Some(seq) = self.rules.get(generation) {
            return Ok(*seq);
        }
        let seq: i64 = self
            .cached("SELECT seq FROM rules WHERE hash = ?")?
            .query_row([&generation.0], |row| row.get(0))
            .optional()?
            .ok_or_else(|| {
                JournalError::NotFound(format!(
                    "the rules of generation {generation} are not in the journal; store them before an event names them"
                ))
            })?;
        self.rules.insert(generation.clone(), seq);
        Ok(seq)
    }

    /// Keeps rules from being pruned before they are in force, and says whether their text is there.
    pub(super) fn keep_rules(&mut self, generation: &GenerationId, now: i64) -> Result<bool, Fault> {
        let kept = self
            .cached("UPDATE rules SET stored = ? WHERE hash = ? AND text <> ''")?
            .execute(params![now, generation.0])?;
        Ok(kept > 0)
    }

    /// Stores what does not fit into the row, before the row.
    pub(super) fn store_piece(
        &mut self,
        generation: &GenerationId,
        number: i64,
        piece: &str,
    ) -> Result<(), Fault> {
        // It may be left of another time, when not all of them came.
        self.cached("INSERT OR REPLACE INTO rules_piece (hash, number, text) VALUES (?, ?, ?)")?
            .execute(params![generation.0, number, piece])?;
        Ok(())
    }

    /// Stores the row with the first piece, after the others.
    pub(super) fn store_rules(
        &mut self,
        generation: &GenerationId,
        first: &str,
        now: i64,
    ) -> Result<(), Fault> {
        // What was pruned comes back.
        self.cached(
            "INSERT INTO rules (hash, stored, text) VALUES (?, ?, ?) \
             ON CONFLICT (hash) DO UPDATE SET stored = excluded.stored, text = excluded.text",
        )?
        .execute(params![generation.0, now, first])?;
        Ok(())
    }

    pub(super) fn put_in_force(
        &mut self,
        generation: &GenerationId,
        cause: Cause,
        displaced: Option<&GenerationId>,
        now: Timestamp,
    ) -> Result<GenerationRecord, Fault> {
        let rules = self.rules(generation)?;
        let last = history::generations(self.connection, 1)?.pop();
        let same = |last: &GenerationRecord| (&last.id, last.displaced.as_ref()) == (generation, displaced);
        if let Some(last) = last.filter(same) {
            return Ok(last);
        }
        self.cached("INSERT INTO in_force (rules, since, cause, displaced) VALUES (?, ?, ?, ?)")?
            .execute(params![
                rules,
                now.as_millis(),
                cause.word(),
                displaced.map(|displaced| displaced.0.as_str())
            ])?;
        Ok(GenerationRecord {
            id: generation.clone(),
            // Whoever asks for it again is told the same.
            since: row::as_kept(now)?,
            until: None,
            cause,
            displaced: displaced.cloned(),
        })
    }

    /// Removes the text of one generation; its name stays in the history. What it leaves free is some megabytes at most.
    pub(super) fn forget_rules(&mut self, rules: i64) -> rusqlite::Result<()> {
        self.cached("UPDATE rules SET text = '' WHERE seq = ?")?
            .execute([rules])?;
        self.cached("DELETE FROM rules_piece WHERE hash = (SELECT hash FROM rules WHERE seq = ?)")?
            .execute([rules])?;
        Ok(())
    }

    /// Removes pieces whose row never came.
    pub(super) fn sweep_rules(&mut self) -> rusqlite::Result<()> {
        self.cached("DELETE FROM rules_piece WHERE hash NOT IN (SELECT hash FROM rules WHERE text <> '')")?
            .execute([])?;
        Ok(())
    }
}

/// How many bytes of a text one transaction takes: fewer than a lone event's, which dirties ten pages of 16 KB.
const PIECE: usize = 64 << 10;
