//! Reads the values at the paths in use out of an event's bytes.
//!
//! One strict pass with serde_json; whatever no path leads to is skipped without recursion. An envelope that stands
//! apart from its payload was written by this router, without a key twice, so that the pass over it ends where all
//! names in use at its top have been read. Should a pass fail, on
//! half a surrogate pair or on a number beyond `f64` which other parsers let pass, a slower reader that knows
//! them has the last word on whether this is JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    NotJson,
    leaves::{Collector, ElementId, Leaves},
    paths::{Lead, NodeId, Paths},
};
use crate::router::pattern::{Node, NodeValue, Number, Scalar, parse_json};

/// The values of an event, whose payload is in `envelope` or beside it.
pub(super) fn leaves<'e>(
    paths: &Paths,
    envelope: &'e [u8],
    payload: Option<&'e [u8]>,
) -> Result<Leaves<'e>, NotJson> {
    fast(paths, envelope, payload).or_else(|error| slow(paths, envelope, payload).ok_or(error))
}

/// A payload and where it lies, where any path leads there.
fn beside<'e>(paths: &Paths, payload: Option<&'e [u8]>) -> Option<(NodeId, &'e [u8])> {
    match paths.lead(Paths::TOP, "data.payload") {
        Lead::Dotted(node) => Some((node, payload?)),
        Lead::Aside | Lead::Child(_) => None,
    }
}

fn fast<'e>(paths: &Paths, envelope: &'e [u8], payload: Option<&'e [u8]>) -> Result<Leaves<'e>, NotJson> {
    let mut collector = Collector::new(paths);
    let is_ours = payload.is_some();
    pass(&mut collector, Paths::TOP, envelope, is_ours)?;
    if let Some((node, payload)) = beside(paths, payload) {
        pass(&mut collector, node, payload, false)?;
    }
    Ok(collector.finish())
}

/// Reads what lies at and below `node`: to its end, or, of what is ours, to the last name in use.
fn pass<'e>(
    collector: &mut Collector<'_, 'e>,
    node: NodeId,
    json: &'e [u8],
    is_ours: bool,
) -> Result<(), NotJson> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut complete = false;
    let at = At {
        collector,
        node,
        element: Leaves::EVENT,
        in_list: false,
        depth: 0,
        complete: is_ours.then_some(&mut complete),
    };
    let read = at
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match read {
        Err(error) if !complete => Err(NotJson(error.to_string())),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads the value at a place.
struct At<'c, 'p, 'e> {
    collector: &'c mut Collector<'p, 'e>,
    node: NodeId,
    /// The element around.
    element: ElementId,
    in_list: bool,
    depth: usize,
    /// Set where the pass ends early, by an error of its own: every name in use here has been read. `None` where it
    /// must not.
    complete: Option<&'c mut bool>,
}

impl<'p, 'e> At<'_, 'p, 'e> {
    /// The same for what lies one level deeper.
    fn deeper<'a>(&'a mut self, node: NodeId, element: ElementId, in_list: bool) -> At<'a, 'p, 'e> {
        At {
            collector: &mut *self.collector,
            node,
            element,
            in_list,
            depth: self.depth + 1,
            complete: None,
        }
    }

    /// The element that this value is, where it is an object or a list within a list.
    fn enter(&mut self) -> ElementId {
        match self.in_list {
            true => self.collector.enter_element(self.node, self.element),
            false => self.element,
        }
    }

    fn leave(&mut self, element: ElementId) {
        if self.in_list {
            self.collector.leave_element(element);
        }
    }

    fn leaf(self, value: impl FnOnce() -> Scalar<'e>) {
        self.collector.leaf(self.node, self.element, value);
    }
}

