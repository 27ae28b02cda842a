//! The removal of work directories, in which a plugin may leave whatever it likes.

use std::{ffi::CStr, fs, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags},
    io::Errno,
    path::Arg,
};

/// Removes a work directory with all that is in it, however deep that nests. One that is not there is removed.
///
/// What lies deeper is moved up into the directory itself, and removed from there, so that no depth takes a stack or many
/// descriptors. Every step is about a name in a directory that is open, and follows no link: also where the plugin goes on
/// changing things meanwhile, nothing is removed but what lies in there.
///
/// # Errors
/// When the system refuses, or something new was put there meanwhile.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let top = match open(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        // A link, or a file.
        Err(Errno::LOOP | Errno::NOTDIR) => return fs::remove_file(path),
        Err(error) => return Err(error.into()),
    };
    let mut deeper = true;
    while deeper {
        deeper = false;
        clear(&top, |name| {
            let inner = open(&top, name)?;
            clear(&inner, |name| {
                deeper = true;
                // Nobody guesses it, so that nothing of that name is there.
                let fresh = format!("{:032x}", fastrand::u128(..));
                rustix::fs::renameat(&inner, name, &top, fresh)
            })?;
            rustix::fs::unlinkat(&top, name, AtFlags::REMOVEDIR)
        })?;
    }
    fs::remove_dir(path)
}

/// Removes what is in a directory, but for directories that are not empty: those are for `full`.
fn clear(directory: &OwnedFd, mut full: impl FnMut(&CStr) -> Result<(), Errno>) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let unlink = |flags| rustix::fs::unlinkat(directory, name, flags);
        let mut removed = unlink(AtFlags::empty());
        if removed == Err(Errno::ISDIR) {
            removed = unlink(AtFlags::REMOVEDIR);
        }
        match removed {
            Err(Errno::NOTEMPTY) => full(name)?,
            // The plugin was faster.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn open(directory: impl std::os::fd::AsFd, path: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_goes_with_all_that_is_in_it_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        let (work, elsewhere) = (root.path().join("work"), root.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("file"), "x").unwrap();
        for path in ["a/b/c/d", "a/b/e", "f/g", "empty"] {
            fs::create_dir_all(work.join(path)).unwrap();
            fs::write(work.join(path).join("file"), "x").unwrap();
            symlink(&elsewhere, work.join(path).join("link")).unwrap();
        }
        fs::remove_file(work.join("empty/file")).unwrap();
        fs::remove_file(work.join("empty/link")).unwrap();
        symlink(&elsewhere, work.join("link")).unwrap();
        remove(&work).unwrap();
        assert!(!work.exists());
        // It is not there, or is no directory.
        remove(&work).unwrap();
        symlink(&elsewhere, &work).unwrap();
        remove(&work).unwrap();
        fs::write(&work, "x").unwrap();
        remove(&work).unwrap();
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(elsewhere.join("file").exists());
    }

    #[test]
    fn no_depth_is_too_deep_to_be_removed() {
        let root = tempfile::tempdir().unwrap();
        let work = root.path().join("work");
        fs::create_dir(&work).unwrap();
        let mut at = open(CWD, &work).unwrap();
        for _ in 0..1_000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open(&at, "d").unwrap();
        }
        // Less than it would take to go down one by one.
        let stack = std::thread::Builder::new().stack_size(64 << 10);
        let removed = stack.spawn({
            let work = work.clone();
            move || remove(&work).unwrap()
        });
        removed.unwrap().join().unwrap();
        assert!(!work.exists());
    }
}
