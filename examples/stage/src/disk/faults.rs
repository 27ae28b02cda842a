//! What can be made to go wrong while the program runs.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::Duration,
};

/// Sets and lifts faults, and says how often each befell the program. All of them are lifted at first.
#[derive(Clone, Debug)]
pub struct Faults {
    control: PathBuf,
}

/// How often a fault befell the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Syncs that took longer.
    pub delayed: u32,
    /// Writes that failed.
    pub writes: u32,
    /// Syncs that failed.
    pub syncs: u32,
    /// Files that could not be opened to write to, made or removed.
    pub opens: u32,
    /// Looks at a clock that was shifted.
    pub shifted: u32,
}

impl Faults {
    pub(super) fn new(control: PathBuf) -> Self {
        Self { control }
    }

    /// For the program itself, where it runs under an interposer.
    pub fn of_this_program() -> Option<Self> {
        Some(Self::new(std::env::var_os(CONTROL_FILE)?.into()))
    }

    /// Makes the file that the program and this share. It is mapped there, and so both see it at once.
    pub(super) fn begin(&self) -> io::Result<()> {
        fs::write(&self.control, [0; LENGTH])
    }

    /// From now on a sync takes so much longer. One that is under way ends no later than one that began with the new delay.
    ///
    /// # Errors
    ///
    /// As for all of these, where the shared file is gone.
    pub fn delay_syncs(&self, delay: Duration) -> io::Result<()> {
        let micros = u32::try_from(delay.as_micros()).unwrap_or(u32::MAX);
        self.set(SYNC_DELAY, &micros.to_ne_bytes())
    }

    /// From now on writes fail with this error of the system, or no longer.
    ///
    /// # Errors
    ///
    /// Where the shared file is gone.
    pub fn fail_writes(&self, with: Option<rustix::io::Errno>) -> io::Result<()> {
        self.fail(WRITES, with)
    }

    /// From now on syncs fail, or no longer.
    ///
    /// # Errors
    ///
    /// Where the shared file is gone.
    pub fn fail_syncs(&self, with: Option<rustix::io::Errno>) -> io::Result<()> {
        self.fail(SYNCS, with)
    }

    /// From now on no file is opened to be written to, made, renamed or removed, or all are.
    ///
    /// # Errors
    ///
    /// Where the shared file is gone.
    pub fn fail_opens(&self, with: Option<rustix::io::Errno>) -> io::Result<()> {
        self.fail(OPENS, with)
    }

    /// From now on the wall clock is ahead by so many milliseconds, or behind. The monotonic one is not touched.
    ///
    /// # Errors
    ///
    /// Where the shared file is gone.
    pub fn shift_clock(&self, milliseconds: i64) -> io::Result<()> {
        self.set(CLOCK, &milliseconds.to_ne_bytes())
    }

    /// How often each has befallen the program, over all its lives.
    ///
    /// # Errors
    ///
    /// Where the shared file is gone.
    pub fn injected(&self) -> io::Result<Injected> {
        let file = File::open(&self.control)?;
        let count = |number: u64| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, COUNTS + 4 * number)?;
            io::Result::Ok(u32::from_ne_bytes(bytes))
        };
        Ok(Injected {
            delayed: count(0)?,
            writes: count(1)?,
            syncs: count(2)?,
            opens: count(3)?,
            shifted: count(4)?,
        })
    }

    fn fail(&self, place: u64, with: Option<rustix::io::Errno>) -> io::Result<()> {
        let code = with.map_or(0, rustix::io::Errno::raw_os_error);
        self.set(place, &code.to_ne_bytes())
    }

    fn set(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        File::options()
            .write(true)
            .open(&self.control)?
            .write_all_at(bytes, place)
    }
}

/// The variable that names the shared file to the program.
pub(super) const CONTROL_FILE: &str = "JACKFIELD_DISK_CONTROL";

// Where what lies in `struct control` of `interposer.c`.
const SYNC_DELAY: u64 = 0;
const WRITES: u64 = 4;
const SYNCS: u64 = 8;
const OPENS: u64 = 12;
const CLOCK: u64 = 16;
const COUNTS: u64 = 24;
const LENGTH: usize = 48;
