//! Values that are used but never shown.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A secret text in a configuration.
///
/// It is read from a string, prints as `***`, is never serialized, and is `writeOnly` in the schema. In the router's
/// configuration it is given by reference, `{ env = "…" }` or `{ file = "…" }`, and resolved before the plugin sees it.
///
/// ```
/// use jackfield_sdk::Secret;
///
/// let token: Secret = serde_json::from_str(r#""xoxb-1""#).unwrap();
/// assert_eq!(token.expose(), "xoxb-1");
/// assert_eq!(format!("{token:?}"), "***");
/// ```
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that has to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password", "writeOnly": true })
    }
}
