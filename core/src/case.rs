//! Cases: an event, or a request that becomes one, and what the rules are to make of it.
//!
//! Cases stand in files beside the rules (`*.case.toml`) and are read like these: every mistake is reported, with its place. A
//! [`Case`] is held against a [`Generation`](crate::router::Generation), which renders what each step would be given; nothing is
//! done. [`capture`] makes a case out of what the journal holds, without secrets. Whatever a step put out, later ones see only
//! where the case says it. What is left out on purpose: plugins. A case says what a rule makes of an event, which is the same
//! wherever it is tried; how a plugin has its input escaped and checked is not part of it.

pub mod capture;
mod judge;
mod occurrence;
mod read;
mod redact;
mod schema;
mod update;
mod write;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use jackfield_event::Event;
use serde_json::Value;

pub use judge::Mismatch;
pub use schema::schema;
pub use update::update;

use crate::{
    fault::{Fault, Faults, Place},
    journal::Failure,
    router::CASES,
};

/// An event, and what the rules are to make of it.
#[derive(Debug)]
pub struct Case {
    /// What it shows, in the author's words.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    occurrence: Occurrence,
    /// The routes that are to match, and no others.
    expected: Vec<Expected>,
    /// Which bytes of the file say so, where they stand together behind all the rest of the case.
    expectation: Option<Range<usize>>,
}

/// What happened: an event without its payload, and the payload.
#[derive(Clone, Debug)]
struct Occurrence {
    event: Box<Event>,
    payload: Bytes,
}

/// A route that is to match.
#[derive(Debug)]
struct Expected {
    name: String,
    place: Place,
    order: Option<(String, Place)>,
    /// All steps of it; none where nothing is said of them.
    steps: Vec<ExpectedStep>,
    on_failure: Vec<ExpectedStep>,
    failure: Option<Failure>,
}

/// What is to become of a step, and what it is to have put out.
#[derive(Debug)]
struct ExpectedStep {
    id: String,
    place: Place,
    fate: Fate,
    output: Option<Bytes>,
}

/// What is to become of a step.
#[derive(Debug)]
enum Fate {
    /// Whatever comes.
    Any,
    /// Its `if` is false.
    Skipped,
    /// It is given this.
    Given(Value, Places),
}

/// Where the parts of a value stand, by JSON Pointer.
#[derive(Debug)]
struct Places(BTreeMap<String, Place>);

impl Case {
    /// Reads the cases of a file. `providers` are those of the configured sources, by name, for requests that do not name theirs.
    ///
    /// # Errors
    ///
    /// All mistakes in it, with their places.
    pub fn load(path: &Path, providers: &BTreeMap<String, String>) -> Result<Vec<Self>, Faults> {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let base = path.parent().unwrap_or(Path::new(""));
        read::read(&path.display().to_string(), &text, base, providers)
    }
}

impl Places {
    /// Where the part stands that the pointer leads to, or else what is around it.
    fn find(&self, pointer: &str) -> Option<&Place> {
        let mut at = pointer;
        loop {
            if let Some(place) = self.0.get(at) {
                return Some(place);
            }
            at = &at[..at.rfind('/')?];
        }
    }
}

/// The files of cases that lie beside rules: in their directory, in the order of names, but for hidden ones. A path to another
/// file is that file.
///
/// # Errors
///
/// Where the directory cannot be read.
pub fn files(beside: &Path) -> Result<Vec<PathBuf>, Faults> {
    if beside.is_file() && is_case(beside) {
        return Ok(vec![beside.to_owned()]);
    }
    let directory = match beside.is_dir() {
        true => beside,
        false => beside.parent().unwrap_or(Path::new("")),
    };
    // A bare name has its parent here.
    let here = Path::new(".");
    let listed = match directory.as_os_str().is_empty() {
        true => here,
        false => directory,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(listed).map_err(|error| unreadable(directory, &error))? {
        let entry = entry.map_err(|error| unreadable(directory, &error))?;
        let path = directory.join(entry.file_name());
        if is_case(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_case(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(CASES.as_bytes()) && !name.starts_with(b".")
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(format!("{}: the cases cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests;
