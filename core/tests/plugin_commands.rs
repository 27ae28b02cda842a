//! `plugin list`, `inspect` and `call`: what an operator asks of plugins, with a router and without one; and `test`, for authors.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hyper::{HeaderMap, Method, StatusCode};
use jackfield::plugin::digest::Digest;
use jackfield_stage::{
    cargo, change, http,
    process::Process,
    router::{Router, Signal},
    wait::eventually,
};
use rustix::process::{Pid, kill_process};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIGURATION: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "TOKEN" }]

[[instance]]
name = "tried"
plugin = "trial"
config = { token = { env = "TOKEN" } }
"#;

const ROUTES: &str = r#"
[[route]]
name = "nothing"
when.type = ["com.example.nothing"]
[[route.step]]
use = "tried"
with = { act = "done" }
"#;

/// A router with one instance of the plugin that does as it is told.
struct Stage {
    router: Router,
    home: TempDir,
}

impl Stage {
    fn set() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut router = Router::prepare(Path::new(BINARY), home.path(), &[library()]).unwrap();
        router.configure(CONFIGURATION, ROUTES).unwrap();
        router.set("TOKEN", "t0ken");
        Self { router, home }
    }

    async fn started() -> Self {
        let mut stage = Self::set();
        stage.router.start().await.unwrap();
        stage
    }

    /// How a call by hand ends, and the exit code.
    async fn call(&self, act: &str, more: &[&str]) -> (Value, Option<i32>) {
        let input = json!({ "act": act }).to_string();
        let arguments = ["plugin", "call", "tried", "-o", "json", "--input", &input];
        let output = self
            .router
            .attempt(&[&arguments[..], more].concat())
            .await
            .unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        (json, output.status.code())
    }

    /// What is told of the instance.
    async fn listed(&self) -> Value {
        let listed = self.router.ask(&["plugin", "list"]).await.unwrap();
        assert_eq!(listed["instances"].as_array().unwrap().len(), 1, "{listed:#}");
        listed["instances"][0].clone()
    }
}

