//! Configurations and inputs that do not fit a schema: what a router never hands on, handed on.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema::Schema;

/// Bytes that do not fit, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Misfit {
    /// As in `text that is not JSON`.
    pub(super) what: String,
    pub(super) bytes: Vec<u8>,
}

/// Misfits of `schema`: what is not JSON, and what is and breaks a rule of the schema.
pub(super) fn of(schema: &Schema) -> Vec<Misfit> {
    let garbage = GARBAGE.iter().map(|(what, bytes)| Misfit {
        what: (*what).to_owned(),
        bytes: bytes.to_vec(),
    });
    let nested = Misfit {
        what: "a thousand lists in one another".to_owned(),
        bytes: [[b'['; 1000], [b']'; 1000]].concat(),
    };
    let values = values(schema)
        .into_iter()
        .filter(|(_, value)| !schema.check(value).is_empty());
    let values = values.map(|(what, value)| Misfit {
        what,
        bytes: value.to_string().into_bytes(),
    });
    garbage.chain([nested]).chain(values).collect()
}

/// Values that may break a rule of the schema.
fn values(schema: &Schema) -> Vec<(String, Value)> {
    // Not a plain list, which serde takes for the fields of a struct in their order.
    let mut values: Vec<_> = [json!(null), json!(7), json!("text"), json!([[[7]]])]
        .into_iter()
        .map(|value| (format!("`{value}`"), value))
        .collect();
    values.push(("`{}`".to_owned(), json!({})));
    values.push((
        "a field that there is not".to_owned(),
        json!({ "no-such-field-7f3a": true }),
    ));
    let fields = schema.fields();
    let fields = fields
        .iter()
        .filter(|field| !field.path.contains(['.', '[', '<']));
    for path in fields.map(|field| &field.path).take(MOST_FIELDS) {
        // One of them is of another kind, whatever the field is.
        for wrong in [json!(["text"]), json!(7), json!("text")] {
            let value = json!({ path: wrong });
            let at = format!("/{}", path.replace('~', "~0").replace('/', "~1"));
            if schema
                .check(&value)
                .iter()
                .any(|violation| violation.pointer == at)
            {
                values.push((format!("`{value}`"), value));
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
        let misfits = of(&schema);
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
            "`{\"list\":7}`",
            "`{\"name\":[\"text\"]}`",
            "a field that there is not",
        ] {
            assert!(named(what), "{what}");
        }
    }

    #[test]
    fn a_schema_that_lets_everything_in_has_only_garbage_for_misfits() {
        let misfits = of(&Schema::compile(json!(true)).unwrap());
        assert_eq!(misfits.len(), GARBAGE.len() + 1);
    }
}
