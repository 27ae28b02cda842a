//! The plugins and instances of a router: found, checked, loaded, replaced, looked up by name, and ended.
//!
//! [`Options`] come in. A [`Survey`](super::Survey) does all that can be done without running foreign code in this process, which is
//! all that `check` needs; [`Registry::load`] then loads and starts what passed, and [`Registry::renew`] does the same
//! again for what has changed in the directory since. Neither fails as a whole: what is wrong is *parked* with the
//! reason, in the words of whatever step found it, and the rest runs.
//!
//! What always holds: a name leads to one instance at a time. Another generation of a plugin has all its instances
//! ready before they take over, all at once; those of the one before let nobody in any more and end when the last call
//! is out. A generation in which an instance that runs could not go on is refused, and the one before it stays.

mod record;
mod renewal;
mod start;
mod succession;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::{Mutex, MutexGuard, Notify, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Host,
    describe::Runner,
    instance::{Instance, InstanceOptions, Isolation},
    reason_of,
    sandbox::unenforced,
    trust,
};
use crate::schema::Catalog;
pub use record::{InstanceRecord, PluginRecord, PluginState, Refused};
use renewal::Renewal;

/// What plugins there may be, and which instances of them.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where plugins are dropped; nothing is loaded where there is none.
    pub dir: Option<PathBuf>,
    /// Where the router keeps its own files, private copies of plugins among them.
    pub data_dir: PathBuf,
    /// Where work directories lie, which plugins that need files may reach.
    pub work_root: PathBuf,
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
pub struct Registry {
    roster: ArcSwap<Roster>,
    changes: watch::Sender<u64>,
    /// What it takes to look again; taken out at the end. Held over a renewal, of which there is one at a time.
    renewal: Mutex<Option<Renewal>>,
    /// Rung where there is reason to look again though nothing has changed in the directory.
    asked: Notify,
    /// Whether whoever uses the instances can do with what these take.
    approval: OnceLock<Approval>,
    /// Held over the moment in which generations are approved of and take over. No lock is taken under it here; that of
    /// the renewal may be held around it.
    agreement: Mutex<()>,
    /// The instances that take no calls any more and have not ended.
    leaving: TaskTracker,
    ending: CancellationToken,
}

/// Says whether instances that take this can be used, or what of it cannot.
pub type Approval = Box<dyn Fn(&Catalog) -> Result<(), String> + Send + Sync>;

/// The catalog of a registry, which stays as it is while this is held.
#[derive(Debug)]
pub struct Held<'r> {
    catalog: Arc<Catalog>,
    _agreement: MutexGuard<'r, ()>,
}

impl Held<'_> {
    /// Every name that `use` in a step may say.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }
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
        let renewal = Renewal::new(options, host, runtime);
        let registry = Self::holding(Roster::default(), Some(renewal));
        registry.renew().await;
        registry.tell_bounds();
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

    /// Says what of the bounds of workers the kernel does not enforce, if there are workers.
    fn tell_bounds(&self) {
        let unenforced = unenforced().join("; ");
        let instances = self.instances();
        let mut bounded = instances
            .iter()
            .filter(|record| record.isolation == Isolation::Process);
        if !unenforced.is_empty() && bounded.any(|record| record.state == PluginState::Loaded) {
            tracing::warn!(unenforced, "this kernel does not bound plugins in full");
        }
    }

    fn holding(roster: Roster, renewal: Option<Renewal>) -> Self {
        Self {
            roster: ArcSwap::from_pointee(roster),
            changes: renewal.as_ref().map(Renewal::changes).unwrap_or_default(),
            renewal: Mutex::new(renewal),
            asked: Notify::new(),
            approval: OnceLock::new(),
            agreement: Mutex::default(),
            leaving: TaskTracker::new(),
            ending: CancellationToken::new(),
        }
    }

    /// Has every generation of a plugin approved of, from now on: what its instances take as input may be something else
    /// than what the rules in force give them.
    pub fn have_approved(&self, approval: Approval) {
        // Whoever was asked first is asked on.
        let _ = self.approval.set(approval);
    }

    /// Looks at the plugins directory again: what is new is loaded, what has changed takes the place of what was there,
    /// and what is gone is ended. Instances that did not start are tried again.
    ///
    /// Where this is given up on the way, all that is in use is as before; what was started for it may live as long as the router.
    pub async fn renew(&self) {
        let mut renewal = self.renewal.lock().await;
        let Some(renewal) = &mut *renewal else { return };
        // Of these alone: what is wrong with another plugin is not their fault.
        let approve = |fresh: &BTreeMap<String, Arc<Instance>>| {
            let takes = |(name, instance): (&String, &Arc<Instance>)| {
                (name.clone(), Some(Arc::clone(&instance.input_schema)))
            };
            let catalog = fresh.iter().map(takes).collect();
            self.approval.get().map_or(Ok(()), |approval| approval(&catalog))
        };
        let prospect = renewal.prepare().await;
        let agreement = self.agreement.lock().await;
        // From here on nothing is waited for: it happens as a whole.
        let (roster, left) = renewal.take_over(prospect, &approve);
        let before = self.roster.swap(Arc::new(roster));
        self.changes.send_modify(|number| *number += 1);
        drop(agreement);
        announce(&before, &self.roster.load());
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

    /// Holds the catalog as it is: whoever holds rules against it and puts them in force meanwhile can rely on it, and
    /// generations of plugins that come then are held against those rules.
    pub async fn hold(&self) -> Held<'_> {
        let agreement = self.agreement.lock().await;
        Held {
            catalog: self.catalog(),
            _agreement: agreement,
        }
    }

    /// Has the [`Watch`](super::Watch) look again, where something was refused or does not run: what it was held against has
    /// changed.
    pub fn reconsider(&self) {
        let is_refused = self.list().iter().any(|plugin| plugin.refused.is_some());
        let is_parked = self
            .instances()
            .iter()
            .any(|instance| instance.state != PluginState::Loaded);
        if is_refused || is_parked {
            self.asked.notify_one();
        }
    }

    /// Waits until somebody has it look again.
    pub(super) async fn reconsidered(&self) {
        self.asked.notified().await;
    }

    /// Changes whenever other instances run than before, or one lives again that was down.
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
        let instance = roster.instances.iter().find(|record| record.name == name);
        // A plugin that is refused would have one of its own name.
        let plugin = || {
            let mut plugins = roster.plugins.iter();
            plugins.find(|record| record.name.as_deref() == Some(name))
        };
        let state = instance
            .map(|record| &record.state)
            .or_else(|| Some(&plugin()?.state))?;
        state.reason().map(str::to_owned)
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

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("roster", &self.roster.load())
            .finish_non_exhaustive()
    }
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
