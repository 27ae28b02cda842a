//! Limits of instances, and what they meet. Time leaps by a second or so at every turn of the journal's, so minutes are counted.

use std::num::NonZeroUsize;

use super::*;
use crate::{dispatcher::KeyLimit, journal::ReplayKeys, rate::Rate, router::LimitKey};

/// One step of `a`, which is given the project as its channel.
const POST: &str = r#"
[[route]]
name = "r"
when.type = ["x"]
[[route.step]]
use = "a"
with = { channel = "{{ event.data.project.id }}" }
retry = { attempts = 5, first = "1s", max = "1s" }
"#;

fn once_a_minute() -> Option<Rate> {
    Rate::parse("1/m")
}

fn by_channel(rate: Option<Rate>, concurrency: Option<usize>) -> Limits {
    Limits {
        keys: vec![KeyLimit {
            by: LimitKey::compile("{{ input.channel }}").unwrap(),
            rate,
            concurrency: concurrency.and_then(NonZeroUsize::new),
        }],
        ..Limits::default()
    }
}

impl Stage {
    fn limited(a: &Arc<Played>, limits: Limits) -> Self {
        let mut stage = Self::set(POST, [("a", 8, Arc::clone(a))]);
        stage.limits.insert("a".to_owned(), limits);
        stage
    }

    async fn accept_all(&mut self, projects: &[&str]) {
        for project in projects {
            self.accept(project).await;
        }
    }
}

fn channels(a: &Played) -> Vec<String> {
    let inputs = a.inputs().into_iter();
    inputs
        .map(|input| input["channel"].as_str().unwrap().to_owned())
        .collect()
}

/// When the attempts of these began, in order.
fn begun<'s>(stories: impl IntoIterator<Item = &'s DeliveryStory>) -> Vec<Timestamp> {
    let attempts = stories.into_iter().flat_map(|story| &story.attempts);
    let mut begun: Vec<_> = attempts.map(|attempt| attempt.started).collect();
    begun.sort_unstable();
    begun
}

/// A minute between each two, but for the moment that one may be late by.
#[track_caller]
fn are_minutes_apart(begun: &[Timestamp]) {
    for pair in begun.windows(2) {
        let apart = pair[1].saturating_since(pair[0]);
        assert!(apart >= Duration::from_millis(60_000 - 100), "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rate_and_replay_what_a_person_asks_for_again_comes_no_faster() {
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::limited(
        &a,
        Limits {
            rate: once_a_minute(),
            ..Limits::default()
        },
    );
    stage.accept_all(&["1", "2", "3"]).await;
    for story in stage.settle().await {
        stage
            .journal
            .replay_delivery(story.record.id, ReplayKeys::Renew)
            .await
            .unwrap();
    }
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded; 6]);
    assert_eq!(channels(&a), ["1", "2", "3", "1", "2", "3"]);
    are_minutes_apart(&begun(&stories));
    assert!(
        stories.iter().all(|story| story.attempts.len() == 1),
        "waiting for its turn is no attempt"
    );
}

#[tokio::test(start_paused = true)]
async fn rate_and_restart_no_process_begins_what_another_has_begun_too_lately() {
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::limited(
        &a,
        Limits {
            rate: once_a_minute(),
            ..Limits::default()
        },
    );
    stage.accept_all(&["1", "2", "3", "4"]).await;
    for done in 1..4 {
        stage
            .until(|stories| states(stories)[done - 1] == State::Succeeded)
            .await;
        stage = stage.die_and_rise().await;
    }
    let stories = stage.settle().await;
    assert_eq!(channels(&a), ["1", "2", "3", "4"]);
    are_minutes_apart(&begun(&stories));
}

#[tokio::test(start_paused = true)]
async fn a_rate_by_key_holds_up_nobody_with_another() {
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::limited(&a, by_channel(once_a_minute(), None));
    stage
        .accept_all(&["busy", "busy", "busy", "one", "two", "three"])
        .await;
    let waits = |stories: &[DeliveryStory]| {
        states(stories)[3..] == [State::Succeeded; 3] && stories[2].record.state == State::Waiting
    };
    let stories = stage.until(waits).await;
    let record = &stories[2].record;
    assert_eq!(record.reason, Some(Reason::RateLimited));
    assert_eq!(record.detail.as_deref(), Some("`a/1 busy` takes 1 call in 60s"));
    let stories = stage.settle().await;
    are_minutes_apart(&begun(&stories[..3]));
    assert_eq!(states(&stories), [State::Succeeded; 6]);
}

