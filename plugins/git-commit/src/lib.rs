#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cache;
mod commit;
mod config;
mod environment;
mod fault;
mod git;
mod input;
mod message;
mod mirror;
mod plan;
mod push;
mod redact;
mod remote;
mod scan;
mod target;

use std::time::Duration;

use jackfield_sdk::{Cx, Error, Needs, Outcome, Plugin, Result, Start, async_trait, export_plugin};

use crate::{cache::Cache, commit::Call, config::Options, input::Job};
pub use crate::{
    config::{Config, Ssh, Token},
    input::{Create, Executable, Input, Mapping, Output},
    message::Identity,
    remote::Protocol,
};

/// The plugin: commits the files that a step brings to a git repository.
#[derive(Debug)]
pub struct GitCommit {
    options: Options,
    cache: Cache,
}

#[async_trait]
impl Plugin for GitCommit {
    type Config = Config;
    type Input = Input;
    type Output = Output;

    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
    const DOCS: &'static str = include_str!("../README.md");
    const NEEDS: Needs = Needs::NOTHING
        .network(&[])
        .programs(&["git"])
        .work()
        .read(&["/ca_file", "/sources", "/ssh/key", "/ssh/known_hosts"])
        .write(&["/cache"]);
    /// A canceled call sees git end before it gives up the mirror.
    const CANCEL_GRACE: Duration = Duration::from_secs(5);

    async fn create(config: Config, start: Start) -> Result<Self> {
        let mut options = Options::new(config, Cache::default_directory).map_err(Error::invalid)?;
        options.proxy = start.proxy();
        git::check(&options.git, start.scope()).await?;
        let cache = Cache::open(&options.cache)
            .map_err(|error| Error::fatal(format!("the cache {:?} is unusable: {error}", options.cache)))?;
        Ok(Self { options, cache })
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Output>> {
        let job = Job::new(
            input,
            cx.event()?,
            cx.idempotency_key(),
            cx.workdir()?,
            &self.options,
        )
        .map_err(Error::invalid)?;
        let call = Call {
            job: &job,
            options: &self.options,
            cache: &self.cache,
            cx,
        };
        call.run().await.map(Outcome::Done)
    }
}

export_plugin!(GitCommit);
