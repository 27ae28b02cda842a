//! One look at the plugins directory, and what it makes of the plugins and instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Weak},
};

use tokio::{runtime::Handle, sync::watch};

use super::{
    Options, Roster,
    record::{InstanceRecord, PluginRecord, PluginState, Refused},
    start::{Order, Started, Starter},
    succession::{Fate, Generation, Generations, fates},
};
use crate::plugin::{
    Host, Instance, Isolation,
    digest::Digest,
    reason_of,
    stage::{Stage, StageError},
    survey::{Plan, Survey},
};

/// What it takes to look at the plugins directory again.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) options: Options,
    starter: Starter,
    generations: Generations,
    /// The last generation of each plugin.
    numbers: BTreeMap<String, u64>,
    /// Instances that nobody configured and whose plugin is gone, with the plugin and why.
    gone: BTreeMap<String, (String, String)>,
    /// Instances that have been let go, with what their plugin's copy is called: one that dies on its way out is started again
    /// for the calls that it has.
    leaving: Vec<(Weak<Instance>, Digest)>,
}

/// What a look at the directory has found, and what of it could be started.
#[derive(Debug)]
pub(super) struct Prospect {
    survey: Survey,
    fates: BTreeMap<String, Fate>,
    started: BTreeMap<String, Started>,
}

/// Whether these instances may take the place of those of their names.
pub(super) type Approve<'a> =
    dyn Fn(&BTreeMap<String, Arc<Instance>>) -> Result<(), String> + Send + Sync + 'a;

/// By plugin: what is not used in place of the generation that is.
type Refusals = BTreeMap<String, Refused>;

impl Renewal {
    pub(super) fn new(options: Options, host: Arc<dyn Host>, runtime: Handle) -> Self {
        let program = options.runner.program.clone();
        Self {
            starter: Starter::new(host, runtime, program, options.work_root.clone()),
            options,
            generations: Generations::new(),
            numbers: BTreeMap::new(),
            gone: BTreeMap::new(),
            leaving: Vec::new(),
        }
    }

    /// Where it is told that an instance lives again.
    pub(super) fn changes(&self) -> watch::Sender<u64> {
        self.starter.changes()
    }

    /// Looks at the directory, and starts whatever may be about to take over.
    pub(super) async fn prepare(&self) -> Prospect {
        let survey = Survey::take(self.options.clone()).await;
        let fates = fates(&self.generations, &survey);
        let started = self.starter.start(self.orders(&survey, &fates)).await;
        Prospect {
            survey,
            fates,
            started,
        }
    }

    /// How everything stands with what takes over, and which instances are not needed any more.
    pub(super) fn take_over(
        &mut self,
        prospect: Prospect,
        approve: &Approve<'_>,
    ) -> (Roster, Vec<Arc<Instance>>) {
        let Prospect {
            survey,
            fates,
            started,
        } = prospect;
        let (mut left, mut refusals) = (Vec::new(), Refusals::new());
        for (plugin, fate) in fates {
            left.extend(self.settle(plugin, fate, (&survey, &started, approve), &mut refusals));
        }
        (self.roster(&survey, &started, &refusals), left)
    }

    /// Which instances have to be started.
    fn orders(&self, survey: &Survey, fates: &BTreeMap<String, Fate>) -> Vec<Order> {
        let needed = |plan: &&Plan| match fates.get(&plan.options.plugin) {
            Some(Fate::Comes { .. }) => true,
            Some(Fate::Stays { .. }) => !self.runs(&plan.options.name),
            Some(Fate::Holds { .. } | Fate::Goes) | None => false,
        };
        let plans = survey.plans.iter().filter(needed);
        plans
            .filter_map(|plan| Some((plan.options.clone(), Arc::clone(plan.plugin.as_ref().ok()?))))
            .collect()
    }

    fn runs(&self, instance: &str) -> bool {
        let mut generations = self.generations.values();
        generations.any(|generation| generation.instances.contains_key(instance))
    }

