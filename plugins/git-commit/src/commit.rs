//! The way of one call: look whether it was done, build the commit, push it, and begin again where others were faster.
//!
//! What makes a call happen once, whatever dies in its middle:
//!
//! 1. Before the first push, the branch's tip is written down durably (the *intent*).
//! 2. Each round first searches what came after that tip for a commit with this step's key. It is ours, pushed by an
//!    attempt that did not live to tell. Only then is the tree compared, which would otherwise say "nothing to do".
//! 3. A push succeeds only on the tip that its commit was made on. A push of a dead attempt that still lingers at the server
//!    and ours can therefore not both succeed: the later one finds the branch moved, and then the commit of the other.

use std::time::Duration;

use jackfield_sdk::{Cx, Error, Receipt, tracing};
use serde::{Deserialize, Serialize};

use crate::{
    cache::{Cache, Lock, pause},
    config::Options,
    git::{Failure, Git},
    input::{Job, Output},
    mirror::{Mirror, Tip},
    plan::Plan,
    push::Verdict,
    scan::{self, Bounds, ScanError, Source},
};

/// The longest rest before the first repeated push; each further one may be twice as long.
const FIRST_REST: Duration = Duration::from_millis(100);

/// What is written down before the first push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Intent {
    repository: String,
    branch: String,
    /// The branch's tip at that time; `None` where it had none.
    base: Option<String>,
}

/// How far a call has come.
#[derive(Debug, Default)]
struct Progress {
    /// What is written down, by this attempt or one before.
    intent: Option<Intent>,
    /// What the step brings, once it has been looked at.
    sources: Option<Vec<Source>>,
}

/// One call: what is asked for, and what it works with.
pub(crate) struct Call<'a> {
    pub(crate) job: &'a Job,
    pub(crate) options: &'a Options,
    pub(crate) cache: &'a Cache,
    pub(crate) cx: &'a Cx,
}

