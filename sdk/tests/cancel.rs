//! A call that is canceled at each of its awaits.

use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use jackfield_sdk::{
    prelude::*,
    serde_json::Value,
    testing::{Call, Code, Cut, Ended, Harness, TestHost},
    tokio::{self, task::yield_now, time::sleep},
};

/// Posts to a service that can be searched: carefully, or not.
struct Poster {
    careful: bool,
    posts: Mutex<Vec<String>>,
}

#[async_trait]
impl Plugin for Poster {
    type Config = Value;
    type Input = Value;
    type Output = String;
    const NAME: &'static str = "poster";
    const VERSION: &'static str = "1.0.0";

    async fn create(config: Value, _: Start) -> Result<Self> {
        Ok(Self {
            careful: config["careful"] == true,
            posts: Mutex::default(),
        })
    }

    async fn call(&self, input: Value, cx: &Cx) -> Result<Outcome<String>> {
        if input["for"] == "ever" {
            loop {
                yield_now().await;
            }
        }
        let key = cx.idempotency_key();
        let earlier = match cx.receipt::<(), String>().await? {
            Receipt::Done(post) => return Ok(Outcome::Done(post)),
            Receipt::Intended(()) if self.careful => self.find(key),
            Receipt::Intended(()) | Receipt::Absent => None,
        };
        let post = match earlier {
            Some(post) => post,
            None => {
                cx.intend(&()).await?;
                self.post(key, cx).await
            }
        };
        cx.record(&post).await?;
        Ok(Outcome::Done(post))
    }
}

impl Poster {
    fn posts(&self) -> MutexGuard<'_, Vec<String>> {
        self.posts.lock().expect("nobody panics with it")
    }

    async fn post(&self, key: &str, cx: &Cx) -> String {
        sleep(Duration::from_millis(1)).await;
        self.posts().push(key.to_owned());
        cx.metric("posts", &[("of", key)], 1.0);
        yield_now().await;
        format!("post of {key}")
    }

    fn find(&self, key: &str) -> Option<String> {
        let posts = self.posts();
        posts
            .iter()
            .find(|post| *post == key)
            .map(|key| format!("post of {key}"))
    }
}

/// How often there was a post under this key.
fn posts(host: &TestHost, key: &str) -> usize {
    host.metrics()
        .iter()
        .filter(|metric| metric.labels["of"] == key)
        .count()
}

/// Cancels it at each of its awaits, and makes the next attempt; where each was, and how often and how all that ended.
async fn cut_everywhere(poster: &Harness<Poster>) -> Vec<String> {
    let places = RefCell::new(Vec::new());
    let check = async |cut: &Cut| {
        assert_eq!(
            (cut.report.outcome, cut.report.code),
            (Ended::Retry, Code::Cancelled)
        );
        let last = cut.asked.last().map(ToString::to_string);
        places
            .borrow_mut()
            .push(format!("{} {}", cut.at, last.unwrap_or_default()));
        poster.call(cut.again()).await.done();
        assert_eq!(posts(poster.host(), cut.key()), 1, "it is posted once");
    };
    let (times, undisturbed) = poster.cancel_at_each_await(Call::new(json!({})), check).await;
    assert_eq!(
        undisturbed.done(),
        format!("post of dlv_test/step/await-{}", times + 1)
    );
    let places = places.into_inner();
    assert_eq!(places.len(), times);
    places
}

const PLACES: [&str; 5] = [
    "1 receipt",
    "2 intend null",
    "3 intend null",
    "4 metric posts{of=\"dlv_test/step/await-4\"} + 1",
    "5 record \"post of dlv_test/step/await-5\"",
];

#[tokio::test]
async fn each_await_is_met_once_and_in_order() {
    let poster = Harness::<Poster>::start(json!({ "careful": true }))
        .await
        .unwrap();
    assert_eq!(cut_everywhere(&poster).await, PLACES);
    // Which counts.
    assert!(poster.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn it_is_the_same_where_the_host_answers_at_once_and_where_time_stands_still() {
    let host = TestHost::new();
    host.reply_inline();
    let poster = Harness::<Poster>::start_on(&host, json!({ "careful": true }))
        .await
        .unwrap();
    assert_eq!(cut_everywhere(&poster).await, PLACES);
    let poster = Harness::<Poster>::start_paused(&TestHost::new(), json!({ "careful": true }))
        .await
        .unwrap();
    assert_eq!(cut_everywhere(&poster).await, PLACES);
}

#[tokio::test]
#[should_panic(
    expected = "canceled at await 4 (the last that it had asked of the host: metric posts{of=\"dlv_test/step/await-4\"} + 1): \
                assertion `left == right` failed: it is posted once"
)]
async fn a_post_that_is_repeated_is_found_with_its_place() {
    let poster = Harness::<Poster>::start(json!({ "careful": false }))
        .await
        .unwrap();
    cut_everywhere(&poster).await;
}

#[tokio::test]
#[should_panic(expected = "a call that has waited 1000 times does not come to its end")]
async fn a_call_without_end_is_given_up() {
    let poster = Harness::<Poster>::start(json!({})).await.unwrap();
    poster
        .cancel_at_each_await(Call::new(json!({ "for": "ever" })), async |_| {})
        .await;
}

/// Leaves nothing behind, when it is given the time.
struct Tidy;

#[async_trait]
impl Plugin for Tidy {
    type Config = Value;
    type Input = Value;
    type Output = ();
    const NAME: &'static str = "tidy";
    const VERSION: &'static str = "1.0.0";
    const CANCEL_GRACE: Duration = Duration::from_secs(600);

    async fn create(_: Value, _: Start) -> Result<Self> {
        Ok(Self)
    }

    async fn call(&self, _: Value, cx: &Cx) -> Result<Outcome<()>> {
        cx.kv().put("lock", cx.idempotency_key()).await?;
        let stopped = tokio::select! {
            () = cx.cancelled() => true,
            () = yield_now() => cx.is_cancelled(),
        };
        cx.kv().delete("lock").await?;
        if stopped {
            Err(Error::cancelled("tidied up"))
        } else {
            Ok(Outcome::Done(()))
        }
    }
}

#[tokio::test]
async fn a_call_that_asks_for_grace_has_it_at_each_await() {
    let tidy = Harness::<Tidy>::start(json!({})).await.unwrap();
    let host = tidy.host();
    let ends = RefCell::new(Vec::new());
    let (times, undisturbed) = tidy
        .cancel_at_each_await(Call::new(json!({})), async |cut| {
            assert!(host.kv().is_empty(), "the lock is left");
            ends.borrow_mut().push(cut.report.outcome);
        })
        .await;
    undisturbed.done();
    assert_eq!(times, 3);
    // The last was canceled when there was nothing left to be stopped.
    assert_eq!(ends.into_inner(), [Ended::Retry, Ended::Retry, Ended::Done]);
}
