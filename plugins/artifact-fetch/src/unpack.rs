//! Unpacks a zip archive that nobody vouches for.
//!
//! What goes in is a file and [`Limits`]; what comes out is a directory with exactly what the archive says, or nothing:
//! the directory gets its name only when all of it is there and on disk. Files are written through a handle that
//! cannot leave the directory, so that even a name that got past [`names`] would stay inside. Limits count the bytes
//! that are written, not those that the archive announces. Links, devices, encryption, archives inside archives and
//! every other compression than deflate are left out on purpose.

mod names;

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use zip::{CompressionMethod, ZipArchive, ZipReadOptions, read::ZipFile, result::ZipError};

use self::names::{NameError, Names};

/// What an archive may ask of us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Files and directories, with those directories that have no entry of their own.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes of all files together, for each byte of the archive.
    pub ratio: u64,
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// The files' paths within the directory, in the archive's order.
    pub files: Vec<String>,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is something else.
    #[error("it is not a zip archive: {0}")]
    NotZip(String),
    /// It breaks off, contradicts itself or fails its checksums.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// Its name is not one for us.
    #[error("the archive's entry `{0}` is refused: {1}")]
    Name(String, NameError),
    /// It is neither a file nor a directory.
    #[error("the archive's entry `{0}` is refused: it is {1}, and only files and directories are unpacked")]
    Kind(String, &'static str),
    /// It needs a password.
    #[error("the archive's entry `{0}` is encrypted")]
    Encrypted(String),
    /// It is packed in another way.
    #[error("the archive's entry `{0}` is compressed by {1:?}; only Deflated and Stored are read")]
    Compression(String, CompressionMethod),
    /// There are too many.
    #[error("the archive has more than the {0} entries allowed (`max_entries`)")]
    Entries(u64),
    /// It is too much.
    #[error("the archive unpacks to more than the {0} bytes allowed (`max_unpacked_bytes`)")]
    Bytes(u64),
    /// It is too much for its size.
    #[error("the archive unpacks to more than {0} times its size, as only a zip bomb does (`max_ratio`)")]
    Ratio(u64),
    /// The call was given up.
    #[error("unpacking was given up with the call")]
    Stopped,
    /// The disk says no.
    #[error("failed to write the unpacked files: {0}")]
    Disk(#[from] io::Error),
}

/// Unpacks `archive` into the new directory `name` of `parent`; `stop` ends the work between two blocks.
pub(crate) fn unpack(
    archive: File,
    parent: &Dir,
    name: &str,
    limits: &Limits,
    stop: &AtomicBool,
) -> Result<Unpacked, UnpackError> {
    let part = format!("{name}.part");
    for stale in [&part, name] {
        match parent.remove_dir_all(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    parent.create_dir(&part)?;
    let work = Work::new(archive, parent.open_dir(&part)?, limits, stop)?;
    let unpacked = work.run()?;
    // One call for the whole file system: fsync of each of ten thousand small files takes a minute on a slow disk.
    let directory = parent.open(".")?;
    rustix::fs::syncfs(&directory).map_err(io::Error::from)?;
    if stop.load(Ordering::Relaxed) {
        return Err(UnpackError::Stopped);
    }
    parent.rename(&part, parent, name)?;
    directory.sync_all()?;
    Ok(unpacked)
}

/// One archive on its way to one directory.
struct Work<'a> {
    archive: ZipArchive<BufReader<Metered>>,
    target: Dir,
    limits: &'a Limits,
    /// How many bytes may be written at most, by the limits on the total and on the ratio; and what to say then.
    budget: u64,
    over_budget: UnpackError,
    stop: &'a AtomicBool,
    names: Names,
    done: Unpacked,
}

impl<'a> Work<'a> {
    fn new(file: File, target: Dir, limits: &'a Limits, stop: &'a AtomicBool) -> Result<Self, UnpackError> {
        let size = file.metadata()?.len();
        let by_ratio = size.saturating_mul(limits.ratio).max(ALWAYS_ALLOWED);
        let (budget, over_budget) = match by_ratio < limits.bytes {
            true => (by_ratio, UnpackError::Ratio(limits.ratio)),
            false => (limits.bytes, UnpackError::Bytes(limits.bytes)),
        };
        let archive = open(file, limits)?;
        let (names, done) = (Names::default(), Unpacked::default());
        Ok(Self {
            archive,
            target,
            limits,
            budget,
            over_budget,
            stop,
            names,
            done,
        })
    }

    fn run(mut self) -> Result<Unpacked, UnpackError> {
        if self.archive.len() as u64 > self.limits.entries {
            return Err(UnpackError::Entries(self.limits.entries));
        }
        for index in 0..self.archive.len() {
            self.entry(index)?;
        }
        Ok(self.done)
    }

    fn entry(&mut self, index: usize) -> Result<(), UnpackError> {
        let Self {
            archive,
            target,
            limits,
            names,
            done,
            budget,
            stop,
            ..
        } = self;
        let about = archive.by_index_data(index).map_err(damaged)?;
        let name = about.name().map_err(damaged)?.into_owned();
        if about.encrypted() {
            return Err(UnpackError::Encrypted(printable(&name)));
        }
        if !matches!(
            about.compression(),
            CompressionMethod::Stored | CompressionMethod::Deflated
        ) {
            return Err(UnpackError::Compression(printable(&name), about.compression()));
        }
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let mut entry = archive.by_index_with_options(index, options).map_err(damaged)?;
        let executable = check_kind(&name, &entry)?;
        let path = names
            .admit(&name)
            .map_err(|error| UnpackError::Name(printable(&name), error))?;
        if names.count() > limits.entries {
            return Err(UnpackError::Entries(limits.entries));
        }
        if entry.is_dir() {
            target.create_dir_all(path)?;
            return Ok(());
        }
        if let Some((directories, _)) = path.rsplit_once('/') {
            target.create_dir_all(directories)?;
        }
        // Whatever else the mode says (set-user-id, world-writable) is dropped.
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = target.open_with(path, OpenOptions::new().write(true).create_new(true).mode(mode))?;
        let left = *budget - done.bytes;
        match copy(&mut entry, &mut file, left, stop)? {
            Copied::All(bytes) => done.bytes += bytes,
            Copied::TooMuch => return Err(std::mem::replace(&mut self.over_budget, UnpackError::Stopped)),
        }
        done.files.push(path.to_owned());
        Ok(())
    }
}

enum Copied {
    All(u64),
    TooMuch,
}

fn copy(
    entry: &mut impl Read,
    file: &mut impl Write,
    left: u64,
    stop: &AtomicBool,
) -> Result<Copied, UnpackError> {
    let mut buffer = [0; 64 * 1024];
    let mut bytes = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(UnpackError::Stopped);
        }
        let read = match entry.read(&mut buffer) {
            Ok(0) => return Ok(Copied::All(bytes)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(UnpackError::Damaged(error.to_string())),
        };
        bytes += read as u64;
        if bytes > left {
            return Ok(Copied::TooMuch);
        }
        file.write_all(&buffer[..read])?;
    }
}

/// Opens the archive, with a bound on what its directory may make us read, and hence keep in memory.
fn open(mut file: File, limits: &Limits) -> Result<ZipArchive<BufReader<Metered>>, UnpackError> {
    let mut start = [0; 4];
    let read = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    // An archive without entries consists of its end record alone.
    if !matches!(&start[..read], b"PK\x03\x04" | b"PK\x05\x06") {
        return Err(UnpackError::NotZip(format!(
            "it begins with {}",
            beginning(&start[..read])
        )));
    }
    let meter = Meter::default();
    meter.allow(
        limits
            .entries
            .saturating_mul(DIRECTORY_ENTRY)
            .saturating_add(DIRECTORY_END),
    );
    let archive = ZipArchive::new(BufReader::new(Metered {
        file,
        meter: meter.clone(),
    }))
    .map_err(|error| match error {
        _ if meter.is_spent() => UnpackError::Entries(limits.entries),
        error => damaged(error),
    })?;
    meter.allow(u64::MAX);
    if archive.has_duplicate_names() {
        return Err(UnpackError::Damaged(
            "two of its entries have the same name".to_owned(),
        ));
    }
    Ok(archive)
}

/// A file that can be read so far and no further.
struct Metered {
    file: File,
    meter: Meter,
}

#[derive(Clone, Default)]
struct Meter(std::sync::Arc<AtomicU64>);

impl Meter {
    fn allow(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = self.meter.0.load(Ordering::Relaxed);
        if allowed == 0 {
            return Err(io::Error::other("the directory of the archive is too large"));
        }
        let read = self.file.read(buffer)?;
        self.meter.allow(allowed.saturating_sub(read as u64));
        Ok(read)
    }
}

impl Seek for Metered {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// Refuses what is neither a file nor a directory; tells whether it may be executed.
fn check_kind<R: Read>(name: &str, entry: &ZipFile<'_, R>) -> Result<bool, UnpackError> {
    let mode = entry.unix_mode().unwrap_or(0);
    let kind = match mode & 0o170_000 {
        0 => None,
        0o100_000 if !entry.is_dir() => None,
        0o040_000 if entry.is_dir() => None,
        0o100_000 | 0o040_000 => Some("a file by its mode or its name, and a directory by the other"),
        0o120_000 => Some("a symbolic link"),
        0o060_000 | 0o020_000 => Some("a device"),
        0o010_000 => Some("a pipe"),
        0o140_000 => Some("a socket"),
        _ => Some("of an unknown kind"),
    };
    match kind {
        Some(kind) => Err(UnpackError::Kind(printable(name), kind)),
        None if entry.is_dir() && entry.size() > 0 => {
            Err(UnpackError::Kind(printable(name), "a directory with content"))
        }
        None => Ok(mode & 0o100 != 0),
    }
}

fn damaged(error: ZipError) -> UnpackError {
    match error {
        ZipError::Io(error) => UnpackError::Damaged(error.to_string()),
        ZipError::InvalidArchive(what) => UnpackError::Damaged(what.into_owned()),
        error => UnpackError::Damaged(error.to_string()),
    }
}

/// A name for an error message: on one line, and not too long.
fn printable(name: &str) -> String {
    let shown: String = name.chars().take(100).flat_map(char::escape_debug).collect();
    if name.chars().count() > 100 {
        shown + "…"
    } else {
        shown
    }
}

fn beginning(bytes: &[u8]) -> String {
    match bytes {
        [] => "nothing: the file is empty".to_owned(),
        [0x1f, 0x8b, ..] => "the mark of gzip".to_owned(),
        [b'<', ..] => "`<`, as a web page does".to_owned(),
        bytes => format!("`{}`", bytes.escape_ascii()),
    }
}

/// What any archive may unpack to, however small it is: repetitive text compresses a thousandfold without malice.
const ALWAYS_ALLOWED: u64 = 16 << 20;
/// What an entry of the directory takes at most in an archive that is not made to hurt.
const DIRECTORY_ENTRY: u64 = 2048;
/// What finding the directory takes: the end record, with its comment, is read in blocks from the end.
const DIRECTORY_END: u64 = 1 << 20;

#[cfg(test)]
mod tests;