impl Call<'_> {
    /// Commits what the job asks for, or finds that it is done.
    pub(crate) async fn run(&self) -> Result<Output, Error> {
        let mut progress = Progress::default();
        match self.cx.receipt::<Intent, Output>().await? {
            Receipt::Done(output) => return Ok(output),
            // It may be done, and is looked for before the files are: they need not be there any more.
            Receipt::Intended(intent) if self.is_about_us(&intent) => progress.intent = Some(intent),
            // It is not done. What is wrong with the files can be told before anything is fetched.
            Receipt::Intended(_) | Receipt::Absent => progress.sources = Some(self.scan().await?),
        }
        let git = Git::new(
            self.options,
            &self.job.remote,
            &self.cache.home(),
            self.cx.scope(),
        );
        let lock = self.cache.lock(&self.job.remote, git.scope()).await?;
        let clean = lock.sweep();
        if clean.is_err() {
            discard(&lock)?;
        }
        match self.rounds(&git, &lock, &mut progress).await {
            Err(Failure::Mirror(message)) => {
                tracing::warn!(repository = %self.job.remote, message, "mirror is broken, making it anew");
                discard(&lock)?;
            }
            Err(Failure::Call(error)) => return Err(error),
            Ok(output) => return Ok(output),
        }
        self.rounds(&git, &lock, &mut progress)
            .await
            .map_err(|failure| match failure {
                Failure::Call(error) => error,
                Failure::Mirror(message) => Error::retry(format!(
                    "the mirror of {} is unusable: {message}",
                    self.job.remote
                )),
            })
    }

    /// Tries until a push is accepted, as often as the instance may.
    async fn rounds(&self, git: &Git, lock: &Lock, progress: &mut Progress) -> Result<Output, Failure> {
        let mut mirror = Mirror::new(git, &self.job.remote, lock);
        for round in 0..self.options.push_attempts {
            if round > 0 {
                let longest = FIRST_REST.saturating_mul(1 << round.min(5));
                pause(longest.mul_f64(fastrand::f64()), git.scope()).await?;
            }
            let tip = mirror.fetch(self.job).await?;
            if let Some(output) = self.done_before(&mirror, &tip, progress).await? {
                return Ok(output);
            }
            let Some(commit) = self.build(&mirror, &tip, &mut progress.sources).await? else {
                return Ok(self.output(&tip, tip.parent.clone().unwrap_or_default()));
            };
            self.intend(&tip, &mut progress.intent).await?;
            match mirror.push(&commit, &tip).await? {
                Verdict::Accepted => {
                    let output = self.record(&mirror, &tip, commit).await?;
                    mirror.remember(&output.sha, &tip.branch).await;
                    return Ok(output);
                }
                Verdict::Moved => {
                    tracing::debug!(repository = %self.job.remote, branch = tip.branch.as_str(), round, "branch has moved");
                }
                Verdict::Refused(message) => return Err(Failure::Call(Error::fatal(message))),
                Verdict::Failed(message) => return Err(Failure::Call(Error::retry(message))),
            }
        }
        Err(Failure::Call(Error::retry(format!(
            "others moved the branch of {} during all {} pushes",
            self.job.remote, self.options.push_attempts
        ))))
    }

    /// What an earlier attempt pushed.
    async fn done_before(
        &self,
        mirror: &Mirror<'_>,
        tip: &Tip,
        progress: &Progress,
    ) -> Result<Option<Output>, Failure> {
        let (Some(intent), Some(now)) = (&progress.intent, &tip.expected) else {
            return Ok(None);
        };
        match mirror.find(now, intent.base.as_deref(), &self.job.key).await? {
            Some(commit) => self.record(mirror, tip, commit).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes the commit on `tip`; `None` where nothing would change.
    async fn build(
        &self,
        mirror: &Mirror<'_>,
        tip: &Tip,
        sources: &mut Option<Vec<Source>>,
    ) -> Result<Option<String>, Failure> {
        let sources = match sources {
            Some(sources) => sources,
            None => sources.insert(self.scan().await?),
        };
        let parent = tip.parent.as_deref();
        let listing = mirror.listing(parent).await?;
        let job = self.job;
        let plan = Plan::new(
            &listing,
            sources,
            &job.mappings,
            &self.options.protected,
            job.executable,
        )
        .map_err(Error::fatal)?;
        let tree = mirror.write_tree(parent, sources, &plan).await?;
        if let Some(parent) = parent
            && mirror.tree_of(parent).await? == tree
        {
            return Ok(None);
        }
        let millis = self.cx.event()?.time.as_millis();
        let authored = u64::try_from(millis).unwrap_or(0) / 1000;
        mirror
            .commit(&tree, parent, job, authored, &self.options.committer)
            .await
            .map(Some)
    }

    /// Writes down, once, from where to search.
    async fn intend(&self, tip: &Tip, intent: &mut Option<Intent>) -> Result<(), Error> {
        if intent.is_some() {
            return Ok(());
        }
        let new = Intent {
            repository: self.job.remote.to_string(),
            branch: tip.branch.as_str().to_owned(),
            base: tip.expected.clone(),
        };
        self.cx.intend(&new).await?;
        *intent = Some(new);
        Ok(())
    }

    /// Writes down that it is done.
    async fn record(&self, mirror: &Mirror<'_>, tip: &Tip, commit: String) -> Result<Output, Failure> {
        let files = mirror.files_changed(&commit).await?;
        let output = Output {
            changed: true,
            files,
            ..self.output(tip, commit)
        };
        self.cx.record(&output).await?;
        tracing::info!(repository = %self.job.remote, branch = output.branch, sha = output.sha, files, "committed");
        Ok(output)
    }

    /// That the branch stands at `sha`, and nothing was changed.
    fn output(&self, tip: &Tip, sha: String) -> Output {
        Output {
            changed: false,
            files: 0,
            url: self.options.commit_url(&self.job.remote, &sha),
            branch: tip.branch.as_str().to_owned(),
            sha,
        }
    }

    /// Whether an intent is about where the job goes now. A rule that was changed may send it elsewhere.
    fn is_about_us(&self, intent: &Intent) -> bool {
        let branch = self.job.branch.as_ref().map(|branch| branch.as_str());
        intent.repository == self.job.remote.to_string()
            && branch.is_none_or(|branch| branch == intent.branch)
    }

    /// Reads the directories, on a thread that may block.
    async fn scan(&self) -> Result<Vec<Source>, Error> {
        let workdir = self.cx.workdir()?;
        let roots: Vec<_> = std::iter::once(workdir)
            .chain(self.options.sources.iter().map(|source| source.as_path()))
            .filter_map(|root| std::fs::canonicalize(root).ok())
            .collect();
        let mappings = self.job.mappings.clone();
        let (max_files, max_bytes) = (self.options.max_files, self.options.max_bytes);
        let scan = move || {
            scan::scan(
                &mappings,
                Bounds {
                    roots: &roots,
                    max_files,
                    max_bytes,
                },
            )
        };
        tokio::task::spawn_blocking(scan)
            .await?
            .map_err(|error| match error {
                ScanError::Io(..) => Error::retry(error),
                _ => Error::fatal(error),
            })
    }
}

fn discard(lock: &Lock) -> Result<(), Error> {
    lock.discard().map_err(|error| {
        Error::retry(format!(
            "the mirror {:?} cannot be cleared away: {error}",
            lock.mirror()
        ))
    })
}
