//! How many events plugins have raised because of one that came from outside.
//!
//! A chain of events is bounded by its length; but where each of them leads to ten others, a short chain is a flood. What has
//! been raised is counted here in memory, under the event at the beginning of it all. A restart begins anew: this is a brake, and
//! no ledger. What is forgotten first is what has been left alone for longest, which a flood never is.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Mutex, PoisonError},
};

use jackfield_event::EventId;

/// For each of the events from outside that plugins were busy with last, what they have raised because of it.
#[derive(Default)]
pub(super) struct Offspring {
    known: Mutex<Known>,
    hasher: RandomState,
}

#[derive(Default)]
struct Known {
    families: HashMap<EventId, Family>,
    now: u64,
}

#[derive(Default)]
struct Family {
    /// The hashes of the keys under which events were raised: an attempt that is made again raises none anew.
    members: HashSet<u64>,
    touched: u64,
}

impl Offspring {
    /// Takes in the event of this key, unless there are too many already.
    pub(super) fn admit(&self, ancestor: EventId, key: &str) -> bool {
        let member = self.hasher.hash_one(key);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.family(ancestor).admit(member)
    }
}

impl Known {
    fn family(&mut self, ancestor: EventId) -> &mut Family {
        self.now += 1;
        if self.families.len() >= MOST_FAMILIES && !self.families.contains_key(&ancestor) {
            let longest_alone = self.families.iter().min_by_key(|(_, family)| family.touched);
            if let Some(longest_alone) = longest_alone.map(|(ancestor, _)| *ancestor) {
                self.families.remove(&longest_alone);
            }
        }
        let family = self.families.entry(ancestor).or_default();
        family.touched = self.now;
        family
    }
}

impl Family {
    fn admit(&mut self, member: u64) -> bool {
        if self.members.len() < MOST_MEMBERS {
            self.members.insert(member);
        }
        self.members.contains(&member)
    }
}

/// How many events may be raised because of one.
pub(super) const MOST_MEMBERS: usize = 1000;
/// How many are remembered: with all of their members, 16 MiB.
const MOST_FAMILIES: usize = 1024;

#[cfg(test)]
mod tests {
    use jackfield_event::Timestamp;

    use super::*;

    fn event(number: usize) -> EventId {
        let time = Timestamp::from_millis(i64::try_from(number).unwrap());
        EventId::new(time.unwrap(), 0)
    }

    #[test]
    fn one_event_leads_to_a_thousand_and_no_more_and_each_counts_once() {
        let offspring = Offspring::default();
        for _ in 0..2 {
            assert!((0..MOST_MEMBERS).all(|number| offspring.admit(event(1), &format!("dlv/a/{number}"))));
        }
        assert!(!offspring.admit(event(1), "dlv/a/one-more"));
        assert!(offspring.admit(event(2), "dlv/a/one-more"));
    }

    #[test]
    fn a_flood_is_remembered_however_many_others_there_are() {
        let offspring = Offspring::default();
        let flood = event(10 * MOST_FAMILIES);
        for number in 0..10 * MOST_FAMILIES {
            assert!(offspring.admit(event(number), "dlv/a/one"));
            let admitted = offspring.admit(flood, &format!("dlv/b/{number}"));
            assert_eq!(admitted, number < MOST_MEMBERS, "{number}");
        }
        assert_eq!(offspring.known.lock().unwrap().families.len(), MOST_FAMILIES);
    }
}
