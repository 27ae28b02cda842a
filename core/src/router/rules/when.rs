//! Reads a route's pattern: `when` in TOML, or `when_json` in JSON.

use std::ops::Range;

use crate::{
    document::{Document, Item, Kind, Table},
    fault::{Faults, Source},
    router::{
        Pattern,
        pattern::{Node, Reader, Span, parse_json},
        shape,
    },
};

/// The pattern of a route.
pub(super) fn read(document: &Document<'_>, table: &mut Table<'_>, faults: &mut Faults) -> Option<Pattern> {
    let toml = table.take("when");
    let json = table.take("when_json");
    match (toml, json) {
        (Some(item), None) => {
            if item.kind() != Kind::Table {
                return item.mismatch("a table such as `[route.when]`", faults);
            }
            pattern(document.source(), &Node::from_item(&item), &|span| span, faults)
        }
        (None, Some(item)) => from_json(document.source(), &item, faults),
        (Some(_), Some(item)) => {
            faults.push(item.key_fault("found beside `when`, expected one of the two"));
            None
        }
        (None, None) => {
            if !table.is_broken() {
                let fault = table.fault("the route has no pattern");
                faults.push(
                    fault.help("write `[route.when]` and, say, `type = [\"com.github.push\"]` below it"),
                );
            }
            None
        }
    }
}

fn from_json(source: &Source<'_>, item: &Item<'_>, faults: &mut Faults) -> Option<Pattern> {
    let text = item.string(faults)?;
    let place = places(source, item.span(), &text);
    match parse_json(&text) {
        Ok(node) => pattern(source, &node, &place, faults),
        Err(error) => {
            faults.push(source.fault(place(error.at..error.at), format!("not JSON: {}", error.message)));
            None
        }
    }
}

fn pattern(
    source: &Source<'_>,
    node: &Node,
    place: &dyn Fn(Span) -> Span,
    faults: &mut Faults,
) -> Option<Pattern> {
    let mut report = |span: Span, message: String, help: Option<String>| {
        let fault = source.fault(place(span), message);
        faults.push(match help {
            Some(help) => fault.help(help),
            None => fault,
        });
    };
    let mut reader = Reader::new(&mut report);
    let pattern = reader.pattern(node);
    let paths = reader.paths().to_vec();
    let mut known = true;
    for (path, span) in paths {
        let Some(missing) = shape::missing(path.iter().map(|name| &**name)) else {
            continue;
        };
        known = false;
        let message = format!("no event has `{}`", path.join("."));
        let fault = source.fault(place(span), message);
        faults.push(fault.help(missing.help()));
    }
    pattern.filter(|_| known)
}

/// Where a part of a string's text stands in the file: exactly, where it stands there as it is, between three
/// single quotes; else the whole string is meant.
fn places(source: &Source<'_>, literal: Range<usize>, text: &str) -> impl Fn(Span) -> Span + use<> {
    let inner = source.text().get(literal.clone()).and_then(|quoted| {
        let quoted = quoted
            .strip_prefix("'''")
            .or_else(|| quoted.strip_prefix("\"\"\""))?;
        let start = quoted.find(text)?;
        Some(literal.start + 3 + start)
    });
    move |span| match inner {
        Some(inner) => inner + span.start..inner + span.end,
        None => literal.clone(),
    }
}
