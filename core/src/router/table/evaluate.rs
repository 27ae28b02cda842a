//! The small function that decides: whether values meet the clauses of one alternative, together.
//!
//! The clauses are gone through in the order of their paths. What is carried along are the elements that the
//! clauses so far may have chosen, as far as the next clause's path shares lists with theirs: since paths are
//! in order, one element, the innermost, says it all. So the work is linear in the values, whatever lists there
//! are, and nothing recurses.

use std::sync::Arc;

use super::{
    leaves::{ElementId, Leaves},
    paths::{PathId, Paths},
};
use crate::router::pattern::{Clause, Test};

/// One alternative of a pattern.
#[derive(Debug)]
pub(super) struct Compiled {
    clauses: Vec<Bound>,
}

#[derive(Debug)]
struct Bound {
    path: PathId,
    tests: Arc<[Test]>,
    /// Whether it is met by there being nothing.
    absent: bool,
    /// How many names its path shares with that of the next clause.
    shared: usize,
}

/// Where an alternative does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) struct Stop {
    /// The number of the clause, from 0, in the order of paths.
    pub(in crate::router) clause: usize,
    /// Whether some value would have met it, only not in the elements of lists that the clauses before chose.
    pub(in crate::router) elsewhere: bool,
}

impl Compiled {
    /// Compiles clauses, which are in the order of their paths.
    pub(super) fn new(clauses: &[Clause], paths: &mut Paths) -> Self {
        let next = clauses.iter().skip(1).map(Some).chain([None]);
        let clauses = clauses
            .iter()
            .zip(next)
            .map(|(clause, next)| Bound {
                path: paths.insert(&clause.path),
                tests: Arc::clone(&clause.tests),
                absent: clause.tests.iter().any(|test| matches!(test, Test::Absent)),
                shared: next.map_or(0, |next| shared(&clause.path, &next.path)),
            })
            .collect();
        Self { clauses }
    }

    /// Whether the values meet all clauses, or else where that fails first.
    pub(super) fn evaluate(&self, leaves: &Leaves<'_>) -> Result<(), Stop> {
        let mut chosen = vec![Leaves::EVENT];
        for (clause, bound) in self.clauses.iter().enumerate() {
            let passing = bound.passing(leaves);
            let next = bound.next(leaves, &passing, &chosen);
            if next.is_empty() {
                let elsewhere = !passing.is_empty();
                return Err(Stop { clause, elsewhere });
            }
            chosen = next;
        }
        Ok(())
    }
}

impl Bound {
    /// The elements of the values that pass, in order.
    fn passing(&self, leaves: &Leaves<'_>) -> Vec<ElementId> {
        let passes = |value| self.tests.iter().any(|test| test.passes(value));
        let leaves = leaves.at(self.path).iter();
        leaves
            .filter(|leaf| passes(leaf.value()))
            .map(|leaf| leaf.element())
            .collect()
    }

    /// The elements that may be chosen after this clause, where `chosen` may be before it.
    fn next(&self, leaves: &Leaves<'_>, passing: &[ElementId], chosen: &[ElementId]) -> Vec<ElementId> {
        let mut next = Vec::new();
        for element in chosen {
            let within = leaves.within(*element);
            let from = passing.partition_point(|element| element < within.start());
            let elements = passing[from..]
                .iter()
                .take_while(|element| within.contains(element));
            next.extend(elements.map(|element| leaves.rise(*element, self.shared)));
            if self.absent && !any_within(leaves, self.path, *element) {
                next.push(leaves.rise(*element, self.shared));
            }
        }
        next.sort_unstable();
        next.dedup();
        next
    }
}

/// Whether any value at all lies at a path within an element.
fn any_within(leaves: &Leaves<'_>, path: PathId, element: ElementId) -> bool {
    let within = leaves.within(element);
    let leaves = leaves.at(path);
    let first = leaves.partition_point(|leaf| leaf.element() < *within.start());
    leaves
        .get(first)
        .is_some_and(|leaf| within.contains(&leaf.element()))
}

/// How many names two paths begin with alike.
fn shared(a: &[Box<str>], b: &[Box<str>]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
