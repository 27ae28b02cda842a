//! The table of patterns: which of them an event matches.
//!
//! Patterns go in and are compiled; an event in JSON goes in, as a whole or as envelope and payload, and the
//! numbers of the patterns that it matches come out. An event is read in one strict pass along a trie of the
//! paths in use; of what lies beside them nothing is kept, and a payload that no pattern looks into is not read
//! at all. This table then goes pattern by pattern: plainly right, and the reference for a faster one.

mod evaluate;
mod extract;
mod leaves;
mod paths;

use evaluate::Compiled;
pub(super) use evaluate::Stop;
use leaves::Leaf;
pub(super) use leaves::Leaves;
use paths::Paths;

use super::pattern::{Pattern, Scalar};

/// Patterns, ready for events.
#[derive(Debug)]
pub(super) struct Table {
    paths: Paths,
    patterns: Vec<Vec<Compiled>>,
}

/// An event in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'e> {
    envelope: &'e [u8],
    payload: Option<&'e [u8]>,
}

/// The event, or its payload, is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("the event is not JSON: {0}")]
pub struct NotJson(pub(super) String);

impl<'e> View<'e> {
    /// An event with everything in it.
    pub(super) fn whole(event: &'e [u8]) -> Self {
        Self {
            envelope: event,
            payload: None,
        }
    }

    /// An event without `data.payload`, which is `payload`.
    pub(super) fn parts(envelope: &'e [u8], payload: &'e [u8]) -> Self {
        Self {
            envelope,
            payload: Some(payload),
        }
    }
}

impl Table {
    /// Compiles the patterns; each is known by its place in `patterns`.
    pub(super) fn compile(patterns: &[Pattern]) -> Self {
        let mut paths = Paths::new();
        let patterns = patterns
            .iter()
            .map(|pattern| {
                pattern
                    .alternatives
                    .iter()
                    .map(|clauses| Compiled::new(clauses, &mut paths))
                    .collect()
            })
            .collect();
        Self { paths, patterns }
    }

    /// Adds the places of the patterns that the event matches to `matched`, in their order.
    ///
    /// # Errors
    ///
    /// Where the event is not JSON.
    pub(super) fn matches(&self, event: &View<'_>, matched: &mut Vec<usize>) -> Result<(), NotJson> {
        let leaves = self.read(event)?;
        let hits = self.patterns.iter().enumerate().filter(|(_, alternatives)| {
            alternatives
                .iter()
                .any(|clauses| clauses.evaluate(&leaves).is_ok())
        });
        matched.extend(hits.map(|(place, _)| place));
        Ok(())
    }

    /// The values of the event at the paths in use.
    pub(super) fn read<'e>(&self, event: &View<'e>) -> Result<Leaves<'e>, NotJson> {
        extract::leaves(&self.paths, event.envelope, event.payload)
    }

    /// For each alternative of a pattern, that it matches or where it stops.
    pub(super) fn trace(&self, pattern: usize, leaves: &Leaves<'_>) -> Vec<Result<(), Stop>> {
        let alternatives = self.patterns[pattern].iter();
        alternatives.map(|clauses| clauses.evaluate(leaves)).collect()
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
}

#[cfg(test)]
mod tests;
