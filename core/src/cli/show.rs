//! One event or one delivery, whole, for people.

use std::fmt::Write;

use super::{
    lists::why,
    table::{age, short, span, state, until},
};
use crate::{
    delivery::Phase,
    journal::{AttemptRecord, DeliveryMark, DeliveryStory, EventStory, RequestRecord},
};

/// An event: what it is, what it owes, and its JSON.
pub(super) fn event(story: &EventStory, request: Option<&RequestRecord>) -> String {
    let record = &story.record;
    let mut text = fields(&[
        ("event", record.id.to_string()),
        ("type", record.kind.clone()),
        ("title", record.title.clone().unwrap_or_default()),
        ("source", format!("{} ({})", record.source, record.provider)),
        (
            "received",
            format!("{} ({})", record.received, age(record.received)),
        ),
        ("dedup key", story.dedup.clone().unwrap_or_default()),
        ("duplicates", record.duplicates.to_string()),
        ("generation", record.generation.to_string()),
    ]);
    text.push_str("\nDeliveries\n");
    if record.deliveries.is_empty() {
        let _ = writeln!(
            text,
            "  none: no route matched; `jackfield routes explain {}` says why",
            record.id
        );
    }
    for delivery in &record.deliveries {
        let _ = writeln!(
            text,
            "  {}  {}  {}",
            delivery.id,
            state(delivery.state),
            delivery.route
        );
    }
    if let Some(request) = request {
        text.push_str("\nHeaders that were kept\n");
        for (name, value) in &request.headers {
            let _ = writeln!(text, "  {name}: {}", short(value, 120));
        }
    }
    text.push_str("\nEvent\n");
    text.push_str(&pretty(story.event.get()));
    text
}

/// A delivery: where it stands, and every attempt.
pub(super) fn delivery(story: &DeliveryStory) -> String {
    let record = &story.record;
    let events: Vec<_> = record.events.iter().map(ToString::to_string).collect();
    let mut text = fields(&[
        ("delivery", record.id.to_string()),
        ("route", record.route.clone()),
    ]);
    let _ = writeln!(text, "{:<11} {}", "state", state(record.state));
    text += &fields(&[
        ("why", why(record)),
        ("events", events.join(", ")),
        ("owed", format!("{} ({})", record.created, age(record.created))),
        (
            "settled",
            record
                .settled
                .map(|at| format!("{at} ({})", age(at)))
                .unwrap_or_default(),
        ),
        ("order key", record.order_key.clone().unwrap_or_default()),
        (
            "deadline",
            record
                .deadline
                .map(|at| match record.settled {
                    Some(_) => at.to_string(),
                    None => format!("{at} ({})", until(at)),
                })
                .unwrap_or_default(),
        ),
        (
            "replay of",
            record.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        ),
        (
            "replaced by",
            record
                .successor
                .map(|successor| successor.to_string())
                .unwrap_or_default(),
        ),
        ("generation", record.generation.to_string()),
    ]);
    text.push_str("\nAttempts\n");
    if story.attempts.is_empty() {
        text.push_str("  none yet\n");
    }
    for attempt in &story.attempts {
        self::attempt(&mut text, attempt);
    }
    text
}

fn attempt(text: &mut String, attempt: &AttemptRecord) {
    let phase = match attempt.phase {
        Phase::Steps => "",
        Phase::OnFailure => "on failure, ",
    };
    let number = attempt.attempt.map_or_else(
        || "without a call".to_owned(),
        |number| format!("attempt {number}"),
    );
    let outcome = match (attempt.outcome, attempt.reason) {
        (Some(outcome), None) => outcome.word().to_owned(),
        (Some(outcome), Some(reason)) => format!("{} ({reason})", outcome.word()),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => "running".to_owned(),
    };
    let took = attempt.ended.map_or_else(String::new, |ended| {
        format!(" after {}", span(ended.saturating_since(attempt.started)))
    });
    let instance = attempt.instance.as_deref().unwrap_or("-");
    let _ = writeln!(
        text,
        "  {phase}step {} `{}` at {instance}, {number}, {}: {outcome}{took}",
        attempt.step + 1,
        attempt.step_id,
        age(attempt.started),
    );
    if let Some(message) = &attempt.message {
        let _ = writeln!(text, "    said    {}", short(message, 400));
    }
    if let Some(input) = &attempt.input {
        let _ = writeln!(text, "    input   {}", short(input.get(), 400));
    }
    if let Some(output) = &attempt.output {
        let _ = writeln!(text, "    output  {}", short(output.get(), 400));
    }
}

/// The deliveries of an event, in a few words.
pub(super) fn marks(deliveries: &[DeliveryMark]) -> String {
    if deliveries.is_empty() {
        return "no route matched".to_owned();
    }
    let words = deliveries
        .iter()
        .map(|delivery| format!("{} {}", short(&delivery.route, 24), state(delivery.state)));
    words.collect::<Vec<_>>().join(", ")
}

/// `name  value` lines, without those that have no value. Much of it others wrote: nothing steers the terminal.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{name:<11} {}", value.replace(char::is_control, " "));
    }
    text
}

fn pretty(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sender_wrote_does_not_steer_the_terminal() {
        let shown = fields(&[
            ("order key", "a\x1b]0;owned\x07\nb".into()),
            ("title", String::new()),
        ]);
        assert_eq!(shown, "order key   a ]0;owned  b\n");
    }
}
