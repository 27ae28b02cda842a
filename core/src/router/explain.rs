//! Why an event matches a route or does not.

use serde::Serialize;
use serde_json::Value;

use super::{
    pattern::{Clause, Scalar, Test},
    table::{Leaves, Stop, Table},
};
use crate::fault::nearest;

/// What one route says to one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The route's name.
    pub route: String,
    /// Whether the event matches.
    pub matched: bool,
    /// The first clause that failed, where it does not. With `$or`, of the alternative that came furthest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedClause>,
}

/// The clause of a pattern that an event does not meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedClause {
    /// The path that it looks at.
    pub path: String,
    /// The values of which it asks for one, as the pattern has them.
    pub expected: Vec<String>,
    /// The values that the event has there, in JSON, the first few.
    pub actual: Vec<String>,
    /// What may be the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Puts the trace of a pattern into words.
pub(super) fn explain(
    route: &str,
    trace: &[(Vec<Clause>, Result<(), Stop>)],
    leaves: &Leaves<'_>,
    table: &Table,
    event: &Value,
) -> Explanation {
    let matched = trace.iter().any(|(_, result)| result.is_ok());
    let stops = trace
        .iter()
        .filter_map(|(clauses, result)| Some((result.err()?, clauses)));
    // The first of those that came furthest.
    let furthest = stops.min_by_key(|(stop, _)| usize::MAX - stop.clause);
    let failed = furthest.filter(|_| !matched).map(|(stop, clauses)| {
        let clause = &clauses[stop.clause];
        let actual: Vec<_> = table.values(&clause.path, leaves).collect();
        FailedClause {
            path: clause.dotted(),
            expected: clause.tests.iter().map(Test::to_string).collect(),
            hint: hint(clause, stop, &actual, event),
            actual: actual
                .iter()
                .take(MOST_VALUES)
                .map(|value| value.to_string())
                .collect(),
        }
    });
    Explanation {
        route: route.to_owned(),
        matched,
        failed,
    }
}

fn hint(clause: &Clause, stop: Stop, actual: &[&Scalar<'_>], event: &Value) -> Option<String> {
    if stop.elsewhere {
        return Some("a value fits, but in another element of a list than the clauses before it".to_owned());
    }
    if actual.is_empty() {
        return hint_for_nothing(clause, event);
    }
    let mut pairs = clause
        .tests
        .iter()
        .flat_map(|test| actual.iter().map(move |value| (test, *value)));
    pairs.find_map(|(test, value)| hint_for_values(test, value))
}

fn hint_for_values(test: &Test, value: &Scalar<'_>) -> Option<String> {
    match (test, value) {
        (Test::String(expected), Scalar::String(found)) => {
            if expected.trim() == found.trim() {
                return Some("only the white space differs".to_owned());
            }
            let same = expected.to_lowercase() == found.to_lowercase();
            same.then(|| "only the case differs; `equals-ignore-case` ignores it".to_owned())
        }
        (Test::Number(expected), Scalar::String(found)) if expected.to_string() == *found => {
            Some("the event has a string, the pattern asks for a number".to_owned())
        }
        (Test::String(expected), Scalar::Number(found)) if **expected == found.to_string() => {
            Some("the event has a number, the pattern asks for a string".to_owned())
        }
        (Test::String(expected), Scalar::Bool(found)) if **expected == found.to_string() => {
            Some("the event has a truth value, the pattern asks for a string".to_owned())
        }
        _ => None,
    }
}

/// What stands where the path does not lead on.
fn hint_for_nothing(clause: &Clause, event: &Value) -> Option<String> {
    let mut at = event;
    let mut walked = String::new();
    for name in clause.path.iter() {
        while let Some(first) = at.as_array() {
            at = first.first()?;
        }
        let Some(next) = at.get(&**name) else {
            let known = at.as_object()?;
            let place = match walked.as_str() {
                "" => "the event".to_owned(),
                walked => format!("`{walked}`"),
            };
            return Some(match nearest(name, known.keys().map(String::as_str)) {
                Some(near) => format!("{place} has no `{name}`, but `{near}`"),
                None => format!("{place} has no `{name}`"),
            });
        };
        at = next;
        walked = match walked.as_str() {
            "" => name.to_string(),
            walked => format!("{walked}.{name}"),
        };
    }
    at.is_object()
        .then(|| format!("`{walked}` is an object; a pattern looks at the values in it"))
}

/// How many values are shown.
const MOST_VALUES: usize = 5;
