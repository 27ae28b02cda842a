//! Writes a case as a person would: TOML, as short as it can be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::Value;

use crate::{
    journal::Failure,
    router::{Rehearsed, Rendered},
};

/// What a delivery of a route left behind.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    /// What its steps put out, by their ids, without secrets.
    pub(super) outputs: BTreeMap<String, Value>,
    /// What failed.
    pub(super) failure: Option<Failure>,
}

/// The head of a case.
pub(super) fn head(name: &str) -> String {
    format!("[[case]]\nname = {}\n", string(name))
}

/// A request as the case's way to an event.
pub(super) fn request(members: &[(&str, String)], headers: &[(String, String)], body: &str) -> String {
    let mut text = "\n[case.request]\n".to_owned();
    for (key, value) in members {
        let _ = writeln!(text, "{key} = {}", string(value));
    }
    let mut by_name = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in headers {
        by_name.entry(name).or_default().push(string(value));
    }
    for (name, values) in by_name {
        let value = match values.as_slice() {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let _ = writeln!(text, "headers.{} = {value}", self::key(name));
    }
    let _ = writeln!(text, "body = {}", literal(body));
    text
}

/// An event in JSON.
pub(super) fn event(json: &str) -> String {
    format!("event_json = {}\n", literal(json))
}

/// A route, and how much is said of it.
pub(super) struct Written<'a> {
    pub(super) rehearsed: &'a Rehearsed<'a>,
    pub(super) left: Left,
    /// Whether its order key is, and its steps of either phase.
    pub(super) order: bool,
    pub(super) steps: [bool; 2],
    /// Steps that may be given anything.
    pub(super) any: BTreeSet<String>,
}

impl<'a> Written<'a> {
    /// A route of which everything is said.
    pub(super) fn whole(rehearsed: &'a Rehearsed<'a>, left: Left) -> Self {
        Self {
            rehearsed,
            left,
            order: true,
            steps: [true; 2],
            any: BTreeSet::new(),
        }
    }
}

/// What comes of it, route by route.
pub(super) fn routes(routes: &[Written<'_>]) -> String {
    let mut text = String::new();
    for written in routes {
        let Rehearsed {
            route,
            order,
            steps,
            on_failure,
        } = written.rehearsed;
        let _ = writeln!(text, "\n[[case.route]]\nname = {}", string(route.name()));
        if let Ok(Some(key)) = order
            && written.order
        {
            let _ = writeln!(text, "order_by = {}", string(key));
        }
        if let Some(failure) = &written.left.failure {
            let step = failure
                .step
                .as_deref()
                .map(|step| ("step".to_owned(), step.into()));
            let mut members = serde_json::Map::from_iter(step);
            members.insert("reason".to_owned(), failure.reason.code().into());
            members.insert("error".to_owned(), failure.error.as_str().into());
            text += &member("failure", &Value::Object(members));
        }
        let phases = [("step", steps), ("on_failure", on_failure)];
        for ((key, steps), _) in phases
            .into_iter()
            .zip(written.steps)
            .filter(|(_, is_said)| *is_said)
        {
            for step in steps {
                self::step(&mut text, key, step, written);
            }
        }
    }
    text
}

/// Names of routes of which no more is said.
pub(super) fn names(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| string(name)).collect();
    format!("routes = [{}]\n", names.join(", "))
}

fn step(text: &mut String, key: &str, Rendered { step, input }: &Rendered<'_>, written: &Written<'_>) {
    let _ = writeln!(text, "\n[[case.route.{key}]]\nid = {}", string(step.id()));
    match input {
        _ if written.any.contains(step.id()) => {}
        Ok(Some(input)) => text.push_str(&member("with", input)),
        Ok(None) => text.push_str("skipped = true\n"),
        Err(error) => comment(text, &format!("Not rendered: {error}")),
    }
    // What was put out in spite of an `if` that is false today cannot be seen by the others.
    let output = written.left.outputs.get(step.id());
    if let Some(output) = output.filter(|_| !matches!(input, Ok(None))) {
        text.push_str(&member("output", output));
    }
}

