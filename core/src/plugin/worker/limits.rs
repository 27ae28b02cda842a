//! What the processes of an instance may take of the machine.

use std::{fs, io, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// What the process of an instance, and each program that it starts, may take of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many bytes of memory, beyond those with which the process begins.
    pub memory: u64,
    /// How many files and sockets may be open.
    pub open_files: u64,
    /// How many bytes of its memory, with all secrets in it, it may leave behind when it crashes.
    pub core_file: u64,
    /// For how long the process may leave the router without an answer.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            open_files: 1024,
            core_file: 0,
            silence: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Sets them for this process, and for good.
    ///
    /// Memory is `RLIMIT_DATA`: what is written to and backed by nothing. `RLIMIT_AS` counts what is merely reserved as
    /// well, as allocators do by the gigabyte (ours, for one, and the C library for each thread), and files that are mapped
    /// to be read, as git does with whole repositories. The stacks of threads count, used or not. Neither of the two counts
    /// memory that processes share.
    ///
    /// # Errors
    /// When the system does not tell how large the process is, or does not take a limit.
    pub(in crate::plugin) fn apply(&self) -> io::Result<()> {
        lower(Resource::Data, own_data()?.saturating_add(self.memory))?;
        lower(Resource::Nofile, self.open_files)?;
        lower(Resource::Core, self.core_file)?;
        // Where the machine has no memory left, the kernel is to take this process and not the router. One that cannot say
        // so is taken by its size alone.
        let _ = fs::write("/proc/self/oom_score_adj", "500");
        Ok(())
    }
}

/// Nothing may be raised: what the router itself may not take stays the limit.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(limit);
    let limit = Some(limit.min(most));
    let limit = Rlimit {
        current: limit,
        maximum: limit,
    };
    Ok(setrlimit(resource, limit)?)
}

/// How many bytes count towards `RLIMIT_DATA` by now.
fn own_data() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kilobytes = size.and_then(|size| size.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes
        .map(|size| size * 1024)
        .ok_or_else(|| io::Error::other("/proc/self/status says nothing of VmData"))
}
