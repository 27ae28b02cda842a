//! Libraries that the router itself must not load: they live in workers, and nowhere else.

use std::sync::Arc;

use jackfield::{
    delivery::Outcome,
    plugin::{InstanceOptions, Isolation, PluginState, Registry},
};
use serde_json::json;

use crate::{
    built::Build,
    host::Recorder,
    trial::{Bench, configured, log, logged},
    workers::worker,
};

/// An instance of the plugin of that name in a worker, and one in the router, which are called `apart` and `inside`.
async fn both(bench: &Bench, plugin: &str) -> Registry {
    // A worker is told at its start what is logged.
    log();
    let instance = |name: &str, isolation| InstanceOptions {
        plugin: plugin.to_owned(),
        isolation,
        ..configured(name, json!({}))
    };
    let host = Arc::new(Recorder::new());
    let instances = vec![
        instance("apart", Isolation::Process),
        instance("inside", Isolation::None),
    ];
    bench.load(&host, instances).await
}

/// Why the instance in the router is parked, with the file's directory left out. The one in the worker must work.
async fn parked_inside(bench: &Bench, plugin: &str) -> String {
    let registry = both(bench, plugin).await;
    assert_eq!(registry.list()[0].state, PluginState::Loaded);
    let apart = registry.instance("apart").expect("it lives in a worker");
    let report = apart.caller.call(bench.call("done")).await;
    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
    assert!(registry.instance("inside").is_none());
    let reason = registry.parked("inside").unwrap();
    reason.replace(&format!("{}/", bench.plugins().display()), "")
}

#[tokio::test]
async fn a_plugin_that_aborts_when_it_panics_lives_in_a_worker() {
    let bench = Bench::new();
    bench.drop_good(Build::ABORTS);
    insta::assert_snapshot!(parked_inside(&bench, "trial").await, @r#"`trial.so` was built with panic=abort: a panic in it would end the router, so it needs a process of its own: give the instance `isolation = "process"`, or build it with panic = "unwind""#);
}

#[tokio::test]
async fn a_plugin_with_static_thread_local_storage_lives_in_a_worker_that_has_room_for_it() {
    let bench = Bench::new();
    bench.drop_c("trial.so", &["-DSTATIC_TLS=100000"]);
    insta::assert_snapshot!(parked_inside(&bench, "trial").await, @r#"`trial.so` uses static thread-local storage, of which the router has only a few bytes to spare, so it needs a process of its own: give the instance `isolation = "process"`, or leave out the global allocator or library that brings it, or build that one for dynamic loading"#);
}

#[tokio::test]
async fn a_plugin_with_an_allocator_of_its_own_lives_in_a_worker() {
    let bench = Bench::new();
    bench.drop_good(Build::ALLOCATOR);
    insta::assert_snapshot!(parked_inside(&bench, "trial").await, @r#"`trial.so` uses static thread-local storage, of which the router has only a few bytes to spare, so it needs a process of its own: give the instance `isolation = "process"`, or leave out the global allocator or library that brings it, or build that one for dynamic loading"#);
}

#[tokio::test]
async fn a_plugin_with_the_go_runtime_lives_in_a_worker_and_keeps_its_signal_handlers() {
    let bench = Bench::new();
    bench.drop_c("trial.so", &["-DSIGNALS", "-DGO"]);
    insta::assert_snapshot!(parked_inside(&bench, "trial").await, @r#"`trial.so` contains the Go runtime, which takes over signals, so it needs a process of its own: give the instance `isolation = "process"`, or write it in Rust or C"#);
    assert!(!logged().contains("put back"), "{}", logged());
}

#[tokio::test]
async fn a_worker_is_told_of_the_room_that_its_library_needs_and_of_nothing_else() {
    let bench = Bench::new();
    bench.drop_c("trial.so", &["-DSTATIC_TLS=1000"]);
    let _registry = both(&bench, "trial").await;
    let environment = std::fs::read(format!("/proc/{}/environ", worker())).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let surplus = environment
        .strip_prefix("GLIBC_TUNABLES=glibc.rtld.optional_static_tls=")
        .and_then(|rest| rest.strip_suffix('\0'))
        .unwrap_or_else(|| panic!("{environment:?}"));
    // What the library has in a thread, what its alignment may cost, and what glibc spares by itself.
    assert!(
        (1513..=1600).contains(&surplus.parse::<u32>().unwrap()),
        "{surplus}"
    );
}

#[tokio::test]
async fn a_plugin_that_needs_more_room_than_a_process_can_be_given_is_parked_with_the_reason() {
    let bench = Bench::new();
    bench.drop_c("greedy.so", &["-DSTATIC_TLS=10000000", "-DNAME=\"greedy\""]);
    let survey = bench.survey(Vec::new()).await;
    let reason = crate::trial::reason(&survey.plugins(), "greedy.so", &bench.plugins()).unwrap();
    for words in [
        "cannot allocate memory in static TLS block",
        "it needs more static thread-local storage than a process can be given",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
}
