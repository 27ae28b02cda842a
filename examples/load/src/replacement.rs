//! The plugin replaced under load: every other file is one that the router must refuse, and most of those could carry out
//! deliveries as well as any other, if it did not.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use jackfield::plugin::{digest::Digest, trust::Lock};
use jackfield_stage::{change, load::Progress, router::Router};

use crate::Plan;

/// What became of the files that were to replace the plugin.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    /// The stamps of those that took over.
    pub(crate) taken: Vec<String>,
    /// Why the others did not.
    pub(crate) refused: Vec<String>,
    /// Good ones that were refused, and bad ones that took over.
    pub(crate) wrong: Vec<String>,
    /// How many reports bore the stamp of which; the first of all has none.
    pub(crate) handled: BTreeMap<String, u64>,
    /// Worker processes when everything was over.
    pub(crate) workers: usize,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is good, and not the one that is locked.
    NotLocked,
    /// This letter of its stamp.
    Stamped(u8),
    /// Half of it is missing.
    Half,
    /// It is a text.
    Text,
}

/// In the order in which they come, so that a short run has those that could carry out deliveries.
const FAULTS: [Fault; 6] = [
    Fault::NotLocked,
    Fault::Stamped(b'r'),
    Fault::Stamped(b'c'),
    Fault::Stamped(b'w'),
    Fault::Half,
    Fault::Text,
];

/// Puts one file after the other in the place of the plugin's, at equal distances of the load, and waits each time
/// until the router has taken it up or refused it.
pub(crate) async fn replacements(
    router: &Router,
    library: &Path,
    plan: Plan,
    progress: &Progress,
) -> anyhow::Result<Replaced> {
    let built = fs::read(library)?;
    let mut replaced = Replaced::default();
    let mut faults = FAULTS.into_iter().cycle();
    for number in 1..=plan.replacements {
        progress
            .reaches(plan.events * number / (plan.replacements + 1))
            .await;
        let stamp = format!("{number:04}");
        let fault = if number % 2 == 0 { faults.next() } else { None };
        let bytes = match fault {
            Some(Fault::Text) => format!("not a plugin, number {number}\n").into_bytes(),
            Some(Fault::Half) => built[..built.len() / 2].to_vec(),
            Some(Fault::Stamped(letter)) => stamped(&built, &stamp, letter)?,
            Some(Fault::NotLocked) | None => stamped(&built, &stamp, b's')?,
        };
        if !matches!(fault, Some(Fault::NotLocked)) {
            lock(router, &bytes).await?;
        }
        match (fault, change::library(router, library, &bytes).await?) {
            (None, None) => replaced.taken.push(stamp),
            (Some(_), Some(reason)) => replaced.refused.push(reason),
            (None, Some(reason)) => replaced.wrong.push(format!("{stamp} was refused: {reason}")),
            (Some(fault), None) => replaced.wrong.push(format!("{stamp} took over: {fault:?}")),
        }
    }
    Ok(replaced)
}

/// The library with that written over its stamp.
fn stamped(library: &[u8], stamp: &str, letter: u8) -> anyhow::Result<Vec<u8>> {
    let marked: Vec<_> = (0..library.len())
        .filter(|at| library[*at..].starts_with(MARK))
        .collect();
    ensure!(marked.len() == 1, "{} stamps in the library", marked.len());
    let at = marked[0] + MARK.len();
    let mut bytes = library.to_vec();
    let place = bytes
        .get_mut(at..=at + stamp.len())
        .context("it ends within its stamp")?;
    place.copy_from_slice(&[stamp.as_bytes(), &[letter]].concat());
    Ok(bytes)
}

/// Has the router take these bytes for the plugin, and none else.
pub(crate) async fn lock(router: &Router, bytes: &[u8]) -> anyhow::Result<()> {
    let lock = Lock::of([("counting-plugin".to_owned(), Digest::of(bytes))]);
    change::replace(&router.home().join(LOCK), lock.to_string().as_bytes()).await
}

/// What a stamp stands behind.
const MARK: &[u8] = b"stamp of counting-plugin:";
/// The file that names the library that may be run.
pub(crate) const LOCK: &str = "plugins.lock";

/// How many worker processes there are once those of earlier generations have ended, or after a minute.
pub(crate) async fn workers_at_the_end(router: &Router) -> anyhow::Result<usize> {
    for _ in 0..600 {
        if router.workers()? <= 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    router.workers()
}
