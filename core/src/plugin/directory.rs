//! The directory that plugins are dropped into, and what may be read from it.
//!
//! A path comes in; out go the names of its libraries, and for each a [`Candidate`]: its bytes, read once, and
//! their digest. Whoever may write into the directory, or to a file in it, may run code as us, so both must
//! belong to root or to us and be writable by nobody else. A file is opened relative to the directory's
//! descriptor, never through a link, and everything after works on the bytes that were read: what happens to
//! the file later changes nothing.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};

use super::digest::Digest;

/// The plugins directory, opened and found safe.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// When it cannot be opened, is none, or may be changed by others.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let unreadable = |source| DirectoryError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| unreadable(error.into()))?;
        trusted(path, &stat)?;
        Ok(Self {
            path: path.to_owned(),
            fd,
        })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it that end in `.so`, sorted; hidden ones are left out.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn libraries(&self) -> Result<Vec<OsString>, DirectoryError> {
        let unreadable = |error: rustix::io::Errno| DirectoryError::Unreadable {
            path: self.path.clone(),
            source: error.into(),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if is_library(name) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads the file `name` whole, once.
    ///
    /// # Errors
    /// When it is not a regular file of at most `limit` bytes, or may be changed by others.
    pub fn read(&self, name: &OsStr, limit: u64) -> Result<Candidate, ReadError> {
        let path = self.path.join(name);
        let file = self.open_file(name, &path)?;
        let stat = regular(&file, &path)?;
        trusted(&path, &stat)?;
        whole(file, path, &stat, limit)
    }

    /// Reads the signature of the file `name`, if there is one.
    ///
    /// # Errors
    /// As for [`Directory::read`].
    pub fn signature(&self, name: &OsStr) -> Result<Option<Vec<u8>>, ReadError> {
        match self.read(&signature_of(name), LONGEST_SIGNATURE) {
            Ok(signature) => Ok(Some(signature.bytes)),
            Err(ReadError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_file(&self, name: &OsStr, path: &Path) -> Result<File, ReadError> {
        // NONBLOCK: opening a named pipe must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(File::from(fd)),
            Err(rustix::io::Errno::LOOP) => Err(ReadError::NotAFile {
                path: path.to_owned(),
                found: "a symbolic link",
            }),
            // What open(2) says of a socket.
            Err(rustix::io::Errno::NXIO) => Err(ReadError::NotAFile {
                path: path.to_owned(),
                found: "a socket",
            }),
            Err(error) => Err(ReadError::unreadable(path, error.into())),
        }
    }
}

/// Whether a file of that name is taken for a plugin: it ends in `.so` and is not hidden.
pub(super) fn is_library(name: &OsStr) -> bool {
    !name.as_bytes().starts_with(b".") && Path::new(name).extension() == Some(OsStr::new("so"))
}

/// The name of the signature of a file of that name.
pub fn signature_of(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(SIGNATURE);
    name
}

/// Whether a file of that name is taken for a signature of a plugin.
pub(super) fn is_signature(name: &OsStr) -> bool {
    let library = name.as_bytes().strip_suffix(SIGNATURE.as_bytes());
    library.is_some_and(|library| is_library(OsStr::from_bytes(library)))
}

/// What a signature's name has after that of what it signs; minisign's own choice.
const SIGNATURE: &str = ".minisig";
const LONGEST_SIGNATURE: u64 = 4096;

/// A file from the plugins directory: its bytes as they were read, and their digest.
#[derive(Clone)]
pub struct Candidate {
    path: PathBuf,
    bytes: Vec<u8>,
    digest: Digest,
}

impl Candidate {
    fn new(path: PathBuf, bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        Self { path, bytes, digest }
    }

    /// Reads a file that somebody names by hand, which may lie anywhere and be a link; and says why it would not be trusted
    /// in a plugins directory, if it would not be.
    ///
    /// # Errors
    /// When it is not a regular file of at most `limit` bytes.
    pub fn named(path: &Path, limit: u64) -> Result<(Self, Option<UntrustedError>), ReadError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| ReadError::unreadable(path, error.into()))?;
        let file = File::from(file);
        let stat = regular(&file, path)?;
        let untrusted = trusted(path, &stat).err();
        Ok((whole(file, path.to_owned(), &stat, limit)?, untrusted))
    }

    /// A file of which nothing but its bytes matters.
    #[cfg(test)]
    pub(super) fn example(bytes: &[u8]) -> Self {
        Self::new(PathBuf::from("/plugins/example.so"), bytes.to_vec())
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, once what was read is not needed any more.
    pub(super) fn into_path(self) -> PathBuf {
        self.path
    }

    /// What was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of what was read.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Candidate");
        debug.field("path", &self.path).field("length", &self.bytes.len());
        debug.field("digest", &self.digest).finish()
    }
}

/// Why nothing can be loaded from the plugins directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be opened or listed.
    #[error(
        "the plugins directory `{}` cannot be read; make it, or name another as `dir` in `[plugins]`",
        path.display()
    )]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may change it.
    #[error(transparent)]
    Untrusted(#[from] UntrustedError),
}

