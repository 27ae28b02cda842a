//! Requests that are no events.

use std::time::Duration;

use hyper::{
    HeaderMap,
    header::{CONTENT_ENCODING, DATE, HeaderName, HeaderValue},
};
use jackfield::clock::{Clock as _, SystemClock};

use crate::site::{BODY_SIZE, SECRET, Site, TOKEN, screen, signed};

/// A request, and what must come of it.
struct Case {
    what: &'static str,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    status: u16,
    reason: &'static str,
}

/// What is posted to `screens` with headers that `change` has made wrong, or none that are right.
fn case(what: &'static str, status: u16, reason: &'static str) -> Case {
    let body = screen();
    Case {
        what,
        path: "/in/screens".into(),
        headers: signed(&body, SECRET, SystemClock.now(), what),
        body,
        status,
        reason,
    }
}

impl Case {
    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a body that is signed as it should be.
    fn signed_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.headers = signed(&self.body, SECRET, SystemClock.now(), self.what);
        self
    }

    fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    fn without(mut self, header: &'static str) -> Self {
        self.headers.remove(header).unwrap();
        self
    }

    fn with(mut self, header: HeaderName, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.headers.insert(header, value);
        self
    }

    fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }
}

fn cases() -> Vec<Case> {
    let body = screen();
    let now = SystemClock.now();
    let minutes = |minutes: i64| Duration::from_secs(minutes.unsigned_abs() * 60);
    let old = jackfield_event::Timestamp::from_secs(now.as_secs() - 11 * 60).unwrap();
    let early = now.saturating_add(minutes(11));
    vec![
        case("signed with a guess", 401, "wrong-signature").headers(signed(&body, "a guess", now, "1")),
        case("changed on its way", 401, "wrong-signature").body(b"{}"),
        case("half a signature", 401, "wrong-signature").with(SIGNATURE, "c0ffee"),
        case("a signature of no text", 401, "wrong-signature").with(SIGNATURE, b"\xff"),
        case("no signature", 401, "missing-header").without("zeplin-signature"),
        case("no timestamp", 401, "missing-header").without("zeplin-delivery-timestamp"),
        case("no headers of Zeplin's at all", 401, "missing-header").headers(HeaderMap::new()),
        case("11 minutes old", 401, "stale-timestamp").headers(signed(&body, SECRET, old, "2")),
        case("11 minutes early", 401, "stale-timestamp").headers(signed(&body, SECRET, early, "3")),
        case("a byte too long", 413, "body-too-large").signed_body(vec![b' '; BODY_SIZE + 1]),
        case("not JSON", 400, "not-json").signed_body("event=project.screen"),
        case("nothing", 400, "not-json").signed_body(""),
        case("broken off", 400, "not-json").signed_body(&body[..body.len() - 1]),
        case("two at once", 400, "not-json").signed_body("{} {}"),
        case("not UTF-8", 400, "not-json").signed_body(*b"{\"event\":\"\xff\xfe\"}"),
        case("lists, 100,000 deep", 400, "too-deep").signed_body(deep(100_000, "[", "]")),
        case("a million deep, and never closed", 400, "too-deep").signed_body("[".repeat(1_000_000)),
        case("compressed", 415, "unsupported-encoding").with(CONTENT_ENCODING, "gzip"),
        case("a source that is none", 404, "unknown-source").path("/in/screen"),
        case("a path that is none", 404, "unknown-path").path("/out/screens"),
        case("a token where none is", 404, "wrong-token").path("/in/design-system"),
        case("a wrong token", 404, "wrong-token").path(format!("/in/design-system/{}", guess())),
        case("half a token", 404, "wrong-token").path(format!("/in/design-system/{}", &TOKEN[..9])),
    ]
}

#[tokio::test]
async fn every_refused_request_gets_a_clear_answer_and_leaves_its_reason() {
    let site = Site::start().await;
    let cases = cases();
    for case in &cases {
        let answer = site.post(&case.path, &case.headers, &case.body).await;
        assert_eq!(answer.status, case.status, "{}: {}", case.what, answer.body);
        assert!(
            answer.json()["error"].is_string(),
            "{}: {}",
            case.what,
            answer.body
        );
    }
    let refused = site.refused(cases.len()).await;
    let expected: Vec<_> = cases.iter().map(|case| case.reason).collect();
    assert_eq!(refused, expected);
    assert_eq!(
        site.ask(&["events", "list"]).await.len(),
        0,
        "none of them is an event"
    );
    let shown = site
        .router
        .command(&["refused", "list", "-n", "1000"])
        .await
        .unwrap();
    assert!(
        !shown.contains(&guess()),
        "what was guessed may be a token elsewhere: {shown}"
    );
    assert!(
        !site.router.log().contains(&guess()),
        "{}",
        site.router.end_of_log()
    );
    site.goes_on().await;
}

