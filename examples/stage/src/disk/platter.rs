//! What is on the disk, and what would be if the power failed now.
//!
//! Files and the names that lead to them are two things, as POSIX has it: a file's sync puts its bytes on disk and not its
//! name, and a directory's sync its names and not their files' bytes. What was not synced may be there or not, in any
//! combination; a write may have been torn where sectors meet; and where a file has grown but not all that was written to
//! it is there, there is garbage. What was written before a sync that failed is lost, as on Linux: it is seen as long as the machine
//! runs, and no later sync writes it.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use fastrand::Rng;

use super::recording::{Change, Handle};

/// The state of a disk after some changes.
#[derive(Debug, Default)]
pub struct Platter {
    files: Vec<File>,
    /// The names as they are on disk.
    kept: Names,
    /// The names as the program sees them.
    seen: Names,
    /// Changes of names since their directories were synced: each is one, whole or not at all.
    renamings: Vec<Vec<(PathBuf, Option<Node>)>>,
    open: HashMap<Handle, (PathBuf, Node)>,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    /// Since then.
    edits: Vec<Edit>,
}

#[derive(Debug)]
enum Edit {
    Write(u64, Vec<u8>),
    Cut(u64),
}

/// What of that which was not synced survives a power cut.
#[derive(Debug)]
pub enum Survivors {
    /// Nothing: the disk had a large cache, and no mercy.
    None,
    /// Everything: it was quick.
    All,
    /// Any of the writes and names, each whole.
    Some(Rng),
    /// Any sectors of any writes.
    Torn(Rng),
}

impl Platter {
    /// Goes on by one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Created(handle, path) => {
                let node = Node::File(self.files.len());
                self.files.push(File::default());
                self.rename(vec![(path.clone(), Some(node))]);
                self.open.insert(*handle, (path.clone(), node));
            }
            Change::Opened(handle, path) => {
                // The root and what was in it before are directories that nobody doubts.
                let node = self.seen.get(path).copied().unwrap_or(Node::Directory);
                self.open.insert(*handle, (path.clone(), node));
            }
            Change::Closed(handle) => {
                self.open.remove(handle);
            }
            Change::Written(handle, offset, bytes) => {
                self.edit(*handle, Edit::Write(*offset, bytes.clone()));
            }
            Change::Cut(handle, length) => self.edit(*handle, Edit::Cut(*length)),
            Change::Synced(handle) => self.sync(*handle),
            Change::Failed(handle) => {
                if let Some((_, Node::File(file))) = self.open.get(handle) {
                    self.files[*file].edits.clear();
                }
            }
            Change::Removed(path) => self.rename(vec![(path.clone(), None)]),
            Change::Renamed(from, to) => {
                if let Some(node) = self.seen.get(from).copied() {
                    self.rename(vec![(to.clone(), Some(node)), (from.clone(), None)]);
                }
            }
            Change::Directory(path) => self.rename(vec![(path.clone(), Some(Node::Directory))]),
        }
    }

    fn rename(&mut self, renaming: Vec<(PathBuf, Option<Node>)>) {
        enter(&mut self.seen, &renaming);
        self.renamings.push(renaming);
    }

    fn edit(&mut self, handle: Handle, edit: Edit) {
        if let Some((_, Node::File(file))) = self.open.get(&handle) {
            self.files[*file].edits.push(edit);
        }
    }

    fn sync(&mut self, handle: Handle) {
        match self.open.get(&handle) {
            Some((_, Node::File(file))) => {
                let file = &mut self.files[*file];
                for edit in std::mem::take(&mut file.edits) {
                    edit.make(&mut file.synced, &mut Survivors::All);
                }
            }
            Some((directory, Node::Directory)) => {
                let of_it = |renaming: &mut Vec<(PathBuf, Option<Node>)>| {
                    renaming.iter().any(|(path, _)| path.parent() == Some(directory))
                };
                for renaming in self.renamings.extract_if(.., of_it) {
                    enter(&mut self.kept, &renaming);
                }
            }
            None => {}
        }
    }

    /// How much is at stake: what was written and named and not yet synced.
    pub fn unsynced(&self) -> usize {
        self.renamings.len() + self.files.iter().map(|file| file.edits.len()).sum::<usize>()
    }

    /// Writes into the empty directory `to` what is there if the power fails now.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written.
    pub fn power_cut(&self, mut survivors: Survivors, to: &Path) -> io::Result<()> {
        let mut names = self.kept.clone();
        for renaming in &self.renamings {
            if survivors.one() {
                enter(&mut names, renaming);
            }
        }
        for (path, node) in names {
            let at = to.join(&path);
            // A name in a directory that is lost is lost as well.
            if !at.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Directory => DirBuilder::new().mode(0o700).create(at)?,
                Node::File(file) => OpenOptions::new()
                    .create_new(true)
                    .write(true)
                    .mode(0o600)
                    .open(at)?
                    .write_all(&self.files[file].survives(&mut survivors))?,
            }
        }
        Ok(())
    }

    /// Empties the directory that a power cut was written to.
    ///
    /// # Errors
    ///
    /// Where something cannot be removed.
    pub fn wipe(directory: &Path) -> io::Result<()> {
        fs::remove_dir_all(directory)?;
        fs::create_dir(directory)
    }
}

