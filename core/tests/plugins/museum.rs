//! The museum: a plugin and a router for each minor of the ABI that there has been, compiled against the header of its time.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use jackfield::{
    delivery::Outcome,
    plugin::{InstanceOptions, Isolation, note::Abi},
    reason::Reason,
};
use serde_json::json;

use crate::{
    battery::check,
    built::{Build, here},
    host::Recorder,
    trial::{Bench, configured, log, logged, reason},
};

/// A plugin of old, and a router.
struct Exhibit {
    abi: Abi,
    directory: PathBuf,
}

impl Exhibit {
    fn all() -> Vec<Self> {
        let directories = fs::read_dir(here().join("museum")).unwrap();
        let directories = directories.map(|entry| entry.unwrap().path());
        let exhibit = |directory: PathBuf| {
            let (major, minor) = directory.file_name()?.to_str()?.split_once('.')?;
            Some(Self {
                abi: Abi {
                    major: major.parse().ok()?,
                    minor: minor.parse().ok()?,
                },
                directory,
            })
        };
        directories.filter_map(exhibit).collect()
    }

    fn today() -> Self {
        let today = Self::all().into_iter().find(|exhibit| exhibit.abi == Abi::OURS);
        today.unwrap_or_else(|| panic!("the museum has no {}: see its README", Abi::OURS))
    }

    fn header(&self) -> String {
        fs::read_to_string(self.directory.join(HEADER)).unwrap()
    }

    /// The header as one of another version would say it.
    fn header_of(&self, abi: Abi) -> String {
        let define = |name, number| format!("define JF_ABI_{name} {number}u");
        self.header()
            .replace(&define("MAJOR", self.abi.major), &define("MAJOR", abi.major))
            .replace(&define("MINOR", self.abi.minor), &define("MINOR", abi.minor))
    }

    /// The header of a minor that comes after this, and has made these structs longer.
    fn header_grown(&self, structs: &[&str]) -> String {
        let Abi { major, minor } = self.abi;
        let minor = minor + 1;
        structs
            .iter()
            .fold(self.header_of(Abi { major, minor }), |header, name| {
                let end = format!("}} {name};");
                assert!(header.contains(&end), "{name}");
                header.replace(&end, &format!("  uint32_t later[2];\n{end}"))
            })
    }

    /// Compiles its plugin against this header, and drops it.
    fn drop_with(&self, header: &str, bench: &Bench) {
        let library = bench.plugins().join("exhibit.so");
        let arguments = ["-shared", "-fPIC", "-fvisibility=hidden"];
        self.compile("plugin.c", header, bench, &library, &arguments);
    }

