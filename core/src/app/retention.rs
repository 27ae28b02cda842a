//! What the journal does not keep for ever, and how much of the disk the rest takes.
//!
//! Pruned is in small pieces with rests between them, so that those who wait for the journal hardly notice.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::journal::{Journal, JournalError, Pruned, Retention};

/// The driver that prunes.
pub(super) struct Keeping {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) retention: Retention,
    pub(super) work_root: PathBuf,
    pub(super) metrics: Metrics,
}

/// What was removed, and what work directories take.
pub(super) struct Metrics {
    pruned: Family<Layer, Counter>,
    work: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Layer {
    what: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (pruned, work) = <(Family<_, Counter>, Gauge)>::default();
        registry.register(
            "pruned",
            "What retention removed: payloads of events, events but for an outline, and outcomes with all that was left",
            pruned.clone(),
        );
        registry.register_with_unit(
            "work_directories",
            "What the work directories of deliveries take on disk",
            Unit::Bytes,
            work.clone(),
        );
        Self { pruned, work }
    }

    fn count(&self, pruned: &Pruned) {
        let counts = [
            ("payload", pruned.payloads),
            ("event", pruned.events),
            ("outcome", pruned.outcomes),
        ];
        for (what, count) in counts {
            self.pruned.get_or_create(&Layer { what }).inc_by(count);
        }
    }
}

impl Keeping {
    /// Runs until `stop`, or until the journal is gone.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(self.prune(), self.measure()); } => {}
        }
    }

    async fn prune(&self) {
        let mut all = Pruned::default();
        let mut exceeded = false;
        loop {
            let began = Instant::now();
            let rest = match self.journal.prune(&self.retention).await {
                Ok(pruned) => {
                    self.metrics.count(&pruned);
                    all.payloads += pruned.payloads;
                    all.events += pruned.events;
                    all.outcomes += pruned.outcomes;
                    if pruned.more {
                        // A fifth of the time at most, whatever the disk is like.
                        (began.elapsed() * 4).clamp(SHORTEST_REST, REST)
                    } else {
                        tell(&std::mem::take(&mut all));
                        if pruned.exceeded && !exceeded {
                            tracing::warn!(
                                "the journal exceeds `max_size` or `max_events` of `[retention]`: what it holds is owed, a \
                                 dead letter before its time, or its dedup key holds"
                            );
                        }
                        exceeded = pruned.exceeded;
                        REST
                    }
                }
                Err(JournalError::Closed) => return,
                Err(error) => {
                    tracing::warn!(error = %error, "the journal could not be pruned");
                    REST
                }
            };
            tokio::time::sleep(rest).await;
        }
    }

    async fn measure(&self) {
        loop {
            let root = self.work_root.clone();
            match tokio::task::spawn_blocking(move || disk_use(&root)).await {
                Ok(Ok(bytes)) => {
                    self.metrics.work.set(i64::try_from(bytes).unwrap_or(i64::MAX));
                }
                Ok(Err(error)) => tracing::warn!(error = %error, "work directories could not be measured"),
                Err(error) => tracing::warn!(error = %error, "work directories could not be measured"),
            }
            tokio::time::sleep(REST).await;
        }
    }
}

fn tell(all: &Pruned) {
    let Pruned {
        payloads,
        events,
        outcomes,
        ..
    } = *all;
    if payloads + events + outcomes > 0 {
        tracing::info!(payloads, events, outcomes, "the journal was pruned");
    }
}

/// What everything under `path` takes. What goes meanwhile takes nothing; links are not followed.
fn disk_use(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            // Not through links: of the entry itself.
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

/// Between one look and the next, where there is nothing to do.
const REST: Duration = Duration::from_secs(60);
const SHORTEST_REST: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_directories_are_measured_without_what_links_lead_to() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(disk_use(&root.path().join("missing")).unwrap(), 0);
        fs::create_dir_all(root.path().join("dlv_1/files")).unwrap();
        fs::write(root.path().join("dlv_1/files/a"), vec![7; 300_000]).unwrap();
        std::os::unix::fs::symlink("/usr", root.path().join("dlv_1/everything")).unwrap();
        let bytes = disk_use(root.path()).unwrap();
        assert!((300_000..400_000).contains(&bytes), "{bytes}");
    }
}
