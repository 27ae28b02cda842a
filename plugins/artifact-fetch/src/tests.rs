use std::time::Duration;

use jackfield::schema::Schema;
use jackfield_sdk::{
    event::Artifact,
    testing::{self, Call, Code, Ended, Harness, HostCall, Report, TestHost, library},
};
use jackfield_stage::{
    appflow::{ARTIFACT_SIZE, Appflow},
    http::{Server, answer},
    supernova::{PAT, Supernova, TOKENS},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// The router's memory and a delivery's work directory; instances come and go.
struct World {
    host: TestHost,
    workdir: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            host: TestHost::new(),
            workdir: TempDir::new().unwrap(),
        }
    }

    async fn instance(&self, config: Value) -> Harness<ArtifactFetch> {
        Harness::start_on(&self.host, config).await.unwrap()
    }

    async fn for_supernova(&self, supernova: &Supernova) -> Harness<ArtifactFetch> {
        let credential = json!({ "origins": [supernova.origin()], "bearer": PAT });
        let config =
            json!({ "allow_private": supernova.addresses(), "credentials": { "supernova": credential } });
        self.instance(config).await
    }

    async fn for_appflow(&self, appflow: &Appflow) -> Harness<ArtifactFetch> {
        self.instance(json!({ "allow_private": [appflow.address()] }))
            .await
    }

    fn call(&self, input: Value) -> Call {
        Call::new(input).workdir(self.workdir.path())
    }

    /// The paths of all files in the work directory.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.workdir.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => open.push(path),
                    false => found.push(
                        path.strip_prefix(self.workdir.path())
                            .unwrap()
                            .to_str()
                            .unwrap()
                            .to_owned(),
                    ),
                }
            }
        }
        found.sort();
        found
    }
}

fn from_supernova(supernova: &Supernova) -> Value {
    json!({ "url": supernova.result_url("6"), "auth": "supernova", "unpack": true })
}

#[track_caller]
fn ended(report: &Report, outcome: Ended, words: &str) {
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert!(
        report.message.contains(words),
        "{report:?} should contain {words}"
    );
    assert!(!report.message.contains(PAT), "{report:?}");
}

#[tokio::test]
async fn an_export_is_fetched_with_its_token_and_unpacked() {
    let (world, supernova) = (World::new(), Supernova::start().await.unwrap());
    let output = world
        .for_supernova(&supernova)
        .await
        .call(world.call(from_supernova(&supernova)))
        .await
        .done();
    let output: Output = serde_json::from_value(output).unwrap();
    let step = world.workdir.path().join("step");
    assert_eq!(output.path, step.join("artifact/result").to_str().unwrap());
    assert_eq!(output.dir.as_deref(), step.join("files").to_str());
    assert_eq!(output.media_type.as_deref(), Some("application/zip"));
    assert_eq!(output.size, fs::metadata(&output.path).unwrap().len());
    assert_eq!(output.files, TOKENS.map(|(path, _)| path));
    assert_eq!(output.file_count, 3);
    assert_eq!(
        output.unpacked_size,
        TOKENS
            .iter()
            .map(|(_, content)| content.len() as u64)
            .sum::<u64>()
    );
    for (path, content) in TOKENS {
        assert_eq!(
            fs::read_to_string(step.join("files").join(path)).unwrap(),
            content
        );
    }
    assert_eq!((supernova.downloads(), supernova.leaked()), (1, 0));
    assert_eq!(world.host.metric("fetched_bytes"), output.size as f64);
    assert_eq!(
        world.host.receipt("dlv_test/step"),
        Receipt::Done(serde_json::to_value(&output).unwrap())
    );
}

