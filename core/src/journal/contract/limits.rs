//! Bounds on attempts.

use std::time::Duration;

use jackfield_event::DeliveryId;

use super::{Bench, at, owed, start};
use crate::{
    clock::Jump,
    delivery::{Line, Outcome, Phase, State},
    journal::{Begun, Bound, Claim, Next, Rest},
    rate::Rate,
    reason::Reason,
    router::Owed,
};

fn bound(bucket: &str, rate: &str) -> Bound {
    Bound {
        bucket: bucket.into(),
        rate: Some(Rate::parse(rate).unwrap()),
        full: false,
    }
}

fn full(bucket: &str, full: bool) -> Bound {
    Bound {
        bucket: bucket.into(),
        rate: None,
        full,
    }
}

impl Bench<'_> {
    /// Tries to begin the next attempt of a claimed delivery, `seconds` into the test.
    async fn begin(&self, claim: &Claim, seconds: i64, bounds: &[Bound]) -> Begun {
        let mut start = start(claim.delivery, Phase::Steps, claim.step, claim.attempts + 1);
        start.started = at(seconds);
        start.bounds = bounds.to_vec();
        self.journal.begin(start).await.unwrap()
    }

    /// Claims what is due and tries to begin it, in that order; what began is done. Who did.
    async fn go_on(&self, seconds: i64, bounds: &[Bound]) -> Vec<DeliveryId> {
        let mut begun = Vec::new();
        for claim in self.claim(seconds).await {
            if self.begin(&claim, seconds, bounds).await == Begun::Now {
                self.end(&claim).await;
                begun.push(claim.delivery);
            }
        }
        begun
    }

    /// Ends the attempt of a delivery, which is done.
    async fn end(&self, claim: &Claim) {
        let settle = Next::Settle {
            state: State::Succeeded,
            failure: None,
        };
        let attempt = Some(claim.attempts + 1);
        let end = super::end(claim.delivery, Phase::Steps, 0, attempt, Outcome::Done, settle);
        self.journal.end(end).await.unwrap();
    }

    async fn owe_many(&self, count: usize) -> Vec<DeliveryId> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.owe(0, owed("a", "slack", None)).await);
        }
        all
    }

    async fn due(&self, delivery: DeliveryId) -> i64 {
        let record = self.journal.delivery(delivery).await.unwrap().unwrap().record;
        record.due.map_or(-1, |due| due.as_secs() - at(0).as_secs())
    }
}

pub(crate) async fn attempts_begin_as_fast_as_their_bucket_allows_in_order_of_arrival(bench: Bench<'_>) {
    let all = bench.owe_many(3).await;
    let bounds = [bound("slack", "1/10s")];
    let claims = bench.claim(100).await;
    assert_eq!(bench.begin(&claims[0], 100, &bounds).await, Begun::Now);
    bench.end(&claims[0]).await;
    let later = |seconds| Begun::Later {
        due: at(seconds),
        reason: Reason::RateLimited,
    };
    assert_eq!(bench.begin(&claims[1], 100, &bounds).await, later(110));
    assert_eq!(bench.begin(&claims[2], 100, &bounds).await, later(120));

    let record = bench.journal.delivery(all[1]).await.unwrap().unwrap().record;
    assert_eq!(
        (record.state, record.attempts, record.detail.as_deref()),
        (State::Waiting, 0, Some("`slack` takes 1 call in 10s"))
    );
    assert_eq!(
        bench.journal.next_due(at(100)).await.unwrap(),
        Some(at(110)),
        "the dispatcher wakes for it"
    );
    // One that comes later does not pass those that wait, even where the bucket is open.
    let newest = bench.owe(111, owed("a", "slack", None)).await;
    let claims = bench.claim(111).await;
    let newest_claim = claims.iter().find(|claim| claim.delivery == newest).unwrap();
    assert_eq!(bench.begin(newest_claim, 111, &bounds).await, later(130));
    let claim = claims.iter().find(|claim| claim.delivery == all[1]).unwrap();
    assert_eq!(bench.begin(claim, 111, &bounds).await, Begun::Now);
    bench.end(claim).await;
    assert_eq!(bench.go_on(121, &bounds).await, [all[2]]);
    assert_eq!(bench.go_on(131, &bounds).await, [newest]);
}

