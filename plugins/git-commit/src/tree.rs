//! What a commit changes: the files that a step brings, and what becomes of those that the repository has.
//!
//! [`scan`] reads the directories that were mapped, and refuses whatever is not a plain file. [`Plan::new`]
//! decides, without touching anything, what is written and what is deleted. It deletes only below a directory
//! that a mapping owns, and never puts a file where that would push out something that is not its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    input::{Executable, Placement},
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
    executable: bool,
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
        for entry in fs::read_dir(directory).map_err(broken)? {
            let path = entry.map_err(broken)?.path();
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

/// How git files an entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A plain file.
    Plain,
    /// An executable file.
    Executable,
    /// A symbolic link or a submodule.
    Other,
}

impl Mode {
    /// The digits that git writes for a file that we write.
    pub(crate) const fn digits(self) -> &'static str {
        match self {
            Self::Executable => "100755",
            Self::Plain | Self::Other => "100644",
        }
    }
}

/// The files of a commit, by path.
pub(crate) type Listing = BTreeMap<Vec<u8>, Mode>;

/// Reads what `git ls-tree -r -z` says; `None` where it does not say it in that form.
pub(crate) fn listing(stdout: &[u8]) -> Option<Listing> {
    let entry = |line: &[u8]| {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let mode = match line.get(..6)? {
            b"100644" | b"100664" => Mode::Plain,
            b"100755" => Mode::Executable,
            _ => Mode::Other,
        };
        Some((line[tab + 1..].to_vec(), mode))
    };
    stdout
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
        .map(entry)
        .collect()
}

/// What a commit changes in the files that a repository has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Files to delete.
    pub(crate) remove: Vec<Vec<u8>>,
    /// How each source is filed, in their order.
    pub(crate) modes: Vec<Mode>,
}

/// What was mapped does not fit into the repository.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("two files go to `{0}`")]
    Twice(Target),
    #[error("`{0}` is among the `protected` paths of this instance")]
    Protected(Target),
    #[error("`{0}` cannot be written: `{1}` is a file in its way that the step does not own")]
    FileInTheWay(Target, String),
    #[error("`{0}` cannot be written: it is a directory, with files in it that the step does not own")]
    DirectoryInTheWay(Target),
}

impl Plan {
    /// Plans how `sources` come into a repository that has `existing`.
    pub(crate) fn new(
        existing: &Listing,
        sources: &[Source],
        mappings: &[Placement],
        protected: &[Target],
        executable: Executable,
    ) -> Result<Self, PlanError> {
        let mut targets = BTreeSet::new();
        for source in sources {
            if protected
                .iter()
                .any(|path| path.guards(source.target.as_str().as_bytes()))
            {
                return Err(PlanError::Protected(source.target.clone()));
            }
            if !targets.insert(source.target.as_str().as_bytes()) {
                return Err(PlanError::Twice(source.target.clone()));
            }
        }
        let vanished = |path: &[u8]| {
            !targets.contains(path)
                && mappings.iter().any(|mapping| owns(mapping, path))
                && !mappings
                    .iter()
                    .any(|mapping| mapping.keep.iter().any(|kept| kept.guards(path)))
                && !protected.iter().any(|protected| protected.guards(path))
        };
        let remove: Vec<Vec<u8>> = existing.keys().filter(|path| vanished(path)).cloned().collect();
        let kept: BTreeSet<&[u8]> = existing
            .keys()
            .map(Vec::as_slice)
            .filter(|path| !vanished(path))
            .chain(targets.iter().copied())
            .collect();
        for source in sources {
            check_room(&source.target, &kept)?;
        }
        let mode = |source: &Source| {
            let known = existing.get(source.target.as_str().as_bytes());
            let runs = match executable {
                Executable::AsInRepository => known == Some(&Mode::Executable),
                Executable::AsInSource => source.executable,
                Executable::Never => false,
            };
            if runs { Mode::Executable } else { Mode::Plain }
        };
        Ok(Self {
            remove,
            modes: sources.iter().map(mode).collect(),
        })
    }
}

fn owns(mapping: &Placement, path: &[u8]) -> bool {
    mapping.own && mapping.to.holds(path)
}

