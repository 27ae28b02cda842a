//! What becomes of a delivery, step by step.

use super::*;

#[tokio::test(start_paused = true)]
async fn steps_run_in_turn_and_see_what_those_before_put_out() {
    let a = Played::new(|call| {
        std::fs::create_dir(&call.workdir).unwrap();
        done(&json!({ "value": [1, 2] }))
    });
    let b = Played::new(|call| {
        assert!(call.workdir.is_dir(), "what the step before left is there");
        report(Outcome::Done)
    });
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!(b.inputs(), [json!({ "got": [1, 2], "of": "p" })]);
    let (first, second) = (
        a.calls.lock().unwrap()[0].clone(),
        b.calls.lock().unwrap()[0].clone(),
    );
    assert_eq!(first.workdir, second.workdir, "one directory for all steps");
    assert!(
        !first.workdir.exists(),
        "it is gone when the delivery has settled"
    );
    assert_ne!(first.idempotency_key, second.idempotency_key);
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_again_under_the_same_key_until_it_is_done() {
    let a = Played::new(|call| match call.attempt {
        1 => failed(Outcome::Retry, "not yet"),
        2 => Report {
            retry_after: Some(Duration::from_secs(300)),
            ..failed(Outcome::Retry, "in five minutes")
        },
        _ => done(&json!({ "value": 1 })),
    });
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    let before = stage.clock.now();
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert!(
        stage.clock.now().saturating_since(before) >= Duration::from_secs(300),
        "what the plugin asks for is kept"
    );
    let outcomes: Vec<_> = stories[0]
        .attempts
        .iter()
        .map(|attempt| attempt.outcome.unwrap())
        .collect();
    assert_eq!(
        outcomes,
        [Outcome::Retry, Outcome::Retry, Outcome::Done, Outcome::Done]
    );
    let calls = a.calls.lock().unwrap();
    assert!(
        calls
            .iter()
            .all(|call| call.idempotency_key == calls[0].idempotency_key)
    );
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_given_up_runs_its_on_failure_steps_whatever_becomes_of_each() {
    let rules = r#"
[[route]]
name = "r"
when.type = ["x"]
[[route.step]]
use = "a"
retry = { attempts = 3, first = "1s" }
[[route.on_failure]]
use = "b"
with = { what = "{{ failure.step }}: {{ failure.reason }}: {{ failure.error }}" }
[[route.on_failure]]
use = "c"
"#;
    let a = Played::new(|_| failed(Outcome::Retry, "no"));
    let b = Played::new(|_| failed(Outcome::Fatal, "not even this"));
    let c = Played::new(|_| report(Outcome::Done));
    let plays = [
        ("a", 1, Arc::clone(&a)),
        ("b", 1, Arc::clone(&b)),
        ("c", 1, Arc::clone(&c)),
    ];
    let mut stage = Stage::set(rules, plays);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    let failure = stories[0].record.failure.clone().unwrap();
    assert_eq!(
        (failure.step.as_deref(), failure.reason),
        (Some("a"), Reason::AttemptsExhausted)
    );
    assert_eq!(
        b.inputs(),
        [json!({ "what": format!("a: attempts-exhausted: {}", failure.error) })]
    );
    insta::assert_snapshot!(failure.error, @"no (plugin-retry), in attempt 3 of 3");
    // Each attempt says how it ended itself, so that it can be told whether it may have acted.
    let reasons: Vec<_> = stories[0].attempts.iter().map(|attempt| attempt.reason).collect();
    assert_eq!(reasons[..3], [Some(Reason::PluginRetry); 3]);
    assert_eq!((a.inputs().len(), c.inputs().len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_given_up_before_its_first_step_is_told_of_all_the_same() {
    let on_failure = r#"
when.type = ["x"]
[[route.step]]
use = "a"
[[route.on_failure]]
use = "b"
with.text = "{{ route.name }} failed at {{ failure.step | default('the start') }}: {{ failure.error }}"
"#;
    let route = |name, more| format!("[[route]]\nname = \"{name}\"\n{more}{on_failure}");
    let rules = route("keyless", "order_by = \"{{ event.data.actor.id }}\"")
        + &route("timeless", "deadline = \"{{ event.data.project.id }}\"");
    let [a, b] = [(); 2].map(|()| Played::new(|_| report(Outcome::Done)));
    let mut stage = Stage::set(&rules, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead; 2]);
    let reasons = stories
        .iter()
        .map(|story| story.record.failure.as_ref().unwrap().reason);
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(reasons, [Reason::OrderKeyFailed, Reason::DeadlineFailed]);
    let mut told: Vec<_> = b
        .inputs()
        .iter()
        .map(|input| input["text"].as_str().unwrap().to_owned())
        .collect();
    told.sort();
    insta::assert_snapshot!(told.join("\n"), @r#"
    keyless failed at the start: route `keyless`, `order_by`: `event.data` has no `actor`
    timeless failed at the start: route `timeless`, `deadline`: found "p", expected an RFC 3339 time such as 2026-01-01T00:00:00Z, a time after the arrival such as 24h, or nothing
    "#);
    assert_eq!(a.inputs().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_a_dead_letter_and_not_tried_again() {
    let a = Played::new(|_| {
        failed(
            Outcome::Ambiguous,
            "the connection broke after the request was sent",
        )
    });
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    assert_eq!(
        stories[0].record.failure.as_ref().unwrap().reason,
        Reason::PluginAmbiguous
    );
    assert_eq!(a.inputs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_stays_so_although_its_files_cannot_be_synced() {
    let a = Played::new(|call| {
        std::fs::write(&call.workdir, "no directory").unwrap();
        failed(Outcome::Ambiguous, "the connection broke")
    });
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    assert_eq!(
        stories[0].record.failure.as_ref().unwrap().reason,
        Reason::PluginAmbiguous
    );
    assert_eq!(a.inputs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_is_not_done_before_its_files_are_synced() {
    let a = Played::new(|call| {
        if call.attempt == 1 {
            std::fs::write(&call.workdir, "no directory").unwrap();
        } else {
            std::fs::remove_file(&call.workdir).unwrap();
        }
        done(&json!({ "value": call.attempt }))
    });
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    let attempts = &stories[0].attempts;
    let ended: Vec<_> = attempts
        .iter()
        .map(|made| (made.outcome.unwrap(), made.reason))
        .collect();
    assert_eq!(
        ended,
        [
            (Outcome::Retry, Some(Reason::WorkDirectoryFailed)),
            (Outcome::Done, None),
            (Outcome::Done, None)
        ]
    );
    let message = attempts[0].message.as_deref().unwrap();
    insta::assert_snapshot!(message, @"the step's files could not be synced: Not a directory (os error 20)");
    assert!(attempts[0].output.is_none());
    assert_eq!(
        b.inputs(),
        [json!({ "got": 2, "of": "p" })],
        "what was not done is not gone by"
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_condition_is_false_is_skipped_and_one_that_is_misspelt_kills() {
    let rules = r#"
[[route]]
name = "false"
when.type = ["x"]
[[route.step]]
use = "a"
if = "event.data.project.id == 'other'"

[[route]]
name = "misspelt"
when.type = ["x"]
[[route.step]]
use = "a"
if = "event.data.payload.no_such_thing"
"#;
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(rules, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded, State::Dead]);
    assert_eq!(stories[0].attempts[0].reason, Some(Reason::ConditionFalse));
    let failure = stories[1].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::TemplateFailed);
    assert!(failure.error.contains("no_such_thing"), "{}", failure.error);
    assert_eq!(a.inputs().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_one_order_key_run_one_at_a_time_and_a_dead_one_frees_its_key() {
    let rules = r#"
[[route]]
name = "r"
order_by = "{{ event.data.project.id }}"
when.type = ["x"]
[[route.step]]
use = "a"
with = { of = "{{ event.data.project.id }}" }
"#;
    let a = Played::held(|call| {
        let input: Value = serde_json::from_slice(&call.input).unwrap();
        if input["of"] == "p" {
            failed(Outcome::Fatal, "no")
        } else {
            report(Outcome::Done)
        }
    });
    let mut stage = Stage::set(rules, [("a", 8, Arc::clone(&a))]);
    for project in ["p", "p", "q"] {
        stage.accept(project).await;
    }
    let direct = async {
        a.is_called(2).await;
        // The two keys run beside one another, in whichever order.
        let mut called: Vec<_> = a.inputs().iter().map(|input| input["of"].to_string()).collect();
        called.sort();
        assert_eq!(called, ["\"p\"", "\"q\""], "the second of `p` waits");
        a.lets.add_permits(3);
    };
    let (stories, ()) = tokio::join!(stage.settle(), direct);
    assert_eq!(states(&stories), [State::Dead, State::Dead, State::Succeeded]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_instance_is_missing_waits_and_says_so() {
    let mut stage = Stage::set(TWO_STEPS, []);
    stage.accept("p").await;
    let stories = stage
        .until(|stories| stories[0].record.state == State::Waiting)
        .await;
    assert_eq!(stories[0].record.reason, Some(Reason::InstanceMissing));
    assert!(stories[0].record.detail.as_ref().unwrap().contains("`a`"));
    let a = Played::new(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    stage.plugins = BTreeMap::from([("a", (1, a)), ("b", (1, b))]);
    assert_eq!(states(&stage.settle().await), [State::Succeeded]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_given_up_when_its_instance_is_missing_for_longer_than_the_patience() {
    let mut stage = Stage::set(TWO_STEPS, []);
    stage.accept("p").await;
    let waits = |stories: &[DeliveryStory]| stories[0].record.state == State::Waiting;
    let first = stage.until(waits).await[0].record.due;
    // Half of it is far from the end, however far time leaps meanwhile.
    stage.clock.1.store(DEFAULT_PATIENCE.as_secs() / 2, Relaxed);
    stage
        .until(|stories| waits(stories) && stories[0].record.due > first)
        .await;
    stage.clock.1.store(DEFAULT_PATIENCE.as_secs(), Relaxed);
    let stories = stage.settle().await;
    let failure = stories[0].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::InstanceMissing);
    assert!(
        failure.error.contains("it was waited for since 2026-01-01"),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_instance_keeps_no_other_waiting() {
    let rules = r#"
[[route]]
name = "slow"
when.type = ["x"]
[[route.step]]
use = "slow"

[[route]]
name = "quick"
when.type = ["x"]
[[route.step]]
use = "quick"
"#;
    let slow = Played::held(|_| report(Outcome::Done));
    let quick = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(
        rules,
        [("slow", 1, Arc::clone(&slow)), ("quick", 1, Arc::clone(&quick))],
    );
    for _ in 0..40 {
        stage.accept("p").await;
    }
    let direct = async {
        quick.is_called(40).await;
        assert_eq!(slow.inputs().len(), 1);
        slow.lets.add_permits(40);
    };
    let (stories, ()) = tokio::join!(stage.settle(), direct);
    assert!(stories.iter().all(|story| story.record.state == State::Succeeded));
}
