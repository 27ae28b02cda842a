//! What a person asks for: that a delivery is done again, from some step on, or not at all.

use super::*;
use crate::journal::{Asker, Canceled, First, Replay, ReplayKeys, Taken};

const THREE_STEPS: &str = r#"
[[route]]
name = "r"
order_by = "{{ event.data.project.id }}"
when.type = ["x"]
[[route.step]]
id = "fetch"
use = "a"
[[route.step]]
id = "size"
use = "b"
[[route.step]]
id = "commit"
use = "c"
with = { size = "{{ steps.size.value }}" }
retry = { attempts = 2, first = "1s" }
[[route.on_failure]]
use = "d"
"#;

fn stop(call: &StepCall) -> Report {
    assert!(call.cancelled.is_cancelled());
    Report {
        reason: Some(Reason::Interrupted),
        ..failed(Outcome::Retry, "the call was asked to stop")
    }
}

fn leave(call: &StepCall, name: &str) {
    std::fs::create_dir_all(&call.workdir).unwrap();
    std::fs::write(call.workdir.join(name), "file").unwrap();
}

fn keys(played: &Played) -> Vec<String> {
    let calls = played.calls.lock().unwrap();
    calls.iter().map(|call| call.idempotency_key.clone()).collect()
}

fn files(story: &DeliveryStory) -> Vec<bool> {
    story.attempts.iter().map(|attempt| attempt.files).collect()
}

