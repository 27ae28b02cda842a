//! Everything that a call can come to, through the C functions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jackfield_sdk::{
    prelude::*,
    serde_json::{self, Value},
    testing::{Call, Code, Ended, Harness, HostCall, Report, TestHost},
    tokio,
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What creating an instance does.
    #[serde(default)]
    create: Option<Trick>,
    /// Of no use, but typed.
    #[serde(default)]
    #[expect(dead_code, reason = "it is there to be mistyped")]
    limits: Limits,
}

#[derive(Default, Deserialize, JsonSchema)]
struct Limits {
    #[serde(default)]
    #[expect(dead_code, reason = "it is there to be mistyped")]
    size: u32,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Trick {
    Ok,
    Skip,
    Retry,
    Fatal,
    Invalid,
    Ambiguous,
    StdError,
    PanicAtOnce,
    PanicLater,
    PanicInTask,
    PanicWithABomb,
    PanicInDrop,
    UnwritableOutput,
    Sleep,
    Nap,
    ReadEvent,
    Secret,
    Emit,
    Log,
    Facts,
    Count,
}

#[derive(Deserialize, JsonSchema)]
struct Input {
    trick: Trick,
}

/// Does what it is told, for better or worse.
struct Trickster {
    start: Start,
    /// How many calls' futures are alive.
    alive: Arc<AtomicUsize>,
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

#[async_trait]
impl Plugin for Trickster {
    type Config = Config;
    type Input = Input;
    type Output = Value;
    const NAME: &'static str = "trickster";
    const VERSION: &'static str = "1.2.3";
    const DESCRIPTION: &'static str = "Does what it is told";

