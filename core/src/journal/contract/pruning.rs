//! What is not kept for ever: what goes when, and what never does.

use std::time::Duration;

use jackfield_event::{DeliveryId, EventId};

use super::{
    Bench, arrival, asked, at, failure, generation, line::coalescing, next, owed, start, wait_until,
};
use crate::{
    delivery::{Keep, Line, NewestBy, Outcome, Phase, State},
    journal::{
        Cause, DeliveryFilter, EventFilter, Gathered, Kept, KeptReceipt, Next, Pruned, ReplayKeys, Retention,
        Stretch,
    },
    reason::Reason,
    router::{GenerationId, Owed, Routed},
};

/// Payloads for 1,000 seconds, events for 2,000, outcomes for 3,000, dead letters for 5,000.
fn retention() -> Retention {
    let seconds = Duration::from_secs;
    Retention {
        payloads: seconds(1_000),
        events: seconds(2_000),
        outcomes: seconds(3_000),
        dead_letters: seconds(5_000),
        max_events: None,
        max_bytes: u64::MAX,
    }
}

/// What must go, goes: the shortest ages and the lowest limits that there could be.
fn nothing() -> Retention {
    Retention {
        payloads: Duration::ZERO,
        events: Duration::ZERO,
        outcomes: Duration::ZERO,
        dead_letters: Duration::ZERO,
        max_events: Some(0),
        max_bytes: 0,
    }
}

impl Bench<'_> {
    /// Prunes to the end at that moment: payloads, events, outcomes, and whether a limit is exceeded all the same.
    pub(crate) async fn prune(&self, seconds: i64, retention: &Retention) -> (u64, u64, u64, bool) {
        self.set_clock(seconds);
        let mut sum = Pruned::default();
        for _ in 0..1_000 {
            let pruned = self.journal.prune(retention).await.unwrap();
            sum.payloads += pruned.payloads;
            sum.events += pruned.events;
            sum.outcomes += pruned.outcomes;
            if !pruned.more {
                return (sum.payloads, sum.events, sum.outcomes, pruned.exceeded);
            }
        }
        panic!("pruning comes to no end: {sum:?}");
    }

    async fn refused_replay(&self, delivery: DeliveryId) -> String {
        let replay = self.journal.replay_delivery(delivery, ReplayKeys::Renew);
        replay.await.unwrap_err().to_string()
    }

    async fn kept(&self, event: EventId) -> Option<Kept> {
        self.journal.event(event).await.unwrap().map(|story| story.kept)
    }

    /// An event with a delivery of one step that ended in `state` at 2 seconds.
    async fn settled(&self, dedup: Option<&str>, state: State) -> (EventId, DeliveryId) {
        let committed = self
            .append(arrival(0, dedup, vec![owed("a", "slack", None)]))
            .await;
        let delivery = committed.deliveries()[0];
        self.claim(0).await;
        self.finish(delivery, state).await;
        (committed.event(), delivery)
    }
}