pub(crate) async fn a_thousand_that_wait_come_one_by_one(bench: Bench<'_>) {
    let all = bench.owe_many(1_000).await;
    let bounds = [bound("slack", "1/s")];
    let (mut begun, mut claimed) = (Vec::new(), 0);
    for _ in 0..10 {
        let claims = bench.claim(1).await;
        claimed += claims.len();
        for claim in claims {
            if bench.begin(&claim, 1, &bounds).await == Begun::Now {
                begun.push(claim.delivery);
            }
        }
    }
    assert_eq!((begun.len(), claimed), (1, 1_000), "each is claimed once");
    for seconds in 2..=6 {
        let claims = bench.claim(seconds).await;
        assert_eq!(claims.len(), 1, "only the one whose turn it is");
        assert_eq!(bench.begin(&claims[0], seconds, &bounds).await, Begun::Now);
        begun.push(claims[0].delivery);
    }
    assert_eq!(begun, all[..6]);
    assert_eq!(bench.due(all[999]).await, 1_000);
}

pub(crate) async fn no_restart_lets_more_begin(bench: Bench<'_>) {
    let all = bench.owe_many(5).await;
    let bounds = [bound("slack", "1/10s")];
    assert_eq!(bench.go_on(100, &bounds).await, [all[0]]);
    let bench = bench.reopen();
    assert_eq!(bench.go_on(101, &bounds).await, []);
    assert_eq!(bench.go_on(110, &bounds).await, [all[1]]);
    // The router is away for longer than all of them wait: they are late, and come no faster for it.
    let bench = bench.reopen();
    let newest = bench.owe(1_000, owed("a", "slack", None)).await;
    let mut begun = Vec::new();
    for seconds in 1_000..1_040 {
        for delivery in bench.go_on(seconds, &bounds).await {
            begun.push((delivery, seconds));
        }
    }
    assert_eq!(
        begun,
        [(all[2], 1_000), (all[3], 1_010), (all[4], 1_020), (newest, 1_030)]
    );
}

pub(crate) async fn a_burst_begins_at_once_and_no_more(bench: Bench<'_>) {
    bench.owe_many(6).await;
    let mut bound = bound("slack", "1/10s");
    bound.rate = bound.rate.map(|rate| rate.with_burst(3.try_into().unwrap()));
    let bounds = [bound];
    assert_eq!(bench.go_on(100, &bounds).await.len(), 3);
    let bench = bench.reopen();
    assert_eq!(bench.go_on(101, &bounds).await.len(), 0);
    assert_eq!(bench.go_on(110, &bounds).await.len(), 1);
    assert_eq!(bench.go_on(130, &bounds).await.len(), 2);
}

pub(crate) async fn who_waits_at_one_bucket_keeps_nobody_from_another(bench: Bench<'_>) {
    let all = bench.owe_many(4).await;
    let general = [bound("slack/1 #general", "1/10s")];
    for claim in bench.claim(100).await {
        let _ = bench.begin(&claim, 100, &general).await;
    }
    assert_eq!(bench.due(all[3]).await, 130);
    let other = bench.owe(100, owed("a", "slack", None)).await;
    assert_eq!(
        bench.go_on(100, &[bound("slack/1 #design", "1/10s")]).await,
        [other]
    );
}

