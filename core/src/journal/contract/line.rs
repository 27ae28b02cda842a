//! Lines: what becomes of deliveries of one route and order key that come faster than they are carried out.

use std::time::Duration;

use bytes::Bytes;
use jackfield_event::{DeliveryId, EventId};

use super::{Bench, PAYLOAD, arrival, asked, at, end, failure, generation, next, owed, start, wait_until};
use crate::{
    clock::Jump,
    delivery::{Coalesce, Keep, Line, NewestBy, OnStuck, Outcome, Phase, State},
    journal::{Ended, Gathered, JournalError, Next, ReplayKeys, StepEnd},
    reason::Reason,
    router::{Deadline, GenerationId, Owed, Routed},
};

/// What is owed to the route `a` under the key 7, in such a line.
fn of(line: Line) -> Owed {
    Owed {
        line,
        ..owed("a", "slack", Some("7"))
    }
}

fn superseding() -> Line {
    Line {
        supersede: true,
        ..Line::default()
    }
}

fn by_time() -> Line {
    Line {
        newest_by: NewestBy::Time,
        ..superseding()
    }
}

/// Bursts with a window of 10 s, of 30 s and 3 events at most.
pub(super) fn coalescing(keep: Keep) -> Line {
    Line {
        coalesce: Some(Coalesce {
            window: Duration::from_secs(10),
            max_wait: Duration::from_secs(30),
            max_items: 3.try_into().unwrap(),
            keep,
        }),
        ..Line::default()
    }
}

impl Bench<'_> {
    /// Commits an event that arrives at one time and happened at another.
    async fn owe_of(&self, arrives: i64, happened: i64, owed: Owed) -> (DeliveryId, EventId) {
        let sent = arrival(arrives, None, vec![owed]);
        let sent = sent.happened(at(happened));
        let committed = self.append(sent).await;
        (committed.deliveries()[0], committed.event())
    }

    /// Fails a claimed delivery of one step for good, and has it hold its line up.
    async fn hold(&self, delivery: DeliveryId) {
        let next = Next::Hold { failure: failure() };
        self.attempt(delivery, 0, 1, Outcome::Fatal, next).await;
    }

    /// Asks for a settled delivery again, with the keys that it had.
    async fn replay_of(&self, delivery: DeliveryId) -> DeliveryId {
        let replayed = self.journal.replay_delivery(delivery, ReplayKeys::Keep);
        replayed.await.unwrap()
    }

    /// Asks for what a stored event owes under rules that owe this.
    async fn replay_event_of(&self, event: EventId, owed: Owed) -> DeliveryId {
        let of_it = arrival(0, None, vec![]).routed.event().clone();
        let routed = Routed::for_test(of_it, PAYLOAD.into(), None, generation(), vec![owed]);
        let replayed = self.journal.replay_event(event, routed, asked()).await;
        replayed.unwrap()[0]
    }

    /// The clock is set, and the journal hears of it; what was told since is told by the clock as it is now.
    async fn clock_jumps(&self, jump: Jump, from: i64, to: i64) {
        self.set_clock(to);
        let told = at(from)..=at(to);
        self.journal.clock_was_set(jump, told).await.unwrap();
    }

    /// What claims are made, again and again until nothing new is due, as a dispatcher does.
    async fn all_claimed(&self, seconds: i64) -> Vec<DeliveryId> {
        let mut all = Vec::new();
        // A burst that is over is seen by one claim, and made by the next.
        for _ in 0..3 {
            all.extend(self.claimed(seconds).await);
        }
        all
    }
}

pub(crate) async fn a_newer_delivery_takes_the_place_of_those_that_wait(bench: Bench<'_>) {
    let running = bench.owe(0, of(superseding())).await;
    assert_eq!(bench.claimed(0).await, [running]);
    let second = bench.owe(1, of(superseding())).await;
    let third = bench.owe(2, of(superseding())).await;
    let elsewhere = bench
        .owe(
            2,
            Owed {
                line: superseding(),
                ..owed("a", "slack", Some("8"))
            },
        )
        .await;

    let record = bench.record(second).await;
    assert_eq!(
        (record.state, record.reason, record.successor, record.settled),
        (
            State::Superseded,
            Some(Reason::Superseded),
            Some(third),
            Some(at(2))
        )
    );
    assert_eq!(bench.state(running).await, State::Running);
    assert_eq!(bench.claimed(3).await, [elsewhere]);
    bench.finish(running, State::Succeeded).await;
    let bench = bench.reopen();
    assert_eq!(bench.claimed(99).await, [third, elsewhere]);
    let counts = bench.journal.counts().await.unwrap().deliveries;
    assert_eq!(
        (counts["superseded"], counts["running"], counts["pending"]),
        (1, 2, 0)
    );
}

