//! Instances: how they start, end, and are listed.

use std::{sync::Arc, time::Duration};

use jackfield::{
    delivery::Outcome,
    plugin::{CreateError, InstanceOptions, PluginState, Registry},
};
use serde_json::json;

use crate::{
    built::Build,
    host::Recorder,
    trial::{Bench, Trial, configured, log, logged},
};

/// The instances, each with why it is parked.
fn states(registry: &Registry) -> Vec<(String, Option<String>)> {
    let state = |record: &jackfield::plugin::InstanceRecord| {
        (record.name.clone(), record.state.reason().map(str::to_owned))
    };
    registry.instances().iter().map(state).collect()
}

#[tokio::test]
async fn a_library_that_nobody_configures_gets_an_instance_of_its_name() {
    for build in [Build::RUST, Build::C] {
        let (bench, host) = (Bench::new(), Arc::new(Recorder::new()));
        let file = bench.drop_good(build);
        let registry = bench.load(&host, Vec::new()).await;
        let instance = registry.instance("trial").unwrap();
        assert_eq!(
            (instance.plugin.as_str(), instance.version.as_str()),
            ("trial", "1.0.0")
        );
        assert_eq!(instance.permits.available_permits(), 8);
        assert!(!instance.input_schema.check(&json!({})).is_empty());
        let listed = serde_json::to_value(&registry.list()[0]).unwrap();
        assert_eq!(listed["file"], file.to_str().unwrap());
        assert_eq!(listed["state"], "loaded");
        assert_eq!(listed["description"], "Does whatever its input asks for");
        assert_eq!(
            listed["instances"],
            json!([{ "name": "trial", "plugin": "trial", "isolation": "process", "state": "loaded" }])
        );
        assert_eq!(listed["digest"].as_str().unwrap().len(), 64);
        registry.shutdown(Duration::from_secs(60)).await;
    }
}

#[tokio::test]
async fn instances_of_one_plugin_start_and_fail_by_themselves() {
    let (bench, host) = (Bench::new(), Arc::new(Recorder::new()));
    bench.drop_good(Build::RUST);
    let other = InstanceOptions {
        plugin: "trail".to_owned(),
        ..configured("misspelled", json!({}))
    };
    let registry = bench
        .load(
            &host,
            vec![
                configured("good", json!({ "token": "hunter2" })),
                configured("unwilling", json!({ "refuse": "not today" })),
                configured("misfit", json!({ "tokn": "x", "refuse": 7 })),
                other,
            ],
        )
        .await;
    let states = states(&registry);
    insta::assert_debug_snapshot!(states, @r#"
    [
        (
            "good",
            None,
        ),
        (
            "unwilling",
            Some(
                "the plugin refuses to start: not today",
            ),
        ),
        (
            "misfit",
            Some(
                "its configuration does not fit plugin `trial`: `refuse`: found 7, expected a string; `tokn`: unknown; did you mean `token`?",
            ),
        ),
        (
            "misspelled",
            Some(
                "no plugin calls itself `trail`; there is: `trial`",
            ),
        ),
    ]
    "#);
    assert!(registry.instance("good").is_some());
    assert!(registry.instance("unwilling").is_none());
    assert!(registry.parked("unwilling").is_some());
    assert_eq!(registry.list()[0].state, PluginState::Loaded);
    let catalog = registry.catalog();
    assert!(
        catalog["misfit"].is_some(),
        "rules are checked even where the instance does not run"
    );
    assert!(catalog["misspelled"].is_none());
}

#[tokio::test]
async fn a_secret_that_does_not_fit_is_not_shown() {
    let bench = Bench::new();
    bench.drop_good(Build::C);
    let long = "hunter2".repeat(10);
    let survey = bench
        .survey(vec![configured("trial", json!({ "token": long }))])
        .await;
    let instances = survey.instances();
    let reason = instances[0].state.reason().unwrap();
    assert!(!reason.contains("hunter2"), "{reason}");
    insta::assert_snapshot!(reason, @"its configuration does not fit plugin `trial`: `token`: the secret there does not fit (and is not shown)");
    assert!(survey.plugins()[0].state.reason().unwrap().contains("not shown"));
}

#[tokio::test]
async fn a_plugin_that_needs_a_configuration_is_idle_until_it_has_one() {
    let bench = Bench::new();
    bench.drop_c("needy.so", &["-DNEEDS_CONFIG"]);
    let survey = bench.survey(Vec::new()).await;
    assert!(
        matches!(survey.plugins()[0].state, PluginState::Idle { .. }),
        "which is nothing wrong"
    );
    insta::assert_snapshot!(survey.plugins()[0].state.reason().unwrap(), @r#"no `[[instance]]` says `plugin = "trial"`, and it needs a configuration: `token`: missing"#);
    let survey = bench
        .survey(vec![configured("trial", json!({ "token": "x" }))])
        .await;
    assert_eq!(survey.plugins()[0].state, PluginState::Loaded);
}

#[tokio::test]
async fn a_plugin_that_hangs_when_it_starts_is_given_up() {
    let trial = Trial::of(Build::C).await;
    let file = trial
        .bench
        .drop_c("hang.so", &["-DCREATE_HANG", "-DNAME=\"hang\""]);
    let made = trial.make_by_hand(&file, "hang", Duration::ZERO).await;
    assert!(matches!(made.unwrap_err(), CreateError::TimedOut(Duration::ZERO)));
}

#[tokio::test]
async fn an_instance_that_is_stuck_does_not_keep_the_router_from_stopping() {
    log();
    let trial = Trial::of(Build::C).await;
    let impatient = trial.impatient().await;
    let mut call = trial.call("deaf");
    call.deadline = tokio::time::Instant::now();
    assert_eq!(impatient.call(call).await.outcome, Outcome::Retry);
    impatient.shutdown(Duration::ZERO).await;
    assert!(logged().contains("plugin instance does not end"));
    // What it may still do finds everything in its place.
    assert_eq!(impatient.stuck(), 1);
    assert_eq!(impatient.call(trial.call("wake")).await.outcome, Outcome::Retry);
}

#[tokio::test]
async fn a_request_is_answered_even_when_the_runtime_behind_the_host_has_ended() {
    for build in [Build::RUST, Build::C] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let trial = Trial::on(build, runtime.handle().clone()).await;
        trial.host.hold();
        let (report, ()) = tokio::join!(trial.act("keep"), async {
            tokio::task::yield_now().await;
            runtime.shutdown_background();
        });
        assert_eq!(report.outcome, Outcome::Retry, "{report:?}");
        assert_eq!(trial.act("keep").await.outcome, Outcome::Retry);
        assert_eq!(trial.act("done").await.outcome, Outcome::Done);
        trial.registry.shutdown(Duration::from_secs(60)).await;
    }
}
