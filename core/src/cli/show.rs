//! One event or one delivery, whole, for people.

use std::fmt::Write;

use super::{
    lists::why,
    table::{age, short, span, state, until},
};
use crate::{
    delivery::{Keep, Phase},
    journal::{
        Ask, AttemptRecord, DeliveryMark, DeliveryRecord, DeliveryStory, EventStory, Gathered, ReplayKeys,
        RequestRecord,
    },
    reason::Reason,
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
        ("kept", story.kept.missing().unwrap_or_default().to_owned()),
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
        (
            "gathered",
            record.gathered.as_ref().map(gathered).unwrap_or_default(),
        ),
        ("missing", story.missing.clone().unwrap_or_default()),
        ("owed", format!("{} ({})", record.created, age(record.created))),
        (
            "settled",
            record
                .settled
                .map(|at| format!("{at} ({})", age(at)))
                .unwrap_or_default(),
        ),
        ("order key", record.order_key.clone().unwrap_or_default()),
        ("replay of", replay_of(record)),
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
            "replayed as",
            record
                .replays
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
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

/// That a delivery stands for a burst, and what its steps see of that.
pub(super) fn gathered(gathered: &Gathered) -> String {
    let Gathered {
        reason,
        events,
        keep,
        seen,
    } = gathered;
    let seen = match (keep, seen) {
        (Keep::All, _) => "all".to_owned(),
        (Keep::Newest, None) => "the newest alone".to_owned(),
        (Keep::Newest, Some(seen)) => format!("the newest alone, {seen}"),
    };
    format!("{events} events in one ({reason}); its steps see {seen}")
}

/// A dead letter, and what can be done about it.
pub(super) fn dead(story: &DeliveryStory) -> String {
    let mut text = delivery(story);
    let record = &story.record;
    let (id, failure) = (record.id, record.failure.as_ref());
    if story.missing.is_some() {
        text.push_str("\nIt cannot be replayed any more\n");
        return text;
    }
    let mut ways = vec![(
        format!("replay {id}"),
        "all of it again; what did happen does not happen twice",
    )];
    let step = failure.and_then(|failure| failure.step.as_deref());
    if let Some(step) = step {
        ways.push((
            format!("replay {id} --from {step}"),
            "from the step on that failed",
        ));
    }
    ways.push((
        format!("replay {id} --rules today"),
        "by today's rules, once they are mended",
    ));
    let in_doubt = step.is_some_and(|step| {
        let last = story
            .attempts
            .iter()
            .rfind(|attempt| attempt.step_id == step && attempt.phase == Phase::Steps);
        last.and_then(|attempt| attempt.reason)
            .is_some_and(Reason::leaves_doubt)
    });
    if in_doubt {
        let words = "where you have seen that it did happen; with `--repeat`, that it did not";
        ways.push((format!("deliveries resolve {id} --done"), words));
    }
    text.push_str("\nWhat can be done\n");
    for (command, words) in ways {
        let _ = writeln!(text, "  jackfield {command}\n    {words}");
    }
    text
}

/// What a delivery replays, who asked for that, and what for.
fn replay_of(record: &DeliveryRecord) -> String {
    let Some(asked) = &record.asked else {
        return record.parent.map(|parent| parent.to_string()).unwrap_or_default();
    };
    let of = match record.parent {
        Some(parent) => parent.to_string(),
        None => "its event".to_owned(),
    };
    let from = asked.from.as_deref().unwrap_or_default();
    let what = match (asked.what, from) {
        (Ask::Replay, "") => String::new(),
        (Ask::Replay, from) => format!(" from `{from}`"),
        (Ask::ResolveDone, step) => format!(" behind `{step}`, which was done,"),
        (Ask::ResolveRepeat, step) => format!(" from `{step}`, which was not done,"),
    };
    let keys = match (record.parent, asked.keys) {
        (Some(_), ReplayKeys::Renew) => " with new keys",
        (Some(_), ReplayKeys::Keep) | (None, _) => "",
    };
    format!("{of}{what}{keys} {}", asked.asker.words())
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
    if attempt.files {
        text.push_str("    left files in the work directory\n");
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
