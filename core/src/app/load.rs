//! What a configuration names, found and opened: the journal, the plugins, the rules.

use std::{path::Path, sync::Arc};

use crate::{
    clock::SystemClock,
    config::{Config, Source},
    fault::Faults,
    ingress,
    journal::{self, History, Journal, OpenError, SqliteHistory, SqliteJournal},
    plugin::{self, Runner},
    router::{Generation, RuleFile},
    schema::Catalog,
};

/// Opens the journal to write, and takes its lock.
pub(super) fn journal(data_dir: &Path) -> Result<Arc<dyn Journal>, OpenError> {
    Ok(Arc::new(SqliteJournal::open(
        data_dir,
        journal::Options::default(),
    )?))
}

/// Opens the journal to read: beside a running router, or while there is none.
///
/// # Errors
///
/// Where there is none yet, or it cannot be read.
pub fn history(data_dir: &Path) -> Result<Arc<dyn History>, OpenError> {
    Ok(Arc::new(SqliteHistory::open(data_dir, Arc::new(SystemClock))?))
}

/// Copies the journal of a data directory, also while its router runs.
///
/// # Errors
///
/// Where there is none, or the copy cannot be made.
pub fn back_up(
    data_dir: &Path,
    to: &Path,
    progress: impl FnMut(u64, u64),
) -> Result<journal::Copied, journal::BackupError> {
    journal::back_up(data_dir, to, progress)
}

/// What the plugin host needs of a configuration.
pub fn plugin_options(config: &Config) -> plugin::Options {
    plugin::Options {
        dir: config.plugins.dir.clone(),
        data_dir: config.data_dir.clone(),
        work_root: config.data_dir.join("work"),
        runner: Runner::this(),
        trust: config.plugins.trust.clone(),
        instances: config.instances.clone(),
        drain: config.plugins.drain,
    }
}

/// Reads and compiles the rules at `path`, which use the instances of `catalog`.
///
/// # Errors
///
/// Every mistake in them.
pub fn rules(path: &Path, catalog: &Catalog) -> Result<Generation, Faults> {
    Generation::compile(&RuleFile::load(path)?, Some(catalog))
}

impl From<Source> for ingress::Source {
    fn from(source: Source) -> Self {
        Self {
            name: source.name,
            provider: source.provider,
            body_limit: source.body_size,
            dedup_window: source.dedup_window,
        }
    }
}