#[tokio::test]
async fn what_is_there_is_not_fetched_again() {
    let (world, supernova) = (World::new(), Supernova::start().await.unwrap());
    let first = world
        .for_supernova(&supernova)
        .await
        .call(world.call(from_supernova(&supernova)))
        .await
        .done();
    let again = world.for_supernova(&supernova).await;
    assert_eq!(
        again
            .call(world.call(from_supernova(&supernova)).attempt(2))
            .await
            .done(),
        first
    );
    assert_eq!(supernova.downloads(), 1);
    for gone in ["step/files", "step/artifact"] {
        let before = supernova.downloads();
        fs::remove_dir_all(world.workdir.path().join(gone)).unwrap();
        assert_eq!(
            again
                .call(world.call(from_supernova(&supernova)).attempt(3))
                .await
                .done(),
            first
        );
        assert_eq!(supernova.downloads(), before + 1, "{gone} is gone");
    }
}

#[tokio::test]
async fn a_replay_under_the_same_key_fetches_into_its_own_directory() {
    let (world, supernova) = (World::new(), Supernova::start().await.unwrap());
    let instance = world.for_supernova(&supernova).await;
    let first = instance.call(world.call(from_supernova(&supernova))).await.done();
    let replay = tempfile::tempdir().unwrap();
    let call = world.call(from_supernova(&supernova)).workdir(replay.path());
    let again = instance.call(call).await.done();
    assert_eq!(supernova.downloads(), 2);
    assert_eq!(again["sha256"], first["sha256"]);
    let path = PathBuf::from(again["path"].as_str().unwrap());
    assert!(path.starts_with(replay.path()) && path.is_file(), "{path:?}");
}

#[tokio::test]
async fn a_download_that_was_killed_in_the_middle_starts_anew() {
    let (world, appflow) = (World::new(), Appflow::start().await.unwrap());
    let input = json!({ "url": appflow.download_url("1") });
    let instance = world.for_appflow(&appflow).await;
    appflow.middle().close();
    let running = instance.begin(world.call(input.clone()));
    appflow.middle().arrival().await;
    instance.crash().await;
    drop(running);
    appflow.middle().open();
    let output = world
        .for_appflow(&appflow)
        .await
        .call(world.call(input).attempt(2))
        .await
        .done();
    assert_eq!(output["size"], ARTIFACT_SIZE);
    assert_eq!(output["name"], "app.apk");
    assert_eq!(output["dir"], Value::Null);
    assert_eq!(world.files(), ["step/artifact/app.apk"]);
}

#[tokio::test]
async fn an_attempt_that_was_killed_before_its_receipt_is_replaced() {
    let (world, supernova) = (World::new(), Supernova::start().await.unwrap());
    let instance = world.for_supernova(&supernova).await;
    world.host.hold(HostCall::Record);
    let running = instance.begin(world.call(from_supernova(&supernova)));
    world.host.held(HostCall::Record, 1).await;
    instance.crash().await;
    drop(running);
    fs::write(world.workdir.path().join("step/files/stale"), "stale").unwrap();
    let fresh = World {
        host: TestHost::new(),
        workdir: world.workdir,
    };
    fresh
        .for_supernova(&supernova)
        .await
        .call(fresh.call(from_supernova(&supernova)).attempt(2))
        .await
        .done();
    let expected = [
        "step/artifact/result",
        "step/files/css/variables.css",
        "step/files/tokens/color.json",
        "step/files/tokens/spacing.json",
    ];
    assert_eq!(fresh.files(), expected);
}

#[tokio::test]
async fn a_call_that_runs_out_of_time_is_tried_again() {
    let (world, appflow) = (World::new(), Appflow::start().await.unwrap());
    appflow.middle().close();
    let instance = world.for_appflow(&appflow).await;
    let running = instance.begin(world.call(json!({ "url": appflow.download_url("1") })));
    appflow.middle().arrival().await;
    running.cancel();
    let report = running.end().await;
    assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Cancelled));
    assert_eq!(world.host.receipt("dlv_test/step"), Receipt::Absent);
}

