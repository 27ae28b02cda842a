//! Follows the plugins directory, and has the registry look at it again when it has changed and come to rest.
//!
//! What is loaded are the bytes that the [`directory`](super::directory) reads, once, and a half of a file that is read
//! all the same is refused like any other damaged one, until there is more of it.

use std::{collections::BTreeMap, ffi::OsString, fs, io, path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Registry,
    directory::{is_library, is_signature},
    trust::Lock,
};
use crate::watch::{self, Mark, Scene};

/// The driver that keeps a registry in step with its directory.
#[derive(Debug)]
pub struct Watch(watch::Watch<Directory>);

/// The plugins directory, and the file that says which libraries there may be.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    lock: Option<PathBuf>,
}

/// What tells one state of the directory from another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Picture {
    /// It cannot be looked at.
    None(io::ErrorKind),
    Some {
        directory: Mark,
        /// Libraries and their signatures.
        files: BTreeMap<OsString, Mark>,
        lock: Vec<Mark>,
    },
}

impl Watch {
    /// Begins to watch the directory, and the lock file where there is one. Done before the registry looks for the first
    /// time, so that nothing is missed in between.
    pub fn begin(dir: PathBuf, lock: Option<PathBuf>) -> Self {
        Self(watch::Watch::begin(Directory { path: dir, lock }))
    }

    /// Calls a directory that has not changed for `settle` settled.
    #[must_use]
    pub fn settling(self, settle: Duration) -> Self {
        Self(self.0.settling(settle))
    }

    /// Runs until `stop`.
    pub async fn run(mut self, registry: Arc<Registry>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            // Whatever is under way is given up as a whole.
            () = async {
                loop {
                    tokio::select! {
                        () = self.0.changed() => {}
                        () = registry.reconsidered() => {}
                    }
                    registry.renew().await;
                }
            } => {}
        }
    }
}

impl Directory {
    fn look(&self) -> io::Result<Picture> {
        let directory = Mark::of(&fs::metadata(&self.path)?).apart_from_content();
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_library(&name) || is_signature(&name) {
                // One that is gone again by now is told by its absence, in this picture or the next.
                files.extend(entry.metadata().ok().map(|data| (name, Mark::of(&data))));
            }
        }
        let lock = self.lock.iter().flat_map(|lock| {
            let around = Lock::directories(lock).unwrap_or_default().into_iter();
            let around = around.filter_map(|directory| fs::metadata(directory).ok());
            let around = around.map(|data| Mark::of(&data).apart_from_content());
            let file = fs::metadata(lock).ok();
            around.chain(file.as_ref().map(Mark::of)).collect::<Vec<_>>()
        });
        Ok(Picture::Some {
            directory,
            files,
            lock: lock.collect(),
        })
    }
}

impl Scene for Directory {
    type Picture = Picture;

    fn picture(&self) -> Picture {
        self.look().unwrap_or_else(|error| Picture::None(error.kind()))
    }

    fn directories(&self) -> Vec<PathBuf> {
        let around = self.lock.as_deref().and_then(std::path::Path::parent);
        let around = around.map(ToOwned::to_owned);
        std::iter::once(self.path.clone()).chain(around).collect()
    }

    fn name(&self) -> &'static str {
        "plugins directory"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_picture_changes_with_what_matters_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("plugins");
        let lock = directory.path().join("plugins.lock");
        let scene = Directory {
            path: dir.clone(),
            lock: Some(lock.clone()),
        };
        let picture = || scene.picture();
        assert_eq!(picture(), Picture::None(io::ErrorKind::NotFound));
        fs::create_dir(&dir).unwrap();
        let mut last = picture();
        let mut check = |what: &str, changes: bool| {
            let now = picture();
            assert_eq!(now != last, changes, "{what}");
            last = now;
        };
        let path = dir.join("a.so");
        fs::write(&path, "one").unwrap();
        check("a new library", true);
        fs::write(dir.join("a.txt"), "").unwrap();
        fs::write(dir.join(".b.so.partial"), "").unwrap();
        fs::write(dir.join(".b.so"), "").unwrap();
        check("files that are no libraries", false);
        fs::write(dir.join("a.so.minisig"), "").unwrap();
        check("a signature", true);
        fs::write(&lock, "").unwrap();
        check("a lock file", true);
        fs::write(&path, "two!").unwrap();
        check("another length", true);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        check("other permissions", true);
        fs::rename(&path, dir.join("b.so")).unwrap();
        check("another name", true);
        fs::rename(dir.join(".b.so"), dir.join("b.so")).unwrap();
        check("another file in its place", true);
        fs::remove_file(dir.join("b.so")).unwrap();
        check("none", true);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        check("permissions of the directory", true);
        fs::set_permissions(lock.parent().unwrap(), fs::Permissions::from_mode(0o770)).unwrap();
        check("permissions of the lock file's directory", true);
        fs::write(lock.with_extension("txt"), "").unwrap();
        check("another file beside the lock file", false);
    }
}
