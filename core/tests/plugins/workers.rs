//! Instances in processes of their own, and what becomes of the others when one of them dies.

use std::{collections::BTreeSet, time::Duration};

use jackfield::{
    delivery::Outcome,
    plugin::{InstanceOptions, Isolation, PluginState},
    reason::Reason,
};
use jackfield_stage::{process::Process, wait::eventually};
use serde_json::json;

use crate::{
    battery::check,
    built::Build,
    trial::{Bench, Trial, configured, left_open, log, logged},
};

#[tokio::test]
async fn a_worker_that_dies_costs_its_calls_and_is_started_again() {
    let trial = Trial::in_a_worker(Build::C).await;
    for (act, words) in [
        ("segfault", "the worker of `trial` died of SIGSEGV"),
        (
            "abort",
            "died of SIGABRT, saying: first line / assertion failed: I exist",
        ),
        ("exit", "ended by itself, with status 3"),
        ("overflow", "died of SIGSEGV"),
        ("close", "the worker of `trial` "),
        ("babble", "the worker of `trial` "),
    ] {
        check(
            &trial.act(act).await,
            Outcome::Retry,
            Reason::PluginCrashed,
            words,
        );
        recovered(&trial).await;
        assert_eq!(trial.act("done").await.outcome, Outcome::Done, "after {act}");
    }
}