#[tokio::test]
async fn calls_with_one_key_run_one_at_a_time_and_the_next_begins_when_one_ends() {
    let a = Played::held(|_| report(Outcome::Done));
    let mut stage = Stage::limited(&a, by_channel(None, Some(1)));
    stage.accept_all(&["1", "1", "1", "2"]).await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        a.is_called(2).await;
        loop {
            let stories = stage.stories().await;
            let waits = |place: usize| stories[place].record.reason == Some(Reason::KeyBusy);
            if waits(1) && waits(2) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut first = channels(&a);
        first.sort_unstable();
        assert_eq!(first, ["1", "2"]);
        // Each one's end lets the next one in, long before it would look by itself.
        a.lets.add_permits(4);
        a.is_called(4).await;
        stop.cancel();
    };
    let begun = tokio::time::Instant::now();
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "nobody looked by himself"
    );
    assert_eq!(states(&stage.stories().await), [State::Succeeded; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_asked_for_is_taken_by_all_that_are_counted_together() {
    let pause = |call: &StepCall| {
        let busy = String::from_utf8_lossy(&call.input).contains("busy");
        match (busy, call.attempt) {
            (true, 1) => Report {
                retry_after: Some(Duration::from_secs(300)),
                ..failed(Outcome::Retry, "429")
            },
            _ => report(Outcome::Done),
        }
    };
    let a = Played::new(pause);
    let mut stage = Stage::limited(&a, by_channel(Rate::parse("1000/s"), None));
    stage.accept("busy").await;
    stage
        .until(|stories| stories[0].record.state == State::Waiting)
        .await;
    // Another process, which was not told.
    let mut stage = stage.die_and_rise().await;
    stage.accept_all(&["busy", "free"]).await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded; 3]);
    let first = stories[0].attempts[0].started;
    let after = |story: usize, attempt: usize| {
        stories[story].attempts[attempt].started.saturating_since(first) >= Duration::from_secs(300)
    };
    assert!(after(0, 1));
    assert!(after(1, 0), "it is counted with the one that was told");
    assert!(!after(2, 0), "it is not");
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_a_pause_is_the_steps_alone() {
    let a = Played::new(|call| match call.attempt {
        1 if String::from_utf8_lossy(&call.input).contains("busy") => Report {
            retry_after: Some(Duration::from_secs(3_600)),
            ..failed(Outcome::Retry, "not ready yet")
        },
        _ => report(Outcome::Done),
    });
    let mut stage = Stage::limited(&a, Limits::default());
    stage.accept_all(&["busy", "free"]).await;
    let stories = stage
        .until(|stories| states(stories) == [State::Waiting, State::Succeeded])
        .await;
    assert_eq!(stories[0].record.reason, Some(Reason::PluginRetry));
    assert!(stage.journal.rests().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn rate_and_order_key_a_line_stays_in_order() {
    let rules = POST.replace(
        "when.type",
        "order_by = \"{{ event.data.project.id }}\"\nwhen.type",
    );
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(&rules, [("a", 8, Arc::clone(&a))]);
    let limits = Limits {
        rate: once_a_minute(),
        ..Limits::default()
    };
    stage.limits.insert("a".to_owned(), limits);
    stage.accept_all(&["1", "2", "1", "2", "1"]).await;
    let stories = stage.settle().await;
    are_minutes_apart(&begun(&stories));
    let line = |places: [usize; 3]| begun(places.map(|place| &stories[place]));
    assert!(line([0, 2, 4]).is_sorted());
    assert_eq!(channels(&a), ["1", "2", "1", "2", "1"]);
}

#[tokio::test(start_paused = true)]
async fn rate_and_deadline_who_is_not_let_through_in_time_is_given_up() {
    // A quarter of an hour lies between the second and its deadline: the clock leaps while the journal works, on a busy machine
    // by minutes.
    let rules = POST.replace("when.type", "deadline = \"45m\"\nwhen.type");
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(&rules, [("a", 8, Arc::clone(&a))]);
    let limits = Limits {
        rate: Rate::parse("1/30m"),
        ..Limits::default()
    };
    stage.limits.insert("a".to_owned(), limits);
    stage.accept_all(&["1", "2", "3"]).await;
    let stories = stage.settle().await;
    assert_eq!(
        states(&stories),
        [State::Succeeded, State::Succeeded, State::Dead]
    );
    let failure = stories[2].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::DeadlinePassed);
    assert!(
        failure.error.ends_with("has passed; `a` takes 1 call in 1800s"),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_told_is_an_error_that_names_the_limit() {
    let a = Played::new(|_| report(Outcome::Done));
    let mut limits = by_channel(once_a_minute(), None);
    limits.keys[0].by = LimitKey::compile("{{ input.chanel }}").unwrap();
    let mut stage = Stage::limited(&a, limits);
    stage.accept("1").await;
    let stories = stage.settle().await;
    let failure = stories[0].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::TemplateFailed);
    assert_eq!(
        failure.error,
        "instance `a`, `limit.by`: `input` has no `chanel`; did you mean `channel`?"
    );
}
