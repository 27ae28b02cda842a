//! What a validator found, in words for the person who wrote the value.

use std::fmt;

use boon::{ErrorKind, InstanceToken, Type, ValidationError};
use serde::Serialize;
use serde_json::Value;

use super::Schema;
use crate::fault::nearest;

/// One misfit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// The JSON Pointer of what is wrong in the value; of what is missing, where it belongs.
    pub pointer: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Violation {
    /// The place as it is written in a template, and the message: `` `files[0].name`: missing ``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut path = String::new();
        for token in self.pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            match token.parse::<usize>() {
                Ok(index) => path += &format!("[{index}]"),
                Err(_) if path.is_empty() => path += &token,
                Err(_) => path += &format!(".{token}"),
            }
        }
        match path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "`{path}`: {}", self.message),
        }
    }
}

/// Several of them, in one line.
pub fn listed(violations: &[Violation]) -> String {
    let lines: Vec<_> = violations.iter().map(Violation::to_string).collect();
    lines.join("; ")
}

/// The violations behind `error`, in the order of places, without those that hang on a hole.
pub(super) fn list(
    error: &ValidationError<'_, '_>,
    schema: &Schema,
    value: &Value,
    is_hole: &dyn Fn(&str) -> bool,
) -> Vec<Violation> {
    let mut holes = Vec::new();
    find_holes(value, String::new(), is_hole, &mut holes);
    let mut violations = Reader { schema, value, holes }.read(error);
    violations.sort();
    violations.dedup();
    violations
}

