//! Patterns: the fields of an event, each with the values or operators that it is held against.

use serde_json::{Map, Value, json};

/// Definitions that `when` is made of.
pub(super) fn definitions() -> Map<String, Value> {
    let text = || json!({ "type": "string" });
    let texts = || json!({ "anyOf": [text(), { "type": "array", "minItems": 1, "items": text() }] });
    let end = || json!({ "anyOf": [text(), operators([("equals-ignore-case", text(), "Whatever the case of its letters.")])] });
    let but = operators([
        ("prefix", texts(), "Not one that begins so."),
        ("suffix", texts(), "Not one that ends so."),
        (
            "equals-ignore-case",
            texts(),
            "Not this, whatever the case of its letters.",
        ),
        ("wildcard", texts(), "Not one of this form."),
    ]);
    let value = json!({ "type": ["string", "number"] });
    let test = operators([
        ("prefix", end(), "Begins so."),
        ("suffix", end(), "Ends so."),
        (
            "equals-ignore-case",
            text(),
            "This, whatever the case of its letters.",
        ),
        (
            "wildcard",
            text(),
            "Of this form, where `*` stands for any number of characters.",
        ),
        (
            "anything-but",
            json!({ "anyOf": [value, { "type": "array", "minItems": 1, "items": value }, but] }),
            "There, and none of these.",
        ),
        (
            "numeric",
            json!({ "type": "array", "minItems": 2, "maxItems": 4 }),
            "A number in a range: [\">\", 0, \"<=\", 5].",
        ),
        (
            "exists",
            json!({ "type": "boolean" }),
            "Whether the field is there.",
        ),
        ("cidr", text(), "An address of this network."),
        ("exactly", text(), "This text."),
    ]);
    let mut definitions = Map::new();
    definitions.insert(
        "tests".to_owned(),
        json!({
            "type": "array", "minItems": 1,
            "description": "What the field may be: any of these.",
            "items": { "anyOf": [{ "type": ["string", "number", "boolean"] }, test] },
        }),
    );
    // Of what only a provider sends, nothing is known.
    definitions.insert(
        "pattern".to_owned(),
        json!({
            "type": "object", "minProperties": 1,
            "properties": { "$or": alternatives() },
            "additionalProperties": { "anyOf": [{ "$ref": "#/$defs/tests" }, { "$ref": "#/$defs/pattern" }] },
        }),
    );
    let event = jackfield_event::schema();
    definitions.insert("when".to_owned(), Event(&event).pattern(&event));
    definitions
}

/// A table with one operator.
fn operators<const N: usize>(operators: [(&str, Value, &str); N]) -> Value {
    let properties: Map<_, _> = operators
        .into_iter()
        .map(|(name, operand, description)| {
            let mut operand = operand;
            operand["description"] = description.into();
            (name.to_owned(), operand)
        })
        .collect();
    json!({
        "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1, "properties": properties,
    })
}

/// The schema of events.
struct Event<'e>(&'e Value);

impl Event<'_> {
    /// What a pattern can say of a value with this schema.
    fn pattern(&self, schema: &Value) -> Value {
        let about = self.about(schema);
        let is_known = ["type", "enum", "oneOf"]
            .iter()
            .any(|key| about.get(key).is_some());
        let mut pattern = match about.get("properties").and_then(Value::as_object) {
            Some(properties) => self.object(properties),
            None if is_known => json!({ "$ref": "#/$defs/tests" }),
            None => json!({ "anyOf": [{ "$ref": "#/$defs/tests" }, { "$ref": "#/$defs/pattern" }] }),
        };
        if let Some(words) = schema.get("description") {
            pattern["description"] = words.clone();
        }
        pattern
    }

    fn object(&self, properties: &Map<String, Value>) -> Value {
        let fields = properties
            .iter()
            .map(|(name, field)| (name.clone(), self.pattern(field)));
        let mut fields: Map<_, _> = fields.collect();
        fields.insert("$or".to_owned(), alternatives());
        json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "properties": fields })
    }

    /// What it comes to: references are followed, and lists passed through, as by a pattern.
    fn about<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let reference = schema.get("$ref").and_then(Value::as_str);
        let referred = reference.and_then(|address| self.0.pointer(address.strip_prefix('#')?));
        match referred.or(schema.get("items")) {
            Some(next) => self.about(next),
            None => schema,
        }
    }
}

/// Patterns of which any may match.
fn alternatives() -> Value {
    json!({ "type": "array", "minItems": 2, "items": { "$ref": "#/$defs/pattern" }, "description": "Any of these patterns." })
}
