//! The private store of libraries, by content: what is loaded is never a file that somebody may still write to.
//!
//! A file that is overwritten while it is mapped kills the process, and a path that is loaded twice gives the
//! first library again. So a checked library is copied to `<data_dir>/plugins/<sha256>.so`, which is written
//! once, never changed, and loaded by that name. Its manifest lies beside it as `<sha256>.json`.
//!
//! A copy is read back and hashed when it is staged. That it has not been touched since is then seen by its [`Stamp`], so that a
//! worker does not read and hash it again at each start, on the word of its router ([`Voucher`]).

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    digest::Digest,
    directory::{Directory, DirectoryError, ReadError},
    elf::{self, Findings, Hazard, InspectError, Inspected},
    note::Identity,
};

/// The private store.
#[derive(Debug)]
pub struct Stage {
    directory: PathBuf,
}

/// A checked library at its private path. Only a [`Stage`] makes one. Its bytes are there and not in memory.
#[derive(Clone, Debug)]
pub struct Staged {
    found: Findings,
    digest: Digest,
    origin: PathBuf,
    path: PathBuf,
    stamp: Stamp,
}

/// A staged library that the router itself may load. Only [`Staged::harmless`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Harmless<'s>(&'s Staged);

/// A staged library in a child of the router, which may load whatever was staged: only the child can be harmed.
#[derive(Debug)]
pub struct Reopened(Staged);

/// What a router tells its child of a staged library, so that it need not be read and checked once more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Voucher {
    found: Findings,
    digest: Digest,
    /// Paths, whatever their bytes.
    origin: Vec<u8>,
    path: Vec<u8>,
    stamp: Stamp,
}

/// Which file it is, and when it was last touched. Whatever changes the content, the owner or the permissions of a file has the
/// kernel note the time, and there is no call to set that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stage {
    /// Opens the store in `data_dir`, and makes it where it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, StageError> {
        let directory = data_dir.join("plugins");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| StageError {
                path: directory.clone(),
                source,
            })?;
        Ok(Self { directory })
    }

    /// Copies a checked library into the store, durably, unless it is there already.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn put(&self, library: Inspected) -> Result<Staged, StageError> {
        let (candidate, found) = library.into_parts();
        let digest = candidate.digest();
        let path = self.path(digest, "so");
        let stamp = match Stamp::of_copy(&path, digest) {
            Some(stamp) => stamp,
            None => {
                self.write(&path, candidate.bytes(), 0o500)?;
                Stamp::of_copy(&path, digest).ok_or_else(|| StageError {
                    path: path.clone(),
                    source: io::Error::other("it does not read back as it was written"),
                })?
            }
        };
        Ok(Staged {
            found,
            digest,
            origin: candidate.into_path(),
            path,
            stamp,
        })
    }

    /// The manifest that was kept for `digest`, if any.
    pub fn manifest(&self, digest: Digest) -> Option<Vec<u8>> {
        fs::read(self.path(digest, "json")).ok()
    }

    /// Keeps the manifest of `digest`.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_manifest(&self, digest: Digest, manifest: &[u8]) -> Result<(), StageError> {
        self.write(&self.path(digest, "json"), manifest, 0o600)
    }

    /// Removes whatever is not of one of `present`: copies of plugins that are gone, and what a run that died left over.
    /// A library that a process has loaded stays whole for it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn sweep(&self, present: &BTreeSet<Digest>) -> Result<(), StageError> {
        let failed = |source| StageError {
            path: self.directory.clone(),
            source,
        };
        let keep: BTreeSet<_> = ["so", "json"]
            .iter()
            .flat_map(|extension| present.iter().map(|digest| self.path(*digest, extension)))
            .collect();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !keep.contains(&path) {
                fs::remove_file(&path).map_err(|source| StageError { path, source })?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: Digest, extension: &str) -> PathBuf {
        self.directory.join(format!("{digest}.{extension}"))
    }

    /// Puts a whole file at `path` or none: written beside it, synced, renamed, and the directory synced.
    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), StageError> {
        let failed = |source| StageError {
            path: path.to_owned(),
            source,
        };
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = write_new(&temporary, bytes, mode)
            .and_then(|()| fs::rename(&temporary, path))
            .and_then(|()| File::open(&self.directory)?.sync_all());
        if written.is_err() {
            // Nothing is lost if this fails too: the name is never read.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(failed)
    }
}