pub(crate) async fn who_waits_too_long_for_one_that_is_gone_comes_by_itself(bench: Bench<'_>) {
    let all = bench.owe_many(3).await;
    let bounds = [bound("slack", "1/10s")];
    assert_eq!(bench.go_on(100, &bounds).await, [all[0]]);
    // The one whose turn it is next leaves without a word, for another reason.
    let claim = bench.claim(110).await.remove(0);
    assert_eq!(claim.delivery, all[1]);
    let missing = Some((at(9_000), Reason::InstanceMissing, "no slack".to_owned()));
    bench.journal.release(all[1], "me", missing).await.unwrap();
    assert_eq!(bench.go_on(119, &bounds).await, []);
    assert_eq!(bench.go_on(120, &bounds).await, [all[2]]);
}

pub(crate) async fn one_that_must_go_through_two_waits_for_the_later(bench: Bench<'_>) {
    let all = bench.owe_many(2).await;
    let both = |key: &str| [bound("slack", "1/10s"), bound(key, "1/60s")];
    assert_eq!(bench.go_on(100, &both("slack/1 #a")).await, [all[0]]);
    assert_eq!(bench.due(all[1]).await, 160);
    // It takes nothing of the other meanwhile.
    let other = bench.owe(110, owed("a", "slack", None)).await;
    assert_eq!(bench.go_on(110, &both("slack/1 #b")).await, [other]);
    let third = bench.owe(155, owed("a", "slack", None)).await;
    assert_eq!(bench.go_on(155, &both("slack/1 #c")).await, [third]);
    // Now the other is closed: it waits there, ahead of those that came after it.
    let newest = bench.owe(160, owed("a", "slack", None)).await;
    let claims = bench.claim(160).await;
    let later = Begun::Later {
        due: at(165),
        reason: Reason::RateLimited,
    };
    assert_eq!(bench.begin(&claims[0], 160, &both("slack/1 #a")).await, later);
    assert_eq!(claims[1].delivery, newest);
    assert_ne!(
        bench.begin(&claims[1], 160, &both("slack/1 #d")).await,
        Begun::Now
    );
    assert_eq!(bench.go_on(165, &both("slack/1 #a")).await, [all[1]]);
}

pub(crate) async fn what_is_full_is_handed_on_to_the_oldest(bench: Bench<'_>) {
    let all = bench.owe_many(3).await;
    for claim in bench.claim(100).await {
        let begun = bench
            .begin(&claim, 100, &[full("slack/1 #a", claim.delivery != all[0])])
            .await;
        assert_eq!(begun == Begun::Now, claim.delivery == all[0]);
    }
    let record = bench.journal.delivery(all[2]).await.unwrap().unwrap().record;
    assert_eq!(record.reason, Some(Reason::KeyBusy));
    assert_eq!(bench.claimed(101).await, []);
    bench.set_clock(101);
    bench.journal.hand_on(full("slack/1 #a", false)).await.unwrap();
    let newest = bench.owe(101, owed("a", "slack", None)).await;
    let claims = bench.claim(101).await;
    let found: Vec<_> = claims.iter().map(|claim| claim.delivery).collect();
    assert_eq!(found, [all[1], newest]);
    // The newest finds room, and lets the others pass.
    let room = [full("slack/1 #a", false)];
    assert_ne!(bench.begin(&claims[1], 101, &room).await, Begun::Now);
    assert_eq!(bench.begin(&claims[0], 101, &room).await, Begun::Now);
    // Where nobody hands it on any more, they look by themselves.
    let bench = bench.reopen();
    assert_eq!(bench.claimed(200).await.len(), 4);
}

