//! Patterns and events: nothing panics, what is JSON is what serde_json says it is, and the index finds what there is to
//! find.
//!
//! An input is lines of patterns, an empty line, and an event. `tests/patterns.rs` replays the inputs that were kept.

use jackfield::router::{Pattern, Table, View};
use serde::de::IgnoredAny;

pub(crate) fn check(input: &[u8]) {
    let end = input.windows(2).position(|two| two == b"\n\n");
    let (patterns, event) = match end {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (input, input),
    };
    let patterns = String::from_utf8_lossy(patterns);
    let patterns = patterns
        .lines()
        .filter_map(|line| Pattern::from_json("pattern", line).ok());
    let table = Table::compile(patterns.collect());
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    let read = table.matches(&View::whole(event), &mut found);
    assert_eq!(read.is_ok(), is_json(event), "{read:?}");
    if read.is_ok() {
        table
            .matches_one_by_one(&View::whole(event), &mut expected)
            .expect("it has just been read");
    }
    assert_eq!(found, expected);
}

fn is_json(event: &[u8]) -> bool {
    std::str::from_utf8(event).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}
