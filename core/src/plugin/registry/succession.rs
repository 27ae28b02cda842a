//! One generation of a plugin's code after the other: which stays, which comes, which goes.
//!
//! What runs is what a restart would load. Only where the directory has nothing that can be used in place of what runs
//! does that go on, for as long as its file is there in whatever state.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::record::{InstanceRecord, PluginRecord, PluginState, Refused};
use crate::plugin::{
    Instance, Survey, reason_of,
    survey::{Find, Ready},
};

/// A plugin's code in use.
#[derive(Debug)]
pub(super) struct Generation {
    /// Counted from 1 since the router started.
    pub(super) number: u64,
    pub(super) ready: Arc<Ready>,
    /// From which it came, or which is to replace it and cannot.
    pub(super) file: PathBuf,
    /// Those that run.
    pub(super) instances: BTreeMap<String, Arc<Instance>>,
}

/// Of plugins, by name.
pub(super) type Generations = BTreeMap<String, Generation>;

/// What becomes of a plugin.
#[derive(Debug)]
pub(super) enum Fate {
    /// The code in use lies there.
    Stays { file: PathBuf },
    /// Other code lies there than is in use, if any is.
    Comes { ready: Arc<Ready>, file: PathBuf },
    /// Its file is there and cannot be used.
    Holds { file: PathBuf, refused: Refused },
    /// Its file is gone.
    Goes,
}

/// What becomes of each plugin that is in use or could be.
pub(super) fn fates(current: &Generations, survey: &Survey) -> BTreeMap<String, Fate> {
    let mut fates = BTreeMap::new();
    for find in &survey.finds {
        let Ok(ready) = find.passed() else { continue };
        let (name, file) = (ready.manifest.name.clone(), find.file().to_owned());
        let fate = match current.get(&name) {
            Some(generation) if generation.ready.digest() == ready.digest() => Fate::Stays { file },
            Some(_) | None => Fate::Comes {
                ready: Arc::clone(ready),
                file,
            },
        };
        fates.insert(name, fate);
    }
    for (name, generation) in current {
        fates.entry(name.clone()).or_insert_with(|| {
            survey
                .finds
                .iter()
                .find_map(|find| generation.held(name, find))
                .unwrap_or(Fate::Goes)
        });
    }
    fates
}

impl Generation {
    /// Whether it goes on since `find`, which was to replace it, cannot.
    fn held(&self, name: &str, find: &Find) -> Option<Fate> {
        let error = find.passed().err()?;
        let is_it = match find.name() {
            Some(found) => found == name,
            // What cannot be read has no name; and where it is the directory that cannot be, nobody knows better.
            None => self.file.starts_with(find.file()),
        };
        is_it.then(|| Fate::Holds {
            file: find.file().to_owned(),
            refused: Refused {
                digest: find.digest(),
                reason: reason_of(error),
            },
        })
    }

    /// What is told of it.
    pub(super) fn record(&self, instances: &[InstanceRecord], refused: Option<Refused>) -> PluginRecord {
        let Ready {
            manifest,
            signed,
            warnings,
            ..
        } = &*self.ready;
        let ours = |record: &&InstanceRecord| record.plugin == manifest.name;
        let instances: Vec<_> = instances.iter().filter(ours).cloned().collect();
        PluginRecord {
            file: self.file.clone(),
            name: Some(manifest.name.clone()),
            version: Some(manifest.version.clone()),
            description: manifest.description.clone(),
            digest: Some(self.ready.digest()),
            generation: Some(self.number),
            state: PluginState::of_all(&instances),
            refused,
            signed: signed.clone(),
            warnings: warnings.clone(),
            instances,
        }
    }
}
