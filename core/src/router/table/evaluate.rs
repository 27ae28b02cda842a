//! The small function that decides: whether values meet the clauses of one alternative, together.
//!
//! The clauses are gone through in the order of their paths. What is carried along are the elements that the
//! clauses so far may have chosen, as far as the next clause's path shares lists with theirs: since paths are
//! in order, one element, the innermost, says it all. So the work is linear in the values, whatever lists there
//! are, and nothing recurses. Where one alternative after another asks for a value among many, they are sorted
//! once (`ordered`), so that the work for all of them is not the one times the other.

use std::{mem, sync::Arc};

use super::{
    leaves::{ElementId, Leaf, Leaves},
    ordered::{self, MANY, Ordered},
    paths::{PathId, Paths},
};
use crate::router::pattern::{Clause, Test};

/// One clause of an alternative.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) path: PathId,
    /// How many names its path shares with that of the next clause.
    shared: u32,
    pub(super) tests: Arc<[Test]>,
    /// Whether it is met by there being nothing.
    pub(super) absent: bool,
    /// Whether what passes can be looked up among sorted values.
    ordered: bool,
}

/// Where an alternative does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) struct Stop {
    /// The number of the clause, from 0, in the order of paths.
    pub(in crate::router) clause: usize,
    /// Whether some value would have met it, only not in the elements of lists that the clauses before chose.
    pub(in crate::router) elsewhere: bool,
}

/// Room to work in, used again and again.
#[derive(Debug, Default)]
pub(super) struct Room {
    passing: Vec<ElementId>,
    chosen: Vec<ElementId>,
    next: Vec<ElementId>,
    ordered: Ordered,
}

impl Room {
    /// An event begins: what was made for the one before does not hold.
    pub(super) fn begin(&mut self) {
        self.ordered.clear();
    }
}

/// Compiles the clauses of an alternative, which are in the order of their paths.
pub(super) fn bind<'c>(clauses: &'c [Clause], paths: &'c mut Paths) -> impl Iterator<Item = Bound> + 'c {
    let next = clauses.iter().skip(1).map(Some).chain([None]);
    clauses.iter().zip(next).map(|(clause, next)| Bound {
        path: paths.insert(&clause.path),
        shared: next.map_or(0, |next| shared(&clause.path, &next.path)),
        tests: Arc::clone(&clause.tests),
        absent: clause.tests.iter().any(|test| matches!(test, Test::Absent)),
        ordered: clause.tests.iter().all(ordered::is_ordered),
    })
}

/// Whether the values meet all clauses, or else where that fails first. `room` has begun this event.
pub(super) fn evaluate(clauses: &[Bound], leaves: &Leaves<'_>, room: &mut Room) -> Result<(), Stop> {
    room.chosen.clear();
    room.chosen.push(Leaves::EVENT);
    for (clause, bound) in clauses.iter().enumerate() {
        bound.pass(leaves, room);
        bound.choose(leaves, room);
        if room.next.is_empty() {
            let elsewhere = !room.passing.is_empty();
            return Err(Stop { clause, elsewhere });
        }
        mem::swap(&mut room.chosen, &mut room.next);
    }
    Ok(())
}

impl Bound {
    /// Finds the elements of the values that pass, in order.
    fn pass(&self, leaves: &Leaves<'_>, room: &mut Room) {
        let values = leaves.at(self.path);
        room.passing.clear();
        let found = match self.ordered && values.len() > MANY {
            true => room.ordered.find(self.path, values, &self.tests),
            false => None,
        };
        match found {
            Some(places) => {
                let values = places.iter().map(|place| &values[*place as usize]);
                room.passing.extend(self.passing(values));
            }
            None => room.passing.extend(self.passing(values.iter())),
        }
    }

    /// The elements of those of `values` that pass.
    fn passing<'l, 'e: 'l>(
        &self,
        values: impl Iterator<Item = &'l Leaf<'e>>,
    ) -> impl Iterator<Item = ElementId> {
        let passes = |value| {
            ordered::count();
            self.tests.iter().any(|test| test.passes(value))
        };
        let values = values.filter(move |leaf| passes(leaf.value()));
        values.map(|leaf| leaf.element())
    }

    /// Finds the elements that may be chosen after this clause, where `chosen` may be before it.
    fn choose(&self, leaves: &Leaves<'_>, room: &mut Room) {
        room.next.clear();
        for element in &room.chosen {
            let within = leaves.within(*element);
            let from = room.passing.partition_point(|element| element < within.start());
            let elements = room.passing[from..]
                .iter()
                .take_while(|element| within.contains(element));
            room.next
                .extend(elements.map(|element| leaves.rise(*element, self.shared)));
            if self.absent && !any_within(leaves, self.path, *element) {
                room.next.push(leaves.rise(*element, self.shared));
            }
        }
        room.next.sort_unstable();
        room.next.dedup();
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
fn shared(a: &[Box<str>], b: &[Box<str>]) -> u32 {
    let alike = a.iter().zip(b).take_while(|(a, b)| a == b);
    alike.fold(0, |count, _| count + 1)
}
