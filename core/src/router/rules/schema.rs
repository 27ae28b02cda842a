//! The JSON Schema of a rule file, for editors. The reader, not this, decides what is valid.

mod pattern;
mod with;

use serde_json::{Map, Value, json};

use crate::{delivery::Coalesce, schema::Catalog};

/// The JSON Schema (2020-12) of a rule file whose steps use what is in `catalog`, each with its own input.
pub fn schema(catalog: &Catalog) -> Value {
    let mut definitions = definitions(catalog);
    definitions.extend(pattern::definitions());
    for (name, schema) in catalog {
        if let Some(schema) = schema {
            let input = with::input(&definition(name), schema.json());
            definitions.insert(definition(name), input);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jackfield's rules",
        "type": "object",
        "additionalProperties": false,
        "properties": { "route": { "type": "array", "items": { "$ref": "#/$defs/route" } } },
        "$defs": definitions,
    })
}

fn definitions(catalog: &Catalog) -> Map<String, Value> {
    let definitions = json!({
        "name": { "type": "string", "pattern": "^[A-Za-z0-9_.-]+$" },
        "time": { "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" },
        "template": {
            "type": "string",
            "pattern": "\\{[{%]",
            "description": "A template, as in `{{ event.data.title }}`; where it is one `{{ … }}` and nothing else, the value keeps its type.",
        },
        "route": {
            "type": "object",
            "additionalProperties": false,
            "required": ["name", "step"],
            "oneOf": [{ "required": ["when"] }, { "required": ["when_json"] }],
            "properties": {
                "name": described("name", "What it is called; no other route has this name."),
                "description": { "type": "string", "description": "What it is for, in a line." },
                "order_by": { "type": "string", "description": "A template: what it makes of events with an equal text is done one at a time, in order of arrival." },
                "on_stuck": { "enum": ["go-on", "hold"], "description": "What the deliveries behind a dead one do: go on, or wait until a person skips it or its replay succeeds." },
                "supersede": { "type": "boolean", "description": "Whether a newer delivery takes the place of those of its order key that wait." },
                "newest_by": { "enum": ["arrival", "time"], "description": "Which of two events is the newer: the later to arrive, or the later by its own time." },
                "coalesce": { "$ref": "#/$defs/coalesce" },
                "deadline": { "type": "string", "description": "A template for a moment (RFC 3339), or a time after the arrival such as 24h: nothing is begun after it. Where it comes to nothing, there is none." },
                "when": described("when", "Which events it is for: fields are ANDed, listed values ORed."),
                "when_json": { "type": "string", "description": "The same as an AWS EventBridge pattern in JSON." },
                "step": steps(1, "What is done, one after the other."),
                "on_failure": steps(0, "What is done when a delivery is given up."),
            },
        },
        "step": step(catalog),
        "coalesce": {
            "type": "object",
            "additionalProperties": false,
            "required": ["window"],
            "description": "Makes a burst of events of one order key one delivery.",
            "properties": {
                "window": described("time", "The burst is over when for so long no event came."),
                "max_wait": described("time", "The burst is over so long after its first event at the latest; ten windows by default."),
                "max_items": { "type": "integer", "minimum": 2, "maximum": Coalesce::MOST_ITEMS, "description": "The burst is over when it has so many events." },
                "keep": { "enum": ["newest", "all"], "description": "What the steps see: the newest event alone, or all of them as `events`." },
            },
        },
        "retry": {
            "type": "object",
            "additionalProperties": false,
            "description": "How often a step is tried again, and after what rests.",
            "properties": {
                "attempts": { "type": "integer", "minimum": 1, "maximum": super::step::MOST_ATTEMPTS, "description": "How many attempts there are in all." },
                "backoff": { "enum": ["exponential", "fixed"], "description": "Whether each rest is twice as long as the one before." },
                "first": described("time", "The first rest."),
                "max": described("time", "The longest rest."),
            },
        },
    });
    let Value::Object(definitions) = definitions else {
        unreachable!("it is written as an object")
    };
    definitions
}

fn steps(least: usize, description: &str) -> Value {
    json!({ "type": "array", "minItems": least, "items": { "$ref": "#/$defs/step" }, "description": description })
}

/// A step, whose `with` is what its instance takes.
fn step(catalog: &Catalog) -> Value {
    let names: Vec<_> = catalog.keys().collect();
    let mut uses =
        json!({ "type": "string", "description": "An instance, or a plugin that needs no configuration." });
    if !names.is_empty() {
        uses["enum"] = json!(names);
    }
    let inputs = catalog.iter().filter_map(|(name, schema)| {
        let needed: &[&str] = if schema.as_ref()?.accepts_empty() {
            &[]
        } else {
            &["with"]
        };
        let with = json!({ "$ref": format!("#/$defs/{}", definition(name)) });
        Some(json!({
            "if": { "properties": { "use": { "const": name } }, "required": ["use"] },
            "then": { "properties": { "with": with }, "required": needed },
        }))
    });
    let mut step = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["use"],
        "properties": {
            "id": described("name", "By which later steps and templates know it; by default the instance's name."),
            "use": uses,
            "if": { "type": "string", "description": "An expression, without braces: the step is skipped where it does not hold." },
            "with": { "type": "object", "description": "What the instance is given; texts are templates." },
            "retry": { "$ref": "#/$defs/retry" },
        },
    });
    let inputs: Vec<_> = inputs.collect();
    if !inputs.is_empty() {
        step["allOf"] = inputs.into();
    }
    step
}

