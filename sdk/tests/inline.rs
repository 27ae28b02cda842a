//! Calls that begin on the thread that brings them.

use std::{thread, time::Duration};

use jackfield_sdk::{
    prelude::*,
    testing::{Call, Code, Ended, Harness, Report, TestHost},
    tokio::{self, runtime::Handle, sync::Notify, task::yield_now, time::sleep},
    tracing,
};

/// What a call does before it tells where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum First {
    Nothing,
    Yield,
    AskTheHost,
    WaitForATask,
    WaitForAnother,
    Wake,
    SleepForADay,
    WaitForEver,
    Log,
    Panic,
}

/// Begins each call where it comes from.
#[derive(Default)]
struct Quick(Notify);

#[async_trait]
impl Plugin for Quick {
    type Config = Empty;
    type Input = First;
    type Output = String;
    const NAME: &'static str = "quick";
    const VERSION: &'static str = "1.0.0";
    const INLINE: bool = true;

    async fn create(_: Empty, _: Start) -> Result<Self> {
        Ok(Self::default())
    }

    async fn call(&self, first: First, cx: &Cx) -> Result<Outcome<String>> {
        match first {
            First::Nothing => {}
            First::Yield => yield_now().await,
            First::AskTheHost => drop(cx.kv().get("key").await?),
            First::WaitForATask => Handle::current().spawn(yield_now()).await?,
            First::WaitForAnother => self.0.notified().await,
            First::Wake => self.0.notify_one(),
            First::SleepForADay => sleep(Duration::from_secs(24 * 3600)).await,
            First::WaitForEver => std::future::pending().await,
            First::Log => tracing::info!(first = 1, "on the way"),
            First::Panic => panic!("at once"),
        }
        Ok(Outcome::Done(here()))
    }
}

/// The thread that this runs on.
fn here() -> String {
    format!("{:?}", thread::current().id())
}

async fn quick() -> Harness<Quick> {
    Harness::start(json!({}))
        .await
        .expect("it takes no configuration")
}

fn call(first: First) -> Call {
    Call::new(json!(first))
}

#[tokio::test]
async fn a_call_that_waits_for_nothing_ends_where_it_began() {
    let quick = quick().await;
    for _ in 0..100 {
        let running = quick.begin(call(First::Nothing));
        assert!(running.has_ended(), "before the thread does anything else");
        assert_eq!(running.end().await.done(), here());
    }
    assert!(quick.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_call_that_waits_goes_on_with_the_instance() {
    let quick = quick().await;
    assert_ne!(quick.call(call(First::Yield)).await.done(), here());
    // It waits when the next one begins, since that is where it stopped.
    let waiting = quick.begin(call(First::WaitForAnother));
    assert_eq!(quick.call(call(First::Wake)).await.done(), here());
    assert_ne!(waiting.end().await.done(), here());
    assert!(quick.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_call_that_began_here_asks_the_host_and_has_tasks_as_any_other() {
    let quick = quick().await;
    for first in [First::AskTheHost, First::WaitForATask] {
        // Where it ends is a matter of who is quicker: an answer that is there already is not waited for.
        quick.call(call(first)).await.done();
    }
    assert!(quick.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_call_that_waits_is_woken_from_wherever_that_is() {
    let quick = quick().await;
    for _ in 0..100 {
        let waiting = quick.begin(call(First::WaitForAnother));
        quick.call(call(First::Wake)).await.done();
        waiting.end().await.done();
    }
}

#[tokio::test]
async fn a_call_that_waits_is_canceled_as_any_other() {
    let quick = quick().await;
    let running = quick.begin(call(First::WaitForEver));
    running.cancel();
    let Report { outcome, code, .. } = running.end().await;
    assert_eq!((outcome, code), (Ended::Retry, Code::Cancelled));
}

#[tokio::test]
async fn the_end_of_the_instance_ends_what_waits() {
    let quick = quick().await;
    let running = quick.begin(call(First::WaitForEver));
    assert!(quick.shutdown(Duration::from_secs(60)).await);
    assert_eq!(running.end().await.code, Code::Shutdown);
}

#[tokio::test]
async fn a_panic_where_a_call_began_is_contained_and_told() {
    let quick = quick().await;
    let report = quick.call(call(First::Panic)).await;
    assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Panic));
    assert!(report.message.contains("at once"), "{report:?}");
    let logs = quick.host().logs();
    let told = logs.iter().find(|log| log.message == "the plugin panicked");
    assert!(told.is_some_and(|told| told.in_call), "{logs:?}");
    // A panic of the thread's own is not the plugin's.
    let own = std::panic::catch_unwind(|| panic!("the test's own"));
    assert!(own.is_err());
    assert_eq!(quick.host().logs().len(), logs.len());
    quick.call(call(First::Nothing)).await.done();
}

#[tokio::test]
async fn what_is_logged_where_a_call_began_is_the_calls_and_what_the_thread_logs_besides_is_not() {
    let quick = quick().await;
    quick.call(call(First::Log)).await.done();
    tracing::info!("the test's own");
    let logs = quick.host().logs();
    let [line] = &logs[..] else { panic!("{logs:?}") };
    assert_eq!((line.message.as_str(), line.in_call), ("on the way", true));
    assert_eq!(line.fields, json!({ "first": 1 }));
}

#[tokio::test]
async fn a_call_that_is_cut_off_at_each_await_waits_no_oftener_than_another() {
    let quick = quick().await;
    for (first, awaits) in [(First::Nothing, 0), (First::Yield, 1), (First::AskTheHost, 1)] {
        let (times, whole) = quick.cancel_at_each_await(call(first), async |_| {}).await;
        assert_eq!((times, whole.outcome), (awaits, Ended::Done), "{first:?}");
    }
}

#[tokio::test]
async fn time_that_the_test_keeps_is_the_time_of_calls_that_begin_here() {
    let host = TestHost::new();
    let quick = Harness::<Quick>::start_paused(&host, json!({})).await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    let running = quick.begin(call(First::SleepForADay).deadline(2 * day));
    quick.advance(day - Duration::from_secs(1)).await;
    assert!(!running.has_ended());
    assert_eq!(running.end().await.outcome, Ended::Done);
}
