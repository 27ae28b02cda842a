//! The table of patterns: which of them an event matches.
//!
//! Patterns go in and are compiled; an event in JSON goes in, as a whole or as envelope and payload, and the
//! numbers of the patterns that it matches come out. An event is read in one strict pass along a trie of the
//! paths in use; of what lies beside them nothing is kept, and a payload that no pattern looks into is not read
//! at all. An index then names the few alternatives that may match, and one small function decides about each.
//! Nothing of a table ever changes, and its readers share nothing but the table: what they write to is their thread's.

mod evaluate;
mod extract;
mod index;
mod leaves;
mod ordered;
mod paths;
mod scratch;

use std::sync::Arc;

pub(super) use evaluate::Stop;
use evaluate::{Bound, Room, bind, evaluate};
use index::Index;
pub(super) use leaves::Leaves;
use leaves::{Leaf, Marks};
use paths::Paths;
use scratch::Scratch;

use super::pattern::{Clause, Pattern, Scalar};

/// Patterns, ready for events.
#[derive(Debug)]
pub struct Table {
    paths: Paths,
    /// Of all patterns, in their order.
    alternatives: Vec<Alternative>,
    /// Of all alternatives, in their order.
    clauses: Vec<Bound>,
    /// Where the alternatives of each pattern begin, and the end of all.
    patterns: Vec<u32>,
    index: Index,
}

/// One way to match a pattern.
#[derive(Debug)]
struct Alternative {
    pattern: u32,
    /// Where its clauses end.
    end: u32,
}

/// An event in JSON.
#[derive(Clone, Copy, Debug)]
pub struct View<'e> {
    envelope: &'e [u8],
    payload: Option<&'e [u8]>,
}

/// The event, or its payload, is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("the event is not JSON: {0}")]
pub struct NotJson(pub(super) String);

impl<'e> View<'e> {
    /// An event with everything in it.
    pub fn whole(event: &'e [u8]) -> Self {
        Self {
            envelope: event,
            payload: None,
        }
    }

    /// An event without `data.payload`, which is `payload`.
    pub fn parts(envelope: &'e [u8], payload: &'e [u8]) -> Self {
        Self {
            envelope,
            payload: Some(payload),
        }
    }
}

impl Table {
    /// Compiles the patterns; each is known by its place in `patterns`.
    pub fn compile(patterns: Vec<Pattern>) -> Self {
        let mut table = Self {
            paths: Paths::new(),
            alternatives: Vec::new(),
            clauses: Vec::new(),
            patterns: vec![0],
            index: Index::default(),
        };
        for (pattern, Pattern { alternatives }) in patterns.into_iter().enumerate() {
            for clauses in alternatives {
                table.clauses.extend(bind(&clauses, &mut table.paths));
                table.alternatives.push(Alternative {
                    pattern: number(pattern),
                    end: number(table.clauses.len()),
                });
            }
            table.patterns.push(number(table.alternatives.len()));
        }
        table.alternatives.shrink_to_fit();
        table.clauses.shrink_to_fit();
        table.index = Index::build(
            table.paths.count(),
            table.alternatives().map(|(_, clauses)| clauses),
        );
        table
    }

    /// Adds the places of the patterns that the event matches to `matched`, in their order.
    ///
    /// # Errors
    ///
    /// Where the event is not JSON.
    pub fn matches(&self, event: &View<'_>, matched: &mut Vec<usize>) -> Result<(), NotJson> {
        scratch::with(|scratch| {
            let leaves = scratch.read(&self.paths, event)?;
            let Scratch { candidates, room, .. } = &mut *scratch;
            self.index.find(&leaves, candidates);
            room.begin();
            let mut last = None;
            for alternative in candidates.sorted() {
                let pattern = Some(self.alternatives[*alternative as usize].pattern);
                if pattern != last && evaluate(self.clauses(*alternative), &leaves, room).is_ok() {
                    matched.extend(pattern.map(|pattern| pattern as usize));
                    last = pattern;
                }
            }
            scratch.keep(leaves);
            Ok(())
        })
    }

    /// The same without the index, alternative by alternative: what tests and the benchmark hold [`Table::matches`]
    /// against.
    ///
    /// # Errors
    ///
    /// Where the event is not JSON.
    pub fn matches_one_by_one(&self, event: &View<'_>, matched: &mut Vec<usize>) -> Result<(), NotJson> {
        let leaves = self.read(event)?;
        let mut room = Room::default();
        let hits = self
            .alternatives()
            .filter(|(_, clauses)| evaluate(clauses, &leaves, &mut room).is_ok());
        matched.extend(hits.map(|(alternative, _)| alternative.pattern as usize));
        matched.dedup();
        Ok(())
    }

    /// The patterns that an index is of no use for: which ask for no value that could be looked up, so that they
    /// are held against every event, or every one that has a value at all where they look.
    pub fn unindexed(&self) -> Vec<usize> {
        let unindexed = self.index.unindexed().iter();
        let mut patterns: Vec<_> = unindexed
            .map(|alternative| self.alternatives[*alternative as usize].pattern as usize)
            .collect();
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }

    /// The values of the event at the paths in use.
    pub(super) fn read<'e>(&self, event: &View<'e>) -> Result<Leaves<'e>, NotJson> {
        extract::leaves(&self.paths, event, &mut Marks::default(), Leaves::default())
    }

    /// For each alternative of a pattern, its clauses, and that it matches or where it stops.
    pub(super) fn trace(&self, pattern: usize, leaves: &Leaves<'_>) -> Vec<(Vec<Clause>, Result<(), Stop>)> {
        let alternatives = self.patterns[pattern]..self.patterns[pattern + 1];
        let mut room = Room::default();
        let trace = alternatives.map(|alternative| {
            let clauses = self.clauses(alternative);
            let spelt = clauses.iter().map(|bound| Clause {
                path: self.paths.spell(bound.path),
                tests: Arc::clone(&bound.tests),
            });
            (spelt.collect(), evaluate(clauses, leaves, &mut room))
        });
        trace.collect()
    }

    /// The values at a path that a pattern looks at.
    pub(super) fn values<'l, 'e>(
        &self,
        path: &[Box<str>],
        leaves: &'l Leaves<'e>,
    ) -> impl Iterator<Item = &'l Scalar<'e>> {
        let leaves = self
            .paths
            .find(path)
            .map(|path| leaves.at(path))
            .unwrap_or_default();
        leaves.iter().map(Leaf::value)
    }

    fn alternatives(&self) -> impl Iterator<Item = (&Alternative, &[Bound])> + Clone {
        let alternatives = self.alternatives.iter().zip(0..);
        alternatives.map(|(alternative, number)| (alternative, self.clauses(number)))
    }

    fn clauses(&self, alternative: u32) -> &[Bound] {
        let end = self.alternatives[alternative as usize].end as usize;
        let start = match alternative.checked_sub(1) {
            Some(before) => self.alternatives[before as usize].end as usize,
            None => 0,
        };
        &self.clauses[start..end]
    }
}

/// The number of one of so many patterns, alternatives or clauses.
fn number(place: usize) -> u32 {
    u32::try_from(place).expect("rule files have no four thousand million clauses")
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
