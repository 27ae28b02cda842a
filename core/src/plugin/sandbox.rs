//! What a process that a plugin lives in can do at all: what it was given, and nothing else.
//!
//! A [`Sandbox`] is made of what an instance needs and is granted, and the process enters it by itself, before the
//! library is loaded and while it has one thread. There is no way out, and what the process starts is in it too:
//!
//! - [`files`]: Landlock, for files, TCP, and signals to others;
//! - [`calls`]: a seccomp filter, for kinds of sockets, and for system calls that no plugin needs;
//! - no capability is left, whoever the router runs as;
//! - [`programs`]: what a program brings along that it needs to run.
//!
//! A kernel that lacks a part enforces the rest; [`unenforced`] says what is missing. Whatever else fails keeps the library from
//! being loaded.

mod calls;
mod files;
mod programs;

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::{
    ffi,
    grant::{Grant, Needs},
};

/// What a process may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    read: Vec<Place>,
    write: Vec<Place>,
    programs: Vec<String>,
    /// The port of the proxy, where it may talk to hosts.
    proxy: Option<u16>,
}

/// A path, whatever its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place(Vec<u8>);

impl Sandbox {
    /// What is both needed and granted; with files, the work directories that lie in `work`, and with hosts, the port of the
    /// proxy.
    pub(super) fn of(needs: &Needs, grant: &Grant, work: &Path, proxy: Option<u16>) -> Self {
        let places = |paths: &[PathBuf]| paths.iter().map(|path| Place::of(path)).collect::<Vec<_>>();
        let mut sandbox = Self {
            proxy: proxy.filter(|_| grant.is_networked(needs)),
            ..Self::default()
        };
        if needs.files.is_some() {
            sandbox.read = places(&grant.read);
            sandbox.write = places(&grant.write);
            sandbox.write.push(Place::of(work));
        }
        if needs.programs.is_some() {
            sandbox.programs.clone_from(&grant.programs);
        }
        sandbox
    }

    /// The same, for a process that watches what becomes of itself: with what the kernel says of it, to be read.
    pub(super) fn observed(mut self) -> Self {
        self.read.push(Place::of(Path::new("/proc/self")));
        self
    }

    /// Confines this process, for good, to what it was given, and to loading the library at `library`.
    ///
    /// # Errors
    /// When something that was granted is not there, or the system refuses for any other reason than that it lacks a part.
    pub(super) fn enter(&self, library: &Path) -> Result<(), SandboxError> {
        alone()?;
        let given = self.given(library)?;
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none)
            .map_err(|error| SandboxError::Capabilities(error.into()))?;
        files::confine(&given)?;
        calls::confine(self)
    }

    /// All that Landlock is to allow.
    fn given(&self, library: &Path) -> Result<files::Given, SandboxError> {
        let mut given = files::Given::to_load(library)?;
        for place in &self.write {
            make(place.path()).map_err(|source| SandboxError::Path {
                what: "writing",
                path: place.path().to_owned(),
                source,
            })?;
            given.write(place.path())?;
        }
        for place in &self.read {
            given.read(place.path())?;
        }
        if let Some(port) = self.proxy {
            given.connect(port);
        }
        for name in &self.programs {
            programs::give(name, &mut given)?;
        }
        Ok(given)
    }
}

impl Place {
    fn of(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }

    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// Why a process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It has threads already, which would stay outside.
    #[error("its process has {0} threads already; this is a fault of the router")]
    Threads(usize),
    /// What is granted is not there.
    #[error("`{}`, which it is granted for {what}, cannot be opened", path.display())]
    Path {
        /// For what.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such program.
    #[error("there is no program `{name}`, which it is granted, in {}", programs::PATH.join(", "))]
    Program {
        /// Its name.
        name: String,
    },
    /// The capabilities stay.
    #[error("its process cannot give up its capabilities")]
    Capabilities(#[source] io::Error),
    /// The rules are not taken.
    #[error("Landlock does not take its rules")]
    Files(#[from] landlock::RulesetError),
    /// The filter is not taken.
    #[error("the filter of its system calls cannot be set")]
    Calls(#[from] seccompiler::Error),
    /// The system does not tell.
    #[error("its process cannot be examined")]
    Examine(#[source] io::Error),
}

/// Makes sure that this thread is the only one: those that there are would not be confined.
fn alone() -> Result<(), SandboxError> {
    let threads = fs::read_dir("/proc/self/task")
        .map_err(SandboxError::Examine)?
        .count();
    if threads == 1 {
        Ok(())
    } else {
        Err(SandboxError::Threads(threads))
    }
}

/// Makes a directory, for this user alone, unless something is there.
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    if path.exists() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What this kernel does not enforce of all this, in words for whoever runs the router; nothing where it does.
pub fn unenforced() -> Vec<&'static str> {
    let mut lacks = files::lacks(ffi::landlock_version());
    lacks.extend(calls::lacks());
    lacks
}
