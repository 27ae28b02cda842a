//! What a configuration names, found and opened: the journal, the plugins, the rules.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::RunError;
use crate::{
    clock::SystemClock,
    config::{Config, Source},
    dispatcher::Limits,
    fault::{Fault, Faults},
    ingress,
    journal::{
        self, GenerationRecord, History, Journal, JournalError, OpenError, SqliteHistory, SqliteJournal,
    },
    plugin::{self, Runner},
    router::{Generation, GenerationId, RuleFile},
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

/// The rules that a start takes up: those of the rule files, or those that a rollback keeps in their place.
#[derive(Debug)]
pub struct FirstRules {
    files: Vec<RuleFile>,
    /// Those that were in force last, as they are stored.
    before: Option<String>,
    rollback: Option<GenerationRecord>,
}

impl FirstRules {
    /// These files alone: there was nothing before.
    pub fn alone(files: Vec<RuleFile>) -> Self {
        Self {
            files,
            before: None,
            rollback: None,
        }
    }

    /// What takes the place of these files, whose generation is `id`, by what `history` knows of those before.
    ///
    /// # Errors
    ///
    /// Where the journal cannot be read, or lacks rules.
    pub async fn after(
        history: &dyn History,
        files: Vec<RuleFile>,
        id: &GenerationId,
    ) -> Result<Self, RunError> {
        let Some(last) = history.generations(1).await?.pop() else {
            return Ok(Self::alone(files));
        };
        let mut rules = Self {
            files,
            before: history.rules(&last.id).await?,
            rollback: None,
        };
        if last.displaced.as_ref() == Some(id) {
            let text = rules.before.as_deref().ok_or_else(|| missing(&last.id))?;
            rules.files = RuleFile::unpack(text).map_err(Faults::from)?;
            rules.rollback = Some(last);
        }
        Ok(rules)
    }

    /// The rollback that keeps the rule files out of use, where there is one.
    pub fn rollback(&self) -> Option<&GenerationRecord> {
        self.rollback.as_ref()
    }

    /// Compiles them. What the rules before used is known, also where it is away now, so that a plugin which is missing
    /// has its deliveries wait and stops nothing else.
    ///
    /// # Errors
    ///
    /// Every mistake in them.
    pub fn compile(&self, catalog: &Catalog) -> Result<Generation, Faults> {
        let compiled = Generation::compile(&self.files, Some(catalog)).or_else(|faults| {
            let before = self.before.as_deref();
            let before = before.and_then(|text| Generation::from_stored(text).ok());
            let before = before.ok_or(faults)?;
            Generation::compile(&self.files, Some(&before.complete(catalog)))
        });
        compiled.map_err(|faults| match &self.rollback {
            Some(last) => earlier(&last.id, faults),
            None => faults,
        })
    }
}

/// That the journal lacks rules.
pub(super) fn missing(id: &GenerationId) -> JournalError {
    JournalError::NotFound(format!("the rules of generation {id} are not in the journal"))
}

/// The faults of rules that do not stand in the rule files.
pub(super) fn earlier(id: &GenerationId, mut faults: Faults) -> Faults {
    let words = format!("these are rules of the earlier generation {id}, and not what the files say now");
    faults.push(Fault::new(words));
    faults
}

/// Holds what limits of instances count by against what the plugins of these take.
///
/// # Errors
///
/// Everything that they ask of inputs that none has: no call of such an instance could begin.
pub fn limits(limits: &BTreeMap<String, Limits>, catalog: &Catalog) -> Result<(), Faults> {
    let mut faults = Faults::new();
    for (instance, Limits { keys, .. }) in limits {
        let Some(Some(schema)) = catalog.get(instance) else {
            continue;
        };
        for by in keys.iter().map(|key| &key.by) {
            for misfit in by.misfits(schema) {
                let fault = Fault::new(format!(
                    "instance `{instance}`, limit by `{}`: {misfit}",
                    by.source()
                ));
                faults.push(fault.help("a limit counts by what the steps give its plugin, and by the event"));
            }
        }
    }
    faults.give(Some(()))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{dispatcher::KeyLimit, router::LimitKey, schema::Schema};

    #[test]
    fn a_limit_that_counts_by_what_its_plugin_does_not_take_is_told() {
        let by = |source| KeyLimit {
            by: LimitKey::compile(source).unwrap(),
            rate: None,
            concurrency: None,
        };
        let keys = || {
            vec![
                by("{{ input.channel }}"),
                by("{{ event.type }}: {{ input.chanel }}"),
            ]
        };
        let bounds = ["slack", "parked", "gone"].map(|instance| {
            let limits = Limits {
                keys: keys(),
                ..Limits::default()
            };
            (instance.to_owned(), limits)
        });
        let schema =
            json!({ "additionalProperties": false, "properties": { "channel": { "type": "string" } } });
        let schema = Arc::new(Schema::compile(schema).unwrap());
        // Of a plugin that is parked, nobody knows what it takes.
        let catalog = Catalog::from([("slack".to_owned(), Some(schema)), ("parked".to_owned(), None)]);
        let faults = limits(&BTreeMap::from(bounds), &catalog).unwrap_err();
        insta::assert_snapshot!(faults, @"
        instance `slack`, limit by `{{ event.type }}: {{ input.chanel }}`: `chanel`: unknown; did you mean `channel`?
            = a limit counts by what the steps give its plugin, and by the event
        ");
    }
}