    fn compile(&self, source: &str, header: &str, bench: &Bench, to: &Path, arguments: &[&str]) {
        let sources = bench.path("sources");
        fs::create_dir(&sources).unwrap();
        fs::write(sources.join(HEADER), header).unwrap();
        // Beside the header, since that is where a compiler looks first.
        fs::copy(self.directory.join(source), sources.join(source)).unwrap();
        let output = Command::new("cc")
            .args(["-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"])
            // It fills in the fields that there were.
            .arg("-Wno-missing-field-initializers")
            .args(arguments)
            .args(["-pthread", "-o"])
            .arg(to)
            .arg(sources.join(source))
            .arg("-ldl")
            .output()
            .expect("a C compiler is there");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

const HEADER: &str = "jackfield_plugin.h";

/// The header without what is for people, and without what is not code.
fn code(header: &str) -> String {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").expect("comments end").1;
    }
    code += rest;
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn todays_header_is_in_the_museum() {
    let today = Exhibit::today();
    let header = fs::read_to_string(here().join("../../../sdk/abi/include").join(HEADER)).unwrap();
    assert_eq!(
        code(&today.header()),
        code(&header),
        "the header has changed, and ABI {} with it: raise the minor, and put that into the museum",
        Abi::OURS
    );
}

#[tokio::test]
async fn whatever_this_router_can_speak_with_runs_and_all_else_is_parked() {
    for exhibit in Exhibit::all() {
        if exhibit.abi.is_ours() {
            for isolation in [Isolation::None, Isolation::Process] {
                runs(&exhibit, &exhibit.header(), isolation).await;
            }
        } else {
            is_parked(&exhibit, &exhibit.header(), exhibit.abi).await;
        }
    }
}

#[tokio::test]
async fn a_plugin_of_a_wrong_version_is_parked_with_both() {
    let Abi { major, minor } = Abi::OURS;
    let today = Exhibit::today();
    for major in [major - 1, major + 1] {
        let wrong = Abi { major, minor };
        is_parked(&today, &today.header_of(wrong), wrong).await;
    }
}

#[tokio::test]
async fn a_plugin_of_a_later_minor_runs_as_far_as_it_asks_for_what_is_there() {
    let today = Exhibit::today();
    // All that a plugin writes.
    let header = today.header_grown(&["jf_ident", "jf_plugin", "jf_provider", "jf_result"]);
    for isolation in [Isolation::None, Isolation::Process] {
        runs(&today, &header, isolation).await;
    }
}

#[test]
fn todays_plugin_runs_with_every_router_of_its_major() {
    for exhibit in Exhibit::all() {
        if exhibit.abi.is_ours() {
            serves(&exhibit, &exhibit.header());
        }
    }
}

#[test]
fn todays_plugin_runs_with_a_router_of_a_later_minor() {
    let today = Exhibit::today();
    // All that a router writes.
    let header = today.header_grown(&["jf_call", "jf_host", "jf_reply", "jf_request", "jf_start"]);
    serves(&today, &header);
}

/// Has the router of old do with the plugin of today whatever there is to do.
fn serves(exhibit: &Exhibit, header: &str) {
    let bench = Bench::new();
    let host = bench.path("host");
    exhibit.compile("host.c", header, &bench, &host, &[]);
    let head = bench.request("token").head;
    let acts = [
        "keep", "receipt", "receipt", "secret", "emit", "log", "wait", "skip",
    ];
    let output = Command::new(host)
        .arg(Build::RUST.library())
        .arg(OsStr::from_bytes(&head))
        .args(acts.map(|act| json!({ "act": act }).to_string()))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let expected = [
        r#"1 0 {"event":{"dedup":"trials","draft":{"data":{},"subject":"[2,248]","type":"com.example.trial"},"verified":"path-token"}}"#,
        r#"1 0 {"gone":true,"kept":"17"}"#,
        r#"1 0 "absent""#,
        r#"1 0 "intended""#,
        r#"1 0 {"missing":true,"same":false}"#,
        r#"1 0 "evt_emitted""#,
        "log: a line of step",
        "1 0 null",
        "3 2 stopped",
        "2 0 nothing to do",
        "stuck: 0",
    ];
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        expected,
        "{}: {output:?}",
        exhibit.abi
    );
}

async fn runs(exhibit: &Exhibit, header: &str, isolation: Isolation) {
    log();
    let (bench, host) = (Bench::new(), Arc::new(Recorder::new()));
    exhibit.drop_with(header, &bench);
    let options = InstanceOptions {
        plugin: "exhibit".to_owned(),
        isolation,
        ..configured("exhibit", json!({}))
    };
    let registry = bench.load(&host, vec![options]).await;
    let instance = registry
        .instance("exhibit")
        .unwrap_or_else(|| panic!("{:?}", registry.instances()));

    let report = instance.caller.call(bench.call("all")).await;
    assert_eq!(report.outcome, Outcome::Done, "{}: {report:?}", exhibit.abi);
    assert_eq!(host.kept().emitted.len(), 1);
    assert!(logged().contains("an old line"));

    let report = instance.caller.receive(bench.request("all")).await;
    assert_eq!(report.outcome, Outcome::Done, "{}: {report:?}", exhibit.abi);
    assert!(report.output.unwrap().starts_with(b"{\"event\""));

    let call = bench.call("wait");
    let cancelled = call.cancelled.clone();
    let (report, ()) = tokio::join!(instance.caller.call(call), async {
        host.waits(1).await;
        cancelled.cancel();
    });
    check(&report, Outcome::Retry, Reason::Interrupted, "stopped");
    registry.shutdown(Duration::from_secs(60)).await;
}

async fn is_parked(exhibit: &Exhibit, header: &str, abi: Abi) {
    let bench = Bench::new();
    exhibit.drop_with(header, &bench);
    let plugins = bench.survey(Vec::new()).await.plugins();
    assert_eq!(
        reason(&plugins, "exhibit.so", &bench.plugins()).unwrap(),
        format!(
            "`exhibit.so` (plugin `exhibit`) speaks ABI {abi}, this Jackfield speaks {}: build it with the SDK or header of \
             this release",
            Abi::OURS
        )
    );
}
