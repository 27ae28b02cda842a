//! Under which of its clauses each alternative is entered.
//!
//! Rules are the best guess of what events have: a predicate that many of them ask for tells little. So the predicates of
//! all alternatives are counted, and the clause is taken whose own stand in the fewest.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::{
    AlternativeId,
    predicate::{Look, Predicate},
};
use crate::router::{
    pattern::Test,
    table::{evaluate::Bound, paths::PathId},
};

/// What is entered where.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
    /// Those that no value leads to.
    pub(super) residual: Vec<AlternativeId>,
    /// Those, and others that any value leads to.
    pub(super) unindexed: Vec<AlternativeId>,
}

/// One predicate that leads to one alternative.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathId,
    pub(super) alternative: AlternativeId,
    pub(super) predicate: Predicate,
}

/// How many alternatives each predicate stands in.
#[derive(Debug, Default)]
struct Census(HashMap<u64, u64, FixedState>);

impl Plan {
    pub(super) fn of<'a>(alternatives: impl Iterator<Item = &'a [Bound]> + Clone) -> Self {
        let mut census = Census::default();
        alternatives.clone().for_each(|clauses| census.count(clauses));
        let mut plan = Self::default();
        for (clauses, alternative) in alternatives.zip(0..) {
            plan.enter(alternative, clauses, &census);
        }
        plan
    }

    fn enter(&mut self, alternative: AlternativeId, clauses: &[Bound], census: &Census) {
        let reachable = clauses.iter().filter(|clause| !clause.absent);
        let Some(clause) = reachable.min_by_key(|clause| census.cost(clause)) else {
            self.residual.push(alternative);
            self.unindexed.push(alternative);
            return;
        };
        let predicates = clause.tests.iter().map(|test| census.best(clause.path, test));
        let before = self.entries.len();
        self.entries.extend(predicates.map(|(predicate, _)| Entry {
            path: clause.path,
            alternative,
            predicate,
        }));
        let is_for_any = |entry: &Entry| matches!(entry.predicate.look, Look::Present);
        if self.entries[before..].iter().any(is_for_any) {
            self.unindexed.push(alternative);
        }
    }
}

impl Census {
    fn count(&mut self, clauses: &[Bound]) {
        for clause in clauses {
            *self.0.entry(Predicate::present(clause.path).key).or_default() += 1;
            for test in clause.tests.iter() {
                Predicate::of(clause.path, test, |predicate| {
                    *self.0.entry(predicate.crowd(clause.path)).or_default() += 1;
                });
            }
        }
    }

    /// How many alternatives have to be evaluated because of a clause, roughly.
    fn cost(&self, clause: &Bound) -> u64 {
        let costs = clause.tests.iter().map(|test| self.best(clause.path, test).1);
        costs.fold(0, u64::saturating_add)
    }

    /// The best predicate of a test, and what it costs.
    fn best(&self, path: PathId, test: &Test) -> (Predicate, u64) {
        let mut best = (Predicate::present(path), u64::MAX);
        Predicate::of(path, test, |predicate| {
            let count = self.0.get(&predicate.crowd(path)).copied().unwrap_or_default();
            let cost = count.saturating_mul(predicate.weight());
            if cost < best.1 {
                best = (predicate, cost);
            }
        });
        best
    }
}
