//! Work directories: one for each delivery, where its steps leave files for the steps after them.
//!
//! A directory is made before the first call, synced before each outcome, and removed when the delivery has
//! settled. What a crash leaves behind is swept at the next start.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use jackfield_event::DeliveryId;

use crate::journal::Journal;

/// Where all work directories are.
#[derive(Debug)]
pub(super) struct WorkRoot(PathBuf);

impl WorkRoot {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        make_private(root)?;
        Ok(Self(root.to_owned()))
    }

    /// The delivery's directory, made where it is not there yet.
    pub(super) fn of(&self, delivery: DeliveryId) -> io::Result<PathBuf> {
        let path = self.path(delivery);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(path),
        }
    }

    /// Puts what the delivery's steps wrote on disk: an outcome must not outlive its files.
    pub(super) async fn sync(&self, delivery: DeliveryId) -> io::Result<()> {
        let path = self.path(delivery);
        if is_empty(&path)? {
            return Ok(());
        }
        let root = self.0.clone();
        unblock(move || {
            sync_tree(&path)?;
            File::open(root)?.sync_all()
        })
        .await
    }

    /// Removes the delivery's directory with all that is in it.
    pub(super) async fn remove(&self, delivery: DeliveryId) {
        let path = self.path(delivery);
        // The common case, a step that leaves no files, costs one call and no thread.
        if fs::remove_dir(&path).is_ok() {
            return;
        }
        if let Err(error) = unblock(move || fs::remove_dir_all(path)).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(delivery.id = %delivery, error = %error, "a work directory could not be removed");
        }
    }

    /// Removes directories of deliveries that have settled or that the journal does not know.
    pub(super) async fn sweep(&self, journal: &dyn Journal) {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return;
        };
        for entry in entries.flatten() {
            let Some(delivery) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<DeliveryId>().ok())
            else {
                continue;
            };
            match journal.delivery(delivery).await {
                Ok(Some(story)) if !story.record.state.is_settled() => {}
                Ok(_) => self.remove(delivery).await,
                Err(error) => tracing::warn!(error = %error, "work directories were not swept"),
            }
        }
    }

    fn path(&self, delivery: DeliveryId) -> PathBuf {
        self.0.join(delivery.to_string())
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

/// Syncs files before the directories that name them. Links are not followed: a step's files are its own.
fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

async fn unblock<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use jackfield_event::Timestamp;

    use super::*;

    fn delivery() -> DeliveryId {
        DeliveryId::new(Timestamp::from_millis(1).unwrap(), 0)
    }

    #[tokio::test]
    async fn a_directory_lives_from_the_first_call_to_its_removal() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkRoot::open(&root.path().join("work")).unwrap();
        let path = work.of(delivery()).unwrap();
        assert_eq!(work.of(delivery()).unwrap(), path);
        fs::create_dir(path.join("files")).unwrap();
        fs::write(path.join("files/a.json"), "{}").unwrap();
        work.sync(delivery()).await.unwrap();
        work.remove(delivery()).await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn syncing_does_not_follow_links_out_of_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkRoot::open(root.path()).unwrap();
        let path = work.of(delivery()).unwrap();
        std::os::unix::fs::symlink("/nowhere", path.join("dangling")).unwrap();
        std::os::unix::fs::symlink("/", path.join("everything")).unwrap();
        work.sync(delivery()).await.unwrap();
        work.remove(delivery()).await;
        assert!(!path.exists());
    }
}
