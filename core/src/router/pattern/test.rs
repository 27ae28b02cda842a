//! One listed value of a pattern, put to one value of an event.

use std::{borrow::Cow, fmt, net::IpAddr};

use serde_json::json;

use super::{
    address::{self, Cidr},
    number::Number,
    text::{Folded, Wildcard},
};

/// A value of an event that is neither a list nor an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::router) enum Scalar<'e> {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'e, str>),
}

/// What a value must be.
#[derive(Clone, Debug)]
pub(in crate::router) enum Test {
    Null,
    Bool(bool),
    Number(Number),
    String(Box<str>),
    /// A string that is this address, however it is spelled.
    Address(Box<(Box<str>, IpAddr)>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    PrefixIgnoringCase(Folded),
    SuffixIgnoringCase(Folded),
    EqualsIgnoringCase(Folded),
    Wildcard(Wildcard),
    Within(Box<[Option<Bound>; 2]>),
    Cidr(Box<Cidr>),
    /// None of these, which are all of one kind.
    AnythingBut(Box<[Test]>),
    /// Anything at all.
    Exists,
    /// That there is nothing: no value passes.
    Absent,
}

/// One end of a range of numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) struct Bound {
    pub(in crate::router) number: Number,
    pub(in crate::router) inclusive: bool,
}

impl Test {
    /// Whether `value` passes.
    pub(in crate::router) fn passes(&self, value: &Scalar<'_>) -> bool {
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::Absent, _) => false,
            (Self::AnythingBut(tests), value) => !tests.iter().any(|test| test.passes(value)),
            (Self::Null, Scalar::Null) => true,
            (Self::Bool(expected), Scalar::Bool(found)) => expected == found,
            (Self::Number(expected), Scalar::Number(found)) => expected == found,
            (Self::Within(ends), Scalar::Number(found)) => {
                let [low, high] = **ends;
                low.is_none_or(|low| low.is_below(*found)) && high.is_none_or(|high| high.is_above(*found))
            }
            (test, Scalar::String(text)) => test.passes_text(text),
            _ => false,
        }
    }

    fn passes_text(&self, text: &str) -> bool {
        match self {
            Self::String(expected) => **expected == *text,
            Self::Address(expected) => address::parse(text) == Some(expected.1),
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::PrefixIgnoringCase(prefix) => prefix.begins(text),
            Self::SuffixIgnoringCase(suffix) => suffix.ends(text),
            Self::EqualsIgnoringCase(expected) => expected.equals(text),
            Self::Wildcard(wildcard) => wildcard.matches(text),
            Self::Cidr(range) => address::parse(text).is_some_and(|address| range.contains(address)),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Within(_) => false,
            Self::AnythingBut(_) | Self::Exists | Self::Absent => false,
        }
    }
}

impl Bound {
    /// Whether it lets `number` pass, as the lower end.
    pub(in crate::router) fn is_below(self, number: Number) -> bool {
        self.number < number || (self.inclusive && self.number == number)
    }

    /// Whether it lets `number` pass, as the upper end.
    pub(in crate::router) fn is_above(self, number: Number) -> bool {
        self.number > number || (self.inclusive && self.number == number)
    }
}

impl fmt::Display for Test {
    /// As a pattern in JSON spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::String(text) => json!(text).fmt(f),
            Self::Address(address) => json!(address.0).fmt(f),
            Self::Prefix(text) => json!({ "prefix": text }).fmt(f),
            Self::Suffix(text) => json!({ "suffix": text }).fmt(f),
            Self::PrefixIgnoringCase(text) => {
                json!({ "prefix": { "equals-ignore-case": text.text() } }).fmt(f)
            }
            Self::SuffixIgnoringCase(text) => {
                json!({ "suffix": { "equals-ignore-case": text.text() } }).fmt(f)
            }
            Self::EqualsIgnoringCase(text) => json!({ "equals-ignore-case": text.text() }).fmt(f),
            Self::Wildcard(wildcard) => json!({ "wildcard": wildcard.text() }).fmt(f),
            Self::Cidr(range) => json!({ "cidr": range.text() }).fmt(f),
            Self::Exists => json!({ "exists": true }).fmt(f),
            Self::Absent => json!({ "exists": false }).fmt(f),
            Self::AnythingBut(tests) => {
                let tests: Vec<_> = tests.iter().map(Self::to_string).collect();
                write!(f, "{{\"anything-but\":[{}]}}", tests.join(","))
            }
            Self::Within(ends) => {
                let [low, high] = **ends;
                let low =
                    low.map(|low| format!("\">{}\",{}", if low.inclusive { "=" } else { "" }, low.number));
                let high = high
                    .map(|high| format!("\"<{}\",{}", if high.inclusive { "=" } else { "" }, high.number));
                let ends: Vec<_> = low.into_iter().chain(high).collect();
                write!(f, "{{\"numeric\":[{}]}}", ends.join(","))
            }
        }
    }
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::String(text) => json!(text).fmt(f),
        }
    }
}