pub(crate) async fn an_event_loses_its_payload_then_its_envelope_then_its_rows(bench: Bench<'_>) {
    let (event, delivery) = bench.settled(Some("key"), State::Succeeded).await;
    let redelivery = arrival(1, Some("key"), vec![owed("a", "slack", None)]);
    assert!(bench.append(redelivery).await.is_duplicate());
    let unrouted = bench.append(arrival(0, None, vec![])).await.event();
    // The numbers go on from it, so that it stays.
    bench.append(arrival(9_000, None, vec![])).await;
    let receipt = KeptReceipt {
        done: true,
        body: "{}".into(),
    };
    let key = format!("{delivery}/step-0");
    bench.journal.keep_receipt(&key, receipt).await.unwrap();
    let ages = retention();

    assert_eq!(bench.prune(999, &ages).await, (0, 0, 0, false));
    assert_eq!(bench.kept(event).await, Some(Kept::Whole));
    // Counted from what happened last.
    assert_eq!(bench.prune(1_001, &ages).await, (1, 0, 0, false));
    assert_eq!(bench.kept(unrouted).await, Some(Kept::WithoutPayload));
    assert_eq!(bench.prune(1_002, &ages).await, (1, 0, 0, false));
    let story = bench.journal.event(event).await.unwrap().unwrap();
    assert_eq!(story.kept, Kept::WithoutPayload);
    let json: serde_json::Value = serde_json::from_str(story.event.get()).unwrap();
    assert_eq!(
        (&json["data"]["title"], &json["data"]["payload"]),
        (&"A screen".into(), &serde_json::Value::Null)
    );
    assert!(bench.journal.event_request(event).await.unwrap().is_none());
    let all = Stretch {
        since: None,
        after: None,
        limit: 9,
        bytes: usize::MAX,
    };
    assert_eq!(bench.journal.stretch(all).await.unwrap().len(), 1);

    assert_eq!(bench.prune(2_002, &ages).await, (0, 2, 0, false));
    let bench = bench.reopen();
    let story = bench.journal.event(event).await.unwrap().unwrap();
    assert_eq!(
        (story.kept, story.event.get()),
        (Kept::Outline, r#"{"provider":"zeplin"}"#)
    );
    let record = story.record;
    assert_eq!(
        (
            record.source.as_str(),
            record.provider.as_str(),
            record.duplicates
        ),
        ("screens", "zeplin", 1)
    );
    assert_eq!((record.title, record.deliveries.len()), (None, 1));
    let story = bench.journal.delivery(delivery).await.unwrap().unwrap();
    assert_eq!((story.record.events, story.attempts.len()), (vec![event], 1));
    assert_eq!(
        bench.journal.events(EventFilter::default()).await.unwrap().len(),
        3
    );

    assert_eq!(bench.prune(3_002, &ages).await, (0, 0, 2, false));
    assert_eq!(bench.kept(event).await, None);
    assert!(bench.journal.delivery(delivery).await.unwrap().is_none());
    assert!(bench.journal.receipt(&key).await.unwrap().is_none());
    let counts = bench.journal.counts().await.unwrap();
    assert_eq!(
        (counts.events, counts.duplicates, counts.deliveries["succeeded"]),
        (1, 0, 0)
    );
    assert_eq!(counts.oldest_event, Some(at(9_000)));
}

pub(crate) async fn a_stretch_goes_on_after_an_event_that_is_gone(bench: Bench<'_>) {
    let old = bench.append(arrival(0, None, vec![])).await.event();
    let mut young = Vec::new();
    for seconds in [3_000, 3_001] {
        young.push(bench.append(arrival(seconds, None, vec![])).await.event());
    }
    let next = async |after| {
        let stretch = Stretch {
            since: None,
            after,
            limit: 1,
            bytes: usize::MAX,
        };
        bench.journal.stretch(stretch).await.unwrap().pop()
    };
    let first = next(None).await.unwrap();
    assert_eq!(first.id, old);
    bench.prune(3_001, &retention()).await;
    assert_eq!(bench.kept(old).await, None);

    let mut gone_through = Vec::new();
    let mut after = first.place;
    while let Some(event) = next(Some(after)).await {
        gone_through.push(event.id);
        after = event.place;
    }
    assert_eq!(gone_through, young);
}

pub(crate) async fn retention_and_pending_nothing_goes_of_what_is_not_settled(bench: Bench<'_>) {
    let owe = async |instance, key| {
        let sent = arrival(0, None, vec![owed("a", instance, key)]);
        let committed = bench.append(sent).await;
        (committed.event(), committed.deliveries()[0])
    };
    let (_, running) = owe("slack", None).await;
    let (_, waiting) = owe("slack", None).await;
    let (_, given_back) = owe("slack", None).await;
    let (_, head) = owe("git", Some("main")).await;
    let (_, blocked) = owe("git", Some("main")).await;
    let twice = vec![owed("a", "slack", None), owed("b", "git", None)];
    let halfway = bench.append(arrival(0, None, twice)).await;
    bench.claim_as("me", 0, 9, &["git"]).await;
    bench
        .journal
        .begin(start(running, Phase::Steps, 0, 1))
        .await
        .unwrap();
    bench
        .attempt(waiting, 0, 1, Outcome::Retry, wait_until(90_000))
        .await;
    bench.journal.release(given_back, "me", None).await.unwrap();
    bench.finish(halfway.deliveries()[0], State::Succeeded).await;
    bench.append(arrival(0, None, vec![])).await;

    // Also under the lowest limits: that they are exceeded is told.
    assert_eq!(bench.prune(80_000, &retention()).await, (1, 1, 0, false));
    assert_eq!(bench.prune(80_001, &nothing()).await, (0, 0, 0, true));
    for delivery in [
        running,
        waiting,
        given_back,
        head,
        blocked,
        halfway.deliveries()[1],
    ] {
        let record = bench.journal.delivery(delivery).await.unwrap().unwrap().record;
        assert!(!record.state.is_settled());
        assert_eq!(bench.kept(record.events[0]).await, Some(Kept::Whole));
    }

    // Once it is settled, it goes like everything else.
    bench.append(arrival(90_000, None, vec![])).await;
    let mut left = 0;
    for round in 0..9 {
        for claim in bench.claim(90_000 + round).await {
            assert_eq!(claim.events.len(), 1);
            let next = Next::Settle {
                state: State::Succeeded,
                failure: None,
            };
            let start = start(claim.delivery, Phase::Steps, claim.step, claim.attempts + 1);
            let mut end = super::end(
                claim.delivery,
                Phase::Steps,
                claim.step,
                Some(start.attempt),
                Outcome::Done,
                next,
            );
            end.ended = at(90_000);
            bench.journal.begin(start).await.unwrap();
            bench.journal.end(end).await.unwrap();
            left += 1;
        }
    }
    assert_eq!(left, 6);
    assert_eq!(bench.prune(92_999, &retention()).await, (7, 7, 1, false));
    assert_eq!(bench.prune(95_000, &retention()).await, (0, 0, 6, false));
    assert_eq!(bench.journal.counts().await.unwrap().events, 1);
}

pub(crate) async fn an_event_is_there_as_long_as_its_dedup_key_holds(bench: Bench<'_>) {
    let sent = |seconds| {
        let mut sent = arrival(seconds, Some("key"), vec![owed("a", "slack", None)]);
        sent.dedup_window = Duration::from_secs(10_000);
        sent
    };
    let first = bench.append(sent(0)).await;
    bench.claim(0).await;
    bench.finish(first.deliveries()[0], State::Succeeded).await;
    bench.append(arrival(0, None, vec![])).await;

    assert_eq!(bench.prune(9_000, &nothing()).await, (2, 2, 0, true));
    let bench = bench.reopen();
    let again = bench.append(sent(9_999)).await;
    assert_eq!((again.event(), again.is_duplicate()), (first.event(), true));
    assert_eq!(bench.prune(10_000, &retention()).await, (0, 0, 1, false));
    let second = bench.append(sent(10_001)).await;
    assert!(!second.is_duplicate());
    assert_ne!(second.event(), first.event());
}

pub(crate) async fn what_has_lost_its_payload_is_not_replayed(bench: Bench<'_>) {
    let (event, delivery) = bench.settled(None, State::Succeeded).await;
    let routed = || {
        let owed = vec![owed("b", "slack", None)];
        let (event, payload) = (arrival(0, None, vec![]).routed.event().clone(), "{}".into());
        Routed::for_test(event, payload, None, generation(), owed)
    };
    // A replay keeps it, and its age counts from the replay's end.
    bench.set_clock(900);
    let replay = bench
        .journal
        .replay_delivery(delivery, ReplayKeys::Keep)
        .await
        .unwrap();
    assert_eq!(bench.prune(5_000, &retention()).await, (0, 0, 0, false));
    bench.claim(5_000).await;
    let next = Next::Settle {
        state: State::Succeeded,
        failure: None,
    };
    let mut end = super::end(replay, Phase::Steps, 0, Some(1), Outcome::Done, next);
    end.ended = at(5_000);
    bench
        .journal
        .begin(start(replay, Phase::Steps, 0, 1))
        .await
        .unwrap();
    bench.journal.end(end).await.unwrap();
    assert_eq!(bench.prune(5_999, &retention()).await, (0, 0, 0, false));

    assert_eq!(bench.prune(6_000, &retention()).await, (1, 0, 0, false));
    let refused =
        |why: &str| format!("the event {event} cannot be replayed: {why} in `[retention]` says how long)");
    let payload = refused("its payload is no longer kept (`payloads`");
    for delivery in [delivery, replay] {
        let missing = format!(
            "of its event {event}, its payload is no longer kept (`payloads` in `[retention]` says how long)"
        );
        assert_eq!(
            bench.refused_replay(delivery).await,
            format!("delivery {delivery} cannot be replayed: {missing}")
        );
        let story = bench.journal.delivery(delivery).await.unwrap().unwrap();
        assert_eq!(story.missing.as_deref(), Some(missing.as_str()));
    }
    let error = bench
        .journal
        .replay_event(event, routed(), asked())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), payload);
    bench.prune(7_000, &retention()).await;
    let error = bench
        .journal
        .replay_event(event, routed(), asked())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        refused("the event is no longer kept (`events`")
    );

    // What it was replayed from goes with it.
    bench.append(arrival(8_000, None, vec![])).await;
    assert_eq!(bench.prune(8_000, &retention()).await, (0, 0, 1, false));
    let all = bench.journal.deliveries(DeliveryFilter::default()).await.unwrap();
    assert!(all.is_empty(), "{all:?}");
}

