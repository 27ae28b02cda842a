//! A disk that misbehaves, under a real program: recorded and cut off, slowed down, full, read-only or failing; and a clock
//! that jumps.
//!
//! A small library in C stands between the program and the C library (`LD_PRELOAD`), and sees what the program does to files
//! beneath one directory. Nothing in the program is changed for it, and no privilege is needed. With a [`Recording`], every change is written
//! down in its order, and [`Platter`] plays what would be there had the power failed at any point: of what was not
//! synced, nothing, everything, or any part of it survives, names of files included. [`Faults`] are set and lifted while the program runs.

mod faults;
mod platter;
mod recording;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

pub use faults::{Faults, Injected};
pub use platter::{Platter, Survivors};
pub use recording::{Change, Handle, Recording};

/// The library between a program and the C library, and the files by which it is spoken with.
#[derive(Debug)]
pub struct Interposer {
    library: PathBuf,
    root: PathBuf,
    control: PathBuf,
    trace: Option<PathBuf>,
}

impl Interposer {
    /// Compiles the library, into `home`, for a program whose files beneath `root` are of concern. `home` lies elsewhere.
    ///
    /// # Errors
    ///
    /// Where there is no C compiler, or a file cannot be written.
    pub fn new(home: &Path, root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(home)?;
        let home = fs::canonicalize(home)?;
        let library = home.join("interposer.so");
        let source = home.join("interposer.c");
        fs::write(&source, include_str!("disk/interposer.c"))?;
        let output = Command::new("cc")
            .args([
                "-std=gnu11",
                "-shared",
                "-fPIC",
                "-O1",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-o",
            ])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .context("running the C compiler `cc`")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the C compiler failed: {error}");
        let interposer = Self {
            library,
            root: fs::canonicalize(root)?,
            control: home.join("control"),
            trace: None,
        };
        interposer.faults().begin()?;
        Ok(interposer)
    }

    /// The same, writing down every change. The program's syncs are not passed on to the real disk: the record is the disk.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.trace = Some(self.control.with_file_name("trace"));
        self
    }

    /// The variables that a program is started with to have the library in it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut variables = vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("JACKFIELD_DISK_ROOT".to_owned(), text(&self.root)),
            (faults::CONTROL_FILE.to_owned(), text(&self.control)),
        ];
        if let Some(trace) = &self.trace {
            variables.push(("JACKFIELD_DISK_TRACE".to_owned(), text(trace)));
        }
        variables
    }

    /// What can be made to go wrong.
    pub fn faults(&self) -> Faults {
        Faults::new(self.control.clone())
    }

    /// Where the record is written. Its length says how much has happened.
    pub fn trace(&self) -> Option<&Path> {
        self.trace.as_deref()
    }
}