impl Staged {
    /// This library, where the router itself may load it.
    ///
    /// # Errors
    /// When it must live in a process of its own.
    pub fn harmless(&self) -> Result<Harmless<'_>, NeedsIsolation> {
        match self.hazards() {
            [] => Ok(Harmless(self)),
            [hazard, ..] => Err(NeedsIsolation {
                path: self.origin.clone(),
                hazard: *hazard,
            }),
        }
    }

    /// Who the library says it is.
    pub fn identity(&self) -> &Identity {
        &self.found.identity
    }

    /// Why it must live in a process of its own, if it must.
    pub fn hazards(&self) -> &[Hazard] {
        &self.found.hazards
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The file that it is a copy of.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a child has to know of it.
    pub(super) fn voucher(&self) -> Voucher {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        Voucher {
            found: self.found.clone(),
            digest: self.digest,
            origin: bytes(&self.origin),
            path: bytes(&self.path),
            stamp: self.stamp,
        }
    }
}

impl Harmless<'_> {
    pub(super) fn staged(&self) -> &Staged {
        self.0
    }
}

impl Reopened {
    /// Takes up a staged library in a child of the router: it is read and checked anew.
    ///
    /// # Errors
    /// When it cannot be read, or is not what its name says.
    pub fn take(path: &Path) -> Result<Self, ReopenError> {
        let nowhere = || ReopenError::Renamed(path.to_owned());
        let (directory, name) = path.parent().zip(path.file_name()).ok_or_else(nowhere)?;
        let stamp = fs::metadata(path).map_err(|error| ReadError::unreadable(path, error))?;
        let stamp = Stamp::new(&stamp);
        let candidate = Directory::open(directory)?.read(name, u64::MAX - 1)?;
        if path.file_stem().and_then(OsStr::to_str) != Some(&candidate.digest().to_string()) {
            return Err(nowhere());
        }
        let (candidate, found) = elf::inspect(candidate, None)?.into_parts();
        Ok(Self(Staged {
            found,
            digest: candidate.digest(),
            origin: candidate.into_path(),
            path: path.to_owned(),
            stamp,
        }))
    }

    /// Takes up a staged library in a child of the router that vouches for it: as it is, unless it has been touched since.
    ///
    /// # Errors
    /// As for [`take`](Self::take), where it has.
    pub(super) fn vouched(voucher: Voucher) -> Result<Self, ReopenError> {
        let path = |bytes| PathBuf::from(OsString::from_vec(bytes));
        let staged = Staged {
            found: voucher.found,
            digest: voucher.digest,
            origin: path(voucher.origin),
            path: path(voucher.path),
            stamp: voucher.stamp,
        };
        match Stamp::at(&staged.path) {
            Some(stamp) if stamp == staged.stamp => Ok(Self(staged)),
            Some(_) | None => Self::take(&staged.path),
        }
    }

    pub(super) fn staged(&self) -> &Staged {
        &self.0
    }
}

/// Why the router itself does not load a library.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` {hazard}, so it needs a process of its own: give the instance `isolation = \"process\"`, or {}",
    path.display(), hazard.remedy()
)]
pub struct NeedsIsolation {
    path: PathBuf,
    hazard: Hazard,
}

/// Why a library could not be copied to its private path.
#[derive(Debug, thiserror::Error)]
#[error("`{}`, in the private store of plugins, cannot be written", path.display())]
pub struct StageError {
    path: PathBuf,
    source: io::Error,
}

/// Why a staged library could not be taken up again.
#[derive(Debug, thiserror::Error)]
pub enum ReopenError {
    /// Its directory is not what it was.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It is gone, or not what it was.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no plugin.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// Its bytes are not those that its name promises.
    #[error("`{}` is not a staged plugin: its name is not the SHA-256 of its bytes", .0.display())]
    Renamed(PathBuf),
}

