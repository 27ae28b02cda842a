//! The names in an archive, each checked alone and against all those before it.
//!
//! What goes in is a name as the archive's author wrote it; what comes out is a path that lies inside the directory
//! on every file system, spelled one way only. Nothing is repaired: an archive with one bad name is refused whole.

use std::collections::HashMap;

/// The names of an archive so far.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By their lower-case form, as a file system that ignores case would know them.
    taken: HashMap<String, Taken>,
}

#[derive(Debug)]
struct Taken {
    spelling: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    /// A directory with an entry of its own.
    Directory,
    /// A directory that some name passes through.
    Implied,
}

/// Why a name is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name holds a character that has no business in a name.
    #[error("it holds {0}")]
    Character(&'static str),
    /// The name starts at a root or at a drive.
    #[error("it is absolute")]
    Absolute,
    /// A component is `..`, `.` or nothing.
    #[error("it has the component `{0}`")]
    Component(String),
    /// A component, or the whole, is longer than file systems allow.
    #[error("it is too long or too deep")]
    Long,
    /// The same name stands in the archive before.
    #[error("it stands there twice")]
    Twice,
    /// Another name differs from it by case alone.
    #[error("it differs from `{0}` only by case")]
    Case(String),
    /// What is a file for one entry is a directory for another.
    #[error("`{0}` is both a file and a directory")]
    FileAndDirectory(String),
}

impl Names {
    /// Takes the name of a file or, where it ends with a slash, of a directory; gives it without that slash.
    pub(crate) fn admit<'a>(&mut self, name: &'a str) -> Result<&'a str, NameError> {
        let (path, kind) = match name.strip_suffix('/') {
            Some(path) => (path, Kind::Directory),
            None => (name, Kind::File),
        };
        check(path)?;
        for (slash, _) in path.match_indices('/') {
            self.take(&path[..slash], Kind::Implied)?;
        }
        self.take(path, kind)?;
        Ok(path)
    }

    /// How many files and directories there are by now, with those that names only pass through.
    pub(crate) fn count(&self) -> u64 {
        self.taken.len() as u64
    }

    fn take(&mut self, path: &str, kind: Kind) -> Result<(), NameError> {
        let Some(before) = self.taken.get_mut(&path.to_lowercase()) else {
            let spelling = path.to_owned();
            self.taken.insert(path.to_lowercase(), Taken { spelling, kind });
            return Ok(());
        };
        if before.spelling != path {
            return Err(NameError::Case(before.spelling.clone()));
        }
        match (before.kind, kind) {
            (Kind::Directory | Kind::Implied, Kind::Implied) => Ok(()),
            (Kind::Implied, Kind::Directory) => {
                before.kind = Kind::Directory;
                Ok(())
            }
            (Kind::File, Kind::File) | (Kind::Directory, Kind::Directory) => Err(NameError::Twice),
            (Kind::File, Kind::Directory | Kind::Implied) | (Kind::Directory | Kind::Implied, Kind::File) => {
                Err(NameError::FileAndDirectory(path.to_owned()))
            }
        }
    }
}

fn check(path: &str) -> Result<(), NameError> {
    if path.is_empty() {
        return Err(NameError::Empty);
    }
    if path.starts_with('/') {
        return Err(NameError::Absolute);
    }
    if let Some(found) = path.chars().find_map(misplaced) {
        return Err(NameError::Character(found));
    }
    if path.len() > MAX_PATH || path.split('/').count() > MAX_DEPTH {
        return Err(NameError::Long);
    }
    path.split('/').try_for_each(check_component)
}

/// The word for a character that no name should hold.
fn misplaced(character: char) -> Option<&'static str> {
    match character {
        '\0' => Some("a NUL"),
        '\\' => Some("a backslash"),
        // As a drive letter (`C:`) or an alternate stream (`a:b`), Windows reads more into it than a name.
        ':' => Some("a colon"),
        _ if character.is_control() => Some("a control character"),
        // They turn a name around on the screen of whoever looks at it.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some("a change of writing direction"),
        _ => None,
    }
}

fn check_component(component: &str) -> Result<(), NameError> {
    match component {
        "" | "." | ".." => Err(NameError::Component(component.to_owned())),
        _ if component.len() > MAX_COMPONENT => Err(NameError::Long),
        _ => Ok(()),
    }
}

/// Bytes in a component: what ext4, XFS and APFS take.
const MAX_COMPONENT: usize = 255;
/// Bytes in a path within the archive; with the directory before it, it stays below the system's 4096.
const MAX_PATH: usize = 1024;
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(names: &[&str], expected: &str) {
        let mut taken = Names::default();
        let (last, first) = names.split_last().unwrap();
        for name in first {
            taken.admit(name).unwrap();
        }
        assert_eq!(taken.admit(last).unwrap_err().to_string(), expected, "{names:?}");
    }

    #[test]
    fn hostile_names_are_refused() {
        for (name, expected) in [
            ("", "the name is empty"),
            ("/", "the name is empty"),
            ("//", "it is absolute"),
            ("/etc/passwd", "it is absolute"),
            ("../evil", "it has the component `..`"),
            ("a/../../evil", "it has the component `..`"),
            ("a/..", "it has the component `..`"),
            ("../", "it has the component `..`"),
            ("./a", "it has the component `.`"),
            ("a//b", "it has the component ``"),
            ("a//", "it has the component ``"),
            ("C:/Windows/evil", "it holds a colon"),
            ("C:evil", "it holds a colon"),
            ("a:stream", "it holds a colon"),
            ("..\\evil", "it holds a backslash"),
            ("\\\\server\\share", "it holds a backslash"),
            ("a\0b", "it holds a NUL"),
            ("a\nb", "it holds a control character"),
            ("gpj.\u{202e}exe", "it holds a change of writing direction"),
            (&"a".repeat(256), "it is too long or too deep"),
            (&"a/".repeat(64), "it is too long or too deep"),
        ] {
            if name == "a/".repeat(64) {
                refused(&[&format!("{name}b")], expected);
            } else {
                refused(&[name], expected);
            }
        }
    }

    #[test]
    fn names_that_collide_are_refused() {
        refused(&["a", "a"], "it stands there twice");
        refused(&["a/", "a/"], "it stands there twice");
        refused(&["README", "readme"], "it differs from `README` only by case");
        refused(&["Icons/a", "icons/b"], "it differs from `Icons` only by case");
        refused(&["STRASSE", "strasse"], "it differs from `STRASSE` only by case");
        refused(&["ÄÖÜ", "äöü"], "it differs from `ÄÖÜ` only by case");
        refused(&["a", "a/b"], "`a` is both a file and a directory");
        refused(&["a/b", "a"], "`a` is both a file and a directory");
        refused(&["a", "a/"], "`a` is both a file and a directory");
        refused(&["a/", "a"], "`a` is both a file and a directory");
    }

    #[test]
    fn ordinary_names_pass() {
        let mut names = Names::default();
        for (name, path) in [
            ("tokens.json", "tokens.json"),
            ("css/", "css"),
            ("css/colors.css", "css/colors.css"),
            ("css/spacing.css", "css/spacing.css"),
            ("ios/Colors.swift", "ios/Colors.swift"),
            ("ios/", "ios"),
            (".well-known", ".well-known"),
            ("...", "..."),
            ("Größe/日本語 (1).svg", "Größe/日本語 (1).svg"),
        ] {
            assert_eq!(names.admit(name), Ok(path));
        }
    }
}
