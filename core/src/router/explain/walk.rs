//! Where the path of a clause leads to no value of an event, and which path was perhaps meant.
//!
//! As the table does, this goes through all elements of a list, and takes a key with dots for a path.

use std::{
    cell::OnceCell,
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use serde_json::Value;

use crate::fault::nearest;

/// An event to walk through, again and again.
pub(in crate::router) struct Walk<'e> {
    event: &'e Value,
    /// The paths that lead to values, by their last names.
    paths: OnceCell<HashMap<&'e str, Vec<Vec<&'e str>>>>,
}

/// A place in the event.
#[derive(Clone, Copy)]
enum Place<'e> {
    Value(&'e Value),
    /// Within a key with dots: what is left of it, and its value.
    Within(&'e str, &'e Value),
}

impl<'e> Walk<'e> {
    pub(in crate::router) fn new(event: &'e Value) -> Self {
        Self {
            event,
            paths: OnceCell::new(),
        }
    }

    /// What stands where `path`, at which there is no value, does not lead on.
    pub(super) fn stop(&self, path: &[Box<str>]) -> Option<String> {
        let mut here = vec![Place::Value(self.event)];
        for (depth, name) in path.iter().enumerate() {
            let elements = elements(&here);
            let next = step(&elements, name);
            if next.is_empty() {
                return Some(self.without(path, depth, &here));
            }
            here = next;
        }
        let walked = path.join(".");
        let elements = elements(&here);
        if elements.iter().any(|place| place.is_leaf()) {
            return None;
        }
        Some(match (is_list(&here), elements.is_empty()) {
            (_, true) => format!("`{walked}` is an empty list"),
            (true, false) => {
                format!("`{walked}` is a list of objects; a pattern looks at the values in them")
            }
            (false, false) => format!("`{walked}` is an object; a pattern looks at the values in it"),
        })
    }

    /// That what is `here`, at `depth` of the path, has nothing of its next name.
    fn without(&self, path: &[Box<str>], depth: usize, here: &[Place<'e>]) -> String {
        let elements = elements(here);
        let (walked, rest) = path.split_at(depth);
        let name = &rest[0];
        let place = match depth {
            0 => "the event".to_owned(),
            _ => format!("`{}`", walked.join(".")),
        };
        if elements.is_empty() {
            return format!("{place} is an empty list");
        }
        let known: Vec<_> = elements.iter().flat_map(|place| place.fields()).collect();
        let kinds: Option<Vec<_>> = elements.iter().map(|place| place.kind()).collect();
        let what = match kinds.as_deref() {
            Some(_) if is_list(here) => {
                format!("{place} is a list without objects, which has no `{name}`")
            }
            Some([kind, ..]) => format!("{place} is {kind}, which has no `{name}`"),
            Some([]) | None => format!("{place} has no `{name}`"),
        };
        let near = nearest(name, known.iter().map(|(name, _)| *name));
        let leads_on = near.is_some_and(|near| leads(step(&elements, near), &rest[1..]));
        let found = (!leads_on).then(|| self.elsewhere(path, depth)).flatten();
        match (found, near) {
            (Some(found), _) => format!("{what}, but there is `{found}`"),
            (None, Some(near)) => format!("{what}, but `{near}`"),
            (None, None) => what,
        }
    }

    /// The path to a value that is most like `path`, of which only the first `depth` names are there: one that ends as it does.
    ///
    /// A single name is found in too many places. There, one path must be the other with some names left out.
    fn elsewhere(&self, path: &[Box<str>], depth: usize) -> Option<String> {
        let path: Vec<&str> = path.iter().map(|name| &**name).collect();
        let rest = &path[depth..];
        let paths = self.paths.get_or_init(|| paths(self.event));
        let likely = paths.get(rest.last()?)?.iter().filter(|found| {
            found.ends_with(rest) && (rest.len() > 1 || is_within(found, &path) || is_within(&path, found))
        });
        let best = likely.min_by_key(|found| {
            let same = |(a, b): &(&&str, &&str)| a == b;
            let end = found.iter().rev().zip(path.iter().rev()).take_while(same).count();
            let start = found.iter().zip(&path).take_while(same).count();
            (Reverse(end), Reverse(start), found.len())
        });
        best.map(|found| found.join("."))
    }
}

impl<'e> Place<'e> {
    /// What an object has, by name.
    fn fields(self) -> Vec<(&'e str, Self)> {
        let field = |key: &'e str, value: &'e Value| match key.split_once('.') {
            Some((name, rest)) => (name, Self::Within(rest, value)),
            None => (key, Self::Value(value)),
        };
        match self {
            Self::Within(rest, value) => vec![field(rest, value)],
            Self::Value(Value::Object(object)) => {
                object.iter().map(|(key, value)| field(key, value)).collect()
            }
            Self::Value(_) => Vec::new(),
        }
    }

