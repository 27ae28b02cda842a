//! Intent, act, record: and a crash in between.

use std::time::Duration;

use jackfield_sdk::{
    Kv,
    prelude::*,
    serde_json::Value,
    testing::{Call, Code, Ended, Harness, HostCall, TestHost},
    tokio,
};

/// Posts once, to a service that can be searched.
struct Poster {
    service: Kv,
}

#[async_trait]
impl Plugin for Poster {
    type Config = Value;
    type Input = Value;
    type Output = String;
    const NAME: &'static str = "poster";
    const VERSION: &'static str = "1.0.0";

    async fn create(_: Value, start: Start) -> Result<Self> {
        Ok(Self { service: start.kv() })
    }

    async fn call(&self, _: Value, cx: &Cx) -> Result<Outcome<String>> {
        let earlier = match cx.receipt::<u64, String>().await? {
            Receipt::Done(message) => return Ok(Outcome::Done(message)),
            Receipt::Intended(7) => self.service.get(cx.idempotency_key()).await?,
            Receipt::Intended(other) => return Err(Error::ambiguous(format!("intended {other}"))),
            Receipt::Absent => None,
        };
        if earlier.is_none() {
            cx.intend(&7).await?;
            self.service.put(cx.idempotency_key(), "posted").await?;
            cx.metric("posts", &[], 1.0);
        }
        let message = format!("message of {}", cx.idempotency_key());
        cx.record(&message).await?;
        Ok(Outcome::Done(message))
    }
}

#[tokio::test]
async fn a_crash_at_any_point_neither_loses_nor_repeats_the_post() {
    for point in [
        HostCall::Receipt,
        HostCall::Intend,
        HostCall::KvPut,
        HostCall::Record,
    ] {
        let host = TestHost::new();
        host.hold(point);
        let first = Harness::<Poster>::start_on(&host, json!({})).await.unwrap();
        let running = first.begin(Call::new(json!({})).key("a"));
        host.held(point, 1).await;
        first.crash().await;
        assert_eq!(running.end().await.code, Code::Shutdown, "{point:?}");
        // The held request goes on or is lost with the process: here it is lost.
        let again = TestHost::new();
        for (key, value) in host.kv() {
            again.set_kv(key, value);
        }
        again.set_receipt("a", host.receipt("a"));
        let second = Harness::<Poster>::start_on(&again, json!({})).await.unwrap();
        let message = second.call(Call::new(json!({})).key("a").attempt(2)).await.done();
        assert_eq!(message, "message of a");
        let posts = host.metric("posts") + again.metric("posts");
        assert!((posts - 1.0).abs() < f64::EPSILON, "{point:?}: {posts}");
        assert_eq!(again.receipt("a"), Receipt::Done(json!("message of a")));
        assert_eq!(
            second.call(Call::new(json!({})).key("a").attempt(3)).await.done(),
            message
        );
    }
}

#[tokio::test]
async fn a_receipt_that_is_not_durable_is_an_error_of_the_call() {
    let host = TestHost::new();
    let poster = Harness::<Poster>::start_on(&host, json!({})).await.unwrap();
    for (point, message) in [
        (
            HostCall::Receipt,
            "reading the receipt of this step: the test has Receipt fail",
        ),
        (
            HostCall::Intend,
            "keeping the receipt of this step: the test has Intend fail",
        ),
        (
            HostCall::Record,
            "keeping the receipt of this step: the test has Record fail",
        ),
    ] {
        host.fail(point, 1);
        let report = poster.call(Call::new(json!({})).key(message)).await;
        assert_eq!((report.outcome, report.message.as_str()), (Ended::Retry, message));
    }
}

#[tokio::test]
async fn a_receipt_of_another_shape_is_ambiguous_and_not_absent() {
    let host = TestHost::new();
    let poster = Harness::<Poster>::start_on(&host, json!({})).await.unwrap();
    for (receipt, message) in [
        (Receipt::Intended(json!(8)), "intended 8"),
        (
            Receipt::Intended(json!("seven")),
            "an earlier attempt left a receipt that cannot be read: ",
        ),
        (
            Receipt::Done(json!([])),
            "an earlier attempt left a receipt that cannot be read: ",
        ),
    ] {
        host.set_receipt("a", receipt);
        let report = poster.call(Call::new(json!({})).key("a")).await;
        assert_eq!(report.outcome, Ended::Ambiguous, "{report:?}");
        assert!(report.message.starts_with(message), "{report:?}");
    }
}

#[tokio::test]
async fn what_outlives_its_instance_finds_the_host_closed() {
    struct Keeper;
    static KEPT: std::sync::Mutex<Option<Start>> = std::sync::Mutex::new(None);

    #[async_trait]
    impl Plugin for Keeper {
        type Config = Value;
        type Input = Value;
        type Output = ();
        const NAME: &'static str = "keeper";
        const VERSION: &'static str = "1.0.0";

        async fn create(_: Value, start: Start) -> Result<Self> {
            *KEPT.lock().unwrap() = Some(start);
            Ok(Self)
        }

        async fn call(&self, _: Value, _: &Cx) -> Result<Outcome<()>> {
            Ok(Outcome::Done(()))
        }
    }

    let host = TestHost::new();
    let keeper = Harness::<Keeper>::start_on(&host, json!({})).await.unwrap();
    keeper.call(Call::new(json!({}))).await.done();
    let start = KEPT.lock().unwrap().take().unwrap();
    start.kv().put("a", "1").await.unwrap();
    drop(keeper);
    let error = start.kv().put("a", "2").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "writing the key `a`: the instance has been shut down"
    );
    start.metric("late", &[], 1.0);
    assert_eq!(host.kv()["a"], b"1");
    assert!(host.metrics().is_empty());
}

/// Writes down what becomes of it.
struct Diarist {
    diary: Kv,
}

#[async_trait]
impl Plugin for Diarist {
    type Config = Empty;
    type Input = Empty;
    type Output = ();
    const NAME: &'static str = "diarist";
    const VERSION: &'static str = "1.0.0";
    const CANCEL_GRACE: Duration = Duration::from_secs(5);

    async fn create(_: Empty, start: Start) -> Result<Self> {
        Ok(Self { diary: start.kv() })
    }

    async fn call(&self, _: Empty, _: &Cx) -> Result<Outcome<()>> {
        self.diary.put("call", "began").await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.diary.put("call", "ended").await?;
        Ok(Outcome::Done(()))
    }

    async fn shutdown(&self) {
        let _ = self.diary.put("instance", "ended").await;
    }
}

#[tokio::test]
async fn a_crash_leaves_no_time_for_a_call_and_none_for_a_farewell() {
    let host = TestHost::new();
    let diarist = Harness::<Diarist>::start_on(&host, json!({})).await.unwrap();
    let running = diarist.begin(Call::new(json!({})));
    while host.kv().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    diarist.crash().await;
    assert_eq!(running.end().await.code, Code::Shutdown);
    let diary = host.kv();
    assert_eq!(
        diary.into_iter().collect::<Vec<_>>(),
        [("call".to_owned(), b"began".to_vec())]
    );
}
