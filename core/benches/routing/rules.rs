//! The rules that events are held against.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::events::{Size, TYPES, lot, repository_name};

/// What kind of rules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By the thing that an event is about, and of large ones by three types.
    Exact,
    /// Four in ten exact; the others by all operators, most of them with the thing.
    Mixed,
    /// By a text within a text.
    Substring,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Exact, Self::Mixed, Self::Substring];

    /// Patterns in JSON, always the same ones, and of more rules the first are those of fewer.
    pub(crate) fn rules(self, size: Size, count: u32) -> Vec<String> {
        let mut rng = Rng::with_seed(11);
        let rules = (1..=count).map(|thing| match (self, size) {
            (Self::Exact, size) => exact(&mut rng, size, thing),
            (Self::Mixed, size) => mixed(&mut rng, size, thing),
            (Self::Substring, Size::Large) => {
                json!({ "data": { "payload": { "repository": { "full_name": [{ "wildcard": format!("*/repo-{thing}*") }] } } } })
            }
            (Self::Substring, Size::Small) => {
                json!({ "properties": { "MAPBLKLOT": [{ "wildcard": format!("*{thing:06}*") }] } })
            }
        });
        rules.map(|rule| rule.to_string()).collect()
    }
}

fn exact(rng: &mut Rng, size: Size, thing: u32) -> Value {
    match size {
        Size::Large => {
            let types = [0; 3].map(|_| format!("com.github.{}", TYPES[rng.usize(..TYPES.len())]));
            let mut rule = with_name(&repository_name(thing).into(), &json!({}));
            rule["type"] = json!(types);
            rule
        }
        Size::Small => json!({ "properties": { "MAPBLKLOT": [lot(thing)] } }),
    }
}

fn mixed(rng: &mut Rng, size: Size, thing: u32) -> Value {
    let kind = rng.u32(..20);
    if kind < 8 {
        return exact(rng, size, thing);
    }
    let low = rng.u32(..900);
    let range = json!([{ "numeric": [">=", low, "<", low + 100] }]);
    match size {
        Size::Large => {
            let name = Value::from(repository_name(thing));
            let more = match kind {
                8 | 9 => json!({ "sender": { "login": [{ "prefix": format!("user-{}", rng.u32(1..50)) }] } }),
                10 | 11 => json!({ "sender": { "login": [{ "suffix": rng.u32(10..99).to_string() }] } }),
                12 | 13 => json!({ "action": [{ "anything-but": ["closed", "deleted"] }] }),
                14 | 15 => json!({ "repository": { "open_issues_count": range } }),
                16 => json!({ "organization": { "login": [{ "exists": true }] } }),
                17 => json!({ "installation": { "id": [{ "exists": false }] } }),
                18 => return with_name(&json!({ "wildcard": format!("org-*/repo-{thing}") }), &json!({})),
                _ => {
                    let upper = repository_name(thing).to_uppercase();
                    return with_name(&json!({ "equals-ignore-case": upper }), &json!({}));
                }
            };
            with_name(&name, &more)
        }
        Size::Small => {
            let name = lot(thing);
            let (key, test) = match kind {
                8 | 9 => (
                    "STREET",
                    json!([{ "prefix": (["MARK", "MISS", "FOLS"][rng.usize(..3)]) }]),
                ),
                10 | 11 => ("STREET", json!([{ "suffix": rng.u32(1..99).to_string() }])),
                12 | 13 => ("ODD_EVEN", json!([{ "anything-but": ["E"] }])),
                14 | 15 => ("AREA", range),
                16 => ("ST_TYPE", json!([{ "exists": true }])),
                17 => ("OWNER", json!([{ "exists": false }])),
                18 => ("MAPBLKLOT", json!([{ "wildcard": format!("0*{}", &name[2..]) }])),
                _ => (
                    "MAPBLKLOT",
                    json!([{ "equals-ignore-case": name.to_lowercase() }]),
                ),
            };
            let mut rule = json!({ "properties": { "MAPBLKLOT": [name] } });
            rule["properties"][key] = test;
            rule
        }
    }
}

/// A rule about the payload that asks for the repository's name.
fn with_name(name: &Value, more: &Value) -> Value {
    let mut payload = more.clone();
    payload["repository"]["full_name"] = json!([name]);
    json!({ "data": { "payload": payload } })
}
