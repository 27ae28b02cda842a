//! A harness tells the same of a plugin that is linked into the test and of the built library, wherever that lives: these tests run
//! against all three, the last one sees to it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

use jackfield_sdk::{
    Receipt,
    serde_json::{Value, json},
    testing::{Call, Code, Ended, Harness, HostCall, Report, TestHost, library},
};
use jackfield_stage::again::again;
use trial_plugin::Trial;

async fn trial(host: &TestHost) -> Harness<Trial> {
    Harness::start_on(host, json!({})).await.unwrap()
}

fn act(act: &str) -> Call {
    Call::new(json!({ "act": act }))
}

fn asked(host: &TestHost) -> Vec<String> {
    host.asked().iter().map(ToString::to_string).collect()
}

/// Goes on when so many calls have said that they wait.
async fn waits(host: &TestHost, calls: usize) {
    let said = || {
        host.metrics()
            .iter()
            .filter(|metric| metric.name == "waits_total")
            .count()
    };
    while said() < calls {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_asked_of_the_host_is_answered_by_the_test() {
    let host = TestHost::new();
    host.set_secret("/token", "t0ken");
    let trial = Harness::<Trial>::start_on(&host, json!({ "token": "t0ken" }))
        .await
        .unwrap();
    assert_eq!(
        trial.call(act("keep")).await.done(),
        json!({ "kept": "17", "gone": true })
    );
    assert_eq!(trial.call(act("brief")).await.done(), Value::Null);
    assert_eq!(
        trial.call(act("secret")).await.done(),
        json!({ "same": true, "missing": true })
    );
    let id = trial.call(act("emit")).await.done();
    assert_eq!(trial.call(act("emit")).await.done(), id, "once for each step");
    assert_ne!(trial.call(act("emit").key("dlv_test/step/next")).await.done(), id);
    assert_eq!(
        asked(&host),
        [
            "kv put cursor = 17",
            "kv get cursor",
            "kv delete cursor",
            "kv get cursor",
            "kv put brief = x for 1.5s",
            "secret /token",
            "secret /missing",
            "emit first {\"data\":{},\"type\":\"com.example.trial\"}",
            "emit first {\"data\":{},\"type\":\"com.example.trial\"}",
            "emit first {\"data\":{},\"type\":\"com.example.trial\"}",
        ]
    );
    assert_eq!(host.emitted().len(), 2);
    assert_eq!(host.kv_life("brief"), Some(Duration::from_millis(1500)));
}

#[tokio::test]
async fn the_host_fails_and_holds_as_it_is_told() {
    let host = TestHost::new();
    let trial = trial(&host).await;
    host.fail(HostCall::KvPut, 1);
    let report = trial.call(act("keep")).await;
    assert_eq!(report.outcome, Ended::Retry, "{report:?}");
    assert!(report.message.contains("the test has KvPut fail"), "{report:?}");

    host.hold(HostCall::KvGet);
    let running = trial.begin(act("keep"));
    host.held(HostCall::KvGet, 1).await;
    assert!(!running.has_ended() && host.kv().contains_key("cursor"));
    host.release(HostCall::KvGet);
    assert_eq!(running.end().await.done()["kept"], "17");
}

#[tokio::test]
async fn logs_and_counts_are_told() {
    let host = TestHost::new();
    let trial = trial(&host).await;
    trial.call(act("log")).await.done();
    trial.call(act("log-within")).await.done();
    let logs = host.logs();
    let told: Vec<_> = logs
        .iter()
        .filter(|log| log.target.starts_with("trial_plugin"))
        .map(|log| {
            (
                log.level.as_str(),
                log.message.as_str(),
                log.fields.clone(),
                log.in_call,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("WARN", "a line of step", json!({ "kind": "trial" }), true),
            ("TRACE", "a line that nobody wants", json!({}), true),
            (
                "WARN",
                "a line within",
                json!({ "span": "publish:upload", "commit": "abc", "files": 3, "part": 4 }),
                true
            ),
        ]
    );
    assert_eq!(asked(&host), ["metric trials_total{kind=\"log\"} + 2"]);

    host.set_log_level(None);
    trial.call(act("log")).await.done();
    assert_eq!(host.logs().len(), logs.len());
    assert!((host.metric("trials_total") - 4.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn calls_end_as_the_plugin_says() {
    let host = TestHost::new();
    let trial = trial(&host).await;
    for (name, outcome, code, message) in [
        ("skip", Ended::Skipped, Code::None, "nothing to do"),
        ("retry", Ended::Retry, Code::None, "not now"),
        ("fatal", Ended::Fatal, Code::None, "never"),
        ("invalid", Ended::Fatal, Code::Invalid, "not like this"),
        ("ambiguous", Ended::Ambiguous, Code::None, "who knows"),
        (
            "panic",
            Ended::Retry,
            Code::Panic,
            "the plugin panicked: on purpose",
        ),
    ] {
        let report = trial.call(act(name)).await;
        assert_eq!((report.outcome, report.code), (outcome, code), "{report:?}");
        assert!(report.message.starts_with(message), "{report:?}");
        let asks = report.retry_after == Some(Duration::from_millis(1500));
        assert_eq!(asks, name == "retry", "{report:?}");
    }
    let told = trial.call(act("done").attempt(3).key("dlv_1/post")).await.done();
    let expected = json!({
        "delivery": "dlv_0000000000000000000000test", "route": "test", "step": "step", "attempt": 3, "key": "dlv_1/post"
    });
    assert_eq!(told, expected);
    assert_eq!(
        std::fs::read(trial.workdir().join("trace")).unwrap(),
        b"io.supernova.job.success"
    );
    let measured = trial.call(act("measure").event_bytes(&b"\xff\x01"[..])).await;
    assert_eq!(measured.done()["event"], json!([2, 256]));
    let unreadable = trial.call(Call::new(json!({ "act": 7 }))).await;
    assert_eq!(
        (unreadable.outcome, unreadable.code),
        (Ended::Fatal, Code::Invalid)
    );
}

#[tokio::test]
async fn a_call_is_canceled_by_the_test_and_by_its_deadline() {
    let host = TestHost::new();
    let trial = trial(&host).await;
    let stopped = |report: Report| assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Cancelled));
    let running = trial.begin(act("wait"));
    running.cancel();
    stopped(running.end().await);
    stopped(trial.call(act("wait").deadline(Duration::from_millis(50))).await);
    stopped(
        trial
            .call(act("wait").cancel_after(Duration::from_millis(50)))
            .await,
    );
    loop {
        let tidied = trial.call(act("tidy").cancel_after(Duration::ZERO)).await;
        // The plugin may not have got round to it yet, and then has nothing to tidy up.
        if tidied.message != "the call was canceled before it began" {
            assert_eq!(tidied.outcome, Ended::Done, "{tidied:?}");
            break;
        }
    }
}

#[tokio::test]
async fn what_was_written_down_before_a_crash_is_there_after_it() {
    let host = TestHost::new();
    let before = trial(&host).await;
    host.hold(HostCall::Intend);
    let running = before.begin(act("receipt"));
    host.held(HostCall::Intend, 1).await;
    host.release(HostCall::Intend);
    running.end().await.done();
    host.hold(HostCall::Record);
    let running = before.begin(act("receipt"));
    host.held(HostCall::Record, 1).await;
    before.crash().await;
    drop(running);

    let host_after = TestHost::new();
    host_after.set_receipt("dlv_test/step", host.receipt("dlv_test/step"));
    let after = trial(&host_after).await;
    assert_eq!(after.call(act("receipt")).await.done(), "intended");
    assert_eq!(
        host_after.receipt("dlv_test/step"),
        Receipt::Done(json!({ "has": "been" }))
    );
}

#[tokio::test]
async fn a_plugin_that_refuses_to_start_says_why() {
    let refused = Harness::<Trial>::start(json!({ "refuse": "not today" }))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (Code::Invalid, "not today")
    );
    let refused = Harness::<Trial>::start(json!({ "unknown": 1 }))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::Invalid);
    assert!(refused.message.contains("unknown field `unknown`"), "{refused:?}");
}

#[tokio::test]
async fn a_shutdown_ends_what_runs_and_tells_whether_it_could() {
    let host = TestHost::new();
    let ending = trial(&host).await;
    let running = ending.begin(act("wait"));
    waits(&host, 1).await;
    assert!(ending.shutdown(Duration::from_millis(100)).await);
    let report = running.end().await;
    assert_eq!(report.outcome, Ended::Retry, "{report:?}");

    let stuck = trial(&host).await;
    let running = stuck.begin(act("deaf"));
    waits(&host, 2).await;
    assert!(!stuck.shutdown(Duration::from_millis(50)).await);
    drop(running);
}

#[tokio::test]
async fn what_only_goes_within_one_process_says_so() {
    if library().is_none() {
        return;
    }
    let inline = TestHost::new();
    inline.reply_inline();
    let trial = trial(&TestHost::new()).await;
    let paused = panic_of(async { drop(Harness::<Trial>::start_paused(&TestHost::new(), json!({})).await) });
    let cut = panic_of(async { drop(trial.cancel_at_each_await(act("keep"), async |_| {}).await) });
    let inlined = panic_of(async { drop(Harness::<Trial>::start_on(&inline, json!({})).await) });
    for (told, what) in [
        (paused.await, "time is kept by the test"),
        (cut.await, "each `.await` of a call is found"),
        (inlined.await, "the host replies within requests"),
    ] {
        assert!(
            told.starts_with(&format!("{what}: that only goes within one process")),
            "{told}"
        );
        assert!(
            told.contains("if testing::library().is_some() { return; }"),
            "{told}"
        );
    }
}

/// What a future says as it panics where it is first polled.
async fn panic_of(future: impl Future<Output = ()>) -> String {
    let mut future = pin!(future);
    let panic = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        Poll::Ready(polled.expect_err("it panics at once"))
    });
    *panic
        .await
        .downcast::<String>()
        .expect("the message has values in it")
}

#[test]
fn all_of_this_is_true_of_the_built_library() {
    for isolation in ["process", "none"] {
        let passed = again("trial-plugin", isolation, &[]).unwrap();
        assert!(passed > 9 || library().is_some(), "{isolation}: {passed}");
    }
}

#[test]
fn another_library_is_told_from_the_one_that_is_tested() {
    if library().is_some() {
        return;
    }
    let error = again("hello-plugin", "process", &["calls_end_as"])
        .unwrap_err()
        .to_string();
    let words = "the library is `hello 0.1.0`, and this test is of `trial 1.0.0`: build the library anew, and run the tests of \
                 its plugin alone";
    assert!(error.contains(words), "{error}");
}