pub(crate) async fn one_that_backs_off_is_superseded_and_says_how_far_it_came(bench: Bench<'_>) {
    let first = bench.owe(0, of(superseding())).await;
    bench.claim(0).await;
    bench.attempt(first, 0, 1, Outcome::Done, next()).await;
    bench.attempt(first, 1, 1, Outcome::Retry, wait_until(60)).await;
    let second = bench.owe(1, of(superseding())).await;
    let record = bench.record(first).await;
    assert_eq!(
        (record.state, record.step, record.due),
        (State::Superseded, 1, None)
    );
    assert_eq!(record.detail.as_deref(), Some("after step `step-0`"));
    assert_eq!(bench.claimed(1).await, [second]);
    // Its time comes, and nothing of it is left.
    assert!(bench.claim(5).await.is_empty());
}

pub(crate) async fn what_may_have_acted_or_tells_of_a_failure_is_not_superseded(bench: Bench<'_>) {
    let interrupted = bench.owe(0, of(superseding())).await;
    bench.claim(0).await;
    bench
        .journal
        .begin(start(interrupted, Phase::Steps, 0, 1))
        .await
        .unwrap();
    let bench = bench.reopen();
    bench.owe(1, of(superseding())).await;
    assert_eq!(bench.state(interrupted).await, State::Pending);

    let other = |line| Owed {
        line,
        ..owed("b", "slack", Some("7"))
    };
    let failed = bench.owe(2, other(superseding())).await;
    assert_eq!(bench.claimed(2).await, [interrupted, failed]);
    let on_failure = Next::OnFailure {
        failure: failure(),
        instance: "slack".into(),
    };
    bench.attempt(failed, 0, 1, Outcome::Fatal, on_failure).await;
    bench
        .journal
        .begin(start(failed, Phase::OnFailure, 0, 1))
        .await
        .unwrap();
    let again = end(
        failed,
        Phase::OnFailure,
        0,
        Some(1),
        Outcome::Retry,
        wait_until(60),
    );
    bench.journal.end(again).await.unwrap();
    bench.owe(3, other(superseding())).await;
    assert_eq!(bench.state(failed).await, State::Waiting);
}

pub(crate) async fn what_ran_out_of_time_may_have_acted_and_is_not_superseded_whatever_came_after(
    bench: Bench<'_>,
) {
    let first = bench.owe(0, of(superseding())).await;
    bench.claim(0).await;
    bench
        .journal
        .begin(start(first, Phase::Steps, 0, 1))
        .await
        .unwrap();
    let timed_out = StepEnd {
        reason: Some(Reason::TimedOut),
        ..end(first, Phase::Steps, 0, Some(1), Outcome::Retry, wait_until(9))
    };
    bench.journal.end(timed_out).await.unwrap();
    bench.owe(1, of(superseding())).await;
    assert_eq!(bench.state(first).await, State::Waiting);
    // Nor when it was claimed since, and went back without an attempt.
    bench.claim(9).await;
    let missing = Some((at(60), Reason::InstanceMissing, "gone".to_owned()));
    bench.journal.release(first, "me", missing).await.unwrap();
    bench.owe(10, of(superseding())).await;
    assert_eq!(bench.state(first).await, State::Waiting);
    // The next attempt looks, and leaves no doubt.
    bench.claim(60).await;
    bench
        .journal
        .begin(start(first, Phase::Steps, 0, 2))
        .await
        .unwrap();
    let failed = end(first, Phase::Steps, 0, Some(2), Outcome::Retry, wait_until(99));
    assert_eq!(bench.journal.end(failed).await.unwrap(), Ended::Superseded);
}

pub(crate) async fn what_comes_to_rest_yields_to_a_newer_one_that_came_meanwhile(bench: Bench<'_>) {
    let first = bench.owe(0, of(superseding())).await;
    bench.claim(0).await;
    let second = bench.owe(1, of(superseding())).await;
    bench
        .journal
        .begin(start(first, Phase::Steps, 0, 1))
        .await
        .unwrap();
    let failed = end(first, Phase::Steps, 0, Some(1), Outcome::Retry, wait_until(600));
    assert_eq!(bench.journal.end(failed).await.unwrap(), Ended::Superseded);
    let record = bench.record(first).await;
    assert_eq!(
        (record.state, record.successor),
        (State::Superseded, Some(second))
    );
    assert_eq!(bench.claimed(2).await, [second]);
    // Given back before anything was begun, it is no other.
    let third = bench.owe(3, of(superseding())).await;
    assert_eq!(
        bench.journal.release(second, "me", None).await.unwrap(),
        Ended::Superseded
    );
    assert_eq!(bench.claimed(4).await, [third]);
    let counts = bench.journal.counts().await.unwrap().deliveries;
    assert_eq!(
        (
            counts["superseded"],
            counts["running"],
            counts["waiting"],
            counts["pending"]
        ),
        (2, 1, 0, 0)
    );
}