pub(crate) async fn what_has_room_again_comes_no_sooner_than_its_rate_allows(bench: Bench<'_>) {
    let all = bench.owe_many(3).await;
    let bounds = [bound("slack/1 #a", "1/60s")];
    assert_eq!(bench.go_on(100, &bounds).await, [all[0]]);
    bench.set_clock(101);
    bench.journal.hand_on(bounds[0].clone()).await.unwrap();
    assert_eq!([bench.due(all[1]).await, bench.due(all[2]).await], [160, 220]);
    // Whoever waits for room and not for the rate is let in by it as well.
    let full = |seconds| {
        let bound = Bound {
            full: true,
            ..bounds[0].clone()
        };
        let bench = &bench;
        async move {
            let claim = bench.claim(seconds).await.remove(0);
            bench.begin(&claim, seconds, &[bound]).await
        }
    };
    assert!(matches!(full(160).await, Begun::Later { .. }));
    assert!(bench.due(all[1]).await > 161);
    bench.set_clock(161);
    bench.journal.hand_on(bounds[0].clone()).await.unwrap();
    assert_eq!(bench.go_on(161, &bounds).await, [all[1]]);
}

pub(crate) async fn the_end_of_a_rest_ends_no_pause_that_was_asked_for(bench: Bench<'_>) {
    let slack = bench.owe(0, owed("a", "slack", None)).await;
    bench.set_clock(1);
    let pause = Rest {
        until: at(600),
        reason: Reason::RateLimited,
        detail: "a pause was asked for".into(),
    };
    bench.journal.rest("slack", Some(pause.clone())).await.unwrap();
    bench.journal.rest("slack", None).await.unwrap();
    assert_eq!(bench.journal.rests().await.unwrap()["slack"], pause);
    assert_eq!(bench.claimed(599).await, []);
    assert_eq!(bench.claimed(600).await, [slack]);
}

pub(crate) async fn while_an_instance_rests_nothing_of_it_is_claimed(bench: Bench<'_>) {
    let slack = bench.owe(0, owed("a", "slack", None)).await;
    let git = bench.owe(0, owed("a", "git", None)).await;
    bench.set_clock(1);
    let rest = |until| Rest {
        until: at(until),
        reason: Reason::InstanceResting,
        detail: "three deliveries in turn failed".into(),
    };
    bench.journal.rest("slack", Some(rest(60))).await.unwrap();
    bench.journal.rest("slack", Some(rest(30))).await.unwrap();
    let bench = bench.reopen();
    assert_eq!(bench.claimed(1).await, [git]);
    assert_eq!(
        bench.journal.rests().await.unwrap()["slack"],
        rest(60),
        "the longer holds"
    );
    let record = bench.journal.delivery(slack).await.unwrap().unwrap().record;
    assert_eq!(
        (record.state, record.due, record.reason),
        (State::Pending, Some(at(60)), Some(Reason::InstanceResting)),
        "it says why it is not claimed"
    );
    bench.finish(git, State::Succeeded).await;
    assert_eq!(bench.journal.next_due(at(1)).await.unwrap(), Some(at(60)));
    assert_eq!(bench.claimed(59).await, []);
    let mut changes = bench.journal.changes();
    changes.mark_unchanged();
    bench.journal.rest("slack", None).await.unwrap();
    changes.changed().await.unwrap();
    assert_eq!(bench.claimed(2).await, [slack]);
    assert!(bench.journal.rests().await.unwrap().is_empty());
}

pub(crate) async fn a_clock_that_jumps_neither_lets_all_begin_nor_none(bench: Bench<'_>) {
    let all = bench.owe_many(6).await;
    let bounds = [bound("slack", "1/10s")];
    assert_eq!(bench.go_on(10_000, &bounds).await, [all[0]]);
    // Forward by a day: all are due, and one begins.
    assert_eq!(bench.go_on(100_000, &bounds).await, [all[1]]);
    assert_eq!(bench.go_on(100_001, &bounds).await, []);
    assert_eq!(bench.go_on(100_010, &bounds).await, [all[2]]);
    // Back, far, while no dispatcher looked: who comes now hands the bucket on to those that were told a time that is far away.
    let newest = bench.owe(0, owed("a", "slack", None)).await;
    let mut begun = Vec::new();
    for seconds in 0..60 {
        begun.extend(bench.go_on(seconds, &bounds).await);
    }
    assert_eq!(begun, [all[3], all[4], all[5], newest]);
}

