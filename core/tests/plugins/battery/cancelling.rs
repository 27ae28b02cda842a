//! Calls that are not wanted any more, or for too long.

use std::time::Duration;

use jackfield::{delivery::Outcome, plugin::StepCall, reason::Reason};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::check;
use crate::{built::Build, trial::Trial};

/// Makes the call, and cancels it when it has told that it waits.
async fn cancelled(trial: &Trial, act: &str) -> jackfield::plugin::Report {
    let call = trial.call(act);
    let cancelled = call.cancelled.clone();
    let (report, ()) = tokio::join!(trial.make(call), async {
        trial.host.waits(1).await;
        cancelled.cancel();
    });
    report
}

everywhere! {
    async fn a_call_that_is_canceled_before_it_begins_is_asked_to_end(trial: Trial) {
        let call = trial.call("wait");
        call.cancelled.cancel();
        check(&trial.make(call).await, Outcome::Retry, Reason::Interrupted, "");
    }

    async fn a_call_that_is_canceled_while_it_begins_is_asked_to_end(trial: Trial) {
        let call = trial.call("wait");
        let cancelled = call.cancelled.clone();
        let (report, ()) = tokio::join!(trial.make(call), async { cancelled.cancel() });
        check(&report, Outcome::Retry, Reason::Interrupted, "");
    }

    async fn a_call_that_is_canceled_while_it_runs_is_asked_to_end(trial: Trial) {
        check(&cancelled(&trial, "wait").await, Outcome::Retry, Reason::Interrupted, "stopped");
    }

    async fn a_call_that_looks_at_nothing_but_the_flag_is_told(trial: Trial) {
        check(&cancelled(&trial, "hog").await, Outcome::Retry, Reason::Interrupted, "stopped");
    }

    async fn what_a_call_did_counts_and_not_that_it_was_canceled(trial: Trial) {
        let report = cancelled(&trial, "tidy").await;
        assert_eq!((report.outcome, report.reason), (Outcome::Done, None), "{report:?}");
        assert_eq!(report.output.unwrap(), "\"tidied\"");
        assert!(trial.host.kept().values.is_empty());
    }

    async fn a_cancellation_after_the_end_changes_nothing(trial: Trial) {
        let call = trial.call("done");
        let cancelled = call.cancelled.clone();
        assert_eq!(trial.make(call).await.outcome, Outcome::Done);
        cancelled.cancel();
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn a_storm_of_cancellations_ends_every_call_once(trial: Trial) {
        let storm = CancellationToken::new();
        let mut calls = JoinSet::new();
        for _ in 0..200 {
            let call = StepCall { cancelled: storm.child_token(), ..trial.call("wait") };
            let caller = trial.instance.caller.clone();
            calls.spawn(async move { caller.call(call).await });
        }
        trial.host.waits(100).await;
        storm.cancel();
        // Half of them may not have begun.
        for report in calls.join_all().await {
            check(&report, Outcome::Retry, Reason::Interrupted, "");
        }
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    }

    async fn only_those_calls_end_that_are_canceled(trial: Trial) {
        let cancelled = CancellationToken::new();
        let mut calls = JoinSet::new();
        for number in 0..40 {
            let is_wanted = number % 2 == 0;
            let call = match is_wanted {
                true => trial.call("deaf"),
                false => StepCall { cancelled: cancelled.clone(), ..trial.call("wait") },
            };
            let caller = trial.instance.caller.clone();
            calls.spawn(async move { (is_wanted, caller.call(call).await) });
        }
        trial.host.waits(40).await;
        cancelled.cancel();
        for _ in 0..20 {
            let (is_wanted, report) = calls.join_next().await.unwrap().unwrap();
            assert!(!is_wanted);
            check(&report, Outcome::Retry, Reason::Interrupted, "stopped");
        }
        for _ in 0..20 {
            trial.output("wake").await;
        }
        for (_, report) in calls.join_all().await {
            assert_eq!(report.outcome, Outcome::Done, "{report:?}");
        }
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
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(call.as_mut().poll(&mut context).is_pending());
        }
        // Its end is what the end of the instance waits for.
        trial.registry.shutdown(Duration::from_secs(60)).await;
        check(&trial.act("done").await, Outcome::Retry, Reason::Interrupted, "shut down");
    }

    async fn a_call_that_heeds_nothing_is_left_alone(trial: Trial) {
        let impatient = trial.impatient().await;
        let call = trial.call("deaf");
        let cancelled = call.cancelled.clone();
        let (report, ()) = tokio::join!(impatient.call(call), async {
            trial.host.waits(1).await;
            cancelled.cancel();
        });
        check(&report, Outcome::Retry, Reason::Interrupted, "and not within 0ns after that either");
        assert_eq!(impatient.call(trial.call("wake")).await.outcome, Outcome::Done);
        impatient.shutdown(Duration::from_secs(60)).await;
    }
}
