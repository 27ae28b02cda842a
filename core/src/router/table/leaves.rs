//! The values of an event at the paths in use, each with the elements of lists that it sits in.
//!
//! An *element* is an object or a list within a list. Elements form a tree, numbered from the top down and from
//! left to right, so that whatever lies in one has a number in one range. A value that stands in a list itself
//! belongs to no element of it but to the one around, as event-ruler has it. Of the members of an object with the
//! same key the last is kept. So whatever lies at one path lies in one list of each element, and two values at one
//! path are compatible just where one's element lies in the other's. (An object may spell one path in two ways,
//! `{"a.b": …, "a": {"b": …}}`: both are kept, and where one of them is a list, what is in it goes with what is in
//! the same element of it and not with the other.)

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
    /// The last member that led to each place, by one name or by several.
    marks: Vec<[Option<Mark>; 2]>,
    objects: usize,
}

/// A member that led to a place: of which object, and where its leaves begin and end.
type Mark = (ObjectId, usize, usize);

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
            marks: vec![[None; 2]; paths.size()],
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

    /// A member of `object` begins that leads to `node`. What one before it with the same key left is dropped: the
    /// last wins. Gives the number of leaves so far.
    pub(super) fn enter_member(&mut self, object: ObjectId, node: NodeId, is_dotted: bool) -> usize {
        // A place and whether the key has dots tell the key, within one object.
        let mark = self.marks[node][usize::from(is_dotted)].take();
        if let Some((_, start, end)) = mark.filter(|(of, ..)| *of == object) {
            let dropped = self.paths.count();
            self.leaves[start..end]
                .iter_mut()
                .for_each(|leaf| leaf.path = dropped);
        }
        self.leaves.len()
    }

    /// The member ends that began with `start` leaves.
    pub(super) fn leave_member(&mut self, object: ObjectId, node: NodeId, is_dotted: bool, start: usize) {
        self.marks[node][usize::from(is_dotted)] = Some((object, start, self.leaves.len()));
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
