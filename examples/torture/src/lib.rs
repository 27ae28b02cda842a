//! The real router under all that can go wrong at once, and an oracle outside that knows what was promised. See `README.md`.
//!
//! [`run`] does it, and what was seen comes out as a [`Run`], which can be [told](Run::tell).

mod archive;
mod clock;
mod master;
mod misfortunes;
mod operator;
mod report;
mod senders;
mod site;
mod verdict;
mod volume;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use fastrand::Rng;
use jackfield_stage::{cargo::Built, disk::Injected};
use tokio::time::Instant;

pub use site::PACKAGES;

use master::Master;
use misfortunes::{Befallen, Fate};
use senders::{Promises, Senders};
use site::Site;
use verdict::Verdict;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What all chance comes from. The order of what happens is the same for the same seed; its timing is the machine's.
    pub seed: u64,
    /// For how long.
    pub length: Duration,
    /// How many senders post, each with an order key of its own.
    pub senders: usize,
    /// How long each of them waits at most between two events.
    pub pause: Duration,
    /// Whether each misfortune is named as it comes.
    pub say: bool,
}

/// What was seen.
#[derive(Debug)]
pub struct Run {
    plan: Plan,
    /// Why the data directory has no file system of its own, where it has none.
    no_volume: Option<String>,
    befallen: Befallen,
    injected: Injected,
    /// How many deliveries were seen to wait for a rate.
    put_off: u64,
    /// How many puppets failed as they were made.
    unmade: u64,
    refused: u64,
    unanswered: u64,
    promises: Promises,
    verdict: Verdict,
}

/// Carries out `plan` with the router and the puppet in `built`, in the directory `home`, which is the caller's to keep.
///
/// # Errors
///
/// Where the router is not well again after a misfortune, an event is not acknowledged, or deliveries do not settle.
pub async fn run(built: &Built, plan: Plan, home: &Path) -> anyhow::Result<Run> {
    let mut random = Rng::with_seed(plan.seed);
    let master = Master::start(random.fork()).await?;
    let mut site = Site::prepare(built, home, &master.address().to_string())?;
    let seen = torture(&mut site, master, plan, random).await;
    if seen.as_ref().is_ok_and(Run::passes) {
        return seen;
    }
    // The file system goes with the site; what lies in it is to be looked at.
    let kept = keep(&site.data(), home);
    let seen = seen.with_context(|| format!("the end of the router's log:\n{}", site.router.end_of_log()));
    kept.and(seen)
}

async fn torture(site: &mut Site, master: Master, plan: Plan, mut random: Rng) -> anyhow::Result<Run> {
    site.router.start().await?;
    let senders = Senders::start(site.router.ingress(), plan.senders, plan.pause, &mut random);
    let counted = senders.counted.clone();
    let faults = site.faults.clone();
    let no_volume = site.volume.as_ref().err().cloned();
    let mut fate = Fate::new(site, &master, &counted, random.fork());
    fate.run(Instant::now() + plan.length, plan.say).await?;
    let promises = senders.finish().await?;
    fate.settle().await?;
    let ended = fate.end().await?;
    let finished = master.finish().await?;
    let verdict = verdict::judge(&ended, &promises, &finished.calls);
    let load = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    Ok(Run {
        plan,
        no_volume,
        befallen: ended.befallen,
        injected: faults.injected()?,
        put_off: ended.archive.put_off,
        unmade: finished.unmade,
        refused: load(&counted.refused),
        unanswered: load(&counted.unanswered),
        promises,
        verdict,
    })
}

/// Copies the data directory to where it outlives its file system.
fn keep(data: &Path, home: &Path) -> anyhow::Result<()> {
    let to: PathBuf = home.join("kept");
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
