//! What plugins ask of the router.

use std::time::Duration;

use jackfield::{delivery::Outcome, reason::Reason};
use serde_json::json;
use tracing::Instrument as _;

use super::check;
use crate::{
    built::Build,
    trial::{Trial, logged},
};

everywhere! {
    async fn the_host_keeps_values(trial: Trial) {
        assert_eq!(trial.output("keep").await, json!({ "kept": "17", "gone": true }));
        assert!(trial.host.kept().values.is_empty());
    }

    async fn a_value_is_kept_for_as_long_as_it_says(trial: Trial) {
        trial.output("brief").await;
        let kept = trial.host.kept();
        assert_eq!(kept.values["trial/brief"], "x");
        assert_eq!(kept.lives["trial/brief"], Duration::from_millis(1500));
    }

    async fn a_value_of_a_mebibyte_is_kept_and_a_larger_one_is_not(trial: Trial) {
        let keep = |size: usize| trial.call_with(&json!({ "act": "keep-large", "size": size }));
        assert_eq!(trial.output_of(keep(1 << 20)).await, 1 << 20);
        check(
            &trial.make(keep((1 << 20) + 1)).await,
            Outcome::Fatal,
            Reason::PluginFatal,
            "the value has 1048577 bytes, of 1048576 at most",
        );
        assert_eq!(trial.host.kept().values["trial/large"].len(), 1 << 20);
    }

    async fn a_key_that_is_none_is_refused(trial: Trial) {
        for (key, why) in [
            (String::new(), "the key is empty"),
            ("k".repeat(513), "the key has 513 bytes, of 512 at most"),
        ] {
            let report = trial.make(trial.call_with(&json!({ "act": "keep-at", "text": key }))).await;
            check(&report, Outcome::Fatal, Reason::PluginFatal, why);
        }
        let longest = "k".repeat(512);
        trial.output_of(trial.call_with(&json!({ "act": "keep-at", "text": longest }))).await;
        assert_eq!(trial.host.kept().values.len(), 1);
    }

    async fn what_was_never_kept_is_deleted_without_a_word(trial: Trial) {
        assert_eq!(trial.output("forget").await, json!(null));
    }

    async fn a_call_may_ask_for_many_things_at_once(trial: Trial) {
        let output = trial.output_of(trial.call_with(&json!({ "act": "burst", "size": 1000 }))).await;
        assert_eq!(output, 1000);
        let kept = trial.host.kept();
        assert_eq!(kept.values.len(), 1000);
        assert_eq!(kept.values["trial/burst/999"], "999");
    }

    async fn a_plugin_may_ask_when_its_call_has_ended(trial: Trial) {
        trial.output("late").await;
        trial.output("wake").await;
        trial.host.until(|kept| kept.values.contains_key("trial/late")).await;
    }

    async fn a_host_that_cannot_answer_now_is_why_a_call_is_tried_again(trial: Trial) {
        trial.host.kept().unavailable = Some("the disk is full");
        for act in ["keep", "receipt", "emit"] {
            check(&trial.act(act).await, Outcome::Retry, Reason::PluginRetry, "the disk is full");
        }
        trial.host.kept().unavailable = None;
        assert_eq!(trial.output("receipt").await, "absent");
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

    async fn a_line_of_a_call_is_logged_where_the_call_was_made(trial: Trial) {
        let span = tracing::info_span!("attempt", number = 4711);
        let report = trial.act("log").instrument(span).await;
        assert_eq!(report.outcome, Outcome::Done);
        let logged = logged();
        let line = logged.lines().find(|line| line.contains("a line of commit")).unwrap();
        assert!(line.contains("attempt{number=4711}"), "{line}");
    }

    async fn a_line_without_end_is_cut(trial: Trial) {
        trial.output_of(trial.call_with(&json!({ "act": "shout", "size": 100_000 }))).await;
        let logged = logged();
        let line = logged.lines().find(|line| line.contains("aaaa")).unwrap();
        assert!(line.contains("a… (100000 bytes)") && line.len() < 20_000, "{}", line.len());
    }
}
