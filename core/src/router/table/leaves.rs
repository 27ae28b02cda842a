//! The values of an event at the paths in use, each with the elements of lists that it sits in.
//!
//! An *element* is an object or a list within a list. Elements form a tree, numbered from the top down and from
//! left to right, so that whatever lies in one has a number in one range. A value that stands in a list itself
//! belongs to no element of it but to the one around, as event-ruler has it. No two members of an object lead to
//! the same path, nor one to a path within the other's, dots or not: of such, the last is kept. So whatever
//! lies at one path lies in one list of each element, and two values at one path are compatible just where one's
//! element lies in the other's.

use std::ops::RangeInclusive;

use super::paths::{NodeId, PathId, Paths};
use crate::router::pattern::Scalar;

/// Names an element; the event itself is [`Leaves::EVENT`].
pub(super) type ElementId = usize;

/// The values of one event.
#[derive(Debug)]
pub(in crate::router) struct Leaves<'e> {
    /// By path, and by element within a path.
    leaves: Vec<Leaf<'e>>,
    /// Where the leaves of each path begin, and the end of all.
    starts: Vec<usize>,
    elements: Vec<Element>,
}

/// A value and its element.
#[derive(Debug)]
pub(in crate::router) struct Leaf<'e> {
    path: PathId,
    element: ElementId,
    value: Scalar<'e>,
}

#[derive(Debug)]
struct Element {
    parent: ElementId,
    /// How many names lead to its list.
    depth: usize,
    /// The last element within it.
    last: ElementId,
}

impl<'e> Leaves<'e> {
    /// The event itself, around all elements.
    pub(super) const EVENT: ElementId = 0;

    /// The leaves of a path, by element.
    pub(super) fn at(&self, path: PathId) -> &[Leaf<'e>] {
        &self.leaves[self.starts[path]..self.starts[path + 1]]
    }

    /// Which elements lie within `element`, itself included.
    pub(super) fn within(&self, element: ElementId) -> RangeInclusive<ElementId> {
        element..=self.elements[element].last
    }

    /// The element around `element`, or itself, whose list no more than `depth` names lead to.
    pub(super) fn rise(&self, mut element: ElementId, depth: usize) -> ElementId {
        while self.elements[element].depth > depth {
            element = self.elements[element].parent;
        }
        element
    }
}

impl<'e> Leaf<'e> {
    pub(super) fn element(&self) -> ElementId {
        self.element
    }

    pub(in crate::router) fn value(&self) -> &Scalar<'e> {
        &self.value
    }
}

/// Collects leaves while an event is read from left to right.
#[derive(Debug)]
pub(super) struct Collector<'p, 'e> {
    paths: &'p Paths,
    leaves: Vec<Leaf<'e>>,
    elements: Vec<Element>,
    marks: Vec<Mark>,
    objects: usize,
}

/// What the object that is being read has had at a place.
#[derive(Clone, Debug, Default)]
struct Mark {
    /// A member led right here: the object, and where its leaves begin and end.
    member: Option<(ObjectId, usize, usize)>,
    /// A dotted key led through here: the object, and where the leaves of the first such begin.
    through: Option<(ObjectId, usize)>,
}

/// Names one object of the event while it is read.
pub(super) type ObjectId = usize;

impl<'p, 'e> Collector<'p, 'e> {
    pub(super) fn new(paths: &'p Paths) -> Self {
        let event = Element {
            parent: Leaves::EVENT,
            depth: 0,
            last: Leaves::EVENT,
        };
        Self {
            paths,
            leaves: Vec::new(),
            elements: vec![event],
            marks: vec![Mark::default(); paths.size()],
            objects: 0,
        }
    }

    pub(super) fn paths(&self) -> &'p Paths {
        self.paths
    }

    /// Notes a value at `node`.
    pub(super) fn leaf(&mut self, node: NodeId, element: ElementId, value: impl FnOnce() -> Scalar<'e>) {
        if let Some(path) = self.paths.path(node) {
            let value = value();
            self.leaves.push(Leaf { path, element, value });
        }
    }

    /// An element begins, of the list at `node` within `parent`.
    pub(super) fn enter_element(&mut self, node: NodeId, parent: ElementId) -> ElementId {
        let element = self.elements.len();
        self.elements.push(Element {
            parent,
            depth: self.paths.depth(node),
            last: element,
        });
        element
    }

    /// An element ends.
    pub(super) fn leave_element(&mut self, element: ElementId) {
        self.elements[element].last = self.elements.len() - 1;
    }

    /// An object begins.
    pub(super) fn enter_object(&mut self) -> ObjectId {
        self.objects += 1;
        self.objects
    }

    /// A member of `object` begins that leads from `from` to `node`. What members before it left at the same
    /// place, around it or within it, is dropped: the last wins. Gives the number of leaves so far.
    pub(super) fn enter_member(&mut self, object: ObjectId, from: NodeId, node: NodeId) -> usize {
        self.drop_member(object, node);
        if let Some((_, start)) = self.marks[node].through.take_if(|(of, _)| *of == object) {
            let end = self.leaves.len();
            self.drop_leaves(start, end, node);
        }
        let mut above = self.paths.parent(node);
        while node != from && above != from {
            self.drop_member(object, above);
            let start = self.leaves.len();
            let through = &mut self.marks[above].through;
            if through.is_none_or(|(of, _)| of != object) {
                *through = Some((object, start));
            }
            above = self.paths.parent(above);
        }
        self.leaves.len()
    }

    /// The member ends that began with `start` leaves.
    pub(super) fn leave_member(&mut self, object: ObjectId, node: NodeId, start: usize) {
        self.marks[node].member = Some((object, start, self.leaves.len()));
    }

    fn drop_member(&mut self, object: ObjectId, node: NodeId) {
        if let Some((_, start, end)) = self.marks[node].member.take_if(|(of, ..)| *of == object) {
            self.drop_leaves(start, end, node);
        }
    }

    /// Drops those of a range of leaves that lie at `node` or below.
    fn drop_leaves(&mut self, start: usize, end: usize, node: NodeId) {
        let dropped = self.paths.count();
        for leaf in &mut self.leaves[start..end] {
            if leaf.path != dropped && self.paths.is_within(self.paths.node(leaf.path), node) {
                leaf.path = dropped;
            }
        }
    }

    /// All that was collected.
    pub(super) fn finish(mut self) -> Leaves<'e> {
        self.leave_element(Leaves::EVENT);
        let count = self.paths.count();
        self.leaves.retain(|leaf| leaf.path < count);
        self.leaves.sort_by_key(|leaf| (leaf.path, leaf.element));
        let starts = (0..=count)
            .map(|path| self.leaves.partition_point(|leaf| leaf.path < path))
            .collect();
        Leaves {
            leaves: self.leaves,
            starts,
            elements: self.elements,
        }
    }
}
