//! The directory of mirrors: private, and each mirror locked for the one call that uses it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jackfield_sdk::{Error, command::Scope};
use sha2::{Digest as _, Sha256};

use crate::remote::Remote;

/// How long to wait before a lock that another process holds is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// What the names of temporary indexes and half-made mirrors begin with.
pub(crate) const TEMPORARY: &str = "jackfield-tmp-";

/// The directory that mirrors are kept in.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

/// The right to use one mirror. It ends with the value, or with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    mirror: PathBuf,
    _file: File,
}

impl Cache {
    /// Opens the directory, and makes it where there is none.
    ///
    /// # Errors
    ///
    /// Where it is not a directory of our own: whoever can write into it can choose what we push.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let directory = fs::canonicalize(directory)?;
        let metadata = fs::symlink_metadata(&directory)?;
        // The owner of /proc/self is this process' user.
        let us = fs::metadata("/proc/self")?.uid();
        if metadata.uid() != us || metadata.mode() & 0o022 != 0 {
            let message = format!(
                "cache directory {directory:?} must belong to this process' user and be writable by nobody else \
                 (it belongs to user {}, mode {:o})",
                metadata.uid(),
                metadata.mode() & 0o777
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        fs::create_dir_all(directory.join("home"))?;
        Ok(Self { directory })
    }

    /// The directory that stands in for a configured one.
    pub(crate) fn default_directory() -> PathBuf {
        let user = fs::metadata("/proc/self").map_or(0, |metadata| metadata.uid());
        std::env::temp_dir().join(format!("jackfield-git-commit-{user}"))
    }

    /// An empty home directory for git and ssh.
    pub(crate) fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// Waits until no other call, in this process or another, uses the mirror of `remote`.
    ///
    /// The lock is the system's: that of a killed process is free at once, as the descriptor is closed on exec and no git
    /// that outlives us holds it.
    pub(crate) async fn lock(&self, remote: &Remote, scope: &Scope) -> Result<Lock, Error> {
        let key = key(remote);
        let path = self.directory.join(format!("{key}.lock"));
        let unusable = |error: io::Error| Error::retry(format!("the lock {path:?} is unusable: {error}"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Lock {
                        mirror: self.directory.join(format!("{key}.git")),
                        _file: file,
                    });
                }
                Err(TryLockError::WouldBlock) => pause(LOCK_PAUSE, scope).await?,
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
        }
    }
}

impl Lock {
    /// Where the mirror is.
    pub(crate) fn mirror(&self) -> &Path {
        &self.mirror
    }

    /// A path beside the mirror, for one that is being made.
    pub(crate) fn beside(&self) -> PathBuf {
        self.mirror
            .with_extension(format!("{TEMPORARY}{:016x}", fastrand::u64(..)))
    }

    /// Clears away what a killed call left: lock files of git, temporary indexes, half packs and objects, half-made mirrors.
    ///
    /// All of it is stale: git does not outlive the call that started it, and we hold the lock. git itself leaves half a pack
    /// where it is, also when it is only asked to end.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let half_made = self.mirror.with_extension(TEMPORARY);
        let half_made = half_made
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        for entry in fs::read_dir(self.mirror.parent().unwrap_or(&self.mirror))? {
            let entry = entry?;
            let name = entry.file_name();
            if half_made
                .as_deref()
                .is_some_and(|prefix| name.to_string_lossy().starts_with(prefix))
            {
                fs::remove_dir_all(entry.path())?;
            }
        }
        if self.mirror.is_dir() {
            sweep_files(&self.mirror, false)?;
            for directory in ["refs", "objects"].map(|name| self.mirror.join(name)) {
                if directory.is_dir() {
                    sweep_files(&directory, true)?;
                }
            }
        }
        Ok(())
    }

    /// Throws the mirror away.
    pub(crate) fn discard(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.mirror) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&self.mirror),
            Ok(_) => fs::remove_file(&self.mirror),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Rests, unless the call is canceled meanwhile.
pub(crate) async fn pause(time: Duration, scope: &Scope) -> Result<(), Error> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = scope.cancelled() => Err(Error::retry("the call was canceled")),
    }
}

fn sweep_files(directory: &Path, deep: bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if deep {
                sweep_files(&entry.path(), true)?;
            }
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let half_made = ["tmp_", ".tmp-", TEMPORARY];
        if name.ends_with(".lock") || name == "gc.pid" || half_made.iter().any(|half| name.starts_with(half))
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The name of a remote's mirror: for people, and unique.
fn key(remote: &Remote) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '_'
        }
    };
    let name: String = remote.name().chars().take(40).map(plain).collect();
    format!("{name}-{}", short_hash(&remote.to_string()))
}

/// 64 bits of a text's SHA-256, in hexadecimal.
pub(crate) fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_cache_that_others_can_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        Cache::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Cache::open(&path).unwrap_err();
        assert!(error.to_string().contains("writable by nobody else"), "{error}");
    }

    #[test]
    fn what_a_killed_call_left_is_swept_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("x.lock")).unwrap();
        let lock = Lock {
            mirror: directory.path().join("x.git"),
            _file: file,
        };
        let at = |path: &str| directory.path().join(path);
        for path in [
            "x.git/refs/jackfield",
            "x.git/objects/ab",
            "x.git/objects/info",
            "x.git/objects/pack",
        ] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::create_dir(lock.beside()).unwrap();
        let stale = [
            "x.git/HEAD.lock",
            "x.git/packed-refs.lock",
            "x.git/refs/jackfield/1.lock",
            "x.git/jackfield-tmp-1",
            "x.git/gc.pid",
            "x.git/objects/info/commit-graph.lock",
            "x.git/objects/pack/tmp_pack_x",
            "x.git/objects/pack/.tmp-1-pack-x.pack",
            "x.git/objects/ab/tmp_obj_x",
        ];
        let kept = [
            "x.git/HEAD",
            "x.git/refs/jackfield/1",
            "x.git/objects/pack/a.pack",
            "y.jackfield-tmp-1",
        ];
        for path in stale.iter().chain(&kept) {
            fs::write(at(path), "").unwrap();
        }
        lock.sweep().unwrap();
        for path in stale {
            assert!(!at(path).exists(), "{path}");
        }
        for path in kept {
            assert!(at(path).exists(), "{path}");
        }
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            3,
            "the half-made mirror is gone"
        );
        lock.discard().unwrap();
        lock.discard().unwrap();
        assert!(!at("x.git").exists());
    }

    #[test]
    fn each_repository_has_a_mirror_of_its_own() {
        let keys = ["/a/x.git", "/b/x.git", "https://h/x", "git@h:x", "ssh://h/x"];
        let keys: std::collections::BTreeSet<_> = keys.map(|text| key(&Remote::parse(text).unwrap())).into();
        assert_eq!(keys.len(), 5);
        assert!(keys.iter().all(|key| key.starts_with("x-")));
    }
}
