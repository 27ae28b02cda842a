//! The event itself, its JSON form and its JSON Schema.

use std::io;

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{EventId, Timestamp};

/// The value of `dataschema` in every event: the common data, revision 1.
pub const DATA_SCHEMA: &str = "urn:jackfield:event:1";

/// An occurrence that a provider told us of, in the common form.
///
/// Attributes beyond those of CloudEvents are extensions, hence lower case and without separators.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The revision of CloudEvents: always `1.0`.
    pub specversion: SpecVersion,
    /// Names this event in the journal, in logs and to people.
    pub id: EventId,
    /// Where it came in: `/in/` and the source's name.
    pub source: String,
    /// What happened, in reverse-DNS and lower case: `io.supernova.job.success`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to: `job/6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened, as the provider says; where it says nothing readable, when the request arrived.
    pub time: Timestamp,
    /// Always `application/json`.
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: String,
    /// Always [`DATA_SCHEMA`].
    #[schemars(description = "Which revision of `data` this is.", extend("const" = DATA_SCHEMA))]
    pub dataschema: String,
    /// The provider's name: `supernova`.
    pub provider: String,
    /// The configured source's name: `design-system`.
    pub sourcename: String,
    /// The provider's own id of its delivery, where it sends one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub providerdelivery: Option<String>,
    /// Which of the provider's attempts this was, counted from 1, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub providerattempt: Option<u32>,
    /// How the request was verified.
    pub verified: Verification,
    /// What happened, in the fields that all providers share. The last attribute in JSON; see [`join_payload`].
    pub data: Data,
}

/// CloudEvents 1.0, the only revision that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SpecVersion {
    /// CloudEvents 1.0.
    #[default]
    #[serde(rename = "1.0")]
    V1,
}

/// How a request proved where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// The provider signed the raw bytes with a secret that we share.
    Signature,
    /// The provider signs nothing; the address held a secret token.
    PathToken,
    /// A plugin of the router itself raised it, while it handled another.
    Plugin,
    /// Nothing was checked, as the source's configuration spells out with `unverified = true`.
    None,
}

/// The fields that mean the same for every provider.
///
/// All may be absent, so that what is made of others begins with none of them:
///
/// ```
/// use jackfield_event::{Data, Project};
///
/// let project = Project { kind: "design-system".to_owned(), name: Some("Acme".to_owned()), ..Project::default() };
/// let data = Data { title: Some("Tokens are published".to_owned()), project: Some(project), ..Data::default() };
/// let json = serde_json::to_string(&data)?;
/// assert_eq!(json, r#"{"title":"Tokens are published","project":{"kind":"design-system","name":"Acme"}}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Data {
    /// What was done: `created`, `updated`, `deleted`…
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// How it ended, where it is something that ends: `success`, `failure`, `canceled`, `timeout`; where it has not
    /// ended yet, `pending` or `running`; or a state that only its provider knows, in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// What the resource belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// What it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// The commit that it was made from or that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Files that can be fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Addresses of pictures, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The provider's body, verbatim. Absent only once retention has dropped it. The last field in JSON.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "even_null"
    )]
    #[schemars(with = "Option<serde_json::Value>")]
    pub payload: Option<Box<RawValue>>,
}

/// `null` is a payload like any other: that a provider sent it is not that there is none.
fn even_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Who did it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// The provider's id of the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
}

/// What the resource belongs to: a design system, a project, an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Project {
    /// What kind of thing it is: `design-system`.
    pub kind: String,
    /// The provider's id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What it was done to: a job, a screen, a build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resource {
    /// What kind of thing it is: `job`.
    pub kind: String,
    /// The provider's id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which version of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which variant of it, in lower case: `debug` or `release`, of a build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The page about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The commit that it was made from or that it made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Commit {
    /// Its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The branch or tag.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The page about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A file that can be fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// The file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it lies. Written by the sender of the payload: hostile until checked.
    pub url: String,
    /// What it is, where that is known: `application/zip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// When the address stops working.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The name of the credential that the address asks for; absent where the address is itself signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
}

impl Event {
    /// Reads an event from its JSON form, in UTF-8. Attributes that this version does not know are left out.
    ///
    /// # Errors
    ///
    /// Where the text is not JSON or lacks a required attribute; the error names line, column and field.
    pub fn from_json(json: impl AsRef<[u8]>) -> serde_json::Result<Self> {
        serde_json::from_slice(json.as_ref())
    }

    /// The event in JSON, `data` last and in it `payload` last.
    ///
    /// # Panics
    ///
    /// Never: every field has a JSON form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every field has a JSON form")
    }
}

