//! The providers, by their own requests: a folder of recorded requests, and what becomes of each.
//!
//! A case is two files in `tests/providers/<provider>/`; `tests/providers/README.md` says what stands in them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use hyper::{
    HeaderMap,
    http::{HeaderName, HeaderValue},
};
use jackfield::{
    provider::{self, Options, Provider, Request, Translated, Translation},
    schema::Schema,
    secret::Secret,
};
use jackfield_event::{Event, EventId, Timestamp, join_payload};
use serde_json::{Value, json};

/// The sources to which the requests were sent. `TOKEN` is the token of those whose provider signs nothing.
const ZEPLIN_SECRETS: [&str; 2] = ["the present secret", "the former secret"];
const TOKEN: &str = "t0ken";
/// When a request arrived that does not say so itself.
const ARRIVAL: &str = "2026-01-01T00:00:00Z";

#[test]
fn every_recorded_request_becomes_what_is_recorded_for_it() {
    let schema = Schema::compile(jackfield_event::schema()).expect("the event's schema is a schema");
    let mut faults = Vec::new();
    let mut cases = 0;
    for provider in provider::names() {
        for case in Case::all_of(provider) {
            cases += 1;
            if let Err(fault) = case.check(&schema) {
                faults.push(format!("{}: {fault}", case.file.display()));
            }
        }
    }
    assert!(cases > 80, "only {cases} cases were found");
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

#[test]
fn every_expectation_has_its_request() {
    for provider in provider::names() {
        for file in files(provider, "json") {
            assert!(
                file.with_extension("http").exists(),
                "{} expects of nothing",
                file.display()
            );
        }
    }
}

/// `tests/providers/zeplin.pairs` lists all that Zeplin documents.
#[test]
fn each_of_zeplins_seventy_pairs_becomes_its_own_event() {
    let zeplin = source("zeplin");
    let listed = include_str!("providers/zeplin.pairs")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let mut types = BTreeSet::from(["io.zeplin.unrecognized".to_owned()]);
    let mut faults = Vec::new();
    for line in listed {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [event, action, subject, title] = columns[..] else {
            panic!("`{line}` has not four columns")
        };
        let translated = translated(&zeplin, &Pair { event, action }.request());
        let kind = format!("io.zeplin.{event}.{action}");
        let found = (
            &*translated.event.kind,
            translated.event.subject.as_deref().unwrap_or("-"),
        );
        let found_title = translated.event.data.title.as_deref().unwrap_or("-");
        if (found, found_title) != ((&*kind, subject), title) {
            faults.push(format!("{event} {action}: {found:?} {found_title}"));
        }
        assert_eq!(translated.event.data.action.as_deref(), Some(action));
        types.insert(kind);
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert_eq!(types.len(), 71, "seventy pairs, and what is none");
    assert_eq!(types, provider::event_types("zeplin").into_iter().collect());
}

/// Whatever stands in place of a documented value, only that value is lost.
#[test]
fn a_value_of_an_unexpected_kind_costs_no_more_than_itself() {
    let schema = Schema::compile(jackfield_event::schema()).expect("the event's schema is a schema");
    for (provider, case, essential) in [
        (
            "zeplin",
            "documented-screen-version",
            &["", "/event", "/action"][..],
        ),
        ("supernova", "success", &["", "/job", "/job/status"]),
        ("appflow", "documented-native", &[""]),
    ] {
        let file = folder(provider).join(case).with_extension("http");
        let documented: Value = serde_json::from_slice(&recorded(&file).body).expect("JSON");
        for (place, body) in misfits(&documented) {
            let request = sent(provider, &body);
            let Translated { event, .. } = translated(&source(provider), &request);
            if let Err(fault) = check_event(&event, &body, &schema) {
                panic!("{place}: {fault}");
            }
            if !essential.contains(&&*place) {
                assert!(!event.kind.ends_with(".unrecognized"), "{provider}: {place}");
            }
        }
    }
}

/// `documented` with a value of each kind in each place.
fn misfits(documented: &Value) -> impl Iterator<Item = (String, Vec<u8>)> {
    let kinds =
        json!([null, true, -1.5, 7, "", "text", [], [[null]], [{ "url": 1 }], {}, { "id": { "id": 1 } }]);
    places(documented).into_iter().flat_map(move |place| {
        let kinds = kinds.as_array().cloned().unwrap_or_default();
        kinds.into_iter().map(move |kind| {
            let mut body = documented.clone();
            *body.pointer_mut(&place).expect("the place is there") = kind;
            (place.clone(), serde_json::to_vec(&body).expect("JSON"))
        })
    })
}

/// The JSON Pointers of `value` and of all that is in it.
fn places(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, item)| (i.to_string(), item))
            .collect(),
        _ => Vec::new(),
    };
    let inner = inner.into_iter().flat_map(|(step, value)| {
        places(value)
            .into_iter()
            .map(move |place| format!("/{step}{place}"))
    });
    std::iter::once(String::new()).chain(inner).collect()
}

