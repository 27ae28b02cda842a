//! The plugins and instances of a router: found, checked, loaded, replaced, looked up by name, and ended.
//!
//! [`Options`] come in. A [`Survey`] does all that can be done without running foreign code in this process, which is
//! all that `check` needs; [`Registry::load`] then loads and starts what passed, and [`Registry::renew`] does the same
//! again for what has changed in the directory since. Neither fails as a whole: what is wrong is *parked* with the
//! reason, in the words of whatever step found it, and the rest runs.
//!
//! What always holds: a name leads to one instance at a time. Another generation of a plugin has all its instances
//! ready before they take over, all at once; those of the one before let nobody in any more and end when the last call
//! is out. A generation in which an instance that runs could not go on is refused, and the one before it stays.

mod record;
mod start;
mod succession;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Host,
    describe::Runner,
    digest::Digest,
    instance::{Instance, InstanceOptions, Isolation},
    reason_of,
    stage::{Stage, StageError},
    survey::{Plan, Survey},
    trust,
};
use crate::schema::Catalog;
pub use record::{InstanceRecord, PluginRecord, PluginState, Refused};
use start::{Order, Started, Starter};
use succession::{Fate, Generation, Generations, fates};

/// What plugins there may be, and which instances of them.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where plugins are dropped; nothing is loaded where there is none.
    pub dir: Option<PathBuf>,
    /// Where the router keeps its own files, private copies of plugins among them.
    pub data_dir: PathBuf,
    /// How plugins are asked for their manifests; its program is that of worker processes, too.
    pub runner: Runner,
    /// Whose code is run.
    pub trust: trust::Options,
    /// The configured instances; their names differ.
    pub instances: Vec<InstanceOptions>,
    /// How long the calls in an instance that is replaced or removed may go on before they are asked to end.
    pub drain: Duration,
}

/// How long calls in an instance that is replaced may go on, where nothing is said.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// The plugins and instances of a running router.
#[derive(Debug)]
pub struct Registry {
    roster: ArcSwap<Roster>,
    changes: watch::Sender<u64>,
    /// What it takes to look again; taken out at the end. Held over a renewal, of which there is one at a time.
    renewal: Mutex<Option<Renewal>>,
    /// The instances that take no calls any more and have not ended.
    leaving: TaskTracker,
    ending: CancellationToken,
}

/// How everything stands.
#[derive(Debug, Default)]
struct Roster {
    plugins: Arc<[PluginRecord]>,
    instances: Arc<[InstanceRecord]>,
    catalog: Arc<Catalog>,
    running: BTreeMap<String, Arc<Instance>>,
}

impl Registry {
    /// Loads and starts whatever can be. What the instances ask of the router is done by `host`, on `runtime`.
    ///
    /// Signal handlers of the process are set before this, not meanwhile: those that change while a library is loaded
    /// are put back.
    pub async fn load(options: Options, host: Arc<dyn Host>, runtime: Handle) -> Self {
        let program = options.runner.program.clone();
        let registry = Self::holding(
            Roster::default(),
            Some(Renewal {
                starter: Starter::new(host, runtime, program),
                options,
                generations: Generations::new(),
                numbers: BTreeMap::new(),
                gone: BTreeMap::new(),
            }),
        );
        registry.renew().await;
        registry
    }

    /// A registry of instances that were made elsewhere.
    pub fn of(instances: impl IntoIterator<Item = Instance>) -> Self {
        let (mut roster, mut records, mut catalog) = (Roster::default(), Vec::new(), Catalog::default());
        for instance in instances {
            let name = instance.name.clone();
            catalog.insert(name.clone(), Some(Arc::clone(&instance.input_schema)));
            records.push(InstanceRecord {
                name: name.clone(),
                plugin: instance.plugin.clone(),
                isolation: Isolation::default(),
                state: PluginState::Loaded,
            });
            roster.running.insert(name, Arc::new(instance));
        }
        roster.instances = records.into();
        roster.catalog = Arc::new(catalog);
        Self::holding(roster, None)
    }

    fn holding(roster: Roster, renewal: Option<Renewal>) -> Self {
        Self {
            roster: ArcSwap::from_pointee(roster),
            changes: watch::Sender::new(0),
            renewal: Mutex::new(renewal),
            leaving: TaskTracker::new(),
            ending: CancellationToken::new(),
        }
    }

    /// Looks at the plugins directory again: what is new is loaded, what has changed takes the place of what was there,
    /// and what is gone is ended. Instances that did not start are tried again.
    ///
    /// Where this is given up on the way, everything is as before.
    pub async fn renew(&self) {
        let mut renewal = self.renewal.lock().await;
        let Some(renewal) = &mut *renewal else { return };
        let (roster, left) = renewal.look_again().await;
        let before = self.roster.swap(Arc::new(roster));
        announce(&before, &self.roster.load());
        self.changes.send_modify(|number| *number += 1);
        for instance in left {
            self.retire(instance, renewal.options.drain);
        }
        if let Err(error) = renewal.sweep().await {
            tracing::warn!(
                error = reason_of(&error),
                "private copies of plugins could not be removed"
            );
        }
    }

    /// Changes whenever other instances run than before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The instance of that name, if it runs.
    pub fn instance(&self, name: &str) -> Option<Arc<Instance>> {
        self.roster.load().running.get(name).cloned()
    }

    /// The instances that run, in the order of their names.
    pub fn running(&self) -> Vec<Arc<Instance>> {
        self.roster.load().running.values().cloned().collect()
    }

    /// Why the instance of that name does not run, if it should.
    pub fn parked(&self, name: &str) -> Option<String> {
        let roster = self.roster.load();
        let record = roster.instances.iter().find(|record| record.name == name)?;
        record.state.reason().map(str::to_owned)
    }

