//! A mirror of one branch: a bare repository in the cache, in which commits are made without a checkout.
//!
//! In come the tip of a branch and the files of a step, out goes a commit, and then a push that succeeds only
//! on the very tip that the commit was made on. A mirror holds nothing of its own: any that turns out broken is
//! thrown away and fetched anew.

mod advertised;

use std::{
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use jackfield_sdk::Error;

use self::advertised::Advertised;
use crate::{
    cache::{Lock, TEMPORARY, short_hash},
    git::{Failure, Git},
    input::{Branch, Create, Job},
    message::{Identity, carries},
    plan::{self, Listing, Plan},
    push::{self, Verdict},
    remote::Remote,
    scan::Source,
};

/// How many commits are searched for one of ours.
const SEARCHED: &str = "--max-count=20000";

/// A mirror, and the right to use it.
pub(crate) struct Mirror<'a> {
    git: Git,
    remote: &'a Remote,
    lock: &'a Lock,
}

/// The branch as the remote has it.
#[derive(Clone, Debug)]
pub(crate) struct Tip {
    /// The branch.
    pub(crate) branch: Branch,
    /// Where the remote has it; `None` where it has no such branch yet.
    pub(crate) expected: Option<String>,
    /// What a commit is made on; `None` where it is to be the first.
    pub(crate) parent: Option<String>,
}

impl<'a> Mirror<'a> {
    /// The mirror of `remote` that `lock` is the right to use.
    pub(crate) fn new(git: &Git, remote: &'a Remote, lock: &'a Lock) -> Self {
        Self {
            git: git.clone(),
            remote,
            lock,
        }
    }

    /// Asks the remote where the branch is, and brings the mirror there.
    pub(crate) async fn fetch(&mut self, job: &Job) -> Result<Tip, Failure> {
        let advertised = Advertised::ask(&self.git, self.remote, job.branch.as_ref()).await?;
        let branch = advertised.branch.clone();
        let Some((from, sha)) = self.start(&advertised, job.create).await? else {
            self.open("sha1")?;
            return Ok(Tip {
                branch,
                expected: None,
                parent: None,
            });
        };
        self.open(if sha.len() == 64 { "sha256" } else { "sha1" })?;
        let parent = self.bring(&from, &sha).await?;
        let expected = advertised.tip.is_some().then(|| parent.clone());
        Ok(Tip {
            branch,
            expected,
            parent: Some(parent),
        })
    }

    /// The branch that a commit is made on, and where the remote has it; `None` where it is to be the first.
    async fn start(
        &self,
        advertised: &Advertised,
        create: Create,
    ) -> Result<Option<(Branch, String)>, Failure> {
        if let Some(tip) = &advertised.tip {
            return Ok(Some((advertised.branch.clone(), tip.clone())));
        }
        let may_begin = match create {
            Create::Orphan => true,
            Create::FromDefault if advertised.head.is_some() => return Ok(advertised.head.clone()),
            Create::FromDefault | Create::Never => advertised.is_empty(&self.git, self.remote).await?,
        };
        if may_begin {
            return Ok(None);
        }
        let (remote, branch) = (self.remote, advertised.branch.as_str());
        let way_out = match create {
            Create::FromDefault => "it also tells no default branch to create it from",
            Create::Orphan | Create::Never => "make it, or let `create` say how",
        };
        Err(Failure::Call(Error::fatal(format!(
            "{remote} has no branch `{branch}`: {way_out}"
        ))))
    }

    /// The commit that an earlier attempt pushed: one after `base` that carries the key.
    pub(crate) async fn find(
        &self,
        tip: &str,
        base: Option<&str>,
        key: &str,
    ) -> Result<Option<String>, Failure> {
        let mut args = vec![
            "log",
            "-z",
            "--no-color",
            "--no-decorate",
            "--no-show-signature",
            "--no-mailmap",
            "--encoding=UTF-8",
            "--format=%H %B",
            SEARCHED,
            tip,
        ];
        let not_base = base.map(|base| format!("^{base}"));
        // After a rewrite of the branch the base may be gone; then all is searched.
        if let (Some(base), Some(not_base)) = (base, &not_base)
            && self.has_commit(base).await?
        {
            args.push(not_base);
        }
        args.push("--");
        let log = self.git.local(&args, Vec::new()).await?;
        let log = String::from_utf8_lossy(&log);
        // The log begins with the newest; the first run's commit is the oldest.
        let mut commits = log.rsplit('\0').filter_map(|commit| commit.split_once(' '));
        Ok(commits.find_map(|(sha, text)| carries(text, key).then(|| sha.to_owned())))
    }

