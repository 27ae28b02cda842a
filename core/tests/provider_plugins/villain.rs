//! A provider that crashes, hangs and lies: what is not verified is not accepted, and nothing of it stays.

use std::{path::Path, process::Command};

use hyper::HeaderMap;

use crate::{Site, unavailable};

async fn villain(isolation: &str) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("villain.so");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("cc")
        .args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-o",
        ])
        .arg(&library)
        .arg(here.join("tests/provider_plugins/villain.c"))
        .arg("-I")
        .arg(here.join("../sdk/abi/include"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let instance =
        format!("[[instance]]\nname = \"villain\"\nisolation = \"{isolation}\"\ntimeout = \"300ms\"\n");
    Site::start("villain", &[library], &instance).await
}

async fn nothing_is_accepted_without_a_verdict_that_makes_sense(isolation: &str) {
    let mut site = villain(isolation).await;
    let none = HeaderMap::new();
    for body in [
        "hang",
        "no outcome",
        "retry",
        "nothing",
        "no json",
        "no verdict",
        "believes all",
        "redirect",
    ] {
        let answer = site.post(&none, &format!("\"{body}\"")).await;
        assert_eq!(answer.status, 503, "{body}: {}", answer.body);
        unavailable(&answer);
    }
    assert!(site.events().await.is_empty());
    assert!(site.router.log().contains("the keys cannot be fetched"));

    // It is verified, so it becomes an event, if not the one that was drafted.
    assert_eq!(site.post(&none, "\"wrong draft\"").await.status, 200);
    assert_eq!(site.post(&none, "\"good\"").await.status, 200);
    let events = site.events().await;
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["com.villain.came", "plugin.villain.unrecognized"]);
    site.router.stop().await.unwrap();
}

#[tokio::test]
async fn nothing_is_accepted_without_a_verdict_from_a_process_of_its_own() {
    nothing_is_accepted_without_a_verdict_that_makes_sense("process").await;
}

#[tokio::test]
async fn nothing_is_accepted_without_a_verdict_from_the_router_itself() {
    nothing_is_accepted_without_a_verdict_that_makes_sense("none").await;
}

#[tokio::test]
async fn a_crash_costs_the_request_and_the_process_is_back_for_the_next() {
    let mut site = villain("process").await;
    let none = HeaderMap::new();
    unavailable(&site.post(&none, "\"crash\"").await);
    site.post_until(&none, "\"good\"", 200).await;
    assert_eq!(site.events().await.len(), 1);
    let log = site.router.log();
    assert!(log.contains("plugin-crashed") && log.contains("SIGABRT"), "{log}");
    site.router.stop().await.unwrap();
}
