//! What a value can be looked up by.

use super::keys::{Keys, Kind, LONGEST_GRAM};
use crate::router::{
    pattern::{Bound, Number, Scalar, Test, Wildcard, caseless},
    table::paths::PathId,
};

/// Something that holds of a value at one path whenever a test does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predicate {
    /// The same for the same predicate at the same path, and hardly ever for others.
    pub(super) key: u64,
    pub(super) look: Look,
}

/// How values are looked up that it holds of. Texts are told by their length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Look {
    /// `null`, a truth value or a number.
    Scalar,
    Text(usize),
    Prefix(usize),
    Suffix(usize),
    Caseless(usize),
    CaselessPrefix(usize),
    CaselessSuffix(usize),
    /// A part of a text.
    Gram(usize),
    Address,
    /// From one address to another, as numbers, both included.
    Network(u128, u128),
    /// From one number to another, both included.
    Range(Number, Number),
    /// That there is a value.
    Present,
}

impl Predicate {
    /// That there is a value at all.
    pub(super) fn present(path: PathId) -> Self {
        Self {
            key: Keys(path).kind(Kind::Present),
            look: Look::Present,
        }
    }

    /// Gives the predicates of a test, of which one is enough.
    pub(super) fn of(path: PathId, test: &Test, mut each: impl FnMut(Self)) {
        let keys = Keys(path);
        let text = |kind, text: &str, look: fn(usize) -> Look| Self {
            key: keys.text(kind, text),
            look: look(text.len()),
        };
        let without_case = |kind, folded: &str, look| {
            let mut into = String::new();
            caseless(folded, &mut into);
            text(kind, &into, look)
        };
        each(match test {
            Test::Null => Self::scalar(keys, &Scalar::Null),
            Test::Bool(truth) => Self::scalar(keys, &Scalar::Bool(*truth)),
            Test::Number(number) => Self::scalar(keys, &Scalar::Number(*number)),
            Test::String(expected) => text(Kind::Text, expected, Look::Text),
            Test::Address(address) => Self {
                key: keys.address(address.1),
                look: Look::Address,
            },
            Test::Prefix(prefix) if prefix.is_empty() => Self::present(path),
            Test::Suffix(suffix) if suffix.is_empty() => Self::present(path),
            Test::Prefix(prefix) => text(Kind::Prefix, prefix, Look::Prefix),
            Test::Suffix(suffix) => text(Kind::Suffix, suffix, Look::Suffix),
            Test::PrefixIgnoringCase(prefix) if prefix.text().is_empty() => Self::present(path),
            Test::SuffixIgnoringCase(suffix) if suffix.text().is_empty() => Self::present(path),
            Test::PrefixIgnoringCase(prefix) => {
                without_case(Kind::CaselessPrefix, prefix.text(), Look::CaselessPrefix)
            }
            Test::SuffixIgnoringCase(suffix) => {
                without_case(Kind::CaselessSuffix, suffix.text(), Look::CaselessSuffix)
            }
            Test::EqualsIgnoringCase(expected) => {
                without_case(Kind::Caseless, expected.text(), Look::Caseless)
            }
            Test::Cidr(range) => {
                let [first, last] = range.ends();
                Self {
                    key: keys.network(first, last),
                    look: Look::Network(number(first), number(last)),
                }
            }
            Test::Within(ends) => Self::range(keys, **ends),
            Test::Wildcard(wildcard) => return Self::of_wildcard(path, wildcard, each),
            Test::AnythingBut(_) | Test::Exists | Test::Absent => Self::present(path),
        });
    }

    fn scalar(keys: Keys, value: &Scalar<'_>) -> Self {
        Self {
            key: keys.scalar(value),
            look: Look::Scalar,
        }
    }

    fn range(keys: Keys, [low, high]: [Option<Bound>; 2]) -> Self {
        let low = low.map_or(Number::Float(f64::NEG_INFINITY), |low| low.number);
        let high = high.map_or(Number::Float(f64::INFINITY), |high| high.number);
        Self {
            key: keys.range(low, high),
            look: Look::Range(low, high),
        }
    }

    /// Of the texts around the stars, any that is not empty: at the start, at the end, or in between by any part
    /// of it.
    fn of_wildcard(path: PathId, wildcard: &Wildcard, mut each: impl FnMut(Self)) {
        let keys = Keys(path);
        let text = |kind, text: &str, look: fn(usize) -> Look| Self {
            key: keys.text(kind, text),
            look: look(text.len()),
        };
        let [first, between @ .., last] = wildcard.pieces() else {
            return wildcard
                .pieces()
                .iter()
                .for_each(|piece| each(text(Kind::Text, piece, Look::Text)));
        };
        if wildcard.pieces().iter().all(|piece| piece.is_empty()) {
            return each(Self::present(path));
        }
        if !first.is_empty() {
            each(text(Kind::Prefix, first, Look::Prefix));
        }
        if !last.is_empty() {
            each(text(Kind::Suffix, last, Look::Suffix));
        }
        for piece in between {
            let size = piece.len().min(LONGEST_GRAM);
            let grams = piece.as_bytes().windows(size.max(1)).take(MOST_GRAMS);
            grams.for_each(|gram| {
                each(Self {
                    key: keys.gram(gram),
                    look: Look::Gram(size),
                });
            });
        }
    }

    /// What it is counted by: what a value meets together, or not at all, as far as can be told.
    pub(super) fn crowd(&self, path: PathId) -> u64 {
        match self.look {
            Look::Range(..) => Keys(path).kind(Kind::Range),
            Look::Network(..) => Keys(path).kind(Kind::Network),
            _ => self.key,
        }
    }

    /// How many events meet it, for the number of alternatives that it stands in.
    pub(super) fn weight(&self) -> u64 {
        match self.look {
            Look::Text(_) | Look::Address | Look::Caseless(_) => 2,
            Look::Scalar => 4,
            Look::Prefix(length) | Look::Suffix(length) if length < 4 => 64,
            Look::CaselessPrefix(length) | Look::CaselessSuffix(length) if length < 4 => 64,
            Look::Prefix(_) | Look::Suffix(_) | Look::CaselessPrefix(_) | Look::CaselessSuffix(_) => 3,
            Look::Gram(size) => [256, 64, 16, 6].get(size - 1).copied().unwrap_or(3),
            Look::Range(..) | Look::Network(..) => 4,
            Look::Present => 1 << 32,
        }
    }
}

/// An address as a number, of both families in one range: an IPv6 address is never one that stands for an IPv4 one.
pub(super) fn number(address: std::net::IpAddr) -> u128 {
    match address {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        std::net::IpAddr::V6(address) => address.to_bits(),
    }
}

/// How many parts of a text are considered: a rare one is among them, and the next one is as good.
const MOST_GRAMS: usize = 64;