/// A source that takes long bodies: a million objects within one another are six million bytes.
#[tokio::test]
async fn what_nests_a_million_deep_is_refused_for_its_depth() {
    let mut site = Site::prepare();
    site.configure(
        "[[source]]\nname = \"deep\"\nprovider = \"zeplin\"\nsecrets = [{ env = \"ZEPLIN_SECRET\" }]\nbody_size = \"8MiB\"\n",
    );
    site.router.start().await.unwrap();
    let bodies = [
        ("lists", deep(1_000_000, "[", "]")),
        ("objects", deep(1_000_000, "{\"a\":", "}")),
        ("lists in objects", deep(500_000, "{\"a\":[", "]}")),
        ("objects, and never closed", "{\"a\":".repeat(1_000_000)),
    ];
    for (what, body) in &bodies {
        let headers = signed(body.as_bytes(), SECRET, SystemClock.now(), what);
        let answer = site.post("/in/deep", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        assert!(answer.json()["error"].is_string(), "{what}: {}", answer.body);
    }
    assert_eq!(site.refused(bodies.len()).await, ["too-deep"; 4]);
    site.goes_on().await;
}

#[tokio::test]
async fn a_wrong_token_and_an_unknown_source_cannot_be_told_apart() {
    let site = Site::start().await;
    let body = br#"{"event":"job:updated"}"#;
    let mut answers = Vec::new();
    for path in [
        "/in/nowhere".to_owned(),
        format!("/in/nowhere/{}", guess()),
        "/in/design-system".to_owned(),
        "/in/design-system/".to_owned(),
        format!("/in/design-system/{}", guess()),
        format!("/in/design-system/{TOKEN}/"),
    ] {
        let mut answer = site.post(&path, &HeaderMap::new(), body).await;
        answer.headers.remove(DATE);
        answers.push((answer.status, answer.headers, answer.body));
    }
    assert_eq!(answers[0].0, 404);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    let right = site
        .post(&format!("/in/design-system/{TOKEN}"), &HeaderMap::new(), body)
        .await;
    assert_eq!(right.status, 200);
    site.goes_on().await;
}

#[tokio::test]
async fn what_is_verified_is_never_refused_for_what_it_says() {
    let site = Site::start().await;
    let bodies = [
        "{}",
        "[]",
        "null",
        "\"text\"",
        "1e999",
        r#"{"event":7,"action":[],"resource":"none","context":null,"actor":{"user":0}}"#,
        r#"{"event":"project.screen.version","action":"created","timestamp":"yesterday"}"#,
        r#"{"event":"project.screen.version","action":"created","resource":{"id":"","type":1e999}}"#,
        r#"{"event":"\ud800","event":"again"}"#,
    ];
    for (number, body) in bodies.iter().enumerate() {
        let headers = signed(
            body.as_bytes(),
            SECRET,
            SystemClock.now(),
            &format!("odd-{number}"),
        );
        let answer = site.post("/in/screens", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let shown = site.router.command(&["events", "show", &id, "-o", "json"]).await;
        assert!(shown.unwrap().contains(body), "{body} is kept as it came");
    }
    assert_eq!(site.ask(&["events", "list"]).await.len(), bodies.len());
    // Those that a route is for are carried out or given up with a reason, and nothing is left hanging.
    site.router.settled(Duration::from_secs(30)).await.unwrap();
    for dead in site.ask(&["dead", "list"]).await {
        assert!(dead["failure"]["reason"].is_string(), "{dead:#}");
    }
    site.goes_on().await;
}

/// As long as the token, so that not even its length tells.
fn guess() -> String {
    TOKEN.replace('0', "9")
}

fn deep(depth: usize, open: &str, close: &str) -> String {
    // The innermost must be a value, so that the text would be JSON if it were not so deep.
    let inner = if open.ends_with(':') { "1" } else { "" };
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

const SIGNATURE: HeaderName = HeaderName::from_static("zeplin-signature");
