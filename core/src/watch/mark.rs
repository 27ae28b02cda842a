//! What tells one state of a file from another.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

/// What tells one state of a file from another. The time of its last change cannot be set by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    inode: (u64, u64),
    owner: (u32, u32),
    mode: u32,
    size: u64,
    changed: (i64, i64),
}

impl Mark {
    /// That of the file with this metadata.
    pub fn of(data: &Metadata) -> Self {
        Self {
            inode: (data.dev(), data.ino()),
            owner: (data.uid(), data.gid()),
            mode: data.mode(),
            size: data.size(),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }

    /// That of a directory of whose content only some files matter, which have marks of their own.
    #[must_use]
    pub fn apart_from_content(self) -> Self {
        Self {
            size: 0,
            changed: (0, 0),
            ..self
        }
    }
}
