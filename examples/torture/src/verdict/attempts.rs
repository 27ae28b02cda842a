//! A delivery's attempts and its end, as the journal has them, against what the puppets were told.

use std::time::Duration;

use jackfield::{
    delivery::{Outcome, Phase, State},
    reason::Reason,
};

use super::{Evidence, Verdict};
use crate::{
    archive::{Attempt, Story},
    master::{Call, MOURN, Order},
    site::{ATTEMPTS, FREE, LATEST, SUPERSEDING},
};

/// Checks a delivery and all calls of it.
pub(super) fn check(story: &Story, calls: &[&Call], evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let mut wrong = Vec::new();
    told(story, calls, verdict, &mut wrong);
    taken_over(story, evidence, &mut wrong);
    for call in calls {
        events(story, call, evidence, &mut wrong);
        if let Some(deadline) = story.deadline {
            in_time(call, deadline, evidence, &mut wrong);
        }
    }
    let Story { id, route, .. } = story;
    verdict.wrong.extend(
        wrong
            .into_iter()
            .map(|wrong| format!("{id} of `{route}`: {wrong}")),
    );
}

/// What was taken over is done in the delivery that it replays, as far as that is known.
fn taken_over(story: &Story, evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let parent = story
        .parent
        .as_deref()
        .and_then(|parent| evidence.stories.get(parent));
    let Some(parent) = parent else { return };
    let taken = story
        .attempts
        .iter()
        .filter(|record| record.number == 0 && record.reason == Some(Reason::TakenOver));
    for Attempt { step, .. } in taken {
        let is_done = |record: &Attempt| {
            record.step == *step && matches!(record.outcome, Some(Outcome::Done | Outcome::Skipped))
        };
        if !parent.attempts.iter().any(is_done) {
            wrong.push(format!(
                "`{step}` is taken over, and was not done in {}",
                parent.id
            ));
        }
    }
}

/// It was of the delivery's events; but for those that retention took before anybody looked.
fn events(story: &Story, call: &Call, evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let told = &call.told;
    let jobs: Vec<_> = story
        .events
        .iter()
        .filter_map(|event| evidence.jobs.get(event.as_str()).copied())
        .collect();
    let mut missing = told.input.jobs.iter().filter(|job| !jobs.contains(&job.as_str()));
    let may_be_missing = |job: &String| {
        let promise = evidence.promises.jobs.get(job);
        promise.is_some_and(|promise| {
            promise
                .events
                .iter()
                .any(|event| evidence.gone.contains(event.as_str()))
        })
    };
    let newest = evidence.jobs.get(told.event.as_str());
    let seen = match story.route == LATEST {
        // Of all its events, its steps see the newest, which may be gone before others.
        true => newest.map(std::slice::from_ref).unwrap_or_default(),
        false => &jobs[..],
    };
    let is_of_them = seen
        .iter()
        .all(|job| told.input.jobs.iter().any(|told| told == job));
    let is_newest = story.events.last() == Some(&told.event) || evidence.gone.contains(told.event.as_str());
    if !is_of_them || !is_newest || !missing.all(may_be_missing) {
        wrong.push(format!(
            "{} was of {:?} and {}, not of {jobs:?} and {:?}",
            said(call),
            told.input.jobs,
            told.event,
            story.events.last()
        ));
    }
}

/// It was not begun after the deadline. Until it is seen, some time passes.
fn in_time(call: &Call, deadline: i64, evidence: &Evidence<'_>, wrong: &mut Vec<String>) {
    let begun = call.at.checked_sub(UNDER_WAY).unwrap_or(call.at);
    let earliest = evidence.ended.clock.earliest(begun, call.at);
    if call.told.step != MOURN && earliest > deadline {
        wrong.push(format!(
            "{} was begun {} ms or more after its deadline",
            said(call),
            earliest - deadline
        ));
    }
}

fn told(story: &Story, calls: &[&Call], verdict: &mut Verdict, wrong: &mut Vec<String>) {
    for call in calls {
        match record_of(story, call) {
            None => wrong.push(format!(
                "{} was made, and its start is not in the journal",
                said(call)
            )),
            Some(record) if !agree(record, call) => wrong.push(format!(
                "{} was told `{}` (heard: {}), and the journal says {:?} {:?}",
                said(call),
                call.order.word(),
                call.heard,
                record.outcome,
                record.reason
            )),
            Some(record) => verdict.unheard += u64::from(is_unheard(record, call)),
        }
    }
    for record in &story.attempts {
        let Attempt {
            step,
            number: attempt,
            ..
        } = record;
        let made = calls.iter().filter(|call| is_of(record, call)).count();
        if made > 1 {
            wrong.push(format!("attempt {attempt} of `{step}` was made {made} times"));
        }
        if made == 0 && claims_to_know(record) {
            wrong.push(format!(
                "attempt {attempt} of `{step}` was never made, and the journal says {:?} {:?}",
                record.outcome, record.reason
            ));
        }
    }
    repeated(story, calls, verdict, wrong);
    receipts(story, calls, wrong);
    end(story, wrong);
}