/// Whether `target` can be a file beside all that stays.
fn check_room(target: &Target, kept: &BTreeSet<&[u8]>) -> Result<(), PlanError> {
    let path = target.as_str().as_bytes();
    let parents = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(end, _)| &path[..end]);
    for parent in parents {
        if kept.contains(parent) {
            let parent = String::from_utf8_lossy(parent).into_owned();
            return Err(PlanError::FileInTheWay(target.clone(), parent));
        }
    }
    let below = [path, b"/"].concat();
    match kept.range(below.as_slice()..).next() {
        Some(other) if other.starts_with(&below) => Err(PlanError::DirectoryInTheWay(target.clone())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn placement(to: &str, own: bool, keep: &[&str]) -> Placement {
        let to = Target::parse(to).unwrap();
        let keep = keep.iter().map(|path| to.join(path).unwrap()).collect();
        Placement {
            from: "/from".into(),
            own,
            keep,
            to,
        }
    }

    fn source(target: &str) -> Source {
        Source {
            path: "/from".into(),
            target: Target::parse(target).unwrap(),
            executable: true,
        }
    }

    fn existing(paths: &[&str]) -> Listing {
        paths
            .iter()
            .map(|path| (path.as_bytes().to_vec(), Mode::Plain))
            .collect()
    }

    fn plan(
        has: &[&str],
        brings: &[&str],
        mappings: &[Placement],
        executable: Executable,
    ) -> Result<Plan, PlanError> {
        let sources: Vec<_> = brings.iter().map(|target| source(target)).collect();
        let protected = [Target::parse(".github/").unwrap()];
        Plan::new(&existing(has), &sources, mappings, &protected, executable)
    }

    #[track_caller]
    fn removes(has: &[&str], brings: &[&str], mapping: Placement, expected: &[&str]) {
        let plan = plan(has, brings, &[mapping], Executable::default()).unwrap();
        assert_eq!(
            plan.remove,
            expected
                .iter()
                .map(|path| path.as_bytes().to_vec())
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn only_what_is_owned_and_vanished_is_deleted() {
        let has = ["a", "t/a", "t/b", "t/c/d", "t2/a", ".github/x"];
        removes(&has, &["t/a"], placement("t", false, &[]), &[]);
        removes(&has, &["t/a"], placement("t", true, &[]), &["t/b", "t/c/d"]);
        removes(&has, &["t/a"], placement("t", true, &["c/", "x"]), &["t/b"]);
        removes(
            &has,
            &["t/c"],
            placement("t", true, &[]),
            &["t/a", "t/b", "t/c/d"],
        );
        removes(&has, &["b"], placement("", true, &["t/"]), &["a", "t2/a"]);
    }

    #[test]
    fn nothing_is_pushed_out_that_is_not_owned() {
        for (has, brings, shown) in [
            (
                &["t"][..],
                &["t/a"][..],
                "`t/a` cannot be written: `t` is a file in its way that the step does not own",
            ),
            (
                &["t/a/b"],
                &["t/a"],
                "`t/a` cannot be written: it is a directory, with files in it that the step does not own",
            ),
            (
                &[],
                &["a", "a/b"],
                "`a` cannot be written: it is a directory, with files in it that the step does not own",
            ),
            (&[], &["a", "a"], "two files go to `a`"),
            (
                &[],
                &[".GitHub/workflows/x"],
                "`.GitHub/workflows/x` is among the `protected` paths of this instance",
            ),
        ] {
            let error = plan(has, brings, &[placement("", false, &[])], Executable::default()).unwrap_err();
            assert_eq!(error.to_string(), shown);
        }
    }

    #[test]
    fn the_executable_bit_follows_the_policy() {
        let existing = BTreeMap::from([(b"a".to_vec(), Mode::Executable), (b"b".to_vec(), Mode::Plain)]);
        let sources = [source("a"), source("b"), source("c")];
        for (policy, expected) in [
            (Executable::AsInRepository, ["100755", "100644", "100644"]),
            (Executable::AsInSource, ["100755"; 3]),
            (Executable::Never, ["100644"; 3]),
        ] {
            let plan = Plan::new(&existing, &sources, &[], &[], policy).unwrap();
            assert_eq!(
                plan.modes.iter().map(|mode| mode.digits()).collect::<Vec<_>>(),
                expected
            );
        }
    }

    #[test]
    fn a_listing_is_read_as_git_writes_it() {
        let text =
            b"100644 blob 12\ta b\n\xff\x00100755 blob 34\tb\x00120000 blob 56\tc\x00160000 commit 78\td/e\0";
        let listing = listing(text).unwrap();
        let modes: Vec<_> = listing.values().copied().collect();
        assert_eq!(modes, [Mode::Plain, Mode::Executable, Mode::Other, Mode::Other]);
        assert!(listing.contains_key(&b"a b\n\xff"[..]));
        assert_eq!(super::listing(b"not a tree"), None);
    }

    fn scanned(directory: &Path, from: &str) -> Result<Vec<String>, String> {
        let roots = [fs::canonicalize(directory).unwrap()];
        let bounds = Bounds {
            roots: &roots,
            max_files: 3,
            max_bytes: 100,
        };
        let mapping = Placement {
            from: directory.join(from),
            ..placement("t/", false, &[])
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

    proptest! {
        #[test]
        fn nothing_outside_an_owned_directory_is_deleted(
            has in prop::collection::btree_set("[ab]{1,2}(/[ab]{1,2}){0,2}", 0..12),
            brings in prop::collection::btree_set("[ab]{1,2}", 1..4),
            own: bool,
        ) {
            let has: Vec<&str> = has.iter().map(String::as_str).collect();
            let brings: Vec<String> = brings.iter().map(|name| format!("a/{name}")).collect();
            let brings: Vec<&str> = brings.iter().map(String::as_str).collect();
            if let Ok(plan) = plan(&has, &brings, &[placement("a", own, &[])], Executable::default()) {
                for path in &plan.remove {
                    let path = std::str::from_utf8(path).unwrap();
                    prop_assert!(own && path.starts_with("a/") && !brings.contains(&path));
                }
            }
        }
    }
}
