//! `plugin new`, as an author goes on from there: what it writes builds, passes its own tests and every check, and handles an
//! event in a router.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use jackfield_stage::router::Router;
use serde_json::Value;

const SOURCE: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "TOKEN" }]
"#;

const ROUTES: &str = r#"
[[route]]
name = "greet"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "hello"
with = { name = "{{ event.data.actor.name }}" }

[[route.step]]
use = "hello-in-c"
"#;

#[tokio::test]
async fn a_new_plugin_builds_passes_and_handles_an_event() {
    let home = tempfile::tempdir().unwrap();
    let (rust, c) = (home.path().join("hello"), home.path().join("hello-in-c"));
    succeed(jackfield(home.path()).args(["plugin", "new", "hello"]));
    succeed(jackfield(home.path()).args(["plugin", "new", "hello-in-c", "--lang", "c"]));

    let tested = succeed(cargo(&rust).arg("test"));
    assert!(
        said(&tested).contains("test result: ok. 4 passed"),
        "{}",
        said(&tested)
    );
    succeed(cargo(&rust).arg("build"));
    succeed(
        Command::new("make")
            .arg("CFLAGS=-Wall -Wextra -Werror")
            .current_dir(&c),
    );
    let libraries = [target().join("debug/libhello_plugin.so"), c.join("hello-in-c.so")];

    let mut again = cargo(&rust);
    again.arg("test");
    let mut test = jackfield(&rust);
    test.args(["plugin", "test"])
        .arg(&libraries[0])
        .arg("--")
        .arg(again.get_program())
        .args(again.get_args());
    for (name, value) in again.get_envs() {
        match value {
            Some(value) => test.env(name, value),
            None => test.env_remove(name),
        };
    }
    let tested = succeed(&mut test);
    assert!(
        said(&tested).contains("test result: ok. 4 passed")
            && said(&tested).contains("testing `hello` as it is in"),
        "{}",
        said(&tested)
    );

    let inputs = [r#"{"name": "Ada"}"#, "{}"];
    for (library, input) in libraries.iter().zip(inputs) {
        let mut check = jackfield(home.path());
        check
            .args(["plugin", "check", "-o", "json", "--input", input])
            .arg(library);
        let report: Value = serde_json::from_slice(&succeed(&mut check).stdout).unwrap();
        for check in report["checks"].as_array().unwrap() {
            assert_eq!(check["verdict"], "passed", "{check:#}");
        }
    }

    let mut router = Router::prepare(Path::new(BINARY), &home.path().join("router"), &libraries).unwrap();
    router.configure(SOURCE, ROUTES).unwrap();
    router.set("TOKEN", "t0ken");
    router.start().await.unwrap();
    router.ask(&["send", "screens"]).await.unwrap();
    router.settled(Duration::from_secs(60)).await.unwrap();
    let deliveries = router.ask(&["deliveries", "list"]).await.unwrap();
    let delivery = deliveries[0]["id"].as_str().unwrap();
    let shown = router.ask(&["deliveries", "show", delivery]).await.unwrap();
    let outputs: Vec<_> = shown["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["output"]["greeting"].clone())
        .collect();
    assert_eq!(outputs, ["hello, Ada", "hello, greet"], "{shown:#}");
    router.stop().await.unwrap();
}

/// Neither a name with a hyphen nor one that is a word of Rust is a name that code can have.
#[test]
fn a_new_plugin_builds_whatever_its_name_is() {
    let home = tempfile::tempdir().unwrap();
    succeed(jackfield(home.path()).args(["plugin", "new", "match-greeter"]));
    let tested = succeed(cargo(&home.path().join("match-greeter")).arg("test"));
    assert!(
        said(&tested).contains("test result: ok. 4 passed"),
        "{}",
        said(&tested)
    );
}

#[test]
fn what_is_there_is_not_overwritten_and_a_wrong_name_is_told() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("hello")).unwrap();
    fs::write(home.path().join("hello/precious"), "mine").unwrap();
    for (arguments, words) in [
        (
            &["hello"][..],
            "hello is not empty, and nothing in it is overwritten",
        ),
        (&["Hello World"], "`Hello World` is no name for a plugin"),
        (&["3d"], "begins with a letter"),
        (&["other", "--sdk", "hello"], "there is no SDK at hello"),
    ] {
        let refused = jackfield(home.path())
            .args(["plugin", "new"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(
            said(&refused).contains(words),
            "{arguments:?}: {}",
            said(&refused)
        );
    }
    assert_eq!(fs::read_dir(home.path().join("hello")).unwrap().count(), 1);
    // An empty directory is as good as none.
    fs::create_dir(home.path().join("empty")).unwrap();
    let made = ["plugin", "new", "empty", "--lang", "c"];
    succeed(jackfield(home.path()).args(made));
    assert!(home.path().join("empty/empty.c").exists());
}

fn jackfield(at: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(at);
    command
}

/// Cargo in the new package, with the versions that this workspace has, so that nothing has to be fetched.
fn cargo(package: &Path) -> Command {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    if !package.join("Cargo.lock").exists() {
        fs::copy(lock, package.join("Cargo.lock")).unwrap();
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What this test is told of its own package is not true of that one.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_")) && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    command
        .current_dir(package)
        .arg("--offline")
        .env("CARGO_TARGET_DIR", target())
        // Nobody looks into it with a debugger.
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    command
}

/// Kept from one run to the next.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-plugin")
}

#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");