/// Waits until calls are made again, after many deaths.
async fn recovered(trial: &Trial) {
    while trial.instance.caller.down().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_call_that_keeps_the_thread_of_its_caller_keeps_no_other_from_running() {
    let trial = Trial::in_a_worker(Build::C).await;
    let (blocked, woken) = tokio::join!(trial.act("squat"), trial.act("wake"));
    assert_eq!((blocked.outcome, woken.outcome), (Outcome::Done, Outcome::Done));
}

#[tokio::test]
async fn whatever_else_was_in_the_worker_is_tried_again() {
    let trial = Trial::in_a_worker(Build::C).await;
    let (waiting, crashed) = tokio::join!(trial.act("wait"), async {
        // The other one has begun when this one has gone through behind it.
        trial.act("done").await;
        trial.act("segfault").await
    });
    check(&waiting, Outcome::Retry, Reason::PluginCrashed, "SIGSEGV");
    check(&crashed, Outcome::Retry, Reason::PluginCrashed, "SIGSEGV");
}

#[tokio::test]
async fn a_call_that_never_ends_costs_its_worker_and_no_other_call() {
    let trial = Trial::in_a_worker(Build::C).await;
    let before = trial.instance.caller.vitals().process.unwrap();
    let mut spinning = trial.call("spin");
    spinning.deadline = tokio::time::Instant::now();
    let waiting = trial.call("wait");
    let cancelled = waiting.cancelled.clone();
    // In the same process, where they go on until they are let.
    let (spun, waited, ()) = tokio::join!(trial.make(spinning), trial.make(waiting), async {
        while trial
            .instance
            .caller
            .vitals()
            .process
            .is_none_or(|process| process == before)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
        assert!(runs(before), "it is not ended over somebody's head");
        cancelled.cancel();
    });
    check(&spun, Outcome::Retry, Reason::TimedOut, "and not within");
    check(&waited, Outcome::Retry, Reason::Interrupted, "");
    while runs(before) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn runs(process: u32) -> bool {
    std::path::Path::new(&format!("/proc/{process}")).exists()
}

#[tokio::test]
async fn a_worker_that_keeps_dying_takes_no_calls_until_it_lives_again() {
    let trial = Trial::in_a_worker(Build::C).await;
    let mut changes = trial.registry.changes();
    let mut deaths = 0;
    while trial.instance.caller.down().is_none() {
        let report = trial.act("segfault").await;
        check(&report, Outcome::Retry, Reason::PluginCrashed, "SIGSEGV");
        deaths += 1;
        assert!(deaths < 10, "it never is");
    }
    assert!(trial.instance.caller.down().unwrap().contains("SIGSEGV"));
    check(
        &trial.act("done").await,
        Outcome::Retry,
        Reason::InstanceDown,
        "died of SIGSEGV",
    );
    // Whoever waits for it hears of it.
    changes.changed().await.unwrap();
    assert_eq!(trial.instance.caller.down(), None);
    assert_eq!(trial.act("done").await.outcome, Outcome::Done);
}

#[tokio::test]
async fn a_plugin_that_refuses_to_start_in_a_worker_is_parked_in_its_own_words() {
    let bench = Bench::new();
    bench.drop_good(Build::C);
    let host = std::sync::Arc::new(crate::host::Recorder::new());
    let options = InstanceOptions {
        isolation: Isolation::Process,
        ..configured("trial", json!({ "refuse": "not on a Wednesday" }))
    };
    let registry = bench.load(&host, vec![options]).await;
    let instances = registry.instances();
    let PluginState::Parked { reason } = &instances[0].state else {
        panic!("{instances:?}");
    };
    assert!(
        reason.contains("the plugin refuses to start: not on a Wednesday"),
        "{reason}"
    );
}

#[tokio::test]
async fn what_a_worker_prints_is_logged_under_its_plugins_name() {
    log();
    let trial = Trial::in_a_worker(Build::C).await;
    trial.act("abort").await;
    let logged = logged();
    let line = logged
        .lines()
        .find(|line| line.contains("assertion failed: I exist"))
        .unwrap();
    for part in ["INFO", "plugin=\"trial\"", "instance=\"trial\"", "stderr"] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn what_a_plugin_prints_never_gets_between_its_worker_and_the_router() {
    log();
    let trial = Trial::in_a_worker(Build::C).await;
    assert_eq!(trial.act("print").await.outcome, Outcome::Done);
    let line = || {
        let logged = logged();
        let line = logged.lines().find(|line| line.contains("what is this"));
        line.map(str::to_owned)
    };
    assert!(eventually(async || line().is_some()).await);
    assert!(line().unwrap().contains("module=\"stderr\""), "{}", logged());
}

#[tokio::test]
async fn what_a_plugin_prints_without_end_is_counted_and_does_not_fill_the_log() {
    log();
    let trial = Trial::in_a_worker(Build::C).await;
    assert_eq!(trial.act("rant").await.outcome, Outcome::Done);
    // The next line that is logged says how many were not.
    let is_told = eventually(async || {
        trial.act("print").await;
        logged().contains("left_out=")
    });
    assert!(is_told.await);
    let lines = logged().matches("and another thing").count();
    assert!((1..5000).contains(&lines), "{lines}");
}

#[tokio::test]
async fn an_output_of_any_length_costs_its_call_alone() {
    let trial = Trial::in_a_worker(Build::C).await;
    let before = worker();
    let call = trial.call_with(&json!({ "act": "large", "size": 100_000_000 }));
    check(
        &trial.make(call).await,
        Outcome::Fatal,
        Reason::PluginFatal,
        "its output has 100000002 bytes, of 1048576 at most",
    );
    assert_eq!(trial.act("done").await.outcome, Outcome::Done);
    assert_eq!(worker(), before);
}

#[tokio::test]
async fn a_worker_has_nothing_of_the_routers_but_its_socket() {
    let (_left, left) = left_open();
    let trial = Trial::in_a_worker(Build::C).await;
    let worker = worker();
    assert!(!std::path::Path::new(&format!("/proc/{worker}/fd/{left}")).exists());
    let of = |file: &str| std::fs::read(format!("/proc/{worker}/{file}")).unwrap();
    // But for the way to its proxy.
    let environment = of("environ");
    let mut variables = environment
        .split(|byte| *byte == 0)
        .filter(|variable| !variable.is_empty());
    assert!(variables.all(|variable| variable.starts_with(b"JACKFIELD_")));
    assert!(String::from_utf8_lossy(&of("status")).contains("NoNewPrivs:\t1"));
    let (ours, theirs) = (sockets("self"), sockets(&worker.to_string()));
    assert!(
        !theirs.is_empty() && theirs.is_disjoint(&ours),
        "{ours:?} {theirs:?}"
    );
    trial.registry.shutdown(Duration::from_secs(10)).await;
    assert!(
        !std::path::Path::new(&format!("/proc/{worker}")).exists(),
        "it has ended, and was waited for"
    );
}

/// The sockets that a process has open, by their numbers.
fn sockets(process: &str) -> BTreeSet<String> {
    let open = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .flatten();
    let open = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let names = open.map(|to| to.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("socket:")).collect()
}

/// The worker that this process has started.
pub(crate) fn worker() -> u32 {
    let all = Process::all().unwrap();
    let is_worker = |process: &&Process| {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", process.id)).unwrap_or_default();
        process.parent == std::process::id() && line.contains("plugin-worker")
    };
    all.iter().find(is_worker).unwrap().id
}