fn said(call: &Call) -> String {
    format!(
        "attempt {} of `{}` (life {})",
        call.told.attempt, call.told.step, call.life
    )
}

fn record_of<'s>(story: &'s Story, call: &Call) -> Option<&'s Attempt> {
    story.attempts.iter().find(|record| is_of(record, call))
}

fn is_of(record: &Attempt, call: &Call) -> bool {
    record.step == call.told.step && record.number == call.told.attempt
}

/// Whether the router has recorded the end that the puppet was told of.
pub(super) fn was_heard(story: &Story, call: &Call) -> bool {
    record_of(story, call).is_some_and(|record| !is_unheard(record, call))
}

/// Whether the router did not learn how the call ended: it died, or the puppet's process did, or time ran out.
fn is_unheard(record: &Attempt, call: &Call) -> bool {
    match (record.outcome, record.reason) {
        (None, Some(Reason::Interrupted)) => true,
        (Some(Outcome::Retry), Some(Reason::PluginCrashed)) => {
            !matches!(call.order, Order::Wait | Order::Crash | Order::Deaf)
        }
        (Some(Outcome::Retry), Some(Reason::Interrupted | Reason::TimedOut | Reason::Canceled)) => {
            !matches!(call.order, Order::Wait | Order::Deaf)
        }
        (Some(Outcome::Fatal), Some(Reason::Quarantined)) => call.order != Order::Crash,
        (Some(Outcome::Retry), Some(Reason::PluginRetry)) => call.order != Order::Retry && !call.heard,
        _ => false,
    }
}

/// Whether the journal says of the call what it was told.
fn agree(record: &Attempt, call: &Call) -> bool {
    if is_unheard(record, call) {
        return true;
    }
    let expected = match call.order {
        Order::Done => return record.outcome == Some(Outcome::Done),
        Order::Skip => (Outcome::Skipped, &[Reason::PluginSkipped][..]),
        Order::Retry => (Outcome::Retry, &[Reason::PluginRetry][..]),
        Order::Fatal => (Outcome::Fatal, &[Reason::PluginFatal][..]),
        Order::Ambiguous => (Outcome::Ambiguous, &[Reason::PluginAmbiguous][..]),
        // What cannot be handed on was done for nothing.
        Order::Large => (Outcome::Fatal, &[Reason::PluginFatal][..]),
        Order::Panic => (Outcome::Retry, &[Reason::PluginPanicked][..]),
        Order::Crash if record.reason == Some(Reason::Quarantined) => {
            return record.outcome == Some(Outcome::Fatal);
        }
        Order::Crash => (Outcome::Retry, &[Reason::PluginCrashed][..]),
        Order::Wait | Order::Deaf => {
            let ways = &[
                Reason::TimedOut,
                Reason::Interrupted,
                Reason::PluginCrashed,
                Reason::PluginRetry,
            ];
            (Outcome::Retry, &ways[..])
        }
    };
    let (outcome, reasons) = expected;
    record.outcome == Some(outcome) && record.reason.is_some_and(|reason| reasons.contains(&reason))
}

/// Whether the journal says what only a puppet can have said.
fn claims_to_know(record: &Attempt) -> bool {
    match (record.outcome, record.reason) {
        // Or what a person said, and what stands in the delivery that is replayed.
        (Some(Outcome::Done | Outcome::Skipped), Some(Reason::Resolved | Reason::TakenOver)) => {
            record.number > 0
        }
        (Some(Outcome::Done | Outcome::Skipped | Outcome::Ambiguous), _) => true,
        (Some(Outcome::Fatal), reason) => reason == Some(Reason::PluginFatal),
        (Some(Outcome::Retry) | None, _) => false,
    }
}

