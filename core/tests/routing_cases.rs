//! Patterns against the cases of aws/event-ruler's own test suite.
//!
//! The cases are JSON lines: `source`, `pattern` (its text), `event` (its text, or null) and `expect`. They are not
//! part of this repository; `JACKFIELD_ROUTING_CASES` tells where they are. Without them this test says so and
//! checks nothing; the project's own table is in `patterns.rs`.

use std::{collections::BTreeMap, fs};

use jackfield::router::Pattern;
use serde::Deserialize;

/// Where we differ on purpose: id of the case, what we do instead, and why.
const DEVIATIONS: [(u32, &str, &str); 3] = [
    (348, "reject", TWICE),
    (349, "reject", TWICE),
    (1057, "reject", TWICE),
];

const TWICE: &str =
    "a path that is given twice in one place is a mistake; event-ruler silently takes the last";

#[derive(Deserialize)]
struct Case {
    id: u32,
    source: String,
    pattern: String,
    event: Option<String>,
    expect: String,
}

#[test]
fn patterns_do_what_event_ruler_does() {
    let path = std::env::var("JACKFIELD_ROUTING_CASES").unwrap_or_else(|_| {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/facts/routing-cases.jsonl"
        )
        .into()
    });
    let Ok(text) = fs::read_to_string(&path) else {
        println!("not checked: there are no cases at {path}; see JACKFIELD_ROUTING_CASES");
        return;
    };
    let deviations: BTreeMap<_, _> = DEVIATIONS.iter().map(|(id, ours, _)| (*id, *ours)).collect();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in text.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        if case.source != "aws/event-ruler" {
            continue;
        }
        checked += 1;
        let expected = deviations.get(&case.id).copied().unwrap_or(&case.expect);
        let found = outcome(&case);
        if found != expected {
            wrong.push(format!(
                "{}: {found}, expected {expected}: {} {:?}",
                case.id, case.pattern, case.event
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(checked > 2_000, "only {checked} cases");
}

fn outcome(case: &Case) -> &'static str {
    let pattern = match Pattern::from_json("pattern", &case.pattern) {
        Ok(pattern) => pattern,
        Err(_) => return "reject",
    };
    match case
        .event
        .as_deref()
        .map(|event| pattern.matches(event.as_bytes()))
    {
        None => "accept",
        Some(Ok(true)) => "match",
        Some(Ok(false)) => "nomatch",
        Some(Err(_)) => "event-error",
    }
}
