//! Which alternatives a key leads to.

use super::AlternativeId;

/// Alternatives by key.
#[derive(Debug, Default)]
pub(super) struct Postings {
    /// As many as a power of two, and at most two thirds of them taken; a key is at the first free one from where
    /// its upper bits point.
    slots: Vec<Slot>,
    /// By how many bits a key is shifted to point at its slot.
    shift: u32,
    /// The lists of more than one alternative, one after another, and where each ends.
    members: Vec<AlternativeId>,
    ends: Vec<u32>,
}

/// One alternative, or a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posting {
    One(AlternativeId),
    List(ListId),
}

/// Names a list.
pub(super) type ListId = u32;

/// The lower bits of a key, and a [`Posting`] in as many.
#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    posting: u32,
}

impl Postings {
    /// Keeps alternatives, at least one, in their order.
    pub(super) fn add(&mut self, alternatives: impl Iterator<Item = AlternativeId>) -> Posting {
        let start = self.members.len();
        self.members.extend(alternatives);
        match self.members[start..] {
            [only] => {
                self.members.truncate(start);
                Posting::One(only)
            }
            _ => {
                self.ends.push(number(self.members.len()));
                Posting::List(number(self.ends.len() - 1))
            }
        }
    }

    /// Enters all keys.
    pub(super) fn enter(&mut self, keys: &[(u64, Posting)]) {
        self.members.shrink_to_fit();
        self.ends.shrink_to_fit();
        if keys.is_empty() {
            return;
        }
        let count = (keys.len() * 3 / 2).next_power_of_two().max(2);
        self.shift = u64::BITS - count.trailing_zeros();
        self.slots = vec![Slot::FREE; count];
        for (key, posting) in keys {
            let mut at = self.home(*key);
            while !self.slots[at].is_free() {
                at = (at + 1) & (count - 1);
            }
            self.slots[at] = Slot::new(*key, *posting);
        }
    }

    /// Gives what `key` leads to: what it was entered with, and once in a very long while something else as well.
    pub(super) fn get(&self, key: u64, mut each: impl FnMut(Posting)) {
        if self.slots.is_empty() {
            return;
        }
        let mut at = self.home(key);
        loop {
            let slot = self.slots[at & (self.slots.len() - 1)];
            if slot.is_free() {
                return;
            }
            if slot.tag == tag(key) {
                each(slot.posting());
            }
            at += 1;
        }
    }

    /// The alternatives of a list.
    pub(super) fn list(&self, list: ListId) -> &[AlternativeId] {
        let end = self.ends[list as usize];
        let start = list.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        &self.members[start as usize..end as usize]
    }

    /// How many lists there are.
    pub(super) fn lists(&self) -> usize {
        self.ends.len()
    }

    fn home(&self, key: u64) -> usize {
        usize::try_from(key >> self.shift).expect("fewer bits are left than there are slots")
    }
}

impl Slot {
    const FREE: Self = Self {
        tag: 0,
        posting: u32::MAX,
    };

    /// Tells a list from an alternative.
    const LIST: u32 = 1 << 31;

    fn new(key: u64, posting: Posting) -> Self {
        let posting = match posting {
            Posting::One(alternative) => alternative,
            Posting::List(list) => list | Self::LIST,
        };
        Self {
            tag: tag(key),
            posting,
        }
    }

    fn posting(self) -> Posting {
        match self.posting & Self::LIST {
            0 => Posting::One(self.posting),
            _ => Posting::List(self.posting & !Self::LIST),
        }
    }

    fn is_free(self) -> bool {
        self.posting == Self::FREE.posting
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower bits are meant")]
fn tag(key: u64) -> u32 {
    key as u32
}

fn number(place: usize) -> u32 {
    let number = u32::try_from(place).ok();
    number
        .filter(|number| *number < Slot::LIST - 1)
        .expect("rule files have no two thousand million alternatives")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postings(keys: &[u64]) -> Postings {
        let mut postings = Postings::default();
        let entered: Vec<_> = keys
            .iter()
            .zip(0..)
            .map(|(key, number)| {
                (
                    *key,
                    postings.add([number, number + 1].into_iter().take(1 + number as usize % 2)),
                )
            })
            .collect();
        postings.enter(&entered);
        postings
    }

    fn found(postings: &Postings, key: u64) -> Vec<AlternativeId> {
        let mut found = Vec::new();
        postings.get(key, |posting| match posting {
            Posting::One(alternative) => found.push(alternative),
            Posting::List(list) => found.extend(postings.list(list)),
        });
        found
    }

    #[test]
    fn a_key_leads_to_what_it_was_entered_with() {
        let keys: Vec<u64> = (0..1000).map(super::super::keys::mix).collect();
        let postings = postings(&keys);
        for (key, number) in keys.iter().zip(0..) {
            let expected: Vec<_> = [number, number + 1]
                .into_iter()
                .take(1 + number as usize % 2)
                .collect();
            assert_eq!(found(&postings, *key), expected);
        }
        assert!((1000..2000).all(|other| found(&postings, super::super::keys::mix(other)).is_empty()));
    }

    #[test]
    fn keys_that_are_hard_to_tell_apart_lead_to_all() {
        // The same slot and the same lower bits, at the end of the table, so that the search goes on at its start.
        let keys = [u64::MAX, u64::MAX - (1 << 40), u64::MAX - (1 << 41)];
        assert_eq!(found(&postings(&keys), u64::MAX), [0, 1, 2, 2]);
        assert!(found(&postings(&[]), 0).is_empty());
    }
}