/// What came to its end and was called for again: only where the router had not heard of it.
fn repeated(story: &Story, calls: &[&Call], verdict: &mut Verdict, wrong: &mut Vec<String>) {
    for (at, call) in calls.iter().enumerate() {
        let again = calls[at + 1..]
            .iter()
            .any(|later| later.told.key == call.told.key);
        if again && call.order.is_final() {
            let again = verdict.again.entry(call.life).or_default();
            let reason = record_of(story, call).and_then(|record| record.reason);
            match reason {
                Some(Reason::PluginCrashed | Reason::Quarantined) => again.crashed += 1,
                _ => again.unheard += 1,
            }
            if was_heard(story, call) {
                wrong.push(format!(
                    "{} came to its end, and it was called for again",
                    said(call)
                ));
            }
        }
    }
}

/// What an attempt wrote down before it acted, the next one finds.
fn receipts(story: &Story, calls: &[&Call], wrong: &mut Vec<String>) {
    for (at, call) in calls.iter().enumerate() {
        let earlier = calls[..at]
            .iter()
            .filter(|earlier| earlier.told.key == call.told.key);
        let kept = earlier.map(|earlier| earlier.told.attempt).max().unwrap_or(0);
        // A replay may find what the delivery that it replays has kept.
        if call.told.found < kept || (call.told.found >= call.told.attempt && !story.is_replay) {
            let found = call.told.found;
            wrong.push(format!(
                "{} found the receipt of attempt {found}, and {kept} had kept one",
                said(call)
            ));
        }
    }
}

/// The state of the delivery follows from its attempts.
fn end(story: &Story, wrong: &mut Vec<String>) {
    let steps: &[&str] = if story.route == FREE {
        &["first", "second"]
    } else {
        &["only"]
    };
    let last = |step: &str| story.attempts.iter().rfind(|record| record.step == step);
    match (story.state, &story.failure) {
        (State::Succeeded, None) => {
            for step in steps {
                let ended = last(step).and_then(|record| record.outcome);
                if !matches!(ended, Some(Outcome::Done | Outcome::Skipped)) {
                    wrong.push(format!("it succeeded, and its step `{step}` ended as {ended:?}"));
                }
            }
            if story
                .attempts
                .iter()
                .any(|record| record.phase == Phase::OnFailure)
            {
                wrong.push("it succeeded, and it was mourned".into());
            }
        }
        (State::Dead, Some(failure)) => {
            let step = failure.step.as_deref().unwrap_or_default();
            let ended = last(step);
            let outcome = ended.and_then(|record| record.outcome);
            let is_so = match failure.reason {
                Reason::PluginFatal | Reason::Quarantined => outcome == Some(Outcome::Fatal),
                Reason::PluginAmbiguous => outcome == Some(Outcome::Ambiguous),
                Reason::AttemptsExhausted => {
                    !matches!(
                        outcome,
                        Some(Outcome::Done | Outcome::Skipped | Outcome::Ambiguous)
                    ) && story.attempts.iter().filter(|record| record.step == step).count()
                        >= ATTEMPTS as usize
                }
                Reason::DeadlinePassed => {
                    story.deadline.is_some() && !matches!(outcome, Some(Outcome::Done | Outcome::Skipped))
                }
                _ => false,
            };
            if !is_so {
                let reason = ended.and_then(|record| record.reason);
                wrong.push(format!(
                    "it is dead for {failure:?}, and `{step}` ended as {outcome:?} {reason:?}"
                ));
            }
            if story.route == FREE && last(MOURN).is_none() {
                wrong.push("it is dead, and nobody mourned".into());
            }
        }
        (State::Superseded, None) if SUPERSEDING.contains(&story.route.as_str()) => {}
        // Whether somebody asked for it is looked at elsewhere.
        (State::Canceled, _) => {}
        (state, failure) => wrong.push(format!("it is {} with {failure:?}", state.word())),
    }
}

