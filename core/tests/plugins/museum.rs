//! The museum: a plugin for each minor of the ABI that there has been, compiled against the header of its time.

use std::{fs, path::PathBuf, process::Command, sync::Arc, time::Duration};

use jackfield::{
    delivery::Outcome,
    plugin::{InstanceOptions, Isolation, RequestCall, note::Abi},
    reason::Reason,
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    battery::check,
    built::here,
    host::Recorder,
    trial::{Bench, configured, log, logged, reason},
};

/// A plugin of old.
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

    /// Compiles it against this header, and drops it.
    fn drop_with(&self, header: &str, bench: &Bench) {
        let sources = bench.path("sources");
        fs::create_dir(&sources).unwrap();
        fs::write(sources.join(HEADER), header).unwrap();
        // Beside the header, since that is where a compiler looks first.
        fs::copy(self.directory.join("plugin.c"), sources.join("plugin.c")).unwrap();
        let output = Command::new("cc")
            .args(["-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"])
            .args(["-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-o"])
            .arg(bench.plugins().join("exhibit.so"))
            .arg(sources.join("plugin.c"))
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
    let Abi { major, minor } = Abi::OURS;
    let minor = minor + 1;
    let today = Exhibit::today();
    let header = today.header_of(Abi { major, minor });
    runs(&today, &header, Isolation::None).await;
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

    let request = RequestCall {
        head: "{}".into(),
        body: "{}".into(),
        deadline: Instant::now() + Duration::from_secs(60),
        cancelled: CancellationToken::new(),
    };
    let report = instance.caller.receive(request).await;
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
