//! The lock of a data directory: one router at a time, and a second one is told who has it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use jackfield_event::Timestamp;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, test_kill_process},
};

use super::OpenError;

/// Held as long as it lives; the kernel lets go of it when the process ends, however it ends: at once, or when a child of it that was
/// just on its way to another program has got there, or ended.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `directory`, or tells who has it.
    pub(super) fn take(directory: &Path, now: Timestamp) -> Result<Self, OpenError> {
        let path = directory.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::io(&path))?;
        let patience = Instant::now() + HEIRLOOM;
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK {
                return Err(OpenError::io(&path)(errno.into()));
            }
            let holder = holder(&mut file);
            if lives(&holder) || Instant::now() > patience {
                return Err(OpenError::Locked {
                    directory: directory.to_owned(),
                    holder,
                });
            }
            thread::park_timeout(LOOK_AGAIN);
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}, since {now}", process::id()))
            .map_err(OpenError::io(&path))?;
        Ok(Self { _file: file })
    }
}

/// What the holder wrote; the lock is as good without.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
        Ok(1..) => text.trim().to_owned(),
        Ok(0) | Err(_) => "which has not written down who it is".to_owned(),
    }
}

/// Whether the holder may be a process that lives: one that has not written down who it is may.
fn lives(holder: &str) -> bool {
    let number = holder
        .strip_prefix("process ")
        .and_then(|rest| rest.split(',').next());
    let process = number
        .and_then(|number| number.parse().ok())
        .and_then(Pid::from_raw);
    process.is_none_or(|process| test_kill_process(process) != Err(Errno::SRCH))
}

/// How long a child may have the lock of a process that is gone: until it is another program.
const HEIRLOOM: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::contract::at;

    /// The lock as somebody has it who has written this down.
    fn held(directory: &Path, by: &str) -> File {
        let path = directory.join("lock");
        std::fs::write(&path, by).unwrap();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    }

    #[test]
    fn what_a_child_of_a_dead_router_still_has_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        // No process has so high a number.
        let heirloom = held(directory.path(), "process 2147483646, since yesterday\n");
        let child = thread::spawn(move || {
            thread::park_timeout(Duration::from_millis(100));
            drop(heirloom);
        });
        Lock::take(directory.path(), at(0)).unwrap();
        child.join().unwrap();
    }

    #[test]
    fn who_lives_or_says_nothing_of_itself_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let own = process::id();
        for by in [format!("process {own}, since yesterday"), String::new()] {
            let _held = held(directory.path(), &by);
            let refused = Lock::take(directory.path(), at(0));
            assert!(
                matches!(refused, Err(OpenError::Locked { .. })),
                "{by}: {refused:?}"
            );
        }
    }
}
