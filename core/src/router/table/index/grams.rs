//! Texts within texts: which parts of a text may lead to anything.
//!
//! A literal between the stars of a wildcard is looked up by one part of it: of up to eight bytes, the whole; of more,
//! the rarest eight. A text is gone through byte by byte, once for each size in use, and each part of it put to a filter
//! that knows most of those that nobody asked for. Aho-Corasick would find whole literals at once, but ten thousand of
//! them are a megabyte or more of automaton and take some fifty milliseconds to build, each byte waits for the step
//! before it, and what is found has to be evaluated in any case.

use super::keys::{Keys, LONGEST_GRAM};

/// The parts that are in use at one path.
#[derive(Debug, Default)]
pub(super) struct Grams {
    /// By size, from 1.
    filters: [Option<Filter>; LONGEST_GRAM],
}

/// A field of bits, in which each key has one.
#[derive(Debug, Default)]
struct Filter {
    keys: Vec<u64>,
    field: Vec<u64>,
}

impl Grams {
    /// Puts a part into use.
    pub(super) fn add(&mut self, size: usize, key: u64) {
        self.filters[size - 1].get_or_insert_default().keys.push(key);
    }

    /// Makes it ready to be asked.
    pub(super) fn seal(&mut self) {
        self.filters.iter_mut().flatten().for_each(Filter::seal);
    }

    /// Gives the keys of the parts of a text that may be in use.
    pub(super) fn get(&self, keys: Keys, text: &str, mut each: impl FnMut(u64)) {
        for (filter, size) in self.filters.iter().zip(1..) {
            if let Some(filter) = filter {
                let keys = keys.all_grams(text.as_bytes(), size);
                keys.filter(|key| filter.has(*key)).for_each(&mut each);
            }
        }
    }
}

impl Filter {
    fn seal(&mut self) {
        let words = (self.keys.len() * BITS_FOR_EACH / 64).next_power_of_two();
        self.field = vec![0; words];
        for key in std::mem::take(&mut self.keys) {
            let (word, bit) = self.place(key);
            self.field[word] |= bit;
        }
    }

    fn has(&self, key: u64) -> bool {
        let (word, bit) = self.place(key);
        self.field[word] & bit != 0
    }

    /// Where the bit of a key is. The lowest bits are taken: the upper ones are those of the look-up that follows.
    fn place(&self, key: u64) -> (usize, u64) {
        ((key >> 6) as usize & (self.field.len() - 1), 1 << (key % 64))
    }
}

/// How many bits of a filter there are for each key: one in as many parts that nobody asked for passes it.
const BITS_FOR_EACH: usize = 16;