impl Stamp {
    fn new(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Of the file at `path`, if there is one.
    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::new)
    }

    /// Of the file at `path`, if that is a copy of what has the digest. A torn one cannot be there by our hand, but the disk may
    /// have other ideas.
    fn of_copy(path: &Path, digest: Digest) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        // Before it is read, so that whatever touches it meanwhile is seen to have touched it since.
        let stamp = Self::new(&file.metadata().ok()?);
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        (Digest::of(&bytes) == digest).then_some(stamp)
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A name of ours that was left over by a run that died.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_library_lies_at_its_digest_for_us_alone() {
        let data = tempfile::tempdir().unwrap();
        let stage = Stage::open(data.path()).unwrap();
        let library = Inspected::example("hello", b"some code");
        let digest = library.digest();
        let staged = stage.put(library).unwrap();
        assert_eq!(staged.path(), data.path().join(format!("plugins/{digest}.so")));
        assert_eq!(fs::read(staged.path()).unwrap(), b"some code");
        assert_eq!(mode(staged.path()), 0o500);
        assert_eq!(mode(&data.path().join("plugins")), 0o700);
    }

    #[test]
    fn a_copy_that_is_there_is_kept_and_a_damaged_one_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let stage = Stage::open(data.path()).unwrap();
        let put = || {
            stage
                .put(Inspected::example("hello", b"some code"))
                .unwrap()
                .path()
                .to_owned()
        };
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let path = put();
        let before = inode(&path);
        assert_eq!(inode(&put()), before);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&path, b"damage").unwrap();
        assert_eq!(fs::read(put()).unwrap(), b"some code");
        assert_eq!(fs::read_dir(data.path().join("plugins")).unwrap().count(), 1);
    }

    #[test]
    fn a_child_takes_the_routers_word_for_a_copy_that_nobody_has_touched_since() {
        let data = tempfile::tempdir().unwrap();
        let stage = Stage::open(data.path()).unwrap();
        // No library at all, so that whoever looks into it refuses it.
        let staged = stage.put(Inspected::example("hello", b"some code")).unwrap();
        let vouched = || {
            let told = postcard::to_extend(&staged.voucher(), Vec::new()).unwrap();
            Reopened::vouched(postcard::from_bytes(&told).unwrap())
        };
        let reopened = vouched().unwrap();
        assert_eq!(reopened.staged().path(), staged.path());
        assert_eq!(reopened.staged().origin(), Path::new("/plugins/example.so"));
        assert_eq!(reopened.staged().identity(), staged.identity());

        fs::set_permissions(staged.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(
            matches!(vouched(), Err(ReopenError::Inspect(_))),
            "it is looked into again"
        );
        fs::write(staged.path(), b"other code").unwrap();
        assert!(matches!(vouched(), Err(ReopenError::Renamed(_))));
        fs::remove_file(staged.path()).unwrap();
        assert!(matches!(
            vouched(),
            Err(ReopenError::Read(ReadError::Unreadable { .. }))
        ));
    }

    #[test]
    fn what_is_of_no_present_library_is_swept_out() {
        let data = tempfile::tempdir().unwrap();
        let stage = Stage::open(data.path()).unwrap();
        let put = |bytes: &[u8]| stage.put(Inspected::example("hello", bytes)).unwrap();
        let (old, new) = (put(b"old"), put(b"new"));
        for library in [&old, &new] {
            stage.keep_manifest(library.digest(), b"{}").unwrap();
        }
        fs::write(data.path().join("plugins/half.4711.tmp"), b"").unwrap();
        stage.sweep(&BTreeSet::from([new.digest()])).unwrap();
        assert!(new.path().exists() && stage.manifest(new.digest()).is_some());
        assert_eq!(fs::read_dir(data.path().join("plugins")).unwrap().count(), 2);
    }

    #[test]
    fn a_manifest_is_found_again_by_its_digest() {
        let data = tempfile::tempdir().unwrap();
        let stage = Stage::open(data.path()).unwrap();
        let digest = Digest::of(b"some code");
        assert_eq!(stage.manifest(digest), None);
        stage.keep_manifest(digest, b"{}").unwrap();
        assert_eq!(stage.manifest(digest).as_deref(), Some(&b"{}"[..]));
    }
}
