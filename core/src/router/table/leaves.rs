//! The values of an event at the paths in use, each with the elements of lists that it sits in.
//!
//! An *element* is an object or a list within a list. Elements form a tree, numbered from the top down and from
//! left to right, so that whatever lies in one has a number in one range. A value that stands in a list itself
//! belongs to no element of it but to the one around, as event-ruler has it. Of the members of an object with the
//! same key the last is kept. So whatever lies at one path lies in one list of each element, and two values at one
//! path are compatible just where one's element lies in the other's. (An object may spell one path in two ways,
//! `{"a.b": …, "a": {"b": …}}`: both are kept, and where one of them is a list, what is in it goes with what is in
//! the same element of it and not with the other.)
//!
//! What was made for one event is used again for the next, so that nothing is allocated for most events.

use std::ops::RangeInclusive;

use super::paths::{NodeId, PathId, Paths};
use crate::router::pattern::Scalar;

/// Names an element; the event itself is [`Leaves::EVENT`].
pub(super) type ElementId = u32;

/// The values of one event.
#[derive(Debug, Default)]
pub(in crate::router) struct Leaves<'e> {
    /// Those of a path together, and in the order of elements.
    leaves: Vec<Leaf<'e>>,
    /// By path; those with the number of another event do not count.
    spans: Vec<Span>,
    elements: Vec<Element>,
    event: Tick,
}

/// A value, its path and its element.
#[derive(Debug, Default)]
pub(in crate::router) struct Leaf<'e> {
    path: PathId,
    element: ElementId,
    value: Scalar<'e>,
}

/// Where the leaves of one path are, in one event.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    event: Tick,
    start: u32,
    end: u32,
}

#[derive(Debug)]
struct Element {
    parent: ElementId,
    /// How many names lead to its list.
    depth: u32,
    /// The last element within it.
    last: ElementId,
}

/// Counts what one thread reads, and never the same twice: what is marked with another number is of the past.
pub(super) type Tick = u64;

impl<'e> Leaves<'e> {
    /// The event itself, around all elements.
    pub(super) const EVENT: ElementId = 0;

    /// All leaves, those of a path together.
    pub(super) fn all(&self) -> &[Leaf<'e>] {
        &self.leaves
    }

    /// The leaves of a path, by element.
    pub(super) fn at(&self, path: PathId) -> &[Leaf<'e>] {
        let span = self.spans[path as usize];
        match span.event == self.event {
            true => &self.leaves[span.start as usize..span.end as usize],
            false => &[],
        }
    }

    /// Which elements lie within `element`, itself included.
    pub(super) fn within(&self, element: ElementId) -> RangeInclusive<ElementId> {
        element..=self.elements[element as usize].last
    }

    /// The element around `element`, or itself, whose list no more than `depth` names lead to.
    pub(super) fn rise(&self, mut element: ElementId, depth: u32) -> ElementId {
        while self.elements[element as usize].depth > depth {
            element = self.elements[element as usize].parent;
        }
        element
    }

    /// Its room, for another event.
    pub(super) fn reuse<'n>(mut self) -> Leaves<'n> {
        self.leaves.clear();
        self.elements.clear();
        let nothing = |_| unreachable!("all leaves were cleared");
        Leaves {
            // Nothing but the lifetime changes, so that this keeps the room that there is.
            leaves: self.leaves.into_iter().map(nothing).collect(),
            spans: self.spans,
            elements: self.elements,
            event: self.event,
        }
    }

    fn push(&mut self, leaf: Leaf<'e>) -> Order {
        let at = number(self.leaves.len());
        let span = &mut self.spans[leaf.path as usize];
        let order = match span.event == self.event {
            false => {
                *span = Span {
                    event: self.event,
                    start: at,
                    end: at,
                };
                Order::Kept
            }
            true if span.end == at
                && self
                    .leaves
                    .last()
                    .is_some_and(|last| last.element <= leaf.element) =>
            {
                Order::Kept
            }
            true => Order::Lost,
        };
        span.end = at + 1;
        self.leaves.push(leaf);
        order
    }

    /// Puts the leaves in order, and drops those whose path is `dropped`. What the spans say so far is void.
    fn sort(&mut self, dropped: PathId) {
        let mut paths = Vec::new();
        for leaf in self.leaves.iter().filter(|leaf| leaf.path != dropped) {
            let span = &mut self.spans[leaf.path as usize];
            if span.event != self.event {
                paths.push(leaf.path);
                *span = Span {
                    event: self.event,
                    start: 0,
                    end: 0,
                };
            }
            span.end += 1;
        }
        let mut count = 0;
        for path in &paths {
            let span = &mut self.spans[*path as usize];
            (span.start, span.end, count) = (count, count, count + span.end);
        }
        let mut order = vec![0; count as usize];
        for (leaf, at) in self
            .leaves
            .iter()
            .zip(0..)
            .filter(|(leaf, _)| leaf.path != dropped)
        {
            let span = &mut self.spans[leaf.path as usize];
            order[span.end as usize] = at;
            span.end += 1;
        }
        let take = |at: u32| std::mem::take(&mut self.leaves[at as usize]);
        self.leaves = order.into_iter().map(take).collect();
        for path in paths {
            let span = self.spans[path as usize];
            // Stable, and linear where they are in order, as they are but for lists within lists.
            self.leaves[span.start as usize..span.end as usize].sort_by_key(|leaf| leaf.element);
        }
    }
}