pub(crate) async fn the_replay_of_the_newest_stands_for_it(bench: Bench<'_>) {
    let (newest, _) = bench.owe_of(10, 9, of(by_time())).await;
    bench.claim(10).await;
    bench.finish(newest, State::Dead).await;
    let replay = bench.replay_of(newest).await;
    bench.claim(11).await;
    bench.finish(replay, State::Succeeded).await;
    let (late, _) = bench.owe_of(12, 8, of(by_time())).await;
    assert_eq!(bench.record(late).await.successor, Some(replay));

    // One that is dead and holds its line up is yet to be dealt with, and newer than what is older.
    let held = |line| Owed {
        line,
        ..owed("h", "slack", Some("7"))
    };
    let line = Line {
        on_stuck: OnStuck::Hold,
        ..by_time()
    };
    let (first, _) = bench.owe_of(20, 20, held(line)).await;
    bench.claim(20).await;
    bench.hold(first).await;
    let (older, _) = bench.owe_of(21, 19, held(line)).await;
    assert_eq!(bench.record(older).await.successor, Some(first));
}

pub(crate) async fn an_event_from_the_future_is_as_new_as_its_arrival(bench: Bench<'_>) {
    let (future, _) = bench.owe_of(10, 9_999, of(by_time())).await;
    let (next, _) = bench.owe_of(11, 11, of(by_time())).await;
    assert_eq!(bench.record(future).await.successor, Some(next));
    assert_eq!(bench.claimed(11).await, [next]);
}

pub(crate) async fn replays_neither_supersede_nor_are_superseded(bench: Bench<'_>) {
    let first = bench.owe(0, of(superseding())).await;
    bench.claim(0).await;
    bench.finish(first, State::Succeeded).await;
    let second = bench.owe(1, of(superseding())).await;
    let replay = bench
        .journal
        .replay_delivery(first, ReplayKeys::Keep)
        .await
        .unwrap();
    assert_eq!(bench.state(second).await, State::Pending);
    let third = bench.owe(2, of(superseding())).await;
    assert_eq!(
        [
            bench.state(second).await,
            bench.state(replay).await,
            bench.state(third).await
        ],
        [State::Superseded, State::Pending, State::Pending]
    );
    // The one that was replaced had been first; now the replay is.
    assert_eq!(bench.claimed(2).await, [replay]);
    bench.finish(replay, State::Succeeded).await;
    assert_eq!(bench.claimed(2).await, [third]);
}

pub(crate) async fn an_event_that_is_replayed_supersedes_nothing_and_is_not_superseded(bench: Bench<'_>) {
    for (route, line) in [("arrival", superseding()), ("time", by_time())] {
        let of_it = || Owed {
            line,
            ..owed(route, "slack", Some("7"))
        };
        let (first, event) = bench.owe_of(0, 0, of_it()).await;
        bench.claim(0).await;
        bench.finish(first, State::Succeeded).await;
        let (second, _) = bench.owe_of(1, 1, of_it()).await;
        let replay = bench.replay_event_of(event, of_it()).await;
        assert_eq!(bench.state(second).await, State::Pending, "{route}");
        let (third, _) = bench.owe_of(2, 2, of_it()).await;
        assert_eq!(bench.record(second).await.successor, Some(third), "{route}");
        assert_eq!(bench.claimed(2).await, [replay], "{route}");
        // Nor where it goes back to wait behind a newer one.
        bench.attempt(replay, 0, 1, Outcome::Retry, wait_until(3)).await;
        assert_eq!(bench.claimed(3).await, [replay], "{route}");
        bench.attempt(replay, 0, 2, Outcome::Done, settled()).await;
        assert_eq!(bench.claimed(3).await, [third], "{route}");
        bench.finish(third, State::Succeeded).await;
    }
}

