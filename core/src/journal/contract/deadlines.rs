//! Deadlines.

use std::time::Duration;

use jackfield_event::DeliveryId;

use super::{Bench, arrival, at, failure, owed, wait_until};
use crate::{
    delivery::{Coalesce, Keep, Line, Outcome, State},
    journal::{JournalError, Next, ReplayKeys},
    reason::Reason,
    router::{Deadline, Owed},
};

/// A delivery that is owed to the route `a`, and of no use after `deadline`.
fn late(key: Option<&str>, deadline: Deadline) -> Owed {
    Owed {
        deadline: Ok(Some(deadline)),
        ..owed("a", "slack", key)
    }
}

pub(crate) async fn a_deadline_is_kept_with_its_delivery(bench: Bench<'_>) {
    let after = Deadline::After(Duration::from_secs(60));
    let relative = bench.owe(5, late(None, after)).await;
    let absolute = bench.owe(5, late(None, Deadline::At(at(30)))).await;
    let without = bench.owe(5, owed("a", "slack", None)).await;
    let bench = bench.reopen();
    let claims = bench.claim(6).await;
    let found: Vec<_> = claims
        .iter()
        .map(|claim| (claim.delivery, claim.deadline))
        .collect();
    assert_eq!(
        found,
        [
            (relative, Some(at(65))),
            (absolute, Some(at(30))),
            (without, None)
        ]
    );
    let record = bench.journal.delivery(absolute).await.unwrap().unwrap().record;
    assert_eq!(record.deadline, Some(at(30)));
}

pub(crate) async fn what_is_overdue_is_claimed_whatever_it_waits_for(bench: Bench<'_>) {
    let deadline = Deadline::At(at(60));
    let backs_off = bench.owe(0, late(None, deadline)).await;
    let running = bench.owe(0, late(None, deadline)).await;
    assert_eq!(bench.claimed(1).await, [backs_off, running]);
    bench
        .attempt(backs_off, 0, 1, Outcome::Retry, wait_until(3_600))
        .await;
    let ahead = bench.owe(2, owed("a", "slack", Some("7"))).await;
    let blocked = bench.owe(3, late(Some("7"), deadline)).await;
    let of_a_busy_instance = bench.owe(4, late(None, deadline)).await;
    let claimed = async |seconds| -> Vec<(DeliveryId, Option<String>)> {
        let claims = bench.claim_as("me", seconds, 100, &["slack"]).await.into_iter();
        claims.map(|claim| (claim.delivery, claim.waited_for)).collect()
    };

    // Its claim is renewed by its owner, whatever the deadline.
    bench
        .journal
        .renew("me", vec![running], at(9), Duration::from_secs(600))
        .await
        .unwrap();
    assert_eq!(bench.journal.next_due(at(10)).await.unwrap(), Some(at(60)));
    assert_eq!(claimed(59).await, []);
    assert_eq!(
        claimed(60).await,
        [
            (backs_off, Some("503".to_owned())),
            (blocked, Some(format!("it stood behind {ahead} of its order key"))),
            (of_a_busy_instance, None),
        ]
    );

    // Its end does not let a third one pass the first.
    let third = bench.owe(61, owed("a", "slack", Some("7"))).await;
    bench.finish(blocked, State::Dead).await;
    assert_eq!(bench.claimed(61).await, [ahead]);
    bench.finish(ahead, State::Succeeded).await;
    assert_eq!(bench.claimed(61).await, [third]);
    let record = bench.journal.delivery(blocked).await.unwrap().unwrap().record;
    assert_eq!((record.reason, record.detail), (None, None));
}

pub(crate) async fn an_overdue_delivery_that_goes_back_stands_behind_the_older_one_again(bench: Bench<'_>) {
    let ahead = bench.owe(0, owed("a", "slack", Some("7"))).await;
    let blocked = bench.owe(1, late(Some("7"), Deadline::At(at(60)))).await;
    assert_eq!(bench.claimed(60).await, [ahead, blocked]);
    bench.journal.release(blocked, "me", None).await.unwrap();
    // The clock was set back: it is in time again, and not its turn.
    assert!(bench.claim(59).await.is_empty());
    bench.finish(ahead, State::Succeeded).await;
    assert_eq!(bench.claimed(59).await, [blocked]);
    // Once it has failed, its deadline has said what it had to say.
    let on_failure = Next::OnFailure {
        failure: failure(),
        instance: "slack".into(),
    };
    bench.attempt(blocked, 0, 1, Outcome::Fatal, on_failure).await;
    bench.journal.release(blocked, "me", None).await.unwrap();
    assert!(bench.claim_as("me", 61, 9, &["slack"]).await.is_empty());
    assert_eq!(bench.claimed(61).await, [blocked]);
}

pub(crate) async fn a_deadline_that_cannot_be_told_is_a_dead_letter(bench: Bench<'_>) {
    let failed = Owed {
        deadline: Err("found \"soon\"".into()),
        ..owed("a", "slack", Some("7"))
    };
    let committed = bench.append(arrival(0, None, vec![failed])).await;
    let dead = committed.deliveries()[0];
    let alive = bench.owe(1, owed("a", "slack", Some("7"))).await;
    assert_eq!(bench.claimed(1).await, [alive]);
    let record = bench.journal.delivery(dead).await.unwrap().unwrap().record;
    let failure = record.failure.unwrap();
    assert_eq!(
        (failure.reason, failure.error.as_str()),
        (Reason::DeadlineFailed, "found \"soon\"")
    );
    let replayed = bench.journal.replay_delivery(dead, ReplayKeys::Keep).await;
    assert!(
        matches!(&replayed, Err(JournalError::Refused(words)) if words.contains("mend the rule")),
        "{replayed:?}"
    );
}

pub(crate) async fn a_replay_has_no_deadline(bench: Bench<'_>) {
    let first = bench.owe(0, late(None, Deadline::At(at(60)))).await;
    bench.claim(60).await;
    bench.finish(first, State::Dead).await;
    let replay = bench
        .journal
        .replay_delivery(first, ReplayKeys::Keep)
        .await
        .unwrap();
    let claims = bench.claim(61).await;
    assert_eq!((claims[0].delivery, claims[0].deadline), (replay, None));
}

pub(crate) async fn a_burst_has_the_deadline_of_what_its_steps_see(bench: Bench<'_>) {
    let gathers = |keep, key, deadline| Owed {
        line: Line {
            coalesce: Some(Coalesce {
                window: Duration::from_secs(100),
                max_wait: Duration::from_secs(1_000),
                max_items: 10.try_into().unwrap(),
                keep,
            }),
            ..Line::default()
        },
        ..late(Some(key), Deadline::At(at(deadline)))
    };
    let mut bursts = Vec::new();
    for deadline in [70, 60, 80] {
        bursts.push([
            bench.owe(1, gathers(Keep::Newest, "newest", deadline)).await,
            bench.owe(1, gathers(Keep::All, "all", deadline)).await,
        ]);
    }
    assert_eq!(bursts[0], bursts[2], "one delivery for each");
    let [newest, all] = bursts[0];
    for (burst, deadline) in [(newest, 80), (all, 60)] {
        let record = bench.journal.delivery(burst).await.unwrap().unwrap().record;
        assert_eq!(record.deadline, Some(at(deadline)));
    }
    // Both are over by now; the one is too late, and needs no turn in its line to be given up.
    assert_eq!(bench.claimed(60).await, [all]);
    bench.finish(all, State::Dead).await;
    assert_eq!(bench.claimed(60).await, [newest]);
    assert_eq!(bench.journal.counts().await.unwrap().deliveries["waiting"], 0);
}