#[tokio::test]
async fn an_instance_is_listed_with_how_it_does() {
    let mut stage = Stage::set();
    let before = stage.listed().await;
    assert_eq!(
        before,
        json!({ "name": "tried", "plugin": "trial", "isolation": "process", "state": "loaded" })
    );
    stage.router.start().await.unwrap();
    for act in ["log", "skip", "retry"] {
        stage.call(act, &[]).await;
    }
    let vitals = stage.listed().await["vitals"].clone();
    let process = vitals["process"].as_i64().unwrap();
    assert_eq!(
        vitals,
        json!({ "calls": 3, "failures": 1, "in_flight": 0, "restarts": 0, "process": process })
    );

    let worker = Pid::from_raw(process.try_into().unwrap()).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    // A call waits for the next process, or was in the one that died.
    while stage.listed().await["vitals"]["restarts"] == 0 {
        stage.call("log", &[]).await;
    }
    let vitals = stage.listed().await["vitals"].clone();
    assert_eq!(vitals["restarts"], 1);
    assert_ne!(vitals["process"], process);

    let table = stage.router.command(&["plugin", "list"]).await.unwrap();
    let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().take(3).collect();
    assert_eq!(words, ["tried", "trial", "1.0.0"], "{table}");
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn the_generation_and_the_digest_of_the_code_in_use_are_listed() {
    let mut stage = Stage::started().await;
    let first = fs::read(library()).unwrap();
    // What follows the end of a library is nothing to it, but makes it another one.
    let second = [&first[..], b"another"].concat();
    for (bytes, generation) in [(first, "1"), (second, "2")] {
        let refused = change::library(&stage.router, &library(), &bytes).await.unwrap();
        assert_eq!(refused, None);
        let table = stage.router.command(&["plugin", "list"]).await.unwrap();
        let columns = |line: usize| {
            let words = table.lines().nth(line).unwrap().split_whitespace();
            words.skip(1).take(5).collect::<Vec<_>>()
        };
        let digest = Digest::of(&bytes).to_string();
        assert_eq!(
            columns(0),
            ["PLUGIN", "VERSION", "GEN", "DIGEST", "STATE"],
            "{table}"
        );
        assert_eq!(
            columns(1),
            ["trial", "1.0.0", generation, &digest[..12], "loaded"],
            "{table}"
        );
    }
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_ends_with_its_router_also_where_it_cannot_notice() {
    let mut stage = Stage::started().await;
    let process = stage.listed().await["vitals"]["process"].as_u64().unwrap();
    let process = u32::try_from(process).unwrap();
    let worker = Pid::from_raw(process.try_into().unwrap()).unwrap();
    // From here on it does not read that its socket was closed.
    kill_process(worker, Signal::STOP).unwrap();
    stage.router.kill().await.unwrap();
    let lives = || Process::find(process).is_ok_and(|worker| !worker.is_over);
    assert!(eventually(async || !lives()).await);
}

#[tokio::test]
async fn what_the_kernel_lacks_is_said_once_at_the_start_and_wherever_plugins_are_listed() {
    without_landlock();
    let mut stage = Stage::set();
    let lacking = "files, which plugins can open as the router can (Landlock, Linux 5.13)";
    for with_router in [false, true] {
        if with_router {
            stage.router.start().await.unwrap();
            let (done, _) = stage.call("done", &[]).await;
            assert_eq!(
                done["outcome"], "done",
                "the rest is enforced, and it runs: {done:#}"
            );
        }
        let listed = stage.router.ask(&["plugin", "list"]).await.unwrap();
        assert_eq!(listed["unenforced"][0], lacking, "{listed:#}");
        let table = stage.router.command(&["plugin", "list"]).await.unwrap();
        assert!(
            table.contains(&format!("\nnot enforced by this kernel: {lacking}\n")),
            "{table}"
        );
    }
    stage.router.stop().await.unwrap();
    let log = stage.router.log();
    let said = log
        .lines()
        .filter(|line| line.contains("this kernel does not bound plugins in full"));
    let said: Vec<_> = said.collect();
    assert!(said.len() == 1 && said[0].contains(lacking), "{log}");
}

/// Has whatever this thread starts from now on see a kernel without Landlock.
fn without_landlock() {
    let rules = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

#[tokio::test]
async fn a_call_by_hand_is_the_same_with_a_router_and_without() {
    let mut stage = Stage::set();
    for with_router in [false, true] {
        if with_router {
            stage.router.start().await.unwrap();
        }
        let (done, code) = stage.call("done", &["--keep"]).await;
        assert_eq!((&done["outcome"], code), (&json!("done"), Some(0)), "{done:#}");
        let delivery = done["output"]["delivery"].as_str().unwrap();
        assert_eq!(done["output"]["key"], format!("{delivery}/call"));
        assert_eq!(
            (&done["output"]["route"], &done["output"]["attempt"]),
            (&json!("by hand"), &json!(1))
        );
        let workdir = PathBuf::from(done["workdir"].as_str().unwrap());
        assert_eq!(
            fs::read_to_string(workdir.join("trace")).unwrap(),
            "io.zeplin.project.screen.version.created"
        );
        fs::remove_dir_all(&workdir).unwrap();

        let (other, _) = stage.call("done", &[]).await;
        assert_ne!(other["output"]["key"], done["output"]["key"]);
        assert!(other.get("workdir").is_none());
        let (secret, _) = stage.call("secret", &[]).await;
        assert_eq!(secret["output"]["same"], true, "{secret:#}");
        let (kept, _) = stage.call("keep", &[]).await;
        assert_eq!(kept["output"], json!({ "kept": "17", "gone": true }));

        let (retry, code) = stage.call("retry", &[]).await;
        assert_eq!(code, Some(1));
        assert_eq!(
            (
                &retry["outcome"],
                &retry["reason"],
                &retry["message"],
                &retry["retry_after_ms"]
            ),
            (
                &json!("retry"),
                &json!("plugin-retry"),
                &json!("not now"),
                &json!(1500)
            )
        );
        let (logged, _) = stage.call("log", &[]).await;
        assert_eq!(logged["logs"][0]["message"], "a line of call");
        assert_eq!(logged["logs"][0]["fields"], json!({ "kind": "trial" }));

        let misfit = stage
            .router
            .attempt(&["plugin", "call", "tried", "--input", r#"{"act":"dance"}"#])
            .await
            .unwrap();
        assert_eq!(misfit.status.code(), Some(1));
        let words = "the input does not fit plugin `trial`: `act`: found a string, expected \"done\" or";
        assert!(said(&misfit).contains(words), "{}", said(&misfit));
    }
    let work = stage.home.path().join("data/work");
    assert_eq!(fs::read_dir(work).unwrap().count(), 0);
    stage.router.stop().await.unwrap();
}

#[test]
fn a_call_without_a_router_is_made_under_any_umask() {
    let stage = Stage::set();
    let called = Command::new("sh")
        .args([
            "-c",
            "umask 0; exec \"$@\"",
            "sh",
            BINARY,
            "plugin",
            "call",
            "tried",
        ])
        .args(["--input", r#"{"act":"skip"}"#, "--config"])
        .arg(stage.router.configuration())
        .env("TOKEN", "t0ken")
        .output()
        .unwrap();
    assert!(called.status.success(), "{}", said(&called));
}

#[tokio::test]
async fn a_call_by_hand_can_be_for_a_stored_event_and_for_people() {
    let mut stage = Stage::started().await;
    let sent = stage.router.ask(&["send", "screens"]).await.unwrap();
    let event = sent["body"]["id"].as_str().unwrap();
    let done = stage.call("done", &["--event", event, "--keep"]).await.0;
    assert_eq!(done["outcome"], "done", "{done:#}");
    let missing = [
        "plugin",
        "call",
        "tried",
        "--event",
        "evt_01kdvdna000000000000000000",
    ];
    let missing = stage.router.attempt(&missing).await.unwrap();
    assert!(
        said(&missing).contains("there is no event evt_01kdvdna"),
        "{}",
        said(&missing)
    );

    let input = ["--input", r#"{"act":"skip"}"#];
    let text = stage
        .router
        .command(&[&["plugin", "call", "tried"], &input[..]].concat())
        .await
        .unwrap();
    for line in [
        "outcome     skipped",
        "reason      plugin-skipped",
        "message     nothing to do",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} in {text}");
    }
    let nobody = stage.router.attempt(&["plugin", "call", "nobody"]).await.unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        said(&nobody).contains("there is no instance `nobody`"),
        "{}",
        said(&nobody)
    );

    let admin = stage.router.admin();
    let over_tcp = http::send(admin, Method::POST, "/v1/call", &HeaderMap::new(), "{}")
        .await
        .unwrap();
    assert_eq!(over_tcp.status, StatusCode::FORBIDDEN);
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn a_plugin_is_inspected_by_its_file_and_by_its_names() {
    let stage = Stage::set();
    let file = library();
    let mut inspected = Vec::new();
    for name in [file.to_str().unwrap(), "trial", "tried"] {
        let mut portrait = stage.router.ask(&["plugin", "inspect", name]).await.unwrap();
        portrait["file"].take();
        inspected.push(portrait);
    }
    assert_eq!(inspected[0], inspected[1]);
    assert_eq!(inspected[1], inspected[2]);
    let portrait = &inspected[0];
    assert_eq!(
        (&portrait["name"], &portrait["panic_abort"]),
        (&json!("trial"), &json!(false))
    );
    assert_eq!(portrait["exports"], json!(["jf_plugin_entry"]));
    assert_eq!(
        portrait["manifest"]["capabilities"],
        json!(["action", "provider"])
    );
    assert!(portrait["manifest"]["config_schema"]["properties"]["token"].is_object());

    let text = stage
        .router
        .command(&["plugin", "inspect", "tried"])
        .await
        .unwrap();
    // A few of its lines, in their order, however wide the columns are: the plugin of the tests grows.
    let shown = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let wanted = [
        "Configuration, as `config` of an `[[instance]]`",
        "FIELD TYPE DEFAULT MEANING",
        "refuse string - Why the instance is not to start.",
        "Input, as `with` of a step",
        "act \"done\" or \"skip\" or \"retry\" or \"fatal\" … required Which of all that it can do.",
        "port integer 0 The port of loopback to connect to.",
        "Output, as `steps.<id>` in the steps after it",
        "anything",
    ];
    let mut wanted = wanted.iter().peekable();
    for line in shown {
        wanted.next_if(|next| **next == line);
    }
    assert_eq!(wanted.peek(), None, "{text}");
    let unknown = stage
        .router
        .attempt(&["plugin", "inspect", "trail"])
        .await
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        said(&unknown).contains("calls itself `trail`; there is: `trial`"),
        "{}",
        said(&unknown)
    );
    let none = stage
        .router
        .attempt(&["plugin", "inspect", "./jackfield.toml.so"])
        .await
        .unwrap();
    assert_eq!(none.status.code(), Some(1));
}

/// What runs tests is told where the library is and what drives it, and its exit code is the answer. What cannot be driven is told
/// before it is run.
#[test]
fn tests_run_against_a_library_that_can_be_driven() {
    let library = library();
    let test = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["plugin", "test"]).args(arguments);
        command.output().unwrap()
    };
    let file = library.to_str().unwrap();
    let run = test(&[
        file,
        "--",
        "sh",
        "-c",
        "echo $JACKFIELD_LIBRARY $JACKFIELD_PROGRAM; exit 3",
    ]);
    assert_eq!(run.status.code(), Some(3), "{}", said(&run));
    for words in [file, BINARY, "testing `trial` as it is in"] {
        assert!(said(&run).contains(words), "{}", said(&run));
    }
    for (arguments, code, words) in [
        (
            &["no-such.so", "--", "true"][..],
            1,
            "there is no no-such.so: build the library first",
        ),
        (&["/dev/null", "--", "true"], 1, "`/dev/null`"),
        (
            &[file, "--grant", r#"{"hosts": []}"#, "--", "true"],
            1,
            "`--grant` takes `read`, `write` and `programs`",
        ),
        (
            &[file, "--", "no-such-program"],
            1,
            "no-such-program cannot be run",
        ),
        (&[file], 2, "<COMMAND>"),
    ] {
        let refused = test(arguments);
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{arguments:?}: {}",
            said(&refused)
        );
        assert!(
            said(&refused).contains(words),
            "{arguments:?}: {}",
            said(&refused)
        );
    }
}

fn library() -> PathBuf {
    cargo::build(&["trial-plugin"], "dev")
        .unwrap()
        .library("trial-plugin")
        .unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");
