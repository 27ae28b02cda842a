//! The way out: claims, attempts, outcomes.

use std::time::Duration;

use super::{Bench, at, end, failure, next, owed, start, wait_until};
use crate::{
    clock::Jump,
    delivery::{Outcome, Phase, State},
    journal::{Asker, JournalError, Next, StepEnd},
    reason::Reason,
};

pub(crate) async fn claims_are_oldest_first_and_taken_once(bench: Bench<'_>) {
    let mut ids = Vec::new();
    for seconds in 0..5 {
        // The clock went backwards while they arrived; what is owed at once does not wait for it.
        ids.push(
            bench
                .owe(
                    1_000 - seconds,
                    owed("a", ["slack", "git"][usize::from(seconds % 2 == 0)], None),
                )
                .await,
        );
    }
    let first: Vec<_> = bench
        .claim_as("me", 0, 2, &[])
        .await
        .iter()
        .map(|claim| claim.delivery)
        .collect();
    assert_eq!(first, ids[..2]);
    assert_eq!(bench.claimed(0).await, ids[2..]);
    assert!(bench.claim(0).await.is_empty());
}

pub(crate) async fn a_claim_holds_all_that_a_dispatcher_needs(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    let claims = bench.claim(0).await;
    let claim = &claims[0];
    assert_eq!(
        (claim.delivery, claim.route.as_str(), &claim.generation),
        (delivery, "a", &super::generation())
    );
    assert_eq!((claim.phase, claim.step, claim.attempts), (Phase::Steps, 0, 0));
    assert_eq!(
        (&claim.key_root, &claim.failure, claim.outputs.len()),
        (&delivery.to_string(), &None, 0)
    );
    let event = jackfield_event::Event::from_json(&claim.events[0]).unwrap();
    assert_eq!(event.data.payload.unwrap().get().as_bytes(), super::PAYLOAD);
    assert_eq!(claim.events.len(), 1);
}

pub(crate) async fn deliveries_of_a_busy_instance_stay(bench: Bench<'_>) {
    let slack = bench.owe(0, owed("a", "slack", None)).await;
    let git = bench.owe(0, owed("a", "git", None)).await;
    let claimed = bench.claim_as("me", 0, 10, &["slack"]).await;
    assert_eq!(
        claimed.iter().map(|claim| claim.delivery).collect::<Vec<_>>(),
        [git]
    );
    // Its next step is of another instance, and that counts.
    let step = Next::Step {
        instance: "slack".into(),
    };
    bench.attempt(git, 0, 1, Outcome::Done, step).await;
    bench.journal.release(git, "me", None).await.unwrap();
    assert!(bench.claim_as("me", 0, 10, &["slack"]).await.is_empty());
    assert_eq!(bench.claimed(0).await, [slack, git]);
}

pub(crate) async fn steps_run_in_turn_and_hand_on_what_they_put_out(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench.attempt(delivery, 0, 1, Outcome::Done, next()).await;
    let skipped = end(delivery, Phase::Steps, 1, None, Outcome::Skipped, next());
    bench.journal.end(skipped).await.unwrap();
    bench
        .attempt(delivery, 2, 1, Outcome::Retry, wait_until(60))
        .await;
    assert_eq!(bench.state(delivery).await, State::Waiting);
    assert!(bench.claim(59).await.is_empty());
    assert_eq!(bench.journal.next_due(at(0)).await.unwrap(), Some(at(60)));

    let bench = bench.reopen();
    let record = bench.journal.delivery(delivery).await.unwrap().unwrap().record;
    assert_eq!(
        (record.due, record.reason, record.detail.as_deref()),
        (Some(at(60)), Some(Reason::PluginRetry), Some("503"))
    );
    let claim = &bench.claim(60).await[0];
    assert_eq!((claim.step, claim.attempts, claim.outputs.len()), (2, 1, 1));
    assert_eq!(&claim.outputs["step-0"][..], b"{\"of\":0}");
    bench
        .attempt(
            delivery,
            2,
            2,
            Outcome::Done,
            Next::Settle {
                state: State::Succeeded,
                failure: None,
            },
        )
        .await;

    let story = bench.journal.delivery(delivery).await.unwrap().unwrap();
    assert_eq!(
        (story.record.state, story.record.settled),
        (State::Succeeded, Some(at(2)))
    );
    let attempts: Vec<_> = story
        .attempts
        .iter()
        .map(|made| (made.step_id.as_str(), made.attempt, made.outcome.unwrap()))
        .collect();
    assert_eq!(
        attempts,
        [
            ("step-0", Some(1), Outcome::Done),
            ("step-1", None, Outcome::Skipped),
            ("step-2", Some(1), Outcome::Retry),
            ("step-2", Some(2), Outcome::Done),
        ]
    );
    assert_eq!(
        story.attempts[0].input.as_ref().unwrap().get(),
        "{\"text\":\"hello\"}"
    );
    assert_eq!(story.attempts[0].output.as_ref().unwrap().get(), "{\"of\":0}");
    assert_eq!(story.attempts[2].message.as_deref(), Some("said so"));
    assert!(bench.claim(1_000).await.is_empty());
}

