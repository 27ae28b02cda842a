//! Calls, whatever comes of them. Each test runs for a plugin in Rust and for one in C, in process and in a worker.

use std::{sync::Arc, time::Duration};

use jackfield::{
    delivery::Outcome,
    plugin::{Caller as _, Report},
    reason::Reason,
};
use jackfield_sdk::testing::event;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::trial::{Language, Trial, log, logged};

/// In both languages, and both in this process and in one of its own.
macro_rules! everywhere {
    ($($(#[$attribute:meta])* async fn $name:ident($trial:ident: Trial) $body:block)+) => {
        $(mod $name {
            use super::*;

            #[tokio::test]
            async fn in_rust() {
                run(Trial::of(Language::Rust).await).await;
            }

            #[tokio::test]
            async fn in_c() {
                run(Trial::of(Language::C).await).await;
            }

            #[tokio::test]
            async fn in_rust_in_a_worker() {
                run(Trial::in_a_worker(Language::Rust).await).await;
            }

            #[tokio::test]
            async fn in_c_in_a_worker() {
                run(Trial::in_a_worker(Language::C).await).await;
            }

            async fn run($trial: Trial) $body
        })+
    };
}

#[track_caller]
pub(crate) fn check(report: &Report, outcome: Outcome, reason: Reason, message: &str) {
    assert_eq!(
        (report.outcome, report.reason),
        (outcome, Some(reason)),
        "{report:?}"
    );
    let said = report.message.as_deref().unwrap_or_default();
    assert!(said.contains(message), "`{said}` should contain `{message}`");
}

everywhere! {
    async fn a_call_gets_all_that_it_is_about(trial: Trial) {
        let delivery = trial.call("done").delivery.to_string();
        let expected = json!({
            "delivery": delivery, "route": "tokens", "step": "commit", "attempt": 3, "key": "dlv/done"
        });
        assert_eq!(trial.output("done").await, expected);
        let trace = std::fs::read_to_string(trial.bench.path("work/trace")).unwrap();
        assert_eq!(trace, event().kind);
    }

    async fn every_outcome_comes_back(trial: Trial) {
        check(&trial.act("skip").await, Outcome::Skipped, Reason::PluginSkipped, "nothing to do");
        check(&trial.act("fatal").await, Outcome::Fatal, Reason::PluginFatal, "never");
        check(&trial.act("invalid").await, Outcome::Fatal, Reason::InputInvalid, "not like this");
        check(&trial.act("ambiguous").await, Outcome::Ambiguous, Reason::PluginAmbiguous, "who knows");
        let retry = trial.act("retry").await;
        check(&retry, Outcome::Retry, Reason::PluginRetry, "not now");
        assert_eq!(retry.retry_after, Some(Duration::from_millis(1500)));
    }

    async fn a_panic_is_an_outcome_and_the_instance_goes_on(trial: Trial) {
        for _ in 0..3 {
            check(&trial.act("panic").await, Outcome::Retry, Reason::PluginPanicked, "on purpose");
        }
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn a_call_that_is_not_wanted_any_more_is_asked_to_end(trial: Trial) {
        let call = trial.call("wait");
        let cancelled = call.cancelled.clone();
        let (report, ()) = tokio::join!(trial.make(call), async { cancelled.cancel() });
        // It may have been canceled before it began.
        check(&report, Outcome::Retry, Reason::Interrupted, "");
    }

    async fn a_call_past_its_deadline_is_asked_to_end(trial: Trial) {
        let mut call = trial.call("wait");
        call.deadline = Instant::now() + Duration::from_millis(20);
        // It may not have come to begin.
        check(&trial.make(call).await, Outcome::Retry, Reason::TimedOut, "");
    }

    async fn a_call_that_is_dropped_is_asked_to_end(trial: Trial) {
        {
            let call = trial.make(trial.call("wait"));
            let mut call = std::pin::pin!(call);
            assert!(futures_poll(call.as_mut()).is_none());
        }
        // Its end is what the end of the instance waits for.
        trial.registry.shutdown(Duration::from_secs(60)).await;
        check(&trial.act("done").await, Outcome::Retry, Reason::Interrupted, "shut down");
    }

    async fn three_hundred_calls_run_at_the_same_time(trial: Trial) {
        let mut calls = JoinSet::new();
        for number in 0..300 {
            let mut call = trial.call(if number % 3 == 0 { "keep" } else { "done" });
            call.idempotency_key = format!("dlv/{number}");
            let caller = trial.instance.caller.clone();
            calls.spawn(async move { (number, caller.call(call).await) });
        }
        for (number, report) in calls.join_all().await {
            assert_eq!(report.outcome, Outcome::Done, "{report:?}");
            let output: serde_json::Value = serde_json::from_slice(&report.output.unwrap()).unwrap();
            if number % 3 != 0 {
                assert_eq!(output["key"], format!("dlv/{number}"));
            }
        }
    }

    async fn the_host_keeps_values(trial: Trial) {
        assert_eq!(trial.output("keep").await, json!({ "kept": "17", "gone": true }));
        assert!(trial.host.kept().values.is_empty());
    }

    async fn the_host_keeps_the_receipt_of_a_step_from_one_attempt_to_the_next(trial: Trial) {
        for expected in ["absent", "intended", "done", "done"] {
            assert_eq!(trial.output("receipt").await, expected);
        }
        let keys: Vec<_> = trial.host.kept().receipts.keys().cloned().collect();
        assert_eq!(keys, ["trial/dlv/receipt"]);
    }

    async fn secrets_are_had_by_their_names(trial: Trial) {
        assert_eq!(trial.output("secret").await, json!({ "same": true, "missing": true }));
    }

    async fn events_are_raised_under_a_key_of_their_own(trial: Trial) {
        assert_eq!(trial.output("emit").await, "evt_emitted");
        let emitted = trial.host.kept().emitted.clone();
        let (key, event) = emitted.first_key_value().unwrap();
        assert_eq!(key, "trial/dlv/emit/first");
        let event: serde_json::Value = serde_json::from_slice(event).unwrap();
        assert_eq!(event["type"], "com.example.trial");
    }

    async fn logs_and_metrics_arrive_with_the_instance_they_are_of(trial: Trial) {
        log();
        trial.output("log").await;
        let logged = logged();
        let line = logged.lines().find(|line| line.contains("a line of commit")).unwrap();
        for part in ["WARN", "plugin=\"trial\"", "instance=\"trial\"", "kind"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!logged.contains("nobody wants"));
        let expected = ("trial".to_owned(), "trials_total".to_owned(), vec![("kind".to_owned(), "log".to_owned())], 2.0);
        assert_eq!(trial.host.kept().metrics, [expected]);
    }
}

#[tokio::test]
async fn a_call_that_heeds_nothing_is_left_alone_and_counted() {
    for language in [Language::Rust, Language::C] {
        let trial = Trial::of(language).await;
        let impatient = trial.impatient().await;
        let call = trial.call("deaf");
        let cancelled = call.cancelled.clone();
        let (report, ()) = tokio::join!(impatient.call(call), async {
            trial.host.counted.notified().await;
            cancelled.cancel();
        });
        check(
            &report,
            Outcome::Retry,
            Reason::Interrupted,
            "and not within 0ns after that either",
        );
        assert_eq!(impatient.stuck(), 1);
        assert_eq!(impatient.call(trial.call("wake")).await.outcome, Outcome::Done);
        while impatient.stuck() > 0 {
            tokio::task::yield_now().await;
        }
        impatient.shutdown(Duration::from_secs(60)).await;
    }
}

/// Polls a future once.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_second_end_of_a_call_is_an_error_that_does_no_harm() {
    log();
    let trial = Trial::of(Language::C).await;
    assert_eq!(trial.output("twice").await, json!(1));
    // The plugin's thread goes on after the first end; when the instance has ended, it has, too.
    trial.registry.shutdown(Duration::from_secs(60)).await;
    let errors = logged()
        .matches("plugin ended a call that is not, or no longer, running")
        .count();
    assert_eq!(errors, 2);
}

#[tokio::test]
async fn results_that_make_no_sense_are_fatal_and_say_so() {
    let trial = Trial::of(Language::C).await;
    for (act, message) in [
        (
            "short",
            "its result cannot be read: its struct_size is 8, not at least",
        ),
        ("null", "its result cannot be read: the pointer is NULL"),
        ("garbled", "its output is not JSON"),
        (
            "unknown",
            "reported the outcome 99, which there is not: an outcome of my own",
        ),
    ] {
        check(
            &trial.act(act).await,
            Outcome::Fatal,
            Reason::PluginFatal,
            message,
        );
    }
}

#[tokio::test]
async fn a_call_may_not_ask_in_the_name_of_another() {
    let trial = Trial::of(Language::C).await;
    assert_eq!(trial.output("stranger").await, "refused");
}

#[tokio::test]
async fn a_plugin_that_blocks_its_caller_is_called_on_threads_of_its_own() {
    let trial = Trial::of(Language::C).await;
    for _ in 0..3 {
        assert_eq!(trial.act("slow").await.outcome, Outcome::Done);
    }
    // Would never end if it blocked the only thread of this test.
    let (blocked, woken) = tokio::join!(trial.act("block"), trial.act("wake"));
    assert_eq!((blocked.outcome, woken.outcome), (Outcome::Done, Outcome::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_keeps_its_thread_keeps_no_other_task_from_running() {
    let trial = Arc::new(Trial::of(Language::C).await);
    let act = |action| {
        let trial = Arc::clone(&trial);
        async move { trial.act(action).await.outcome }
    };
    let (mut blocked, mut wakes) = (JoinSet::new(), JoinSet::new());
    let blocking = blocked.spawn(act("block"));
    // The first of these to begin after the blocked call ends it. None would ever begin if the only worker of the
    // runtime stayed in that call.
    while !blocking.is_finished() {
        wakes.spawn(act("wake"));
        assert_eq!(wakes.join_next().await.unwrap().unwrap(), Outcome::Done);
    }
    assert_eq!(blocked.join_next().await.unwrap().unwrap(), Outcome::Done);
}
