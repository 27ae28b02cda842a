//! A directory for what one command makes and nobody else needs.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// A directory that is gone when this is.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, for nobody but this user.
    pub(super) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("jackfield-{:016x}", fastrand::u64(..)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves it there.
    pub(super) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the system's own directory for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}
