//! How instances begin and end.

use std::time::Duration;

use jackfield::{delivery::Outcome, reason::Reason};
use serde_json::json;
use tokio::task::JoinSet;

use super::check;
use crate::{built::Build, trial::Trial};

const PATIENCE: Duration = Duration::from_secs(60);

everywhere! {
    async fn a_plugin_that_does_not_want_to_start_says_why(trial: Trial) {
        let reason = trial.refusal(json!({ "refuse": "not on a Wednesday" })).await;
        assert!(reason.contains("the plugin refuses to start: not on a Wednesday"), "{reason}");
    }

    async fn an_idle_instance_ends_and_takes_no_more_calls(trial: Trial) {
        trial.registry.shutdown(PATIENCE).await;
        check(&trial.act("done").await, Outcome::Retry, Reason::Interrupted, "shut down");
    }

    async fn an_instance_ends_once_however_often_it_is_told(trial: Trial) {
        tokio::join!(trial.registry.shutdown(PATIENCE), trial.registry.shutdown(PATIENCE));
        trial.registry.shutdown(PATIENCE).await;
        check(&trial.act("done").await, Outcome::Retry, Reason::Interrupted, "shut down");
    }

    async fn the_end_of_an_instance_ends_its_calls(trial: Trial) {
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let (caller, call) = (trial.instance.caller.clone(), trial.call("wait"));
            calls.spawn(async move { caller.call(call).await });
        }
        trial.host.waits(20).await;
        trial.registry.shutdown(PATIENCE).await;
        for report in calls.join_all().await {
            check(&report, Outcome::Retry, Reason::Interrupted, "stopped");
        }
    }

    async fn a_call_that_heeds_nothing_keeps_no_instance_from_ending(trial: Trial) {
        let impatient = trial.impatient().await;
        let call = trial.call("deaf");
        let cancelled = call.cancelled.clone();
        let (report, ()) = tokio::join!(impatient.call(call), async {
            trial.host.waits(1).await;
            cancelled.cancel();
        });
        check(&report, Outcome::Retry, Reason::Interrupted, "");
        impatient.shutdown(Duration::ZERO).await;
        check(&impatient.call(trial.call("done")).await, Outcome::Retry, Reason::Interrupted, "shut down");
    }

    async fn a_library_outlives_its_instances(trial: Trial) {
        trial.registry.shutdown(PATIENCE).await;
        for _ in 0..3 {
            let next = trial.again(json!({})).await;
            assert_eq!(next.act("done").await.outcome, Outcome::Done);
            next.registry.shutdown(PATIENCE).await;
        }
    }
}
