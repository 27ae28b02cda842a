//! What a plugin takes as input, as it can be written in a rule: any value may be a template in place of itself.

use serde_json::{Map, Value, json};

/// The input schema of a plugin, to be kept under `$defs` as `name`.
///
/// One that refers to itself in ways that cannot be moved says no more than that a table is expected.
pub(super) fn input(name: &str, schema: &Value) -> Value {
    let mut moved = Moved {
        prefix: format!("#/$defs/{name}"),
        is_whole: true,
    };
    let input = moved.schema(schema);
    match moved.is_whole {
        true => input,
        false => json!({ "type": "object" }),
    }
}

struct Moved {
    prefix: String,
    is_whole: bool,
}

impl Moved {
    /// The schema of the same value, in which any part may be a template.
    fn schema(&mut self, schema: &Value) -> Value {
        let Value::Object(members) = schema else {
            return schema.clone();
        };
        let mut moved = Map::new();
        for (key, value) in members {
            match key.as_str() {
                // It is no document of its own any more.
                "$schema" | "$id" => continue,
                "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveRef" => self.is_whole = false,
                _ => {}
            }
            // Of several that each fit exactly one, a template fits all.
            let name = if key == "oneOf" { "anyOf" } else { key };
            moved.insert(name.to_owned(), self.keyword(key, value));
        }
        Value::Object(moved)
    }

    fn keyword(&mut self, key: &str, value: &Value) -> Value {
        match (key, value) {
            ("$ref", Value::String(reference)) => match reference.strip_prefix('#') {
                Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                    format!("{}{pointer}", self.prefix).into()
                }
                _ => {
                    self.is_whole = false;
                    value.clone()
                }
            },
            ("properties" | "patternProperties", Value::Object(members)) => self.each(members, Self::part),
            ("$defs" | "definitions" | "dependentSchemas", Value::Object(members)) => {
                self.each(members, Self::schema)
            }
            ("items" | "additionalProperties" | "unevaluatedProperties" | "contains", Value::Object(_)) => {
                self.part(value)
            }
            ("prefixItems" | "items", Value::Array(items)) => {
                items.iter().map(|item| self.part(item)).collect()
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(choices)) => {
                choices.iter().map(|choice| self.schema(choice)).collect()
            }
            ("if" | "then" | "else", Value::Object(_)) => self.schema(value),
            _ => value.clone(),
        }
    }

    fn each(&mut self, members: &Map<String, Value>, change: fn(&mut Self, &Value) -> Value) -> Value {
        let members = members.iter();
        let changed = members.map(|(name, schema)| (name.clone(), change(self, schema)));
        Value::Object(changed.collect())
    }

    /// A value within the input: as it is said, or a template for it.
    fn part(&mut self, schema: &Value) -> Value {
        let moved = self.schema(schema);
        if !moved.is_object() || takes_any_text(&moved) {
            return moved;
        }
        let mut part = json!({ "anyOf": [moved, { "$ref": "#/$defs/template" }] });
        for words in ["title", "description", "default", "examples", "deprecated"] {
            if let Some(said) = schema.get(words) {
                part[words] = said.clone();
            }
        }
        part
    }
}

/// Whether a template fits already.
fn takes_any_text(schema: &Value) -> bool {
    let narrower = [
        "enum",
        "const",
        "pattern",
        "format",
        "maxLength",
        "minLength",
        "$ref",
        "anyOf",
        "allOf",
        "not",
    ];
    schema["type"] == "string" && narrower.iter().all(|key| schema.get(key).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_moved_with_what_they_refer_to() {
        let schema = json!({
            "$id": "urn:acme", "type": "object",
            "properties": { "a": { "$ref": "#/definitions/A", "description": "An A." }, "text": { "type": "string" } },
            "definitions": { "A": { "type": "integer" } },
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "a": {
                    "anyOf": [{ "$ref": "#/$defs/with-x/definitions/A", "description": "An A." }, { "$ref": "#/$defs/template" }],
                    "description": "An A.",
                },
                "text": { "type": "string" },
            },
            "definitions": { "A": { "type": "integer" } },
        });
        assert_eq!(input("with-x", &schema), expected);
    }

    #[test]
    fn a_schema_that_cannot_be_moved_says_nothing_wrong() {
        for schema in [
            json!({ "properties": { "a": { "$ref": "#a" } } }),
            json!({ "properties": { "a": { "$dynamicRef": "#a" } } }),
        ] {
            assert_eq!(input("with-x", &schema), json!({ "type": "object" }));
        }
    }
}