/// How long the start of a call is on its way at most: its commit waits for the disk, and a process may stand still.
const UNDER_WAY: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use jackfield::journal::Failure;

    use super::*;
    use crate::master::tests::call;

    /// A delivery of one step with these attempts, and what its puppets were told.
    fn found(state: &str, failure: &str, attempts: &[&str], calls: &[(u32, Order, bool)]) -> Vec<String> {
        let story = story(state, failure, attempts);
        let calls: Vec<_> = calls
            .iter()
            .map(|(attempt, order, heard)| call(*attempt, *order, *heard))
            .collect();
        let (mut verdict, mut wrong) = (Verdict::default(), Vec::new());
        told(
            &story,
            &calls.iter().collect::<Vec<_>>(),
            &mut verdict,
            &mut wrong,
        );
        wrong
    }

    fn story(state: &str, failure: &str, attempts: &[&str]) -> Story {
        let attempts = attempts.iter().enumerate().map(|(at, end)| {
            let (outcome, reason) = end.split_once(' ').unwrap_or((end, ""));
            Attempt {
                phase: Phase::Steps,
                step: "only".into(),
                number: u32::try_from(at).unwrap() + 1,
                outcome: word(outcome),
                reason: word(reason),
            }
        });
        Story {
            id: "dlv".into(),
            route: crate::site::ORDERED.into(),
            is_replay: false,
            parent: None,
            successor: None,
            held: false,
            deadline: None,
            events: vec!["evt".into()],
            state: word(state).unwrap(),
            failure: word(failure).map(|reason| Failure {
                step: Some("only".into()),
                reason,
                error: String::new(),
            }),
            attempts: attempts.collect(),
        }
    }

    fn word<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
        serde_json::from_value(word.into()).ok()
    }

    #[track_caller]
    fn fine(state: &str, failure: &str, attempts: &[&str], calls: &[(u32, Order, bool)]) {
        assert_eq!(found(state, failure, attempts, calls), Vec::<String>::new());
    }

    #[track_caller]
    fn wrong(said: &str, state: &str, failure: &str, attempts: &[&str], calls: &[(u32, Order, bool)]) {
        let found = found(state, failure, attempts, calls);
        assert!(found.iter().any(|found| found.contains(said)), "{found:?}");
    }

    #[test]
    fn what_the_puppets_were_told_is_what_the_journal_says() {
        use Order::{Ambiguous, Crash, Done, Fatal, Panic, Retry, Skip, Wait};
        fine("succeeded", "", &["done"], &[(1, Done, true)]);
        fine("succeeded", "", &["skipped plugin-skipped"], &[(1, Skip, true)]);
        let tries = [
            "retry plugin-retry",
            "retry plugin-panicked",
            "retry timed-out",
            "retry plugin-crashed",
            "done",
        ];
        let orders = [
            (1, Retry, true),
            (2, Panic, true),
            (3, Wait, true),
            (4, Crash, true),
            (5, Done, true),
        ];
        fine("succeeded", "", &tries, &orders);
        fine(
            "dead",
            "plugin-fatal",
            &["fatal plugin-fatal"],
            &[(1, Fatal, true)],
        );
        fine(
            "dead",
            "plugin-ambiguous",
            &["ambiguous plugin-ambiguous"],
            &[(1, Ambiguous, true)],
        );

        wrong(
            "was told `fatal`",
            "succeeded",
            "",
            &["done"],
            &[(1, Fatal, true)],
        );
        wrong("was never made", "succeeded", "", &["done"], &[]);
        wrong(
            "its start is not in the journal",
            "succeeded",
            "",
            &["done"],
            &[(1, Done, true), (2, Done, true)],
        );
        wrong(
            "was made 2 times",
            "succeeded",
            "",
            &["done"],
            &[(1, Done, true), (1, Done, true)],
        );
        wrong(
            "it is dead for",
            "dead",
            "plugin-fatal",
            &["done"],
            &[(1, Done, true)],
        );
        wrong(
            "it succeeded, and",
            "succeeded",
            "",
            &["retry plugin-retry"],
            &[(1, Retry, true)],
        );
        wrong(
            "it is waiting",
            "waiting",
            "",
            &["retry plugin-retry"],
            &[(1, Retry, true)],
        );
        wrong("it is superseded", "superseded", "", &[], &[]);
    }

    #[test]
    fn what_happened_is_repeated_only_where_the_router_did_not_hear_of_it() {
        use Order::Done;
        fine(
            "succeeded",
            "",
            &["- interrupted", "done"],
            &[(1, Done, true), (2, Done, true)],
        );
        let calls = [(1, Done, true), (2, Done, true)];
        wrong(
            "it was called for again",
            "succeeded",
            "",
            &["done", "done"],
            &calls,
        );
    }

    #[test]
    fn what_nobody_was_called_for_is_done_only_where_a_person_or_a_parent_says_so() {
        for (reason, is_so) in [("taken-over", true), ("resolved", true), ("plugin-retry", false)] {
            let mut story = story("succeeded", "", &[&format!("done {reason}")]);
            story.attempts[0].number = 0;
            let mut wrong = Vec::new();
            super::told(&story, &[], &mut Verdict::default(), &mut wrong);
            assert_eq!(wrong.is_empty(), is_so, "{reason}: {wrong:?}");
        }
    }

    #[test]
    fn a_receipt_that_was_kept_is_found() {
        let mut late = call(2, Order::Done, true);
        late.told.found = 0;
        let mut wrong = Vec::new();
        receipts(
            &story("succeeded", "", &["done", "done"]),
            &[&call(1, Order::Retry, true), &late],
            &mut wrong,
        );
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}