fn enter(names: &mut Names, renaming: &[(PathBuf, Option<Node>)]) {
    for (path, node) in renaming {
        match node {
            Some(node) => names.insert(path.clone(), *node),
            None => names.remove(path),
        };
    }
}

impl File {
    fn survives(&self, survivors: &mut Survivors) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for edit in &self.edits {
            edit.make(&mut bytes, survivors);
        }
        bytes
    }
}

impl Edit {
    /// Makes as much of it as survives.
    fn make(&self, bytes: &mut Vec<u8>, survivors: &mut Survivors) {
        match self {
            Self::Cut(length) => {
                if survivors.one() {
                    bytes.resize(size(*length), 0);
                }
            }
            Self::Write(offset, written) => {
                let mut at = size(*offset);
                for part in written.chunks(survivors.unit(written.len())) {
                    if survivors.one() {
                        if bytes.len() < at + part.len() {
                            bytes.resize(at + part.len(), survivors.gap());
                        }
                        bytes[at..at + part.len()].copy_from_slice(part);
                    }
                    at += part.len();
                }
            }
        }
    }
}

impl Survivors {
    fn one(&mut self) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(random) | Self::Torn(random) => random.bool(),
        }
    }

    /// How much of a write survives or does not, as a whole.
    fn unit(&self, length: usize) -> usize {
        match self {
            Self::Torn(_) => SECTOR,
            Self::None | Self::All | Self::Some(_) => length.max(1),
        }
    }

    /// What is where a file has grown and nothing was written.
    fn gap(&mut self) -> u8 {
        match self {
            Self::Torn(random) => random.u8(..),
            Self::None | Self::All | Self::Some(_) => 0,
        }
    }
}

fn size(length: u64) -> usize {
    usize::try_from(length).expect("files of a test fit into memory")
}

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Handle = (1, 3);
    const ROOT: Handle = (1, 4);

    fn written(text: &str) -> Change {
        Change::Written(FILE, 0, text.into())
    }

    /// What is in `data` after a power cut, if it is there.
    fn after(changes: &[Change], survivors: Survivors) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let mut platter = Platter::default();
        changes.iter().for_each(|change| platter.apply(change));
        platter.power_cut(survivors, directory.path()).unwrap();
        fs::read_to_string(directory.path().join("data")).ok()
    }

    #[test]
    fn a_file_needs_its_own_sync_and_that_of_its_directory() {
        let made = [
            Change::Created(FILE, "data".into()),
            Change::Opened(ROOT, "".into()),
            written("old"),
        ];
        let with = |more: &[Change]| [&made, more].concat();
        let (file, names) = (Change::Synced(FILE), Change::Synced(ROOT));
        assert_eq!(after(&made, Survivors::None), None);
        assert_eq!(after(&made, Survivors::All).as_deref(), Some("old"));
        assert_eq!(after(&with(std::slice::from_ref(&file)), Survivors::None), None);
        assert_eq!(
            after(&with(std::slice::from_ref(&names)), Survivors::None).as_deref(),
            Some("")
        );
        let both = with(&[file.clone(), names.clone()]);
        assert_eq!(after(&both, Survivors::None).as_deref(), Some("old"));

        let newer = [&both[..], &[written("new")]].concat();
        assert_eq!(after(&newer, Survivors::None).as_deref(), Some("old"));
        assert_eq!(after(&newer, Survivors::All).as_deref(), Some("new"));
        let failed = [&newer[..], &[Change::Failed(FILE), file.clone()]].concat();
        assert_eq!(after(&failed, Survivors::All).as_deref(), Some("old"));
        let removed = [&newer[..], &[file, Change::Removed("data".into())]].concat();
        assert_eq!(after(&removed, Survivors::None).as_deref(), Some("new"));
        assert_eq!(after(&removed, Survivors::All), None);
        assert_eq!(after(&[&removed[..], &[names]].concat(), Survivors::None), None);
    }

    #[test]
    fn any_part_of_what_was_not_synced_may_survive_and_writes_are_torn_between_sectors() {
        let write = |sector: u64, letter: u8| Change::Written(FILE, sector * 512, vec![letter; 1024]);
        let changes = [
            Change::Created(FILE, "data".into()),
            Change::Opened(ROOT, "".into()),
            Change::Synced(ROOT),
            Change::Cut(FILE, 2048),
            Change::Synced(FILE),
            write(0, b'a'),
            write(2, b'b'),
        ];
        let seen = |survivors: fn(Rng) -> Survivors| {
            let forms = (0..64).map(|seed| after(&changes, survivors(Rng::with_seed(seed))).unwrap());
            let first_of_each = |text: String| text.bytes().step_by(512).collect::<Vec<_>>();
            forms
                .map(first_of_each)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        assert_eq!(seen(Survivors::Some), 4);
        assert_eq!(seen(Survivors::Torn), 16);
    }
}