pub(crate) async fn buckets_follow_a_clock_that_is_set(bench: Bench<'_>) {
    let all = bench.owe_many(3).await;
    let bounds = [bound("slack", "1/10s")];
    assert_eq!(bench.go_on(10_000, &bounds).await, [all[0]]);
    let rest = Rest {
        until: at(10_060),
        reason: Reason::InstanceResting,
        detail: String::new(),
    };
    bench.set_clock(10_000);
    bench.journal.rest("slack", Some(rest)).await.unwrap();
    let back = Jump::Back(Duration::from_secs(9_900));
    bench
        .journal
        .clock_was_set(back, at(100)..=at(100))
        .await
        .unwrap();
    bench.set_clock(100);
    assert_eq!(bench.journal.rests().await.unwrap()["slack"].until, at(160));
    bench.journal.rest("slack", None).await.unwrap();
    assert_eq!(bench.go_on(109, &bounds).await, []);
    assert_eq!(bench.go_on(110, &bounds).await, [all[1]]);
    assert_eq!(bench.go_on(120, &bounds).await, [all[2]]);
}

pub(crate) async fn the_deliveries_of_one_order_key_stay_in_order_at_a_bucket(bench: Bench<'_>) {
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(bench.owe(0, owed("a", "slack", Some("7"))).await);
    }
    let other = bench.owe(0, owed("a", "slack", None)).await;
    let bounds = [bound("slack", "1/10s")];
    let mut begun = Vec::new();
    for seconds in 0..60 {
        begun.extend(bench.go_on(seconds, &bounds).await);
    }
    // One that stood behind another is older than what waits at the bucket meanwhile, and comes first.
    assert_eq!(begun, [all[0], all[1], all[2], other]);
}

pub(crate) async fn buckets_that_say_nothing_any_more_are_forgotten(bench: Bench<'_>) {
    // Far more keys than there are rows left of them.
    for number in 0..100 {
        bench.owe(number * 60, owed("a", "slack", None)).await;
        let bounds = [bound(&format!("slack/1 {number}"), "1/10s")];
        assert_eq!(bench.go_on(number * 60, &bounds).await.len(), 1);
        bench.set_clock(number * 60);
        let rest = Rest {
            until: at(number * 60 + 1),
            reason: Reason::RateLimited,
            detail: String::new(),
        };
        bench
            .journal
            .rest(&format!("slack/1 {number}"), Some(rest))
            .await
            .unwrap();
    }
    bench.set_clock(0);
    assert_eq!(bench.journal.rests().await.unwrap().len(), 1);
}

pub(crate) async fn who_is_put_off_yields_to_a_newer_one_and_takes_no_place(bench: Bench<'_>) {
    let line = Line {
        supersede: true,
        ..Line::default()
    };
    let newest = || Owed {
        line,
        ..owed("n", "slack", Some("7"))
    };
    let bounds = [bound("slack", "1/10s")];
    let plain = bench.owe(0, owed("a", "slack", None)).await;
    let first = bench.owe(0, newest()).await;
    let claims = bench.claim(100).await;
    assert_eq!(bench.begin(&claims[0], 100, &bounds).await, Begun::Now);
    let second = bench.owe(101, newest()).await;
    assert_eq!(
        bench.begin(&claims[1], 101, &bounds).await,
        Begun::Settled(State::Superseded)
    );
    let record = bench.journal.delivery(first).await.unwrap().unwrap().record;
    assert_eq!(
        (record.state, record.successor),
        (State::Superseded, Some(second))
    );
    assert_eq!(bench.state(plain).await, State::Running);
    // The next one waits as if it had been the first to.
    let claim = &bench.claim(101).await[0];
    assert_eq!(claim.delivery, second);
    assert!(matches!(
        bench.begin(claim, 101, &bounds).await,
        Begun::Later { .. }
    ));
    assert_eq!(bench.due(second).await, 110);
}
