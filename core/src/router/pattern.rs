//! Event patterns: the language of AWS EventBridge, as event-ruler 2 implements it. `PATTERNS.md` has it for users, with
//! the one table of deviations.
//!
//! Fields are ANDed, listed values ORed. What is read strictly comes out as a [`Pattern`]: alternatives, one for
//! each way through the `$or`s, each a list of clauses in the order of their paths. Beyond the documentation of
//! EventBridge, this holds:
//!
//! - A key with dots is a path: `"a.b"` equals `b` within `a`, in a pattern and in an event.
//! - Values that sit in a list belong together: two clauses are not met by different elements of one list.
//! - `exists` is about values, not about lists or objects; with `false`, about the elements that the clauses
//!   before it (in the order of paths) have chosen.
//! - `anything-but` needs a value; a number or `null` is anything but a string.
//! - Numbers compare by value. Whole numbers of up to 64 bits are exact, all others are the nearest `f64`.
//! - A string that is an IP address equals every spelling of that address.
//! - Of a path within `$or` and the same path outside, that which comes later in the text holds. Twice in one place
//!   is a mistake, where EventBridge silently takes the last.
//! - Strings are compared byte by byte, without normalization. Ignoring case is by each character's own upper
//!   and lower case.

mod address;
mod json;
mod node;
mod number;
mod operators;
mod reader;
mod test;
mod text;

use std::sync::Arc;

pub(super) use address::parse as parse_address;
pub(super) use json::parse as parse_json;
pub(super) use node::{Node, NodeValue};
pub(super) use number::Number;
pub(super) use reader::{Reader, Span};
pub(super) use test::{Bound, Scalar, Test};
pub(super) use text::{Wildcard, caseless};

use super::table::{NotJson, Table, View};
use crate::fault::{Faults, Source};

/// A pattern, read and checked.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub(super) alternatives: Vec<Vec<Clause>>,
}

/// What is asked of the values at one path: that one of them passes one of the tests.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    /// The names on the way, none of which has a dot.
    pub(super) path: Arc<[Box<str>]>,
    pub(super) tests: Arc<[Test]>,
}

impl Pattern {
    /// Reads a pattern in JSON that came from `file`.
    ///
    /// # Errors
    ///
    /// All mistakes in it, with their places.
    pub fn from_json(file: &str, text: &str) -> Result<Self, Faults> {
        let source = Source::new(file, text);
        let mut faults = Faults::new();
        let node = match parse_json(text) {
            Ok(node) => node,
            Err(error) => return Err(source.fault(error.at..error.at, error.message).into()),
        };
        let mut report = |span: Span, message: String, help: Option<String>| {
            let fault = source.fault(span, message);
            faults.push(match help {
                Some(help) => fault.help(help),
                None => fault,
            });
        };
        let pattern = Reader::new(&mut report).pattern(&node);
        faults.give(pattern)
    }

    /// Whether an event in JSON matches.
    ///
    /// # Errors
    ///
    /// Where the event is not JSON.
    pub fn matches(&self, event: &[u8]) -> Result<bool, NotJson> {
        let table = Table::compile(vec![self.clone()]);
        let mut matched = Vec::new();
        table.matches(&View::whole(event), &mut matched)?;
        Ok(!matched.is_empty())
    }
}

impl Clause {
    /// The path with dots.
    pub(super) fn dotted(&self) -> String {
        self.path.join(".")
    }
}
