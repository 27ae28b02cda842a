//! Rule files: TOML in, routes with their patterns out, or all mistakes with their places.

mod place;
mod read;
mod step;
mod when;

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Pattern, Route};
use crate::{
    document::Document,
    fault::{Fault, Faults},
    schema::Catalog,
};

/// One rule file's name and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFile {
    /// What the file is called in messages.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl RuleFile {
    /// Reads a rule file, or every `*.toml` of a directory in the order of names.
    ///
    /// # Errors
    ///
    /// Each file or directory that cannot be read.
    pub fn load(path: &Path) -> Result<Vec<Self>, Faults> {
        let paths = match path.is_dir() {
            true => toml_files(path).map_err(|error| unreadable(path, &error))?,
            false => vec![path.to_owned()],
        };
        let mut faults = Faults::new();
        let mut files = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            match fs::read_to_string(&path) {
                Ok(text) => files.push(Self { name, text }),
                Err(error) => faults.push(unreadable(&path, &error)),
            }
        }
        faults.give(Some(files))
    }
}

/// Reads the routes of all files. With a catalog, what the steps use and give is checked against it.
pub(super) fn read(files: &[RuleFile], catalog: Option<&Catalog>) -> Result<Vec<(Route, Pattern)>, Faults> {
    let mut faults = Faults::new();
    let mut routes = Vec::new();
    let mut names = BTreeMap::new();
    for file in files {
        let document = Document::parse(&file.name, &file.text, &mut faults);
        let mut reader = read::Reader {
            document: &document,
            catalog,
            faults: &mut faults,
            names: &mut names,
        };
        routes.extend(reader.file());
    }
    faults.give(Some(routes))
}

fn toml_files(directory: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(format!(
        "{}: the rule file cannot be read: {error}",
        path.display()
    ))
}
