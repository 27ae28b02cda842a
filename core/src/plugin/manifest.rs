//! What a plugin says of itself when it is asked: its manifest.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{destination::DestinationError, grant::Needs, note::Identity};
use crate::schema::{Schema, SchemaError};

/// A manifest that was read, agrees with the library's note, and has schemas that can be used.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line for people.
    pub description: Option<String>,
    /// More, in Markdown.
    pub docs: Option<String>,
    /// What it can be used for.
    pub capabilities: Vec<String>,
    /// What it needs of the machine.
    #[serde(skip_serializing_if = "Needs::is_nothing")]
    pub needs: Needs,
    /// What the configuration of an instance must fit.
    #[serde(serialize_with = "given")]
    pub config_schema: Arc<Schema>,
    /// What the input of a step must fit.
    #[serde(serialize_with = "given")]
    pub input_schema: Arc<Schema>,
    /// What its output fits.
    #[serde(serialize_with = "perhaps_given")]
    pub output_schema: Option<Arc<Schema>>,
}

/// The schema as the plugin gave it.
fn given<S: Serializer>(schema: &Schema, serializer: S) -> Result<S::Ok, S::Error> {
    schema.json().serialize(serializer)
}

fn perhaps_given<S: Serializer>(schema: &Option<Arc<Schema>>, serializer: S) -> Result<S::Ok, S::Error> {
    schema.as_deref().map(Schema::json).serialize(serializer)
}

impl Manifest {
    /// Reads the manifest of the plugin that `identity` names.
    ///
    /// # Errors
    /// When it is no manifest, or that of another plugin, or asks for what this process cannot do.
    pub fn read(json: &[u8], identity: &Identity) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(json)?;
        if (&raw.name, &raw.version) != (&identity.name, &identity.version) {
            return Err(ManifestError::Stranger {
                note: format!("{} {}", identity.name, identity.version),
                manifest: format!("{} {}", raw.name, raw.version),
            });
        }
        let can = |capability| raw.capabilities.iter().any(|known| known == capability);
        let (is_action, is_provider) = (can(ACTION), can(PROVIDER));
        if !is_action && !is_provider {
            return Err(ManifestError::NoUse(raw.capabilities.join("`, `")));
        }
        raw.needs.check()?;
        let input_schema = match (is_action, raw.input_schema) {
            // No step can use it, so no input fits.
            (false, _) => Value::Bool(false),
            (true, Some(schema)) => schema,
            (true, None) => return Err(ManifestError::NoInput),
        };
        Ok(Self {
            config_schema: compile("config_schema", raw.config_schema)?,
            input_schema: compile("input_schema", input_schema)?,
            output_schema: raw
                .output_schema
                .map(|json| compile("output_schema", json))
                .transpose()?,
            name: raw.name,
            version: raw.version,
            description: raw.description,
            docs: raw.docs,
            capabilities: raw.capabilities,
            needs: raw.needs,
        })
    }

    /// Whether steps can use the plugin.
    pub fn is_action(&self) -> bool {
        self.can(ACTION)
    }

    /// Whether sources can: it brings a provider.
    pub fn is_provider(&self) -> bool {
        self.can(PROVIDER)
    }

    fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }
}

/// Why a manifest was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON, or lacks a field.
    #[error("it is not what the ABI asks for")]
    Unreadable(#[from] serde_json::Error),
    /// The note is of another plugin than the code.
    #[error(
        "it is that of `{manifest}`, the note that of `{note}`: the library was linked from parts of two plugins"
    )]
    Stranger {
        /// Name and version in the note.
        note: String,
        /// Name and version in the manifest.
        manifest: String,
    },
    /// It is of no use.
    #[error(
        "the capabilities in it are `{0}`; this Jackfield can only use plugins with `action` or `provider`"
    )]
    NoUse(String),
    /// It takes nothing.
    #[error("it has no `input_schema`, which a plugin with the capability `action` has")]
    NoInput,
    /// A host that it needs is none.
    #[error("a host in its `needs.network` is none")]
    Needs(#[from] DestinationError),
    /// A schema in it is wrong.
    #[error("its `{field}` is unusable")]
    Schema {
        /// Which.
        field: &'static str,
        /// Why.
        source: SchemaError,
    },
}