    fn is_leaf(self) -> bool {
        !matches!(
            self,
            Self::Within(..) | Self::Value(Value::Object(_) | Value::Array(_))
        )
    }

    /// What a value is that has no fields.
    fn kind(self) -> Option<&'static str> {
        match self {
            Self::Within(..) | Self::Value(Value::Object(_) | Value::Array(_)) => None,
            Self::Value(Value::Null) => Some("null"),
            Self::Value(Value::Bool(_)) => Some("a truth value"),
            Self::Value(Value::Number(_)) => Some("a number"),
            Self::Value(Value::String(_)) => Some("a string"),
        }
    }
}

/// The places, and of lists, their elements.
fn elements<'e>(places: &[Place<'e>]) -> Vec<Place<'e>> {
    let mut elements = Vec::new();
    for place in places {
        match place {
            Place::Value(Value::Array(list)) => {
                let list: Vec<_> = list.iter().map(Place::Value).collect();
                elements.extend(self::elements(&list));
            }
            place => elements.push(*place),
        }
    }
    elements
}

fn is_list(places: &[Place<'_>]) -> bool {
    places
        .iter()
        .any(|place| matches!(place, Place::Value(Value::Array(_))))
}

/// What the elements have of that name.
fn step<'e>(elements: &[Place<'e>], name: &str) -> Vec<Place<'e>> {
    let fields = elements.iter().flat_map(|place| place.fields());
    fields
        .filter(|(field, _)| *field == name)
        .map(|(_, place)| place)
        .collect()
}

/// Whether these names lead from the places to a value.
fn leads(places: Vec<Place<'_>>, names: &[Box<str>]) -> bool {
    let end = names
        .iter()
        .fold(places, |places, name| step(&elements(&places), name));
    elements(&end).iter().any(|place| place.is_leaf())
}

/// Whether `short` is `long` with some names left out.
fn is_within(short: &[&str], long: &[&str]) -> bool {
    let mut long = long.iter();
    short.iter().all(|name| long.any(|other| other == name))
}

/// The paths that lead to values, each once, by their last names.
fn paths(event: &Value) -> HashMap<&str, Vec<Vec<&str>>> {
    let mut found = BTreeSet::new();
    gather(Place::Value(event), &mut Vec::new(), &mut found);
    let mut paths: HashMap<_, Vec<_>> = HashMap::new();
    for path in found {
        if let Some(last) = path.last() {
            paths.entry(*last).or_default().push(path);
        }
    }
    paths
}

fn gather<'e>(place: Place<'e>, path: &mut Vec<&'e str>, found: &mut BTreeSet<Vec<&'e str>>) {
    for element in elements(&[place]) {
        // Objects with names that are data have any number of them, and a key as many dots as its sender likes.
        if found.len() == MOST_PATHS || path.len() == MOST_NAMES {
            return;
        }
        if element.is_leaf() {
            found.insert(path.clone());
            continue;
        }
        for (name, place) in element.fields() {
            path.push(name);
            gather(place, path, found);
            path.pop();
        }
    }
}

/// How many paths of an event are looked through for one that was perhaps meant.
const MOST_PATHS: usize = 10_000;
/// How many names such a path has at most: more than any that a person writes.
const MOST_NAMES: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_with_more_dots_than_a_stack_has_room_for_is_gone_through_as_far_as_a_person_would() {
        let key = vec!["a"; 1_000_000].join(".");
        let event = json!({ key: 1, "near": { "b": { "c": 1 } } });
        let walk = Walk::new(&event);
        let stop = walk.stop(&["b".into(), "c".into()]);
        assert_eq!(
            stop.as_deref(),
            Some("the event has no `b`, but there is `near.b.c`")
        );
    }
}