/// `# …` on as many lines as the text has.
pub(super) fn comment(text: &mut String, words: &str) {
    for line in words.lines() {
        let _ = writeln!(text, "# {}", line.replace(char::is_control, " "));
    }
}

/// A key with its value: on one line where there is room, else a line for each member; in JSON, where TOML has no form for it.
fn member(key: &str, value: &Value) -> String {
    let Some(whole) = inline(value) else {
        let json = serde_json::to_string_pretty(value).unwrap_or_default();
        return format!("{key}_json = {}\n", literal(&json));
    };
    match value {
        Value::Object(members) if !members.is_empty() && whole.len() > LONG => {
            let lines = members.iter().filter_map(|(name, value)| {
                Some(format!("{key}.{} = {}\n", self::key(name), inline(value)?))
            });
            lines.collect()
        }
        _ => format!("{key} = {whole}\n"),
    }
}

/// The value in TOML, on one line; nothing where it holds a null.
fn inline(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(inline).collect::<Option<_>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| Some(format!("{} = {}", key(name), inline(value)?)));
            let members: Vec<_> = members.collect::<Option<_>>()?;
            format!("{{ {} }}", members.join(", "))
        }
    })
}

/// A text in quotes. What JSON escapes is what TOML does, but for one.
fn string(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_owned(),
        false => string(name),
    }
}

/// JSON between three single quotes. Those that it has itself can only stand in strings, where they have another spelling.
fn literal(json: &str) -> String {
    let json = json
        .replace("'''", "\\u0027\\u0027\\u0027")
        .replace('\u{7f}', "\\u007f");
    format!("'''\n{}\n'''", json.trim_end())
}

/// How long a line may get before its members stand on lines of their own.
const LONG: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{document::Document, fault::Faults};

    #[track_caller]
    fn reads_back(value: &Value) {
        let text = member("with", value);
        let mut faults = Faults::new();
        let document = Document::parse("t.toml", &text, &mut faults);
        let mut root = document.root();
        let read = match root.take("with") {
            Some(item) => item.json(&mut faults),
            None => {
                let text = root.string("with_json", &mut faults);
                text.and_then(|text| serde_json::from_str(&text).ok())
            }
        };
        assert!(faults.is_empty(), "{faults}\n{text}");
        assert_eq!(read.as_ref(), Some(value), "{text}");
    }

    #[test]
    fn a_value_is_written_as_short_as_it_can_be() {
        let long = "x".repeat(100);
        assert_eq!(
            member("with", &json!({ "a": 1, "b c": [true, "x"] })),
            "with = { a = 1, \"b c\" = [true, \"x\"] }\n"
        );
        assert_eq!(
            member("with", &json!({ "a": 1, "b": long })),
            format!("with.a = 1\nwith.b = \"{long}\"\n")
        );
        assert_eq!(
            member("with", &json!({ "a": null })),
            "with_json = '''\n{\n  \"a\": null\n}\n'''\n"
        );
        assert_eq!(member("with", &json!({})), "with = {}\n");
    }

    #[test]
    fn whatever_a_value_holds_it_reads_back() {
        reads_back(&json!({ "a": "'''\u{7f}\u{1}\n\t\"\\é😀", "b": [null, "'''"], "": { "x.y": {} } }));
        reads_back(
            &json!({ "a": "'''\u{7f}\u{1}\n\t\"\\é😀", "b": [1, -2, 1.5, 1e300, u64::MAX, i64::MIN], "": { "x.y": {} } }),
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_back(text in "\\PC{0,20}", odd in "[\u{0}-\u{a0}'\"\\\\]{0,20}") {
            reads_back(&json!({ "a": text, "b": { odd.as_str(): [odd] } }));
        }
    }
}
