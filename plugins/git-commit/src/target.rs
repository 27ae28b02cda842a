//! Paths inside a repository: what a rule or an artifact may name there.

use std::fmt;

/// A path inside a repository, checked: names joined with `/`, none of them special. Empty for the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    path: String,
    directory: bool,
}

/// The text is not a path inside a repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("path {0:?} is absolute: it must be relative to the repository's root")]
    Absolute(String),
    #[error("path {0:?} holds a control character or a backslash")]
    Character(String),
    #[error("path {0:?} holds the name {1:?}, which leaves the repository or belongs to git")]
    Name(String, String),
    #[error("path {0:?} is longer than {LONGEST} bytes")]
    TooLong(String),
}

const LONGEST: usize = 4000;

impl Target {
    /// Reads a path; one that ends with `/`, `.` and the empty one are directories.
    pub(crate) fn parse(text: &str) -> Result<Self, TargetError> {
        if text.starts_with('/') {
            return Err(TargetError::Absolute(text.to_owned()));
        }
        if text.len() > LONGEST {
            return Err(TargetError::TooLong(text.chars().take(80).collect()));
        }
        if text.contains(|c: char| c.is_control() || c == '\\') {
            return Err(TargetError::Character(text.to_owned()));
        }
        let path = if matches!(text, "." | "./") { "" } else { text };
        let names = path.strip_suffix('/').unwrap_or(path);
        if !names.is_empty()
            && let Some(name) = names.split('/').find(|name| is_special(name))
        {
            return Err(TargetError::Name(text.to_owned(), name.to_owned()));
        }
        Ok(Self {
            path: names.to_owned(),
            directory: names.len() < path.len() || names.is_empty(),
        })
    }

    /// Whether it was written as a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.directory
    }

    /// Whether it is the repository's root.
    pub(crate) fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// The path of `name`, relative and below this one.
    pub(crate) fn join(&self, name: &str) -> Result<Self, TargetError> {
        let path = if self.is_root() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.path)
        };
        Self::parse(&path)
    }

    /// Whether `path` lies below this one.
    pub(crate) fn holds(&self, path: &[u8]) -> bool {
        let own = self.path.as_bytes();
        own.is_empty() || path.strip_prefix(own).is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Whether `path` is this one or lies below it, whatever the case of its letters.
    pub(crate) fn guards(&self, path: &[u8]) -> bool {
        let own = self.path.as_bytes();
        let same = path
            .get(..own.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(own));
        same && (own.is_empty() || matches!(path.get(own.len()), None | Some(b'/')))
    }

    /// The path itself, without a slash at its end.
    pub(crate) fn as_str(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { &self.path })
    }
}

/// Whether a name is, to git on some file system, something else than a name.
///
/// macOS ignores some characters and letter case; Windows ignores letter case, and dots and spaces at the end, knows
/// `git~1` as a short name for `.git`, and streams after a colon.
fn is_special(name: &str) -> bool {
    let visible: String = name.chars().filter(|c| !is_ignored(*c)).collect();
    let folded = visible
        .split(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches(['.', ' '])
        .to_ascii_lowercase();
    matches!(visible.as_str(), "" | "." | "..") || matches!(folded.as_str(), ".git" | "git~1")
}

const fn is_ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_plain_names() {
        for (text, path, directory) in [
            ("", "", true),
            (".", "", true),
            ("./", "", true),
            ("tokens", "tokens", false),
            ("tokens/", "tokens", true),
            ("a/b.json", "a/b.json", false),
            (".github/x", ".github/x", false),
            ("git", "git", false),
            ("a b/ü", "a b/ü", false),
            ("-x", "-x", false),
            ("...", "...", false),
            (":root.css", ":root.css", false),
            (".gitignore", ".gitignore", false),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(
                (target.as_str(), target.is_directory()),
                (path, directory),
                "{text}"
            );
        }
    }

    #[test]
    fn what_leaves_the_repository_or_belongs_to_git_is_refused() {
        for text in [
            "/",
            "/etc",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "a//b",
            "//",
            "a/./b",
            "./a",
            ".git",
            ".git/config",
            "a/.git/x",
            ".GIT/x",
            ".Git",
            ".git./x",
            ".git /x",
            "git~1/x",
            "GIT~1",
            ".git::$INDEX_ALLOCATION/x",
            ".g\u{200c}it/x",
            "a\\b",
            "a\nb",
            "a\0b",
            "\u{7f}",
            "a\u{85}",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
        assert!(Target::parse(&"a/".repeat(LONGEST)).is_err());
    }

    #[test]
    fn joining_checks_again() {
        let tokens = Target::parse("tokens/").unwrap();
        assert_eq!(tokens.join("a/b").unwrap().as_str(), "tokens/a/b");
        assert_eq!(Target::parse("").unwrap().join("a").unwrap().as_str(), "a");
        assert!(tokens.join("../a").is_err());
        assert!(tokens.join(".git").is_err());
    }

    #[test]
    fn holding_goes_by_whole_names() {
        let tokens = Target::parse("tokens").unwrap();
        assert!(tokens.holds(b"tokens/a") && !tokens.holds(b"tokens") && !tokens.holds(b"tokens2/a"));
        assert!(Target::parse("").unwrap().holds(b"a"));
        let github = Target::parse(".github/").unwrap();
        assert!(github.guards(b".github/x") && github.guards(b".GitHub") && !github.guards(b".github2/x"));
    }
}
