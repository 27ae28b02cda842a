//! Panics, wherever there can be one. In C they are faults that the plugin finds by itself.

use std::time::Duration;

use jackfield::{delivery::Outcome, plugin::StepCall, reason::Reason};
use serde_json::json;
use tokio::task::JoinSet;

use super::{check, check_panic};
use crate::{built::Build, trial::Trial};

everywhere! {
    async fn a_panic_is_an_outcome_and_the_instance_goes_on(trial: Trial) {
        for number in 0..3 {
            // Steps of their own: what is there at two deaths of a worker is not tried a third time.
            let key = format!("dlv/{number}");
            let report = trial.make(StepCall { idempotency_key: key, ..trial.call("panic") }).await;
            check_panic(&trial, &report, "on purpose");
            assert_eq!(trial.act("done").await.outcome, Outcome::Done);
        }
    }

    async fn a_panic_after_a_wait_is_no_other(trial: Trial) {
        check_panic(&trial, &trial.act("panic-late").await, "on purpose");
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn a_panic_whose_payload_panics_is_no_other(trial: Trial) {
        check_panic(&trial, &trial.act("panic-with-bomb").await, "");
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn a_panic_in_a_task_is_for_the_call_to_see(trial: Trial) {
        if trial.aborts() {
            check_panic(&trial, &trial.act("panic-in-task").await, "");
        } else {
            assert_eq!(trial.output("panic-in-task").await, true);
        }
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn a_panic_does_no_harm_to_calls_beside_it(trial: Trial) {
        let mut beside = JoinSet::new();
        for number in 0..10 {
            let call = StepCall { idempotency_key: format!("dlv/{number}"), ..trial.call("deaf") };
            let caller = trial.instance.caller.clone();
            beside.spawn(async move { caller.call(call).await });
        }
        trial.host.waits(10).await;
        check_panic(&trial, &trial.act("panic").await, "on purpose");
        // Where the process has died of it, they are tried again, too; and there is nobody to be woken.
        for _ in 0..10 {
            trial.output("wake").await;
        }
        for report in beside.join_all().await {
            if trial.aborts() {
                check_panic(&trial, &report, "");
            } else {
                assert_eq!(report.outcome, Outcome::Done, "{report:?}");
            }
        }
    }

    async fn a_receipt_outlives_a_panic(trial: Trial) {
        let attempt = |act| StepCall { idempotency_key: "dlv/post".to_owned(), ..trial.call(act) };
        check_panic(&trial, &trial.make(attempt("intend-and-panic")).await, "on purpose");
        assert_eq!(trial.output_of(attempt("receipt")).await, "intended");
    }

    async fn a_panic_at_the_start_is_why_there_is_no_instance(trial: Trial) {
        let reason = trial.refusal(json!({ "panic": "create" })).await;
        let expected = if trial.aborts() { "died of SIGABRT" } else { "on purpose" };
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(trial.act("done").await.outcome, Outcome::Done, "of the other instance");
    }

    async fn a_panic_at_the_end_keeps_nobody_from_ending(trial: Trial) {
        for place in ["shutdown", "drop"] {
            let panicking = trial.again(json!({ "panic": place })).await;
            assert_eq!(panicking.act("done").await.outcome, Outcome::Done);
            panicking.registry.shutdown(Duration::from_secs(60)).await;
            check(&panicking.act("done").await, Outcome::Retry, Reason::Interrupted, "shut down");
        }
        assert_eq!(trial.act("done").await.outcome, Outcome::Done, "of the other instance");
    }

    async fn a_call_that_panics_as_it_is_given_up_is_tried_again(trial: Trial) {
        let (report, ()) = tokio::join!(trial.act("bomb"), async {
            trial.host.waits(1).await;
            // It does not heed its cancellation, and is dropped with the rest.
            trial.registry.shutdown(Duration::from_millis(300)).await;
        });
        assert_eq!(report.outcome, Outcome::Retry, "{report:?}");
    }
}
