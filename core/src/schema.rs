//! JSON Schemas: whether a value fits, and where and why it does not.
//!
//! Plugins describe their configuration, input and output by JSON Schema (2020-12, unless it says otherwise).
//! [`Schema::check`] reports every misfit with the place in the value, in words for the person who wrote it. A
//! schema is untrusted: a reference that leads out of it is an error and is never fetched.

mod fields;
mod marks;
mod violation;

use std::{collections::BTreeMap, fmt, sync::Arc};

use boon::{Compiler, SchemaIndex, Schemas, UrlLoader};
use serde_json::{Value, json};

pub use fields::Field;
pub use violation::{Violation, listed};

/// A schema, ready to check values.
pub struct Schema {
    json: Value,
    compiled: Schemas,
    index: SchemaIndex,
}

/// Every name that `use` in a step may say, with the schema that the step's input must fit, where it is known. The instance
/// of a plugin that is parked or away has a name but, perhaps, no schema.
pub type Catalog = BTreeMap<String, Option<Arc<Schema>>>;

/// The schema itself is wrong.
#[derive(Debug, thiserror::Error)]
#[error("not a usable JSON Schema: {0}")]
pub struct SchemaError(String);

impl Schema {
    /// Makes a schema ready for use.
    ///
    /// # Errors
    ///
    /// Where `json` is no JSON Schema, or refers to something outside itself.
    pub fn compile(json: Value) -> Result<Self, SchemaError> {
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(NothingElse));
        let fault = |error: boon::CompileError| SchemaError(format!("{error:#}"));
        compiler.add_resource(ADDRESS, json.clone()).map_err(fault)?;
        let mut compiled = Schemas::new();
        let index = compiler.compile(ADDRESS, &mut compiled).map_err(fault)?;
        Ok(Self {
            json,
            compiled,
            index,
        })
    }

    /// The schema as it was given.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Everything in which `value` does not fit; empty where it fits.
    pub fn check(&self, value: &Value) -> Vec<Violation> {
        self.check_with_holes(value, &|_| false)
    }

    /// Like [`Schema::check`], but nothing is known yet of the values at the JSON Pointers for which `is_hole`
    /// holds, and whatever hangs on them is left out.
    pub fn check_with_holes(&self, value: &Value, is_hole: &dyn Fn(&str) -> bool) -> Vec<Violation> {
        match self.compiled.validate(value, self.index) {
            Ok(()) => Vec::new(),
            Err(error) => violation::list(&error, self, value, is_hole),
        }
    }

    /// Whether an empty table fits, so that nothing need be configured.
    pub fn accepts_empty(&self) -> bool {
        self.check(&json!({})).is_empty()
    }

    /// The fields that it speaks of.
    pub fn fields(&self) -> Vec<Field> {
        fields::list(&self.json)
    }

    /// Whether what fits can only be an object.
    pub fn describes_object(&self) -> bool {
        fields::describes_object(&self.json)
    }

    /// The `x-escape` of the string at the JSON Pointer `pointer`: its own, or that of the list or object around it.
    pub fn escape(&self, pointer: &str) -> Option<&str> {
        marks::escape(&self.json, pointer)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

/// Fetches nothing: a schema stands alone.
struct NothingElse;

impl UrlLoader for NothingElse {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err(format!("it refers to {url}, and a schema may only refer to itself").into())
    }
}