#[tokio::test]
async fn what_is_canceled_anywhere_is_fetched_and_unpacked_whole_by_the_attempts_after_it() {
    if library().is_some() {
        return;
    }
    let (world, supernova) = (World::new(), Supernova::start().await.unwrap());
    let instance = world.for_supernova(&supernova).await;
    let is_whole = |output: &Value| {
        let output: Output = serde_json::from_value(output.clone()).unwrap();
        assert_eq!(fs::metadata(&output.path).unwrap().len(), output.size);
        let files = PathBuf::from(output.dir.unwrap());
        for (path, content) in TOKENS {
            assert_eq!(fs::read_to_string(files.join(path)).unwrap(), content);
        }
    };
    let (times, undisturbed) = instance
        .cancel_at_each_await(Call::new(from_supernova(&supernova)), async |cut| {
            match world.host.receipt(cut.key()) {
                Receipt::Done(output) => is_whole(&output),
                other => assert_eq!(other, Receipt::Absent),
            }
            // The thread that unpacks may still be about to stop, and in the way of the attempt that follows at once.
            let mut again = instance.call(cut.again()).await;
            while again.outcome == Ended::Retry {
                again = instance.call(cut.again()).await;
            }
            is_whole(&again.done());
        })
        .await;
    is_whole(&undisturbed.done());
    assert!(times > 4, "{times}");
}

#[tokio::test]
async fn an_expired_link_says_when_it_expired() {
    let (world, appflow) = (World::new(), Appflow::start().await.unwrap());
    appflow.expire();
    let url = appflow.download_url("1");
    let mut event = testing::event();
    event.provider = "appflow".to_owned();
    let instance = world.for_appflow(&appflow).await;
    let call = || world.call(json!({ "url": url }));
    let report = instance.call(call().event(&event)).await;
    ended(
        &report,
        Ended::Fatal,
        "the link has expired (Appflow's links die after 24 hours); have the provider send a new one",
    );
    event.data.artifacts = vec![Artifact {
        url: url.clone(),
        expires: Some("2026-01-02T00:00:00Z".parse().unwrap()),
        ..Artifact::default()
    }];
    let report = instance.call(call().event(&event)).await;
    ended(
        &report,
        Ended::Fatal,
        "the link has expired (the event says that it expires at 2026-01-02T00:00:00Z)",
    );
    assert!(!report.message.contains("token=stage"), "{report:?}");
    // An event that the SDK cannot read is no reason not to fetch, nor not to say what happened.
    ended(
        &instance.call(call().event_bytes("{}")).await,
        Ended::Fatal,
        "the link has expired",
    );
}

#[tokio::test]
async fn a_file_is_named_by_the_step_the_event_or_the_link() {
    let (world, appflow) = (World::new(), Appflow::start().await.unwrap());
    let instance = world.for_appflow(&appflow).await;
    let url = appflow.download_url("1");
    let mut event = testing::event();
    for (input, in_event, expected) in [
        (json!({ "url": url }), None, "app.apk"),
        (json!({ "url": url }), Some("../My App.apk"), "_My_App.apk"),
        (
            json!({ "url": url, "name": "" }),
            Some("release.apk"),
            "release.apk",
        ),
        (
            json!({ "url": url, "name": "mine.apk" }),
            Some("release.apk"),
            "mine.apk",
        ),
    ] {
        event.data.artifacts = vec![Artifact {
            url: url.clone(),
            name: in_event.map(str::to_owned),
            ..Artifact::default()
        }];
        world.host.set_receipt("dlv_test/step", Receipt::Absent);
        let output = instance
            .call(world.call(input.clone()).event(&event))
            .await
            .done();
        assert_eq!(output["name"], expected, "{input} {in_event:?}");
        assert_eq!(world.files(), [format!("step/artifact/{expected}")]);
    }
}

#[tokio::test]
async fn an_input_that_cannot_be_meant_is_invalid() {
    let (world, supernova) = (World::new(), Supernova::start().await.unwrap());
    let instance = world.for_supernova(&supernova).await;
    let url = supernova.result_url("6");
    for (input, words) in [
        (json!({ "url": "result.zip?token=hunter2" }), "`url` is not a URL"),
        (
            json!({ "url": url, "auth": "zeplin" }),
            "the credential `zeplin`, which the instance does not have; under `credentials` it has supernova",
        ),
        (json!({ "url": url, "sha256": "abc" }), "`sha256` is \"abc\""),
        (
            json!({ "url": url, "name": "../../etc/passwd" }),
            "which is not a plain file name; \"_.._etc_passwd\" would be one",
        ),
    ] {
        let report = instance.call(world.call(input)).await;
        ended(&report, Ended::Fatal, words);
        assert_eq!(report.code, Code::Invalid);
        assert!(!report.message.contains("hunter2"), "{report:?}");
    }
    assert_eq!(supernova.downloads(), 0);
}