pub(crate) async fn an_event_that_is_replayed_joins_no_burst_and_no_event_joins_it(bench: Bench<'_>) {
    for keep in [Keep::Newest, Keep::All] {
        let of_it = || Owed {
            route: format!("{keep:?}"),
            ..of(coalescing(keep))
        };
        let (burst, first) = bench.owe_of(0, 0, of_it()).await;
        let replay = bench.replay_event_of(first, of_it()).await;
        assert_ne!(replay, burst);
        assert_eq!(bench.state(replay).await, State::Pending);
        assert_eq!(bench.record(burst).await.events, [first]);
        // Made in the midst of a burst it waits for none, and the burst goes on to gather.
        let (joined, second) = bench.owe_of(5, 5, of_it()).await;
        assert_eq!(joined, burst);
        assert_eq!(bench.record(burst).await.events, [first, second]);
        assert_eq!(bench.record(replay).await.events, [first]);
        assert_eq!(bench.all_claimed(15).await, [burst], "it is older");
        bench.finish(burst, State::Succeeded).await;
        // While it is pending or under way, what arrives begins a burst of its own.
        let (other, third) = bench.owe_of(16, 16, of_it()).await;
        assert_ne!(other, replay);
        let claims = bench.claim(16).await;
        assert_eq!((claims.len(), claims[0].delivery), (1, replay));
        assert_eq!(ids(&claims[0].events), [first]);
        assert_eq!(bench.owe_of(17, 17, of_it()).await.0, other);
        assert_eq!(bench.record(replay).await.events, [first]);
        assert_eq!(bench.record(other).await.events[0], third);
        bench.finish(replay, State::Succeeded).await;
        assert_eq!(bench.all_claimed(27).await, [other]);
        bench.finish(other, State::Succeeded).await;
    }
}

pub(crate) async fn deliveries_of_rules_that_did_not_say_so_are_not_superseded(bench: Bench<'_>) {
    let first = bench.owe(0, of(Line::default())).await;
    let second = bench.owe(1, of(superseding())).await;
    assert_eq!(
        [bench.state(first).await, bench.state(second).await],
        [State::Pending; 2]
    );
}

pub(crate) async fn of_events_that_come_out_of_order_the_newest_by_time_stays(bench: Bench<'_>) {
    let (newest, _) = bench.owe_of(10, 9, of(by_time())).await;
    let (late, _) = bench.owe_of(11, 5, of(by_time())).await;
    let record = bench.record(late).await;
    assert_eq!(
        (record.state, record.reason, record.successor),
        (State::Superseded, Some(Reason::Superseded), Some(newest))
    );
    assert_eq!(bench.claimed(11).await, [newest]);
    bench.finish(newest, State::Succeeded).await;

    // What was done for a newer event is not undone by an older one, over restarts too.
    let bench = bench.reopen();
    let (later, _) = bench.owe_of(12, 8, of(by_time())).await;
    assert_eq!(bench.record(later).await.successor, Some(newest));
    // Of one time, the one that arrives later is the newer.
    let (equal, _) = bench.owe_of(13, 9, of(by_time())).await;
    assert_eq!(bench.claimed(13).await, [equal]);
    // Where the newest is dead, an older one is better than none.
    bench.finish(equal, State::Dead).await;
    let (older, _) = bench.owe_of(14, 3, of(by_time())).await;
    assert_eq!(bench.claimed(14).await, [older]);
    bench.finish(older, State::Succeeded).await;
    let (oldest, _) = bench.owe_of(15, 2, of(by_time())).await;
    assert_eq!(bench.record(oldest).await.successor, Some(older));
}

pub(crate) async fn a_burst_is_one_delivery_when_it_has_been_quiet(bench: Bench<'_>) {
    let (burst, first) = bench.owe_of(0, 0, of(coalescing(Keep::All))).await;
    let (joined, second) = bench.owe_of(8, 8, of(coalescing(Keep::All))).await;
    assert_eq!(joined, burst);
    let record = bench.record(burst).await;
    assert_eq!(
        (record.state, record.reason, record.due, record.blocked),
        (State::Waiting, Some(Reason::Coalescing), Some(at(18)), false)
    );
    assert_eq!(bench.journal.next_due(at(8)).await.unwrap(), Some(at(18)));
    assert!(bench.all_claimed(17).await.is_empty());
    let bench = bench.reopen();
    assert!(bench.all_claimed(17).await.is_empty());
    assert!(bench.claim(18).await.is_empty());
    let claims = bench.claim(18).await;
    assert_eq!((claims.len(), claims[0].delivery), (1, burst));
    assert_eq!(ids(&claims[0].events), [first, second]);
    // It is over: what comes now begins another.
    let (other, _) = bench.owe_of(19, 19, of(coalescing(Keep::All))).await;
    assert_ne!(other, burst);
    let counts = bench.journal.counts().await.unwrap().deliveries;
    assert_eq!(
        (counts["waiting"], counts["running"], counts["pending"]),
        (1, 1, 0)
    );
}

