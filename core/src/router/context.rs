//! What templates see: the events, the outputs of earlier steps, the route, the delivery, and its failure.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use jackfield_event::DeliveryId;
use minijinja::{
    Value,
    value::{Object, ObjectRepr},
};

use super::pattern::{Node, NodeValue, parse_json};
use crate::reason::Reason;

/// What the templates of one delivery's steps see.
///
/// | name | what it is |
/// |---|---|
/// | `event` | the newest event, whole |
/// | `events` | all events of the delivery, the newest last |
/// | `steps` | by id, what the steps before put out |
/// | `route.name`, `delivery.id` | where the step belongs |
/// | `failure.step`, `.reason`, `.error` | in `on_failure`: what failed; no `step` where it failed before any |
#[derive(Clone, Debug)]
pub struct Context {
    route: String,
    root: Value,
}

/// What failed, as `on_failure` steps see it.
#[derive(Clone, Copy, Debug)]
pub struct FailureView<'a> {
    /// The id of the step, where it was one.
    pub step: Option<&'a str>,
    /// The code for it.
    pub reason: Reason,
    /// In words.
    pub error: &'a str,
}

/// What the journal gave is no JSON.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not JSON")]
pub struct ContextError {
    what: String,
    source: serde_json::Error,
}

/// What only a delivery could tell, and everything in it.
#[derive(Debug)]
struct Unknown(String);

impl Object for Unknown {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = match key.as_str() {
            Some(name) => format!("{}.{name}", self.0),
            None => format!("{}[{key}]", self.0),
        };
        Some(Value::from_object(Self(name)))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "‹{}›", self.0)
    }
}

/// An event, parsed once for all templates. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Parsed(Value);

impl Parsed {
    pub(super) fn event(json: &[u8]) -> Result<Self, ContextError> {
        parse(json, || "the event".to_owned()).map(Self)
    }
}

impl Context {
    /// Puts together what the steps of `delivery` see. `events` are in JSON, payload and all, the newest last;
    /// `outputs` are by step id, in JSON.
    ///
    /// # Errors
    ///
    /// Where an event or an output is not JSON.
    pub fn new(
        route: &str,
        delivery: DeliveryId,
        events: &[Bytes],
        outputs: &BTreeMap<String, Bytes>,
        failure: Option<FailureView<'_>>,
    ) -> Result<Self, ContextError> {
        let events: Result<Vec<_>, _> = events.iter().map(|event| Parsed::event(event)).collect();
        Self::of_delivery(route, delivery, &events?, outputs, failure)
    }

    /// The same, of events that are parsed already.
    pub(super) fn of_delivery(
        route: &str,
        delivery: DeliveryId,
        events: &[Parsed],
        outputs: &BTreeMap<String, Bytes>,
        failure: Option<FailureView<'_>>,
    ) -> Result<Self, ContextError> {
        let outputs = outputs
            .iter()
            .map(|(step, output)| {
                Ok((
                    step.as_str(),
                    parse(output, || format!("the output of step `{step}`"))?,
                ))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let events = events.iter().map(|event| event.0.clone()).collect();
        let mut names = with_events(route, events);
        names.push(("steps", Value::from_pairs(outputs)));
        names.push(("delivery", Value::from_pairs([("id", delivery.to_string())])));
        names.extend(failure.map(|failure| ("failure", failure.value())));
        Ok(Self::of(route, names))
    }

    /// What a template sees before there is a delivery: one event and the route.
    pub(super) fn before_delivery(route: &str, event: &Parsed) -> Self {
        Self::of(route, with_events(route, vec![event.0.clone()]))
    }

    /// What the steps of a delivery would see that there never was: whatever only it could tell stands there by its name.
    pub(super) fn unperformed(route: &str, event: &Parsed) -> Self {
        let unknown = |name: &str| Value::from_object(Unknown(name.to_owned()));
        let mut names = with_events(route, vec![event.0.clone()]);
        names.extend(["steps", "delivery", "failure"].map(|name| (name, unknown(name))));
        Self::of(route, names)
    }

    pub(super) fn route(&self) -> &str {
        &self.route
    }

    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    fn of(route: &str, names: Vec<(&str, Value)>) -> Self {
        Self {
            route: route.to_owned(),
            root: Value::from_pairs(names),
        }
    }
}

impl FailureView<'_> {
    fn value(&self) -> Value {
        let mut members = vec![("reason", self.reason.code()), ("error", self.error)];
        members.extend(self.step.map(|step| ("step", step)));
        Value::from_pairs(members)
    }
}

fn with_events(route: &str, events: Vec<Value>) -> Vec<(&'static str, Value)> {
    vec![
        ("event", events.last().cloned().unwrap_or_default()),
        ("events", Value::from(events)),
        ("route", Value::from_pairs([("name", route.to_owned())])),
    ]
}

fn parse(json: &[u8], what: impl FnOnce() -> String) -> Result<Value, ContextError> {
    serde_json::from_slice(json).or_else(|source| {
        // serde_json refuses half a surrogate pair and a number beyond `f64`, which other writers of JSON let pass.
        let tree = std::str::from_utf8(json)
            .ok()
            .and_then(|text| parse_json(text).ok());
        tree.map(|tree| value(&tree))
            .ok_or_else(|| ContextError { what: what(), source })
    })
}

fn value(tree: &Node) -> Value {
    match &tree.value {
        NodeValue::Null | NodeValue::Date => Value::from(()),
        NodeValue::Bool(truth) => Value::from(*truth),
        NodeValue::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())),
        NodeValue::String(text) => Value::from(text.as_str()),
        NodeValue::List(nodes) => nodes.iter().map(value).collect(),
        NodeValue::Table(members) => Value::from_pairs(
            members
                .iter()
                .map(|member| (member.key.as_str(), value(&member.node))),
        ),
    }
}
