//! Work directories: one for each delivery, where its steps leave files for the steps after them.
//!
//! A directory is made by the first plugin that needs it, since most never do, and a directory for each delivery
//! costs more than the rest of it. It is synced before the outcome of a step that is done, and removed when the delivery
//! has settled. What a crash leaves behind, or a delivery whose place a newer one took while it waited, is swept: at the start, and
//! now and then.

use std::{
    ffi::CStr,
    fs::{self, DirBuilder, DirEntry, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jackfield_event::DeliveryId;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::{journal::Journal, plugin::remove_workdir};

/// Where all work directories are.
#[derive(Debug)]
pub(super) struct WorkRoot(PathBuf);

impl WorkRoot {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).recursive(true).create(root)?;
        // What is in it is of no use without its own name.
        if let Some(parent) = root.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self(root.to_owned()))
    }

    /// The delivery's directory, which is there once a plugin has made it.
    pub(super) fn of(&self, delivery: DeliveryId) -> PathBuf {
        self.0.join(delivery.to_string())
    }

    /// Puts what the delivery's steps wrote on disk: an outcome must not outlive its files. How the directory looks then.
    pub(super) async fn sync(&self, delivery: DeliveryId) -> io::Result<Trace> {
        let path = self.of(delivery);
        if is_empty(&path)? {
            return Ok(Trace::default());
        }
        let root = self.0.clone();
        unblock(move || {
            let trace = Walk::default().tree(&path)?;
            File::open(root)?.sync_all()?;
            Ok(trace)
        })
        .await
    }

    /// Removes the delivery's directory with all that is in it.
    pub(super) async fn remove(&self, delivery: DeliveryId) {
        let path = self.of(delivery);
        // The common case, a delivery without files, costs one call and no thread.
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            Ok(()) | Err(_) => return,
        }
        if let Err(error) = unblock(move || remove_workdir(&path)).await {
            tracing::warn!(delivery.id = %delivery, error = %error, "a work directory could not be removed");
        }
    }

    /// Sweeps, for ever.
    pub(super) async fn sweep_now_and_then(&self, journal: &dyn Journal) {
        let mut strangers = Strangers::Go;
        loop {
            self.sweep(journal, strangers).await;
            tokio::time::sleep(BETWEEN_SWEEPS).await;
            strangers = Strangers::Stay;
        }
    }

    /// Removes directories of deliveries that have settled, and those that the journal does not know, as is said. It takes what
    /// there are directories, whatever there are deliveries.
    async fn sweep(&self, journal: &dyn Journal, strangers: Strangers) {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return;
        };
        let mut entries = entries.flatten();
        loop {
            let some: Vec<_> = entries.by_ref().take(LOOKS).collect();
            if some.is_empty() {
                return;
            }
            let deliveries: Vec<_> = some.iter().filter_map(of_a_delivery).collect();
            let states = match journal.states(deliveries.clone()).await {
                Ok(states) => states,
                Err(error) => return tracing::warn!(error = %error, "work directories were not swept"),
            };
            for delivery in deliveries {
                match states.get(&delivery) {
                    Some(state) if !state.is_settled() => {}
                    None if strangers == Strangers::Stay => {}
                    Some(_) | None => self.remove(delivery).await,
                }
            }
        }
    }
}

/// The delivery by which an entry is named.
fn of_a_delivery(entry: &DirEntry) -> Option<DeliveryId> {
    entry.file_name().to_str()?.parse().ok()
}

/// What becomes of directories that no delivery has: calls by hand have such, and may be under way or to be looked at. At a
/// start there are none under way, and what was kept has been for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strangers {
    Go,
    Stay,
}

/// How many directories the journal is asked about at once.
const LOOKS: usize = 1000;

/// Files of a delivery that has settled lie there for so long at most.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(600);

/// Whether there is nothing in it, or not even the directory.
fn is_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// How a work directory looks: the same only where nothing in it was changed. One that is not there looks as an empty one.
///
/// Kept in the journal, where another version of this that hashes otherwise may find it, and takes it for a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace(u64);

impl Trace {
    /// It as a number; none for an empty directory.
    pub(super) fn number(self) -> Option<i64> {
        (self.0 != 0).then(|| self.0.cast_signed())
    }
}

/// Syncs files before the directories that name them, and notes how all of it looks. Links are not followed, also where a
/// plugin puts one in the place of a file meanwhile, and nothing is waited for that is no file: a step's files are its own.
#[derive(Default)]
struct Walk(u64);

impl Walk {
    fn tree(mut self, path: &Path) -> io::Result<Trace> {
        let flags = LOOKING | OFlags::DIRECTORY;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        self.directory(&directory.into(), 0, 0)?;
        Ok(Trace(self.0))
    }

    fn directory(&mut self, directory: &File, parent: u64, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!(
                "directories lie more than {DEEPEST} deep in one another"
            )));
        }
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let place = self.note(parent, name, &found);
            let open = |flags| rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from);
            match entry.file_type() {
                FileType::Directory => {
                    self.directory(&open(LOOKING | OFlags::DIRECTORY)?, place, depth + 1)?
                }
                FileType::RegularFile => open(LOOKING)?.sync_all()?,
                // Links and the like, which are part of their directory.
                _ => {}
            }
        }
        directory.sync_all()
    }

    /// Adds an entry to the trace, in whatever order the directory names them. What stands for its place is returned.
    fn note(&mut self, parent: u64, name: &CStr, found: &Stat) -> u64 {
        let mut place = DefaultHasher::new();
        (parent, name.to_bytes()).hash(&mut place);
        let place = place.finish();
        let mut state = DefaultHasher::new();
        let changed = (
            found.st_mtime,
            found.st_mtime_nsec,
            found.st_ctime,
            found.st_ctime_nsec,
        );
        (place, found.st_ino, found.st_size, found.st_mode, changed).hash(&mut state);
        self.0 = self.0.wrapping_add(state.finish());
        place
    }
}