/// The manifest as it is written.
#[derive(Deserialize)]
struct Raw {
    name: String,
    version: String,
    description: Option<String>,
    docs: Option<String>,
    capabilities: Vec<String>,
    #[serde(default)]
    needs: Needs,
    config_schema: Value,
    input_schema: Option<Value>,
    output_schema: Option<Value>,
}

/// What steps can use.
const ACTION: &str = "action";
/// What sources can use.
const PROVIDER: &str = "provider";

fn compile(field: &'static str, json: Value) -> Result<Arc<Schema>, ManifestError> {
    Schema::compile(json)
        .map(Arc::new)
        .map_err(|source| ManifestError::Schema { field, source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::reason_of;

    fn manifest() -> Value {
        json!({
            "name": "hello", "version": "1.0.0", "description": "Says hello", "capabilities": ["action"],
            "config_schema": { "type": "object" }, "input_schema": true
        })
    }

    fn read(manifest: &Value) -> Result<Manifest, ManifestError> {
        Manifest::read(manifest.to_string().as_bytes(), &Identity::example("hello"))
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Value)) -> String {
        let mut manifest = manifest();
        change(&mut manifest);
        reason_of(&read(&manifest).unwrap_err())
    }

    #[test]
    fn a_manifest_is_read_with_its_schemas_ready() {
        let read = read(&manifest()).unwrap();
        assert_eq!(
            (read.name.as_str(), read.description.as_deref()),
            ("hello", Some("Says hello"))
        );
        assert!(read.config_schema.accepts_empty());
        assert!(!read.config_schema.check(&json!(1)).is_empty());
    }

    #[test]
    fn a_manifest_that_does_not_fit_is_refused() {
        insta::assert_snapshot!(refused(|it| it["name"] = json!("other")), @"it is that of `other 1.0.0`, the note that of `hello 1.0.0`: the library was linked from parts of two plugins");
        insta::assert_snapshot!(refused(|it| it["capabilities"] = json!(["filter"])), @"the capabilities in it are `filter`; this Jackfield can only use plugins with `action` or `provider`");
        insta::assert_snapshot!(refused(|it| { it.as_object_mut().unwrap().remove("input_schema"); }), @"it has no `input_schema`, which a plugin with the capability `action` has");
        insta::assert_snapshot!(refused(|it| it["needs"] = json!({ "network": ["https://slack.com"] })), @r#"a host in its `needs.network` is none: found "https://slack.com", expected a host and a port such as "slack.com:443", "*.example.com" or "[::1]:8080""#);
        insta::assert_snapshot!(refused(|it| it["needs"] = json!({ "devices": [] })), @"it is not what the ABI asks for: unknown field `devices`, expected one of `network`, `files`, `programs` at line 1 column 141");
        assert!(
            refused(|it| it["config_schema"] = json!({ "type": "text" }))
                .starts_with("its `config_schema` is unusable")
        );
    }

    #[test]
    fn a_provider_takes_no_input_unless_it_is_an_action_too() {
        let mut manifest = manifest();
        manifest["capabilities"] = json!(["provider"]);
        let provider = read(&manifest).unwrap();
        assert!(provider.is_provider() && !provider.input_schema.check(&json!({})).is_empty());
        manifest["capabilities"] = json!(["provider", "action"]);
        let both = read(&manifest).unwrap();
        assert!(both.is_provider() && both.input_schema.check(&json!({})).is_empty());
    }

    #[test]
    fn what_is_not_json_is_no_manifest() {
        let error = Manifest::read(b"hello", &Identity::example("hello")).unwrap_err();
        assert!(matches!(error, ManifestError::Unreadable(_)));
    }
}
