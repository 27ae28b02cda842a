//! What a thread works with while it holds events against a table, kept from one event to the next.
//!
//! It belongs to no table: what it holds of one event or another table is marked with a number that does not come
//! again.

use std::cell::Cell;

use super::{
    NotJson, View,
    evaluate::Room,
    extract,
    index::Candidates,
    leaves::{Leaves, Marks},
    paths::Paths,
};

/// Room for everything that is made for one event.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    marks: Marks,
    leaves: Leaves<'static>,
    pub(super) candidates: Candidates,
    pub(super) room: Room,
}

/// Works with the thread's own.
pub(super) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static OWN: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    }
    let mut scratch = OWN.take().unwrap_or_default();
    let done = work(&mut scratch);
    OWN.set(Some(scratch));
    done
}

impl Scratch {
    /// The values of an event.
    pub(super) fn read<'e>(&mut self, paths: &Paths, event: &View<'e>) -> Result<Leaves<'e>, NotJson> {
        let leaves = std::mem::take(&mut self.leaves);
        extract::leaves(paths, event, &mut self.marks, leaves)
    }

    /// Keeps the room of values that are done with, unless the event was so large that it would be for nothing.
    pub(super) fn keep(&mut self, leaves: Leaves<'_>) {
        if leaves.all().len() <= MOST_KEPT {
            self.leaves = leaves.reuse();
        } else {
            self.candidates = Candidates::default();
            self.room = Room::default();
        }
    }
}

/// Room for so many values is kept: some hundred kilobytes for each thread.
const MOST_KEPT: usize = 4096;
