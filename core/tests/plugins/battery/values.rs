//! What goes in and what comes out.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, time::Duration};

use bytes::Bytes;
use jackfield::{delivery::Outcome, plugin::StepCall, reason::Reason};
use jackfield_sdk::testing::event;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::check;
use crate::{built::Build, trial::Trial};

/// What the plugin measures of so many `x`.
fn measure_of(length: usize) -> Value {
    json!([length, length * usize::from(b'x')])
}

everywhere! {
    async fn a_call_gets_all_that_it_is_about(trial: Trial) {
        let delivery = trial.call("done").delivery.to_string();
        let expected = json!({
            "delivery": delivery, "route": "tokens", "step": "commit", "attempt": 3, "key": "dlv/done"
        });
        assert_eq!(trial.output("done").await, expected);
        let trace = std::fs::read_to_string(trial.bench.path("data/work/trace")).unwrap();
        assert_eq!(trace, event().kind);
    }

    async fn names_of_any_script_arrive(trial: Trial) {
        let call = StepCall {
            route: "маршрут".to_owned(),
            step: "étape".to_owned(),
            attempt: u32::MAX,
            idempotency_key: "dlv/🦀".to_owned(),
            ..trial.call("done")
        };
        let expected = json!({
            "delivery": call.delivery.to_string(), "route": "маршрут", "step": "étape", "attempt": u32::MAX,
            "key": "dlv/🦀"
        });
        assert_eq!(trial.output_of(call).await, expected);
    }

    async fn a_work_directory_of_any_name_is_made(trial: Trial) {
        let mut name = trial.bench.path("data/work/of-").into_os_string().into_vec();
        name.extend(b"\xff of nobody");
        let workdir = std::path::PathBuf::from(OsString::from_vec(name));
        trial.output_of(StepCall { workdir: workdir.clone(), ..trial.call("done") }).await;
        assert!(workdir.join("trace").is_file());
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

    async fn a_value_comes_back_as_it_was(trial: Trial) {
        let mut deep = json!("the end");
        for _ in 0..60 {
            deep = json!([deep]);
        }
        for value in [
            json!(null),
            json!([]),
            json!({ "": { "a": [1, -2, u64::MAX, i64::MIN, 0.5, true] } }),
            json!("quotes \" and \\ and / and \u{0} and \n and 日本 and 🦀"),
            deep,
        ] {
            let call = trial.call_with(&json!({ "act": "echo", "value": value }));
            assert_eq!(trial.output_of(call).await, value);
        }
    }

    async fn a_large_event_arrives_whole(trial: Trial) {
        let event = Bytes::from(vec![b'x'; 8 << 20]);
        let output = trial.output_of(StepCall { event, ..trial.call("measure") }).await;
        assert_eq!(output, json!({ "event": measure_of(8 << 20), "text": [0, 0] }));
    }

    async fn a_large_input_arrives_whole(trial: Trial) {
        let call = trial.call_with(&json!({ "act": "measure", "text": "x".repeat(4 << 20) }));
        let output = trial.output_of(call).await;
        assert_eq!(output["text"], measure_of(4 << 20));
    }

    async fn a_large_output_comes_back_whole(trial: Trial) {
        // With its quotes it is as long as it may be.
        let size = (1 << 20) - 2;
        let output = trial.output_of(trial.call_with(&json!({ "act": "large", "size": size }))).await;
        assert_eq!(output.as_str().unwrap(), "a".repeat(size));
    }

    async fn an_output_that_is_too_large_is_fatal_and_measured(trial: Trial) {
        let report = trial.make(trial.call_with(&json!({ "act": "large", "size": 1 << 20 }))).await;
        check(
            &report,
            Outcome::Fatal,
            Reason::PluginFatal,
            "its output has 1048578 bytes, of 1048576 at most",
        );
    }

    async fn a_message_of_any_script_comes_back(trial: Trial) {
        let report = trial.make(trial.call_with(&json!({ "act": "say", "text": "naïve 日本 🦀" }))).await;
        check(&report, Outcome::Fatal, Reason::PluginFatal, "naïve 日本 🦀");
    }

    async fn a_message_without_end_is_cut(trial: Trial) {
        let report = trial.make(trial.call_with(&json!({ "act": "say", "text": "a".repeat(100_000) }))).await;
        check(&report, Outcome::Fatal, Reason::PluginFatal, "aaa… (100000 bytes)");
        assert!(report.message.unwrap().len() < 20_000);
    }

    async fn an_input_that_does_not_fit_is_invalid(trial: Trial) {
        for input in [
            &b""[..],
            b"{}",
            b"[]",
            b"null",
            b"{\"act\":7}",
            b"{\"act\":\"no such act\"}",
            b"{\"act\":\"done\xff\"}",
            b"{\"act",
            b"\xff\x00",
        ] {
            let input = Bytes::copy_from_slice(input);
            let report = trial.make(StepCall { input, ..trial.call("done") }).await;
            check(&report, Outcome::Fatal, Reason::InputInvalid, "");
        }
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn an_event_that_cannot_be_read_costs_its_call_alone(trial: Trial) {
        for event in [&b""[..], b"{}", b"\xff\xfe"] {
            let event = Bytes::copy_from_slice(event);
            let report = trial.make(StepCall { event, ..trial.call("done") }).await;
            check(&report, Outcome::Fatal, Reason::InputInvalid, "the event cannot be read");
        }
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn the_time_that_is_left_is_that_of_the_call(trial: Trial) {
        let hour = Duration::from_secs(3600);
        let call = StepCall { deadline: Instant::now() + hour, ..trial.call("left") };
        let left = Duration::from_millis(trial.output_of(call).await.as_u64().unwrap());
        assert!(left <= hour && left > hour / 2, "{left:?}");
    }
}