pub(crate) async fn a_burst_ends_with_its_longest_wait_and_with_its_items(bench: Bench<'_>) {
    let (slow, _) = bench.owe_of(0, 0, of(coalescing(Keep::Newest))).await;
    bench.owe_of(9, 9, of(coalescing(Keep::Newest))).await;
    assert_eq!(bench.record(slow).await.due, Some(at(19)));
    // Its third event is the last.
    let (_, third) = bench.owe_of(18, 18, of(coalescing(Keep::Newest))).await;
    let claims = bench.claim(18).await;
    assert_eq!(claims[0].delivery, slow);
    assert_eq!(ids(&claims[0].events), [third]);
    assert_eq!(bench.record(slow).await.events.len(), 3);
    bench.finish(slow, State::Succeeded).await;

    let elsewhere = || Owed {
        line: Line {
            coalesce: coalescing(Keep::All).coalesce.map(|coalesce| Coalesce {
                max_items: 9.try_into().unwrap(),
                ..coalesce
            }),
            ..Line::default()
        },
        ..owed("b", "slack", Some(""))
    };
    let long = bench.owe(100, elsewhere()).await;
    for seconds in [109, 118, 127] {
        assert_eq!(bench.owe(seconds, elsewhere()).await, long);
    }
    assert_eq!(bench.record(long).await.due, Some(at(130)));
    // Nobody has looked since, and yet what is over takes nobody in.
    let next = bench.owe(131, elsewhere()).await;
    assert_ne!(next, long);
    assert_eq!(bench.claimed(131).await, [long]);
    // Nor does one that nothing came to for its window: of an instance that is busy or rests, nothing is looked at.
    let quiet = bench.owe(200, elsewhere()).await;
    assert_ne!(bench.owe(210, elsewhere()).await, quiet);
}

pub(crate) async fn a_burst_says_what_gathered_in_it_when_it_is_over_too(bench: Bench<'_>) {
    for (route, keep) in [("newest", Keep::Newest), ("all", Keep::All)] {
        let owed = || Owed {
            route: route.into(),
            ..of(coalescing(keep))
        };
        let (burst, _) = bench.owe_of(0, 0, owed()).await;
        assert_eq!(bench.record(burst).await.gathered, None);
        bench.owe_of(1, 1, owed()).await;
        let gathers = Gathered {
            reason: Reason::Coalescing,
            events: 2,
            keep,
            seen: None,
        };
        assert_eq!(bench.record(burst).await.gathered, Some(gathers));

        let (_, last) = bench.owe_of(2, 2, owed()).await;
        let gathered = Gathered {
            reason: Reason::Coalesced,
            events: 3,
            keep,
            seen: (keep == Keep::Newest).then_some(last),
        };
        assert_eq!(bench.record(burst).await.gathered.as_ref(), Some(&gathered));
        assert_eq!(bench.claimed(2).await, [burst]);
        bench.finish(burst, State::Succeeded).await;
        assert_eq!(bench.record(burst).await.gathered.as_ref(), Some(&gathered));
        let replay = bench.replay_of(burst).await;
        assert_eq!(bench.record(replay).await.gathered, Some(gathered));
        assert_eq!(bench.claimed(2).await, [replay]);
        bench.finish(replay, State::Succeeded).await;
    }
}

pub(crate) async fn a_burst_goes_on_to_gather_when_the_clock_is_set(bench: Bench<'_>) {
    // What came before and after is one burst, as long as it would have been.
    let (burst, first) = bench.owe_of(1_000, 1_000, of(coalescing(Keep::All))).await;
    bench
        .clock_jumps(Jump::Back(Duration::from_secs(900)), 101, 101)
        .await;
    assert_eq!(bench.record(burst).await.due, Some(at(110)));
    assert!(bench.all_claimed(105).await.is_empty());
    let (joined, second) = bench.owe_of(105, 105, of(coalescing(Keep::All))).await;
    assert_eq!(joined, burst);
    assert_eq!(bench.record(burst).await.due, Some(at(115)));
    let day = Jump::Forward(Duration::from_secs(86_400));
    bench.clock_jumps(day, 86_507, 86_507).await;
    assert_eq!(bench.record(burst).await.due, Some(at(86_515)));
    assert!(bench.all_claimed(86_514).await.is_empty());
    let bench = bench.reopen();
    let claims = [bench.claim(86_515).await, bench.claim(86_515).await].concat();
    assert_eq!((claims.len(), claims[0].delivery), (1, burst));
    assert_eq!(ids(&claims[0].events), [first, second]);
}

