//! Configurations and inputs that do not fit a schema: what a router never hands on, handed on.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema::{Field, Schema};

/// Bytes that do not fit, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Misfit {
    /// As in `text that is not JSON`.
    pub(super) what: String,
    pub(super) bytes: Vec<u8>,
}

/// Misfits of `schema`: what is not JSON, and what is and breaks a rule of the schema. Where `fitting` fits, each of those that differ
/// from it in one field breaks one rule, so that a plugin cannot refuse it for another reason.
pub(super) fn of(schema: &Schema, fitting: &Value) -> Vec<Misfit> {
    let garbage = GARBAGE.iter().map(|(what, bytes)| Misfit {
        what: (*what).to_owned(),
        bytes: bytes.to_vec(),
    });
    let nested = Misfit {
        what: "a thousand lists in one another".to_owned(),
        bytes: [[b'['; 1000], [b']'; 1000]].concat(),
    };
    let values = values(schema, fitting)
        .into_iter()
        .filter(|(_, value)| !schema.check(value).is_empty());
    let values = values.map(|(what, value)| Misfit {
        what,
        bytes: value.to_string().into_bytes(),
    });
    garbage.chain([nested]).chain(values).collect()
}

/// Values that may break a rule of the schema. Of `fitting`, which may hold secrets, only names of fields are told.
fn values(schema: &Schema, fitting: &Value) -> Vec<(String, Value)> {
    let fitting = fitting.as_object().cloned().unwrap_or_default();
    let with = |field: &str, value: Value| {
        let mut changed = fitting.clone();
        changed.insert(field.to_owned(), value);
        Value::Object(changed)
    };
    // Not a plain list, which serde takes for the fields of a struct in their order.
    let mut values: Vec<_> = [json!(null), json!(7), json!("text"), json!([[[7]]]), json!({})]
        .into_iter()
        .map(|value| (format!("`{value}`"), value))
        .collect();
    values.push((
        "a field that there is not".to_owned(),
        with("no-such-field-7f3a", json!(true)),
    ));
    let fields = schema.fields();
    let fields = fields
        .iter()
        .filter(|field| !field.path.contains(['.', '[', '<']));
    for Field { path, required, .. } in fields.take(MOST_FIELDS) {
        if *required {
            let mut lacking = fitting.clone();
            lacking.remove(path);
            values.push((format!("a missing `{path}`"), lacking.into()));
        }
        // One of them is of another kind, whatever the field is.
        for wrong in [json!(["text"]), json!(7), json!("text")] {
            let value = with(path, wrong.clone());
            let at = format!("/{}", path.replace('~', "~0").replace('/', "~1"));
            if schema
                .check(&value)
                .iter()
                .any(|violation| violation.pointer == at)
            {
                values.push((format!("`{path} = {wrong}`"), value));
                break;
            }
        }
    }
    values
}

const GARBAGE: &[(&str, &[u8])] = &[
    ("text that is not JSON", b"hello"),
    ("an object that breaks off", b"{\"a\": "),
    ("bytes that are no text", b"\xff\xfe{}\x00"),
    ("an object with something after it", b"{} {}"),
];
/// As many as a person would try.
const MOST_FIELDS: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_never_fits() {
        let schema = Schema::compile(json!({
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": { "name": { "type": "string" }, "list": { "type": "array" }, "any": {} }
        }))
        .unwrap();
        let misfits = of(&schema, &json!({ "name": "Ada", "any": 1 }));
        for misfit in &misfits {
            let value = serde_json::from_slice::<Value>(&misfit.bytes);
            assert!(
                value.is_err() || !schema.check(&value.unwrap()).is_empty(),
                "{}",
                misfit.what
            );
        }
        let named = |what: &str| misfits.iter().any(|misfit| misfit.what == what);
        for what in [
            "`{}`",
            "a missing `name`",
            "`list = 7`",
            "`name = [\"text\"]`",
            "a field that there is not",
        ] {
            assert!(named(what), "{what}");
        }
    }

    /// Otherwise a plugin would be believed to look at each field, that only ever finds the first that is missing.
    #[test]
    fn what_differs_in_one_field_breaks_one_rule() {
        let schema = Schema::compile(json!({
            "type": "object", "additionalProperties": false, "required": ["name", "token"],
            "properties": { "name": { "type": "string" }, "token": { "type": "string" }, "list": { "type": "array" } }
        }))
        .unwrap();
        let misfits = of(&schema, &json!({ "name": "Ada", "token": "hunter2" }));
        let differing: Vec<_> = misfits
            .iter()
            .filter_map(|misfit| Some((&misfit.what, serde_json::from_slice(&misfit.bytes).ok()?)))
            .filter(|(_, value): &(_, Value)| value.as_object().is_some_and(|fields| !fields.is_empty()))
            .collect();
        assert_eq!(differing.len(), 6, "{differing:?}");
        for (what, value) in differing {
            assert_eq!(schema.check(&value).len(), 1, "{what}");
            assert!(!what.contains("hunter2"), "{what}");
        }
    }

    #[test]
    fn a_schema_that_lets_everything_in_has_only_garbage_for_misfits() {
        let misfits = of(&Schema::compile(json!(true)).unwrap(), &json!({}));
        assert_eq!(misfits.len(), GARBAGE.len() + 1);
    }
}
