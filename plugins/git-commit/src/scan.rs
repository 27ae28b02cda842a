//! What a step brings: the files below the directories that it maps, and nothing that is not a plain file.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    input::Placement,
    target::{Target, TargetError},
};

/// How deep directories may nest.
const DEEPEST: usize = 64;

/// A file that a step brings.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Where it goes.
    pub(crate) target: Target,
    /// Whether it is executable there.
    pub(crate) executable: bool,
}

/// Where files may come from, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    /// The directories that files may lie in.
    pub(crate) roots: &'a [PathBuf],
    pub(crate) max_files: usize,
    pub(crate) max_bytes: u64,
}

/// What was mapped cannot be committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("`from` is {0:?}, which does not exist")]
    Missing(PathBuf),
    #[error(
        "`from` is {0:?}, which lies outside the delivery's work directory and the `sources` of this instance"
    )]
    Outside(PathBuf),
    #[error("{0:?} is a {1}: only plain files and directories can be committed")]
    Special(PathBuf, &'static str),
    #[error("{0:?} has a name that is not UTF-8")]
    Name(PathBuf),
    #[error(
        "{0:?} has a control character in its path, such as a line break: git is told of files line by line"
    )]
    Character(PathBuf),
    #[error("directories nest deeper than {DEEPEST} levels at {0:?}")]
    TooDeep(PathBuf),
    #[error("there are more than {0} files, the `max_files` of this instance")]
    TooMany(usize),
    #[error("the files have more than {0} bytes, the `max_bytes` of this instance")]
    TooLarge(u64),
    #[error("`from` is {0:?}, which holds no file: an empty artifact is taken for a mistake")]
    Empty(PathBuf),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{0:?} cannot be read: {1}")]
    Io(PathBuf, #[source] io::Error),
}

/// The files of all mappings.
pub(crate) fn scan(mappings: &[Placement], bounds: Bounds<'_>) -> Result<Vec<Source>, ScanError> {
    let mut scan = Scan {
        bounds,
        found: Vec::new(),
        bytes: 0,
    };
    for mapping in mappings {
        scan.mapping(mapping)?;
    }
    Ok(scan.found)
}

struct Scan<'a> {
    bounds: Bounds<'a>,
    found: Vec<Source>,
    bytes: u64,
}

impl Scan<'_> {
    fn mapping(&mut self, mapping: &Placement) -> Result<(), ScanError> {
        let from = &mapping.from;
        let metadata = metadata(from)?;
        let real = fs::canonicalize(from).map_err(|error| ScanError::Io(from.clone(), error))?;
        if !self.bounds.roots.iter().any(|root| real.starts_with(root)) {
            return Err(ScanError::Outside(from.clone()));
        }
        if metadata.is_dir() {
            let before = self.found.len();
            self.directory(&real, &mapping.to, 0)?;
            return if self.found.len() > before {
                Ok(())
            } else {
                Err(ScanError::Empty(from.clone()))
            };
        }
        let target = match mapping.to.is_directory() {
            true => mapping.to.join(name(&real)?)?,
            false => mapping.to.clone(),
        };
        self.file(real, &metadata, target)
    }

    fn directory(&mut self, directory: &Path, to: &Target, depth: usize) -> Result<(), ScanError> {
        if depth > DEEPEST {
            return Err(ScanError::TooDeep(directory.to_owned()));
        }
        let broken = |error| ScanError::Io(directory.to_owned(), error);
        let entries = fs::read_dir(directory).map_err(broken)?;
        let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.map_err(broken)?;
        // What is wrong is told alike by every attempt.
        paths.sort();
        for path in paths {
            let target = to.join(name(&path)?)?;
            let metadata = metadata(&path)?;
            if metadata.is_dir() {
                self.directory(&path, &target, depth + 1)?;
            } else {
                self.file(path, &metadata, target)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, metadata: &fs::Metadata, target: Target) -> Result<(), ScanError> {
        if !metadata.is_file() {
            let kind = if metadata.is_symlink() {
                "symbolic link"
            } else {
                "special file"
            };
            return Err(ScanError::Special(path, kind));
        }
        // What a rule maps has been looked at by nobody else; of what lies below it, the names have.
        if path.as_os_str().as_bytes().iter().any(u8::is_ascii_control) {
            return Err(ScanError::Character(path));
        }
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > self.bounds.max_bytes {
            return Err(ScanError::TooLarge(self.bounds.max_bytes));
        }
        if self.found.len() == self.bounds.max_files {
            return Err(ScanError::TooMany(self.bounds.max_files));
        }
        let executable = metadata.permissions().mode() & 0o111 != 0;
        self.found.push(Source {
            path,
            target,
            executable,
        });
        Ok(())
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, ScanError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ScanError::Missing(path.to_owned()),
        _ => ScanError::Io(path.to_owned(), error),
    })?;
    match metadata.is_symlink() {
        true => Err(ScanError::Special(path.to_owned(), "symbolic link")),
        false => Ok(metadata),
    }
}