/// A reference to a definition, with words of its own.
fn described(definition: &str, description: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}"), "description": description })
}

/// What the input of an instance is defined as.
fn definition(instance: &str) -> String {
    format!("with-{instance}")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::schema::Schema;

    /// The schema of rules that use `slack`, which takes a bit of everything, and `parked`, of which nothing is known.
    fn rules() -> Schema {
        let slack = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "required": ["channel"], "additionalProperties": false,
            "properties": {
                "channel": { "type": "string", "minLength": 2, "description": "Where to." },
                "count": { "type": "integer" },
                "colour": { "oneOf": [{ "const": "red" }, { "const": "green" }] },
                "fields": { "type": "array", "items": { "$ref": "#/$defs/Field" } },
                "more": { "$ref": "#" },
            },
            "$defs": { "Field": { "type": "object", "required": ["title"], "properties": { "title": { "type": "string" }, "wide": { "type": "boolean" } } } },
        });
        let slack = Some(Arc::new(Schema::compile(slack).unwrap()));
        let catalog = BTreeMap::from([("slack".to_owned(), slack), ("parked".to_owned(), None)]);
        Schema::compile(schema(&catalog)).unwrap()
    }

    #[track_caller]
    fn check(route: &str, expected: &[&str]) {
        let text = format!("[[route]]\nname = \"r\"\n{route}");
        let value: Value = toml::from_str(&text).unwrap();
        let violations = rules().check(&value);
        let found: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert_eq!(found.is_empty(), expected.is_empty(), "{found:#?}");
        for words in expected {
            assert!(
                found.iter().any(|violation| violation.contains(words)),
                "{found:#?}"
            );
        }
    }

    #[test]
    fn what_a_step_gives_is_what_its_plugin_takes_or_a_template_for_it() {
        let step = |with: &str| format!("when.type = [\"x\"]\n[[route.step]]\nuse = \"slack\"\n{with}");
        check(&step("with = { channel = \"#a\", count = 3 }"), &[]);
        check(
            &step("with = { channel = \"{{ x }}\", count = \"{{ y }}\" }"),
            &[],
        );
        check(&step("with = { channel = \"#a\", colour = \"green\" }"), &[]);
        check(
            &step("with = { channel = \"#a\", colour = \"{{ event.data.title }}\" }"),
            &[],
        );
        check(
            &step(
                "with = { channel = \"#a\", fields = [{ title = \"t\", wide = \"{{ w }}\" }, \"{{ f }}\"] }",
            ),
            &[],
        );
        check(
            &step("with = { channel = \"#a\", more = { channel = \"#b\" } }"),
            &[],
        );

        check(&step("with = { channel = \"#a\", count = \"3\" }"), &["count"]);
        check(
            &step("with = { channel = \"#a\", colour = \"blue\" }"),
            &["colour"],
        );
        check(
            &step("with = { channel = \"#a\", fields = [{ wide = true }] }"),
            &["title"],
        );
        check(&step("with = { channel = \"#a\", more = {} }"), &["channel"]);
        check(&step("with = { chanel = \"#a\" }"), &["channel", "chanel"]);
        check(&step(""), &["with"]);
    }

    #[test]
    fn a_step_uses_what_there_is() {
        let step = |uses: &str| format!("when.type = [\"x\"]\n[[route.step]]\n{uses}");
        check(&step("use = \"parked\"\nwith = { anything = 1 }"), &[]);
        check(
            &step("use = \"parked\"\nretry = { attempts = 3, first = \"2s\" }"),
            &[],
        );
        check(&step("use = \"nobody\""), &["`route[0].step[0].use`"]);
        check(&step("use = \"parked\"\nretry = { attempts = 0 }"), &["attempts"]);
        check(&step("use = \"parked\"\nwiht = {}"), &["wiht"]);
    }

    #[test]
    fn a_pattern_has_the_fields_of_an_event_and_the_operators_there_are() {
        let when = |when: &str| format!("{when}\n[[route.step]]\nuse = \"parked\"");
        for good in [
            "when.type = [\"x\", { prefix = \"y\" }]",
            "when.data.project.name = [{ anything-but = { prefix = \"x\" } }, { exists = false }]",
            "when.data.artifacts.name = [{ suffix = { equals-ignore-case = \".ZIP\" } }]",
            "when.data.payload.deep.down = [3, true, { numeric = [\">\", 0, \"<=\", 5] }]",
            "when.\"$or\" = [{ type = [\"a\"] }, { data.outcome = [\"b\"], source = [\"c\"] }]",
            "when.data.payload.ip = [{ cidr = \"10.0.0.0/8\" }]",
            "when_json = '{\"type\": [\"x\"]}'",
        ] {
            check(&when(good), &[]);
        }
        for (bad, words) in [
            ("when.type = \"x\"", "type"),
            ("when.type = []", "type"),
            ("when.typ = [\"x\"]", "typ"),
            ("when.data.projet.name = [\"x\"]", "projet"),
            ("when.type = [{ prefx = \"x\" }]", "type"),
            ("when.type = [{ prefix = \"x\", suffix = \"y\" }]", "type"),
            ("description = \"no pattern\"", ""),
        ] {
            check(&when(bad), &[words]);
        }
    }
}
