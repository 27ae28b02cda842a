//! Patterns against the cases of the test suites of aws/event-ruler, whose language we speak, and timbray/quamina.
//!
//! The cases are JSON lines: `source`, `pattern` (its text), `event` (its text, or null) and `expect`. They are not
//! part of this repository; `JACKFIELD_ROUTING_CASES` tells where they are. Without them these tests say so and
//! check nothing; the project's own table is in `patterns.rs`.

use std::{collections::BTreeMap, fs};

use jackfield::router::Pattern;
use serde::Deserialize;
use serde_json::value::RawValue;

#[path = "patterns/page.rs"]
mod page;

use page::{PAGE, table};

/// Where we differ on purpose: id of the case, what we do instead, and why. For users, all of it stands in `PATTERNS.md`.
const DEVIATIONS: [(u32, &str, &str); 3] = [
    (348, "reject", TWICE),
    (349, "reject", TWICE),
    (1057, "reject", TWICE),
];

const TWICE: &str =
    "a path that is given twice in one place is a mistake; event-ruler silently takes the last";

const LINES: &str = include_str!("patterns.txt");

/// Operators of quamina's own.
const EXTRAS: [&str; 2] = ["\"regexp\"", "\"shellstyle\""];

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
    let deviations: BTreeMap<_, _> = DEVIATIONS.iter().map(|(id, ours, _)| (*id, *ours)).collect();
    check("aws/event-ruler", 2_186, |mut case| {
        if let Some(ours) = deviations.get(&case.id) {
            case.expect = (*ours).to_owned();
        }
        Some(case)
    });
}

#[test]
fn patterns_do_what_quamina_does_but_for_its_extras() {
    check("timbray/quamina", 800, |mut case| {
        // It reads a pattern up to its end and no further; with us, text after it is a mistake.
        let mut texts = serde_json::Deserializer::from_str(&case.pattern).into_iter::<&RawValue>();
        if let Some(Ok(first)) = texts.next() {
            case.pattern = first.get().to_owned();
        }
        let is_extra = EXTRAS.iter().any(|extra| case.pattern.contains(extra));
        (!is_extra).then_some(case)
    });
}

#[test]
fn the_deviations_are_those_that_are_documented() {
    let mut documented = Vec::new();
    let mut rows = 0;
    for row in table("## Where Jackfield differs") {
        let [_, _, here, why, cases] = row[..] else {
            panic!("five cells: {row:?}");
        };
        rows += 1;
        match cases.strip_prefix("`#") {
            // Above these lines, which `patterns.rs` checks.
            Some(_) => {
                let heading = cases.trim_matches('`');
                assert!(LINES.lines().any(|line| line == heading), "{heading}");
            }
            None => {
                let ids = cases.split(", ").map(|id| id.parse::<u32>().expect(cases));
                documented.extend(ids.map(|id| (id, here, why)));
            }
        }
    }
    let ours = DEVIATIONS.map(|(id, outcome, why)| {
        assert_eq!(outcome, "reject", "the page says `refused`");
        (id, "refused", why)
    });
    assert_eq!(documented, ours);
    assert!(rows > 4, "only {rows} rows");
    for extra in EXTRAS {
        assert!(PAGE.contains(&extra.replace('"', "`")), "{extra}");
    }
}

/// Checks the cases from one source, as `judge` sees them; there must be at least so many.
#[track_caller]
fn check(source: &str, least: usize, judge: impl Fn(Case) -> Option<Case>) {
    let Some(text) = cases() else { return };
    let read = |line| serde_json::from_str::<Case>(line).expect("each line is a case");
    let cases = text.lines().map(read);
    let cases: Vec<_> = cases
        .filter(|case| case.source == source)
        .filter_map(judge)
        .collect();
    let wrong = cases.iter().filter_map(|case| {
        let found = outcome(case);
        let Case {
            id,
            pattern,
            event,
            expect,
            ..
        } = case;
        (found != expect).then(|| format!("{id}: {found}, expected {expect}: {pattern} {event:?}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert!(cases.len() >= least, "only {} cases", cases.len());
}

/// The text of all cases, where it is at hand.
fn cases() -> Option<String> {
    let beside = || {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shared/facts/routing-cases.jsonl"
        )
        .to_owned()
    };
    let path = std::env::var("JACKFIELD_ROUTING_CASES").unwrap_or_else(|_| beside());
    let text = fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("not checked: there are no cases at {path}; see JACKFIELD_ROUTING_CASES");
    }
    text
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