pub(crate) async fn a_burst_that_has_lost_an_event_is_not_replayed(bench: Bench<'_>) {
    let burst = Owed {
        line: coalescing(Keep::All),
        ..owed("a", "slack", Some("7"))
    };
    let dead = owed("b", "slack", None);
    let both = bench.append(arrival(0, None, vec![burst.clone(), dead])).await;
    let one = bench.append(arrival(0, None, vec![burst])).await;
    let [gathered, dead] = *both.deliveries() else {
        panic!("two are owed: {both:?}");
    };
    assert_eq!(one.deliveries(), [gathered]);
    bench.claim(0).await;
    bench.finish(dead, State::Dead).await;
    // A burst that is over is seen by one claim, and made by the next.
    bench.claim(30).await;
    bench.claim(30).await;
    bench.finish(gathered, State::Succeeded).await;
    bench.append(arrival(8_000, None, vec![])).await;
    let story = || async { bench.journal.delivery(gathered).await.unwrap().unwrap() };
    assert_eq!(story().await.missing, None);

    // One is kept whole, for the sake of the dead letter.
    assert_eq!(bench.prune(4_000, &retention()).await, (1, 1, 1, false));
    assert_eq!(
        (bench.kept(both.event()).await, bench.kept(one.event()).await),
        (Some(Kept::Whole), None)
    );
    let missing = "1 of its 2 events is no longer kept at all (`outcomes` in `[retention]` says how long)";
    assert_eq!(story().await.record.events, [both.event()]);
    let gathered_in = Gathered {
        reason: Reason::Coalesced,
        events: 2,
        keep: Keep::All,
        seen: None,
    };
    assert_eq!(story().await.record.gathered, Some(gathered_in));
    assert_eq!(story().await.missing.as_deref(), Some(missing));
    assert_eq!(
        bench.refused_replay(gathered).await,
        format!("delivery {gathered} cannot be replayed: {missing}")
    );
    // The dead letter is of that event alone.
    bench
        .journal
        .replay_delivery(dead, ReplayKeys::Keep)
        .await
        .unwrap();
}

