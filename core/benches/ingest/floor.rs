//! The floor: bodies appended to a plain file, everything that waits under one fdatasync.

use std::{fs::File, io::Write as _, path::Path, sync::mpsc, thread};

use bytes::Bytes;
use tokio::sync::oneshot;

/// A thread that appends.
#[derive(Clone, Debug)]
pub(crate) struct Floor(mpsc::SyncSender<(Bytes, oneshot::Sender<()>)>);

impl Floor {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = File::create(path)?;
        let (sender, receiver) = mpsc::sync_channel::<(Bytes, oneshot::Sender<()>)>(4096);
        thread::spawn(move || {
            let mut group = Vec::new();
            let mut bytes = Vec::new();
            while let Ok(first) = receiver.recv() {
                group.push(first);
                group.extend(receiver.try_iter());
                bytes.clear();
                for (body, _) in &group {
                    bytes.extend_from_slice(body);
                }
                file.write_all(&bytes)
                    .expect("the floor's disk takes what it is given");
                file.sync_data().expect("the floor's disk syncs");
                for (_, done) in group.drain(..) {
                    let _ = done.send(());
                }
            }
        });
        Ok(Self(sender))
    }

    /// Ready when `body` is on disk.
    pub(crate) async fn append(&self, body: Bytes) {
        let (done, on_disk) = oneshot::channel();
        if self.0.send((body, done)).is_ok() {
            let _ = on_disk.await;
        }
    }
}
