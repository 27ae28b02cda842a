//! What the system tells of a process.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// A process, as `/proc` has it at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Whether it has ended, and nobody has waited for it yet.
    pub is_over: bool,
    /// The number of what started it.
    pub parent: u32,
    /// The number of its group.
    pub group: u32,
    /// What it has had of the processors, for itself and in the kernel.
    pub time: Duration,
}

impl Process {
    /// The process of that number.
    ///
    /// # Errors
    ///
    /// Where there is none, or no more.
    pub fn find(id: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        Self::read(id, &stat).with_context(|| format!("what /proc says of {id}: {stat}"))
    }

    /// All that there are.
    ///
    /// # Errors
    ///
    /// Where `/proc` cannot be listed.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let entries = fs::read_dir("/proc")?.flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // Some may have ended since.
        Ok(ids.filter_map(|id| Self::find(id).ok()).collect())
    }

    fn read(id: u32, stat: &str) -> Option<Self> {
        // After the name, which may hold anything. There, proc(5) counts from 3.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?;
        Some(Self {
            id,
            is_over: field(3)? == "Z",
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            time: TICK * u32::try_from(ticks).ok()?,
        })
    }
}

/// In what the kernel counts the time of processors, on all machines there are.
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "77 (a) b (c) Z 12 34 34 0 -1 4194560 1 0 0 0 150 25 0 0 20 0 1 0 9 0 0";
        let process = Process::read(77, stat).unwrap();
        assert!(process.is_over);
        assert_eq!((process.parent, process.group), (12, 34));
        assert_eq!(process.time, Duration::from_millis(1750));
    }

    #[test]
    fn this_process_is_among_all() {
        let me = std::process::id();
        let all = Process::all().unwrap();
        let found = all.iter().find(|process| process.id == me).unwrap();
        assert!(!found.is_over);
        assert_eq!(found.parent, std::os::unix::process::parent_id());
    }
}
