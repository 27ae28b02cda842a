//! The filters of templates.
//!
//! | filter | what it gives |
//! |---|---|
//! | `json` | the value as JSON text |
//! | `date(format="%Y-%m-%d")` | an RFC 3339 time, in UTC, in the given form |
//! | `slug` | lower-case letters and digits with single dashes between |
//! | `truncate(length)` | at most so many characters, the last then being `…` |
//! | `sha256` | the hash of the text, in hex |
//! | `urlencode` | percent-encoded, safe in any part of an address |
//! | `default(value)`, `d` | `value` where there is nothing, or null |
//! | `regex_replace(pattern, to)` | every match of a regular expression replaced; `$1`, `${name}` in `to` are its groups |
//! | `replace(from, to)` and what else minijinja brings | as there; `safe` and `escape` are not there |

use minijinja::{Environment, Error, ErrorKind, Value};
use regex::RegexBuilder;
use sha2::{Digest, Sha256};

use super::{engine::check_size, scan};

/// Adds our filters and removes those that go around escaping.
pub(super) fn install(engine: &mut Environment<'_>) {
    for name in ["safe", "escape", "e", "pprint", "tojson"] {
        engine.remove_filter(name);
    }
    engine.remove_global("debug");
    engine.add_filter("json", json);
    engine.add_filter("date", date);
    engine.add_filter("slug", |text: &str| slug(text));
    engine.add_filter("truncate", truncate);
    engine.add_filter("sha256", |text: &str| hex(&Sha256::digest(text)));
    engine.add_filter("urlencode", |text: &str| urlencode(text));
    engine.add_filter("regex_replace", regex_replace);
    engine.add_filter("default", default);
    engine.add_filter("d", default);
}

/// Says which filter or test of an expression there is none of. minijinja says so only when it gets there.
pub(super) fn unknown(engine: &Environment<'_>, expression: &str) -> Option<String> {
    let uses = scan::uses(expression);
    let mut state = engine.empty_state();
    let mut filters = uses.filters.iter();
    let filter = filters.find(|name| is(state.apply_filter(name, &[]), ErrorKind::UnknownFilter));
    let mut tests = uses.tests.iter();
    let test = tests.find(|name| is(state.perform_test(name, &[]), ErrorKind::UnknownTest));
    filter
        .map(|name| format!("there is no filter `{name}`"))
        .or_else(|| test.map(|name| format!("there is no test `{name}`")))
}

fn is<T>(result: Result<T, Error>, kind: ErrorKind) -> bool {
    result.is_err_and(|error| error.kind() == kind)
}

fn json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| wrong("json", &error.to_string()))
}

fn date(time: &str, format: Option<&str>) -> Result<String, Error> {
    let moment: jackfield_event::Timestamp =
        time.parse().map_err(|error| wrong("date", &format!("{error}")))?;
    let format = format.unwrap_or("%Y-%m-%d");
    let moment = jiff::Timestamp::from_millisecond(moment.as_millis()).unwrap_or_default();
    jiff::fmt::strtime::format(format, moment)
        .map_err(|_| wrong("date", &format!("`{format}` is not a format such as %Y-%m-%d")))
}

fn slug(text: &str) -> String {
    let text = text.to_lowercase();
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn truncate(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn urlencode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// In time that is linear in the text, whatever the pattern.
fn regex_replace(text: &str, pattern: &str, to: &str) -> Result<String, Error> {
    let pattern = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
    let pattern = pattern.map_err(|error| wrong("regex_replace", &said(&error)))?;
    let mut replaced = String::new();
    let mut at = 0;
    for found in pattern.captures_iter(text) {
        let whole = found.get_match();
        replaced += &text[at..whole.start()];
        found.expand(to, &mut replaced);
        at = whole.end();
        check_size(replaced.len()).map_err(|reason| wrong("regex_replace", &reason))?;
    }
    Ok(replaced + &text[at..])
}

/// What is wrong with a pattern, in one line.
fn said(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
        error => {
            let words = error.to_string();
            let last = words.lines().last().unwrap_or_default();
            format!("the pattern is wrong: {}", last.trim_start_matches("error: "))
        }
    }
}

/// How many bytes a compiled pattern may have.
const LARGEST_PATTERN: usize = 256 << 10;

fn default(value: &Value, instead: Option<Value>) -> Value {
    match value.is_undefined() || value.is_none() {
        true => instead.unwrap_or_else(|| Value::from("")),
        false => value.clone(),
    }
}

fn wrong(filter: &str, reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("`{filter}`: {reason}"))
}