/// Whether the leaves are in the order that they must have in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Kept,
    Lost,
}

impl<'e> Leaf<'e> {
    pub(super) fn path(&self) -> PathId {
        self.path
    }

    pub(super) fn element(&self) -> ElementId {
        self.element
    }

    pub(in crate::router) fn value(&self) -> &Scalar<'e> {
        &self.value
    }
}

/// The last members that led to each place of the trie; kept from event to event, like the room of [`Leaves`].
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// By place, by one name or by several.
    marks: Vec<[Mark; 2]>,
    /// Numbers events and objects.
    ticks: Tick,
}

/// A member that led to a place: of which object, and where its leaves begin and end.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    object: Tick,
    start: u32,
    end: u32,
}

impl Marks {
    fn tick(&mut self) -> Tick {
        self.ticks += 1;
        self.ticks
    }
}

/// Collects leaves while an event is read from left to right.
#[derive(Debug)]
pub(super) struct Collector<'p, 'e> {
    paths: &'p Paths,
    marks: &'p mut Marks,
    leaves: Leaves<'e>,
    order: Order,
}

/// Names one object of the event while it is read.
pub(super) type ObjectId = Tick;

impl<'p, 'e> Collector<'p, 'e> {
    /// Collects into `leaves`, which are those of an event before.
    pub(super) fn new(paths: &'p Paths, marks: &'p mut Marks, leaves: Leaves<'_>) -> Self {
        let mut leaves = leaves.reuse();
        leaves.event = marks.tick();
        if leaves.spans.len() < paths.count() {
            leaves.spans.resize(paths.count(), Span::default());
        }
        if marks.marks.len() < paths.size() {
            marks.marks.resize(paths.size(), Default::default());
        }
        leaves.elements.push(Element {
            parent: Leaves::EVENT,
            depth: 0,
            last: Leaves::EVENT,
        });
        Self {
            paths,
            marks,
            leaves,
            order: Order::Kept,
        }
    }

    pub(super) fn paths(&self) -> &'p Paths {
        self.paths
    }

    /// Notes a value at `node`.
    pub(super) fn leaf(&mut self, node: NodeId, element: ElementId, value: Scalar<'e>) {
        if let Some(path) = self.paths.path(node) {
            let order = self.leaves.push(Leaf { path, element, value });
            if order == Order::Lost {
                self.order = order;
            }
        }
    }

    /// An element begins, of the list at `node` within `parent`.
    pub(super) fn enter_element(&mut self, node: NodeId, parent: ElementId) -> ElementId {
        let element = number(self.leaves.elements.len());
        self.leaves.elements.push(Element {
            parent,
            depth: self.paths.depth(node),
            last: element,
        });
        element
    }

    /// An element ends.
    pub(super) fn leave_element(&mut self, element: ElementId) {
        let last = number(self.leaves.elements.len() - 1);
        self.leaves.elements[element as usize].last = last;
    }

    /// An object begins.
    pub(super) fn enter_object(&mut self) -> ObjectId {
        self.marks.tick()
    }

    /// A member of `object` begins that leads to `node`. What one before it with the same key left is dropped: the
    /// last wins. Gives the number of leaves so far.
    pub(super) fn enter_member(&mut self, object: ObjectId, node: NodeId, is_dotted: bool) -> u32 {
        // A place and whether the key has dots tell the key, within one object.
        let mark = self.marks.marks[node as usize][usize::from(is_dotted)];
        if mark.object == object && mark.start < mark.end {
            let dropped = number(self.paths.count());
            let leaves = &mut self.leaves.leaves[mark.start as usize..mark.end as usize];
            leaves.iter_mut().for_each(|leaf| leaf.path = dropped);
            self.order = Order::Lost;
        }
        number(self.leaves.leaves.len())
    }

    /// The member ends that began with `start` leaves.
    pub(super) fn leave_member(&mut self, object: ObjectId, node: NodeId, is_dotted: bool, start: u32) {
        let end = number(self.leaves.leaves.len());
        self.marks.marks[node as usize][usize::from(is_dotted)] = Mark { object, start, end };
    }

    /// All that was collected.
    pub(super) fn finish(mut self) -> Leaves<'e> {
        self.leave_element(Leaves::EVENT);
        if self.order == Order::Lost {
            self.leaves.event = self.marks.tick();
            self.leaves.sort(number(self.paths.count()));
        }
        self.leaves
    }
}

/// A place among the leaves or elements of one event.
fn number(place: usize) -> u32 {
    u32::try_from(place).expect("no event has four thousand million values")
}
