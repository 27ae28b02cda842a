//! Secrets by reference: `{ env = "NAME" }` and `{ file = "path" }`.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::Reader;
use crate::{
    document::{Item, Kind, Table},
    fault::{Fault, Faults},
    secret::Secret,
};

/// What a variable of the environment holds, as an argument, so that reading a configuration is repeatable.
pub type Environment<'e> = dyn Fn(&str) -> Option<String> + 'e;

impl Reader<'_> {
    /// The secret that `item` refers to. A secret in the file itself is a fault, which does not show it.
    pub(super) fn secret(&self, item: &Item<'_>, faults: &mut Faults) -> Option<Secret> {
        if let Some(reference) = Reference::of(item) {
            return self.resolve(item, &reference, faults);
        }
        faults.concealing(|faults| {
            if item.kind() != Kind::String {
                let expected = "a reference: `{ env = \"NAME\" }` or `{ file = \"/path\" }`";
                return item.mismatch(expected, faults);
            }
            let fault = item.fault("found a secret in the file, expected a reference to one");
            faults.push(fault.help("write `{ env = \"NAME\" }` or `{ file = \"/path\" }`"));
            None
        })
    }

    /// The secrets of a list, or of one reference alone.
    pub(super) fn secrets(&self, item: &Item<'_>, faults: &mut Faults) -> Vec<Secret> {
        let items = item.as_array().unwrap_or_else(|| vec![item.clone()]);
        // What is wrong with one of them may stand in a line with another.
        faults.concealing(|faults| {
            let secrets = items.iter().filter_map(|item| self.secret(item, faults));
            secrets.collect()
        })
    }

    /// The value in JSON, with every reference in it, at any depth, replaced by the secret that it refers to.
    ///
    /// Those come into `secrets` as well, by the JSON Pointer of their place, which begins with `pointer`.
    pub(super) fn json(
        &self,
        item: &Item<'_>,
        pointer: &str,
        secrets: &mut BTreeMap<String, Secret>,
        faults: &mut Faults,
    ) -> Option<Value> {
        if let Some(reference) = Reference::of(item) {
            let secret = self.resolve(item, &reference, faults)?;
            let value = Value::from(secret.expose());
            secrets.insert(pointer.to_owned(), secret);
            return Some(value);
        }
        // Whatever is wrong is reported before any of it is given up.
        if let Some(table) = item.as_table() {
            let mut object = Some(serde_json::Map::new());
            for entry in table.entries() {
                let token = entry.key().replace('~', "~0").replace('/', "~1");
                let value = self.json(&entry, &format!("{pointer}/{token}"), secrets, faults);
                object = object.zip(value).map(|(mut object, value)| {
                    object.insert(entry.key().to_owned(), value);
                    object
                });
            }
            return object.map(Value::Object);
        }
        if let Some(items) = item.as_array() {
            let values: Vec<_> = items
                .iter()
                .enumerate()
                .map(|(at, item)| self.json(item, &format!("{pointer}/{at}"), secrets, faults))
                .collect();
            return values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array);
        }
        item.json(faults)
    }

    fn resolve(&self, item: &Item<'_>, reference: &Reference<'_>, faults: &mut Faults) -> Option<Secret> {
        let fault = match reference {
            Reference::Env(name) => match (self.environment)(name) {
                Some(text) if !text.is_empty() => return Some(Secret::new(text)),
                Some(_) => item.fault(format!("the variable {name} is empty")).help(SET_IT),
                None => item.fault(format!("the variable {name} is not set")).help(SET_IT),
            },
            Reference::File(path) => match read(&self.base.join(path)) {
                Ok(secret) => return Some(secret),
                Err(words) => item.fault(format!("the file {path} {words}")),
            },
        };
        faults.push(fault);
        None
    }
}

/// The step after a variable that says nothing.
const SET_IT: &str = "export it, or write `{ file = \"/path\" }`";

/// Where a secret lies.
enum Reference<'d> {
    Env(&'d str),
    File(&'d str),
}

impl<'d> Reference<'d> {
    /// A table with the one key `env` or `file` and a string is a reference, wherever it stands.
    fn of(item: &Item<'d>) -> Option<Self> {
        let table = item.as_table()?;
        let [entry] = &table.entries()[..] else {
            return None;
        };
        match (entry.key(), entry.as_str()?) {
            ("env", name) => Some(Self::Env(name)),
            ("file", path) => Some(Self::File(path)),
            _ => None,
        }
    }
}

/// Editors and `echo` end a file with a newline that belongs to no secret.
fn read(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("is empty".to_owned()),
        secret => Ok(Secret::new(secret)),
    }
}

/// A fault of the value of `key`, or of the table, where it is absent. A line that may hold a secret is not shown.
pub(super) fn fault_at(table: &Table<'_>, key: &str, message: String) -> Fault {
    let fault = match table.entries().into_iter().find(|item| item.key() == key) {
        Some(item) => item.fault(message),
        None => table.fault(message),
    };
    if key == "provider" {
        fault
    } else {
        fault.concealed()
    }
}