pub(crate) async fn a_failed_delivery_runs_its_on_failure_steps_with_the_reason(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "git", None)).await;
    bench.claim(0).await;
    bench.attempt(delivery, 0, 1, Outcome::Done, next()).await;
    let failed = Next::OnFailure {
        failure: failure(),
        instance: "slack".into(),
    };
    bench.attempt(delivery, 1, 1, Outcome::Fatal, failed).await;
    bench.journal.release(delivery, "me", None).await.unwrap();

    let bench = bench.reopen();
    assert!(bench.claim_as("me", 0, 9, &["slack"]).await.is_empty());
    let claim = &bench.claim(0).await[0];
    assert_eq!(
        (claim.phase, claim.step, claim.attempts),
        (Phase::OnFailure, 0, 0)
    );
    assert_eq!((claim.failure.clone(), claim.outputs.len()), (Some(failure()), 0));
    bench
        .journal
        .begin(start(delivery, Phase::OnFailure, 0, 1))
        .await
        .unwrap();
    let settled = Next::Settle {
        state: State::Dead,
        failure: None,
    };
    bench
        .journal
        .end(end(
            delivery,
            Phase::OnFailure,
            0,
            Some(1),
            Outcome::Done,
            settled,
        ))
        .await
        .unwrap();

    let story = bench.journal.delivery(delivery).await.unwrap().unwrap();
    assert_eq!(
        (story.record.state, story.record.failure),
        (State::Dead, Some(failure()))
    );
    let phases: Vec<_> = story
        .attempts
        .iter()
        .map(|made| (made.phase, made.step))
        .collect();
    assert_eq!(
        phases,
        [(Phase::Steps, 0), (Phase::Steps, 1), (Phase::OnFailure, 0)]
    );
}

pub(crate) async fn what_was_interrupted_counts_and_goes_on_at_once(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    let untouched = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench.attempt(delivery, 0, 1, Outcome::Done, next()).await;
    bench
        .journal
        .begin(start(delivery, Phase::Steps, 1, 1))
        .await
        .unwrap();

    let bench = bench.reopen();
    let story = bench.journal.delivery(delivery).await.unwrap().unwrap();
    assert_eq!(
        (story.record.state, story.record.reason),
        (State::Pending, Some(Reason::Interrupted))
    );
    let cut = &story.attempts[1];
    assert_eq!(
        (cut.attempt, cut.outcome, cut.reason),
        (Some(1), None, Some(Reason::Interrupted))
    );
    assert!(cut.ended.is_some());
    let claims = bench.claim(0).await;
    assert_eq!(
        claims.iter().map(|claim| claim.delivery).collect::<Vec<_>>(),
        [delivery, untouched]
    );
    assert_eq!(
        (claims[0].step, claims[0].attempts, claims[0].outputs.len()),
        (1, 1, 1)
    );
    assert_eq!((claims[1].step, claims[1].attempts), (0, 0));

    let late = end(delivery, Phase::Steps, 1, Some(1), Outcome::Done, next());
    assert!(matches!(
        bench.journal.end(late).await,
        Err(JournalError::Refused(_))
    ));
    bench
        .attempt(
            delivery,
            1,
            2,
            Outcome::Done,
            Next::Settle {
                state: State::Succeeded,
                failure: None,
            },
        )
        .await;
}

pub(crate) async fn a_claim_ends_with_its_lease_and_then_belongs_to_another(bench: Bench<'_>) {
    let lease = std::time::Duration::from_secs;
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench
        .journal
        .begin(start(delivery, Phase::Steps, 0, 1))
        .await
        .unwrap();
    assert_eq!(bench.journal.next_due(at(0)).await.unwrap(), Some(at(10)));
    bench
        .journal
        .renew("me", vec![delivery], at(5), lease(10))
        .await
        .unwrap();
    bench
        .journal
        .renew("somebody else", vec![delivery], at(5), lease(100))
        .await
        .unwrap();
    // An owner that does not name it has forgotten it.
    bench
        .journal
        .renew("me", vec![], at(5), lease(100))
        .await
        .unwrap();
    assert!(bench.claim_as("you", 14, 9, &[]).await.is_empty());

    let yours = bench.claim_as("you", 15, 9, &[]).await;
    assert_eq!((yours[0].delivery, yours[0].attempts), (delivery, 1));
    let late = bench
        .journal
        .end(end(delivery, Phase::Steps, 0, Some(1), Outcome::Done, next()))
        .await;
    assert!(matches!(late, Err(JournalError::NotFound(_))), "{late:?}");
    let late = bench.journal.begin(start(delivery, Phase::Steps, 0, 2)).await;
    assert!(matches!(late, Err(JournalError::NotFound(_))), "{late:?}");
    let late = bench.journal.release(delivery, "me", None).await;
    assert!(matches!(late, Err(JournalError::NotFound(_))), "{late:?}");
    bench.journal.release(delivery, "you", None).await.unwrap();
}

