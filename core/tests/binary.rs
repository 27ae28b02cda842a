//! The real binary, as a person and a supervisor meet it: started, asked, refused, stopped and killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::{HeaderMap, Method, StatusCode};
use jackfield::admin::PIECE;
use jackfield_stage::{http, router::Router};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A route whose instance is configured and has no plugin: what it owes waits, with that reason.
const ROUTES: &str = r#"
[[route]]
name = "exports"
when = { type = ["io.supernova.job.success"] }
[[route.step]]
use = "nobody"
"#;

const SOURCES: &str = r#"
[[source]]
name = "design-system"
provider = "supernova"
path_token = { env = "TOKEN" }

[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "TOKEN" }]

[[instance]]
name = "nobody"
"#;

struct Stage {
    router: Router,
    home: TempDir,
}

impl Stage {
    fn set() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut router = Router::prepare(Path::new(BINARY), home.path(), &[]).unwrap();
        router.configure(SOURCES, ROUTES).unwrap();
        router.set("TOKEN", "t0ken");
        Self { router, home }
    }

    async fn started() -> Self {
        let mut stage = Self::set();
        stage.router.start().await.unwrap();
        stage
    }

    async fn get(&self, path: &str) -> http::Answered {
        http::send(self.router.admin(), Method::GET, path, &HeaderMap::new(), "")
            .await
            .unwrap()
    }

    /// What a command says of a configuration that it refuses.
    async fn faults(&self, command: &str) -> String {
        let output = self.router.attempt(&[command]).await.unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(78), "{command}: {said}");
        said
    }

    async fn ids(&self, list: &str) -> Vec<String> {
        let listed = self.router.ask(&[list, "list"]).await.unwrap();
        let listed = listed.as_array().unwrap().iter();
        listed.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn lists_are_the_same_with_the_router_running_and_when_it_is_down() {
    let mut stage = Stage::started().await;
    for arguments in [
        &["send", "design-system"][..],
        &["send", "screens", "--delivery", "1"],
    ] {
        let sent = stage.router.ask(arguments).await.unwrap();
        assert_eq!(sent["status"], 200, "{sent}");
    }
    let again = stage
        .router
        .ask(&["send", "screens", "--delivery", "1"])
        .await
        .unwrap();
    assert_eq!(again["body"]["duplicate"], true);
    let forged = stage
        .router
        .attempt(&["send", "screens", "--forged"])
        .await
        .unwrap();
    assert_eq!(forged.status.code(), Some(1));

    let running = (stage.ids("events").await, stage.ids("deliveries").await);
    stage.router.stop().await.unwrap();
    let down = (stage.ids("events").await, stage.ids("deliveries").await);
    assert_eq!(running, down);
    assert_eq!((down.0.len(), down.1.len()), (2, 1));

    let refused = stage.router.ask(&["refused", "list"]).await.unwrap();
    assert_eq!(refused[0]["reason"], "wrong-signature");
    let delivery = stage
        .router
        .ask(&["deliveries", "show", &down.1[0]])
        .await
        .unwrap();
    assert_eq!(
        (&delivery["state"], &delivery["reason"]),
        (&"waiting".into(), &"instance-parked".into())
    );
}

#[tokio::test]
async fn explain_says_which_clause_failed_and_with_what() {
    let stage = Stage::started().await;
    let sent = stage.router.ask(&["send", "screens"]).await.unwrap();
    let event = sent["body"]["id"].as_str().unwrap();
    let said = stage.router.ask(&["routes", "explain", event]).await.unwrap();
    assert_eq!(said[0]["matched"], false);
    assert_eq!(said[0]["failed"]["path"], "type");
    assert_eq!(
        said[0]["failed"]["actual"][0],
        "\"io.zeplin.project.screen.version.created\""
    );

    let file = stage.home.path().join("event.json");
    let shown = stage.router.ask(&["events", "show", event]).await.unwrap();
    for text in [shown["event"].to_string(), shown.to_string()] {
        std::fs::write(&file, text).unwrap();
        let arguments = ["routes", "explain", file.to_str().unwrap()];
        assert_eq!(stage.router.ask(&arguments).await.unwrap(), said);
    }
    let other = ["routes", "explain", event, "--route", "nobody"];
    let refused = stage.router.attempt(&other).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
}

#[tokio::test]
async fn explain_says_what_became_of_what_matched() {
    let stage = Stage::started().await;
    let sent = stage.router.ask(&["send", "design-system"]).await.unwrap();
    let explain = ["routes", "explain", sent["body"]["id"].as_str().unwrap()];
    let owed = stage.ids("deliveries").await;
    let told = loop {
        let explained = stage.router.ask(&explain).await.unwrap();
        let mut routes = explained.as_array().unwrap().iter();
        let matched = routes.find(|route| route["matched"] == true).unwrap();
        let told = matched["deliveries"].clone();
        if told[0]["state"] == "waiting" {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(
        (told.as_array().unwrap().len(), &told[0]["id"]),
        (1, &owed[0].as_str().into())
    );
    let words = stage.router.command(&explain).await.unwrap();
    let line = format!("{} waiting: instance-parked (", owed[0]);
    assert!(words.contains(&line), "{words}");
}

#[tokio::test]
async fn writes_go_through_a_socket_of_the_users_own_which_outlives_no_kill() {
    let mut stage = Stage::started().await;
    let sent = stage.router.ask(&["send", "design-system"]).await.unwrap();
    let event = sent["body"]["id"].as_str().unwrap();
    let socket = stage.home.path().join("data/control.sock");
    assert_eq!(
        std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let over_tcp = HeaderMap::new();
    let refused = http::send(stage.router.admin(), Method::POST, "/v1/replay", &over_tcp, "{}")
        .await
        .unwrap();
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    stage.router.kill().await.unwrap();
    assert!(socket.exists(), "a kill leaves the file behind");
    let alone = stage.router.attempt(&["replay", event]).await.unwrap();
    assert_eq!(alone.status.code(), Some(1));
    assert!(
        said(&alone).contains("start it with `jackfield run`"),
        "{}",
        said(&alone)
    );

    stage.router.start().await.unwrap();
    let replayed = stage.router.ask(&["replay", event]).await.unwrap();
    assert_eq!(replayed["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(stage.ids("deliveries").await.len(), 2);
    let plugins = stage.router.ask(&["plugin", "list"]).await.unwrap();
    assert_eq!(plugins["instances"][0]["state"], "parked");
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_made_is_told_whatever_else_was_refused() {
    let stage = Stage::started().await;
    let sent = stage.router.ask(&["send", "design-system"]).await.unwrap();
    // One after as many as go into a request, so that it is alone in the next.
    let unknown = "evt_01kdvdna000000000000000000";
    let mut arguments = vec![unknown; PIECE + 1];
    arguments[0] = sent["body"]["id"].as_str().unwrap();
    arguments.splice(..0, ["replay", "-o", "json"]);
    let output = stage.router.attempt(&arguments).await.unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["deliveries"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["refused"].as_array().unwrap().len(), PIECE);
    let words = said(&output);
    let end = format!("{PIECE} of {} were not replayed", PIECE + 1);
    assert!(
        words.contains("there is no event") && words.contains(&end),
        "{words}"
    );

    let words = said(&stage.router.attempt(&["replay", unknown]).await.unwrap());
    assert!(words.contains("the router refused: there is no event"), "{words}");
}

#[tokio::test]
async fn a_skip_lets_the_line_go_and_the_log_says_who_asked_and_why() {
    let mut stage = Stage::set();
    let held = "order_by = \"one\"\non_stuck = \"hold\"\ndeadline = \"{{ '2020-01-01T00:00:00Z' }}\"\n[[route.step]]";
    let routes = ROUTES.replace("[[route.step]]", held);
    stage.router.configure(SOURCES, &routes).unwrap();
    stage.router.start().await.unwrap();
    stage.router.ask(&["send", "design-system"]).await.unwrap();
    stage.router.settled(Duration::from_secs(60)).await.unwrap();
    let dead = &stage.ids("dead").await[0];
    let skip = ["deliveries", "skip", dead, "--note", "nobody needs it"];
    let words = stage.router.command(&skip).await.unwrap();
    assert!(words.contains("is skipped and stays dead"), "{words}");
    let log = stage.router.log();
    let line = log
        .lines()
        .find(|line| line.contains("skipped by a person"))
        .unwrap();
    assert!(line.contains("nobody needs it") && line.contains(dead), "{line}");

    let words = said(&stage.router.attempt(&skip).await.unwrap());
    assert!(words.contains("holds nothing up"), "{words}");
}

#[tokio::test]
async fn a_second_router_is_refused_before_it_binds_anything() {
    let stage = Stage::started().await;
    let same_data = stage.router.attempt(&["run"]).await.unwrap();
    assert_eq!(same_data.status.code(), Some(1));
    assert!(
        said(&same_data).contains("another router"),
        "{}",
        said(&same_data)
    );

    // Another directory, but the same address: half of the webhooks would go to a stranger.
    let text = std::fs::read_to_string(stage.router.configuration()).unwrap();
    std::fs::write(
        stage.router.configuration(),
        text.replace("\"data\"", "\"other\""),
    )
    .unwrap();
    let same_address = stage.router.attempt(&["run"]).await.unwrap();
    assert_eq!(same_address.status.code(), Some(1));
    let words = format!("the ingress cannot listen at {}", stage.router.ingress());
    assert!(said(&same_address).contains(&words), "{}", said(&same_address));
    assert_eq!(stage.get("/readyz").await.status, 200);
}

/// It is cut off within the grace, has been promised nothing, and leaves nothing behind.
#[tokio::test]
async fn a_client_that_withholds_a_body_keeps_no_router_from_its_end() {
    let mut stage = Stage::set();
    let hasty = format!("[shutdown]\ngrace = \"1s\"\n{SOURCES}");
    stage.router.configure(&hasty, ROUTES).unwrap();
    stage.router.start().await.unwrap();
    let mut client = TcpStream::connect(stage.router.ingress()).await.unwrap();
    let half = b"POST /in/design-system/t0ken HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"job\":";
    client.write_all(half).await.unwrap();
    let received = "jackfield_requests_received_total{source=\"design-system\"} 1\n";
    while !stage.get("/metrics").await.body.contains(received) {
        tokio::task::yield_now().await;
    }
    stage.router.stop().await.unwrap();
    let mut answer = Vec::new();
    let closed = client.read_to_end(&mut answer).await;
    assert!(
        closed.as_ref().is_ok_and(|_| answer.is_empty())
            || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "it was answered {:?}",
        String::from_utf8_lossy(&answer)
    );
    let log = stage.router.log();
    assert!(
        log.contains("connections outlived the grace and were cut"),
        "{log}"
    );
    assert!(log.contains("router stopped"), "{log}");
    assert!(stage.ids("events").await.is_empty());
}

#[tokio::test]
async fn a_data_directory_that_is_none_is_told_with_the_key_to_change() {
    let stage = Stage::set();
    std::fs::write(stage.home.path().join("data"), "a file").unwrap();
    let output = stage.router.attempt(&["run"]).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    for words in ["/data cannot be used", "`data_dir` must be a directory"] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(said.matches("os error").count(), 1, "{said}");
}

#[tokio::test]
async fn a_backup_beside_a_running_router_holds_all_that_was_promised_and_a_router_goes_on_from_it() {
    let stage = Stage::started().await;
    let (promised, stop) = (Arc::new(Mutex::new(BTreeSet::new())), CancellationToken::new());
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let (ingress, promised, stop) = (stage.router.ingress(), promised.clone(), stop.clone());
        clients.spawn(async move {
            for number in 0.. {
                let body =
                    json!({ "job": { "id": format!("{client}-{number}"), "status": "success" } }).to_string();
                let path = "/in/design-system/t0ken";
                let answer = http::send(ingress, Method::POST, path, &HeaderMap::new(), body)
                    .await
                    .unwrap();
                promised
                    .lock()
                    .unwrap()
                    .insert(answer.json()["id"].as_str().unwrap().to_owned());
                if stop.is_cancelled() {
                    break;
                }
            }
        });
    }
    while promised.lock().unwrap().len() < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = promised.lock().unwrap().clone();
    let copy = stage.home.path().join("copy.db");
    let made = stage
        .router
        .ask(&["backup", copy.to_str().unwrap()])
        .await
        .unwrap();
    stop.cancel();
    clients.join_all().await;
    assert!(made["events"].as_u64().unwrap() >= before.len() as u64, "{made}");
    let again = stage
        .router
        .attempt(&["backup", copy.to_str().unwrap()])
        .await
        .unwrap();
    assert!(!again.status.success(), "what is there is not overwritten");

    let mut elsewhere = Stage::set();
    let data = elsewhere.home.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(&copy, data.join("journal.db")).unwrap();
    elsewhere.router.start().await.unwrap();
    let listed = elsewhere
        .router
        .ask(&["events", "list", "-n", "100000"])
        .await
        .unwrap();
    let kept: BTreeSet<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(kept.is_superset(&before));
    elsewhere.router.ask(&["send", "design-system"]).await.unwrap();
}

#[tokio::test]
async fn the_admin_side_tells_how_the_router_is() {
    let mut stage = Stage::started().await;
    stage.router.ask(&["send", "design-system"]).await.unwrap();
    assert_eq!(stage.get("/healthz").await.body, "ok\n");
    assert_eq!(stage.get("/readyz").await.status, 200);
    assert_eq!(stage.get("/nothing").await.status, 404);
    let metrics = stage.get("/metrics").await.body;
    for line in [
        "jackfield_events_accepted_total{source=\"design-system\"} 1",
        "jackfield_deliveries{state=\"dead\"} 0",
        "jackfield_build_info{version=\"0.1.0\"} 1",
        "jackfield_journal_append_seconds_count 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "no `{line}` in\n{metrics}"
        );
    }
    let value = |name: &str| -> u64 {
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name));
        values
            .next()
            .unwrap_or_else(|| panic!("no `{name}` in\n{metrics}"))
            .trim()
            .parse()
            .unwrap()
    };
    assert!(value("jackfield_journal_bytes{part=\"database\"}") > 0);
    assert!(metrics.ends_with("# EOF\n"));
    // A page on the web can make its own name point here, but not say another name than its own.
    let mut stranger = TcpStream::connect(stage.router.admin()).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n";
    stranger.write_all(request).await.unwrap();
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    stage.router.stop().await.unwrap();
}

#[tokio::test]
async fn who_keeps_the_admin_side_waiting_holds_up_neither_the_routers_user_nor_its_end() {
    let mut stage = Stage::started().await;
    let mut half = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(stage.router.admin()).await.unwrap();
        // Those for whom there is no place are turned away.
        let _ = stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
            .await;
        half.push(stream);
    }
    stage.router.command(&["routes", "reload"]).await.unwrap();
    stage.router.stop().await.unwrap();
    let log = stage.router.log();
    assert!(!log.contains("outlived the grace"), "{log}");
}

#[tokio::test]
async fn every_fault_is_told_at_once_and_nothing_starts() {
    let stage = Stage::set();
    let sources = SOURCES.replace("TOKEN", "MISSING").replace("zeplin", "zeplni");
    let routes = ROUTES.replace("nobody", "nobdy").replace("when", "wen");
    let lacks_a_source = [
        "the variable MISSING is not set",
        "`zeplni` is not a provider",
        "did you mean `when`?",
    ];
    // Where instances may be missing, nobody is told that one is.
    let lacks_instances = ["did you mean `instance`?", "`wen`"];
    let of_the_rules = ["there is no instance `nobdy`", "`wen`", "did you mean `when`?"];
    for (sources, told, untold) in [
        (&*sources, &lacks_a_source[..], "no event could come in"),
        (
            &sources.replace("[[instance]]", "[[instnce]]"),
            &lacks_instances,
            "there is no instance",
        ),
        (
            &SOURCES.replace("\"nobody\"", "\"no body\""),
            &["found \"no body\"", "`wen`"],
            "there is no instance",
        ),
        (SOURCES, &of_the_rules, "MISSING"),
    ] {
        stage.router.configure(sources, &routes).unwrap();
        for command in ["check", "run"] {
            let said = stage.faults(command).await;
            for words in told {
                assert!(said.contains(words), "{command} does not say {words:?}: {said}");
            }
            assert!(!said.contains(untold), "{command}: {said}");
        }
    }
}

/// And it says so where it cannot; `run`, which would not need to, does not.
#[tokio::test]
async fn a_check_looks_at_the_plugins_also_where_the_configuration_is_faulty() {
    let mut stage = Stage::set();
    let sources = SOURCES.replace("zeplin", "zeplni");
    stage
        .router
        .configure(&sources, &ROUTES.replace("nobody", "nobdy"))
        .unwrap();
    let of_plugins = ["instance `nobody` cannot run", "there is no instance `nobdy`"];
    let no_look = "the plugins cannot be looked at: no temporary directory can be made: No such file";
    for (command, told) in [("check", true), ("run", false)] {
        let said = stage.faults(command).await;
        let heard = of_plugins.map(|words| said.contains(words));
        assert_eq!(heard, [told, told], "{command}: {said}");
        assert!(!said.contains("looked at"), "{command}: {said}");
    }
    stage.router.set("TMPDIR", "/nowhere");
    for (command, told) in [("check", true), ("run", false)] {
        let said = stage.faults(command).await;
        assert!(said.contains("`zeplni` is not a provider"), "{command}: {said}");
        assert_eq!(said.contains(no_look), told, "{command}: {said}");
    }
}

/// `check` knows the rules, and `send` the secret of its own source.
#[tokio::test]
async fn a_missing_secret_hides_no_other_fault_and_stops_nobody_who_does_not_need_it() {
    let stage = Stage::started().await;
    let sources = SOURCES.replacen("TOKEN", "MISSING", 1);
    let routes = ROUTES.replace("nobody", "nobdy");
    stage.router.configure(&sources, &routes).unwrap();
    let output = stage.router.attempt(&["check"]).await.unwrap();
    assert_eq!(output.status.code(), Some(78));
    for words in ["the variable MISSING is not set", "there is no instance `nobdy`"] {
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    for (arguments, code) in [
        (&["send", "screens"][..], 0),
        (&["send", "design-system", "--list"], 0),
        (&["send", "design-system"], 78),
    ] {
        let output = stage.router.attempt(arguments).await.unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

/// Not even in the finest log, nor anywhere in the data directory.
#[tokio::test]
async fn secrets_are_in_no_log_and_in_no_file() {
    let mut stage = Stage::set();
    stage.router.set("TOKEN", SECRET);
    stage.router.set("RUST_LOG", "trace");
    stage.router.start().await.unwrap();
    stage.router.ask(&["send", "design-system"]).await.unwrap();
    stage.router.ask(&["send", "screens"]).await.unwrap();
    let body = b"{}";
    for path in [
        "/in/design-system/%/more",
        "/in/screens/%",
        "/in/%",
        "/%",
        "/in/nobody/%",
    ] {
        let answer = stage
            .router
            .post(&path.replace('%', SECRET), &HeaderMap::new(), body)
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let refused = stage.router.command(&["refused", "list"]).await.unwrap();
    assert!(
        refused.contains("wrong-token") && refused.contains("unknown-source"),
        "{refused}"
    );
    stage.router.stop().await.unwrap();
    assert!(!refused.contains(SECRET));
    assert!(stage.router.log().contains("event accepted") && !stage.router.log().contains(SECRET));
    let mut open = vec![stage.home.path().join("data")];
    let mut read = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                read += bytes.len();
                let found = bytes
                    .windows(SECRET.len())
                    .any(|window| window == SECRET.as_bytes());
                assert!(!found, "the secret is in {}", path.display());
            }
        }
    }
    assert!(read > 0, "nothing was read");
}

#[test]
fn logs_are_text_on_a_terminal_and_json_elsewhere() {
    let stage = Stage::set();
    // It logs that an instance is parked, and ends for want of rules.
    stage.router.configure(SOURCES, "").unwrap();
    let configuration = stage.router.configuration();
    let run = format!("'{BINARY}' run --config '{}'", configuration.display());
    let logged = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .env("TOKEN", "t0ken")
            .env_remove("NO_COLOR")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("this test needs the program `{program}`: {error}"));
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        said(&output).lines().next().unwrap().to_owned()
    };
    // What `script`, of Debian's package bsdutils, runs has a terminal.
    let on_a_terminal = logged("script", &["-qec", &run, "/dev/null"]);
    assert!(
        on_a_terminal.contains("\x1b[33m WARN\x1b[0m instance parked \x1b[3minstance"),
        "{on_a_terminal:?}"
    );
    let without_colour = logged("script", &["-qec", &format!("NO_COLOR=1 {run}"), "/dev/null"]);
    assert!(
        without_colour.contains("  WARN instance parked instance=\"nobody\""),
        "{without_colour:?}"
    );
    let elsewhere: Value = serde_json::from_str(&logged("sh", &["-c", &run])).unwrap();
    assert_eq!(elsewhere["level"], "WARN");
    assert_eq!(elsewhere["message"], "instance parked");
}

#[test]
fn wrong_usage_is_2_and_no_secret_is_asked_of_whoever_only_looks() {
    let usage = Command::new(BINARY).args(["events", "lst"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    let schema = Command::new(BINARY).args(["schema", "event"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["type"].is_object());

    let stage = Stage::set();
    let configuration = stage.router.configuration();
    let list = Command::new(BINARY)
        .args(["events", "list", "--config"])
        .arg(configuration)
        .output()
        .unwrap();
    assert_eq!(list.status.code(), Some(1));
    assert!(
        said(&list).contains("the first `jackfield run` makes it"),
        "{}",
        said(&list)
    );
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");
/// Long enough to be found nowhere by chance.
const SECRET: &str = "9e8c2f1f5a3f4c0d-t0ken-8b6e1d7a";