#[tokio::test]
async fn a_step_can_do_without_a_credential_and_ask_for_less() {
    let (world, appflow) = (World::new(), Appflow::start().await.unwrap());
    let instance = world.for_appflow(&appflow).await;
    for auth in [json!(null), json!("")] {
        let input = json!({ "url": appflow.download_url("1"), "auth": auth, "max_bytes": ARTIFACT_SIZE });
        instance
            .call(world.call(input).key(format!("dlv_test/{auth}")))
            .await
            .done();
    }
    let report = instance
        .call(world.call(json!({ "url": appflow.download_url("1"), "max_bytes": 1000 })))
        .await;
    ended(&report, Ended::Fatal, "larger than the 1000 bytes allowed");
}

#[tokio::test]
async fn a_web_page_in_place_of_an_archive_is_called_what_it_is() {
    let world = World::new();
    let files =
        Server::start(|_| async { answer(hyper::StatusCode::OK, "text/html", "<!doctype html>Log in") });
    let files = files.await.unwrap();
    let instance = world
        .instance(json!({ "allow_private": [files.address().to_string()] }))
        .await;
    let report = instance
        .call(world.call(json!({ "url": files.url(), "unpack": true })))
        .await;
    let words =
        "it is not a zip archive: it begins with `<`, as a web page does (the server called it text/html)";
    ended(&report, Ended::Fatal, words);
}

#[tokio::test]
async fn a_busy_server_sets_the_time_of_the_next_attempt() {
    let world = World::new();
    let files = Server::start(|_| async {
        let mut busy = answer(hyper::StatusCode::SERVICE_UNAVAILABLE, "text/plain", "");
        busy.headers_mut().insert("retry-after", "40".parse().unwrap());
        busy
    });
    let files = files.await.unwrap();
    let instance = world
        .instance(json!({ "allow_private": [files.address().to_string()] }))
        .await;
    let report = instance.call(world.call(json!({ "url": files.url() }))).await;
    ended(&report, Ended::Retry, "answered 503");
    assert_eq!(report.retry_after, Some(Duration::from_secs(40)));
}

#[test]
fn the_router_knows_what_to_expect() {
    let manifest = Harness::<ArtifactFetch>::manifest();
    let schema = |key: &str| Schema::compile(manifest[key].clone()).unwrap();
    assert!(
        schema("config_schema").accepts_empty(),
        "so that the library's presence is enough"
    );
    let credential = json!({ "origins": ["https://api.supernova.io"], "bearer": "t" });
    let config = json!({ "allow_private": ["127.0.0.1:80"], "max_bytes": 1, "credentials": { "supernova": credential } });
    assert_eq!(schema("config_schema").check(&config), []);
    let input = json!({ "url": "https://files.example/", "auth": null, "unpack": true, "max_bytes": 1 });
    assert_eq!(schema("input_schema").check(&input), []);
    let wrong = schema("input_schema").check(&json!({ "uri": "https://files.example/", "unpack": "yes" }));
    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(wrong.join("\n"), @r"
    `unpack`: found a string, expected true or false
    `uri`: unknown; did you mean `url`?
    `url`: missing
    ");
}

#[tokio::test]
async fn it_works_without_configuration_and_refuses_a_wrong_one_whole() {
    Harness::<ArtifactFetch>::start(json!({})).await.unwrap();
    let config = json!({ "allow_private": ["localhost"], "stall_timeout": "soon" });
    let refused = Harness::<ArtifactFetch>::start(config).await.unwrap_err();
    assert_eq!(refused.code, Code::Invalid);
    assert!(
        refused.message.contains("allow_private: `localhost`")
            && refused.message.contains("stall_timeout: `soon`")
    );
}
