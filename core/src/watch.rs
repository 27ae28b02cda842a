//! Tells when files have changed and come to rest.
//!
//! The system says that something happens (inotify); what has happened is told by comparing pictures of a [`Scene`], one
//! from before and one of now. So nothing depends on which events come, in what order, or whether some are lost; a look
//! now and then does for a file system that says nothing. A picture only says *when* to look: what is taken up is what
//! whoever waits for a change then reads.

mod mark;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::Notify, time::sleep};

pub use mark::Mark;

/// Files that are watched.
pub trait Scene: Send + Sync + 'static {
    /// What tells one state of them from another.
    type Picture: Clone + PartialEq + Send + 'static;

    /// How they are now. Blocks.
    fn picture(&self) -> Self::Picture;

    /// The directories in which a change of them makes itself felt.
    fn directories(&self) -> Vec<PathBuf>;

    /// What they are called in messages.
    fn name(&self) -> &'static str;
}

/// Waits for changes of a scene.
pub struct Watch<S: Scene> {
    scene: Arc<S>,
    /// What was there when its owner looked last.
    seen: S::Picture,
    /// Has the system ring when something happens; none where it does not.
    bell: Option<RecommendedWatcher>,
    rung: Arc<Notify>,
    settle: Duration,
}

impl<S: Scene> Watch<S> {
    /// Begins to watch. Done before the owner looks for the first time, so that nothing is missed in between.
    pub fn begin(scene: S) -> Self {
        let rung = Arc::new(Notify::new());
        let bell = bell(Arc::clone(&rung)).map_err(|error| {
            tracing::warn!(
                watched = scene.name(), %error, rest = ?BLIND_REST,
                "the system does not tell of changes of files; they are looked at now and then"
            );
        });
        let mut watch = Self {
            seen: scene.picture(),
            scene: Arc::new(scene),
            bell: bell.ok(),
            rung,
            settle: SETTLE,
        };
        watch.listen();
        watch
    }

    /// Calls what has not changed for `settle` settled.
    #[must_use]
    pub fn settling(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Waits until it is otherwise than the last time and has come to rest. Cancel-safe: a change that nobody was told
    /// of is told of the next time.
    pub async fn changed(&mut self) {
        loop {
            let now = self.picture().await;
            if now != self.seen {
                tracing::debug!(watched = self.scene.name(), "files change");
                // Taken before the owner looks: what changes meanwhile is seen the next time.
                self.seen = self.settled(now).await;
                return;
            }
            self.wait().await;
        }
    }

    /// How it is when it has come to rest, or after a while in which it did not.
    async fn settled(&self, mut last: S::Picture) -> S::Picture {
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

    async fn picture(&self) -> S::Picture {
        let scene = Arc::clone(&self.scene);
        let taken = tokio::task::spawn_blocking(move || scene.picture()).await;
        taken.expect("taking a picture does not panic")
    }

    /// Waits until something happens there, or it is time to look all the same.
    async fn wait(&mut self) {
        self.listen();
        let rest = if self.bell.is_some() { REST } else { BLIND_REST };
        tokio::select! {
            // Others may write to files beside these without a pause, such as a log.
            () = self.rung.notified() => sleep(PAUSE).await,
            () = sleep(rest) => {}
        }
    }

    /// Asks for word of changes: of the directories that have these paths now, which may be others than before.
    fn listen(&mut self) {
        let Some(bell) = &mut self.bell else { return };
        for directory in self.scene.directories() {
            // Where there is none, looking now and then finds it once there is.
            let _ = bell.watch(&directory, RecursiveMode::NonRecursive);
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

impl<S: Scene> fmt::Debug for Watch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("scene", &self.scene.name())
            .finish_non_exhaustive()
    }
}

/// A file of which this much time brings no change is whole, if whoever copies it does not stall.
const SETTLE: Duration = Duration::from_millis(500);
/// How many times in turn it may still change before it is looked at all the same.
const PATIENCE: usize = 120;
/// How often to look where the system says nothing of a change, as on network file systems; and where it cannot.
const REST: Duration = Duration::from_secs(30);
const BLIND_REST: Duration = Duration::from_secs(2);
/// Between a ring and the look that it leads to.
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Mutex};

    use super::*;

    /// What stands in a file.
    struct Content(PathBuf);

    impl Scene for Content {
        type Picture = Option<String>;

        fn picture(&self) -> Option<String> {
            fs::read_to_string(&self.0).ok()
        }

        fn directories(&self) -> Vec<PathBuf> {
            vec![self.0.parent().unwrap().to_owned()]
        }

        fn name(&self) -> &'static str {
            "content"
        }
    }

    fn watch(directory: &Path) -> Watch<Content> {
        let watch = Watch::begin(Content(directory.join("a"))).settling(Duration::from_millis(1));
        assert!(watch.bell.is_some());
        watch
    }

    #[tokio::test]
    async fn a_change_is_told_of_once_and_again_only_where_it_was_missed() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = watch(directory.path());
        fs::write(directory.path().join("a"), "one").unwrap();
        // Given up before it is told.
        tokio::select! {
            biased;
            () = watch.changed() => panic!("it cannot have come to rest yet"),
            () = std::future::ready(()) => {}
        }
        watch.changed().await;
        assert_eq!(watch.seen.as_deref(), Some("one"));

        fs::write(directory.path().join("b"), "beside it").unwrap();
        fs::write(directory.path().join("a"), "two").unwrap();
        watch.changed().await;
        assert_eq!(watch.seen.as_deref(), Some("two"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_on_and_on_is_looked_at_after_a_while_all_the_same() {
        struct Restless(Mutex<usize>);
        impl Scene for Restless {
            type Picture = usize;
            fn picture(&self) -> usize {
                let mut count = self.0.lock().unwrap();
                *count += 1;
                *count
            }
            fn directories(&self) -> Vec<PathBuf> {
                Vec::new()
            }
            fn name(&self) -> &'static str {
                "restless"
            }
        }
        let mut watch = Watch::begin(Restless(Mutex::new(0)));
        watch.changed().await;
        assert_eq!(watch.seen, PATIENCE + 2);
    }
}