/// Puts `payload` as `data.payload` into an event's JSON that was written without one.
///
/// The body of a request is stored once, as it came; this is how the event gets it back. `payload` must be a
/// whole JSON value, as everything is that a provider's translation accepted.
///
/// ```
/// let whole = jackfield_event::join_payload(r#"{"id":"evt_…","data":{"title":"Paid"}}"#, r#"{ "order": 7 }"#)?;
/// assert_eq!(whole, r#"{"id":"evt_…","data":{"title":"Paid","payload":{ "order": 7 }}}"#.as_bytes());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Where `envelope` does not end as [`Event::to_json`] ends.
pub fn join_payload(envelope: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> io::Result<Vec<u8>> {
    let Some(head) = envelope.as_ref().strip_suffix(b"}}") else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the stored event does not end with its data",
        ));
    };
    let comma: &[u8] = if head.ends_with(b"{") { b"" } else { b"," };
    Ok([head, comma, b"\"payload\":", payload.as_ref(), b"}}"].concat())
}

/// The JSON Schema (2020-12) of [`Event`].
///
/// It allows attributes beyond its own, as CloudEvents does, but no `null` in place of one of its own: what a
/// provider does not have is absent.
///
/// ```
/// let schema = jackfield_event::schema();
/// assert_eq!(schema["properties"]["specversion"]["$ref"], "#/$defs/SpecVersion");
/// assert_eq!(schema["properties"]["dataschema"]["const"], jackfield_event::DATA_SCHEMA);
/// ```
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(never_null))
        .into_generator()
        .into_root_schema_for::<Event>()
        .to_value()
}

/// An optional field is left out, never `null`, which is not what schemars takes an `Option` for.
fn never_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = &types[..] {
            let kind = kind.clone();
            schema.insert("type".into(), kind);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = &choices[..] {
            let only = only.clone();
            schema.remove("anyOf");
            schema.ensure_object().extend(only);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(data: Data) -> Event {
        let time = "2026-01-01T00:00:00Z".parse().unwrap();
        Event {
            specversion: SpecVersion::V1,
            id: EventId::new(time, 0),
            source: "/in/design-system".into(),
            kind: "io.supernova.job.success".into(),
            subject: None,
            time,
            datacontenttype: "application/json".into(),
            dataschema: DATA_SCHEMA.into(),
            provider: "supernova".into(),
            sourcename: "design-system".into(),
            providerdelivery: None,
            providerattempt: None,
            verified: Verification::PathToken,
            data,
        }
    }

    #[test]
    fn what_a_provider_does_not_have_is_absent() {
        let json: Value = serde_json::from_str(&event(Data::default()).to_json()).unwrap();
        assert_eq!(
            json,
            json!({
                "specversion": "1.0", "id": "evt_01kdvdna000000000000000000", "source": "/in/design-system",
                "type": "io.supernova.job.success", "time": "2026-01-01T00:00:00Z",
                "datacontenttype": "application/json", "dataschema": "urn:jackfield:event:1",
                "provider": "supernova", "sourcename": "design-system", "verified": "path-token", "data": {}
            })
        );
    }

    #[test]
    fn a_payload_of_null_is_one() {
        let joined = join_payload(event(Data::default()).to_json(), b"null").unwrap();
        let back = Event::from_json(&joined).unwrap();
        assert_eq!(
            back.data.payload.as_ref().map(|payload| payload.get()),
            Some("null")
        );
        assert_eq!(back.to_json().as_bytes(), joined);
    }

    #[test]
    fn an_envelope_that_was_not_written_here_takes_no_payload() {
        for envelope in ["", "{}", r#"{"data":{} }"#] {
            assert!(join_payload(envelope.as_bytes(), b"1").is_err(), "{envelope}");
        }
    }

    #[test]
    fn the_schema_knows_every_attribute_and_allows_null_nowhere() {
        let schema = schema();
        let attributes: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let common: Vec<&String> = schema["$defs"]["Data"]["properties"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        assert_eq!(attributes.len(), 14, "{attributes:?}");
        assert_eq!(common.len(), 10, "{common:?}");
        assert_eq!(schema["properties"]["dataschema"]["const"], DATA_SCHEMA);
        assert_eq!(
            schema["$defs"]["Data"]["properties"]["project"]["$ref"],
            "#/$defs/Project"
        );
        assert!(!schema.to_string().contains("\"null\""), "{schema:#}");
    }

    #[test]
    fn a_payload_joins_verbatim_whatever_stands_before_it() {
        let payload = br#"{ "b" : [1,  2.50], "a": "}}" }"#;
        for data in [
            Data::default(),
            Data {
                title: Some("}}".into()),
                ..Data::default()
            },
        ] {
            let joined = join_payload(event(data.clone()).to_json(), payload).unwrap();
            let back = Event::from_json(&joined).unwrap();
            assert_eq!(back.data.payload.as_ref().unwrap().get().as_bytes(), payload);
            assert_eq!(back.data.title, data.title);
            assert_eq!(back.to_json().as_bytes(), joined);
        }
    }
}
