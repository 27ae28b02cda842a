//! What bounds a worker process, and what becomes of a plugin that comes up against it.

use std::time::Duration;

use jackfield::{delivery::Outcome, plugin::Limits, reason::Reason};

use crate::{
    battery::check,
    built::Build,
    trial::{Bench, Trial},
};

async fn good(build: Build, limits: Limits) -> Trial {
    let bench = Bench::new();
    bench.drop_good(build);
    Trial::bounded(bench, limits).await
}

/// Makes the call, and expects that it takes the worker with it and nothing else.
async fn dies(trial: &Trial, act: &str, words: &[&str]) {
    let report = trial.act(act).await;
    for words in words {
        check(&report, Outcome::Retry, Reason::PluginCrashed, words);
    }
    assert_eq!(trial.act("wake").await.outcome, Outcome::Done);
}

#[tokio::test]
async fn a_plugin_that_leaks_dies_at_its_limit_and_says_so() {
    let limits = Limits {
        memory: 64 << 20,
        ..Limits::default()
    };
    let trial = good(Build::C, limits).await;
    dies(&trial, "leak", &["died of SIGABRT, saying: no memory after "]).await;
    let trial = good(Build::RUST, limits).await;
    dies(
        &trial,
        "leak",
        &[
            "died of SIGABRT, saying: ",
            "memory allocation of 16777216 bytes failed",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_plugin_cannot_open_more_than_its_limit() {
    let limits = Limits {
        open_files: 100,
        ..Limits::default()
    };
    let trial = good(Build::C, limits).await;
    dies(
        &trial,
        "open",
        &["died of SIGABRT, saying: no file after ", "Too many open files"],
    )
    .await;
}

#[tokio::test]
async fn a_worker_leaves_no_core_file_unless_it_may_and_goes_before_its_router_where_memory_is_short() {
    for core_file in [0, 8192] {
        bounds_of_a_worker_that_may_leave(core_file).await;
    }
}

async fn bounds_of_a_worker_that_may_leave(core_file: u64) {
    let limits = Limits {
        core_file,
        ..Limits::default()
    };
    let trial = good(Build::C, limits).await;
    let worker = trial.instance.caller.vitals().process.unwrap();
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{worker}/{file}")).unwrap();
    let limits = of("limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{limits}"))
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    let core_file = core_file.to_string();
    assert_eq!(limit("Max core file size")[..2], [&core_file, &core_file]);
    assert_eq!(limit("Max open files")[..2], ["1024", "1024"]);
    // More where the whole test is to go first.
    assert!(of("oom_score_adj").trim().parse::<i32>().unwrap() >= 500);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_asked_to_end() {
    let bench = Bench::new();
    // It says that its calls are handed over at once, and so is called by the thread that answers.
    bench.drop_c("trial.so", &["-DPROMPT"]);
    let trial = Trial::bounded(bench, impatient()).await;
    dies(&trial, "squat", &["did not answer for 1s, and died of SIGTERM"]).await;
}

#[tokio::test]
async fn a_worker_that_does_not_end_when_asked_is_killed() {
    let trial = good(Build::C, impatient()).await;
    dies(&trial, "freeze", &["did not answer for 1s, and died of SIGKILL"]).await;
}

fn impatient() -> Limits {
    Limits {
        silence: Duration::from_secs(1),
        ..Limits::default()
    }
}
