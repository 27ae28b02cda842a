//! Refused requests: the last thousand in memory, the last few thousand in two small files, beside the database.
//!
//! They are not in the database, since whoever floods the router with forged requests must not get at the commit
//! path. They are not synced either: they explain, and promise nothing. One thread writes; where it is behind,
//! requests are counted and not kept. The older file is replaced whenever the newer one is full.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use super::OpenError;
use crate::journal::{Rejection, RejectionRecord};

/// Where refused requests are noted.
#[derive(Debug)]
pub(super) struct Ring {
    recent: Mutex<VecDeque<Arc<RejectionRecord>>>,
    omitted: AtomicU64,
    lines: Mutex<Option<mpsc::SyncSender<Arc<RejectionRecord>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ring {
    /// Goes on with the files in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, OpenError> {
        let mut pages = Pages::open(directory).map_err(OpenError::io(directory))?;
        let mut recent: VecDeque<_> = read(directory, RECENT).into_iter().map(Arc::new).collect();
        recent.make_contiguous().reverse();
        // Some dozens of kilobytes; what comes faster than a file takes it is omitted.
        let (lines, waiting) = mpsc::sync_channel::<Arc<RejectionRecord>>(256);
        let thread = thread::Builder::new()
            .name("rejections".into())
            .spawn(move || {
                while let Ok(record) = waiting.recv() {
                    if let Err(error) = pages.write(&record) {
                        tracing::warn!(error = %error, "a refused request could not be noted");
                    }
                }
            })
            .map_err(OpenError::io(directory))?;
        Ok(Self {
            recent: Mutex::new(recent),
            omitted: AtomicU64::new(0),
            lines: Mutex::new(Some(lines)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Notes one, without waiting.
    pub(super) fn push(&self, mut rejection: Rejection) {
        rejection.detail = shortened(rejection.detail);
        rejection.source = rejection.source.map(shortened);
        let omitted = self.omitted.swap(0, Ordering::Relaxed);
        let record = Arc::new(RejectionRecord { rejection, omitted });
        let kept = match &*lock(&self.lines) {
            Some(lines) => lines.try_send(Arc::clone(&record)).is_ok(),
            None => false,
        };
        if !kept {
            self.omitted.fetch_add(omitted + 1, Ordering::Relaxed);
            return;
        }
        let mut recent = lock(&self.recent);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(record);
    }

    /// The last ones, the newest first.
    pub(super) fn recent(&self, limit: usize) -> Vec<RejectionRecord> {
        let recent: Vec<_> = lock(&self.recent).iter().rev().take(limit).cloned().collect();
        recent
            .iter()
            .map(|record| RejectionRecord::clone(record))
            .collect()
    }

    /// Writes what waits, and stops.
    pub(super) fn close(&self) {
        drop(lock(&self.lines).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic of the thread has been printed; what it held was no promise.
            let _ = thread.join();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads the last ones out of the files in `directory`, the newest first. Lines cut short by a crash are left out.
pub(super) fn read(directory: &Path, limit: usize) -> Vec<RejectionRecord> {
    let mut records = Vec::new();
    for path in [older(directory), newer(directory)] {
        let Ok(file) = File::open(path) else { continue };
        let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
        records.extend(lines.filter_map(|line| serde_json::from_slice(&line).ok()));
    }
    records.reverse();
    records.truncate(limit);
    records
}

/// The file that is written, and how long it is.
struct Pages {
    directory: PathBuf,
    file: File,
    length: u64,
}

impl Pages {
    fn open(directory: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(newer(directory))?;
        let length = file.metadata()?.len();
        if length > 0 {
            // The last line may have been cut short; an empty one does no harm.
            file.write_all(b"\n")?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            file,
            length,
        })
    }

    fn write(&mut self, record: &RejectionRecord) -> io::Result<()> {
        if self.length > FULL {
            fs::rename(newer(&self.directory), older(&self.directory))?;
            *self = Self::open(&self.directory)?;
        }
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.length += line.len() as u64;
        Ok(())
    }
}

fn newer(directory: &Path) -> PathBuf {
    directory.join("rejected.jsonl")
}

fn older(directory: &Path) -> PathBuf {
    directory.join("rejected.old.jsonl")
}

/// What a sender wrote may be as long as it likes.
fn shortened(mut text: String) -> String {
    if text.len() > LINE {
        let end = (0..=LINE).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// The locks of a ring are held for a push, a copy of pointers or a `try_send`, never two at a time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many are kept in memory.
const RECENT: usize = 1000;

/// How long a file grows: 1 MB, some four thousand lines.
const FULL: u64 = 1 << 20;

/// How long a text of one may be, in bytes.
const LINE: usize = 400;

#[cfg(test)]
mod tests {
    use jackfield_event::Timestamp;

    use super::*;
    use crate::reason::Reason;

    fn rejection(number: i64, detail: &str) -> Rejection {
        Rejection {
            received: Timestamp::from_millis(number).unwrap(),
            source: Some("screens".into()),
            reason: Reason::WrongSignature,
            detail: detail.into(),
            remote: Some([127, 0, 0, 1].into()),
        }
    }

    #[test]
    fn the_last_ones_are_kept_over_a_restart_and_a_line_cut_short_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let ring = Ring::open(directory.path()).unwrap();
        for number in 0..3 {
            ring.push(rejection(number, "none of 2 secrets matches"));
        }
        let before = ring.recent(10);
        assert_eq!(before.len(), 3);
        assert_eq!(before[0].rejection, rejection(2, "none of 2 secrets matches"));
        ring.close();
        let mut file = OpenOptions::new()
            .append(true)
            .open(newer(directory.path()))
            .unwrap();
        file.write_all(b"{\"received\":\"20").unwrap();

        let ring = Ring::open(directory.path()).unwrap();
        assert_eq!(ring.recent(10), before);
        ring.push(rejection(3, "later"));
        ring.close();
        let after = read(directory.path(), 2);
        assert_eq!(
            (after.len(), &after[0].rejection, &after[1]),
            (2, &rejection(3, "later"), &before[0])
        );
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let ring = Ring::open(directory.path()).unwrap();
        let pushed: u64 = 30_000;
        for number in 0..pushed {
            ring.push(rejection(number.try_into().unwrap(), &"ä".repeat(5_000)));
        }
        let last = ring.recent(usize::MAX);
        assert!(last.len() <= RECENT, "{}", last.len());
        assert!(last.iter().all(|record| record.rejection.detail.len() < 500));
        ring.close();
        ring.push(rejection(0, "after the end"));

        let written = fs::metadata(newer(directory.path())).unwrap().len();
        let before = fs::metadata(older(directory.path())).map_or(0, |file| file.len());
        assert!(written.max(before) < FULL + 1_000, "{written} and {before}");
        let omitted = ring.omitted.load(Ordering::Relaxed);
        let kept: u64 = last.iter().map(|record| record.omitted + 1).sum();
        assert!(
            omitted >= 1 && kept + omitted <= pushed + 1,
            "{kept} and {omitted} of {pushed}"
        );
    }
}