/// A pipe that took a file's place must not make this wait for its other end.
const LOOKING: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
/// No archive that anybody means nests deeper, and each level takes some of the stack.
const DEEPEST: usize = 200;

async fn unblock<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use jackfield_event::Timestamp;

    use super::*;
    use crate::journal::{
        Options, SqliteJournal,
        contract::{arrival, asked, generation, owed},
    };

    fn delivery() -> DeliveryId {
        DeliveryId::new(Timestamp::from_millis(1).unwrap(), 0)
    }

    #[tokio::test]
    async fn a_directory_that_a_plugin_made_lives_until_its_removal() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkRoot::open(&root.path().join("work")).unwrap();
        let path = work.of(delivery());
        fs::create_dir_all(path.join("files")).unwrap();
        fs::write(path.join("files/a.json"), "{}").unwrap();
        work.sync(delivery()).await.unwrap();
        work.remove(delivery()).await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_call_by_hand_has_its_directory_until_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&root.path().join("data"), Options::default()).unwrap();
        let work = WorkRoot::open(&root.path().join("work")).unwrap();
        let path = work.of(delivery());
        fs::create_dir(&path).unwrap();
        work.sweep(&journal, Strangers::Stay).await;
        assert!(path.exists());
        work.sweep(&journal, Strangers::Go).await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_owed_keeps_its_directory_and_what_is_settled_loses_it() {
        let root = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&root.path().join("data"), Options::default()).unwrap();
        let work = WorkRoot::open(&root.path().join("work")).unwrap();
        journal.store_rules(&generation(), "the rules").await.unwrap();
        let both = vec![owed("a", "slack", None), owed("b", "slack", None)];
        let committed = journal.append(arrival(0, None, both)).await.unwrap();
        let [owing, settled] = committed.deliveries() else {
            panic!("two deliveries are owed");
        };
        journal.cancel(*settled, asked().asker).await.unwrap();
        for delivery in [owing, settled] {
            fs::create_dir(work.of(*delivery)).unwrap();
        }
        // More than are asked about at once, and one that is nobody's.
        for millis in 0..=LOOKS {
            let another = Timestamp::from_millis(i64::try_from(millis).unwrap()).unwrap();
            let another = DeliveryId::new(another, 0);
            fs::create_dir(work.of(another)).unwrap();
        }
        fs::create_dir(root.path().join("work/notes")).unwrap();
        work.sweep(&journal, Strangers::Go).await;
        let mut left: Vec<_> = fs::read_dir(root.path().join("work"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [owing.to_string(), "notes".to_owned()]);
    }

    #[tokio::test]
    async fn a_directory_that_no_plugin_made_is_synced_and_removed_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkRoot::open(root.path()).unwrap();
        work.sync(delivery()).await.unwrap();
        work.remove(delivery()).await;
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_directory_looks_the_same_until_something_in_it_is_changed() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkRoot::open(root.path()).unwrap();
        let path = work.of(delivery());
        let nothing = work.sync(delivery()).await.unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(work.sync(delivery()).await.unwrap(), nothing);
        assert_eq!(nothing.number(), None);
        let mut seen = vec![nothing];
        for change in [
            &|path: &Path| fs::write(path.join("a"), "1").unwrap(),
            &|path: &Path| fs::write(path.join("a"), "22").unwrap(),
            &|path: &Path| fs::create_dir(path.join("d")).unwrap(),
            &|path: &Path| fs::rename(path.join("a"), path.join("d/a")).unwrap(),
            &|path: &Path| fs::remove_file(path.join("d/a")).unwrap(),
        ] as [&dyn Fn(&Path); 5]
        {
            change(&path);
            let now = work.sync(delivery()).await.unwrap();
            assert!(!seen.contains(&now), "{seen:?}");
            fs::read_dir(&path).unwrap().for_each(drop);
            assert_eq!(
                work.sync(delivery()).await.unwrap(),
                now,
                "looking changes nothing"
            );
            seen.push(now);
        }
    }

    #[tokio::test]
    async fn syncing_does_not_follow_links_out_of_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkRoot::open(root.path()).unwrap();
        let path = work.of(delivery());
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere", path.join("dangling")).unwrap();
        std::os::unix::fs::symlink("/", path.join("everything")).unwrap();
        work.sync(delivery()).await.unwrap();
        work.remove(delivery()).await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn syncing_waits_for_no_pipe_and_goes_no_deeper_than_there_is_stack_for() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkRoot::open(root.path()).unwrap();
        let path = work.of(delivery());
        fs::create_dir(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join("pipe"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        work.sync(delivery()).await.unwrap();
        fs::create_dir_all(path.join("d/".repeat(DEEPEST + 1))).unwrap();
        let error = work.sync(delivery()).await.unwrap_err();
        assert!(error.to_string().contains("deep"), "{error}");
        work.remove(delivery()).await;
        assert!(!path.exists());
    }
}
