//! A file system of its own for the data directory, small enough to be filled, where mounting is allowed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// An ext4 in a file, mounted until it is dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    at: PathBuf,
}

impl Volume {
    /// Makes one in `image` and mounts it at the directory `at`.
    ///
    /// # Errors
    ///
    /// Where that is not allowed here, or there are no tools for it.
    pub(crate) fn mount(image: &Path, at: &Path) -> anyhow::Result<Self> {
        File::create(image)?.set_len(SIZE)?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image))?;
        fs::create_dir_all(at)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at))?;
        Ok(Self { at: at.to_owned() })
    }

    /// Takes all the room that is left, until what it returns is dropped.
    pub(crate) fn fill(&self) -> anyhow::Result<Ballast> {
        let path = self.at.join("ballast");
        let file = File::create(&path)?;
        let ballast = Ballast(path);
        let mut length = 0;
        // By ever smaller pieces, since the last of it can only be found out by trying.
        for piece in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            let free = statvfs(&self.at)?;
            for _ in 0..=free.f_bavail * free.f_frsize / piece {
                if fallocate(&file, FallocateFlags::empty(), length, piece).is_err() {
                    break;
                }
                length += piece;
            }
        }
        Ok(ballast)
    }

    /// From now on nothing can be written to it, or again. Nobody may have a file of it open to write.
    pub(crate) fn read_only(&self, yes: bool) -> anyhow::Result<()> {
        let options = if yes { "remount,ro" } else { "remount,rw" };
        run(Command::new("mount").args(["-o", options]).arg(&self.at))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, should somebody still be in it; the image goes with its directory.
        if let Err(error) = run(Command::new("umount").arg("--lazy").arg(&self.at)) {
            eprintln!("{} is still mounted: {error:#}", self.at.display());
        }
    }
}

/// A file that takes the room away from others, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", error.trim());
    Ok(())
}

/// More than half an hour of it fills, most of which is a hole.
const SIZE: u64 = 8 << 30;