#[tokio::test(start_paused = true)]
async fn which_step_left_files_is_known_also_where_an_earlier_attempt_left_them() {
    let a = Played::new(|call| match call.attempt {
        1 => {
            leave(call, "tokens.json");
            failed(Outcome::Retry, "not yet")
        }
        _ => report(Outcome::Done),
    });
    let b = Played::new(|_| done(&json!({ "value": 4 })));
    let c = Played::new(|call| {
        leave(call, "more.json");
        report(Outcome::Done)
    });
    let mut stage = Stage::set(THREE_STEPS, [("a", 1, a), ("b", 1, b), ("c", 1, c)]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!(files(&stories[0]), [false, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_makes_what_is_to_be_made_and_knows_the_rest() {
    let a = Played::new(|call| {
        leave(call, "tokens.json");
        done(&json!({ "value": 1 }))
    });
    let b = Played::new(|_| done(&json!({ "value": 4 })));
    let c = Played::new(|call| match call.workdir.join("tokens.json").exists() {
        true if call.idempotency_key.starts_with("dlv_") => report(Outcome::Done),
        _ => failed(Outcome::Fatal, "there are no tokens"),
    });
    let plugins = [
        ("a", 1, Arc::clone(&a)),
        ("b", 1, Arc::clone(&b)),
        ("c", 1, Arc::clone(&c)),
    ];
    let mut stage = Stage::set(THREE_STEPS, plugins);
    stage.accept("p").await;
    let parent = stage.settle().await[0].record.id;

    let replay = Replay {
        first: First::Beginning,
        taken: vec![Taken {
            step: 1,
            step_id: "size".into(),
            outcome: Outcome::Done,
            output: Some("{\"value\":4}".into()),
            resolved: false,
        }],
        fresh: Some("commit".into()),
        ..Replay::whole(parent, ReplayKeys::Keep)
    };
    let replay = stage.journal.replay(vec![replay]).await.unwrap()[0]
        .clone()
        .unwrap();
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded; 2]);
    assert_eq!((b.inputs().len(), c.inputs()), (1, vec![json!({ "size": 4 }); 2]));
    let fetch = format!("{parent}/fetch");
    assert_eq!(keys(&a), [fetch.clone(), fetch]);
    assert_eq!(keys(&c), [format!("{parent}/commit"), format!("{replay}/commit")]);
    let known = &stories[1].attempts[1];
    assert_eq!((known.attempt, known.reason), (None, Some(Reason::TakenOver)));
}

#[tokio::test(start_paused = true)]
async fn that_a_replay_failed_as_well_is_said_again() {
    let a = Played::new(|_| failed(Outcome::Fatal, "no"));
    let d = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(THREE_STEPS, [("a", 1, Arc::clone(&a)), ("d", 1, Arc::clone(&d))]);
    stage.accept("p").await;
    let parent = stage.settle().await[0].record.id;
    let replay = stage
        .journal
        .replay_delivery(parent, ReplayKeys::Keep)
        .await
        .unwrap();
    assert_eq!(states(&stage.settle().await), [State::Dead; 2]);
    assert_eq!(keys(&a)[0], keys(&a)[1]);
    assert_eq!(
        keys(&d),
        [format!("{parent}/on_failure/d"), format!("{replay}/on_failure/d")]
    );
}

/// Cancels the first delivery when `plugin` is called, and runs until all have settled.
async fn cancel_when_called(stage: &Stage, plugin: &Played) -> Vec<DeliveryStory> {
    let (dispatcher, end) = (stage.dispatcher(), CancellationToken::new());
    let handle = dispatcher.handle();
    let direct = async {
        plugin.is_called(1).await;
        let delivery = stage.stories().await[0].record.id;
        let canceled = stage.journal.cancel(delivery, Asker::default()).await.unwrap();
        assert_eq!(canceled, Canceled::Asked);
        handle.cancel(delivery);
        loop {
            let stories = stage.stories().await;
            if stories.iter().all(|story| story.record.state.is_settled()) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        end.cancel();
    };
    tokio::join!(dispatcher.run(end.clone()), direct);
    stage.stories().await
}

#[tokio::test(start_paused = true)]
async fn the_call_of_a_delivery_that_is_canceled_is_told_to_stop_and_its_key_is_free() {
    let a = Played::held(|call| match call.cancelled.is_cancelled() {
        true => {
            leave(call, "half");
            stop(call)
        }
        false => done(&json!({ "value": 1 })),
    });
    let b = Played::new(|_| done(&json!({ "value": 4 })));
    let c = Played::new(|_| report(Outcome::Done));
    let d = Played::new(|_| report(Outcome::Done));
    let plugins = [
        ("a", 1, Arc::clone(&a)),
        ("b", 1, b),
        ("c", 1, c),
        ("d", 1, Arc::clone(&d)),
    ];
    let mut stage = Stage::set(THREE_STEPS, plugins);
    stage.accept("p").await;
    stage.accept("p").await;
    let stories = {
        let let_the_next = async {
            a.is_called(2).await;
            a.lets.add_permits(1);
        };
        tokio::join!(cancel_when_called(&stage, &a), let_the_next).0
    };
    assert_eq!(states(&stories), [State::Canceled, State::Succeeded]);
    let attempt = &stories[0].attempts[0];
    assert_eq!(
        (attempt.outcome, attempt.reason),
        (Some(Outcome::Retry), Some(Reason::Interrupted))
    );
    assert!(d.inputs().is_empty(), "it did not fail");
    let left = std::fs::read_dir(stage.directory.path().join("work"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_canceled_call_says_is_kept_and_nothing_follows_it() {
    for (outcome, state) in [
        (Outcome::Done, State::Canceled),
        (Outcome::Fatal, State::Canceled),
        (Outcome::Ambiguous, State::Canceled),
    ] {
        let a = Played::held(move |_| failed(outcome, "said"));
        let others = ["b", "c", "d"].map(|name| (name, 1, Played::new(|_| report(Outcome::Done))));
        let mut plugins = vec![("a", 1, Arc::clone(&a))];
        plugins.extend(
            others
                .iter()
                .map(|(name, calls, played)| (*name, *calls, Arc::clone(played))),
        );
        let mut stage = Stage::set(THREE_STEPS, plugins);
        stage.accept("p").await;
        let stories = cancel_when_called(&stage, &a).await;
        assert_eq!(states(&stories), [state], "{outcome:?}");
        assert_eq!(stories[0].attempts[0].outcome, Some(outcome));
        for (name, _, played) in &others {
            assert!(
                played.inputs().is_empty(),
                "`{name}` was called after {outcome:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_canceled_between_its_claim_and_its_course_is_not_begun() {
    let a = Played::new(|_| done(&json!({ "value": 1 })));
    let mut stage = Stage::set(THREE_STEPS, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    let dispatcher = stage.dispatcher();
    let claims = dispatcher.shared.claim().await.unwrap();
    let delivery = claims[0].delivery;
    stage.journal.cancel(delivery, Asker::default()).await.unwrap();
    dispatcher.handle().cancel(delivery);
    let courses = tokio_util::task::TaskTracker::new();
    dispatcher.shared.start(claims, &courses);
    courses.close();
    courses.wait().await;
    assert_eq!(states(&stage.stories().await), [State::Canceled]);
    assert!(a.inputs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn how_the_last_attempt_ended_is_known_beside_why_the_step_was_given_up() {
    let c = Played::new(|_| Report {
        reason: Some(Reason::TimedOut),
        ..failed(Outcome::Retry, "it took too long")
    });
    let a = Played::new(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| done(&json!({ "value": 4 })));
    let d = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(THREE_STEPS, [("a", 1, a), ("b", 1, b), ("c", 1, c), ("d", 1, d)]);
    stage.accept("p").await;
    let story = stage.settle().await.remove(0);
    let failure = story.record.failure.unwrap();
    assert_eq!(
        (failure.reason, failure.error.as_str()),
        (
            Reason::AttemptsExhausted,
            "it took too long (timed-out), in attempt 2 of 2"
        )
    );
    let reasons: Vec<_> = story.attempts[2..4]
        .iter()
        .map(|attempt| attempt.reason)
        .collect();
    assert_eq!(reasons, [Some(Reason::TimedOut); 2]);
}
