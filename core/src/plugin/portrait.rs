//! One library, looked at from all sides without a router: what `plugin inspect` shows.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    Runner,
    describe::{self, DescribeError},
    digest::Digest,
    directory::{Candidate, Directory, DirectoryError, ReadError},
    elf::{self, Anatomy, InspectError},
    ffi,
    manifest::Manifest,
    note::Identity,
    stage::{Stage, StageError},
    survey::SIZE_LIMIT,
};

/// What can be said of a library. Its code ran in a child, for the manifest, and nowhere else.
#[derive(Debug, Serialize)]
pub struct Portrait {
    /// The file.
    pub file: PathBuf,
    /// How many bytes it has.
    pub size: usize,
    /// Their SHA-256.
    pub digest: Digest,
    /// Who it says that it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// What it is made of.
    #[serde(flatten)]
    pub anatomy: Option<Anatomy>,
    /// What is unusual about it.
    pub warnings: Vec<String>,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// Why there is no portrait.
#[derive(Debug, thiserror::Error)]
pub enum PortraitError {
    /// The plugins directory cannot be looked into.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Nothing in it has that name.
    #[error(
        "no plugin in {} calls itself `{name}`; there is: {}",
        directory.display(), listed(there)
    )]
    Unknown {
        /// The directory.
        directory: PathBuf,
        /// The name.
        name: String,
        /// The names that there are.
        there: Vec<String>,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no plugin.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// There is no room for a copy.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// It says nothing of itself.
    #[error(transparent)]
    Describe(#[from] DescribeError),
}

impl Portrait {
    /// Looks at the library at `file`; a private copy of it goes to `scratch`.
    ///
    /// # Errors
    /// When it is no plugin, or has no manifest.
    pub async fn of(file: &Path, scratch: &Path, runner: &Runner) -> Result<Self, PortraitError> {
        let (candidate, _) = Candidate::named(file, SIZE_LIMIT)?;
        let (size, anatomy) = (candidate.bytes().len(), Anatomy::of(candidate.bytes()));
        let library = elf::inspect(candidate, ffi::glibc())?;
        let identity = library.identity().clone();
        let hazards = library.hazards().iter();
        let apart =
            hazards.map(|hazard| format!("it {hazard}, so that it only lives in a process of its own"));
        let warnings = apart.chain(library.warnings().iter().cloned()).collect();
        let digest = library.digest();
        let stage = Stage::open(scratch)?;
        let staged = stage.put(library)?;
        Ok(Self {
            manifest: describe::describe(&staged, &stage, runner).await?,
            file: file.to_owned(),
            size,
            digest,
            identity,
            anatomy,
            warnings,
        })
    }

    /// The file in `directory` whose library calls itself `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(directory: &Path, name: &str) -> Result<PathBuf, PortraitError> {
        let mut there = Vec::new();
        for file in Directory::open(directory)?.libraries()? {
            let path = directory.join(file);
            // What cannot be read has no name; `plugin list` says why.
            let library = Candidate::named(&path, SIZE_LIMIT).ok();
            let library = library.and_then(|(candidate, _)| elf::inspect(candidate, ffi::glibc()).ok());
            let Some(library) = library else { continue };
            if library.identity().name == name {
                return Ok(path);
            }
            there.push(library.identity().name.clone());
        }
        Err(PortraitError::Unknown {
            directory: directory.to_owned(),
            name: name.to_owned(),
            there,
        })
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        format!("`{}`", names.join("`, `"))
    }
}
