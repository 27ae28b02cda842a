//! What a program did to its files, in order.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// All changes of all lives of a program, in the order in which they were made.
#[derive(Debug)]
pub struct Recording {
    changes: Vec<(u64, Change)>,
}

/// A change, or what is needed to understand one. Paths are relative to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file was made and opened.
    Created(Handle, PathBuf),
    /// One that was there was opened, or a directory.
    Opened(Handle, PathBuf),
    /// It was closed.
    Closed(Handle),
    /// Bytes were written at an offset.
    Written(Handle, u64, Vec<u8>),
    /// A file was cut to a length, or extended.
    Cut(Handle, u64),
    /// A file or a directory was synced.
    Synced(Handle),
    /// It was to be synced, and that failed.
    Failed(Handle),
    /// A file or a directory was removed.
    Removed(PathBuf),
    /// A file was given another name.
    Renamed(PathBuf, PathBuf),
    /// A directory was made.
    Directory(PathBuf),
}

/// An open file: the process and its number there.
pub type Handle = (u32, u32);

impl Recording {
    /// Reads what was written down so far.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or is none.
    pub fn read(trace: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(trace).with_context(|| format!("reading {}", trace.display()))?;
        let mut changes = Vec::new();
        let mut rest = &bytes[..];
        // A program that was killed may have left half a record.
        while let Some((change, after)) = next(rest)? {
            rest = after;
            changes.push(((bytes.len() - rest.len()) as u64, change));
        }
        Ok(Self { changes })
    }

    /// Each change, with how long the record was after it.
    pub fn changes(&self) -> &[(u64, Change)] {
        &self.changes
    }
}

/// The first record of `bytes` and what follows it; nothing where it is not whole.
fn next(bytes: &[u8]) -> anyhow::Result<Option<(Change, &[u8])>> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let [kind, process, file, length] = [0, 4, 8, 12].map(word);
    let offset = u64::from_ne_bytes(head[16..].try_into().expect("eight bytes"));
    let Some((body, rest)) = rest.split_at_checked(length as usize) else {
        return Ok(None);
    };
    let handle = (process, file);
    let path = || PathBuf::from(String::from_utf8_lossy(body).into_owned());
    let change = match kind {
        1 => Change::Created(handle, path()),
        2 => Change::Opened(handle, path()),
        3 => Change::Closed(handle),
        4 => Change::Written(handle, offset, body.to_vec()),
        5 => Change::Cut(handle, offset),
        6 => Change::Synced(handle),
        7 => Change::Removed(path()),
        8 => {
            let text = String::from_utf8_lossy(body);
            let (from, to) = text.split_once('\0').context("a renaming has two names")?;
            Change::Renamed(from.into(), to.into())
        }
        9 => Change::Directory(path()),
        10 => Change::Failed(handle),
        other => bail!("{other} is no kind of record"),
    };
    Ok(Some((change, rest)))
}

/// `struct head` of `interposer.c`.
const HEAD: usize = 24;
