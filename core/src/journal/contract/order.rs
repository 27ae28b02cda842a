//! Order keys.

use super::{Bench, arrival, end, failure, owed, start, wait_until};
use crate::{
    delivery::{Line, Outcome, Phase, State},
    journal::{JournalError, Next, ReplayKeys},
    reason::Reason,
    router::Owed,
};

pub(crate) async fn of_one_key_of_one_route_only_the_oldest_runs(bench: Bench<'_>) {
    let first = bench.owe(0, owed("a", "slack", Some("7"))).await;
    let second = bench.owe(1, owed("a", "slack", Some("7"))).await;
    let third = bench.owe(2, owed("a", "git", Some("7"))).await;
    let other_key = bench.owe(3, owed("a", "slack", Some("8"))).await;
    let other_route = bench.owe(4, owed("b", "slack", Some("7"))).await;
    let without = bench.owe(5, owed("a", "slack", None)).await;
    assert!(
        bench
            .journal
            .delivery(second)
            .await
            .unwrap()
            .unwrap()
            .record
            .blocked
    );

    // A busy first one is not overtaken.
    assert!(bench.claim_as("me", 9, 9, &["slack"]).await.is_empty());
    assert_eq!(bench.claimed(9).await, [first, other_key, other_route, without]);
    bench.attempt(first, 0, 1, Outcome::Retry, wait_until(60)).await;
    assert!(bench.claim(10).await.is_empty());

    let bench = bench.reopen();
    assert_eq!(bench.claimed(60).await, [first, other_key, other_route, without]);
    let mut changes = bench.journal.changes();
    changes.mark_unchanged();
    bench
        .attempt(
            first,
            0,
            2,
            Outcome::Done,
            Next::Settle {
                state: State::Succeeded,
                failure: None,
            },
        )
        .await;
    changes.changed().await.unwrap();
    assert_eq!(bench.claimed(60).await, [second]);
    bench.finish(second, State::Succeeded).await;
    assert_eq!(bench.claimed(60).await, [third]);
    bench.finish(third, State::Succeeded).await;
    let late = bench.owe(61, owed("a", "slack", Some("7"))).await;
    assert_eq!(bench.claimed(61).await, [late]);
}

pub(crate) async fn a_dead_letter_frees_its_key(bench: Bench<'_>) {
    let first = bench.owe(0, owed("a", "slack", Some("7"))).await;
    let second = bench.owe(1, owed("a", "slack", Some("7"))).await;
    assert_eq!(bench.claimed(9).await, [first]);
    bench.finish(first, State::Dead).await;
    assert_eq!(bench.claimed(9).await, [second]);
    let record = bench.journal.delivery(first).await.unwrap().unwrap().record;
    assert_eq!((record.state, record.failure), (State::Dead, Some(failure())));
}

pub(crate) async fn a_replay_stands_behind_what_is_there_of_its_key(bench: Bench<'_>) {
    let first = bench.owe(0, owed("a", "slack", Some("7"))).await;
    let second = bench.owe(1, owed("a", "slack", Some("7"))).await;
    bench.claim(9).await;
    bench.finish(first, State::Dead).await;
    let replay = bench
        .journal
        .replay_delivery(first, ReplayKeys::Keep)
        .await
        .unwrap();
    assert_eq!(bench.claimed(9).await, [second]);
    bench.finish(second, State::Succeeded).await;
    assert_eq!(bench.claimed(9).await, [replay]);
}

pub(crate) async fn a_key_that_cannot_be_told_is_a_dead_letter_that_blocks_nothing(bench: Bench<'_>) {
    let failed = Owed {
        order: Err("`project` is undefined".into()),
        ..owed("a", "slack", None)
    };
    let sent = arrival(0, Some("key"), vec![failed, owed("a", "slack", Some("7"))]);
    let committed = bench.append(sent).await;
    let (dead, alive) = (committed.deliveries()[0], committed.deliveries()[1]);
    assert_eq!(bench.claimed(0).await, [alive]);

    let record = bench.journal.delivery(dead).await.unwrap().unwrap().record;
    let failure = record.failure.unwrap();
    assert_eq!(
        (record.state, failure.reason, failure.step),
        (State::Dead, Reason::OrderKeyFailed, None)
    );
    assert_eq!(failure.error, "`project` is undefined");
    let replayed = bench.journal.replay_delivery(dead, ReplayKeys::Keep).await;
    assert!(matches!(replayed, Err(JournalError::Refused(_))), "{replayed:?}");
}

pub(crate) async fn what_is_given_up_from_the_start_is_told_of_and_blocks_nothing(bench: Bench<'_>) {
    let keyless = Owed {
        on_failure: Some("git".into()),
        order: Err("`project` is undefined".into()),
        ..owed("a", "slack", None)
    };
    let timeless = Owed {
        on_failure: Some("git".into()),
        deadline: Err("found \"soon\"".into()),
        ..newest()
    };
    let first = bench.owe(0, owed("a", "slack", Some("7"))).await;
    let given_up = [bench.owe(1, keyless).await, bench.owe(2, timeless).await];
    let second = bench.owe(3, newest()).await;

    let bench = bench.reopen();
    // Only what is to tell of them is needed for it.
    assert_eq!(bench.claim_as("me", 3, 9, &["git"]).await[0].delivery, first);
    let claims = bench.claim(3).await;
    let found: Vec<_> = claims
        .iter()
        .map(|claim| (claim.delivery, claim.phase, claim.step, claim.attempts))
        .collect();
    assert_eq!(
        found,
        given_up.map(|delivery| (delivery, Phase::OnFailure, 0, 0)),
        "they stand in no line, and nothing newer takes their place"
    );
    let reasons = [Reason::OrderKeyFailed, Reason::DeadlineFailed];
    for (claim, reason) in claims.into_iter().zip(reasons) {
        let failure = claim.failure.unwrap();
        assert_eq!((failure.reason, &failure.step), (reason, &None));
        let told = |next| end(claim.delivery, Phase::OnFailure, 0, Some(1), Outcome::Done, next);
        let start = start(claim.delivery, Phase::OnFailure, 0, 1);
        bench.journal.begin(start).await.unwrap();
        let held = told(Next::Hold {
            failure: failure.clone(),
        });
        bench.journal.end(held).await.unwrap();
        let record = bench.record(claim.delivery).await;
        assert_eq!((record.state, record.failure), (State::Dead, Some(failure)));
        let replayed = bench
            .journal
            .replay_delivery(claim.delivery, ReplayKeys::Keep)
            .await;
        assert!(matches!(replayed, Err(JournalError::Refused(_))), "{replayed:?}");
    }
    bench.finish(first, State::Succeeded).await;
    assert_eq!(bench.claimed(4).await, [second], "what is dead holds no line up");
}

/// A newer one takes its place.
fn newest() -> Owed {
    Owed {
        line: Line {
            supersede: true,
            ..Line::default()
        },
        ..owed("a", "slack", Some("7"))
    }
}