impl<'e> DeserializeSeed<'e> for At<'_, '_, 'e> {
    type Value = ();

    fn deserialize<D: Deserializer<'e>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'e> Visitor<'e> for At<'_, '_, 'e> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.leaf(|| Scalar::Null);
        Ok(())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<(), E> {
        self.leaf(|| Scalar::Bool(truth));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.leaf(|| Scalar::Number(number.into()));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.leaf(|| Scalar::Number(number.into()));
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.leaf(|| Scalar::Number(number.into()));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'e str) -> Result<(), E> {
        self.leaf(|| Scalar::String(text.into()));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.leaf(|| Scalar::String(text.to_owned().into()));
        Ok(())
    }

    fn visit_map<A: MapAccess<'e>>(mut self, mut map: A) -> Result<(), A::Error> {
        if self.depth >= DEEPEST {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let element = self.enter();
        let object = self.collector.enter_object();
        let node = self.node;
        let paths = self.collector.paths();
        let mut awaited = paths.names(node);
        while let Some(lead) = map.next_key_seed(Key { paths, node })? {
            match lead {
                Lead::Aside => {
                    map.next_value::<IgnoredAny>()?;
                }
                Lead::Child(child) | Lead::Dotted(child) => {
                    let is_dotted = matches!(lead, Lead::Dotted(_));
                    let start = self.collector.enter_member(object, child, is_dotted);
                    map.next_value_seed(self.deeper(child, element, false))?;
                    self.collector.leave_member(object, child, is_dotted, start);
                    awaited = awaited.saturating_sub(1);
                }
            }
            if awaited == 0
                && let Some(complete) = &mut self.complete
            {
                **complete = true;
                return Err(A::Error::custom("what follows is not looked at"));
            }
        }
        self.leave(element);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'e>>(mut self, mut list: A) -> Result<(), A::Error> {
        if self.depth >= DEEPEST {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let element = self.enter();
        let node = self.node;
        while list
            .next_element_seed(self.deeper(node, element, true))?
            .is_some()
        {}
        self.leave(element);
        Ok(())
    }
}

/// Tells where a key leads, without keeping it.
struct Key<'p> {
    paths: &'p Paths,
    node: NodeId,
}

impl<'e> DeserializeSeed<'e> for Key<'_> {
    type Value = Lead;

    fn deserialize<D: Deserializer<'e>>(self, deserializer: D) -> Result<Lead, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Lead;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Lead, E> {
        Ok(self.paths.lead(self.node, key))
    }
}

/// The same by way of a tree; `None` where it is not JSON.
fn slow<'e>(paths: &Paths, envelope: &[u8], payload: Option<&[u8]>) -> Option<Leaves<'e>> {
    let mut collector = Collector::new(paths);
    let parts = [(Paths::TOP, envelope)].into_iter();
    for (node, json) in parts.chain(beside(paths, payload)) {
        let tree = parse_json(std::str::from_utf8(json).ok()?).ok()?;
        walk(&mut collector, &tree, node, Leaves::EVENT, false, 0);
    }
    Some(collector.finish())
}

fn walk(
    collector: &mut Collector<'_, '_>,
    tree: &Node,
    node: NodeId,
    around: ElementId,
    in_list: bool,
    depth: usize,
) {
    let mut leaf = |value| collector.leaf(node, around, || value);
    match &tree.value {
        NodeValue::Null | NodeValue::Date => return leaf(Scalar::Null),
        NodeValue::Bool(truth) => return leaf(Scalar::Bool(*truth)),
        NodeValue::String(text) => return leaf(Scalar::String(text.clone().into())),
        NodeValue::Number(text) => {
            return Number::read(text).map_or((), |number| leaf(Scalar::Number(number)));
        }
        NodeValue::List(_) | NodeValue::Table(_) if depth >= DEEPEST => return,
        NodeValue::List(_) | NodeValue::Table(_) => {}
    }
    let element = match in_list {
        true => collector.enter_element(node, around),
        false => around,
    };
    if let NodeValue::List(nodes) = &tree.value {
        for item in nodes {
            walk(collector, item, node, element, true, depth + 1);
        }
    }
    if let NodeValue::Table(members) = &tree.value {
        let object = collector.enter_object();
        for member in members {
            let lead = collector.paths().lead(node, &member.key);
            if let Lead::Child(child) | Lead::Dotted(child) = lead {
                let is_dotted = matches!(lead, Lead::Dotted(_));
                let start = collector.enter_member(object, child, is_dotted);
                walk(collector, &member.node, child, element, false, depth + 1);
                collector.leave_member(object, child, is_dotted, start);
            }
        }
    }
    if in_list {
        collector.leave_element(element);
    }
}

/// How deep values are looked for. Below that, where serde_json would end the pass, nothing is read but skipped.
const DEEPEST: usize = 120;
