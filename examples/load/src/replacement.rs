//! The plugin replaced under load: every other file is one that the router must refuse.

use std::{fs, path::Path, time::Duration};

use jackfield_stage::{change, load::Progress, router::Router};

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
        match change::library(router, library, &bytes).await? {
            None => replaced.generations += 1,
            Some(reason) => replaced.refused.push(reason),
        }
    }
    Ok(replaced)
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
