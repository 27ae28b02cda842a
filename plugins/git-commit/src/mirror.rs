//! A mirror of one branch: a bare repository in the cache, in which commits are made without a checkout.
//!
//! In come the tip of a branch and the files of a step, out goes a commit, and then a push that succeeds only
//! on the very tip that the commit was made on. A mirror holds nothing of its own: any that turns out broken is
//! thrown away and fetched anew.

use std::{fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use jackfield_sdk::Error;

use crate::{
    cache::{Lock, TEMPORARY, short_hash},
    git::{Failure, Git},
    input::{Branch, Create, Job},
    message::{IDEMPOTENCY_KEY, Identity},
    push::{self, Verdict},
    remote::Remote,
    tree::{self, Listing, Plan, Source},
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

/// What `git ls-remote` said.
#[derive(Debug, Default)]
struct Advertised {
    /// The default branch, where the remote tells.
    default: Option<String>,
    /// The commit of the default branch.
    head: Option<String>,
    /// The commit of the branch that was asked for.
    branch: Option<String>,
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
        let branch = match &job.branch {
            Some(branch) => branch.clone(),
            None => self.default_branch().await?,
        };
        let advertised = self.advertised(&branch).await?;
        let parent = match (&advertised.branch, job.create) {
            (Some(_), _) => Some((branch.clone(), advertised.branch.clone())),
            (None, Create::FromDefault) if advertised.head.is_some() => {
                let default = advertised.default.as_deref().unwrap_or_default();
                let default = Branch::parse(default).map_err(|_| {
                    Failure::Call(Error::fatal(format!(
                        "{} does not tell its default branch, from which `{}` was to be created",
                        self.remote,
                        branch.as_str()
                    )))
                })?;
                Some((default, advertised.head.clone()))
            }
            (None, Create::Orphan) => None,
            (None, Create::Never | Create::FromDefault) if self.is_empty(&advertised).await? => None,
            (None, Create::Never | Create::FromDefault) => {
                return Err(Failure::Call(Error::fatal(format!(
                    "{} has no branch `{}`: make it, or let `create` say how",
                    self.remote,
                    branch.as_str()
                ))));
            }
        };
        let Some((from, Some(sha))) = parent else {
            self.open("sha1").await?;
            return Ok(Tip {
                branch,
                expected: None,
                parent: None,
            });
        };
        self.open(if sha.len() == 64 { "sha256" } else { "sha1" }).await?;
        let parent = self.bring(&from, &sha).await?;
        let expected = advertised.branch.is_some().then(|| parent.clone());
        Ok(Tip {
            branch,
            expected,
            parent: Some(parent),
        })
    }

    /// The commit that an earlier attempt pushed: one after `base` that carries the key.
    pub(crate) async fn find(
        &self,
        tip: &str,
        base: Option<&str>,
        key: &str,
    ) -> Result<Option<String>, Failure> {
        let format = format!("--format=%H%x09%(trailers:key={IDEMPOTENCY_KEY},valueonly,separator=%x09)");
        let mut args = vec![
            "log",
            "--no-color",
            "--no-decorate",
            "--no-show-signature",
            "--no-mailmap",
            SEARCHED,
            &format,
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
        let carries = |line: &str| {
            let mut words = line.split('\t');
            let sha = words.next()?;
            words.any(|value| value.trim() == key).then(|| sha.to_owned())
        };
        // The log begins with the newest; the first run's commit is the oldest.
        Ok(log.lines().rev().find_map(carries))
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
        tree::listing(&stdout)
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

    async fn default_branch(&self) -> Result<Branch, Failure> {
        let head = self.ls_remote(&["HEAD"]).await?;
        let default = Advertised::read(&head, "HEAD").default;
        default
            .as_deref()
            .and_then(|name| Branch::parse(name).ok())
            .ok_or_else(|| {
                let message = format!(
                    "{} does not tell its default branch: name one with `branch`",
                    self.remote
                );
                Failure::Call(Error::fatal(message))
            })
    }

    async fn advertised(&self, branch: &Branch) -> Result<Advertised, Failure> {
        let reference = branch.reference();
        let said = self.ls_remote(&["HEAD", &reference]).await?;
        Ok(Advertised::read(&said, &reference))
    }

    /// Whether the remote has no branch at all.
    async fn is_empty(&self, advertised: &Advertised) -> Result<bool, Failure> {
        Ok(advertised.head.is_none() && self.ls_remote(&["refs/heads/*"]).await?.trim().is_empty())
    }

    async fn ls_remote(&self, patterns: &[&str]) -> Result<String, Failure> {
        let remote = self.remote.to_string();
        let mut args = vec!["ls-remote", "--quiet", "--symref", "--end-of-options", &remote];
        args.extend(patterns);
        let stdout = self.git.remote(&args).await?;
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Makes the mirror where there is none. A mirror appears whole or not at all.
    async fn open(&mut self, format: &str) -> Result<(), Failure> {
        let directory = self.lock.mirror();
        if !directory.join("HEAD").is_file() {
            let new = self.lock.beside();
            let format = format!("--object-format={format}");
            let path = new.to_string_lossy();
            let args = [
                "init",
                "--quiet",
                "--bare",
                "--template=",
                &format,
                "--end-of-options",
                &path,
            ];
            self.git.local(&args, Vec::new()).await?;
            let moved = self.lock.discard().and_then(|()| fs::rename(&new, directory));
            moved
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
        let stdout = self.git.local(&args, paths).await?;
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

impl Advertised {
    fn read(said: &str, reference: &str) -> Self {
        let mut advertised = Self::default();
        for (value, name) in said.lines().filter_map(|line| line.split_once('\t')) {
            match (value.strip_prefix("ref: "), name) {
                (Some(target), "HEAD") => {
                    advertised.default = target.strip_prefix("refs/heads/").map(str::to_owned)
                }
                (None, "HEAD") => advertised.head = Some(value.to_owned()),
                // The pattern also fits longer names that end so.
                (None, name) if name == reference => advertised.branch = Some(value.to_owned()),
                _ => {}
            }
        }
        advertised
    }
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