pub(crate) async fn a_burst_waits_no_longer_than_its_longest_when_the_clock_is_set(bench: Bench<'_>) {
    let elsewhere = |route: &str| Owed {
        route: route.into(),
        line: Line {
            coalesce: coalescing(Keep::All).coalesce.map(|coalesce| Coalesce {
                max_items: 99.try_into().unwrap(),
                ..coalesce
            }),
            ..Line::default()
        },
        ..of(Line::default())
    };
    for (route, jump, then) in [
        ("back", Jump::Back(Duration::from_secs(900)), 100),
        ("forward", Jump::Forward(Duration::from_secs(900)), 1_900),
    ] {
        let burst = bench.owe(1_000, elsewhere(route)).await;
        // One comes before anybody has noticed, and all that come fast are of one burst until its longest wait is over.
        if route == "back" {
            assert_eq!(bench.owe(then + 2, elsewhere(route)).await, burst);
            bench.clock_jumps(jump, then, then + 2).await;
        } else {
            bench.clock_jumps(jump, then + 2, then + 2).await;
        }
        for seconds in [4, 10, 18, 26] {
            assert_eq!(
                bench.owe(then + seconds, elsewhere(route)).await,
                burst,
                "{route} {seconds}"
            );
            assert!(bench.all_claimed(then + seconds).await.is_empty(), "{route}");
        }
        assert_eq!(bench.record(burst).await.due, Some(at(then + 30)), "{route}");
        let next = bench.owe(then + 30, elsewhere(route)).await;
        assert_ne!(next, burst, "{route}");
        for (over, seconds) in [(burst, 30), (next, 40)] {
            assert_eq!(bench.all_claimed(then + seconds).await, [over], "{route}");
            bench.finish(over, State::Succeeded).await;
        }
    }
}

pub(crate) async fn a_burst_is_over_long_before_its_deadline(bench: Bench<'_>) {
    let dated = |seconds| Owed {
        deadline: Ok(Some(Deadline::After(Duration::from_secs(seconds)))),
        ..of(coalescing(Keep::All))
    };
    let burst = bench.owe(0, dated(12)).await;
    assert_eq!(bench.record(burst).await.due, Some(at(6)));
    // The first of all deadlines counts.
    assert_eq!(bench.owe(2, dated(4)).await, burst);
    let record = bench.record(burst).await;
    assert_eq!((record.due, record.deadline), (Some(at(4)), Some(at(6))));
    assert_eq!(bench.all_claimed(4).await, [burst]);
}

pub(crate) async fn a_burst_of_which_all_is_seen_has_no_more_bytes_than_are_read_at_once(bench: Bench<'_>) {
    for (keep, together) in [(Keep::Newest, true), (Keep::All, false)] {
        let owed = Owed {
            route: format!("{keep:?}"),
            ..of(coalescing(keep))
        };
        let large = || arrival(0, None, vec![owed.clone()]).with_body(vec![b' '; 5 << 20].into());
        let first = bench.append(large()).await.deliveries()[0];
        assert_eq!(bench.append(large()).await.deliveries()[0], first);
        let third = bench.append(large()).await.deliveries()[0];
        assert_eq!(third == first, together, "{keep:?}");
    }
}

pub(crate) async fn a_burst_stands_in_its_line(bench: Bench<'_>) {
    let first = bench.owe(0, of(coalescing(Keep::All))).await;
    bench.claim(10).await;
    assert_eq!(bench.claimed(10).await, [first]);
    let second = bench.owe(11, of(coalescing(Keep::All))).await;
    // Its window is over while the first still runs.
    assert!(!bench.all_claimed(21).await.contains(&second));
    let record = bench.record(second).await;
    assert_eq!(
        (record.state, record.blocked, record.reason),
        (State::Pending, true, None)
    );
    let third = bench.owe(22, of(coalescing(Keep::All))).await;
    let replay = {
        bench
            .journal
            .renew("me", vec![first], at(22), Duration::from_secs(99))
            .await
            .unwrap();
        bench.finish(first, State::Succeeded).await;
        bench
            .journal
            .replay_delivery(first, ReplayKeys::Renew)
            .await
            .unwrap()
    };
    assert_eq!(bench.claimed(22).await, [second]);
    bench.finish(second, State::Succeeded).await;
    // The third gathers, and the replay came after it.
    assert!(bench.claim(22).await.is_empty());
    assert_eq!(bench.all_claimed(32).await, [third]);
    bench.finish(third, State::Succeeded).await;
    assert_eq!(bench.claimed(32).await, [replay]);
}

pub(crate) async fn the_newest_of_a_burst_is_told_by_time_where_the_route_says_so(bench: Bench<'_>) {
    let line = Line {
        newest_by: NewestBy::Time,
        ..coalescing(Keep::Newest)
    };
    let (burst, _) = bench.owe_of(11, 1, of(line)).await;
    let (_, newest) = bench.owe_of(12, 9, of(line)).await;
    let (_, late) = bench.owe_of(13, 4, of(line)).await;
    let claims = bench.claim(13).await;
    assert_eq!(ids(&claims[0].events), [newest]);
    let events = bench.record(burst).await.events;
    assert_eq!((events.len(), events[2], events[1]), (3, newest, late));
    bench.finish(burst, State::Succeeded).await;
    // A replay sees of the burst what the first did.
    bench
        .journal
        .replay_delivery(burst, ReplayKeys::Renew)
        .await
        .unwrap();
    assert_eq!(ids(&bench.claim(14).await[0].events), [newest]);
}