fn find_holes(value: &Value, at: String, is_hole: &dyn Fn(&str) -> bool, holes: &mut Vec<String>) {
    if is_hole(&at) {
        holes.push(at);
        return;
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_holes(item, format!("{at}/{index}"), is_hole, holes);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                find_holes(member, join(&at, name), is_hole, holes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    value: &'a Value,
    holes: Vec<String>,
}

impl Reader<'_> {
    fn read(&self, error: &ValidationError<'_, '_>) -> Vec<Violation> {
        let at = pointer(error);
        if self.hangs_on_a_hole(&at, &error.kind) {
            return Vec::new();
        }
        match &error.kind {
            ErrorKind::Group
            | ErrorKind::Schema { .. }
            | ErrorKind::Reference { .. }
            | ErrorKind::ContentSchema
            | ErrorKind::AllOf => error.causes.iter().flat_map(|cause| self.read(cause)).collect(),
            ErrorKind::AnyOf | ErrorKind::OneOf(None) => self.nearest_alternative(&at, error),
            ErrorKind::Required { want } => {
                let missing = want.iter().map(|name| violation(join(&at, name), "missing"));
                missing.collect()
            }
            ErrorKind::AdditionalProperties { got } => got
                .iter()
                .map(|name| self.unknown(&at, name, error.schema_url))
                .collect(),
            _ => vec![violation(at.clone(), self.words(&at, error))],
        }
    }

    /// Whether the value at `at` is not known, or decides by a part that is not.
    fn hangs_on_a_hole(&self, at: &str, kind: &ErrorKind<'_, '_>) -> bool {
        let decides_by_parts = matches!(
            kind,
            ErrorKind::Enum { .. }
                | ErrorKind::Const { .. }
                | ErrorKind::Not
                | ErrorKind::OneOf(Some(_))
                | ErrorKind::UniqueItems { .. }
                | ErrorKind::Contains
                | ErrorKind::MinContains { .. }
                | ErrorKind::MaxContains { .. }
        );
        self.holes.iter().any(|hole| {
            let below = hole.strip_prefix(at).is_some_and(|rest| rest.starts_with('/'));
            hole == at || (decides_by_parts && below)
        })
    }

    /// The violations of the alternative that comes nearest: none of another kind of value, then the fewest.
    fn nearest_alternative(&self, at: &str, error: &ValidationError<'_, '_>) -> Vec<Violation> {
        let alternatives: Vec<_> = error
            .causes
            .iter()
            .map(|cause| (cause, self.read(cause)))
            .collect();
        let mut fitting = alternatives
            .iter()
            .filter(|(cause, _)| !is_other_kind(at, cause))
            .map(|(_, violations)| violations)
            .collect::<Vec<_>>();
        fitting.sort_by_key(|violations| violations.len());
        match fitting.first() {
            Some(violations) => self
                .prefer_choice(&fitting)
                .unwrap_or_else(|| violations.to_vec()),
            None => vec![violation(at.to_owned(), self.expected_kinds(at, error))],
        }
    }

    /// Of alternatives told apart by a constant member, the one whose constant is right.
    fn prefer_choice(&self, fitting: &[&Vec<Violation>]) -> Option<Vec<Violation>> {
        let right =
            |violations: &&&Vec<Violation>| !violations.iter().any(|v| v.message.contains("exactly "));
        let mut right = fitting.iter().filter(right);
        right.next().map(|violations| violations.to_vec())
    }

    fn expected_kinds(&self, at: &str, error: &ValidationError<'_, '_>) -> String {
        let mut kinds = Vec::new();
        collect_kinds(error, &mut kinds);
        kinds.dedup();
        if kinds.iter().any(|kind| *kind != NULL) {
            kinds.retain(|kind| *kind != NULL);
        }
        format!("found {}, expected {}", self.found(at), kinds.join(" or "))
    }

    fn unknown(&self, at: &str, name: &str, schema_url: &str) -> Violation {
        let known = self.properties(schema_url);
        let message = match nearest(name, known.iter().copied()) {
            Some(near) => format!("unknown; did you mean `{near}`?"),
            None if known.is_empty() => "unknown".to_owned(),
            None => {
                let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                format!("unknown; there is: {}", names.join(", "))
            }
        };
        violation(join(at, name), message)
    }

    /// The names of the properties that the schema at `schema_url` knows.
    fn properties(&self, schema_url: &str) -> Vec<&str> {
        let at = schema_url.split_once('#').map(|(_, at)| at).unwrap_or_default();
        let properties = self
            .schema
            .json
            .pointer(at)
            .and_then(|schema| schema.get("properties"));
        let properties = properties.and_then(Value::as_object);
        properties
            .into_iter()
            .flat_map(|names| names.keys())
            .map(String::as_str)
            .collect()
    }

    fn words(&self, at: &str, error: &ValidationError<'_, '_>) -> String {
        match &error.kind {
            ErrorKind::Type { .. } => self.expected_kinds(at, error),
            ErrorKind::Enum { want } => {
                let values: Vec<_> = want.iter().map(Value::to_string).collect();
                format!("found {}, expected {}", self.found(at), values.join(" or "))
            }
            ErrorKind::Const { want } => format!("found {}, expected exactly {want}", self.found(at)),
            ErrorKind::FalseSchema => "not allowed here".to_owned(),
            ErrorKind::MinLength { want, .. } if *want == 1 => "empty".to_owned(),
            ErrorKind::Format { want, .. } => format!("not a valid {want}"),
            ErrorKind::Pattern { want, .. } => {
                format!("found {}, expected text like /{want}/", self.found(at))
            }
            ErrorKind::MinItems { got, want } => format!("found {got} elements, expected at least {want}"),
            ErrorKind::MaxItems { got, want } => format!("found {got} elements, expected at most {want}"),
            ErrorKind::Minimum { got, want } => format!("found {got}, expected at least {want}"),
            ErrorKind::Maximum { got, want } => format!("found {got}, expected at most {want}"),
            ErrorKind::OneOf(Some(_)) => "fits more than one of the alternatives".to_owned(),
            other => other.to_string(),
        }
    }

    /// What the value at `at` is. The text of a string may be a secret and is not shown.
    fn found(&self, at: &str) -> String {
        match self.value.pointer(at) {
            Some(Value::String(_)) => "a string".to_owned(),
            Some(Value::Array(_)) => "a list".to_owned(),
            Some(Value::Object(_)) => "a table".to_owned(),
            Some(other) => other.to_string(),
            None => "nothing".to_owned(),
        }
    }
}

fn violation(pointer: String, message: impl Into<String>) -> Violation {
    Violation {
        pointer,
        message: message.into(),
    }
}

/// Whether `error` is only that the value at `at` is of another kind, or not `null`.
fn is_other_kind(at: &str, error: &ValidationError<'_, '_>) -> bool {
    match &error.kind {
        ErrorKind::Type { .. } => pointer(error) == at,
        ErrorKind::Const { want: Value::Null } => true,
        ErrorKind::Group | ErrorKind::Reference { .. } | ErrorKind::AllOf => {
            error.causes.iter().any(|cause| is_other_kind(at, cause))
        }
        _ => false,
    }
}

fn collect_kinds(error: &ValidationError<'_, '_>, kinds: &mut Vec<&'static str>) {
    if let ErrorKind::Type { want, .. } = &error.kind {
        kinds.extend(want.iter().map(kind));
    }
    error.causes.iter().for_each(|cause| collect_kinds(cause, kinds));
}

fn kind(kind: Type) -> &'static str {
    match kind {
        Type::Null => NULL,
        Type::Boolean => "true or false",
        Type::Number => "a number",
        Type::Integer => "a whole number",
        Type::String => "a string",
        Type::Array => "a list",
        Type::Object => "a table",
    }
}

fn pointer(error: &ValidationError<'_, '_>) -> String {
    error
        .instance_location
        .tokens
        .iter()
        .fold(String::new(), |at, token| match token {
            InstanceToken::Prop(name) => join(&at, name),
            InstanceToken::Item(index) => format!("{at}/{index}"),
        })
}

fn join(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A kind that nobody is told of where there is another: most files have no way to write it.
const NULL: &str = "null";
