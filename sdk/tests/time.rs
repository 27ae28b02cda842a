//! Instances whose time the test keeps.

use std::time::Duration;

use jackfield_sdk::{
    prelude::*,
    serde_json::Value,
    testing::{Call, Code, Ended, Harness, HostCall, TestHost},
    tokio::{
        self,
        time::{interval, sleep, timeout},
    },
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Takes its time for all that it does.
struct Sleeper;

#[async_trait]
impl Plugin for Sleeper {
    type Config = Value;
    type Input = Value;
    type Output = Value;
    const NAME: &'static str = "sleeper";
    const VERSION: &'static str = "1.0.0";

    async fn create(_: Value, start: Start) -> Result<Self> {
        sleep(HOUR).await;
        let poll = async move {
            loop {
                sleep(SECOND).await;
                start.metric("polls", &[], 1.0);
            }
        };
        drop(tokio::runtime::Handle::current().spawn(poll));
        Ok(Self)
    }

    async fn call(&self, input: Value, cx: &Cx) -> Result<Outcome<Value>> {
        match input["do"].as_str().unwrap_or_default() {
            "sleep" => sleep(DAY).await,
            "tick" => {
                let mut ticks = interval(SECOND);
                loop {
                    ticks.tick().await;
                    cx.metric("ticks", &[], 1.0);
                }
            }
            "try" => {
                for pause in [2, 4, 8, 16] {
                    if timeout(HOUR, cx.kv().get("ready"))
                        .await
                        .is_ok_and(|got| got.is_ok())
                    {
                        break;
                    }
                    sleep(Duration::from_secs(pause)).await;
                }
            }
            "forget" => {
                let _ = cx.kv().get("forgotten").await;
            }
            "look" => {
                return Ok(Outcome::Done(json!(
                    cx.time_left().map(|left| left.as_secs_f64().ceil())
                )));
            }
            _ => {}
        }
        Ok(Outcome::Done(json!("done")))
    }

    async fn shutdown(&self) {
        sleep(HOUR).await;
    }
}

async fn sleeper() -> Harness<Sleeper> {
    Harness::start_paused(&TestHost::new(), json!({}))
        .await
        .expect("an empty configuration is accepted")
}

fn call(what: &str) -> Call {
    Call::new(json!({ "do": what })).deadline(2 * DAY)
}

#[track_caller]
fn stands_at(host: &TestHost, metric: &str, value: f64) {
    assert!(
        (host.metric(metric) - value).abs() < f64::EPSILON,
        "{metric}: {}",
        host.metric(metric)
    );
}

#[tokio::test]
async fn a_day_of_sleep_and_an_hour_before_and_after_it_take_no_time() {
    let sleeper = sleeper().await;
    assert_eq!(sleeper.call(call("sleep")).await.done(), "done");
    assert!(sleeper.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn time_stands_still_until_it_is_advanced_and_then_passes_in_order() {
    let sleeper = sleeper().await;
    let host = sleeper.host();
    let running = sleeper.begin(call("tick"));
    sleeper.advance(Duration::from_millis(2500)).await;
    stands_at(host, "ticks", 3.0);
    sleeper.advance(HOUR).await;
    stands_at(host, "ticks", 3603.0);
    stands_at(host, "polls", 3602.0);
    running.cancel();
    assert_eq!(running.end().await.code, Code::Cancelled);
    stands_at(host, "ticks", 3603.0);
}

#[tokio::test]
async fn an_instance_does_nothing_between_its_calls_while_time_stands_still() {
    let sleeper = sleeper().await;
    stands_at(sleeper.host(), "polls", 0.0);
    for _ in 0..50 {
        sleeper.call(call("nothing")).await.done();
    }
    stands_at(sleeper.host(), "polls", 0.0);
    sleeper.advance(10 * SECOND).await;
    stands_at(sleeper.host(), "polls", 10.0);
}

#[tokio::test]
async fn a_deadline_is_a_moment_of_the_instances_own_time() {
    let sleeper = sleeper().await;
    sleeper.advance(DAY).await;
    assert_eq!(sleeper.call(call("look").deadline(HOUR)).await.done(), 3600.0);

    let running = sleeper.begin(call("sleep").deadline(HOUR));
    sleeper.advance(HOUR - SECOND).await;
    assert!(!running.has_ended());
    let report = running.end().await;
    assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Cancelled));

    let report = sleeper.call(call("sleep").cancel_after(HOUR)).await;
    assert_eq!(report.code, Code::Cancelled);
    assert_eq!(
        sleeper.call(call("sleep").cancel_after(2 * DAY)).await.done(),
        "done"
    );
}

#[tokio::test]
async fn attempts_of_the_plugins_own_come_without_their_pauses() {
    let sleeper = sleeper().await;
    sleeper.host().fail(HostCall::KvGet, 3);
    assert_eq!(sleeper.call(call("try")).await.done(), "done");
    assert_eq!(
        sleeper
            .host()
            .asked()
            .iter()
            .filter(|asked| asked.kind() == Some(HostCall::KvGet))
            .count(),
        4
    );
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_waited_for_until_the_deadline() {
    let sleeper = sleeper().await;
    sleeper.host().hold(HostCall::KvGet);
    let report = sleeper.call(call("forget")).await;
    assert_eq!(report.code, Code::Cancelled);
}

#[tokio::test]
async fn a_crash_and_a_drop_do_not_wait_for_time_to_pass() {
    let one = sleeper().await;
    let running = one.begin(call("sleep"));
    one.crash().await;
    assert_eq!(running.end().await.code, Code::Shutdown);
    drop(sleeper().await);
}
