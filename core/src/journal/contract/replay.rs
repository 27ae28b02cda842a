//! What a person asks for again.

use bytes::Bytes;
use jackfield_event::DeliveryId;

use super::{Bench, PAYLOAD, arrival, asked, at, end, failure, generation, next, owed, start};
use crate::{
    delivery::{Line, OnStuck, Outcome, Phase, State},
    journal::{
        Ask, Asked, Asker, DeliveryFilter, Ended, First, JournalError, Next, Order, Replay, ReplayKeys, Taken,
    },
    reason::Reason,
    router::{GenerationId, Owed, Routed},
};

impl Bench<'_> {
    /// A delivery of `owed` whose first step is done and whose second one failed.
    async fn dead_at_the_second_step(&self, seconds: i64, owed: Owed) -> DeliveryId {
        let delivery = self.owe(seconds, owed).await;
        assert_eq!(self.claimed(seconds).await, [delivery]);
        self.attempt(delivery, 0, 1, Outcome::Done, next()).await;
        let state = State::Dead;
        let failure = Some(failure());
        self.attempt(delivery, 1, 1, Outcome::Fatal, Next::Settle { state, failure })
            .await;
        delivery
    }

    async fn replay(&self, replay: Replay) -> Result<DeliveryId, JournalError> {
        self.journal.replay(vec![replay]).await.unwrap().remove(0)
    }
}

fn taken(step: usize) -> Taken {
    Taken {
        step,
        step_id: format!("step-{step}"),
        outcome: Outcome::Done,
        output: Some(Bytes::from(format!("{{\"of\":{step}}}"))),
        resolved: false,
    }
}

fn first(step: usize, instance: &str) -> First {
    First::Step {
        step,
        instance: instance.into(),
    }
}

pub(crate) async fn a_replay_from_a_step_takes_over_what_is_known_of_those_before(bench: Bench<'_>) {
    let parent = bench.dead_at_the_second_step(0, owed("a", "slack", None)).await;
    let replay = Replay {
        first: first(1, "git"),
        taken: vec![taken(0)],
        ..Replay::whole(parent, ReplayKeys::Keep)
    };
    let replay = bench.replay(replay).await.unwrap();
    let bench = bench.reopen();
    assert!(bench.claim_as("me", 0, 9, &["git"]).await.is_empty());
    let claim = bench.claim(0).await.remove(0);
    assert_eq!((claim.delivery, claim.step), (replay, 1));
    assert_eq!(claim.outputs["step-0"], "{\"of\":0}");
    assert!(claim.taken.is_empty() && claim.key_root == parent.to_string());
    let story = bench.journal.delivery(replay).await.unwrap().unwrap();
    let known = &story.attempts[0];
    assert_eq!(
        (known.attempt, known.outcome, known.reason),
        (None, Some(Outcome::Done), Some(Reason::TakenOver))
    );
}

pub(crate) async fn steps_that_are_known_are_told_behind_one_that_is_made(bench: Bench<'_>) {
    let parent = bench.dead_at_the_second_step(0, owed("a", "slack", None)).await;
    let replay = Replay {
        taken: vec![taken(1)],
        ..Replay::whole(parent, ReplayKeys::Keep)
    };
    let replay = bench.replay(replay).await.unwrap();
    let claim = bench.claim(0).await.remove(0);
    assert_eq!(
        (claim.step, claim.taken.into_values().collect()),
        (0, vec![taken(1)])
    );
    bench.attempt(replay, 0, 1, Outcome::Done, next()).await;
    let mut passed = end(replay, Phase::Steps, 1, None, Outcome::Done, next());
    passed.reason = Some(Reason::TakenOver);
    bench.journal.end(passed).await.unwrap();

    let bench = bench.reopen();
    let claim = bench.claim(0).await.remove(0);
    assert_eq!((claim.step, claim.taken.len(), claim.outputs.len()), (2, 0, 2));
}

pub(crate) async fn a_step_with_a_fresh_key_keeps_it_over_the_next_replay(bench: Bench<'_>) {
    let parent = bench.dead_at_the_second_step(0, owed("a", "slack", None)).await;
    let replay = Replay {
        fresh: Some("step-1".into()),
        ..Replay::whole(parent, ReplayKeys::Keep)
    };
    let fresh = bench.replay(replay).await.unwrap();
    let claim = bench.claim(0).await.remove(0);
    let roots = [("step-1".to_owned(), fresh.to_string())];
    assert_eq!(
        (claim.key_root, claim.key_roots),
        (parent.to_string(), roots.clone().into())
    );
    bench.finish(fresh, State::Dead).await;

    let kept = bench
        .replay(Replay::whole(fresh, ReplayKeys::Keep))
        .await
        .unwrap();
    let claim = bench.claim(0).await.remove(0);
    assert_eq!(
        (claim.delivery, claim.key_root, claim.key_roots),
        (kept, parent.to_string(), roots.into())
    );
    bench.finish(kept, State::Dead).await;

    let renewed = bench
        .replay(Replay::whole(kept, ReplayKeys::Renew))
        .await
        .unwrap();
    let claim = bench.claim(0).await.remove(0);
    assert_eq!((claim.key_root, claim.key_roots.len()), (renewed.to_string(), 0));
}

