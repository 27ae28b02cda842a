//! Files that people keep and a command writes: another text takes the place of the whole one, or of nothing.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Puts `text` into the file at `path`, made where there is none: whole, or what is there stays. Of a link it is what it leads
/// to, and the permissions stay.
///
/// # Errors
///
/// Where it cannot be written, or not beside it.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (path, permissions) = match fs::canonicalize(path) {
        Ok(path) => {
            let permissions = fs::metadata(&path)?.permissions();
            (path, Some(permissions))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
        Err(error) => return Err(error),
    };
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let written = fs::write(&beside, text)
        .and_then(|()| match permissions {
            Some(permissions) => fs::set_permissions(&beside, permissions),
            None => Ok(()),
        })
        .and_then(|()| File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        // What is left of it is nobody's, and the next try writes over it.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, beside] =
            ["a.case.toml", "b.case.toml", "a.case.toml.new"].map(|name| directory.path().join(name));
        replace(&file, "old").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && !beside.exists());

        // Nothing can be written.
        fs::create_dir(&beside).unwrap();
        replace(&file, "newer").unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }
}
