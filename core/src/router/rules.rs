//! Rule files: TOML in, routes with their patterns out, or all mistakes with their places.

mod line;
mod place;
mod read;
mod scene;
mod schema;
mod step;
mod when;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use scene::RuleFiles;
pub use schema::schema;

use super::{Pattern, Route};
use crate::{
    document::Document,
    fault::{Fault, Faults},
    schema::Catalog,
};

/// How the names of files end that hold cases, beside the rules that they try out.
pub const CASES: &str = ".case.toml";

/// One rule file's name and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFile {
    /// What the file is called in messages.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl RuleFile {
    /// Reads a rule file, or every `*.toml` of a directory in the order of names, but for hidden ones and cases
    /// (`*.case.toml`).
    ///
    /// # Errors
    ///
    /// Each file or directory that cannot be read; and what is as empty as a file that is being written, or a directory
    /// whose mount is gone: nobody is to lose all routes without a word.
    pub fn load(path: &Path) -> Result<Vec<Self>, Faults> {
        let paths = paths(path).map_err(|error| unreadable(path, &error))?;
        let mut faults = Faults::new();
        if paths.is_empty() {
            let fault = format!("{}: the directory has no rule files (`*.toml`)", path.display());
            faults.push(
                Fault::new(fault).help("where there are to be no rules, let there be a file with a comment"),
            );
        }
        let mut files = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            match fs::read_to_string(&path) {
                Ok(text) if text.trim().is_empty() => faults.push(
                    Fault::new(format!("{name}: the rule file is empty"))
                        .help("where there are to be no rules, write a comment into it"),
                ),
                Ok(text) => files.push(Self { name, text }),
                Err(error) => faults.push(unreadable(&path, &error)),
            }
        }
        faults.give(Some(files))
    }

    /// The text under which a generation of these files is stored.
    pub fn pack(files: &[Self]) -> String {
        let stored = Stored { files: files.into() };
        serde_json::to_string(&stored).expect("names and texts have a JSON form")
    }

    /// The files of a generation that was stored.
    ///
    /// # Errors
    ///
    /// Where the text is not one of [`RuleFile::pack`].
    pub fn unpack(text: &str) -> Result<Vec<Self>, Fault> {
        let stored: Stored<'_> = serde_json::from_str(text)
            .map_err(|error| Fault::new(format!("the stored rules cannot be read: {error}")))?;
        Ok(stored.files.into_owned())
    }
}

/// The files of a generation as they are stored.
#[derive(Serialize, Deserialize)]
struct Stored<'f> {
    files: Cow<'f, [RuleFile]>,
}

/// Reads the routes of all files. With a catalog, what the steps use and give is checked against it.
pub(super) fn read(files: &[RuleFile], catalog: Option<&Catalog>) -> Result<Vec<(Route, Pattern)>, Faults> {
    let mut faults = Faults::new();
    let mut routes = Vec::new();
    let mut names = BTreeMap::new();
    for file in files {
        let mut parts = Document::parts(&file.name, &file.text, read::LIST);
        while let Some(document) = parts.read_next(&mut faults) {
            let mut reader = read::Reader {
                document: &document,
                catalog,
                faults: &mut faults,
                names: &mut names,
            };
            routes.extend(reader.routes());
        }
    }
    faults.give(Some(routes))
}

/// The rule file at `path`, or those of the directory.
fn paths(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let is_rules =
            name.ends_with(b".toml") && !name.ends_with(CASES.as_bytes()) && !name.starts_with(b".");
        if is_rules && path.is_file() {
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
