//! Downloads a file that an event tells of, and unpacks it.
//!
//! What comes in is a link, written by whoever sent the event: hostile until checked. What goes out is a file in the
//! delivery's work directory, with its size and sha256, and, where the step asks for it, the directory with what the
//! zip archive holds. Both are on disk before the step is done. The same call twice fetches once: an attempt that
//! finds the file of the one before gives its output.
#![forbid(unsafe_code)]

mod config;
mod fetch;
mod http;
mod input;
mod options;
mod output;
mod place;
mod unpack;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cap_std::{ambient_authority, fs::Dir};
use jackfield_sdk::{
    Cx, Error, Needs, Outcome, Plugin, Receipt, Result, Start, async_trait, export_plugin, tracing,
};

pub use crate::{
    config::{Config, CredentialConfig, HeaderConfig},
    input::Input,
    output::Output,
};
use crate::{
    fetch::{FetchError, Fetcher, Job, Remedy, Resolver},
    options::Options,
    unpack::{UnpackError, Unpacked},
};

/// An instance of the plugin: a set of rules.
#[derive(Debug)]
pub struct ArtifactFetch {
    options: Options,
    fetcher: Fetcher,
}

export_plugin!(ArtifactFetch);

#[async_trait]
impl Plugin for ArtifactFetch {
    type Config = Config;
    type Input = Input;
    type Output = Output;

    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
    const DOCS: &'static str = include_str!("../README.md");
    const NEEDS: Needs = Needs::NOTHING.network(&["*"]).work();

    async fn create(config: Config, start: Start) -> Result<Self> {
        let options = Options::new(config).map_err(|mistakes| Error::invalid(mistakes.join("; ")))?;
        let fetcher = Fetcher::new(&options, Resolver::System, start.proxy());
        Ok(Self { options, fetcher })
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Output>> {
        let workdir = cx.workdir()?;
        if let Receipt::Done(output) = cx.receipt::<(), Output>().await?
            && output.is_still_in(workdir)
        {
            return Ok(Outcome::Done(output));
        }
        let places = Places::make(workdir, cx.step())?;
        let job = input.job(cx, &self.options, &places.artifact)?;
        let output = self.fetch(&job, input.unpack, &places).await?;
        tracing::info!(
            size = output.size,
            sha256 = output.sha256,
            files = output.file_count,
            "artifact fetched"
        );
        cx.metric("fetched_bytes", &[], output.size as f64);
        cx.record(&output).await?;
        Ok(Outcome::Done(output))
    }
}

impl ArtifactFetch {
    async fn fetch(&self, job: &Job, unpack: bool, places: &Places) -> Result<Output> {
        let fetched = self.fetcher.fetch(job).await.map_err(of_fetch)?;
        let unpacked = match unpack {
            true => Some(
                self.unpack(&job.to, places)
                    .await
                    .map_err(|error| of_unpack(error, &fetched.media_type))?,
            ),
            false => None,
        };
        places.sync()?;
        Output::new(
            &job.to,
            fetched,
            unpacked.map(|unpacked| (places.files(), unpacked)),
        )
    }

    /// Unpacks on a thread of its own, which ends with the call.
    async fn unpack(&self, archive: &Path, places: &Places) -> Result<Unpacked, UnpackError> {
        let (archive, step, limits) = (File::open(archive)?, places.step.clone(), self.options.limits);
        let stop = Stop::default();
        let stopped = Arc::clone(&stop.0);
        let work = tokio::task::spawn_blocking(move || {
            let parent = Dir::open_ambient_dir(step, ambient_authority())?;
            unpack::unpack(archive, &parent, FILES, &limits, &stopped)
        });
        work.await
            .unwrap_or_else(|error| Err(UnpackError::Disk(io::Error::other(error))))
    }
}

/// Tells the unpacking thread to stop when the call that waits for it is dropped.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where the step keeps its files: `<workdir>/<step>/artifact/<name>` and `<workdir>/<step>/files/`.
#[derive(Debug)]
struct Places {
    workdir: PathBuf,
    step: PathBuf,
    artifact: PathBuf,
}

impl Places {
    /// Makes them anew: what an attempt before left half done goes.
    fn make(workdir: &Path, step: &str) -> io::Result<Self> {
        let step = workdir.join(input::plain_name(step));
        match fs::remove_dir_all(&step) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let artifact = step.join(ARTIFACT);
        fs::create_dir_all(&artifact)?;
        Ok(Self {
            workdir: workdir.to_owned(),
            step,
            artifact,
        })
    }

    fn files(&self) -> PathBuf {
        self.step.join(FILES)
    }

    /// Makes the directories' entries durable, from the inside out.
    fn sync(&self) -> io::Result<()> {
        [&self.artifact, &self.step, &self.workdir]
            .into_iter()
            .try_for_each(|path| File::open(path)?.sync_all())
    }
}

fn of_fetch(error: FetchError) -> Error {
    match error.remedy() {
        Remedy::Retry(None) => Error::retry(error),
        Remedy::Retry(Some(after)) => Error::retry(error).after(after),
        Remedy::Person => Error::fatal(error),
    }
}

fn of_unpack(error: UnpackError, media_type: &Option<String>) -> Error {
    match (&error, media_type) {
        (UnpackError::Disk(_), _) => Error::retry(error),
        (UnpackError::Stopped, _) => Error::cancelled(error),
        (UnpackError::NotZip(_), Some(media_type)) => Error::fatal(format_args!(
            "failed to unpack: {error} (the server called it {media_type})"
        )),
        _ => Error::fatal(format_args!("failed to unpack: {error}")),
    }
}

const ARTIFACT: &str = "artifact";
const FILES: &str = "files";

#[cfg(test)]
mod tests;
