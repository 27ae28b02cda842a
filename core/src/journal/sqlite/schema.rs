//! The database file: how it is made, opened and checked. What comes out is a connection that knows this schema.

mod migration;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use self::migration::APPLICATION;
pub(super) use self::migration::VERSION;

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another router has it.
    #[error(
        "another router ({holder}) uses the data directory {directory}; stop it, or give this one a `data_dir` of its own"
    )]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// Its process id and since when, as far as it is known.
        holder: String,
    },
    /// There is none.
    #[error("there is no journal at {0}; the first `jackfield run` makes it")]
    Missing(PathBuf),
    /// It was made by a newer Jackfield.
    #[error(
        "the journal {path} has schema version {found}, and this Jackfield knows versions up to {VERSION}; use the newer \
         one that wrote it"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It was made by an older Jackfield, and who reads changes nothing.
    #[error(
        "the journal {path} has schema version {found}, and this Jackfield reads version {VERSION}; start `jackfield run` \
         of this version, which brings it up to date"
    )]
    Older {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It was made by an older Jackfield, and could not be brought up to date.
    #[error(
        "the journal {path} could not be brought from schema version {found} to {VERSION}, and is as it was: {source}"
    )]
    Migration {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Why.
        source: rusqlite::Error,
    },
    /// It is a database of something else.
    #[error("{0} is an SQLite database, but not a journal of Jackfield's; move it away")]
    Foreign(PathBuf),
    /// A file or directory could not be made, read or written.
    #[error(
        "{path} cannot be used; `data_dir` must be a directory that the router's user may write to: {source}"
    )]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite could not open it, or what it reads is damaged.
    #[error("the journal {path} cannot be opened: {source}")]
    Store {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn store(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Store {
            path: path.to_owned(),
            source,
        }
    }
}

/// Where the database lies within its data directory.
pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join("journal.db")
}

/// Where its log lies.
pub(super) fn log_file(directory: &Path) -> PathBuf {
    directory.join("journal.db-wal")
}

/// Makes the data directory, for its owner alone, where there is none, and what is missing above it; and syncs the name of
/// each, since the loss of one is the loss of all beneath it.
pub(super) fn make_directory(directory: &Path) -> Result<(), OpenError> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    let made = fs::DirBuilder::new().mode(0o700).create(directory);
    match made {
        // Somebody else has made it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        made => made.map_err(OpenError::io(directory))?,
    }
    sync_directory(parent)
}

/// Opens the database for the writer, making it where there is none, and bringing an older one up to date.
pub(super) fn open_to_write(directory: &Path) -> Result<Connection, OpenError> {
    let path = file(directory);
    make_file(&path)?;
    sync_directory(directory)?;
    let connection = open_existing(&path)?;
    let found = match identity(&connection).map_err(OpenError::store(&path))? {
        (0, 0) if is_empty(&connection).map_err(OpenError::store(&path))? => None,
        identity => Some(check(identity, &path)?),
    };
    if found.is_none() {
        lay_out(&connection).map_err(OpenError::store(&path))?;
    }
    prepare(&connection, 8 << 20).map_err(OpenError::store(&path))?;
    match found {
        None => migration::create(&connection).map_err(OpenError::store(&path))?,
        Some(found) if found < VERSION => bring_up_to_date(&connection, &path, found)?,
        Some(_) => {}
    }
    Ok(connection)
}

fn bring_up_to_date(connection: &Connection, path: &Path, found: i64) -> Result<(), OpenError> {
    migration::migrate(connection, found).map_err(|source| OpenError::Migration {
        path: path.to_owned(),
        found,
        source,
    })?;
    tracing::info!(from = found, to = VERSION, "the journal was brought up to date");
    Ok(())
}

/// Makes the database file, for its owner alone, where there is none. SQLite would make it readable to all; its log
/// and shared memory get the permissions of this file.
///
/// A file that is there is not opened but by SQLite, or it is closed after SQLite has closed it: whoever closes one takes away
/// all locks that this process has on it, as POSIX has it. The next reader would then take itself for the last one and remove the log on leaving,
/// with everything in it that is not yet copied, and the router would go on writing to a file without a name.
fn make_file(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(OpenError::io(path)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Opens an existing database to read, whatever its router does or did last.
pub(super) fn open_to_read(directory: &Path) -> Result<Connection, OpenError> {
    let path = file(directory);
    if !path.exists() {
        return Err(OpenError::Missing(path));
    }
    // Not SQLITE_OPEN_READ_ONLY: after a kill, the first to come must be able to recover the log's index.
    let connection = open_existing(&path)?;
    match identity(&connection).map_err(OpenError::store(&path))? {
        // A router that was killed while it made the file; the next one will go on.
        (0, 0) if is_empty(&connection).map_err(OpenError::store(&path))? => {
            return Err(OpenError::Missing(path));
        }
        identity => {
            let found = check(identity, &path)?;
            if found < VERSION {
                return Err(OpenError::Older { path, found });
            }
        }
    }
    prepare(&connection, 2 << 20).map_err(OpenError::store(&path))?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(OpenError::store(&path))?;
    Ok(connection)
}

fn open_existing(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(OpenError::store(path))?;
    connection
        .busy_timeout(Duration::from_secs(5))
        .map_err(OpenError::store(path))?;
    Ok(connection)
}

/// The application id and the schema version.
fn identity(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

/// The version of what is a journal of ours.
fn check((application, version): (i64, i64), path: &Path) -> Result<i64, OpenError> {
    if application != APPLICATION {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    if version > VERSION {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: version,
        });
    }
    Ok(version)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// Sets what holds for all of a file and must be set before there is anything in it.
fn lay_out(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE)?;
    // So that pages which hold nothing can be given back to the file system.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
}

/// Whether pages of a file that hold nothing can be given back to the file system: not those of one that was made before `lay_out`
/// said so.
pub(super) fn gives_pages_back(connection: &Connection) -> rusqlite::Result<bool> {
    let auto_vacuum: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    Ok(auto_vacuum == INCREMENTAL)
}

fn prepare(connection: &Connection, cache_bytes: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The writer bounds the log itself; a checkpoint in the midst of a commit would be a stall.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -cache_bytes / 1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise a statement whose plan might be another for other values, as one with `LIMIT ?`, is prepared anew each time
    // that it is bound: measured, eight for each delivery.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(OpenError::io(directory))
}

/// How SQLite numbers the mode `INCREMENTAL` of `auto_vacuum`.
const INCREMENTAL: i64 = 2;

/// Five events of 3 KB fit into a page of 16 KB: fewer frames of the log for each than with smaller ones, and at
/// 32 KB a lone event writes too much. Measured; see JOURNAL.md.
const PAGE: i64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_prepared_once_whatever_it_is_bound_to() {
        let directory = tempfile::tempdir().unwrap();
        let writer = open_to_write(directory.path()).unwrap();
        let reader = open_to_read(directory.path()).unwrap();
        for connection in [writer, reader] {
            let sql =
                "SELECT event FROM delivery_event WHERE delivery = ? ORDER BY time DESC, event DESC LIMIT ?";
            let mut statement = connection.prepare(sql).unwrap();
            for limit in 1..4 {
                assert!(!statement.exists([limit, limit]).unwrap());
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
