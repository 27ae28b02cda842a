//! The alternatives that one event may match.

use super::{
    AlternativeId,
    postings::{ListId, Posting, Postings},
};

/// The candidates of one event, while they are found; its room is kept for the next.
#[derive(Debug, Default)]
pub(in crate::router::table) struct Candidates {
    found: Vec<AlternativeId>,
    /// So many are looked through for the same ones again.
    crowd: usize,
    /// By list, the last event that led to it.
    seen: Vec<u64>,
    event: u64,
    /// Room for a text without case.
    pub(super) text: String,
}

impl Candidates {
    /// An event begins, held against an index with so many lists.
    pub(super) fn begin(&mut self, lists: usize) {
        self.event += 1;
        self.found.clear();
        self.crowd = CROWD;
        if self.seen.len() < lists {
            self.seen.resize(lists, 0);
        }
    }

    pub(super) fn extend(&mut self, alternatives: &[AlternativeId]) {
        self.found.extend(alternatives);
    }

    /// A value leads to these.
    pub(super) fn add(&mut self, posting: Posting, postings: &Postings) {
        match posting {
            Posting::One(alternative) => self.found.push(alternative),
            Posting::List(list) if self.is_new(list) => self.found.extend(postings.list(list)),
            Posting::List(_) => {}
        }
        // A long list in an event may lead to the same alternative with every value.
        if self.found.len() > self.crowd {
            self.sort();
            self.crowd = self.found.len() * 2 + CROWD;
        }
    }

    /// All of them, each once and in order.
    pub(in crate::router::table) fn sorted(&mut self) -> &[AlternativeId] {
        self.sort();
        &self.found
    }

    fn sort(&mut self) {
        self.found.sort_unstable();
        self.found.dedup();
    }

    fn is_new(&mut self, list: ListId) -> bool {
        let seen = &mut self.seen[list as usize];
        let is_new = *seen != self.event;
        *seen = self.event;
        is_new
    }
}

/// More candidates than nearly all events have.
const CROWD: usize = 4096;