/// A recorded request.
struct Case {
    provider: &'static str,
    file: PathBuf,
    request: Request,
}

impl Case {
    fn all_of(provider: &'static str) -> impl Iterator<Item = Self> {
        files(provider, "http").into_iter().map(move |file| Self {
            provider,
            request: recorded(&file),
            file,
        })
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        let (found, event) = self.outcome()?;
        if let Some(event) = event {
            check_event(&event, &self.request.body, schema)?;
        }
        let expected = self.file.with_extension("json");
        if std::env::var_os("JACKFIELD_RECORD").is_some() {
            let json = serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?;
            return fs::write(expected, json + "\n").map_err(|error| error.to_string());
        }
        let expected =
            fs::read(expected).map_err(|error| format!("what to expect cannot be read: {error}"))?;
        let expected: Value = serde_json::from_slice(&expected).map_err(|error| error.to_string())?;
        match found == expected {
            true => Ok(()),
            false => Err(format!("expected {expected:#}\nfound {found:#}")),
        }
    }

    /// What became of the request, in JSON, and the event where there is one.
    fn outcome(&self) -> Result<(Value, Option<Event>), String> {
        let source = source(self.provider);
        let verified = match source.verify(&self.request) {
            Ok(verified) => verified,
            Err(error) => return Ok((json!({ "refused": error.reason, "detail": error.detail }), None)),
        };
        let translation = source.translate(id(), source_name(self.provider), &verified);
        let Translated { event, dedup } = match translation {
            Ok(Translation::Event(translated)) => translated,
            Ok(Translation::Handshake(_)) => return Err("none of these providers has handshakes".into()),
            Err(error) => {
                return Ok((
                    json!({ "refused": error.reason(), "detail": error.to_string() }),
                    None,
                ));
            }
        };
        let json: Value = serde_json::from_str(&event.to_json()).map_err(|error| error.to_string())?;
        Ok((json!({ "dedup": dedup, "event": json }), Some(*event)))
    }
}

/// Whatever the event is: it reads back, takes its payload back byte for byte, and fits the schema.
fn check_event(event: &Event, payload: &[u8], schema: &Schema) -> Result<(), String> {
    let envelope = event.to_json();
    let back = Event::from_json(&envelope).map_err(|error| error.to_string())?;
    assert_eq!(back.to_json(), envelope);
    let joined = join_payload(&envelope, payload).map_err(|error| error.to_string())?;
    let whole = Event::from_json(&joined).map_err(|error| error.to_string())?;
    let found = whole.data.payload.as_ref().map(|payload| payload.get());
    assert_eq!(found, std::str::from_utf8(payload).ok().map(str::trim));
    assert_eq!(whole.to_json().as_bytes(), joined);
    let value: Value = serde_json::from_str(&envelope).map_err(|error| error.to_string())?;
    match &schema.check(&value)[..] {
        [] => Ok(()),
        violations => Err(format!("the event does not fit its schema: {violations:?}")),
    }
}

fn folder(provider: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/providers")
        .join(provider)
}

