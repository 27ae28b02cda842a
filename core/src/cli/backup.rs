//! `backup`: a copy of the journal, also while its router runs.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Output, Shape, progress::Progress, say, say_json};
use crate::{app, config};

/// Copy the journal to a file, also while the router runs: everything that was acknowledged before is in it.
///
/// It is restored by laying it into an empty data directory under the name `journal.db`. Files in work directories are not part
/// of it.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to make. What is there already is not overwritten.
    dest: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Made {
    file: PathBuf,
    events: u64,
    bytes: u64,
}

impl Backup {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let directory = config::data_dir(config)?;
        let mut progress = None;
        let copied = app::back_up(&directory, &self.dest, |done, all| {
            progress
                .get_or_insert_with(|| Progress::of(all, all > SHOWN))
                .show(done);
        })?;
        if let Some(mut progress) = progress {
            progress.end();
        }
        let made = Made {
            file: self.dest,
            events: copied.events,
            bytes: copied.bytes,
        };
        match self.output.output {
            Shape::Json => say_json(&made),
            Shape::Table => Ok(say(format!(
                "{}: {} events, {} MB, checked; laid into an empty data directory as `journal.db`, a router goes on from it",
                made.file.display(),
                made.events,
                made.bytes.div_ceil(1_000_000)
            ))?),
        }
    }
}

/// So many pages take a while.
const SHOWN: u64 = 20_000;
