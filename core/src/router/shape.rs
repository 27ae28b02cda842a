//! The shape of events, by their schema: which names there can be.

use std::sync::LazyLock;

use serde_json::Value;

use crate::fault::nearest;

/// A name that no event has.
#[derive(Debug, PartialEq)]
pub struct Missing<'n> {
    /// The names before it, all of which there are.
    pub parent: Vec<&'n str>,
    /// The name itself.
    pub name: &'n str,
    /// The names that there are in its place.
    pub known: Vec<String>,
}

impl Missing<'_> {
    /// What was perhaps meant, or else what there is.
    pub fn help(&self) -> String {
        if let Some(near) = nearest(self.name, self.known.iter().map(String::as_str)) {
            return format!("did you mean `{near}`?");
        }
        let path = self.parent.iter().copied().chain([self.name]);
        let known = self.known.iter().map(|name| format!("`{name}`"));
        format!(
            "beside `{}` there is: {}; what only the provider sends is in `data.payload`",
            path.collect::<Vec<_>>().join("."),
            known.collect::<Vec<_>>().join(", ")
        )
    }
}

/// The first name of a path from the top of an event that no event has.
///
/// Lists are passed through, as in a pattern; of what lies in `data.payload`, nothing is known.
pub fn missing<'n>(path: impl IntoIterator<Item = &'n str>) -> Option<Missing<'n>> {
    let mut parent = Vec::new();
    let mut at = &*SCHEMA;
    for name in path {
        at = members_of(at);
        let properties = at.get("properties").and_then(Value::as_object)?;
        let Some(next) = properties.get(name) else {
            let known = properties.keys().cloned().collect();
            return Some(Missing { parent, name, known });
        };
        parent.push(name);
        at = next;
    }
    None
}

/// The schema of the object that `schema` is about: by reference, as an alternative to null, or in a list.
fn members_of(schema: &'static Value) -> &'static Value {
    let mut at = schema;
    loop {
        let alternatives = at.get("anyOf").and_then(Value::as_array);
        let alternative = alternatives.and_then(|all| all.iter().find(|one| one.get("$ref").is_some()));
        let reference = at.get("$ref").and_then(Value::as_str);
        let referred = reference.and_then(|address| SCHEMA.pointer(address.strip_prefix('#')?));
        match referred.or(alternative).or(at.get("items")) {
            Some(next) => at = next,
            None => return at,
        }
    }
}

static SCHEMA: LazyLock<Value> = LazyLock::new(jackfield_event::schema);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, &str)>) {
        let found = missing(path.split('.'));
        let found = found.map(|missing| (missing.parent.join("."), missing.name.to_owned()));
        assert_eq!(
            found,
            expected.map(|(parent, name)| (parent.to_owned(), name.to_owned())),
            "{path}"
        );
    }

    #[test]
    fn names_are_known_down_to_the_payload() {
        check("type", None);
        check("data.title", None);
        check("data.project.name", None);
        check("data.artifacts.url", None);
        check("data.payload.any.thing", None);
        check("titel", Some(("", "titel")));
        check("data.titel", Some(("data", "titel")));
        check("data.project.nam", Some(("data.project", "nam")));
        check("data.artifacts.uri", Some(("data.artifacts", "uri")));
    }
}
