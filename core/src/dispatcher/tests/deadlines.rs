//! Deadlines, and what they meet.

use super::*;

/// One step of `a`, of no use after ten minutes. Time leaps by a second or so at every turn of the journal's: that is nothing beside it, and `b` to tell of it.
const TEN_MINUTES: &str = r#"
[[route]]
name = "r"
deadline = "10m"
when.type = ["x"]
[[route.step]]
use = "a"
retry = { attempts = 100, backoff = "fixed", first = "20s", max = "20s" }
[[route.on_failure]]
use = "b"
with = { what = "{{ failure.step }}: {{ failure.reason }}: {{ failure.error }}" }
"#;

/// `a`, which makes one call at a time and ends it when it is let, `b`, and two deliveries.
async fn two_for_one_call() -> (Arc<Played>, Arc<Played>, Stage) {
    let a = Played::held(|_| report(Outcome::Done));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TEN_MINUTES, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    stage.accept("q").await;
    (a, b, stage)
}

fn told(b: &Played) -> String {
    b.inputs()[0]["what"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn deadline_and_back_off_what_would_come_too_late_is_given_up_at_once_with_the_last_error() {
    let a = Played::new(|_| Report {
        retry_after: Some(Duration::from_secs(4 * 60)),
        ..failed(Outcome::Retry, "the service is busy")
    });
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TEN_MINUTES, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    let before = stage.clock.now();
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    // After 0, 4 and 8 minutes; a fourth would come after 12.
    assert_eq!(a.inputs().len(), 3);
    let failure = stories[0].record.failure.clone().unwrap();
    assert_eq!(failure.reason, Reason::DeadlinePassed);
    let deadline = before.saturating_add(Duration::from_secs(600));
    assert_eq!(
        failure.error,
        format!(
            "the service is busy (plugin-retry); the next attempt would come after the deadline {deadline}"
        )
    );
    let settled = stories[0].record.settled.unwrap();
    assert!(settled < deadline, "it is not waited for: {settled}");
    assert_eq!(told(&b), format!("a: deadline-passed: {}", failure.error));
}

#[tokio::test]
async fn a_call_has_no_more_time_than_its_deadline_leaves() {
    // The instance's time-out is a minute.
    for (deadline, most) in [("30s", 30), ("10m", 60)] {
        let a = Played::new(|_| report(Outcome::Done));
        let mut stage = Stage::set(&TEN_MINUTES.replace("10m", deadline), [("a", 1, Arc::clone(&a))]);
        stage.accept("p").await;
        let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
        let direct = async {
            a.is_called(1).await;
            stop.cancel();
        };
        tokio::join!(dispatcher.run(stop.clone()), direct);
        let now = tokio::time::Instant::now();
        let left = a.calls.lock().unwrap()[0].deadline.duration_since(now);
        assert!(left <= Duration::from_secs(most), "{deadline}: {left:?}");
        assert!(left > Duration::from_secs(most / 2), "{deadline}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_and_missing_instance_it_is_not_waited_for_any_longer() {
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TEN_MINUTES, [("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    stage
        .until(|stories| stories[0].record.state == State::Waiting)
        .await;
    stage.clock.1.store(24 * 3600, Relaxed);
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    let told = told(&b);
    assert!(
        told.starts_with("a: deadline-passed: the deadline 2026-01-01T00:10:"),
        "{told}"
    );
    assert!(
        told.contains("has passed; waiting since 2026-01-01T00:00:"),
        "{told}"
    );
    assert!(told.ends_with("there is no instance `a`"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn deadline_and_order_key_who_stands_behind_another_is_given_up_and_lets_nobody_pass() {
    let rules = TEN_MINUTES.replace("deadline", "order_by = \"{{ event.data.project.id }}\"\ndeadline");
    let a = Played::held(|_| report(Outcome::Done));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(&rules, [("a", 2, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    stage.accept("p").await;
    let direct = async {
        a.is_called(1).await;
        stage.clock.1.store(24 * 3600, Relaxed);
        b.is_called(1).await;
        stage.stories().await
    };
    let stop = CancellationToken::new();
    let dispatcher = stage.dispatcher();
    let (stories, ()) = tokio::join!(
        async {
            let stories = direct.await;
            stop.cancel();
            a.lets.add_permits(5);
            stories
        },
        dispatcher.run(stop.clone())
    );
    assert_eq!(stories[0].record.state, State::Running);
    let failed = &stages_of(&stories[1]);
    assert_eq!(*failed, ["a"], "its step was never called");
    let told = told(&b);
    let ahead = stories[0].record.id;
    assert!(
        told.ends_with(&format!("has passed; it stood behind {ahead} of its order key")),
        "{told}"
    );
    stage.accept("p").await;
    assert_eq!(
        states(&stage.settle().await),
        [State::Succeeded, State::Dead, State::Succeeded]
    );
    assert_eq!(a.inputs().len(), 2);
}

/// The steps of a story that ended without a call.
fn stages_of(story: &DeliveryStory) -> Vec<&str> {
    let ended = story.attempts.iter().filter(|made| made.attempt.is_none());
    ended.map(|made| made.step_id.as_str()).collect()
}

#[tokio::test]
async fn a_clock_that_is_set_forward_ends_what_is_late_and_no_call_that_is_under_way() {
    let (a, b, stage) = two_for_one_call().await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        a.is_called(1).await;
        stage.clock.1.store(100 * 3600, Relaxed);
        a.lets.add_permits(1);
        b.is_called(1).await;
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded, State::Dead]);
    assert_eq!(a.inputs().len(), 1);
}

#[tokio::test]
async fn deadline_and_failing_disk_nothing_is_begun_after_it_because_the_journal_takes_it_late() {
    let (a, b, stage) = two_for_one_call().await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        a.is_called(1).await;
        stage.journal.refuse_attempts(true).await;
        a.lets.add_permits(2);
        let settle = async |count| loop {
            let states = states(&stage.stories().await);
            if states.iter().filter(|state| state.is_settled()).count() == count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        settle(1).await;
        // There is room for the other now, whose attempt the journal refuses, again and again.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.clock.1.store(24 * 3600, Relaxed);
        stage.journal.refuse_attempts(false).await;
        settle(2).await;
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(a.inputs().len(), 1);
    let told = told(&b);
    assert!(told.starts_with("a: deadline-passed: the deadline "), "{told}");
}

#[tokio::test]
async fn deadline_and_slow_disk_nothing_is_called_after_it_because_its_start_is_on_disk_late() {
    let (a, b, stage) = two_for_one_call().await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        a.is_called(1).await;
        let stands = stage.journal.stand_still().await;
        a.lets.add_permits(2);
        // There is room for the other, whose start waits for the disk.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.clock.1.store(24 * 3600, Relaxed);
        drop(stands);
        b.is_called(1).await;
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(a.inputs().len(), 1);
    let told = told(&b);
    assert!(told.starts_with("a: deadline-passed: the deadline "), "{told}");
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded, State::Dead]);
    let ended = &stories[1].attempts[0];
    assert_eq!(
        (ended.attempt, ended.reason),
        (Some(1), Some(Reason::DeadlinePassed))
    );
}