/// The address under which a schema knows itself; nothing is fetched from it.
const ADDRESS: &str = "jackfield:///schema.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::compile(json!({
            "type": "object",
            "required": ["channel"],
            "additionalProperties": false,
            "properties": {
                "channel": { "type": "string", "minLength": 1 },
                "text": { "$ref": "#/$defs/markup" },
                "timeout": { "type": ["integer", "null"], "minimum": 1 },
                "mode": { "enum": ["post", "update"] },
                "blocks": { "type": "array", "x-escape": "mrkdwn", "items": { "type": "object" } },
                "fields": { "type": "array", "items": { "$ref": "#/$defs/field" }, "maxItems": 2 },
                "footer": { "anyOf": [{ "$ref": "#/$defs/field" }, { "type": "null" }] },
                "labels": { "type": "object", "additionalProperties": { "$ref": "#/$defs/markup" } }
            },
            "$defs": {
                "markup": { "type": "string", "x-escape": "mrkdwn" },
                "field": {
                    "type": "object",
                    "properties": {
                        "title": { "type": "string" },
                        "value": { "allOf": [{ "$ref": "#/$defs/markup" }] },
                        "nested": { "$ref": "#/$defs/field" }
                    },
                    "required": ["title"]
                }
            }
        }))
        .unwrap()
    }

    fn shown(value: &Value, holes: &[&str]) -> String {
        let violations = schema().check_with_holes(value, &|pointer| holes.contains(&pointer));
        let lines: Vec<_> = violations.iter().map(Violation::to_string).collect();
        lines.join("\n")
    }

    #[test]
    fn violations_say_what_was_found_and_expected() {
        let value = json!({
            "chanel": "#a", "text": 7, "timeout": "10", "mode": "delete", "blocks": {},
            "fields": [{ "title": 1 }, {}, {}], "footer": { "value": "x" }, "labels": { "a/b": true }
        });
        insta::assert_snapshot!(shown(&value, &[]), @r#"
        `blocks`: found a table, expected a list
        `chanel`: unknown; did you mean `channel`?
        `channel`: missing
        `fields`: found 3 elements, expected at most 2
        `fields[0].title`: found 1, expected a string
        `fields[1].title`: missing
        `fields[2].title`: missing
        `footer.title`: missing
        `labels.a/b`: found true, expected a string
        `mode`: found a string, expected "post" or "update"
        `text`: found 7, expected a string
        `timeout`: found a string, expected a whole number
        "#);
        insta::assert_snapshot!(shown(&json!([]), &[]), @"found a list, expected a table");
        insta::assert_snapshot!(shown(&json!({ "channel": "", "timeout": 0, "zzz": 1 }), &[]), @"
        `channel`: empty
        `timeout`: found 0, expected at least 1
        `zzz`: unknown; there is: `blocks`, `channel`, `fields`, `footer`, `labels`, `mode`, `text`, `timeout`
        ");
        assert_eq!(
            shown(
                &json!({ "channel": "#a", "timeout": null, "footer": { "title": "t" } }),
                &[]
            ),
            ""
        );
    }

    #[test]
    fn what_is_not_known_yet_is_no_violation() {
        let value = json!({
            "channel": "#a", "timeout": "{{ x }}", "mode": "{{ x }}", "footer": { "title": "{{ x }}" },
            "fields": "{{ x }}"
        });
        let holes = ["/timeout", "/mode", "/footer/title", "/fields"];
        assert_eq!(shown(&value, &holes), "");
        let mut wrong = value;
        wrong["text"] = json!(1);
        insta::assert_snapshot!(shown(&wrong, &holes), @"`text`: found 1, expected a string");
    }

    #[test]
    fn alternatives_of_objects_report_the_nearest_one() {
        let schema = Schema::compile(json!({ "oneOf": [
            { "type": "object", "required": ["kind", "token"], "properties": { "kind": { "const": "bot" } } },
            { "type": "object", "required": ["kind", "url"], "properties": { "kind": { "const": "webhook" } } }
        ] }))
        .unwrap();
        let shown = |value: Value| {
            schema
                .check(&value)
                .iter()
                .map(Violation::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown(json!({ "kind": "webhook", "token": "x" })),
            ["`url`: missing"]
        );
        assert_eq!(shown(json!({ "kind": "webhook", "url": "x" })), [""; 0]);
        let holes = schema.check_with_holes(&json!({ "kind": "{{ x }}", "url": "u" }), &|at| at == "/kind");
        assert_eq!(holes, []);
    }

    #[test]
    fn marks_are_found_through_references_and_alternatives() {
        let schema = schema();
        for (pointer, marked) in [
            ("/text", true),
            ("/channel", false),
            ("/fields/0/value", true),
            ("/fields/7/title", false),
            ("/fields/0/nested/nested/value", true),
            ("/footer/value", true),
            ("/blocks/0/text/text", true),
            ("/labels/a~1b", true),
            ("/unknown", false),
            ("", false),
        ] {
            assert_eq!(schema.escape(pointer), marked.then_some("mrkdwn"), "{pointer}");
        }
    }

    #[test]
    fn references_that_lead_nowhere_are_not_followed() {
        let looping = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
        assert_eq!(marks::escape(&looping, "/x"), None);
        for address in [
            "file:///etc/passwd",
            "http://127.0.0.1:1/schema.json",
            "other.json",
        ] {
            let error = Schema::compile(json!({ "$ref": address }))
                .unwrap_err()
                .to_string();
            assert!(error.contains("may only refer to itself"), "{error}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for wrong in [json!({ "type": "text" }), json!(7), json!({ "pattern": "(" })] {
            assert!(Schema::compile(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schema_with_nothing_required_accepts_an_empty_table() {
        assert!(!schema().accepts_empty());
        assert!(
            Schema::compile(json!({ "type": "object" }))
                .unwrap()
                .accepts_empty()
        );
        assert!(Schema::compile(json!(true)).unwrap().accepts_empty());
    }
}
