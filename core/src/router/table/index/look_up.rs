//! The look-ups that are in use at one path.

use super::{
    candidates::Candidates,
    grams::Grams,
    intervals::Intervals,
    keys::{Keys, Kind},
    postings::{Posting, Postings},
    predicate::{Look, number},
};
use crate::router::{
    pattern::{Number, Scalar, caseless, parse_address},
    table::paths::PathId,
};

/// What the values at one path are looked up by. Nearly all of it leads to the one table of keys.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    /// What any value leads to.
    present: Option<Posting>,
    /// Whether `null`, truth values and numbers are asked for.
    scalars: bool,
    ranges: Option<Box<Intervals<Number>>>,
    /// Whether and how texts are looked up.
    texts: Option<Box<Texts>>,
}

/// How texts are looked up.
#[derive(Debug, Default)]
struct Texts {
    whole: Lengths,
    prefixes: Vec<usize>,
    suffixes: Vec<usize>,
    caseless: Option<Box<Caseless>>,
    grams: Option<Box<Grams>>,
    /// Addresses, and networks of them.
    addresses: Option<Box<Intervals<u128>>>,
}

/// How texts are looked up without case.
#[derive(Debug, Default)]
struct Caseless {
    whole: Lengths,
    prefixes: Vec<usize>,
    suffixes: Vec<usize>,
}

/// A bit for each length; the last one for all that are longer.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths(u64);

impl LookUps {
    /// Puts a look-up into use; where it is not by key, with what it leads to. Says whether it is by key.
    pub(super) fn add(&mut self, look: Look, key: u64, posting: Posting) -> bool {
        match look {
            Look::Present => self.present = Some(posting),
            Look::Scalar => self.scalars = true,
            Look::Range(low, high) => self.ranges.get_or_insert_default().add(low, high, posting),
            look => self.texts.get_or_insert_default().add(look, key, posting),
        }
        !matches!(look, Look::Present | Look::Range(..) | Look::Network(..))
    }

    /// Makes it ready to be asked.
    pub(super) fn seal(&mut self) {
        if let Some(ranges) = &mut self.ranges {
            ranges.seal();
        }
        if let Some(texts) = &mut self.texts {
            texts.seal();
        }
    }

    /// Finds the alternatives that a value leads to.
    pub(super) fn find(&self, path: PathId, value: &Scalar<'_>, postings: &Postings, into: &mut Candidates) {
        if let Some(posting) = self.present {
            into.add(posting, postings);
        }
        match value {
            Scalar::String(text) => {
                if let Some(texts) = &self.texts {
                    texts.find(Keys(path), text, postings, into);
                }
            }
            value if self.scalars => {
                postings.get(Keys(path).scalar(value), |posting| into.add(posting, postings))
            }
            _ => {}
        }
        if let (Scalar::Number(number), Some(ranges)) = (value, &self.ranges) {
            ranges.get(*number, |posting| into.add(posting, postings));
        }
    }
}

impl Texts {
    fn add(&mut self, look: Look, key: u64, posting: Posting) {
        match look {
            Look::Text(length) => self.whole.add(length),
            Look::Prefix(length) => self.prefixes.push(length),
            Look::Suffix(length) => self.suffixes.push(length),
            Look::Caseless(length) => self.caseless.get_or_insert_default().whole.add(length),
            Look::CaselessPrefix(length) => self.caseless.get_or_insert_default().prefixes.push(length),
            Look::CaselessSuffix(length) => self.caseless.get_or_insert_default().suffixes.push(length),
            Look::Gram(size) => self.grams.get_or_insert_default().add(size, key),
            Look::Address => drop(self.addresses.get_or_insert_default()),
            Look::Network(first, last) => self.addresses.get_or_insert_default().add(first, last, posting),
            Look::Scalar | Look::Range(..) | Look::Present => {}
        }
    }

    fn seal(&mut self) {
        seal(&mut self.prefixes);
        seal(&mut self.suffixes);
        if let Some(caseless) = &mut self.caseless {
            seal(&mut caseless.prefixes);
            seal(&mut caseless.suffixes);
        }
        if let Some(grams) = &mut self.grams {
            grams.seal();
        }
        if let Some(networks) = &mut self.addresses {
            networks.seal();
        }
    }

    fn find(&self, keys: Keys, text: &str, postings: &Postings, into: &mut Candidates) {
        let mut look_up = |key| postings.get(key, |posting| into.add(posting, postings));
        if self.whole.has(text.len()) {
            look_up(keys.text(Kind::Text, text));
        }
        keys.parts(Kind::Prefix, text, &self.prefixes, &mut look_up);
        keys.parts(Kind::Suffix, text, &self.suffixes, &mut look_up);
        if let Some(grams) = &self.grams {
            grams.get(keys, text, &mut look_up);
        }
        if let Some(networks) = &self.addresses
            && let Some(address) = parse_address(text)
        {
            look_up(keys.address(address));
            networks.get(number(address), |posting| into.add(posting, postings));
        }
        if let Some(without_case) = &self.caseless {
            let mut room = std::mem::take(&mut into.text);
            caseless(text, &mut room);
            without_case.find(keys, &room, postings, into);
            into.text = room;
        }
    }
}

impl Caseless {
    fn find(&self, keys: Keys, text: &str, postings: &Postings, into: &mut Candidates) {
        let mut look_up = |key| postings.get(key, |posting| into.add(posting, postings));
        if self.whole.has(text.len()) {
            look_up(keys.text(Kind::Caseless, text));
        }
        keys.parts(Kind::CaselessPrefix, text, &self.prefixes, &mut look_up);
        keys.parts(Kind::CaselessSuffix, text, &self.suffixes, &mut look_up);
    }
}

impl Lengths {
    fn add(&mut self, length: usize) {
        self.0 |= Self::bit(length);
    }

    fn has(self, length: usize) -> bool {
        self.0 & Self::bit(length) != 0
    }

    fn bit(length: usize) -> u64 {
        1 << length.min(63)
    }
}

fn seal(lengths: &mut Vec<usize>) {
    lengths.sort_unstable();
    lengths.dedup();
    lengths.shrink_to_fit();
}
