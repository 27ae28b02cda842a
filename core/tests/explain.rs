//! Why a route matched or did not, asked of a running router: at its admin address, and as events come in.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{path::Path, process::Stdio};

use hyper::{HeaderMap, Method};
use jackfield_stage::{http, router::Router};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

/// One route whose instance has no plugin, so that what it owes waits; one that matches nothing; and one that no value leads to.
const ROUTES: &str = r#"
[[route]]
name = "screens"
when.type = [{ prefix = "io.zeplin." }]
[[route.step]]
use = "nobody"

[[route]]
name = "exports"
when.type = ["io.supernova.job.success"]
[[route.step]]
use = "nobody"

[[route]]
name = "everything"
when.subject = [{ anything-but = "x" }]
[[route.step]]
use = "nobody"
"#;

const SOURCES: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "TOKEN" }]

[[instance]]
name = "nobody"
"#;

async fn started() -> (Router, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let mut router = Router::prepare(Path::new(env!("CARGO_BIN_EXE_jackfield")), home.path(), &[]).unwrap();
    router.configure(SOURCES, ROUTES).unwrap();
    router.set("TOKEN", "t0ken");
    router.start().await.unwrap();
    (router, home)
}

async fn get(router: &Router, path: &str) -> (u16, Value) {
    let answer = http::send(router.admin(), Method::GET, path, &HeaderMap::new(), "")
        .await
        .unwrap();
    (
        answer.status.as_u16(),
        serde_json::from_str(&answer.body).unwrap_or_default(),
    )
}

async fn sent(router: &Router) -> String {
    let sent = router.ask(&["send", "screens"]).await.unwrap();
    sent["body"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_admin_address_explains_as_the_command_does() {
    let (mut router, _home) = started().await;
    let event = sent(&router).await;
    let path = format!("/v1/events/{event}/explain");
    // Until the delivery waits, so that nothing changes from one answer to the next.
    let (status, explained) = loop {
        let answer = get(&router, &path).await;
        if answer.1[0]["deliveries"][0]["state"] == "waiting" {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(status, 200);
    assert_eq!(explained[0]["deliveries"][0]["reason"], "instance-parked");
    assert_eq!(explained[1]["failed"]["path"], "type");
    let told = |explained: &Value| {
        let routes = explained.as_array().unwrap().iter();
        let parts = routes.map(|route| {
            (
                route["route"].clone(),
                route["matched"].clone(),
                route["failed"].clone(),
            )
        });
        parts.collect::<Vec<_>>()
    };
    let by_command = router.ask(&["routes", "explain", &event]).await.unwrap();
    assert_eq!(told(&by_command), told(&explained));

    let (status, one) = get(&router, &format!("{path}?route=exports")).await;
    assert_eq!((status, &one[0]["failed"]), (200, &explained[1]["failed"]));
    assert_eq!(one.as_array().unwrap().len(), 1);
    for (path, status) in [
        (format!("{path}?route=nobody"), 404),
        (format!("{path}?rout=exports"), 400),
        (
            "/v1/events/evt_01kdvdna000000000000000000/explain".to_owned(),
            404,
        ),
        ("/v1/events/evt/explain".to_owned(), 400),
    ] {
        let (found, problem) = get(&router, &path).await;
        assert_eq!(found, status, "{path}: {problem}");
        assert!(problem["error"].is_string(), "{path}: {problem}");
    }
    let posted = http::send(router.admin(), Method::POST, &path, &HeaderMap::new(), "")
        .await
        .unwrap();
    assert_eq!(posted.status, 405);

    // Rules under which it would match, and did not when it came.
    let rules = ROUTES.replace(
        "io.supernova.job.success",
        "io.zeplin.project.screen.version.created",
    );
    std::fs::write(router.home().join("routes.toml"), rules).unwrap();
    router.command(&["routes", "reload"]).await.unwrap();
    let (_, explained) = get(&router, &path).await;
    assert_eq!(explained[1]["idle"]["reason"], "other-rules");
    let idle = explained[1]["idle"]["detail"].as_str().unwrap();
    assert!(
        idle.starts_with("owed nothing when it came: other rules were in force then"),
        "{idle}"
    );
    let words = router.command(&["routes", "explain", &event]).await.unwrap();
    assert!(words.contains(idle), "{words}");

    // The same delivery of the provider's, twice.
    let mut twice = Vec::new();
    for _ in 0..2 {
        let sent = router
            .ask(&["send", "screens", "--delivery", "42"])
            .await
            .unwrap();
        twice.push(sent["body"]["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(twice[0], twice[1]);
    let (_, explained) = get(&router, &format!("/v1/events/{}/explain", twice[0])).await;
    assert_eq!(explained[0]["duplicates"], 1, "{explained}");
    let words = router.command(&["routes", "explain", &twice[0]]).await.unwrap();
    let duplicate = "note: it came once more, for which nothing more is owed (duplicate)\n";
    assert!(words.starts_with(duplicate), "{words}");
    let (_, explained) = get(&router, &path).await;
    assert_eq!(explained[0]["duplicates"], Value::Null, "{explained}");

    let log = router.log();
    assert_eq!(log.matches("\"reason\":\"duplicate\"").count(), 1, "{log}");
    assert_eq!(log.matches("no value leads to the route").count(), 2, "{log}");
    assert!(log.contains("everything"), "{log}");
    router.stop().await.unwrap();
}

#[tokio::test]
async fn events_are_explained_as_they_come_in() {
    let (mut router, _home) = started().await;
    let follow = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_jackfield"))
            .args(["routes", "explain", "--follow", "--config"])
            .arg(router.configuration())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let before = sent(&router).await;
    let mut follower = follow(&["-o", "json", "--route", "exports"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // Some come in before it looks for the first time.
    let mut events = Vec::new();
    let first = loop {
        events.push(sent(&router).await);
        let line = tokio::time::timeout(std::time::Duration::from_millis(500), lines.next_line()).await;
        if let Ok(line) = line {
            break line.unwrap().unwrap();
        }
    };
    let mut seen = vec![serde_json::from_str::<Value>(&first).unwrap()];
    let last = sent(&router).await;
    while seen.last().unwrap()["id"] != last.as_str() {
        let line = lines.next_line().await.unwrap().unwrap();
        seen.push(serde_json::from_str(&line).unwrap());
    }
    events.push(last);
    let ids: Vec<_> = seen.iter().map(|event| event["id"].as_str().unwrap()).collect();
    // All from the first one on, each once.
    assert_eq!(ids, events[events.len() - ids.len()..]);
    assert!(!ids.contains(&before.as_str()));
    for event in &seen {
        assert_eq!(event["type"], "io.zeplin.project.screen.version.created");
        assert_eq!(event["routes"].as_array().unwrap().len(), 1);
        assert_eq!(event["routes"][0]["failed"]["path"], "type");
    }
    // It ends when nobody reads any more.
    drop(lines);
    while follower.try_wait().unwrap().is_none() {
        sent(&router).await;
    }
    router.stop().await.unwrap();
}
