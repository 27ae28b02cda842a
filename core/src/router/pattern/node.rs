//! A value with its place, from TOML or from JSON.

use std::ops::Range;

use crate::document::{Item, Kind};

/// A value and which bytes of the text it is.
#[derive(Clone, Debug)]
pub(in crate::router) struct Node {
    pub(in crate::router) span: Range<usize>,
    pub(in crate::router) value: NodeValue,
}

/// The value of a node.
#[derive(Clone, Debug)]
pub(in crate::router) enum NodeValue {
    Null,
    Bool(bool),
    /// The number's text.
    Number(String),
    String(String),
    List(Vec<Node>),
    /// In the order of the text, twice the same key included.
    Table(Vec<Member>),
    /// A bare date, which no event can hold.
    Date,
}

/// One entry of a table.
#[derive(Clone, Debug)]
pub(in crate::router) struct Member {
    pub(in crate::router) key: String,
    pub(in crate::router) key_span: Range<usize>,
    pub(in crate::router) node: Node,
}

impl Node {
    /// A value of a rule file.
    pub(in crate::router) fn from_item(item: &Item<'_>) -> Self {
        let value = match item.kind() {
            Kind::String => NodeValue::String(item.as_str().unwrap_or_default().to_owned()),
            Kind::Boolean => NodeValue::Bool(item.as_bool().unwrap_or_default()),
            Kind::Integer | Kind::Float => NodeValue::Number(item.number_text().unwrap_or_default()),
            Kind::Date => NodeValue::Date,
            Kind::Array => {
                let items = item.as_array().unwrap_or_default();
                NodeValue::List(items.iter().map(Self::from_item).collect())
            }
            Kind::Table => {
                let entries = item.as_table().map(|table| table.entries()).unwrap_or_default();
                NodeValue::Table(entries.iter().map(Member::from_item).collect())
            }
        };
        Self {
            span: item.span(),
            value,
        }
    }

    /// What kind of value it is, in words.
    pub(in crate::router) fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Null => "null",
            NodeValue::Bool(_) => "a truth value",
            NodeValue::Number(_) => "a number",
            NodeValue::String(_) => "a string",
            NodeValue::List(_) => "a list",
            NodeValue::Table(_) => "a table",
            NodeValue::Date => "a bare date",
        }
    }
}

impl Member {
    fn from_item(item: &Item<'_>) -> Self {
        Self {
            key: item.key().to_owned(),
            key_span: item.key_span(),
            node: Node::from_item(item),
        }
    }
}