/// Why a file in the plugins directory was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened or read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a link, a directory, a device.
    #[error(
        "`{}` is {found}, not a regular file: put the file itself there",
        path.display()
    )]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It is longer than a library has any reason to be.
    #[error("`{}` is longer than the {limit} bytes that it may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is allowed.
        limit: u64,
    },
    /// Others may change it.
    #[error(transparent)]
    Untrusted(#[from] UntrustedError),
}

impl ReadError {
    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a directory or file is not trusted: somebody else could put code into it.
#[derive(Debug, thiserror::Error)]
pub enum UntrustedError {
    /// It belongs to somebody else.
    #[error(
        "`{}` belongs to user {owner}; plugins run as this process, so it must belong to root or to user {us}: \
         chown {us} '{}'",
        path.display(), path.display()
    )]
    Owner {
        /// The directory or file.
        path: PathBuf,
        /// The user that it belongs to.
        owner: u32,
        /// The user that this process is.
        us: u32,
    },
    /// More than its owner may write to it.
    #[error(
        "`{}` has mode {mode:04o}: others than its owner may change it, and so run code in this process: \
         chmod go-w '{}'",
        path.display(), path.display()
    )]
    Writable {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn regular(file: &File, path: &Path) -> Result<Stat, ReadError> {
    let stat = rustix::fs::fstat(file).map_err(|error| ReadError::unreadable(path, error.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat),
        kind => Err(ReadError::NotAFile {
            path: path.to_owned(),
            found: kind_name(kind),
        }),
    }
}

fn whole(mut file: File, path: PathBuf, stat: &Stat, limit: u64) -> Result<Candidate, ReadError> {
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(1 << 24));
    file.by_ref()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ReadError::unreadable(&path, error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(ReadError::TooLarge { path, limit });
    }
    Ok(Candidate::new(path, bytes))
}

