//! The fields that a schema speaks of, one by one: for people who ask what can be written where.

use serde::Serialize;
use serde_json::{Map, Value};

/// One field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// Its place, as in `fetch.headers[].name`; a name of the author's choice is `<name>`.
    pub path: String,
    /// What goes there, as in `string` or `list of integer`.
    pub kind: String,
    /// Whether it must be there, if what it is part of is.
    pub required: bool,
    /// What it is where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The fields of `schema` by their names, each before those in it.
pub(super) fn list(schema: &Value) -> Vec<Field> {
    let mut reader = Reader {
        root: schema,
        fields: Vec::new(),
    };
    reader.inside(schema, "", 0);
    reader.fields
}

/// Whether what fits can only be an object.
pub(super) fn describes_object(schema: &Value) -> bool {
    let nodes = Reader {
        root: schema,
        fields: Vec::new(),
    }
    .resolve(schema);
    nodes
        .iter()
        .any(|node| node.get("type").is_some_and(|kind| kind == "object"))
}

struct Reader<'s> {
    root: &'s Value,
    fields: Vec<Field>,
}

impl<'s> Reader<'s> {
    /// Notes the fields of the objects that `schema` lets in, whose own place is `at`.
    fn inside(&mut self, schema: &'s Value, at: &str, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        for node in self.resolve(schema) {
            let required = node.get("required").and_then(Value::as_array);
            let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
            for (name, field) in properties(node) {
                let path = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                self.field(field, path, is_required(name), depth);
            }
            if let Some(values) = node
                .get("additionalProperties")
                .filter(|values| values.is_object())
            {
                let path = if at.is_empty() {
                    "<name>".to_owned()
                } else {
                    format!("{at}.<name>")
                };
                self.field(values, path, false, depth);
            }
            if let Some(items) = node.get("items").filter(|items| items.is_object()) {
                self.inside(items, &format!("{at}[]"), depth + 1);
            }
        }
    }

    fn field(&mut self, schema: &'s Value, path: String, required: bool, depth: usize) {
        // Alternatives may name a field twice; the first stands for both.
        if self.fields.iter().any(|known| known.path == path) {
            return;
        }
        let nodes = self.resolve(schema);
        let found = |key: &str| nodes.iter().find_map(|node| node.get(key));
        self.fields.push(Field {
            kind: self.kind(schema, depth),
            required,
            default: found("default").filter(|value| !value.is_null()).cloned(),
            // Of the values of an enumeration, each has its own.
            description: nodes
                .iter()
                .filter(|node| node.get("const").is_none())
                .find_map(|node| node.get("description")?.as_str())
                .map(str::to_owned),
            path: path.clone(),
        });
        self.inside(schema, &path, depth + 1);
    }

    /// What fits, in a word or a few.
    fn kind(&self, schema: &'s Value, depth: usize) -> String {
        let mut kinds = Vec::new();
        if depth <= DEEPEST {
            for node in self.resolve(schema) {
                self.kinds_of(node, depth, &mut kinds);
            }
        }
        // That it may be absent is said by `required`.
        kinds.retain(|kind| kind != "null");
        if kinds.is_empty() {
            "anything".to_owned()
        } else {
            kinds.join(" or ")
        }
    }

    fn kinds_of(&self, node: &'s Value, depth: usize, kinds: &mut Vec<String>) {
        let values = node.get("enum").and_then(Value::as_array);
        let values: Vec<_> = values.into_iter().flatten().chain(node.get("const")).collect();
        let names = match node.get("type") {
            _ if !values.is_empty() => values.iter().map(|value| value.to_string()).collect(),
            Some(Value::String(name)) => vec![self.name_of(name, node, depth)],
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                names.map(|name| self.name_of(name, node, depth)).collect()
            }
            _ => Vec::new(),
        };
        for name in names {
            if !kinds.contains(&name) {
                kinds.push(name);
            }
        }
    }

    fn name_of(&self, name: &str, node: &'s Value, depth: usize) -> String {
        match (name, node.get("items"), node.get("additionalProperties")) {
            ("array", Some(items), _) => format!("list of {}", self.kind(items, depth + 1)),
            ("array", None, _) => "list".to_owned(),
            ("object", _, Some(values)) if values.is_object() => {
                format!("table of {}", self.kind(values, depth + 1))
            }
            ("object", ..) => "table".to_owned(),
            (name, ..) => name.to_owned(),
        }
    }

    /// `schema`, and all that apply to the same value by reference or as alternatives, each once.
    fn resolve(&self, schema: &'s Value) -> Vec<&'s Value> {
        super::marks::expand(self.root, vec![schema])
    }
}

fn properties(node: &Value) -> impl Iterator<Item = (&String, &Value)> {
    node.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

/// Schemas may contain themselves; nobody reads further than this.
const DEEPEST: usize = 6;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(schema: &Value) -> String {
        let line = |field: &Field| {
            let required = if field.required { "!" } else { "" };
            let default = field.default.as_ref().map(|value| format!(" = {value}"));
            let said = field.description.as_deref().unwrap_or("?");
            format!(
                "{}{required}: {}{} # {said}",
                field.path,
                field.kind,
                default.unwrap_or_default()
            )
        };
        list(schema).iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn fields_are_found_through_references_lists_and_alternatives() {
        let schema = json!({
            "type": "object",
            "required": ["channel"],
            "properties": {
                "channel": { "type": "string", "description": "Where." },
                "mode": { "enum": ["post", "update"], "default": "post" },
                "wait": { "type": ["integer", "null"], "default": null },
                "hooks": { "type": "array", "items": { "$ref": "#/$defs/hook" } },
                "credentials": { "type": "object", "additionalProperties": { "$ref": "#/$defs/hook" } },
                "footer": { "anyOf": [{ "$ref": "#/$defs/hook" }, { "type": "null" }] }
            },
            "$defs": { "hook": {
                "type": "object", "description": "A hook.", "required": ["url"],
                "properties": { "url": { "type": "string" } }
            } }
        });
        insta::assert_snapshot!(shown(&schema), @r#"
        channel!: string # Where.
        credentials: table of table # ?
        credentials.<name>: table # A hook.
        credentials.<name>.url!: string # ?
        footer: table # A hook.
        footer.url!: string # ?
        hooks: list of table # ?
        hooks[].url!: string # ?
        mode: "post" or "update" = "post" # ?
        wait: integer # ?
        "#);
        assert!(describes_object(&schema));
    }

    #[test]
    fn a_schema_that_contains_itself_is_read_to_an_end() {
        let schema = json!({
            "$ref": "#/$defs/tree",
            "$defs": { "tree": { "type": "object", "properties": { "child": { "$ref": "#/$defs/tree" } } } }
        });
        assert_eq!(
            list(&schema).last().unwrap().path.matches("child").count(),
            DEEPEST + 1
        );
        assert!(describes_object(&schema));
    }

    #[test]
    fn what_lets_in_more_than_objects_describes_none() {
        for schema in [json!(true), json!({}), json!({ "type": "string" })] {
            assert!(!describes_object(&schema), "{schema}");
            assert_eq!(list(&schema), []);
        }
    }
}
