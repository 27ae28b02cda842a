//! What a person does not want any more.

use std::time::Duration;

use jackfield_event::DeliveryId;

use super::{Bench, at, end, failure, next, owed, start, wait_until};
use crate::{
    delivery::{Coalesce, Keep, Line, Outcome, Phase, State},
    journal::{Asker, Canceled, Ended, JournalError, Next},
    reason::Reason,
    router::Owed,
};

impl Bench<'_> {
    async fn cancel(&self, delivery: DeliveryId) -> Canceled {
        let asker = Asker {
            by: Some("alice".into()),
            note: Some("wrong branch".into()),
        };
        self.journal.cancel(delivery, asker).await.unwrap()
    }

    /// Ends the first attempt of a running delivery, and says what became of the delivery.
    async fn ended(&self, delivery: DeliveryId, outcome: Outcome, next: Next) -> Ended {
        self.journal
            .begin(start(delivery, Phase::Steps, 0, 1))
            .await
            .unwrap();
        let end = end(delivery, Phase::Steps, 0, Some(1), outcome, next);
        self.journal.end(end).await.unwrap()
    }
}

pub(crate) async fn what_is_pending_or_waits_is_canceled_at_once(bench: Bench<'_>) {
    let waiting = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench.attempt(waiting, 0, 1, Outcome::Retry, wait_until(60)).await;
    let pending = bench.owe(0, owed("a", "slack", None)).await;
    bench.set_clock(5);
    for delivery in [waiting, pending] {
        assert_eq!(bench.cancel(delivery).await, Canceled::Settled);
        let record = bench.record(delivery).await;
        assert_eq!((record.state, record.settled), (State::Canceled, Some(at(5))));
        assert_eq!(
            (record.reason, record.detail.as_deref()),
            (Some(Reason::Canceled), Some("by alice: wrong branch"))
        );
        assert_eq!(record.cancel.unwrap().at, at(5));
    }
    let bench = bench.reopen();
    assert!(bench.claim(100).await.is_empty());
    let counts = bench.journal.counts().await.unwrap().deliveries;
    assert_eq!(
        (counts["canceled"], counts["waiting"], counts["pending"]),
        (2, 0, 0)
    );
}

pub(crate) async fn the_line_goes_on_without_one_that_is_canceled(bench: Bench<'_>) {
    let mut line = Vec::new();
    for second in 0..4 {
        line.push(bench.owe(second, owed("a", "slack", Some("7"))).await);
    }
    // One from the middle changes nothing for its head.
    bench.cancel(line[1]).await;
    assert_eq!(bench.claimed(4).await, [line[0]]);
    bench.attempt(line[0], 0, 1, Outcome::Retry, wait_until(60)).await;
    assert!(bench.claim(5).await.is_empty());
    bench.cancel(line[0]).await;
    assert_eq!(bench.claimed(5).await, [line[2]]);
    bench.finish(line[2], State::Succeeded).await;
    assert_eq!(bench.claimed(5).await, [line[3]]);
}

pub(crate) async fn what_is_running_is_canceled_when_its_claim_ends(bench: Bench<'_>) {
    let dead = Next::Settle {
        state: State::Dead,
        failure: Some(failure()),
    };
    let held = Next::Hold { failure: failure() };
    let on_failure = Next::OnFailure {
        failure: failure(),
        instance: "slack".into(),
    };
    let ways = [
        (Outcome::Retry, wait_until(60)),
        (Outcome::Fatal, dead),
        (Outcome::Fatal, held),
        (Outcome::Ambiguous, on_failure),
    ];
    for (outcome, next) in ways {
        let delivery = bench.owe(0, owed("a", "slack", Some("7"))).await;
        let behind = bench.owe(0, owed("a", "slack", Some("7"))).await;
        assert_eq!(bench.claimed(0).await, [delivery]);
        assert_eq!(bench.cancel(delivery).await, Canceled::Asked);
        assert_eq!(bench.state(delivery).await, State::Running);
        assert_eq!(bench.ended(delivery, outcome, next).await, Ended::Canceled);
        assert_eq!(bench.state(delivery).await, State::Canceled);
        assert_eq!(bench.claimed(0).await, [behind], "its key is free");
        let released = bench.cancel(behind).await;
        assert_eq!(released, Canceled::Asked);
        assert_eq!(
            bench.journal.release(behind, "me", None).await.unwrap(),
            Ended::Canceled
        );
    }
    let counts = bench.journal.counts().await.unwrap().deliveries;
    assert_eq!((counts["canceled"], counts["running"]), (8, 0));
}

pub(crate) async fn what_is_done_to_the_end_has_succeeded_all_the_same(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench.cancel(delivery).await;
    assert_eq!(bench.ended(delivery, Outcome::Done, next()).await, Ended::AsSaid);
    assert_eq!(
        bench.journal.release(delivery, "me", None).await.unwrap(),
        Ended::Canceled,
        "there was another step"
    );
    let last = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench.cancel(last).await;
    let state = State::Succeeded;
    let settle = Next::Settle { state, failure: None };
    assert_eq!(bench.ended(last, Outcome::Done, settle).await, Ended::AsSaid);
    assert_eq!(bench.state(last).await, State::Succeeded);
}

pub(crate) async fn one_that_is_to_be_canceled_is_by_a_restart(bench: Bench<'_>) {
    let first = bench.owe(0, owed("a", "slack", Some("7"))).await;
    let second = bench.owe(0, owed("a", "slack", Some("7"))).await;
    bench.claim(0).await;
    bench
        .journal
        .begin(start(first, Phase::Steps, 0, 1))
        .await
        .unwrap();
    bench.cancel(first).await;
    let bench = bench.reopen();
    assert_eq!(bench.state(first).await, State::Canceled);
    assert_eq!(bench.claimed(0).await, [second]);
    // And by the end of its lease.
    bench.cancel(second).await;
    assert!(bench.claim(100).await.is_empty());
    assert_eq!(bench.state(second).await, State::Canceled);
}

pub(crate) async fn a_burst_is_canceled_while_it_gathers(bench: Bench<'_>) {
    let gathers = || Owed {
        line: Line {
            coalesce: Some(Coalesce {
                window: Duration::from_secs(10),
                max_wait: Duration::from_secs(30),
                max_items: 9.try_into().unwrap(),
                keep: Keep::All,
            }),
            ..Line::default()
        },
        ..owed("a", "slack", Some("7"))
    };
    let burst = bench.owe(0, gathers()).await;
    assert_eq!(bench.cancel(burst).await, Canceled::Settled);
    let next = bench.owe(1, gathers()).await;
    assert_ne!(next, burst, "nothing joins it any more");
    assert!(bench.claim(5).await.is_empty());
    // The first claim ends the burst, and the next takes it.
    assert!(bench.claim(11).await.is_empty());
    assert_eq!(bench.claimed(11).await, [next]);
}

pub(crate) async fn what_is_settled_is_not_canceled(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    bench.finish(delivery, State::Dead).await;
    let refused = bench
        .journal
        .cancel(delivery, Asker::default())
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("delivery {delivery} is dead already, so that there is nothing to cancel")
    );
    let unknown = bench
        .journal
        .cancel(DeliveryId::new(at(0), 0), Asker::default())
        .await;
    assert!(matches!(unknown, Err(JournalError::NotFound(_))), "{unknown:?}");
}
