//! The JSON Schema of a file of cases, for editors. The reader, not this, decides what is valid.

use serde_json::{Map, Value, json};

use crate::{provider, reason::Reason};

/// The JSON Schema (2020-12) of `*.case.toml`.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let event = event(&mut definitions);
    definitions.extend([
        ("event".to_owned(), event),
        ("case".to_owned(), case()),
        ("request".to_owned(), request()),
        ("route".to_owned(), route()),
        ("step".to_owned(), step()),
    ]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Cases for Jackfield's rules",
        "type": "object",
        "additionalProperties": false,
        "required": ["case"],
        "properties": { "case": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/case" } } },
        "$defs": definitions,
    })
}

fn case() -> Value {
    let mut case = table(json!({
        "name": text("What it shows, in a line; no other case of the file has this name."),
        "event": { "$ref": "#/$defs/event" },
        "event_json": text("An event in JSON, also as `events show -o json` prints it."),
        "event_file": text("A file with one, relative to this."),
        "request": { "$ref": "#/$defs/request" },
        "routes": {
            "type": "array", "uniqueItems": true, "items": { "type": "string" },
            "description": "The routes that are to match, where no more is said of them; empty where none is to.",
        },
        "route": {
            "type": "array", "items": { "$ref": "#/$defs/route" },
            "description": "Routes that are to match, and what is to come of each.",
        },
    }));
    case["required"] = json!(["name"]);
    case["oneOf"] = one_of(&["event", "event_json", "event_file", "request"]);
    case["anyOf"] = one_of(&["routes", "route"]);
    case
}

fn request() -> Value {
    let providers: Vec<_> = provider::names().collect();
    let mut request = table(json!({
        "source": text("The name of the source that it comes in at."),
        "provider": { "enum": providers, "description": "Whose request it is; by default as the configuration says of the source." },
        "received": { "type": "string", "format": "date-time", "description": "When it came in." },
        "verified": { "enum": ["signature", "path-token", "none"], "description": "How it was verified; by default as the provider's are." },
        "headers": {
            "type": "object",
            "additionalProperties": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
            "description": "Its headers; one that came several times is a list.",
        },
        "body": text("Its body."),
        "body_file": text("A file with it, relative to this."),
    }));
    request["description"] =
        json!("A request, translated by its provider's adapter as if it had been verified.");
    request["required"] = json!(["source"]);
    request["oneOf"] = one_of(&["body", "body_file"]);
    request
}

fn route() -> Value {
    let codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let mut failure = table(json!({
        "step": text("The step that failed."),
        "reason": { "enum": codes, "description": "The code of the reason." },
        "error": text("The message."),
    }));
    failure["description"] = json!("What failed, for `on_failure` to tell of.");
    failure["required"] = json!(["reason"]);
    let steps = |description| json!({ "type": "array", "items": { "$ref": "#/$defs/step" }, "description": description });
    let mut route = table(json!({
        "name": text("The route's name."),
        "order_by": text("Its order key, rendered."),
        "step": steps("All of its steps, in their order."),
        "failure": failure,
        "on_failure": steps("All steps that are made then."),
    }));
    route["required"] = json!(["name"]);
    route["dependentRequired"] = json!({ "on_failure": ["failure"] });
    route
}

fn step() -> Value {
    let mut step = table(json!({
        "id": text("The step's id; alone, it lets the step be given anything."),
        "with": { "type": "object", "description": "What the step is to be given, rendered." },
        "with_json": text("The same in JSON."),
        "skipped": { "type": "boolean", "description": "Whether its `if` is not to hold." },
        "output": { "description": "What it puts out, for the steps behind it to see." },
        "output_json": text("The same in JSON."),
    }));
    step["required"] = json!(["id"]);
    step["not"] = json!({ "anyOf": [
        { "required": ["with", "with_json"] },
        { "required": ["output", "output_json"] },
    ] });
    step
}

/// An event, of which a case says what matters; what its schema refers to goes to `definitions`.
fn event(definitions: &mut Map<String, Value>) -> Value {
    let mut event = jackfield_event::schema();
    if let Some(Value::Object(parts)) = event.get_mut("$defs").map(Value::take) {
        definitions.extend(parts.into_iter().map(|(name, part)| (name, closed(part))));
    }
    let mut event = closed(json!({ "type": "object", "properties": event["properties"] }));
    event["description"] = json!("What happened; what is left out is as in any event.");
    event["required"] = json!(["type"]);
    event
}

/// The same, but that a table has no other keys than are known.
fn closed(mut schema: Value) -> Value {
    if schema.get("properties").is_some() {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

fn table(properties: Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn one_of(keys: &[&str]) -> Value {
    keys.iter().map(|key| json!({ "required": [key] })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    /// What an editor would say of the file.
    fn misfits(text: &str) -> String {
        let schema = Schema::compile(schema()).unwrap();
        let value = toml::from_str(text).unwrap();
        crate::schema::listed(&schema.check(&value))
    }

    #[test]
    fn cases_that_are_read_fit() {
        assert_eq!(misfits(include_str!("../../../config/routes.case.toml")), "");
        for case in [
            "event_json = '{}'\nroutes = []",
            "event.type = 'a'\nevent.data.payload = { any = [1] }\nroutes = ['r']\n[[case.route]]\nname = 's'",
            "request = { source = 's', provider = 'zeplin', headers = { a = ['1', '2'] }, body_file = 'b.json' }\nroutes = []",
        ] {
            assert_eq!(misfits(&format!("[[case]]\nname = 'c'\n{case}")), "", "{case}");
        }
    }

    #[test]
    fn slips_are_told() {
        let case = "[[case]]\nname = 'c'\n";
        for (rest, expected) in [
            (
                "event.type = 'a'\nroute = [{ nam = 'r' }]",
                "did you mean `name`?",
            ),
            ("event.typ = 'a'\nroutes = []", "did you mean `type`?"),
            (
                "event = { type = 'a', data.titel = 'T' }\nroutes = []",
                "did you mean `title`?",
            ),
            (
                "event.type = 'a'\nroute = [{ name = 'r', step = [{ with = {} }] }]",
                "`case[0].route[0].step[0].id`: missing",
            ),
            (
                "event.type = 'a'\nroute = [{ name = 'r', failure = { reason = 'bad' } }]",
                "expected \"unknown-source\"",
            ),
            (
                "event.type = 'a'\nroute = [{ name = 'r', on_failure = [] }]",
                "failure",
            ),
            ("request = { source = 's' }\nroutes = []", "body"),
            ("routes = []", "event"),
            ("event.type = 'a'", "route"),
        ] {
            let found = misfits(&format!("{case}{rest}"));
            assert!(found.contains(expected), "{rest}: {found}");
        }
    }
}