    /// The files of a commit.
    pub(crate) async fn listing(&self, commit: Option<&str>) -> Result<Listing, Failure> {
        let Some(commit) = commit else {
            return Ok(Listing::new());
        };
        let stdout = self
            .git
            .local(&["ls-tree", "-r", "-z", "--full-tree", commit], Vec::new())
            .await?;
        plan::listing(&stdout)
            .ok_or_else(|| Failure::Mirror("git ls-tree: its answer has another form".to_owned()))
    }

    /// Files the sources over the tree of `parent`, and returns the tree that this makes.
    pub(crate) async fn write_tree(
        &self,
        parent: Option<&str>,
        sources: &[Source],
        plan: &Plan,
    ) -> Result<String, Failure> {
        let index = Index::new(self.lock);
        let git = self.git.with("GIT_INDEX_FILE", &index.0.to_string_lossy());
        git.local(&["read-tree", parent.unwrap_or("--empty")], Vec::new())
            .await?;
        let blobs = self.write_blobs(sources).await?;
        let changes = changes(sources, &blobs, plan);
        git.local(&["update-index", "-z", "--index-info"], changes)
            .await?;
        git.line(&["write-tree"], Vec::new()).await
    }

    /// The tree of a commit.
    pub(crate) async fn tree_of(&self, commit: &str) -> Result<String, Failure> {
        let tree = format!("{commit}^{{tree}}");
        self.git
            .line(&["rev-parse", "--verify", "--quiet", &tree], Vec::new())
            .await
    }

    /// Makes the commit.
    pub(crate) async fn commit(
        &self,
        tree: &str,
        parent: Option<&str>,
        job: &Job,
        authored: u64,
        committer: &Identity,
    ) -> Result<String, Failure> {
        let git = self
            .git
            .with("GIT_AUTHOR_NAME", &job.author.name)
            .with("GIT_AUTHOR_EMAIL", &job.author.email)
            .with("GIT_AUTHOR_DATE", &format!("@{authored} +0000"))
            .with("GIT_COMMITTER_NAME", &committer.name)
            .with("GIT_COMMITTER_EMAIL", &committer.email);
        let mut args = vec!["commit-tree", "-F", "-"];
        if let Some(parent) = parent {
            args.extend(["-p", parent]);
        }
        args.push(tree);
        git.line(&args, job.text.clone().into_bytes()).await
    }

    /// Pushes `commit`, if the branch still is where `tip` says.
    pub(crate) async fn push(&self, commit: &str, tip: &Tip) -> Result<Verdict, Failure> {
        let reference = tip.branch.reference();
        // The lease makes the server compare with the old value. A commit on that value is never a forced one.
        let lease = format!(
            "--force-with-lease={reference}:{}",
            tip.expected.as_deref().unwrap_or_default()
        );
        let refspec = format!("{commit}:{reference}");
        let remote = self.remote.to_string();
        let args = [
            "push",
            "--porcelain",
            "--no-verify",
            "--no-signed",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--no-progress",
            &lease,
            "--end-of-options",
            &remote,
            &refspec,
        ];
        let ended = self.git.end(&args, Vec::new()).await?;
        let verdict = push::verdict(
            ended.success,
            &String::from_utf8_lossy(&ended.stdout),
            &ended.message,
        );
        match verdict {
            Some(verdict) => Ok(verdict),
            None => Err(ended.fault_of_remote()),
        }
    }

    /// Remembers that the remote has `commit` as its tip, which saves the next call a fetch.
    pub(crate) async fn remember(&self, commit: &str, branch: &Branch) {
        let reference = reference(branch);
        // Best effort: the next call fetches where this failed.
        let _ = self
            .git
            .local(&["update-ref", &reference, commit], Vec::new())
            .await;
        let _ = self.git.local(&["gc", "--auto", "--quiet"], Vec::new()).await;
    }

    /// How many files a commit changed.
    pub(crate) async fn files_changed(&self, commit: &str) -> Result<usize, Failure> {
        let args = [
            "diff-tree",
            "-r",
            "-z",
            "--root",
            "--no-commit-id",
            "--name-only",
            "--no-renames",
            commit,
        ];
        let stdout = self.git.local(&args, Vec::new()).await?;
        Ok(stdout.iter().filter(|byte| **byte == 0).count())
    }

