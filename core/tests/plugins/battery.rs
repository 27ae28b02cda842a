//! The battery: what is true of every plugin, however it was built, in the router and in a worker.
//!
//! A case is written once, and runs for each variant of the table below.

/// How the plugin is built, and where it runs: a line for each. The name goes on after that of the case.
macro_rules! variants {
    ($case:ident) => {
        variants! { $case:
            in_rust = Trial::of(Build::RUST);
            in_rust_in_a_worker = Trial::in_a_worker(Build::RUST);
            in_rust_for_release = Trial::of(Build::Alone("trial", "release"));
            in_rust_for_release_in_a_worker = Trial::in_a_worker(Build::Alone("trial", "release"));
            in_rust_that_aborts_in_a_worker = Trial::in_a_worker(Build::ABORTS);
            in_rust_with_an_allocator_in_a_worker = Trial::in_a_worker(Build::ALLOCATOR);
            in_rust_inline = Trial::of(Build::INLINE);
            in_rust_inline_in_a_worker = Trial::in_a_worker(Build::INLINE);
            in_rust_on_an_older_tokio = Trial::of(Build::OLDER_TOKIO);
            in_rust_on_an_older_tokio_in_a_worker = Trial::in_a_worker(Build::OLDER_TOKIO);
            in_c = Trial::of(Build::C);
            in_c_in_a_worker = Trial::in_a_worker(Build::C);
        }
    };
    ($case:ident: $($variant:ident = $trial:expr;)+) => {
        $(#[tokio::test]
        async fn $variant() {
            $case($trial.await).await;
        })+
    };
}

/// Makes tests of cases: one for each variant.
macro_rules! everywhere {
    ($(async fn $name:ident($trial:ident: Trial) $body:block)+) => {
        $(mod $name {
            use super::*;

            async fn case($trial: Trial) $body

            variants!(case);
        })+
    };
}

mod asking;
mod cancelling;
mod crowds;
mod ends;
mod panics;
mod requests;
mod values;

use jackfield::{delivery::Outcome, plugin::Report, reason::Reason};

use crate::trial::Trial;

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

/// A panic is a failed call, tried again; where it ends the process, so is every call that was in it.
#[track_caller]
fn check_panic(trial: &Trial, report: &Report, message: &str) {
    if trial.aborts() {
        check(report, Outcome::Retry, Reason::PluginCrashed, "died of SIGABRT");
    } else {
        check(report, Outcome::Retry, Reason::PluginPanicked, message);
    }
}
