//! Stops, kills, jumps of the clock and dying processes: what goes on, and what is given up.

use super::*;
use crate::dispatcher::AtWork;

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_call_end_and_the_next_run_goes_on_at_the_next_step() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stop = CancellationToken::new();
    let direct = async {
        a.is_called(1).await;
        stop.cancel();
        // So that the dispatcher has heard of it before the call ends.
        tokio::task::yield_now().await;
        a.lets.add_permits(1);
    };
    tokio::join!(stage.dispatcher().run(stop.clone()), direct);
    assert_eq!((a.inputs().len(), b.inputs().len()), (1, 0));
    let stage = stage.die_and_rise().await;
    assert_eq!(states(&stage.settle().await), [State::Succeeded]);
    assert_eq!(
        (a.inputs().len(), b.inputs().len()),
        (1, 1),
        "the first step is not repeated"
    );
}

#[tokio::test]
async fn rules_that_are_not_at_hand_come_out_of_the_journal() {
    let a = Played::new(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, a), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let forgotten = dispatcher.shared.generations.retain(&[]);
    assert_eq!(forgotten[0].id(), stage.rules.id());
    let direct = async {
        b.is_called(1).await;
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(states(&stage.stories().await), [State::Succeeded]);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_takes_no_delivery_from_under_its_call() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 2, Arc::clone(&a)), ("b", 2, Arc::clone(&b))]);
    stage.accept("p").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        a.is_called(1).await;
        stage.clock.1.store(3600, Relaxed);
        stage.accept("q").await;
        a.is_called(2).await;
        a.lets.add_permits(2);
        b.is_called(2).await;
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(states(&stage.stories().await), [State::Succeeded; 2]);
    assert_eq!(a.inputs().len(), 2, "no call is made twice");
}