    /// Makes the mirror where there is none. A mirror appears whole or not at all.
    fn open(&mut self, format: &str) -> Result<(), Error> {
        let directory = self.lock.mirror();
        if !directory.join("HEAD").is_file() {
            let new = self.lock.beside();
            make(&new, format)
                .and_then(|()| self.lock.discard())
                .and_then(|()| fs::rename(&new, directory))
                .map_err(|error| Error::retry(format!("the mirror {directory:?} cannot be made: {error}")))?;
        }
        self.git = self.git.at(directory);
        Ok(())
    }

    /// Brings a branch into the mirror, unless it is there at `sha`; returns its commit, which may be newer.
    async fn bring(&self, branch: &Branch, sha: &str) -> Result<String, Failure> {
        let reference = reference(branch);
        let commit = format!("{reference}^{{commit}}");
        let args = ["rev-parse", "--verify", "--quiet", &commit];
        let known = self.git.end(&args, Vec::new()).await?;
        if known.success && String::from_utf8_lossy(&known.stdout).trim() == sha {
            return Ok(sha.to_owned());
        }
        let remote = self.remote.to_string();
        let refspec = format!("+{}:{reference}", branch.reference());
        let fetch = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--end-of-options",
            &remote,
            &refspec,
        ];
        self.git.remote(&fetch).await?;
        self.git.line(&args, Vec::new()).await
    }

    async fn has_commit(&self, sha: &str) -> Result<bool, Failure> {
        let commit = format!("{sha}^{{commit}}");
        Ok(self
            .git
            .end(&["cat-file", "-e", &commit], Vec::new())
            .await?
            .success)
    }

    /// Writes the sources as they are, without any filter, and returns their names in order.
    async fn write_blobs(&self, sources: &[Source]) -> Result<Vec<String>, Failure> {
        let mut paths = Vec::new();
        for source in sources {
            paths.extend_from_slice(source.path.as_os_str().as_bytes());
            paths.push(b'\n');
        }
        let args = ["hash-object", "-w", "--no-filters", "--stdin-paths"];
        let ended = self.git.end(&args, paths).await?;
        if ended.message.contains("for reading") {
            // It is not the mirror that cannot be read.
            return Err(Failure::Call(Error::retry(ended.message)));
        }
        let stdout = ended.of_mirror(&args)?;
        let blobs: Vec<String> = String::from_utf8_lossy(&stdout)
            .lines()
            .map(str::to_owned)
            .collect();
        match blobs.len() == sources.len() {
            true => Ok(blobs),
            false => Err(Failure::Mirror(format!(
                "git hash-object: {} names for {} files",
                blobs.len(),
                sources.len()
            ))),
        }
    }
}

/// Makes an empty bare repository, as `git init` would: that changes the mode of a file that it has written, which the router's
/// sandbox allows nobody.
fn make(directory: &Path, format: &str) -> io::Result<()> {
    for part in ["objects", "refs"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let config = format!(
        "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = {format}\n"
    );
    fs::write(directory.join("config"), config)?;
    fs::write(directory.join("HEAD"), "ref: refs/heads/main\n")
}

/// An index of one call's own, gone with it.
struct Index(PathBuf);

impl Index {
    fn new(lock: &Lock) -> Self {
        Self(
            lock.mirror()
                .join(format!("{TEMPORARY}{:016x}", fastrand::u64(..))),
        )
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // What stays is swept by the next call.
        let _ = fs::remove_file(&self.0);
    }
}

/// What `git update-index --index-info` is told: deletions first, as they make room.
fn changes(sources: &[Source], blobs: &[String], plan: &Plan) -> Vec<u8> {
    let nothing = "0".repeat(blobs.first().map_or(40, String::len));
    let mut changes = Vec::new();
    for path in &plan.remove {
        changes.extend_from_slice(format!("0 {nothing}\t").as_bytes());
        changes.extend_from_slice(path);
        changes.push(0);
    }
    for ((source, blob), mode) in sources.iter().zip(blobs).zip(&plan.modes) {
        changes
            .extend_from_slice(format!("{} {blob}\t{}\0", mode.digits(), source.target.as_str()).as_bytes());
    }
    changes
}

/// Where the mirror keeps a branch: by its hash, so that `a` and `a/b` do not stand in each other's way.
fn reference(branch: &Branch) -> String {
    format!("refs/jackfield/{}", short_hash(branch.as_str()))
}
