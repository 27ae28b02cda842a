//! Rests for instances that fail, whoever calls them.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::dispatcher::Breaker;

const RULES: &str = r#"
[[route]]
name = "r"
when.type = ["x"]
[[route.step]]
use = "a"
retry = { attempts = 20, backoff = "fixed", first = "1s", max = "1s" }
"#;

/// Far longer than the clock leaps while a dispatcher ends.
const REST: Duration = Duration::from_secs(300);

/// A stage with an instance that takes one call at a time, and rests after three deliveries that failed. It works once it is
/// told so.
fn stage() -> (Stage, Arc<Played>, Arc<AtomicBool>) {
    let works = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&works);
    let a = Played::new(move |_| match told.load(Relaxed) {
        true => report(Outcome::Done),
        false => failed(Outcome::Retry, "503"),
    });
    let mut stage = Stage::set(RULES, [("a", 1, Arc::clone(&a))]);
    let breaker = Breaker {
        failures: 3.try_into().unwrap(),
        rest: REST,
        max: REST * 4,
    };
    let limits = Limits {
        breaker: Some(breaker),
        ..Limits::default()
    };
    stage.limits.insert("a".to_owned(), limits);
    (stage, a, works)
}

/// When the calls were made, in order.
fn begun(stories: &[DeliveryStory]) -> Vec<Timestamp> {
    let attempts = stories.iter().flat_map(|story| &story.attempts);
    let mut begun: Vec<_> = attempts.map(|attempt| attempt.started).collect();
    begun.sort_unstable();
    begun
}

#[tokio::test(start_paused = true)]
async fn while_an_instance_rests_no_attempt_is_spent_and_each_says_why() {
    let (mut stage, a, works) = stage();
    for _ in 0..10 {
        stage.accept("p").await;
    }
    // One call after each rest is made to see.
    let stories = stage.until(|stories| begun(stories).len() >= 5).await;
    let calls = begun(&stories);
    assert!(calls[3].saturating_since(calls[2]) >= REST, "{calls:?}");
    assert!(calls[4].saturating_since(calls[3]) >= REST * 2, "{calls:?}");
    // That the last of them failed may not be on record yet, and then the instance does not rest again.
    let stories = loop {
        let stories = stage.stories().await;
        if stories[9].record.reason.is_some() {
            break stories;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let last = &stories[9].record;
    assert!(!last.state.is_settled() && last.attempts == 0, "{last:?}");
    assert_eq!(last.reason, Some(Reason::InstanceResting));
    let detail = last.detail.as_deref().unwrap();
    assert!(
        detail.starts_with("`a` rests:") && detail.ends_with("503"),
        "{detail}"
    );
    assert!(
        stories.iter().all(|story| story.record.attempts < 4),
        "nobody's attempts are used up"
    );

    works.store(true, Relaxed);
    let before = a.inputs().len();
    assert_eq!(states(&stage.settle().await), [State::Succeeded; 10]);
    assert_eq!(a.inputs().len(), before + 10);
    assert!(stage.journal.rests().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rest_outlasts_a_restart() {
    let (mut stage, _, works) = stage();
    for _ in 0..6 {
        stage.accept("p").await;
    }
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        let rest = loop {
            if let Some(rest) = stage.journal.rests().await.unwrap().get("a") {
                break rest.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        stop.cancel();
        rest
    };
    let ((), rest) = tokio::join!(dispatcher.run(stop.clone()), direct);
    let before = begun(&stage.stories().await).len();
    works.store(true, Relaxed);
    let stage = stage.die_and_rise().await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded; 6]);
    let calls = begun(&stories);
    assert!(
        calls[before] >= rest.until,
        "{calls:?}, and it rests until {}",
        rest.until
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_prolongs_no_rest() {
    let (mut stage, _, works) = stage();
    stage.clock.1.store(1_000_000, Relaxed);
    for _ in 0..4 {
        stage.accept("p").await;
    }
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        while stage.journal.rests().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        works.store(true, Relaxed);
        stage.clock.1.store(0, Relaxed);
        while states(&stage.stories().await) != [State::Succeeded; 4] {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert!(stage.journal.rests().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_breaker_an_instance_is_called_however_often_it_fails() {
    let (mut stage, a, _) = stage();
    let limits = Limits {
        breaker: None,
        ..Limits::default()
    };
    stage.limits.insert("a".to_owned(), limits);
    for _ in 0..4 {
        stage.accept("p").await;
    }
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead; 4]);
    assert_eq!(a.inputs().len(), 4 * 20);
}