fn files(provider: &str, extension: &str) -> Vec<PathBuf> {
    let folder = folder(provider);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// Reads a request file: remarks, a request line, headers, a blank line, and the body to the last byte.
fn recorded(file: &Path) -> Request {
    let bytes = fs::read(file).expect("the file can be read");
    let end = bytes
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .expect("a blank line ends the headers");
    let head = std::str::from_utf8(&bytes[..end]).expect("the head is UTF-8");
    let received = head
        .lines()
        .find_map(|line| line.strip_prefix("# received: "))
        .unwrap_or(ARRIVAL);
    let mut lines = head.lines().filter(|line| !line.starts_with('#'));
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .expect("a request line");
    Request {
        headers: lines
            .map(header)
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            }),
        body: Bytes::copy_from_slice(&bytes[end + 2..]),
        token: path.split('/').nth(3).map(Secret::new),
        received: received.parse().expect("a time of arrival"),
    }
}

fn header(line: &str) -> (HeaderName, HeaderValue) {
    let (name, value) = line.split_once(':').expect("a header has a colon");
    (
        name.parse().expect("a header's name"),
        value.trim().parse().expect("a header's value"),
    )
}

fn options(provider: &str) -> Options {
    let signs = provider == "zeplin";
    Options {
        provider: provider.into(),
        secrets: ZEPLIN_SECRETS
            .into_iter()
            .filter(|_| signs)
            .map(Secret::new)
            .collect(),
        path_token: (!signs).then(|| Secret::new(TOKEN)),
        ..Options::default()
    }
}

fn source(provider: &str) -> Arc<dyn Provider> {
    provider::build(options(provider)).expect("the options are whole")
}

/// `body` as `provider` sends it.
fn sent(provider: &str, body: &[u8]) -> Request {
    let now: Timestamp = ARRIVAL.parse().expect("a time");
    let signed = provider::sign(&options(provider), body, now, "delivery-1").expect("the options are whole");
    Request {
        headers: signed.headers,
        body: Bytes::copy_from_slice(body),
        token: signed.token,
        received: now,
    }
}

fn source_name(provider: &str) -> &'static str {
    match provider {
        "zeplin" => "screens",
        "supernova" => "design-system",
        _ => "builds",
    }
}

fn id() -> EventId {
    EventId::new(ARRIVAL.parse().expect("a time"), 0)
}

fn translated(source: &Arc<dyn Provider>, request: &Request) -> Translated {
    let verified = source
        .verify(request)
        .expect("the request is as its provider sends it");
    match source
        .translate(id(), "screens", &verified)
        .expect("the body is JSON")
    {
        Translation::Event(translated) => translated,
        Translation::Handshake(_) => panic!("none of these providers has handshakes"),
    }
}

/// One event and action, as Zeplin would send it.
struct Pair<'a> {
    event: &'a str,
    action: &'a str,
}

impl Pair<'_> {
    fn request(&self) -> Request {
        sent("zeplin", &serde_json::to_vec(&self.body()).expect("JSON"))
    }

    fn body(&self) -> Value {
        let Self { event, action } = self;
        if *event == "ping" {
            return json!({ "event": event, "action": action, "timestamp": 1, "resource": {}, "context": {} });
        }
        let mut resource = json!({ "id": "5f0" });
        if !matches!(*action, "deleted" | "removed") {
            resource["data"] = match *event {
                event if event.ends_with(".member") => json!({ "user": { "id": "7", "username": "Grace" } }),
                "project.screen.version" | "workspace.notification" => json!({ "id": "5f0" }),
                event if event.starts_with("project.note") => json!({ "id": "5f0" }),
                _ => json!({ "id": "5f0", "name": "Primary" }),
            };
        }
        json!({
            "event": event, "action": action, "timestamp": 1_767_225_000, "resource": resource,
            "context": self.context(), "actor": { "user": { "id": "1", "username": "Ada" } }
        })
    }

    fn context(&self) -> Value {
        let named = |name: &str| json!({ "id": "1", "name": name });
        match self.event.split('.').collect::<Vec<_>>()[..] {
            ["project", "screen", "version"] | ["project", "note", ..] => {
                json!({ "project": named("Acme App"), "screen": named("Login"), "note": { "id": "2" } })
            }
            ["project", ..] => json!({ "project": named("Acme App") }),
            ["styleguide", ..] => json!({ "styleguide": named("Acme Base") }),
            ["workspace", "organization", "member"] => json!({ "organization": named("Acme") }),
            _ => json!({}),
        }
    }
}
