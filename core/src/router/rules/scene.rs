//! Rule files as they are watched.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use super::paths;
use crate::watch::{Mark, Scene};

/// The rule file at a path, or all rule files of the directory there.
#[derive(Debug)]
pub struct RuleFiles(pub PathBuf);

impl RuleFiles {
    fn look(&self) -> io::Result<BTreeMap<PathBuf, Mark>> {
        let files = paths(&self.0)?;
        // Of a link, what it leads to. A file that is gone by now is told by its absence.
        let marks = files
            .into_iter()
            .filter_map(|path| Some((fs::metadata(&path).ok()?, path)));
        Ok(marks.map(|(data, path)| (path, Mark::of(&data))).collect())
    }
}

impl Scene for RuleFiles {
    type Picture = Result<BTreeMap<PathBuf, Mark>, io::ErrorKind>;

    fn picture(&self) -> Self::Picture {
        self.look().map_err(|error| error.kind())
    }

    /// Those of the files, and those of what they link to.
    fn directories(&self) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for path in paths(&self.0).unwrap_or_default() {
            let target = fs::canonicalize(&path).ok();
            let parents = [Some(path), target].into_iter().flatten();
            directories.extend(parents.filter_map(|path| Some(path.parent()?.to_owned())));
        }
        if self.0.is_dir() {
            directories.push(self.0.clone());
        }
        directories.sort();
        directories.dedup();
        directories
    }

    fn name(&self) -> &'static str {
        "rule files"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_picture_changes_with_rule_files_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("routes.d");
        let scene = RuleFiles(dir.clone());
        fs::create_dir(&dir).unwrap();
        let mut last = scene.picture();
        let mut check = |what: &str, changes: bool| {
            let now = scene.picture();
            assert_eq!(now != last, changes, "{what}");
            last = now;
        };
        fs::write(dir.join("a.toml"), "# none").unwrap();
        check("a new file", true);
        fs::write(dir.join("a.toml~"), "# none").unwrap();
        fs::write(dir.join(".b.toml"), "# none").unwrap();
        fs::write(dir.join("a.case.toml"), "# none").unwrap();
        symlink("nobody@nowhere", dir.join(".#a.toml")).unwrap();
        check("cases, and what editors leave beside it", false);
        fs::write(dir.join("a.toml"), "# other").unwrap();
        check("written over in place", true);
        fs::rename(dir.join(".b.toml"), dir.join("a.toml")).unwrap();
        check("another renamed over it", true);
        fs::remove_file(dir.join("a.toml")).unwrap();
        check("none", true);
        fs::remove_dir_all(&dir).unwrap();
        check("no directory, hence a file that is missing", false);
    }

    #[test]
    fn a_link_is_watched_at_both_of_its_ends() {
        let home = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(home.path()).unwrap();
        for name in ["first", "second"] {
            fs::create_dir(home.join(name)).unwrap();
            fs::write(home.join(name).join("routes.toml"), "# none").unwrap();
        }
        symlink("first", home.join("..data")).unwrap();
        symlink("..data/routes.toml", home.join("routes.toml")).unwrap();
        let scene = RuleFiles(home.join("routes.toml"));
        assert_eq!(scene.directories(), [home.clone(), home.join("first")]);

        // As Kubernetes replaces what it mounts.
        let before = scene.picture();
        symlink("second", home.join("..new")).unwrap();
        fs::rename(home.join("..new"), home.join("..data")).unwrap();
        assert_ne!(scene.picture(), before);
    }
}