pub(crate) async fn a_dead_letter_keeps_its_event_until_it_is_old_or_replayed(bench: Bench<'_>) {
    let (left, _) = bench.settled(None, State::Dead).await;
    let (mended, dead) = bench.settled(None, State::Dead).await;
    let replay = bench
        .journal
        .replay_delivery(dead, ReplayKeys::Keep)
        .await
        .unwrap();
    bench.claim(0).await;
    bench.attempt(replay, 0, 1, Outcome::Done, next()).await;
    let settled = Next::Settle {
        state: State::Succeeded,
        failure: None,
    };
    bench.attempt(replay, 1, 1, Outcome::Done, settled).await;
    bench.append(arrival(9_000, None, vec![])).await;

    assert_eq!(bench.prune(4_900, &retention()).await, (1, 1, 1, false));
    assert_eq!(
        (bench.kept(left).await, bench.kept(mended).await),
        (Some(Kept::Whole), None)
    );
    assert_eq!(bench.prune(5_602, &retention()).await, (1, 1, 1, false));
    assert_eq!(bench.kept(left).await, None);
}

pub(crate) async fn what_holds_its_line_up_stays_until_a_person_skips_it(bench: Bench<'_>) {
    let stuck = bench.owe(0, owed("a", "slack", Some("key"))).await;
    let event = bench
        .journal
        .delivery(stuck)
        .await
        .unwrap()
        .unwrap()
        .record
        .events[0];
    bench.claim(0).await;
    let next = Next::Hold { failure: failure() };
    bench.attempt(stuck, 0, 1, Outcome::Fatal, next).await;
    bench.append(arrival(0, None, vec![])).await;
    assert_eq!(bench.prune(80_000, &retention()).await, (1, 1, 0, false));
    assert_eq!(bench.kept(event).await, Some(Kept::Whole));
    bench.journal.skip(stuck).await.unwrap();
    assert_eq!(bench.prune(90_000, &retention()).await, (1, 1, 1, false));
}

