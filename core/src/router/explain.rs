//! Why an event matches a route or does not.

mod hint;
mod walk;

use std::fmt;

use serde::Serialize;

use super::{
    pattern::{Clause, Test},
    table::{Leaves, Stop, Table},
};

pub(super) use walk::Walk;

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

impl fmt::Display for FailedClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = self.expected.join(" or ");
        let actual = self.actual.join(", ");
        let actual = if actual.is_empty() { "nothing" } else { &actual };
        write!(f, "{}: expected {expected}, found {actual}", self.path)
    }
}

/// Puts the trace of a pattern into words.
pub(super) fn explain(
    route: &str,
    trace: &[(Vec<Clause>, Result<(), Stop>)],
    leaves: &Leaves<'_>,
    table: &Table,
    event: Option<&Walk<'_>>,
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
            hint: hint::of(clause, stop, &actual, event),
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

/// How many values are shown.
const MOST_VALUES: usize = 5;