    /// Every file in the plugins directory, and what became of it.
    pub fn list(&self) -> Arc<[PluginRecord]> {
        Arc::clone(&self.roster.load().plugins)
    }

    /// Every instance that is configured or came about by itself, and what became of it.
    pub fn instances(&self) -> Arc<[InstanceRecord]> {
        Arc::clone(&self.roster.load().instances)
    }

    /// Every name that `use` in a step may say.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.roster.load().catalog)
    }

    /// Ends every instance, all at once. Each is given `grace`; what is stuck then is left alone.
    pub async fn shutdown(&self, grace: Duration) {
        // Whoever looks at the directory comes to an end with that first, and nobody looks again.
        drop(self.renewal.lock().await.take());
        self.ending.cancel();
        let mut ending = JoinSet::new();
        for instance in self.running() {
            ending.spawn(async move { instance.retire(std::future::ready(()), grace).await });
        }
        ending.join_all().await;
        self.leaving.close();
        self.leaving.wait().await;
    }

    fn retire(&self, instance: Arc<Instance>, drain: Duration) {
        let ending = self.ending.clone();
        self.leaving.spawn(async move {
            let late = async {
                tokio::select! {
                    () = sleep(drain) => {}
                    () = ending.cancelled() => {}
                }
            };
            instance.retire(late, END_GRACE).await;
            let Instance {
                name,
                plugin,
                version,
                ..
            } = &*instance;
            tracing::info!(
                plugin,
                version,
                instance = name,
                "instance ended, its generation being out of use"
            );
        });
    }
}

/// What it takes to look at the plugins directory again.
#[derive(Debug)]
struct Renewal {
    options: Options,
    starter: Starter,
    generations: Generations,
    /// The last generation of each plugin.
    numbers: BTreeMap<String, u64>,
    /// Instances that nobody configured and whose plugin is gone, with the plugin and why.
    gone: BTreeMap<String, (String, String)>,
}

/// By plugin: what is not used in place of the generation that is.
type Refusals = BTreeMap<String, Refused>;

impl Renewal {
    /// How everything stands after a look at the directory, and which instances are not needed any more.
    async fn look_again(&mut self) -> (Roster, Vec<Arc<Instance>>) {
        let survey = Survey::take(self.options.clone()).await;
        let fates = fates(&self.generations, &survey);
        let started = self.starter.start(self.orders(&survey, &fates)).await;
        // From here on nothing is waited for: it happens as a whole.
        let (mut left, mut refusals) = (Vec::new(), Refusals::new());
        for (plugin, fate) in fates {
            left.extend(self.settle(plugin, fate, &survey, &started, &mut refusals));
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
        survey: &Survey,
        started: &BTreeMap<String, Started>,
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
                let generation = self.generations.remove(&plugin);
                let instances = generation
                    .map(|generation| generation.instances)
                    .unwrap_or_default();
                let reason = format!(
                    "the file of its plugin `{plugin}` was removed; put it back, or another of that name"
                );
                self.gone.extend(
                    instances
                        .keys()
                        .map(|name| (name.clone(), (plugin.clone(), reason.clone()))),
                );
                instances.into_values().collect()
            }
            Fate::Comes { ready, file } => {
                let fresh: BTreeMap<_, _> = fresh().collect();
                let unfit = self.generations.get(&plugin).and_then(|before| {
                    let mut names = before.instances.keys();
                    names.find_map(|name| why_not(name, survey, started))
                });
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
                before
                    .map(|before| before.instances.into_values().collect())
                    .unwrap_or_default()
            }
        }
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
            let reason = reason.clone();
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
    async fn sweep(&self) -> Result<(), StageError> {
        if self.options.dir.is_none() {
            return Ok(());
        }
        let generations = self.generations.values();
        let in_use: BTreeSet<Digest> = generations.map(|generation| generation.ready.digest()).collect();
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

/// Logs what is otherwise than before.
fn announce(before: &Roster, now: &Roster) {
    for plugin in now
        .plugins
        .iter()
        .filter(|plugin| !before.plugins.contains(plugin))
    {
        let (file, digest) = (plugin.file.display(), plugin.digest.map(tracing::field::display));
        let (name, version, generation) = (
            plugin.name.as_deref(),
            plugin.version.as_deref(),
            plugin.generation,
        );
        match (&plugin.state, &plugin.refused) {
            (_, Some(Refused { reason, .. })) => {
                tracing::warn!(plugin = name, version, generation, %file, reason, "plugin not replaced; what ran before goes on");
            }
            (PluginState::Loaded, None) => {
                tracing::info!(plugin = name, version, generation, %file, digest, "plugin loaded");
            }
            (PluginState::Idle { reason }, None) => {
                tracing::info!(plugin = name, %file, reason, "plugin idle")
            }
            (PluginState::Parked { reason }, None) => {
                tracing::warn!(plugin = name, %file, reason, "plugin parked");
            }
        }
        for warning in &plugin.warnings {
            tracing::warn!(plugin = name, %file, warning, "plugin is unusual");
        }
    }
    for record in now
        .instances
        .iter()
        .filter(|record| !before.instances.contains(record))
    {
        let InstanceRecord {
            name, plugin, state, ..
        } = record;
        match state {
            PluginState::Loaded => tracing::info!(instance = name, plugin, "instance started"),
            PluginState::Idle { reason } | PluginState::Parked { reason } => {
                tracing::warn!(instance = name, plugin, reason, "instance parked");
            }
        }
    }
}

/// How long an instance that is out of use has to end once it is asked to.
const END_GRACE: Duration = Duration::from_secs(5);