    async fn create(config: Config, start: Start) -> Result<Self> {
        start.metric("instances", &[("name", start.instance())], 1.0);
        start.kv().put("created", "yes").await?;
        match config.create {
            Some(Trick::PanicLater) => {
                tokio::task::yield_now().await;
                panic!("in create");
            }
            Some(Trick::Retry) => return Err(Error::retry("the service is down")),
            _ => {}
        }
        Ok(Self {
            start,
            alive: Arc::default(),
        })
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Value>> {
        self.alive.fetch_add(1, Ordering::SeqCst);
        let _alive = Alive(self.alive.clone());
        match input.trick {
            Trick::Ok => {}
            Trick::Skip => return Ok(Outcome::skipped("nothing new")),
            Trick::Retry => return Err(Error::retry("busy").after(Duration::from_millis(1500))),
            Trick::Fatal => return Err(Error::fatal("gone")),
            Trick::Invalid => return Err(Error::invalid("nonsense")),
            Trick::Ambiguous => return Err(Error::ambiguous("who knows")),
            Trick::StdError => return Ok(Outcome::Done(serde_json::from_str("{")?)),
            Trick::PanicAtOnce => panic!("at once"),
            Trick::PanicLater => {
                tokio::task::yield_now().await;
                panic!("later, {}", cx.attempt());
            }
            Trick::PanicInTask => {
                tokio::runtime::Handle::current()
                    .spawn(async { panic!("in a task") })
                    .await?
            }
            Trick::PanicWithABomb => std::panic::panic_any(Bomb),
            Trick::PanicInDrop => {
                let _bomb = Bomb;
                std::future::pending::<()>().await;
            }
            Trick::UnwritableOutput => {
                // JSON has no keys but texts.
                serde_json::to_value(std::collections::HashMap::from([((1, 2), 3)]))?;
            }
            Trick::Sleep => std::future::pending().await,
            Trick::Nap => tokio::time::sleep(Duration::from_millis(50)).await,
            Trick::ReadEvent => return Ok(Outcome::Done(json!(cx.event()?.kind))),
            Trick::Secret => return Ok(Outcome::Done(json!(cx.secret("token").await?.expose()))),
            Trick::Emit => {
                let event = NewEvent::new("com.acme.followed").subject("a/1");
                return Ok(Outcome::Done(json!(cx.emit("one", &event).await?)));
            }
            Trick::Log => {
                let _span = tracing::info_span!("outer", colour = "red", size = 1).entered();
                tracing::warn!(size = 2, ready = true, "of note");
                tracing::debug!("in detail");
                cx.metric("posts", &[("kind", "a")], 2.0);
            }
            Trick::Facts => {
                return Ok(Outcome::Done(json!({
                    "delivery": cx.delivery(), "route": cx.route(), "step": cx.step(), "attempt": cx.attempt(),
                    "key": cx.idempotency_key(), "workdir": cx.workdir()?, "event": cx.event_json().len(),
                    "deadline": cx.deadline().is_some(), "cancelled": cx.is_cancelled(),
                    "thread": std::thread::current().name(), "traceparent": cx.traceparent(),
                })));
            }
            Trick::Count => {
                let count = self.start.kv().get("count").await?.map_or(0, |bytes| bytes[0]);
                self.start.kv().put("count", [count + 1]).await?;
            }
        }
        Ok(Outcome::Done(json!({ "ok": true })))
    }

    async fn shutdown(&self) {
        assert_eq!(
            self.alive.load(Ordering::SeqCst),
            0,
            "no call is alive in the shutdown"
        );
        let _ = self.start.kv().put("shut down", "yes").await;
    }
}

async fn trickster() -> Harness<Trickster> {
    Harness::start(json!({}))
        .await
        .expect("an empty configuration is accepted")
}

fn call(trick: &str) -> Call {
    Call::new(json!({ "trick": trick }))
}

fn report(outcome: Ended, code: Code, message: &str) -> Report {
    Report {
        outcome,
        code,
        output: Value::Null,
        message: message.to_owned(),
        retry_after: None,
    }
}

#[tokio::test]
async fn every_end_of_a_call_is_reported_as_what_it_is() {
    let table = [
        ("skip", report(Ended::Skipped, Code::None, "nothing new")),
        ("fatal", report(Ended::Fatal, Code::None, "gone")),
        ("invalid", report(Ended::Fatal, Code::Invalid, "nonsense")),
        ("ambiguous", report(Ended::Ambiguous, Code::None, "who knows")),
        (
            "std-error",
            report(
                Ended::Retry,
                Code::None,
                "EOF while parsing an object at line 1 column 1",
            ),
        ),
        (
            "unwritable-output",
            report(Ended::Retry, Code::None, "key must be a string"),
        ),
        (
            "panic-at-once",
            report(Ended::Retry, Code::Panic, "the plugin panicked: at once"),
        ),
        (
            "panic-later",
            report(Ended::Retry, Code::Panic, "the plugin panicked: later, 1"),
        ),
        (
            "panic-with-a-bomb",
            report(
                Ended::Retry,
                Code::Panic,
                "the plugin panicked: without a message",
            ),
        ),
    ];
    let trickster = trickster().await;
    for (trick, expected) in table {
        assert_eq!(trickster.call(call(trick)).await, expected, "{trick}");
        // Whatever happened, the instance goes on.
        assert_eq!(
            trickster.call(call("ok")).await.done(),
            json!({ "ok": true }),
            "after {trick}"
        );
    }
    let retry = Report {
        retry_after: Some(Duration::from_millis(1500)),
        ..report(Ended::Retry, Code::None, "busy")
    };
    assert_eq!(trickster.call(call("retry")).await, retry);
    assert!(trickster.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_panic_in_a_spawned_task_is_that_tasks_and_is_logged() {
    let trickster = trickster().await;
    let report = trickster.call(call("panic-in-task")).await;
    assert_eq!(report.outcome, Ended::Retry);
    assert!(report.message.contains("panicked"), "{report:?}");
    let logged = trickster.host().logs();
    let panic = logged
        .iter()
        .find(|log| log.target == "panic")
        .expect("the hook logs it");
    assert_eq!(panic.fields["what"], "in a task");
    assert!(
        panic.fields["location"].as_str().unwrap().contains("battery.rs"),
        "{panic:?}"
    );
}

#[tokio::test]
async fn a_faulty_configuration_names_the_field() {
    let table = [
        (
            json!({ "colour": 1 }),
            Code::Invalid,
            "the configuration does not fit at `colour`: unknown field `colour`, expected `create` or `limits`",
        ),
        (
            json!({ "limits": { "size": "big" } }),
            Code::Invalid,
            "the configuration does not fit at `limits.size`: invalid type: string \"big\", expected u32",
        ),
        (
            json!(7),
            Code::Invalid,
            "the configuration does not fit: invalid type: integer `7`, expected struct Config",
        ),
        (json!({ "create": "retry" }), Code::None, "the service is down"),
        (
            json!({ "create": "panic-later" }),
            Code::Panic,
            "the plugin panicked: in create",
        ),
    ];
    for (config, code, message) in table {
        let refused = Harness::<Trickster>::start(config).await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (code, message));
    }
}

#[tokio::test]
async fn a_faulty_input_names_the_field_and_ends_the_call() {
    let trickster = trickster().await;
    let report = trickster.call(Call::new(json!({ "trick": 7 }))).await;
    assert_eq!((report.outcome, report.code), (Ended::Fatal, Code::Invalid));
    assert!(
        report.message.starts_with("the input does not fit at `trick`: "),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_call_sees_what_it_is_about() {
    let trickster = trickster().await;
    let call = call("facts").attempt(3).key("dlv_1/post").event_bytes("{}");
    assert_eq!(
        trickster.call(call).await.done(),
        json!({
            "delivery": "dlv_0000000000000000000000test", "route": "test", "step": "step", "attempt": 3, "key": "dlv_1/post",
            "workdir": trickster.workdir(), "event": 2, "deadline": true, "cancelled": false,
            "thread": "plug-trickster", "traceparent": "",
        })
    );
    assert!(trickster.workdir().is_dir());
}

#[tokio::test]
async fn the_event_is_read_when_it_is_asked_for() {
    let trickster = trickster().await;
    let kind = trickster.call(call("read-event")).await.done();
    assert_eq!(kind, "io.supernova.job.success");
    for json in ["", "{", "[]", r#"{"id":7}"#] {
        let report = trickster.call(call("read-event").event_bytes(json)).await;
        assert_eq!(
            (report.outcome, report.code),
            (Ended::Fatal, Code::Invalid),
            "{json}"
        );
        assert_eq!(
            trickster.call(call("ok").event_bytes(json)).await.outcome,
            Ended::Done,
            "{json}"
        );
    }
}

#[tokio::test]
async fn a_cancelled_call_is_dropped_and_reported() {
    let trickster = trickster().await;
    for trick in ["sleep", "panic-in-drop"] {
        let report = trickster
            .call(call(trick).cancel_after(Duration::from_millis(1)))
            .await;
        assert_eq!(
            (report.outcome, report.code),
            (Ended::Retry, Code::Cancelled),
            "{trick}"
        );
    }
    let report = trickster
        .call(call("sleep").deadline(Duration::from_millis(1)))
        .await;
    assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Cancelled));
    // The shutdown asserts that no future is left alive.
    assert!(trickster.shutdown(Duration::from_secs(60)).await);
}

/// Needs its time when it is cancelled.
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
        assert!(!cx.is_cancelled(), "it does not begin canceled");
        cx.kv().put("begun", "yes").await?;
        cx.cancelled().await;
        assert!(cx.is_cancelled(), "the future and the flag agree");
        cx.kv().delete("begun").await?;
        Err(Error::cancelled("tidied up"))
    }
}

#[tokio::test]
async fn a_call_that_asks_for_grace_may_tidy_up() {
    let tidy = Harness::<Tidy>::start(json!({})).await.unwrap();
    let host = tidy.host();
    host.hold(HostCall::KvPut);
    let running = tidy.begin(Call::new(json!({})));
    host.held(HostCall::KvPut, 1).await;
    running.cancel();
    running.cancel();
    host.release(HostCall::KvPut);
    assert_eq!(
        running.end().await,
        report(Ended::Retry, Code::Cancelled, "tidied up")
    );
    assert!(host.kv().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_test_whose_own_time_leaps_takes_none_from_a_call() {
    let trickster = trickster().await;
    assert_eq!(trickster.call(call("nap")).await.outcome, Ended::Done);
}

#[tokio::test]
async fn a_storm_of_cancellations_ends_every_call_once() {
    let trickster = trickster().await;
    let running: Vec<_> = (0..200).map(|_| trickster.begin(call("sleep"))).collect();
    for call in &running {
        call.cancel();
        call.cancel();
    }
    for call in running {
        assert_eq!(call.end().await.code, Code::Cancelled);
    }
    assert!(trickster.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn an_abandoned_call_still_ends_once() {
    let trickster = trickster().await;
    for _ in 0..20 {
        drop(trickster.begin(call("sleep")));
        drop(trickster.begin(call("ok")));
    }
    // The shutdown counts.
    assert!(trickster.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn three_hundred_calls_run_at_once() {
    let host = TestHost::new();
    host.hold(HostCall::KvGet);
    let trickster = Harness::<Trickster>::start_on(&host, json!({})).await.unwrap();
    let running: Vec<_> = (0..300).map(|_| trickster.begin(call("count"))).collect();
    host.held(HostCall::KvGet, 300).await;
    host.release(HostCall::KvGet);
    for call in running {
        call.end().await.done();
    }
    assert!(trickster.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_shutdown_ends_the_calls_in_flight_and_then_the_instance() {
    let trickster = trickster().await;
    let host = trickster.host().clone();
    let running: Vec<_> = (0..10).map(|_| trickster.begin(call("sleep"))).collect();
    assert!(trickster.shutdown(Duration::from_secs(60)).await);
    for call in running {
        let report = call.end().await;
        assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Shutdown));
    }
    assert_eq!(host.kv()["shut down"], b"yes");
}

#[tokio::test]
async fn replies_may_come_before_the_request_has_returned() {
    let host = TestHost::new();
    host.reply_inline();
    let trickster = Harness::<Trickster>::start_on(&host, json!({})).await.unwrap();
    trickster.call(call("count")).await.done();
    trickster.call(call("count")).await.done();
    assert_eq!(host.kv()["count"], [2]);
    assert_eq!(host.kv()["created"], b"yes");
}

#[tokio::test]
async fn secrets_and_follow_up_events_come_from_the_host() {
    let trickster = trickster().await;
    let host = trickster.host().clone();
    let report = trickster.call(call("secret")).await;
    assert_eq!((report.outcome, report.code), (Ended::Fatal, Code::Invalid));
    assert!(report.message.contains("`token`"), "{report:?}");
    host.set_secret("token", "hunter2");
    assert_eq!(trickster.call(call("secret")).await.done(), "hunter2");

    let first = trickster.call(call("emit").key("a")).await.done();
    assert_eq!(
        trickster.call(call("emit").key("a").attempt(2)).await.done(),
        first
    );
    assert_ne!(trickster.call(call("emit").key("b")).await.done(), first);
    let events = host.emitted();
    assert_eq!(events.len(), 2);
    assert_eq!(
        events[0].event,
        json!({ "type": "com.acme.followed", "subject": "a/1", "data": {} })
    );

    host.fail(HostCall::Emit, 1);
    let report = trickster.call(call("emit")).await;
    assert_eq!(report.outcome, Ended::Retry);
    assert_eq!(report.message, "raising the event `one`: the test has Emit fail");
}

#[tokio::test]
async fn messages_reach_the_host_with_the_fields_of_their_spans() {
    let trickster = trickster().await;
    trickster.call(call("log")).await.done();
    let logs: Vec<_> = trickster
        .host()
        .logs()
        .into_iter()
        .filter(|log| log.target.starts_with("battery"))
        .collect();
    assert_eq!(logs[0].message, "of note");
    assert_eq!(logs[0].level, tracing::Level::WARN);
    assert_eq!(
        logs[0].fields,
        json!({ "span": "outer", "colour": "red", "size": 2, "ready": true })
    );
    assert!(logs[0].in_call);
    assert_eq!((logs.len(), logs[1].message.as_str()), (2, "in detail"));
    assert!((trickster.host().metric("posts") - 2.0).abs() < f64::EPSILON);

    trickster.host().set_log_level(Some(tracing::Level::WARN));
    trickster.call(call("log")).await.done();
    trickster.host().set_log_level(None);
    trickster.call(call("log")).await.done();
    let logs = trickster.host().logs();
    assert_eq!(logs.iter().filter(|log| log.message == "of note").count(), 2);
    assert_eq!(logs.iter().filter(|log| log.message == "in detail").count(), 1);
}

#[tokio::test]
async fn an_instance_that_blocks_for_ever_is_reported_as_stuck_and_left_alone() {
    struct Stone;

    #[async_trait]
    impl Plugin for Stone {
        type Config = Empty;
        type Input = Empty;
        type Output = ();
        const NAME: &'static str = "stone";
        const VERSION: &'static str = "1.0.0";

        async fn create(_: Empty, _: Start) -> Result<Self> {
            Ok(Self)
        }

        async fn call(&self, _: Empty, cx: &Cx) -> Result<Outcome<()>> {
            cx.metric("turned_to_stone", &[], 1.0);
            loop {
                std::thread::park();
            }
        }
    }

    let stone = Harness::<Stone>::start(json!({})).await.unwrap();
    let running = stone.begin(Call::new(json!({})));
    let host = stone.host().clone();
    while host.metrics().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!stone.shutdown(Duration::ZERO).await, "nothing can end it");
    assert!(!running.has_ended(), "and nobody says that it has ended");
}

#[test]
fn the_manifest_comes_from_the_types() {
    let manifest = Harness::<Trickster>::manifest();
    assert_eq!(manifest["name"], "trickster");
    assert_eq!(manifest["version"], "1.2.3");
    assert_eq!(manifest["description"], "Does what it is told");
    assert_eq!(manifest["capabilities"], json!(["action"]));
    assert_eq!(manifest["config_schema"]["additionalProperties"], false);
    assert_eq!(manifest["input_schema"]["required"], json!(["trick"]));
    assert!(manifest["output_schema"].is_boolean() || manifest["output_schema"].is_object());
    assert!(manifest.get("docs").is_none());
}
