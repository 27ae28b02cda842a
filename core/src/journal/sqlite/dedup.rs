//! What tells redeliveries: hashes of the dedup keys within their window, in memory, over keys that are on disk.
//!
//! An index over random keys in the database would dirty one page for each event, a page of 16 KB for 30 bytes.
//! So the database holds the keys with their events, in order of arrival, and this table finds the event to compare
//! with: 64 bits of a hash, and the event's `seq`. After a restart it is put together again from `dedup_block`,
//! where the hashes are kept by the thousands, and from the events since. A hash that agrees is a question, never
//! an answer: the store compares the keys themselves.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    mem,
};

use sha2::{Digest, Sha256};

/// The hash under which a key of a source is looked up.
pub(super) fn hash(source: &str, key: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(source)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
}

/// One key in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The hash of source and key.
    pub(super) hash: u64,
    /// The event that was first with it.
    pub(super) event: i64,
    /// When it is forgotten, in milliseconds.
    pub(super) until: i64,
}

/// The keys within their window.
#[derive(Debug)]
pub(super) struct Dedup {
    /// Shards, so that a table that grows moves a sixty-fourth of the keys at a time.
    shards: Vec<HashMap<Key, Low, BuildHasherDefault<Identity>>>,
    /// Older events of a hash that a newer event has in `shards`; almost always empty.
    clashes: Vec<(u64, Low)>,
    /// Keys that are in no block yet.
    tail: Vec<Entry>,
    len: usize,
}

/// The lower half of an event's `seq`. No window holds four thousand million events, so it is enough.
type Low = u32;

impl Dedup {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashMap::default()).collect(),
            clashes: Vec::new(),
            tail: Vec::new(),
            len: 0,
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The events that may have the key, the newest first; `newest` is at least the newest event.
    pub(super) fn candidates(&self, hash: u64, newest: i64) -> impl Iterator<Item = i64> {
        let first = self.shards[shard(hash)].get(&Key::of(hash)).copied();
        let older = self
            .clashes
            .iter()
            .rev()
            .filter(move |(other, _)| *other == hash)
            .map(|(_, low)| *low);
        first.into_iter().chain(older).map(move |low| whole(low, newest))
    }

    /// Takes in the key of a new event.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.place(entry.hash, low(entry.event));
        self.tail.push(entry);
    }

    /// How many keys are in no block; what `undo` goes back to.
    pub(super) fn tail(&self) -> usize {
        self.tail.len()
    }

    /// Takes back what was inserted since the tail had `length` keys: the transaction failed.
    pub(super) fn undo(&mut self, length: usize) {
        while self.tail.len() > length
            && let Some(entry) = self.tail.pop()
        {
            self.remove(entry.hash, low(entry.event));
        }
    }

    /// What a block of the tail's keys holds and until when it is of use.
    pub(super) fn block(&self) -> (Vec<u8>, i64) {
        let mut bytes = Vec::with_capacity(self.tail.len() * ENTRY);
        for entry in &self.tail {
            bytes.extend_from_slice(&entry.hash.to_le_bytes());
            bytes.extend_from_slice(&low(entry.event).to_le_bytes());
        }
        (
            bytes,
            self.tail.iter().map(|entry| entry.until).max().unwrap_or(0),
        )
    }

    /// The tail is on disk in a block.
    pub(super) fn clear_tail(&mut self) {
        self.tail.clear();
    }

    /// Takes in a block that was read.
    pub(super) fn load(&mut self, block: &[u8]) {
        for (hash, low) in entries(block) {
            self.place(hash, low);
        }
    }

    /// Forgets a block's keys.
    pub(super) fn forget(&mut self, block: &[u8]) {
        for (hash, low) in entries(block) {
            self.remove(hash, low);
        }
    }

    fn place(&mut self, hash: u64, low: Low) {
        self.len += 1;
        if let Some(older) = self.shards[shard(hash)].insert(Key::of(hash), low) {
            self.clashes.push((hash, older));
        }
    }

    fn remove(&mut self, hash: u64, low: Low) {
        let shard = &mut self.shards[shard(hash)];
        if shard.get(&Key::of(hash)) == Some(&low) {
            shard.remove(&Key::of(hash));
            self.len -= 1;
        } else if let Some(at) = self.clashes.iter().position(|clash| *clash == (hash, low)) {
            self.clashes.swap_remove(at);
            self.len -= 1;
        }
    }
}

fn entries(block: &[u8]) -> impl Iterator<Item = (u64, Low)> {
    let (entries, _) = block.as_chunks::<ENTRY>();
    entries.iter().map(|entry| {
        let (hash, low) = entry.split_at(mem::size_of::<u64>());
        (
            u64::from_le_bytes(hash.try_into().expect("split at eight bytes")),
            Low::from_le_bytes(low.try_into().expect("four bytes are left")),
        )
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the lower half is what is asked for"
)]
fn low(event: i64) -> Low {
    event as Low
}

/// The newest event up to `newest` whose lower half is `half`.
fn whole(half: Low, newest: i64) -> i64 {
    newest - i64::from(low(newest).wrapping_sub(half))
}

/// Bits from the middle: the table itself uses the lowest and the highest.
fn shard(hash: u64) -> usize {
    usize::from((hash >> 32).to_le_bytes()[0]) % SHARDS
}

/// A hash, aligned so that it takes 12 bytes with its event and not 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key([u32; 2]);

impl Key {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the hash")]
    fn of(hash: u64) -> Self {
        Self([hash as u32, (hash >> 32) as u32])
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) | u64::from(self.0[1]) << 32);
    }
}

/// The key is a hash already.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

const SHARDS: usize = 64;
/// Bytes of a key in a block.
pub(super) const ENTRY: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: u64, event: i64) -> Entry {
        Entry {
            hash,
            event,
            until: event,
        }
    }

    fn found(dedup: &Dedup, hash: u64, newest: i64) -> Vec<i64> {
        dedup.candidates(hash, newest).collect()
    }

    #[test]
    fn a_key_leads_to_its_event_beyond_four_thousand_million() {
        let mut dedup = Dedup::new();
        let base = 1 << 33;
        for i in 0..1_000 {
            dedup.insert(entry(hash("source", &i.to_string()), base + i));
        }
        for i in 0..1_000 {
            assert_eq!(
                found(&dedup, hash("source", &i.to_string()), base + 5_000),
                [base + i]
            );
        }
        assert!(found(&dedup, hash("other", "7"), base).is_empty());
    }

    #[test]
    fn two_events_of_one_hash_are_both_asked_about_until_they_are_forgotten() {
        let mut dedup = Dedup::new();
        dedup.insert(entry(7, 1));
        dedup.insert(entry(7, 2));
        assert_eq!(found(&dedup, 7, 9), [2, 1]);
        let (block, until) = dedup.block();
        assert_eq!(until, 2);

        dedup.undo(1);
        assert_eq!(found(&dedup, 7, 9), [1]);
        dedup.undo(0);
        assert_eq!((found(&dedup, 7, 9), dedup.len()), (vec![], 0));

        dedup.load(&block);
        assert_eq!(
            (found(&dedup, 7, 9), dedup.len(), dedup.tail()),
            (vec![2, 1], 2, 0)
        );
        dedup.forget(&block);
        assert_eq!((found(&dedup, 7, 9), dedup.len()), (vec![], 0));
    }
}