pub(crate) async fn attempts_follow_their_numbers_and_steps(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    for (phase, step, attempt) in [
        (Phase::Steps, 0, 2),
        (Phase::Steps, 1, 1),
        (Phase::OnFailure, 0, 1),
    ] {
        let begun = bench.journal.begin(start(delivery, phase, step, attempt)).await;
        assert!(
            matches!(begun, Err(JournalError::Refused(_))),
            "{phase:?} {step} {attempt}: {begun:?}"
        );
    }
    let unbegun = bench
        .journal
        .end(end(delivery, Phase::Steps, 0, Some(1), Outcome::Done, next()))
        .await;
    assert!(matches!(unbegun, Err(JournalError::Refused(_))), "{unbegun:?}");
    bench.attempt(delivery, 0, 1, Outcome::Done, next()).await;
    let twice = bench
        .journal
        .end(end(delivery, Phase::Steps, 0, Some(1), Outcome::Done, next()))
        .await;
    assert!(matches!(twice, Err(JournalError::Refused(_))), "{twice:?}");
    assert_eq!(
        bench
            .journal
            .delivery(delivery)
            .await
            .unwrap()
            .unwrap()
            .attempts
            .len(),
        1
    );
}

pub(crate) async fn what_is_released_waits_until_it_is_due(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    let why = (at(30), Reason::InstanceMissing, "no instance `slack`".to_owned());
    bench.journal.release(delivery, "me", Some(why)).await.unwrap();
    let record = bench.journal.delivery(delivery).await.unwrap().unwrap().record;
    assert_eq!(
        (record.state, record.due, record.reason),
        (State::Waiting, Some(at(30)), Some(Reason::InstanceMissing))
    );
    assert_eq!(record.detail.as_deref(), Some("no instance `slack`"));
    assert!(bench.claim(29).await.is_empty());
    assert_eq!(bench.claimed(30).await, [delivery]);
    assert_eq!(
        bench
            .journal
            .delivery(delivery)
            .await
            .unwrap()
            .unwrap()
            .record
            .reason,
        None
    );

    let mut changes = bench.journal.changes();
    changes.mark_unchanged();
    bench.journal.release(delivery, "me", None).await.unwrap();
    changes.changed().await.unwrap();
    assert_eq!(bench.state(delivery).await, State::Pending);
    assert_eq!(bench.claimed(0).await, [delivery]);
}

pub(crate) async fn what_waits_for_an_instance_is_woken_and_nothing_else(bench: Bench<'_>) {
    let (slack, git, other) = (
        bench.owe(0, owed("a", "slack", None)).await,
        bench.owe(1, owed("b", "git", None)).await,
        bench.owe(2, owed("c", "slack", None)).await,
    );
    bench.claim(2).await;
    for (delivery, reason) in [
        (slack, Reason::InstanceMissing),
        (git, Reason::InstanceMissing),
        (other, Reason::Unreadable),
    ] {
        let why = (at(600), reason, String::new());
        bench.journal.release(delivery, "me", Some(why)).await.unwrap();
    }
    let mut changes = bench.journal.changes();
    changes.mark_unchanged();
    let wake = |instance: &str| {
        bench
            .journal
            .wake(vec![instance.to_owned()], Reason::InstanceMissing)
    };
    wake("nobody").await.unwrap();
    assert!(bench.claim(3).await.is_empty());
    wake("slack").await.unwrap();
    changes.changed().await.unwrap();
    assert_eq!(bench.claimed(3).await, [slack]);
}

pub(crate) async fn a_delivery_knows_since_when_nothing_was_begun_of_it(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    let claim = async |second| {
        let mut claims = bench.claim(second).await;
        claims.pop().unwrap()
    };
    assert_eq!(claim(0).await.stalled_since, None);
    let wait = async |until| {
        let why = (at(until), Reason::InstanceMissing, String::new());
        bench.journal.release(delivery, "me", Some(why)).await.unwrap();
    };
    wait(30).await;
    let first = claim(30).await.stalled_since;
    assert!(first.is_some());
    wait(60).await;
    assert_eq!(claim(60).await.stalled_since, first, "the first time counts");
    bench
        .journal
        .begin(start(delivery, Phase::Steps, 0, 1))
        .await
        .unwrap();
    bench.journal.release(delivery, "me", None).await.unwrap();
    assert_eq!(claim(60).await.stalled_since, None, "something was begun");
}

