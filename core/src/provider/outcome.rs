//! One vocabulary for how things end, whoever ran them.

use std::borrow::Cow;

/// A provider's word for a state, in the common vocabulary: `pending`, `running`, `success`, `failure`,
/// `canceled`, `timeout`. A word that is none of theirs passes through, as [`word`] spells it.
pub(super) fn outcome(state: &str) -> Option<Cow<'static, str>> {
    let state = word(state)?;
    Some(match state.as_str() {
        "created" | "pending" => "pending".into(),
        "inprogress" | "in_progress" | "running" | "building" => "running".into(),
        "success" => "success".into(),
        "failed" | "failure" | "error" => "failure".into(),
        "canceled" | "cancelled" => "canceled".into(),
        "timeout" => "timeout".into(),
        _ => state.into(),
    })
}

/// `text` as it may stand in an event's type: lower case, of letters, digits, `.`, `_` and `-`, each other
/// character an `_`, and at most 64 of them. `None` where nothing is left.
pub(super) fn word(text: &str) -> Option<String> {
    let word: String = text
        .trim()
        .chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | '0'..='9' | '.' | '_' | '-' => c,
            'A'..='Z' => c.to_ascii_lowercase(),
            _ => '_',
        })
        .collect();
    (!word.is_empty()).then_some(word)
}

/// What people say of a thing with that outcome: "… finished".
pub(super) fn phrase(outcome: &str) -> Cow<'static, str> {
    match outcome {
        "pending" => "is waiting".into(),
        "running" => "is running".into(),
        "success" => "finished".into(),
        "failure" => "failed".into(),
        "canceled" => "was canceled".into(),
        "timeout" => "timed out".into(),
        other => format!("is now {}", other.replace('_', " ")).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_state_has_one_outcome_in_any_case() {
        for (states, expected) in [
            ("created PENDING", "pending"),
            ("InProgress in_progress RUNNING building", "running"),
            ("Success SUCCESS success", "success"),
            ("Failure Failed FAILED error", "failure"),
            ("CANCELED cancelled", "canceled"),
            ("Timeout TIMEOUT", "timeout"),
            ("Paused", "paused"),
            ("Über-Kaputt!", "_ber-kaputt_"),
        ] {
            for state in states.split(' ') {
                assert_eq!(outcome(state).as_deref(), Some(expected), "{state}");
            }
        }
        assert_eq!(outcome("  "), None);
        assert_eq!(outcome(&"x".repeat(1000)).unwrap().len(), 64);
    }
}