    /// Does what a plugin's fate asks for; the instances that are not needed any more.
    fn settle(
        &mut self,
        plugin: String,
        fate: Fate,
        (survey, started, approve): (&Survey, &BTreeMap<String, Started>, &Approve<'_>),
        refusals: &mut Refusals,
    ) -> Vec<Arc<Instance>> {
        let fresh = || {
            let started = started
                .iter()
                .filter_map(|(name, started)| Some((name, started.as_ref().ok()?)));
            let ours = started.filter(|(_, instance)| instance.plugin == plugin);
            ours.map(|(name, instance)| (name.clone(), Arc::clone(instance)))
        };
        match fate {
            Fate::Stays { file } => {
                let fresh: Vec<_> = fresh().collect();
                if let Some(generation) = self.generations.get_mut(&plugin) {
                    generation.file = file;
                    generation.instances.extend(fresh);
                }
                Vec::new()
            }
            Fate::Holds { file, refused } => {
                self.hold(&plugin, file);
                refusals.insert(plugin, refused);
                Vec::new()
            }
            Fate::Goes => {
                let Some(generation) = self.generations.remove(&plugin) else {
                    return Vec::new();
                };
                let reason = format!(
                    "the file of its plugin `{plugin}` was removed; put it back, or another of that name"
                );
                self.gone.extend(
                    generation
                        .instances
                        .keys()
                        .map(|name| (name.clone(), (plugin.clone(), reason.clone()))),
                );
                self.let_go(generation)
            }
            Fate::Comes { ready, file } => {
                let fresh: BTreeMap<_, _> = fresh().collect();
                let before = self.generations.get(&plugin);
                let mut names = before.into_iter().flat_map(|before| before.instances.keys());
                let unfit = names
                    .find_map(|name| why_not(name, survey, started))
                    .or_else(|| approve(&fresh).err());
                if let Some(reason) = unfit {
                    self.hold(&plugin, file);
                    let digest = Some(ready.digest());
                    refusals.insert(plugin, Refused { digest, reason });
                    return fresh.into_values().collect();
                }
                let number = self.numbers.entry(plugin.clone()).or_default();
                *number += 1;
                let generation = Generation {
                    number: *number,
                    ready,
                    file,
                    instances: fresh,
                };
                self.gone
                    .retain(|name, _| !generation.instances.contains_key(name));
                let before = self.generations.insert(plugin, generation);
                before.map(|before| self.let_go(before)).unwrap_or_default()
            }
        }
    }

    /// The instances of a generation that is not the plugin's any more.
    fn let_go(&mut self, generation: Generation) -> Vec<Arc<Instance>> {
        let digest = generation.ready.digest();
        let instances: Vec<_> = generation.instances.into_values().collect();
        let leaving = instances
            .iter()
            .map(|instance| (Arc::downgrade(instance), digest));
        self.leaving.extend(leaving);
        instances
    }

    /// What is at `file` does not replace the generation in use: that is what is told of the file.
    fn hold(&mut self, plugin: &str, file: PathBuf) {
        if let Some(generation) = self.generations.get_mut(plugin)
            // Not where it is the whole directory.
            && self.options.dir.as_ref() != Some(&file)
        {
            generation.file = file;
        }
    }

    fn roster(&self, survey: &Survey, started: &BTreeMap<String, Started>, refusals: &Refusals) -> Roster {
        let running: BTreeMap<_, _> = self
            .generations
            .values()
            .flat_map(|generation| &generation.instances)
            .map(|(name, instance)| (name.clone(), Arc::clone(instance)))
            .collect();
        let mut catalog = survey.catalog();
        for name in self.gone.keys() {
            catalog.entry(name.clone()).or_default();
        }
        for (name, instance) in &running {
            catalog.insert(name.clone(), Some(Arc::clone(&instance.input_schema)));
        }
        let instances = self.instances(survey, started, refusals, &running);
        Roster {
            plugins: self.plugins(survey, &instances, refusals).into(),
            instances: instances.into(),
            catalog: Arc::new(catalog),
            running,
        }
    }

    fn instances(
        &self,
        survey: &Survey,
        started: &BTreeMap<String, Started>,
        refusals: &Refusals,
        running: &BTreeMap<String, Arc<Instance>>,
    ) -> Vec<InstanceRecord> {
        let mut records = survey.instances();
        for record in &mut records {
            if running.contains_key(&record.name) {
                record.state = PluginState::Loaded;
            } else if let Some(Err(reason)) = started.get(&record.name) {
                record.state = PluginState::Parked {
                    reason: reason.clone(),
                };
            } else if let Some(Refused { reason, .. }) = refusals.get(&record.plugin) {
                record.state = PluginState::Parked {
                    reason: reason.clone(),
                };
            }
        }
        let known: BTreeSet<_> = records.iter().map(|record| record.name.clone()).collect();
        // Nobody has configured these, or they would be planned.
        let unplanned = |name: &str, plugin: &str, state| InstanceRecord {
            name: name.to_owned(),
            plugin: plugin.to_owned(),
            isolation: Isolation::default(),
            state,
        };
        let held = running
            .values()
            .map(|instance| unplanned(&instance.name, &instance.plugin, PluginState::Loaded));
        let gone = self.gone.iter().map(|(name, (plugin, reason))| {
            // A file of it may lie there again, and be of no use.
            let ours = survey.finds.iter().filter(|find| find.name() == Some(plugin));
            let unfit = ours.filter_map(|find| find.passed().err()).next();
            let reason = unfit.map_or_else(|| reason.clone(), |error| reason_of(error));
            unplanned(name, plugin, PluginState::Parked { reason })
        });
        records.extend(held.chain(gone).filter(|record| !known.contains(&record.name)));
        records
    }

    fn plugins(
        &self,
        survey: &Survey,
        instances: &[InstanceRecord],
        refusals: &Refusals,
    ) -> Vec<PluginRecord> {
        let mut in_use: BTreeMap<_, _> = self
            .generations
            .iter()
            .map(|(name, generation)| {
                let record = generation.record(instances, refusals.get(name).cloned());
                (generation.file.as_path(), record)
            })
            .collect();
        let records = survey.finds.iter().map(|find| {
            in_use
                .remove(find.file())
                .unwrap_or_else(|| find.record(instances))
        });
        let mut records: Vec<_> = records.collect();
        records.extend(in_use.into_values());
        records
    }

    /// Removes private copies of what is not in use.
    pub(super) async fn sweep(&mut self) -> Result<(), StageError> {
        if self.options.dir.is_none() {
            return Ok(());
        }
        self.leaving.retain(|(instance, _)| instance.strong_count() > 0);
        let generations = self.generations.values();
        let in_use: BTreeSet<Digest> = generations
            .map(|generation| generation.ready.digest())
            .chain(self.leaving.iter().map(|(_, digest)| *digest))
            .collect();
        let data_dir = self.options.data_dir.clone();
        let swept = tokio::task::spawn_blocking(move || Stage::open(&data_dir)?.sweep(&in_use));
        swept.await.expect("removing files does not panic")
    }
}

/// Why an instance cannot go on in the generation that comes, where it cannot.
fn why_not(name: &str, survey: &Survey, started: &BTreeMap<String, Started>) -> Option<String> {
    let why = match started.get(name) {
        Some(Ok(_)) => return None,
        Some(Err(reason)) => reason.clone(),
        None => match survey.plan(name).map(|plan| &plan.plugin) {
            Some(Err(error)) => reason_of(error),
            Some(Ok(_)) | None => "it has no place in it".to_owned(),
        },
    };
    Some(format!("its instance `{name}` cannot go on: {why}"))
}