pub(crate) async fn what_waits_follows_a_clock_that_is_set(bench: Bench<'_>) {
    let waiting = bench.owe(1_000, owed("a", "slack", None)).await;
    let running = bench.owe(1_000, owed("b", "slack", None)).await;
    let pending = bench.owe(1_000, owed("c", "git", None)).await;
    bench.claim_as("me", 1_000, 9, &["git"]).await;
    bench
        .attempt(waiting, 0, 1, Outcome::Retry, wait_until(1_060))
        .await;

    bench.set_clock(400);
    let back = Jump::Back(Duration::from_secs(600));
    bench
        .journal
        .clock_was_set(back, at(400)..=at(400))
        .await
        .unwrap();
    assert_eq!(bench.record(waiting).await.due, Some(at(460)));
    assert_eq!(bench.record(pending).await.due, None);
    assert_eq!(
        bench.claimed(400).await,
        [pending],
        "what was running is not taken away"
    );
    assert_eq!(
        bench.claimed(459).await,
        [running, pending],
        "leases were to end at 1,010 and end at 410"
    );

    let forward = Jump::Forward(Duration::from_secs(86_400));
    bench
        .journal
        .clock_was_set(forward, at(86_859)..=at(86_859))
        .await
        .unwrap();
    assert_eq!(bench.claimed(86_400 + 459).await, []);
    assert_eq!(bench.claimed(86_400 + 460).await, [waiting]);
    let none = wait_until(86_400 + 500);
    bench.attempt(waiting, 0, 2, Outcome::Retry, none).await;

    // While nobody runs, the newest rows tell.
    bench.owe(86_400 + 470, owed("d", "git", None)).await;
    bench.set_clock(70);
    let bench = bench.reopen();
    assert_eq!(bench.record(waiting).await.due, Some(at(100)));
}

pub(crate) async fn a_clock_that_was_set_is_followed_once_whatever_starts_before_anything_new_comes(
    bench: Bench<'_>,
) {
    let waiting = bench.owe(10_000, owed("a", "slack", None)).await;
    bench.claim(10_000).await;
    bench
        .attempt(waiting, 0, 1, Outcome::Retry, wait_until(10_100))
        .await;
    bench.set_clock(2_800);
    let back = Jump::Back(Duration::from_secs(7_200));
    let told = at(2_800)..=at(2_800);
    bench.journal.clock_was_set(back, told).await.unwrap();
    let bench = bench.reopen().reopen();
    assert_eq!(bench.record(waiting).await.due, Some(at(2_900)));
    // What came since tells of the next time, once.
    bench.owe(2_850, owed("b", "git", None)).await;
    bench.set_clock(850);
    let bench = bench.reopen().reopen();
    assert_eq!(bench.record(waiting).await.due, Some(at(900)));
}

pub(crate) async fn what_was_told_to_wait_by_the_clock_as_it_is_now_stays(bench: Bench<'_>) {
    let wait = |delivery, now, due| StepEnd {
        ended: at(now),
        ..end(
            delivery,
            Phase::Steps,
            0,
            Some(1),
            Outcome::Retry,
            wait_until(due),
        )
    };
    // Each was told to wait for a minute: one before the clock was set and one after, and nobody had noticed yet.
    for (jump, before, after) in [
        (Jump::Forward(Duration::from_secs(6_000)), 1_000, 7_005),
        (Jump::Back(Duration::from_secs(6_000)), 7_000, 1_005),
    ] {
        let (old, new) = (
            bench.owe(before, owed("a", "slack", None)).await,
            bench.owe(after, owed("a", "slack", None)).await,
        );
        bench.claim(before.max(after)).await;
        for (delivery, now) in [(old, before), (new, after)] {
            bench
                .journal
                .begin(start(delivery, Phase::Steps, 0, 1))
                .await
                .unwrap();
            bench.journal.end(wait(delivery, now, now + 60)).await.unwrap();
        }
        let told = at(after - 5)..=at(after + 5);
        bench.journal.clock_was_set(jump, told).await.unwrap();
        assert_eq!(bench.record(new).await.due, Some(at(after + 60)), "{jump:?}");
        assert_eq!(bench.record(old).await.due, Some(at(after - 5 + 60)), "{jump:?}");
        for delivery in [old, new] {
            bench.journal.cancel(delivery, Asker::default()).await.unwrap();
        }
    }
}
