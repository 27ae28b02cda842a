//! An index over the alternatives of all patterns: which of them an event can match at all.
//!
//! Each alternative is entered once, under one of its clauses: the one whose *predicates* stand in the fewest
//! others. The values of an event then lead to few alternatives, by a look-up for each kind of predicate that is in
//! use at their path. What comes out is too much rather than too little, hashes are not compared with what they
//! are of, and whoever asks evaluates every candidate in full. An alternative that is met by there being nothing
//! can be reached by no value; it is always a candidate.
//!
//! The work of looking up is linear in the event: each value is looked up a number of times that only the rules decide, and a list
//! of alternatives is gone through once for each event, however many values lead to it.

mod candidates;
mod grams;
mod intervals;
mod keys;
mod look_up;
mod plan;
mod postings;
mod predicate;

pub(super) use candidates::Candidates;
use look_up::LookUps;
use plan::Plan;
use postings::Postings;
use predicate::Predicate;

use super::{evaluate::Bound, leaves::Leaves};

/// Names an alternative by its place in the table.
type AlternativeId = u32;

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By path.
    paths: Vec<LookUps>,
    postings: Postings,
    /// Candidates for every event.
    residual: Vec<AlternativeId>,
    /// Those that are reached by no more than that there is a value, or not at all.
    unindexed: Vec<AlternativeId>,
}

impl Index {
    /// Enters alternatives, given by their clauses, which look at so many paths.
    pub(super) fn build<'a>(paths: usize, alternatives: impl Iterator<Item = &'a [Bound]> + Clone) -> Self {
        let plan = Plan::of(alternatives);
        let mut index = Self {
            paths: Vec::new(),
            postings: Postings::default(),
            residual: plan.residual,
            unindexed: plan.unindexed,
        };
        index.paths.resize_with(paths, LookUps::default);
        let mut entries = plan.entries;
        entries.sort_unstable_by_key(|entry| (entry.predicate.key, entry.alternative));
        let mut keys = Vec::new();
        for group in entries.chunk_by(|a, b| a.predicate.key == b.predicate.key) {
            let alternatives = group.chunk_by(|a, b| a.alternative == b.alternative);
            let posting = index.postings.add(alternatives.map(|same| same[0].alternative));
            // All of a group have one predicate, but for an accident of hashing, when all have to be found all the same.
            let mut is_by_key = false;
            for same in group.chunk_by(|a, b| (a.path, a.predicate.look) == (b.path, b.predicate.look)) {
                let Predicate { key, look } = same[0].predicate;
                is_by_key |= index.paths[same[0].path as usize].add(look, key, posting);
            }
            if is_by_key {
                keys.push((group[0].predicate.key, posting));
            }
        }
        index.postings.enter(&keys);
        index.paths.iter_mut().for_each(LookUps::seal);
        index
    }

    /// Finds the alternatives that the values of an event may meet.
    pub(super) fn find(&self, leaves: &Leaves<'_>, into: &mut Candidates) {
        into.begin(self.postings.lists());
        into.extend(&self.residual);
        for leaf in leaves.all() {
            let path = leaf.path();
            self.paths[path as usize].find(path, leaf.value(), &self.postings, into);
        }
    }

    /// The alternatives that it is of no use for.
    pub(super) fn unindexed(&self) -> &[AlternativeId] {
        &self.unindexed
    }
}
