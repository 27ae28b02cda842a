//! Follows the plugins directory, and has the registry look at it again when it has changed and come to rest.
//!
//! The system says that something happens (inotify); what has happened is told by comparing [`Picture`]s of the
//! directory, one from before and one of now. So nothing depends on which events come, in what order, or whether some are
//! lost; a look now and then does for a file system that says nothing. A picture only says *when* to look: what is
//! loaded are the bytes that the [`directory`](super::directory) reads, once, and a half of a file that is read all the
//! same is refused like any other damaged one, until there is more of it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Registry,
    directory::{is_library, is_signature},
    reason_of,
};

/// The driver that keeps a registry in step with its directory.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    /// The file that says which libraries there may be.
    lock: Option<PathBuf>,
    /// What was there when the registry looked last.
    seen: Picture,
    /// Has the system ring when something happens; none where it does not.
    bell: Option<RecommendedWatcher>,
    rung: Arc<Notify>,
    settle: Duration,
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
        lock: Option<Mark>,
    },
}

/// What tells one state of a file from another. The time of its last change cannot be set by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    inode: (u64, u64),
    owner: (u32, u32),
    mode: u32,
    size: u64,
    changed: (i64, i64),
}

impl Watch {
    /// Begins to watch the directory, and the lock file where there is one. Done before the registry looks for the first time, so that nothing is missed in between.
    pub fn begin(dir: PathBuf, lock: Option<PathBuf>) -> Self {
        let rung = Arc::new(Notify::new());
        let bell = bell(Arc::clone(&rung)).map_err(|error| {
            tracing::warn!(
                error = reason_of(&error), rest = ?BLIND_REST,
                "the system does not tell of changes in the plugins directory; it is looked at now and then"
            );
        });
        let mut watch = Self {
            seen: Picture::take(&dir, lock.as_deref()),
            dir,
            lock,
            bell: bell.ok(),
            rung,
            settle: SETTLE,
        };
        watch.listen();
        watch
    }

    /// Calls a directory that has not changed for `settle` settled.
    #[must_use]
    pub fn settling(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, registry: Arc<Registry>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            // Whatever is under way is given up as a whole.
            () = async { loop { self.turn(&registry).await } } => {}
        }
    }

    async fn turn(&mut self, registry: &Registry) {
        let now = self.picture().await;
        if now == self.seen {
            return self.wait().await;
        }
        tracing::debug!(dir = %self.dir.display(), "the plugins directory changes");
        // Taken before the registry looks: what changes meanwhile is seen the next time.
        self.seen = self.settled(now).await;
        registry.renew().await;
    }

    /// How it is when it has come to rest, or after a while in which it did not.
    async fn settled(&self, mut last: Picture) -> Picture {
        for _ in 0..PATIENCE {
            sleep(self.settle).await;
            let now = self.picture().await;
            if now == last {
                break;
            }
            last = now;
        }
        last
    }

    async fn picture(&self) -> Picture {
        let (dir, lock) = (self.dir.clone(), self.lock.clone());
        let taken = tokio::task::spawn_blocking(move || Picture::take(&dir, lock.as_deref())).await;
        taken.expect("taking a picture does not panic")
    }

    /// Waits until something happens there, or it is time to look all the same.
    async fn wait(&mut self) {
        self.listen();
        let rest = if self.bell.is_some() { REST } else { BLIND_REST };
        tokio::select! {
            () = self.rung.notified() => {}
            () = sleep(rest) => {}
        }
    }

    /// Asks for word of changes: of the directory that has this path now, which may be another than before.
    fn listen(&mut self) {
        let Some(bell) = &mut self.bell else { return };
        let around = self.lock.as_deref().and_then(Path::parent);
        for directory in std::iter::once(self.dir.as_path()).chain(around) {
            // Where there is none, looking now and then finds it once there is.
            let _ = bell.watch(directory, RecursiveMode::NonRecursive);
        }
    }
}

impl Picture {
    fn take(dir: &Path, lock: Option<&Path>) -> Self {
        let take = || {
            let directory = Mark {
                // Of what others do there, only its libraries matter.
                size: 0,
                changed: (0, 0),
                ..Mark::of(&fs::metadata(dir)?)
            };
            let mut files = BTreeMap::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let name = entry.file_name();
                if is_library(&name) || is_signature(&name) {
                    // One that is gone again by now is told by its absence, in this picture or the next.
                    files.extend(
                        entry
                            .metadata()
                            .ok()
                            .map(|data| (entry.file_name(), Mark::of(&data))),
                    );
                }
            }
            let lock = lock.and_then(|lock| fs::metadata(lock).ok());
            let lock = lock.as_ref().map(Mark::of);
            Ok(Self::Some {
                directory,
                files,
                lock,
            })
        };
        take().unwrap_or_else(|error: io::Error| Self::None(error.kind()))
    }
}

impl Mark {
    fn of(data: &Metadata) -> Self {
        Self {
            inode: (data.dev(), data.ino()),
            owner: (data.uid(), data.gid()),
            mode: data.mode(),
            size: data.size(),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// What rings when something happens that may change a picture.
fn bell(rung: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To be looked at is no change, and looking is what a ring leads to.
        if !matches!(
            event,
            Ok(notify::Event {
                kind: EventKind::Access(_),
                ..
            })
        ) {
            rung.notify_one();
        }
    })
}

/// A file of which this much time brings no change is whole, if whoever copies it does not stall.
const SETTLE: Duration = Duration::from_millis(500);
/// How many times in turn it may still change before it is looked at all the same.
const PATIENCE: usize = 120;
/// How often to look where the system says nothing of a change, as on network file systems; and where it cannot.
const REST: Duration = Duration::from_secs(30);
const BLIND_REST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_picture_changes_with_what_matters_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("plugins");
        let lock = directory.path().join("plugins.lock");
        let picture = || Picture::take(&dir, Some(&lock));
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
    }

    #[tokio::test]
    async fn a_change_rings() {
        let directory = tempfile::tempdir().unwrap();
        let watch = Watch::begin(directory.path().to_owned(), None);
        assert!(watch.bell.is_some());
        fs::write(directory.path().join("a.so"), "one").unwrap();
        watch.rung.notified().await;
    }
}
