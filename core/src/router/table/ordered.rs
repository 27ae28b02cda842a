//! The values at one path in the order of values: for the rare event that has very many of them there, and meets many
//! alternatives that look for one.
//!
//! Whoever lists the values of a thousand rules makes each of these a candidate. If every candidate went through all
//! values once more, the work would be the one times the other. So where a path has many values, and is asked about
//! again, they are sorted once, and what a test may pass is a range of them. Tests of other kinds (`suffix`, `wildcard`,
//! `anything-but`…) still go through all, and so do those that most of the values pass.

use std::{cmp::Ordering, collections::HashMap, ops::Range};

use foldhash::fast::FixedState;

use super::{leaves::Leaf, paths::PathId};
use crate::router::pattern::{Scalar, Test};

/// The orders of one event; its room is kept for the next.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// Each path that was asked about, and its places in `places` once it is sorted.
    paths: HashMap<PathId, Option<Range<usize>>, FixedState>,
    /// Places among the values of a path, in the order of the values.
    places: Vec<u32>,
    /// What was found last.
    found: Vec<u32>,
}

impl Ordered {
    /// An event begins.
    pub(super) fn clear(&mut self) {
        self.paths.clear();
        self.places.clear();
    }

    /// The values at `path` that can pass one of `tests`, which all are [`is_ordered`], by their places among `values`,
    /// which are all at that path. `None` where it is better to go through all of them.
    pub(super) fn find(&mut self, path: PathId, values: &[Leaf<'_>], tests: &[Test]) -> Option<&[u32]> {
        let places = self.sorted(path, values)?;
        let places = &self.places[places];
        let value = |place: &u32| values[*place as usize].value();
        self.found.clear();
        for test in tests {
            let start = places.partition_point(|place| side(test, value(place)).is_lt());
            let rest = &places[start..];
            let end = rest.partition_point(|place| side(test, value(place)).is_le());
            if self.found.len() + end > values.len() / 2 {
                return None;
            }
            self.found.extend(&rest[..end]);
        }
        // Values are chosen in the order of their elements.
        self.found.sort_unstable();
        self.found.dedup();
        Some(&self.found)
    }

    /// Where the places of a path are in order: from the second question on, since sorting costs more than one look
    /// at all of them.
    fn sorted(&mut self, path: PathId, values: &[Leaf<'_>]) -> Option<Range<usize>> {
        let Some(sorted) = self.paths.get_mut(&path) else {
            self.paths.insert(path, None);
            return None;
        };
        let range = sorted.get_or_insert_with(|| {
            let start = self.places.len();
            self.places.extend((0..).take(values.len()));
            let value = |place: &u32| values[*place as usize].value();
            self.places[start..].sort_unstable_by(|a, b| compare(value(a), value(b)));
            start..self.places.len()
        });
        Some(range.clone())
    }
}

/// Whether the values that pass lie together in the order of values.
pub(super) fn is_ordered(test: &Test) -> bool {
    match test {
        Test::Null | Test::Bool(_) | Test::Number(_) | Test::String(_) => true,
        Test::Prefix(_) | Test::Within(_) | Test::Absent => true,
        Test::Address(_) | Test::Cidr(_) | Test::Suffix(_) | Test::Wildcard(_) => false,
        Test::PrefixIgnoringCase(_) | Test::SuffixIgnoringCase(_) | Test::EqualsIgnoringCase(_) => false,
        Test::AnythingBut(_) | Test::Exists => false,
    }
}

/// Whether a value lies before, among or after those that pass.
fn side(test: &Test, value: &Scalar<'_>) -> Ordering {
    count();
    match (test, value) {
        (Test::Bool(expected), Scalar::Bool(found)) => found.cmp(expected),
        (Test::Number(expected), Scalar::Number(found)) => found.cmp(expected),
        (Test::Within(ends), Scalar::Number(found)) => match **ends {
            [Some(low), _] if !low.is_below(*found) => Ordering::Less,
            [_, Some(high)] if !high.is_above(*found) => Ordering::Greater,
            _ => Ordering::Equal,
        },
        (Test::String(expected), Scalar::String(found)) => (**found).cmp(&**expected),
        (Test::Prefix(prefix), Scalar::String(found)) if found.starts_with(&**prefix) => Ordering::Equal,
        (Test::Prefix(prefix), Scalar::String(found)) => (**found).cmp(&**prefix),
        (Test::Null, value) => kind(value).cmp(&0),
        (Test::Bool(_), value) => kind(value).cmp(&1),
        (Test::Number(_) | Test::Within(_), value) => kind(value).cmp(&2),
        (Test::String(_) | Test::Prefix(_), value) => kind(value).cmp(&3),
        // Nothing passes.
        _ => Ordering::Greater,
    }
}

fn compare(a: &Scalar<'_>, b: &Scalar<'_>) -> Ordering {
    count();
    match (a, b) {
        (Scalar::Bool(a), Scalar::Bool(b)) => a.cmp(b),
        (Scalar::Number(a), Scalar::Number(b)) => a.cmp(b),
        (Scalar::String(a), Scalar::String(b)) => a.cmp(b),
        (a, b) => kind(a).cmp(&kind(b)),
    }
}

fn kind(value: &Scalar<'_>) -> u8 {
    match value {
        Scalar::Null => 0,
        Scalar::Bool(_) => 1,
        Scalar::Number(_) => 2,
        Scalar::String(_) => 3,
    }
}

/// More values than nearly all events have at one path. In tests, so few that they often have more.
pub(super) const MANY: usize = if cfg!(test) { 2 } else { 64 };

/// Counts what is compared, in tests alone.
pub(super) fn count() {
    #[cfg(test)]
    tests::COMPARED.with(|compared| compared.set(compared.get() + 1));
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fmt::Write as _};

    use crate::router::{
        Pattern,
        table::{Table, View},
    };

    thread_local! {
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    /// How many comparisons it takes to match an event with `count` values against as many patterns, each of which one
    /// of the values meets.
    fn compared(count: usize, pattern: fn(usize) -> String, value: fn(usize) -> String) -> usize {
        let patterns = (0..count).map(|number| Pattern::from_json("pattern", &pattern(number)).unwrap());
        let table = Table::compile(patterns.collect());
        let mut event = r#"{"a":["#.to_owned();
        for number in 0..count {
            write!(event, "{},", value(number)).unwrap();
        }
        event.push_str("null]}");
        let before = COMPARED.get();
        let mut matched = Vec::new();
        table
            .matches(&View::whole(event.as_bytes()), &mut matched)
            .unwrap();
        assert_eq!(matched.len(), count);
        COMPARED.get() - before
    }

    #[track_caller]
    fn check(pattern: fn(usize) -> String, value: fn(usize) -> String) {
        let [few, many] = [1_000, 2_000].map(|count| compared(count, pattern, value));
        // As often as sorting takes, and a look-up for each; all with all would be four times as many.
        assert!(many * 2 < few * 5, "{few} comparisons became {many}");
        assert!(many < 2_000 * 60, "{many} comparisons");
    }

    #[test]
    fn an_event_that_lists_the_values_of_all_rules_costs_no_rules_times_values() {
        check(
            |n| format!(r#"{{"a":["value-{n}"]}}"#),
            |n| format!(r#""value-{n}""#),
        );
        check(|n| format!(r#"{{"a":[{n}]}}"#), |n| n.to_string());
        check(
            |n| format!(r#"{{"a":[{{"prefix":"{n}/"}}]}}"#),
            |n| format!(r#""{n}/x""#),
        );
        check(
            |n| format!(r#"{{"a":[{{"numeric":[">=",{n},"<",{n}.5]}}]}}"#),
            |n| n.to_string(),
        );
    }
}