pub(crate) async fn a_burst_is_of_one_set_of_rules(bench: Bench<'_>) {
    let first = bench.owe(0, of(coalescing(Keep::All))).await;
    let newer = GenerationId("4567cdef".into());
    bench.journal.store_rules(&newer, "newer rules").await.unwrap();
    let sent = arrival(1, None, vec![of(coalescing(Keep::All))]);
    let second = bench.append(sent.under(newer)).await.deliveries()[0];
    assert_ne!(first, second);
    assert_eq!(bench.all_claimed(10).await, [first]);
    // The second is over as well, and behind the first.
    assert!(bench.all_claimed(11).await.is_empty());
    assert_eq!(bench.record(first).await.generation, generation());
    bench
        .journal
        .renew("me", vec![first], at(11), Duration::from_secs(99))
        .await
        .unwrap();
    bench.finish(first, State::Succeeded).await;
    assert_eq!(bench.all_claimed(11).await, [second]);
}

pub(crate) async fn a_redelivery_joins_no_burst(bench: Bench<'_>) {
    let sent = || arrival(0, Some("key"), vec![of(coalescing(Keep::All))]);
    let burst = bench.append(sent()).await.deliveries()[0];
    let again = bench.append(sent()).await;
    assert!(again.is_duplicate() && again.deliveries().is_empty());
    assert_eq!(bench.record(burst).await.events.len(), 1);
}

pub(crate) async fn a_newer_burst_takes_the_place_of_one_that_waits(bench: Bench<'_>) {
    let line = Line {
        supersede: true,
        ..coalescing(Keep::Newest)
    };
    let first = bench.owe(0, of(line)).await;
    assert_eq!(bench.owe(1, of(line)).await, first);
    bench.claim(11).await;
    assert_eq!(bench.claimed(11).await, [first]);
    bench.attempt(first, 0, 1, Outcome::Retry, wait_until(99)).await;
    let second = bench.owe(12, of(line)).await;
    assert_eq!(bench.record(first).await.successor, Some(second));
    assert_eq!(bench.all_claimed(22).await, [second]);
}

pub(crate) async fn a_dead_one_holds_its_line_up_until_a_person_skips_it(bench: Bench<'_>) {
    let line = Line {
        on_stuck: OnStuck::Hold,
        ..Line::default()
    };
    let first = bench.owe(0, of(line)).await;
    let second = bench.owe(1, of(line)).await;
    let other_key = bench.owe(1, owed("a", "slack", Some("8"))).await;
    assert_eq!(bench.claimed(1).await, [first, other_key]);
    bench.hold(first).await;
    let record = bench.record(first).await;
    assert_eq!(
        (record.state, record.held, record.failure),
        (State::Dead, true, Some(failure()))
    );
    let bench = bench.reopen();
    let third = bench.owe(2, of(line)).await;
    assert_eq!(bench.claimed(2).await, [other_key]);

    let refused = bench.journal.skip(second).await;
    assert!(matches!(refused, Err(JournalError::Refused(_))), "{refused:?}");
    bench.journal.skip(first).await.unwrap();
    assert!(!bench.record(first).await.held);
    assert_eq!(bench.claimed(2).await, [second]);
    let twice = bench.journal.skip(first).await;
    assert!(matches!(twice, Err(JournalError::Refused(_))), "{twice:?}");
    bench.finish(second, State::Succeeded).await;
    assert_eq!(bench.claimed(2).await, [third]);
}

pub(crate) async fn only_the_first_of_a_line_holds_it_up(bench: Bench<'_>) {
    let line = Line {
        on_stuck: OnStuck::Hold,
        ..Line::default()
    };
    let dated = Owed {
        deadline: Ok(Some(Deadline::After(Duration::from_secs(5)))),
        ..of(line)
    };
    let first = bench.owe(0, of(line)).await;
    let second = bench.owe(1, dated).await;
    let third = bench.owe(2, of(line)).await;
    assert_eq!(bench.claimed(3).await, [first]);
    // The second is too late, and given up beside the first.
    assert_eq!(bench.claimed(9).await, [second]);
    bench.hold(second).await;
    assert!(!bench.record(second).await.held);
    // The first goes back, and is still the first.
    bench.journal.release(first, "me", None).await.unwrap();
    assert_eq!(bench.claimed(9).await, [first]);
    bench.hold(first).await;
    assert!(bench.record(first).await.held);
    // A replay of the second is behind all of them.
    let replay = bench.replay_of(second).await;
    assert!(bench.claim(9).await.is_empty());
    bench.journal.skip(first).await.unwrap();
    assert_eq!(bench.claimed(9).await, [third]);
    bench.finish(third, State::Succeeded).await;
    assert_eq!(bench.claimed(9).await, [replay]);
}

