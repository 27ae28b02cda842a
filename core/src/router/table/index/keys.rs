//! Keys: numbers of 64 bits that tell predicates apart, computed alike from a rule and from a value.

use std::{
    hash::{BuildHasher, Hasher},
    net::IpAddr,
};

use foldhash::fast::{FixedState, FoldHasher};

use crate::router::{
    pattern::{Number, Scalar},
    table::paths::PathId,
};

/// Makes the keys of one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys(pub(super) PathId);

/// What keys are of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Scalar,
    Text,
    Prefix,
    Suffix,
    Caseless,
    CaselessPrefix,
    CaselessSuffix,
    Gram,
    Address,
    Network,
    Range,
    Present,
}

/// The most bytes of the part by which a text within a text is looked up.
pub(super) const LONGEST_GRAM: usize = 8;

impl Keys {
    /// Of a kind as a whole.
    pub(super) fn kind(self, kind: Kind) -> u64 {
        self.hasher(kind).finish()
    }

    /// Of `null`, a truth value or a number.
    pub(super) fn scalar(self, value: &Scalar<'_>) -> u64 {
        let mut hasher = self.hasher(Kind::Scalar);
        match value {
            Scalar::Null | Scalar::String(_) => hasher.write_u8(0),
            Scalar::Bool(truth) => hasher.write_u8(1 + u8::from(*truth)),
            Scalar::Number(number) => write(&mut hasher, *number),
        }
        hasher.finish()
    }

    /// Of a text, or of one that another begins or ends with.
    pub(super) fn text(self, kind: Kind, text: &str) -> u64 {
        match kind {
            Kind::Prefix | Kind::CaselessPrefix => self.rolling(kind).over(text.bytes()),
            Kind::Suffix | Kind::CaselessSuffix => self.rolling(kind).over(text.bytes().rev()),
            _ => {
                let mut hasher = self.hasher(kind);
                hasher.write(text.as_bytes());
                hasher.finish()
            }
        }
    }

    /// Of the beginnings or ends of a text that have one of `lengths`, which are in order.
    pub(super) fn parts(self, kind: Kind, text: &str, lengths: &[usize], each: impl FnMut(u64)) {
        match kind {
            Kind::Suffix | Kind::CaselessSuffix => self.rolling(kind).at(lengths, text.bytes().rev(), each),
            _ => self.rolling(kind).at(lengths, text.bytes(), each),
        }
    }

    /// Of bytes within a text; no more than [`LONGEST_GRAM`].
    pub(super) fn gram(self, bytes: &[u8]) -> u64 {
        let number = bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        mix(number ^ self.grams(bytes.len()))
    }

    /// Of all parts of a text that have one size.
    pub(super) fn all_grams(self, bytes: &[u8], size: usize) -> impl Iterator<Item = u64> {
        let salt = self.grams(size);
        let mask = u64::MAX >> (u64::BITS as usize - 8 * size);
        let mut last = 0;
        let ends = bytes.iter().map(move |byte| {
            last = (last << 8 | u64::from(*byte)) & mask;
            mix(last ^ salt)
        });
        ends.skip(size - 1)
    }

    /// What makes the keys of parts of one size differ from all others.
    fn grams(self, size: usize) -> u64 {
        self.kind(Kind::Gram)
            .rotate_left(u32::try_from(size).unwrap_or_default())
    }

    pub(super) fn address(self, address: IpAddr) -> u64 {
        let mut hasher = self.hasher(Kind::Address);
        hasher.write_u128(super::predicate::number(address));
        hasher.finish()
    }

    pub(super) fn network(self, first: IpAddr, last: IpAddr) -> u64 {
        let mut hasher = self.hasher(Kind::Network);
        hasher.write_u128(super::predicate::number(first));
        hasher.write_u128(super::predicate::number(last));
        hasher.finish()
    }

    pub(super) fn range(self, low: Number, high: Number) -> u64 {
        let mut hasher = self.hasher(Kind::Range);
        write(&mut hasher, low);
        write(&mut hasher, high);
        hasher.finish()
    }

    fn hasher(self, kind: Kind) -> FoldHasher<'static> {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write_u32(self.0);
        hasher.write_u8(kind as u8);
        hasher
    }

    fn rolling(self, kind: Kind) -> Rolling {
        Rolling(self.kind(kind))
    }
}

/// A hash of bytes that can be told after each of them.
struct Rolling(u64);

impl Rolling {
    fn over(mut self, bytes: impl Iterator<Item = u8>) -> u64 {
        bytes.for_each(|byte| self.push(byte));
        mix(self.0)
    }

    fn at(mut self, lengths: &[usize], bytes: impl Iterator<Item = u8>, mut each: impl FnMut(u64)) {
        let mut lengths = lengths.iter().copied().peekable();
        for (length, byte) in (1..).zip(bytes) {
            self.push(byte);
            if lengths.next_if_eq(&length).is_some() {
                each(mix(self.0));
            }
            if lengths.peek().is_none() {
                return;
            }
        }
    }

    fn push(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(ODD);
    }
}

/// Spreads a number over all bits.
pub(super) fn mix(number: u64) -> u64 {
    let product = u128::from(number ^ SALT) * u128::from(ODD);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

fn write(hasher: &mut impl Hasher, number: Number) {
    match number {
        Number::Natural(whole) => hasher.write_u64(whole),
        Number::Negative(whole) => hasher.write_i64(whole),
        Number::Float(float) => hasher.write_u64(float.to_bits().rotate_left(32)),
    }
}

/// A number without structure, whose product with another is without it too: the golden ratio's.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
/// So that no number is spread to itself; digits of pi.
const SALT: u64 = 0x2436_A885_A308_D313;