pub(crate) async fn a_replay_with_nothing_left_to_do_has_succeeded(bench: Bench<'_>) {
    let parent = bench
        .dead_at_the_second_step(0, owed("a", "slack", Some("7")))
        .await;
    let running = bench.owe(1, owed("a", "slack", Some("7"))).await;
    let replay = Replay {
        first: First::Nothing,
        taken: vec![
            taken(0),
            Taken {
                resolved: true,
                ..taken(1)
            },
        ],
        ..Replay::whole(parent, ReplayKeys::Keep)
    };
    let replay = bench.replay(replay).await.unwrap();
    assert_eq!(bench.state(replay).await, State::Succeeded);
    assert_eq!(bench.claimed(1).await, [running], "it is in nobody's way");
    let counts = bench.journal.counts().await.unwrap().deliveries;
    assert_eq!((counts["succeeded"], counts["pending"]), (1, 0));
    let story = bench.journal.delivery(replay).await.unwrap().unwrap();
    assert_eq!(story.attempts[1].reason, Some(Reason::Resolved));
}

pub(crate) async fn what_is_refused_of_many_replays_keeps_none_of_the_others(bench: Bench<'_>) {
    let first = bench.owe(0, owed("a", "slack", None)).await;
    let second = bench.owe(0, owed("a", "slack", None)).await;
    let unsettled = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    for delivery in [first, second] {
        bench.finish(delivery, State::Dead).await;
    }
    let unknown = DeliveryId::new(at(0), 0);
    let once = |delivery| Replay {
        once: true,
        ..Replay::whole(delivery, ReplayKeys::Keep)
    };
    let replays = [first, unknown, unsettled, first, second].map(once);
    let made = bench.journal.replay(replays.into()).await.unwrap();
    assert!(matches!(made[1], Err(JournalError::NotFound(_))), "{made:?}");
    assert!(matches!(made[2], Err(JournalError::Refused(_))), "{made:?}");
    let twice = made[3].as_ref().unwrap_err().to_string();
    let earlier = made[0].as_ref().unwrap();
    assert!(twice.contains(&earlier.to_string()), "{twice}");
    let made = [*earlier, *made[4].as_ref().unwrap()];
    assert_eq!(bench.claimed(0).await, made);
    assert_eq!(bench.record(first).await.replays, made[..1]);
}

pub(crate) async fn a_replay_under_other_rules_is_owed_by_those(bench: Bench<'_>) {
    let failed = Owed {
        order: Err("`project` is undefined".into()),
        ..owed("a", "slack", None)
    };
    let parent = bench.owe(0, failed).await;
    let today = GenerationId("today".into());
    let under = |generation: &GenerationId| Replay {
        under: Some((generation.clone(), owed("a", "git", Some("7")))),
        ..Replay::whole(parent, ReplayKeys::Keep)
    };
    let unknown = bench.replay(under(&today)).await;
    assert!(matches!(unknown, Err(JournalError::NotFound(_))), "{unknown:?}");
    assert!(bench.record(parent).await.replays.is_empty());
    bench.journal.store_rules(&today, "today's rules").await.unwrap();
    let replay = bench.replay(under(&today)).await.unwrap();
    let record = bench.record(replay).await;
    assert_eq!(
        (
            record.generation,
            record.order_key.as_deref(),
            record.instance.as_str()
        ),
        (today, Some("7"), "git")
    );
    assert_eq!(bench.record(parent).await.generation, generation());
}

pub(crate) async fn a_replay_of_one_that_holds_its_line_up_lets_go_of_it_under_other_rules(bench: Bench<'_>) {
    let line = Line {
        on_stuck: OnStuck::Hold,
        ..Line::default()
    };
    let of = |key| Owed {
        line,
        ..owed("a", "slack", Some(key))
    };
    let stuck = bench.owe(0, of("7")).await;
    let behind = bench.owe(1, of("7")).await;
    let other = bench.owe(2, of("8")).await;
    assert_eq!(bench.claimed(2).await, [stuck, other]);
    bench
        .attempt(stuck, 0, 1, Outcome::Fatal, Next::Hold { failure: failure() })
        .await;
    let replay = Replay {
        under: Some((generation(), of("8"))),
        ..Replay::whole(stuck, ReplayKeys::Keep)
    };
    let replay = bench.replay(replay).await.unwrap();
    assert_eq!(bench.claimed(2).await, [behind], "its line goes on");
    assert!(
        bench.record(replay).await.blocked,
        "it takes its turn in the other one"
    );
    bench.finish(other, State::Succeeded).await;
    assert_eq!(bench.claimed(2).await, [replay]);
}

