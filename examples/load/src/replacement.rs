//! The plugin replaced under load: every other file is one that the router must refuse.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use jackfield::plugin::digest::Digest;
use jackfield_stage::{load::Progress, router::Router};
use serde_json::Value;

use crate::Plan;

/// What became of the files that were to replace the plugin.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    /// How many took over.
    pub(crate) generations: u64,
    /// Why the others did not.
    pub(crate) refused: Vec<String>,
    /// Worker processes when everything was over.
    pub(crate) workers: usize,
}

/// Puts one file after the other in the place of the plugin's, at equal distances of the load, and waits each time
/// until the router has taken it up or refused it.
pub(crate) async fn replacements(
    router: &Router,
    library: &Path,
    plan: Plan,
    progress: &Progress,
) -> anyhow::Result<Replaced> {
    let good = fs::read(library)?;
    let file = router
        .home()
        .join("plugins")
        .join(library.file_name().context("a file has a name")?);
    let mut replaced = Replaced::default();
    for number in 1..=plan.replacements {
        progress
            .reaches(plan.events * number / (plan.replacements + 1))
            .await;
        let bytes = match number % 4 {
            0 => good[..good.len() / 2].to_vec(),
            2 => format!("not a plugin, number {number}\n").into_bytes(),
            // What follows the end of a library is nothing to it, but makes it another one.
            _ => [&good[..], &number.to_le_bytes()].concat(),
        };
        let digest = Digest::of(&bytes).to_string();
        let new = file.with_extension("new");
        fs::write(&new, bytes)?;
        fs::rename(&new, &file)?;
        match fate(router, &digest).await? {
            None => replaced.generations += 1,
            Some(reason) => replaced
                .refused
                .push(reason.replace(&file.display().to_string(), "it")),
        }
    }
    Ok(replaced)
}

/// Why the library of that digest was refused; nothing where it is in use.
async fn fate(router: &Router, digest: &str) -> anyhow::Result<Option<String>> {
    for _ in 0..600 {
        let listed = router.ask(&["plugin", "list"]).await?;
        for plugin in listed["plugins"].as_array().context("a list of plugins")? {
            if plugin["digest"] == digest && plugin["state"] == "loaded" {
                return Ok(None);
            }
            if plugin["refused"]["digest"] == digest {
                let reason = plugin["refused"]["reason"].as_str();
                return Ok(Some(reason.unwrap_or_default().to_owned()));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let listed: Value = router.ask(&["plugin", "list"]).await?;
    bail!("{digest} was neither taken up nor refused: {listed:#}")
}

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
