//! What a step leaves to those after it, and to its own next attempt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jackfield_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{fetch::Fetched, unpack::Unpacked};

/// What a step leaves to those after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Where the file is. It stays until the delivery has settled.
    pub path: String,
    /// The file's name.
    pub name: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The file's sha256, in lower-case hexadecimal.
    pub sha256: String,
    /// What the server called it, as in `application/zip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Where it was unpacked to, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// The paths of the unpacked files within `dir`; the first 1,000 of them.
    pub files: Vec<String>,
    /// How many files were unpacked.
    pub file_count: u64,
    /// The size of the unpacked files together, in bytes.
    pub unpacked_size: u64,
}

impl Output {
    pub(crate) fn new(path: &Path, fetched: Fetched, unpacked: Option<(PathBuf, Unpacked)>) -> Result<Self> {
        let (dir, unpacked) = match unpacked {
            Some((dir, unpacked)) => (Some(text(&dir)?), unpacked),
            None => (None, Unpacked::default()),
        };
        Ok(Self {
            path: text(path)?,
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            size: fetched.size,
            sha256: fetched.sha256,
            media_type: fetched.media_type,
            dir,
            file_count: unpacked.files.len() as u64,
            unpacked_size: unpacked.bytes,
            files: unpacked.files.into_iter().take(LISTED).collect(),
        })
    }

    /// Whether an attempt before this one has left it all in its place. File and directory get their names only when
    /// they are whole and on disk, so that names and a size are proof enough. What lies in the work directory of another
    /// delivery, which this one replays under the same key, is not this one's: it can go at any time.
    pub(crate) fn is_still_in(&self, workdir: &Path) -> bool {
        if !Path::new(&self.path).starts_with(workdir) {
            return false;
        }
        let file = fs::metadata(&self.path).is_ok_and(|file| file.is_file() && file.len() == self.size);
        file && self.dir.as_ref().is_none_or(|dir| Path::new(dir).is_dir())
    }
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Error::fatal(format_args!(
            "the work directory {path:?} has a name that is not UTF-8"
        ))
    })
}

/// How many names an output lists: outputs are journaled, and kept.
const LISTED: usize = 1_000;
