//! A copy of a journal, made while its router runs.
//!
//! The copy is that of one moment: a reader's snapshot, which the writer never waits for. Until it is whole, checked and
//! synced it has another name, so that what lies under the name that was asked for can be relied on.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io,
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
    types::{ToSqlOutput, ValueRef},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{OpenError, schema};

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How many events it holds.
    pub events: u64,
    /// How large it is.
    pub bytes: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The journal cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something lies there already.
    #[error("{0} is there already, and is not overwritten; name another file")]
    Exists(PathBuf),
    /// Another copy is on its way there, or was broken off.
    #[error("{0} is there: another backup is under way, or one was broken off; then remove it")]
    UnderWay(PathBuf),
    /// A file could not be made, written or synced.
    #[error("{path} cannot be written: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database could not be copied.
    #[error("the journal could not be copied to {path}: {source}")]
    Store {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The copy is damaged, and was removed: the journal is, or a disk.
    #[error(
        "the copy is damaged: {0}; the journal itself may be (`PRAGMA integrity_check` tells), or a disk"
    )]
    Damaged(String),
}

/// Copies the journal in `directory` to the file `to`, which is made, for its owner alone. Tells how many pages are copied of
/// how many as it goes.
///
/// # Errors
///
/// Where there is no journal, something lies at `to`, or a disk refuses. Then there is nothing at `to`.
pub fn back_up(
    directory: &Path,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<Copied, BackupError> {
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let source = schema::open_to_read(directory)?;
    let partial = Partial::make(to)?;
    let store = |source| BackupError::Store {
        path: partial.0.clone(),
        source,
    };
    match schema::gives_pages_back(&source).map_err(store)? {
        true => copy(&source, &partial.0, &mut progress).map_err(store)?,
        false => rewrite(&source, &partial.0).map_err(store)?,
    }
    let events = check(&partial.0)?;
    let bytes = partial.name(to)?;
    Ok(Copied { events, bytes })
}

/// Copies all pages of one snapshot.
fn copy(source: &Connection, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> rusqlite::Result<()> {
    // Held over all steps: else each commit of the router would begin the copy anew.
    let snapshot = source.unchecked_transaction()?;
    let mut copy = Connection::open_with_flags(to, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    {
        let backup = Backup::new(&snapshot, &mut copy)?;
        while !matches!(backup.step(PAGES)?, StepResult::Done) {
            let at = backup.progress();
            let all = u64::try_from(at.pagecount).unwrap_or(0);
            progress(all - u64::try_from(at.remaining).unwrap_or(0).min(all), all);
        }
    }
    copy.close().map_err(|(_, error)| error)
}

/// Writes the rows of one snapshot into a file that is laid out as a new one is: the journal is one that was made before files
/// gave pages back, and a copy of its pages would be another such.
fn rewrite(source: &Connection, to: &Path) -> rusqlite::Result<()> {
    // Of the copy: there are pages in the source already, which stay as they are.
    source.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    source.pragma_update(None, "query_only", false)?;
    // SQLite takes a path as the bytes that it is.
    let path = ToSqlOutput::Borrowed(ValueRef::Text(to.as_os_str().as_bytes()));
    source.execute("VACUUM INTO ?", [path])?;
    let copy = Connection::open_with_flags(to, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    copy.close().map_err(|(_, error)| error)
}

/// Reads the whole copy, as far as each of its pages makes sense, and gives the number of events in it.
fn check(path: &Path) -> Result<u64, BackupError> {
    let store = |source| BackupError::Store {
        path: path.to_owned(),
        source,
    };
    let copy = Connection::open(path).map_err(store)?;
    copy.busy_timeout(Duration::from_secs(5)).map_err(store)?;
    let found: String = copy
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(store)?;
    if found != "ok" {
        return Err(BackupError::Damaged(found));
    }
    let events: i64 = copy
        .query_row("SELECT count FROM tally WHERE name = 'event'", [], |row| {
            row.get(0)
        })
        .map_err(store)?;
    copy.close().map_err(|(_, error)| store(error))?;
    Ok(u64::try_from(events).unwrap_or(0))
}

/// A copy on its way, which goes where it does not get a name.
struct Partial(PathBuf);

impl Partial {
    fn make(to: &Path) -> Result<Self, BackupError> {
        let mut name = OsString::from(to);
        name.push(".partial");
        let path = PathBuf::from(name);
        let made = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(_) => Ok(Self(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::UnderWay(path)),
            Err(source) => Err(BackupError::Io { path, source }),
        }
    }

    /// Gives it its name, where nothing has come to lie there, and says how large it is.
    fn name(self, to: &Path) -> Result<u64, BackupError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            |source| BackupError::Io { path, source }
        };
        let bytes = fs::File::open(&self.0)
            .and_then(|file| file.sync_all().and_then(|()| file.metadata()))
            .map_err(io(&self.0))?
            .len();
        match renameat_with(CWD, &self.0, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists(to.to_owned())),
            // A file system that cannot; it was looked at a moment ago.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs::rename(&self.0, to).map_err(io(to))?;
            }
            Err(errno) => return Err(io(to)(errno.into())),
        }
        let directory = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(io(directory))?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Where it has its name by now, there is nothing. What SQLite had beside it is gone with the connections.
        let _ = fs::remove_file(&self.0);
    }
}

/// Pages of a step: 4 MB.
const PAGES: i32 = 256;