#[tokio::test(start_paused = true)]
async fn what_backs_off_does_so_for_as_long_as_it_should_though_the_clock_is_set() {
    for (before, after) in [(0, 3_600), (7_200, 0)] {
        let a = Played::new(|call| match call.attempt {
            1 => Report {
                retry_after: Some(Duration::from_secs(300)),
                ..failed(Outcome::Retry, "in five minutes")
            },
            _ => done(&json!({ "value": 1 })),
        });
        let b = Played::new(|_| report(Outcome::Done));
        let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
        stage.clock.1.store(before, Relaxed);
        stage.accept("p").await;
        let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
        let direct = async {
            a.is_called(1).await;
            let began = tokio::time::Instant::now();
            stage.until(|stories| states(stories) == [State::Waiting]).await;
            stage.clock.1.store(after, Relaxed);
            a.is_called(2).await;
            stop.cancel();
            began.elapsed()
        };
        let ((), rested) = tokio::join!(dispatcher.run(stop.clone()), direct);
        let asked = Duration::from_secs(290)..Duration::from_secs(400);
        assert!(asked.contains(&rested), "{before} {after}: {rested:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_end_of_the_router_interrupts_is_no_failed_attempt() {
    let a = Arc::new(Played {
        calls: Mutex::default(),
        answer: Box::new(|call| match call.attempt {
            1 => Report {
                reason: Some(Reason::Interrupted),
                ..failed(Outcome::Retry, "the call was asked to stop")
            },
            _ => done(&json!({ "value": 1 })),
        }),
        lets: Semaphore::new(0),
    });
    let b = Played::new(|_| report(Outcome::Done));
    let rules = TWO_STEPS.replace("use = \"a\"", "use = \"a\"\nretry = { attempts = 1 }");
    let mut stage = Stage::set(&rules, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let cancelled = dispatcher.shared.cancel.clone();
    let direct = async {
        a.is_called(1).await;
        stop.cancel();
        cancelled.cancelled().await;
        a.lets.add_permits(2);
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(
        states(&stage.die_and_rise().await.settle().await),
        [State::Succeeded]
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_even_heed_its_cancellation_is_left_within_the_grace() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let (grace, cancelled) = (dispatcher.shared.options.grace, dispatcher.shared.cancel.clone());
    let direct = async {
        a.is_called(1).await;
        stop.cancel();
        tokio::time::Instant::now()
    };
    let ((), stopped) = tokio::join!(dispatcher.run(stop.clone()), direct);
    assert!(cancelled.is_cancelled());
    // The clock is paused; it ticks by milliseconds.
    assert_eq!(stopped.elapsed().as_secs(), grace.as_secs());
}

#[tokio::test]
async fn without_its_journal_a_dispatcher_ends() {
    let stage = Stage::set(TWO_STEPS, []);
    let dispatcher = stage.dispatcher();
    stage.journal.close().await.unwrap();
    dispatcher.run(CancellationToken::new()).await;
    assert!(stage.journal.sync().await.is_err());
}

#[tokio::test]
async fn who_stands_in_line_at_a_stop_is_not_called_any_more() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    stage.accept("q").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let stopping = dispatcher.shared.stopping.clone();
    let direct = async {
        a.is_called(1).await;
        stop.cancel();
        stopping.cancelled().await;
        a.lets.add_permits(2);
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(a.inputs().len(), 1);
    assert_eq!(states(&stage.stories().await), [State::Pending; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_dead_process_left_behind_is_made_again_under_the_same_key() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    tokio::select! {
        () = stage.dispatcher().run(CancellationToken::new()) => panic!("it was not told to stop"),
        () = a.is_called(1) => {}
    }
    let stage = stage.die_and_rise().await;
    a.lets.add_permits(2);
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!(stories[0].attempts[0].reason, Some(Reason::Interrupted));
    let calls = a.calls.lock().unwrap();
    assert_eq!(calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(calls[0].idempotency_key, calls[1].idempotency_key);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_the_process_every_time_is_given_up() {
    let rules = r#"
[[route]]
name = "r"
when.type = ["x"]
[[route.step]]
use = "a"
retry = { attempts = 1 }
"#;
    let a = Played::held(|_| report(Outcome::Done));
    let mut stage = Stage::set(rules, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    for times in 1..=4 {
        tokio::select! {
            () = stage.dispatcher().run(CancellationToken::new()) => panic!("it was not told to stop"),
            () = a.is_called(times) => {}
        }
        stage = stage.die_and_rise().await;
    }
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    assert_eq!(
        stories[0].record.failure.as_ref().unwrap().reason,
        Reason::AttemptsExhausted
    );
    assert_eq!(
        a.inputs().len(),
        4,
        "one attempt, and three more for what may not have been its doing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_in_its_process_at_two_deaths_is_not_made_again_whatever_came_between() {
    let a = Played::new(|call| match call.attempt {
        2 => failed(Outcome::Retry, "not yet"),
        _ => Report {
            reason: Some(Reason::PluginCrashed),
            ..failed(Outcome::Retry, "the plugin's process died")
        },
    });
    let text = TWO_STEPS.replace(
        "use = \"a\"",
        "use = \"a\"\nretry = { first = \"1m\", backoff = \"fixed\" }",
    );
    let mut stage = Stage::set(
        &text,
        [
            ("a", 1, Arc::clone(&a)),
            ("b", 1, Played::new(|_| report(Outcome::Done))),
        ],
    );
    stage.accept("p").await;
    stage
        .until(|stories| stories[0].record.attempts == 2 && stories[0].record.state == State::Waiting)
        .await;
    // What is known of it is known after a restart as well.
    let stage = stage.die_and_rise().await;
    let stories = stage.settle().await;
    let outcomes: Vec<_> = stories[0].attempts.iter().map(|attempt| attempt.reason).collect();
    assert_eq!(
        outcomes,
        [Reason::PluginCrashed, Reason::PluginRetry, Reason::Quarantined].map(Some)
    );
    let failure = stories[0].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::Quarantined);
    insta::assert_snapshot!(failure.error, @"the plugin's process died; it is the second time with this call in it");
}

#[tokio::test(start_paused = true)]
async fn a_step_answers_for_no_other_that_crashed() {
    let crash = || Report {
        reason: Some(Reason::PluginCrashed),
        ..failed(Outcome::Retry, "the plugin's process died")
    };
    let once = move |call: &StepCall| match call.attempt {
        1 => crash(),
        _ => done(&json!({ "value": 1 })),
    };
    let (a, b) = (Played::new(once), Played::new(once));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!((a.inputs().len(), b.inputs().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_claimed_anew_while_its_course_tidies_up_goes_on_when_that_has_ended() {
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, a)]);
    stage.accept("p").await;
    let dispatcher = stage.dispatcher();
    let shared = &dispatcher.shared;
    let claim = async || shared.claim().await.unwrap().remove(0);
    let first = claim().await;
    let delivery = first.delivery;
    let (_, cancel) = shared.running().take_up(first, &shared.cancel).unwrap();
    let course = AtWork(Arc::clone(shared), delivery);
    // It has given the delivery back, and is still there when that is claimed again, and canceled.
    shared
        .journal
        .release(delivery, &shared.owner, None)
        .await
        .unwrap();
    let again = claim().await;
    assert!(shared.running().take_up(again, &shared.cancel).is_none());
    dispatcher.handle().cancel(delivery);
    assert!(cancel.is_cancelled());
    drop(course);
    let kept = claim().await;
    assert_eq!(kept.delivery, delivery);
    let (_, cancel) = shared.running().take_up(kept, &shared.cancel).unwrap();
    assert!(
        cancel.is_cancelled(),
        "a person does not want it, whichever course it is"
    );
}
