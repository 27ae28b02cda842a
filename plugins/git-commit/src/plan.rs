//! What a commit changes: which files are written, which are deleted, and which executable.
//!
//! It is decided here without touching anything. Nothing is deleted but below a directory that a mapping owns, and no file
//! is put where it would push out something that is not the step's own.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    input::{Executable, Placement},
    scan::Source,
    target::Target,
};

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
