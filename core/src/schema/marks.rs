//! Annotations of a schema, looked up by the place in a value.

use std::ptr;

use serde_json::Value;

/// The `x-escape` that governs the string at `pointer`: the innermost on the way there.
pub(super) fn escape<'s>(schema: &'s Value, pointer: &str) -> Option<&'s str> {
    let mut nodes = expand(schema, vec![schema]);
    let mut mark = mark(&nodes);
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let children = nodes.iter().flat_map(|node| children(node, &token)).collect();
        nodes = expand(schema, children);
        mark = self::mark(&nodes).or(mark);
    }
    mark
}

fn mark<'s>(nodes: &[&'s Value]) -> Option<&'s str> {
    nodes.iter().find_map(|node| node.get("x-escape")?.as_str())
}

/// The schemas that `node` gives for its member or element `token`.
fn children<'s>(node: &'s Value, token: &str) -> Vec<&'s Value> {
    if let Some(property) = node
        .get("properties")
        .and_then(|properties| properties.get(token))
    {
        return vec![property];
    }
    let prefix = token
        .parse::<usize>()
        .ok()
        .and_then(|index| node.get("prefixItems")?.get(index));
    match prefix {
        Some(item) => vec![item],
        None => ["items", "additionalProperties"]
            .iter()
            .filter_map(|keyword| node.get(*keyword))
            .collect(),
    }
}

/// `nodes` and all schemas that apply to the same value by reference or as alternatives, each once.
pub(super) fn expand<'s>(root: &'s Value, mut nodes: Vec<&'s Value>) -> Vec<&'s Value> {
    let mut at = 0;
    while at < nodes.len() {
        let node = nodes[at];
        let referred = node.get("$ref").and_then(Value::as_str);
        let referred = referred.and_then(|address| root.pointer(address.strip_prefix('#')?));
        let alternatives = ["allOf", "anyOf", "oneOf"]
            .iter()
            .filter_map(|keyword| node.get(*keyword)?.as_array())
            .flatten();
        for more in referred.into_iter().chain(alternatives) {
            if !nodes.iter().any(|node| ptr::eq(*node, more)) {
                nodes.push(more);
            }
        }
        at += 1;
    }
    nodes
}
