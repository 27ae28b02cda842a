//! Calls of plugins that do not keep to the ABI, and of those that keep their callers' threads.

use std::{sync::Arc, time::Duration};

use jackfield::{delivery::Outcome, reason::Reason};
use serde_json::json;
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;

use crate::{
    battery::check,
    built::Build,
    trial::{Trial, log, logged, want},
};

#[tokio::test]
async fn a_call_that_heeds_nothing_is_counted() {
    for build in [Build::RUST, Build::C] {
        let trial = Trial::of(build).await;
        let impatient = trial.impatient().await;
        let call = trial.call("deaf");
        let cancelled = call.cancelled.clone();
        let (report, ()) = tokio::join!(impatient.call(call), async {
            trial.host.waits(1).await;
            cancelled.cancel();
        });
        assert_eq!(report.outcome, Outcome::Retry);
        assert_eq!(impatient.stuck(), 1);
        assert_eq!(impatient.call(trial.call("wake")).await.outcome, Outcome::Done);
        while impatient.stuck() > 0 {
            tokio::task::yield_now().await;
        }
        impatient.shutdown(Duration::from_secs(60)).await;
    }
}

#[tokio::test]
async fn a_message_that_is_not_utf8_is_mended() {
    let trial = Trial::of(Build::C).await;
    let report = trial.act("mangled").await;
    check(&report, Outcome::Fatal, Reason::PluginFatal, "a\u{fffd}b");
}

#[tokio::test]
async fn a_line_has_the_fields_of_the_spans_that_the_plugin_logged_it_in() {
    log();
    for trial in [
        Trial::of(Build::RUST).await,
        Trial::in_a_worker(Build::RUST).await,
    ] {
        let before = logged().len();
        trial.output("log-within").await;
        let logged = logged().split_off(before);
        let line = logged.lines().find(|line| line.contains("a line within"));
        let line = line.unwrap_or_else(|| panic!("{logged}"));
        for part in [
            r#"commit\":\"abc"#,
            r#"files\":3"#,
            r#"part\":4"#,
            r#"span\":\"publish:upload"#,
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}

#[tokio::test]
async fn what_is_logged_is_what_is_wanted_at_present() {
    for build in [Build::RUST, Build::C] {
        for trial in [Trial::of(build).await, Trial::in_a_worker(build).await] {
            for (level, expected) in [
                (LevelFilter::WARN, [true, false]),
                (LevelFilter::TRACE, [true, true]),
                (LevelFilter::ERROR, [false, false]),
            ] {
                want(level);
                let before = logged().len();
                trial.act("log").await;
                let logged = logged().split_off(before);
                let found =
                    ["a line of commit", "a line that nobody wants"].map(|line| logged.contains(line));
                assert_eq!(found, expected, "{level}: {logged}");
            }
        }
    }
}

#[tokio::test]
async fn a_second_end_of_a_call_is_an_error_that_does_no_harm() {
    log();
    for trial in [Trial::of(Build::C).await, Trial::in_a_worker(Build::C).await] {
        let before = logged().len();
        assert_eq!(trial.output("twice").await, json!(1));
        // The plugin's thread goes on after the first end; when the instance has ended, it has, too.
        trial.registry.shutdown(Duration::from_secs(60)).await;
        let logged = logged().split_off(before);
        let errors = logged.matches("plugin ended a call that is not, or no longer, running");
        assert_eq!(errors.count(), 2, "{logged}");
    }
}

#[tokio::test]
async fn results_that_make_no_sense_are_fatal_and_say_so() {
    let trial = Trial::of(Build::C).await;
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
    let trial = Trial::of(Build::C).await;
    assert_eq!(trial.output("stranger").await, "refused");
}

#[tokio::test]
async fn a_plugin_that_blocks_its_caller_is_called_on_threads_of_its_own() {
    let trial = Trial::of(Build::C).await;
    for _ in 0..3 {
        assert_eq!(trial.act("slow").await.outcome, Outcome::Done);
    }
    // Would never end if it blocked the only thread of this test.
    let (blocked, woken) = tokio::join!(trial.act("squat"), trial.act("wake"));
    assert_eq!((blocked.outcome, woken.outcome), (Outcome::Done, Outcome::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_keeps_its_thread_keeps_no_other_task_from_running() {
    let trial = Arc::new(Trial::of(Build::C).await);
    let act = |action| {
        let trial = Arc::clone(&trial);
        async move { trial.act(action).await.outcome }
    };
    let (mut blocked, mut wakes) = (JoinSet::new(), JoinSet::new());
    let blocking = blocked.spawn(act("squat"));
    // The first of these to begin after the blocked call ends it. None would ever begin if the only worker of the
    // runtime stayed in that call.
    while !blocking.is_finished() {
        wakes.spawn(act("wake"));
        assert_eq!(wakes.join_next().await.unwrap().unwrap(), Outcome::Done);
    }
    assert_eq!(blocked.join_next().await.unwrap().unwrap(), Outcome::Done);
}