pub(crate) async fn what_is_given_up_behind_others_holds_none_of_them_up_whatever_ends_first(
    bench: Bench<'_>,
) {
    let line = Line {
        on_stuck: OnStuck::Hold,
        ..Line::default()
    };
    let dated = || Owed {
        deadline: Ok(Some(Deadline::After(Duration::from_secs(5)))),
        ..of(line)
    };
    let on_failure = || Next::OnFailure {
        failure: failure(),
        instance: "slack".into(),
    };
    let first = bench.owe(0, of(line)).await;
    let second = bench.owe(1, of(line)).await;
    let late = bench.owe(2, dated()).await;
    assert_eq!(bench.claimed(3).await, [first]);
    assert_eq!(bench.claimed(9).await, [late]);
    bench.finish(first, State::Succeeded).await;
    bench.hold(late).await;
    assert!(!bench.record(late).await.held);
    assert_eq!(bench.claimed(9).await, [second]);

    // Nor does it after a kill, which ends both their claims: both are due at once.
    let late = bench.owe(10, dated()).await;
    assert_eq!(bench.claimed(16).await, [late]);
    bench.attempt(late, 0, 1, Outcome::Fatal, on_failure()).await;
    let bench = bench.reopen();
    assert_eq!(bench.claimed(17).await, [second, late]);
}

pub(crate) async fn one_does_not_give_way_to_a_newer_one_that_is_given_up(bench: Bench<'_>) {
    let first = bench.owe(0, of(superseding())).await;
    bench.claim(0).await;
    let dated = Owed {
        deadline: Ok(Some(Deadline::After(Duration::from_secs(5)))),
        ..of(superseding())
    };
    let late = bench.owe(1, dated).await;
    assert_eq!(bench.claimed(9).await, [late]);
    let on_failure = Next::OnFailure {
        failure: failure(),
        instance: "slack".into(),
    };
    bench.attempt(late, 0, 1, Outcome::Fatal, on_failure).await;
    bench.attempt(first, 0, 1, Outcome::Retry, wait_until(60)).await;
    assert_eq!(bench.state(first).await, State::Waiting);
}

pub(crate) async fn the_replay_of_one_that_holds_its_line_up_takes_its_place(bench: Bench<'_>) {
    let first = bench.owe(0, of(Line::default())).await;
    let second = bench.owe(1, of(Line::default())).await;
    bench.claim(1).await;
    bench.hold(first).await;
    let replay = bench
        .journal
        .replay_delivery(first, ReplayKeys::Keep)
        .await
        .unwrap();
    assert!(!bench.record(first).await.held);
    assert_eq!(bench.claimed(2).await, [replay]);
    bench.hold(replay).await;
    assert!(bench.claim(2).await.is_empty());
    let replay = bench
        .journal
        .replay_delivery(replay, ReplayKeys::Keep)
        .await
        .unwrap();
    assert_eq!(bench.claimed(2).await, [replay]);
    bench.finish(replay, State::Succeeded).await;
    assert_eq!(bench.claimed(2).await, [second]);
}

pub(crate) async fn what_stands_behind_a_replay_in_place_is_not_freed_by_others(bench: Bench<'_>) {
    let first = bench.owe(0, of(superseding())).await;
    let plain = bench.owe(1, of(Line::default())).await;
    bench.claim(1).await;
    bench.hold(first).await;
    let replay = bench
        .journal
        .replay_delivery(first, ReplayKeys::Keep)
        .await
        .unwrap();
    assert_eq!(bench.claimed(2).await, [replay]);
    // Behind the running replay one is replaced by another, and what is older than both stays where it is.
    let second = bench.owe(3, of(superseding())).await;
    let third = bench.owe(4, of(superseding())).await;
    assert_eq!(bench.record(second).await.successor, Some(third));
    assert!(bench.claim(5).await.is_empty());
    bench.finish(replay, State::Succeeded).await;
    assert_eq!(bench.claimed(5).await, [plain]);
}

pub(crate) async fn without_an_order_key_nothing_is_held_up(bench: Bench<'_>) {
    let first = bench.owe(0, owed("a", "slack", None)).await;
    let second = bench.owe(1, owed("a", "slack", None)).await;
    assert_eq!(bench.claim_as("me", 1, 1, &[]).await[0].delivery, first);
    bench.hold(first).await;
    assert!(!bench.record(first).await.held);
    assert_eq!(bench.claimed(1).await, [second]);
}

/// It has succeeded.
fn settled() -> Next {
    Next::Settle {
        state: State::Succeeded,
        failure: None,
    }
}

fn ids(events: &[Bytes]) -> Vec<EventId> {
    let id = |event: &Bytes| {
        let event: serde_json::Value = serde_json::from_slice(event).unwrap();
        event["id"].as_str().unwrap().parse().unwrap()
    };
    events.iter().map(id).collect()
}