fn name(path: &Path) -> Result<&str, ScanError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ScanError::Name(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scanned(directory: &Path, from: &str) -> Result<Vec<String>, String> {
        placed(directory, from, "t/")
    }

    fn placed(directory: &Path, from: &str, to: &str) -> Result<Vec<String>, String> {
        let roots = [fs::canonicalize(directory).unwrap()];
        let bounds = Bounds {
            roots: &roots,
            max_files: 3,
            max_bytes: 100,
        };
        let mapping = Placement {
            from: directory.join(from),
            to: Target::parse(to).unwrap(),
            own: false,
            keep: Vec::new(),
        };
        let mut targets: Vec<_> = scan(&[mapping], bounds)
            .map_err(|error| error.to_string().replace(directory.to_str().unwrap(), "…"))?
            .into_iter()
            .map(|source| source.target.to_string())
            .collect();
        targets.sort();
        Ok(targets)
    }

    #[test]
    fn only_plain_files_inside_the_work_directory_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["good/sub", "empty/sub", "link", "git/.git", "many", "deep"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in [
            "good/a",
            "good/sub/b",
            "git/.git/config",
            "many/1",
            "many/2",
            "many/3",
            "many/4",
            "line\nbreak",
        ] {
            fs::write(at(path), "x").unwrap();
        }
        fs::write(at("large"), vec![0; 101]).unwrap();
        symlink("/etc/passwd", at("link/passwd")).unwrap();
        symlink("/etc", at("etc")).unwrap();
        fs::create_dir_all(at(&"deep/".repeat(DEEPEST + 3))).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();

        assert_eq!(scanned(directory.path(), "good").unwrap(), ["t/a", "t/sub/b"]);
        assert_eq!(scanned(directory.path(), "good/a").unwrap(), ["t/a"]);
        for (from, shown) in [
            ("gone", r#"`from` is "…/gone", which does not exist"#),
            ("good/a/b", r#"`from` is "…/good/a/b", which does not exist"#),
            (
                "empty",
                r#"`from` is "…/empty", which holds no file: an empty artifact is taken for a mistake"#,
            ),
            (
                "link",
                r#""…/link/passwd" is a symbolic link: only plain files and directories can be committed"#,
            ),
            (
                "etc",
                r#""…/etc" is a symbolic link: only plain files and directories can be committed"#,
            ),
            (
                "etc/passwd",
                r#"`from` is "…/etc/passwd", which lies outside the delivery's work directory and the `sources` of this instance"#,
            ),
            (
                "/etc/passwd",
                r#"`from` is "/etc/passwd", which lies outside the delivery's work directory and the `sources` of this instance"#,
            ),
            (
                "..",
                r#"`from` is "…/..", which lies outside the delivery's work directory and the `sources` of this instance"#,
            ),
            (
                "socket",
                r#""…/socket" is a special file: only plain files and directories can be committed"#,
            ),
            (
                "git",
                r#"path "t/.git" holds the name ".git", which leaves the repository or belongs to git"#,
            ),
            (
                "many",
                "there are more than 3 files, the `max_files` of this instance",
            ),
            (
                "large",
                "the files have more than 100 bytes, the `max_bytes` of this instance",
            ),
        ] {
            assert_eq!(scanned(directory.path(), from).unwrap_err(), shown);
        }
        assert!(
            scanned(directory.path(), "deep")
                .unwrap_err()
                .starts_with("directories nest deeper than 64")
        );
        assert!(
            scanned(directory.path(), "line\nbreak")
                .unwrap_err()
                .contains("control character")
        );
    }

    #[test]
    fn a_file_is_one_line_to_git_wherever_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("a\n/etc")).unwrap();
        fs::write(at("a\n/etc/hosts"), "x").unwrap();
        fs::write(at("b\r"), "x").unwrap();
        for (from, to) in [
            ("a\n/etc/hosts", "a.txt"),
            ("a\n/etc/hosts", "t/"),
            ("a\n", "t/"),
            ("a\n/etc", ""),
            ("b\r", "b.txt"),
        ] {
            let error = placed(directory.path(), from, to).unwrap_err();
            assert!(
                error.contains("has a control character in its path"),
                "{from:?}: {error}"
            );
        }
    }
}