pub(crate) async fn what_took_the_place_of_another_may_go_before_it(bench: Bench<'_>) {
    let line = Line {
        supersede: true,
        newest_by: NewestBy::Time,
        ..Line::default()
    };
    let newest = Owed {
        line,
        ..owed("a", "slack", Some("key"))
    };
    let both = vec![newest.clone(), owed("b", "git", None)];
    let superseded = bench.append(arrival(0, None, both)).await;
    let successor = bench.owe(1, newest.clone()).await;
    assert_eq!(bench.state(superseded.deliveries()[0]).await, State::Superseded);
    bench.claim_as("me", 1, 9, &["git"]).await;
    bench.finish(successor, State::Succeeded).await;
    bench.append(arrival(0, None, vec![])).await;

    // The older event still owes something else.
    assert_eq!(bench.prune(8_000, &retention()).await, (2, 2, 1, false));
    assert!(bench.journal.delivery(successor).await.unwrap().is_none());
    let record = bench
        .journal
        .delivery(superseded.deliveries()[0])
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!((record.state, record.successor), (State::Superseded, None));
    // What comes later than everything that is known of its line is not late.
    let late = bench.append(arrival(0, None, vec![newest]).happened(at(0))).await;
    assert_eq!(bench.state(late.deliveries()[0]).await, State::Pending);
}

pub(crate) async fn what_comes_after_a_restart_is_not_taken_for_what_was_pruned(bench: Bench<'_>) {
    let line = Line {
        supersede: true,
        ..Line::default()
    };
    let newest = Owed {
        line,
        ..owed("a", "slack", Some("key"))
    };
    let both = vec![newest.clone(), owed("b", "git", None)];
    let superseded = bench.append(arrival(0, None, both)).await.deliveries()[0];
    let successor = bench.owe(1, newest).await;
    bench.claim_as("me", 1, 9, &["git"]).await;
    bench.finish(successor, State::Succeeded).await;
    bench.append(arrival(0, None, vec![])).await;
    assert_eq!(bench.record(superseded).await.successor, Some(successor));

    assert_eq!(bench.prune(8_000, &retention()).await, (2, 2, 1, false));
    let bench = bench.reopen().reopen();
    bench.owe(8_000, owed("c", "slack", None)).await;
    assert_eq!(bench.record(superseded).await.successor, None);
}

pub(crate) async fn of_too_many_events_the_oldest_go_before_their_time(bench: Bench<'_>) {
    let (dead, _) = bench.settled(None, State::Dead).await;
    let mut events = Vec::new();
    for number in 0..300 {
        events.push(bench.append(arrival(100 + number, None, vec![])).await.event());
    }
    let few = Retention {
        max_events: Some(100),
        ..retention()
    };
    let (_, _, gone, exceeded) = bench.prune(2_000, &few).await;
    assert!(!exceeded);
    let left = bench.journal.counts().await.unwrap().events;
    // A piece may take some more than it must.
    assert!(
        (301 - gone, left) == (left, left) && (37..=100).contains(&left),
        "{left}"
    );
    // Whatever is closest to its age goes first: the dead letter has a longer one.
    assert_eq!(bench.kept(dead).await, Some(Kept::Whole));
    assert_eq!(bench.kept(events[199]).await, None);
    assert_eq!(bench.kept(events[299]).await, Some(Kept::WithoutPayload));
}

pub(crate) async fn rules_that_nothing_needs_lose_their_text_and_get_it_again(bench: Bench<'_>) {
    let journal = &bench.journal;
    let [older, newer, owing] = ["older", "newer", "owing"].map(|name| GenerationId(name.into()));
    for (seconds, rules) in [(0, &older), (10, &owing), (20, &newer)] {
        bench.set_clock(seconds);
        journal.store_rules(rules, "some rules").await.unwrap();
        journal.put_in_force(rules, Cause::Change, None).await.unwrap();
    }
    let mut sent = arrival(15, None, vec![owed("a", "slack", Some("key"))]);
    let event = sent.routed.event().clone();
    let owed = sent.routed.owed().to_vec();
    sent.routed = Routed::for_test(event, "{}".into(), None, owing.clone(), owed);
    let delivery = bench.append(sent).await.deliveries()[0];
    bench.append(arrival(9_000, None, vec![])).await;
    let has = async |rules: &GenerationId| journal.rules(rules).await.unwrap().is_some();

    // Its event is there, though it is out of force; the first one was before there was any.
    bench.prune(8_000, &retention()).await;
    assert_eq!(
        (has(&older).await, has(&owing).await, has(&newer).await),
        (true, true, true)
    );
    bench.claim(8_000).await;
    bench.finish(delivery, State::Succeeded).await;
    bench.prune(16_000, &retention()).await;
    assert_eq!(
        (has(&older).await, has(&owing).await, has(&newer).await),
        (false, false, true)
    );
    assert_eq!(journal.generations(9).await.unwrap().len(), 3);

    journal.store_rules(&older, "some rules").await.unwrap();
    journal
        .put_in_force(&older, Cause::Rollback, Some(&newer))
        .await
        .unwrap();
    bench.prune(90_000, &retention()).await;
    assert_eq!((has(&older).await, has(&newer).await), (true, true));
}