/// Checks that only root or we can change what decides what code is run.
pub(super) fn trusted(path: &Path, stat: &Stat) -> Result<(), UntrustedError> {
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != us {
        return Err(UntrustedError::Owner {
            path: path.to_owned(),
            owner: stat.st_uid,
            us,
        });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return Err(UntrustedError::Writable {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn put(directory: &tempfile::TempDir, name: &str, mode: u32) {
        let path = directory.path().join(name);
        fs::write(&path, b"bytes").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What reading `name` says, with the directory's own path left out.
    fn refusal(directory: &tempfile::TempDir, name: &str) -> String {
        let open = Directory::open(directory.path()).unwrap();
        let error = open.read(OsStr::new(name), 16).unwrap_err();
        error
            .to_string()
            .replace(directory.path().to_str().unwrap(), "/plugins")
    }

    #[test]
    fn libraries_are_listed_in_order_and_nothing_else_is() {
        let directory = directory();
        for name in ["b.so", "a.so", ".hidden.so", "c.so.bak", "README.md", "so"] {
            put(&directory, name, 0o644);
        }
        let open = Directory::open(directory.path()).unwrap();
        assert_eq!(open.libraries().unwrap(), ["a.so", "b.so"]);
    }

    #[test]
    fn a_file_is_read_with_its_digest() {
        let directory = directory();
        put(&directory, "a.so", 0o644);
        let open = Directory::open(directory.path()).unwrap();
        let candidate = open.read(OsStr::new("a.so"), 5).unwrap();
        assert_eq!(candidate.bytes(), b"bytes");
        assert_eq!(
            candidate.digest().to_string(),
            "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9"
        );
    }

    #[test]
    fn a_file_that_others_may_write_is_refused_with_the_chmod_that_helps() {
        let directory = directory();
        put(&directory, "a.so", 0o664);
        insta::assert_snapshot!(refusal(&directory, "a.so"), @"`/plugins/a.so` has mode 0664: others than its owner may change it, and so run code in this process: chmod go-w '/plugins/a.so'");
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let directory = directory();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Directory::open(directory.path()).unwrap_err();
        assert!(matches!(
            error,
            DirectoryError::Untrusted(UntrustedError::Writable { mode: 0o777, .. })
        ));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused_with_the_chown_that_helps() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("left out: only root can give a file away");
        }
        let directory = directory();
        put(&directory, "a.so", 0o644);
        let give = |path: &Path, to| std::os::unix::fs::chown(path, Some(to), None).unwrap();
        give(&directory.path().join("a.so"), 4711);
        insta::assert_snapshot!(refusal(&directory, "a.so"), @"`/plugins/a.so` belongs to user 4711; plugins run as this process, so it must belong to root or to user 0: chown 0 '/plugins/a.so'");
        give(directory.path(), 4711);
        let error = Directory::open(directory.path()).unwrap_err().to_string();
        let path = directory.path().display();
        assert_eq!(
            error,
            format!(
                "`{path}` belongs to user 4711; plugins run as this process, so it must belong to root or to user 0: chown 0 '{path}'"
            )
        );
        give(directory.path(), 0);
        give(&directory.path().join("a.so"), 0);
        let open = Directory::open(directory.path()).unwrap();
        assert!(open.read(OsStr::new("a.so"), 16).is_ok());
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_by_its_kind() {
        let directory = directory();
        put(&directory, "a.so", 0o644);
        std::os::unix::fs::symlink("a.so", directory.path().join("link.so")).unwrap();
        fs::create_dir(directory.path().join("directory.so")).unwrap();
        let pipe = directory.path().join("pipe.so");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket.so")).unwrap();
        for (name, kind) in [
            ("link.so", "a symbolic link"),
            ("directory.so", "a directory"),
            ("pipe.so", "a named pipe"),
            ("socket.so", "a socket"),
        ] {
            let expected =
                format!("`/plugins/{name}` is {kind}, not a regular file: put the file itself there");
            assert_eq!(refusal(&directory, name), expected);
        }
    }

    #[test]
    fn a_file_that_is_named_may_lie_anywhere_and_is_not_said_to_be_trusted() {
        let directory = directory();
        put(&directory, "a.so", 0o664);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("a.so", &link).unwrap();
        let (candidate, untrusted) = Candidate::named(&link, 5).unwrap();
        assert_eq!((candidate.path(), candidate.bytes()), (&*link, &b"bytes"[..]));
        assert!(matches!(
            untrusted,
            Some(UntrustedError::Writable { mode: 0o664, .. })
        ));
        put(&directory, "b.so", 0o644);
        let (_, untrusted) = Candidate::named(&directory.path().join("b.so"), 5).unwrap();
        assert!(untrusted.is_none());
        for (path, words) in [
            (directory.path().to_owned(), "is a directory, not a regular file"),
            (directory.path().join("c.so"), "cannot be read"),
        ] {
            let error = Candidate::named(&path, 5).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_or_missing_is_refused() {
        let directory = directory();
        fs::write(directory.path().join("long.so"), [0; 17]).unwrap();
        insta::assert_snapshot!(refusal(&directory, "long.so"), @"`/plugins/long.so` is longer than the 16 bytes that it may have");
        insta::assert_snapshot!(refusal(&directory, "missing.so"), @"`/plugins/missing.so` cannot be read");
    }
}