pub(crate) async fn what_a_person_asked_for_is_kept_with_what_came_of_it(bench: Bench<'_>) {
    let parent = bench.dead_at_the_second_step(0, owed("a", "slack", None)).await;
    let asked_for = Asked {
        what: Ask::ResolveRepeat,
        from: Some("step-1".into()),
        keys: ReplayKeys::Keep,
        asker: Asker {
            by: Some("alice".into()),
            note: Some("it is not in the channel".into()),
        },
    };
    let replay = Replay {
        asked: asked_for.clone(),
        ..Replay::whole(parent, ReplayKeys::Keep)
    };
    let replay = bench.replay(replay).await.unwrap();
    let committed = bench.append(arrival(0, None, vec![])).await;
    let event = arrival(0, None, vec![]).routed.event().clone();
    let routed = Routed::for_test(
        event,
        PAYLOAD.into(),
        None,
        generation(),
        vec![owed("a", "slack", None)],
    );
    let made = bench
        .journal
        .replay_event(committed.event(), routed, asked())
        .await
        .unwrap();
    let bench = bench.reopen();
    assert_eq!(bench.record(replay).await.asked, Some(asked_for));
    assert_eq!(bench.record(made[0]).await.asked, Some(asked()));
    assert_eq!(bench.record(parent).await.asked, None);
}

pub(crate) async fn which_steps_left_files_is_known(bench: Bench<'_>) {
    let delivery = bench.owe(0, owed("a", "slack", None)).await;
    bench.claim(0).await;
    // As the work directory looks behind each of them.
    let traces = [None, Some(7), Some(7), Some(-8), None];
    for (step, trace) in traces.into_iter().enumerate() {
        bench
            .journal
            .begin(start(delivery, Phase::Steps, step, 1))
            .await
            .unwrap();
        let mut ended = end(delivery, Phase::Steps, step, Some(1), Outcome::Done, next());
        ended.trace = trace;
        assert_eq!(bench.journal.end(ended).await.unwrap(), Ended::AsSaid);
    }
    let story = bench.journal.delivery(delivery).await.unwrap().unwrap();
    let files: Vec<_> = story.attempts.iter().map(|attempt| attempt.files).collect();
    assert_eq!(files, [false, true, false, true, true]);
}

pub(crate) async fn deliveries_are_chosen_and_counted_by_what_they_have_in_common(bench: Bench<'_>) {
    let mut dead = Vec::new();
    for (second, route) in (0..).zip(["a", "b", "a"]) {
        dead.push(
            bench
                .dead_at_the_second_step(second, owed(route, "slack", None))
                .await,
        );
    }
    bench.owe(3, owed("a", "slack", None)).await;
    let replayed = bench
        .replay(Replay::whole(dead[0], ReplayKeys::Keep))
        .await
        .unwrap();
    let of_the_dead = || DeliveryFilter {
        states: vec![State::Dead],
        order: Order::Oldest,
        ..DeliveryFilter::default()
    };
    let check = async |expected: &[DeliveryId], filter: DeliveryFilter| {
        let found = bench.journal.deliveries(filter.clone()).await.unwrap();
        let found: Vec<_> = found.iter().map(|record| record.id).collect();
        assert_eq!(found, expected, "{filter:?}");
        let count = bench.journal.delivery_count(filter).await.unwrap();
        assert_eq!(count, u64::try_from(expected.len()).unwrap());
    };
    check(&dead, of_the_dead()).await;
    let unreplayed = true;
    check(
        &dead[1..],
        DeliveryFilter {
            unreplayed,
            ..of_the_dead()
        },
    )
    .await;
    let after = Some(dead[1]);
    check(
        &dead[2..],
        DeliveryFilter {
            after,
            ..of_the_dead()
        },
    )
    .await;
    let until = Some(at(1));
    check(
        &dead[..1],
        DeliveryFilter {
            until,
            ..of_the_dead()
        },
    )
    .await;
    let since = Some(at(1));
    check(
        &dead[1..],
        DeliveryFilter {
            since,
            ..of_the_dead()
        },
    )
    .await;
    for (reason, expected) in [(Reason::PluginFatal, &dead[..]), (Reason::TimedOut, &[])] {
        let reason = Some(reason);
        check(
            expected,
            DeliveryFilter {
                reason,
                ..of_the_dead()
            },
        )
        .await;
    }
    for (source, expected) in [("screens", &dead[..]), ("other", &[])] {
        let source = Some(source.to_owned());
        check(
            expected,
            DeliveryFilter {
                source,
                ..of_the_dead()
            },
        )
        .await;
    }
    let kinds = ["io.zeplin.project.screen.created", "io.zeplin.project.screen"];
    for (kind, expected) in kinds.into_iter().zip([&dead[..], &[]]) {
        let kind = Some(kind.to_owned());
        check(
            expected,
            DeliveryFilter {
                kind,
                ..of_the_dead()
            },
        )
        .await;
    }
    let route = Some("a".to_owned());
    let both = DeliveryFilter {
        route,
        unreplayed,
        ..of_the_dead()
    };
    check(&dead[2..], both).await;
    assert_eq!(bench.record(replayed).await.parent, Some(dead[0]));
}
