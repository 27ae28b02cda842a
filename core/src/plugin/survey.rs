//! What plugins there are and which instances of them can be, found out without running foreign code in this process.
//!
//! [`Options`] come in. Every library of the plugins directory goes through the steps that come before loading, in
//! order (read, trust, inspect, stage, describe), and stops at the first that it does not pass; every instance's
//! configuration is checked against its plugin's schema. `jackfield check` needs no more than this, and
//! [`Registry::load`](super::Registry::load) begins with it.

mod error;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    InstanceOptions, InstanceRecord, Isolation, Options, PluginRecord, PluginState,
    describe::{self, Runner},
    digest::Digest,
    directory::Directory,
    elf::{self, Glibc, Inspected},
    ffi,
    manifest::Manifest,
    note::Identity,
    reason_of,
    stage::{Stage, Staged},
    trust::{self, Trust},
};
use crate::schema::{Catalog, Violation};

pub use error::{LoadError, PlanError};

/// What was found.
#[derive(Debug)]
pub struct Survey {
    pub(super) finds: Vec<Find>,
    pub(super) plans: Vec<Plan>,
}

/// A file in the plugins directory, and how far it got.
#[derive(Debug)]
pub(super) struct Find {
    sighting: Sighting,
    passed: Result<Arc<Ready>, LoadError>,
}

/// What is known of a file, however far it got.
#[derive(Debug, Default)]
struct Sighting {
    file: PathBuf,
    digest: Option<Digest>,
    identity: Option<Identity>,
    signed: Option<String>,
    warnings: Vec<String>,
}

/// A plugin that can be loaded.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) staged: Staged,
    pub(super) manifest: Manifest,
    /// What whoever signed it says of it.
    pub(super) signed: Option<String>,
    pub(super) warnings: Vec<String>,
}

/// An instance that is configured, or comes about by itself.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) options: InstanceOptions,
    pub(super) plugin: Result<Arc<Ready>, PlanError>,
}

impl Survey {
    /// Looks at everything in the plugins directory, and at all instances.
    pub async fn take(options: Options) -> Self {
        let Options {
            dir,
            data_dir,
            runner,
            trust,
            instances,
            work_root: _,
            drain: _,
        } = options;
        let mut survey = Self {
            finds: Vec::new(),
            plans: Vec::new(),
        };
        if let Some(dir) = dir {
            survey.finds = find(dir, data_dir, trust, &runner).await;
        }
        survey.make_plans(instances);
        survey
    }

    /// Every file in the plugins directory; what is not parked could be loaded.
    pub fn plugins(&self) -> Vec<PluginRecord> {
        let instances = self.instances();
        self.finds.iter().map(|find| find.record(&instances)).collect()
    }

    /// Every instance; what is not parked could be started.
    pub fn instances(&self) -> Vec<InstanceRecord> {
        self.plans.iter().map(Plan::record).collect()
    }

    /// Every name that `use` in a step may say.
    pub fn catalog(&self) -> Catalog {
        let schema = |plan: &Plan| {
            let ready = plan
                .plugin
                .as_ref()
                .ok()
                .or_else(|| self.ready(&plan.options.plugin))?;
            Some(Arc::clone(&ready.manifest.input_schema))
        };
        let plans = self
            .plans
            .iter()
            .map(|plan| (plan.options.name.clone(), schema(plan)));
        // What a plugin that is parked takes nobody knows, but what its instance would be called.
        let parked = self.finds.iter().filter(|find| find.is_parked());
        let parked = parked.filter_map(|find| {
            let name = find.name()?;
            let is_free = |plan: &Plan| plan.options.plugin != name && plan.options.name != name;
            self.plans.iter().all(is_free).then(|| (name.to_owned(), None))
        });
        plans.chain(parked).collect()
    }

    /// Whether the instance of that name is one of a plugin that brings a provider; `None` where none could be started.
    pub fn is_provider(&self, instance: &str) -> Option<bool> {
        let ready = self.plan(instance)?.plugin.as_ref().ok()?;
        Some(ready.manifest.is_provider())
    }

    /// What is planned for the instance of that name.
    pub(super) fn plan(&self, instance: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.options.name == instance)
    }

    fn ready(&self, plugin: &str) -> Option<&Arc<Ready>> {
        self.finds
            .iter()
            .filter_map(|find| find.passed.as_ref().ok())
            .find(|ready| ready.manifest.name == plugin)
    }

    fn make_plans(&mut self, instances: Vec<InstanceOptions>) {
        self.plans = instances
            .into_iter()
            .map(|options| self.configured(options))
            .collect();
        let named: BTreeSet<_> = self
            .plans
            .iter()
            .map(|plan| plan.options.plugin.clone())
            .collect();
        for find in &mut self.finds {
            let Ok(ready) = &find.passed else { continue };
            if named.contains(&ready.manifest.name) {
                continue;
            }
            match dropped_in(ready, &self.plans) {
                Ok(plan) => self.plans.push(plan),
                Err(error) => find.passed = Err(error),
            }
        }
    }

    fn configured(&self, options: InstanceOptions) -> Plan {
        let plugin = self.fitting(&options);
        Plan { options, plugin }
    }

    /// The plugin of an instance, where that can be as it is configured.
    fn fitting(&self, options: &InstanceOptions) -> Result<Arc<Ready>, PlanError> {
        let ready = self
            .ready(&options.plugin)
            .ok_or_else(|| self.missing(&options.plugin))?;
        match options.isolation {
            Isolation::None => drop(ready.staged.harmless()?),
            Isolation::Process => {}
        }
        let violations = misfits(ready, options);
        if !violations.is_empty() {
            return Err(PlanError::Configuration {
                plugin: options.plugin.clone(),
                violations,
            });
        }
        match not_granted(ready, options) {
            lines if lines.is_empty() => Ok(Arc::clone(ready)),
            lines => Err(PlanError::NotGranted {
                plugin: options.plugin.clone(),
                lines,
            }),
        }
    }

    /// Why there is no plugin of that name to be used.
    fn missing(&self, plugin: &str) -> PlanError {
        match self.finds.iter().find(|find| find.name() == Some(plugin)) {
            Some(Find {
                passed: Err(error), ..
            }) => PlanError::PluginParked(reason_of(error)),
            _ => PlanError::NoPlugin {
                plugin: plugin.to_owned(),
                there: self
                    .finds
                    .iter()
                    .filter_map(|find| find.name().map(str::to_owned))
                    .collect(),
            },
        }
    }
}

impl Ready {
    /// The digest of its code.
    pub(super) fn digest(&self) -> Digest {
        self.staged.digest()
    }
}

impl Find {
    /// The file; for what is wrong with the directory, that.
    pub(super) fn file(&self) -> &Path {
        &self.sighting.file
    }

    /// The digest of the file, where it could be read.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.sighting.digest
    }

    /// The plugin, if it can be used.
    pub(super) fn passed(&self) -> Result<&Arc<Ready>, &LoadError> {
        self.passed.as_ref()
    }

    /// Whether something is wrong with it.
    fn is_parked(&self) -> bool {
        let error = self.passed.as_ref().err();
        error.is_some_and(|error| matches!(error.state(), PluginState::Parked { .. }))
    }

    /// What it calls itself, as far as that can be told of what did not pass.
    pub(super) fn name(&self) -> Option<&str> {
        let identity = self
            .sighting
            .identity
            .as_ref()
            .map(|identity| identity.name.as_str());
        identity.or_else(|| match &self.passed {
            Err(LoadError::Inspect(error)) => error.claimed_name(),
            _ => None,
        })
    }

    /// What is told of it, when this became of the instances.
    pub(super) fn record(&self, instances: &[InstanceRecord]) -> PluginRecord {
        let Sighting {
            file,
            digest,
            identity,
            signed,
            warnings,
        } = &self.sighting;
        let name = self.name().map(str::to_owned);
        // Of two files with one name the first has the instances.
        let ours = |record: &&InstanceRecord| self.passed.is_ok() && Some(&record.plugin) == name.as_ref();
        let instances: Vec<_> = instances.iter().filter(ours).cloned().collect();
        PluginRecord {
            file: file.clone(),
            version: identity.as_ref().map(|identity| identity.version.clone()),
            description: self
                .passed
                .as_ref()
                .ok()
                .and_then(|ready| ready.manifest.description.clone()),
            digest: *digest,
            generation: None,
            state: match &self.passed {
                Ok(_) => PluginState::of_all(&instances),
                Err(error) => error.state(),
            },
            refused: None,
            signed: signed.clone(),
            warnings: warnings.clone(),
            name,
            instances,
        }
    }
}

impl Plan {
    fn record(&self) -> InstanceRecord {
        InstanceRecord {
            name: self.options.name.clone(),
            plugin: self.options.plugin.clone(),
            isolation: self.options.isolation,
            state: self
                .plugin
                .as_ref()
                .map_or_else(|error| PluginState::parked(error), |_| PluginState::Loaded),
        }
    }
}

async fn find(dir: PathBuf, data_dir: PathBuf, trust: trust::Options, runner: &Runner) -> Vec<Find> {
    let sighting = Sighting {
        file: dir.clone(),
        ..Sighting::default()
    };
    let scanned = tokio::task::spawn_blocking(move || scan(&dir, &data_dir, &trust)).await;
    let (stage, seen) = match scanned.expect("a scan that panics is a bug, and nothing was loaded yet") {
        Ok(scanned) => scanned,
        Err(error) => {
            return vec![Find {
                sighting,
                passed: Err(error),
            }];
        }
    };
    // Several at a time, so that one which does not answer keeps the others waiting no longer than itself.
    let (stage, turns) = (Arc::new(stage), Arc::new(Semaphore::new(ASKED_AT_ONCE)));
    let mut asking = JoinSet::new();
    for (place, (sighting, staged)) in seen.into_iter().enumerate() {
        let (stage, turns, runner) = (Arc::clone(&stage), Arc::clone(&turns), runner.clone());
        asking.spawn(async move {
            let passed = match staged {
                Ok(staged) => {
                    let _turn = turns.acquire().await;
                    ready(staged, &sighting, &stage, &runner).await
                }
                Err(error) => Err(error),
            };
            (place, Find { sighting, passed })
        });
    }
    let finds: BTreeMap<_, _> = asking.join_all().await.into_iter().collect();
    finds.into_values().collect()
}

async fn ready(
    staged: Staged,
    sighting: &Sighting,
    stage: &Stage,
    runner: &Runner,
) -> Result<Arc<Ready>, LoadError> {
    let manifest = describe::describe(&staged, stage, runner).await?;
    Ok(Arc::new(Ready {
        staged,
        manifest,
        signed: sighting.signed.clone(),
        warnings: sighting.warnings.clone(),
    }))
}

/// What was seen of a file, and its private copy if it passed.
type Seen = (Sighting, Result<Staged, LoadError>);

/// The steps that read and write files, for every library. Blocks.
fn scan(dir: &Path, data_dir: &Path, trust: &trust::Options) -> Result<(Stage, Vec<Seen>), LoadError> {
    let directory = Directory::open(dir)?;
    let stage = Stage::open(data_dir)?;
    let (trust, glibc) = (Trust::read(trust), ffi::glibc());
    let mut names = BTreeMap::new();
    let mut seen = Vec::new();
    for file in directory.libraries()? {
        let mut sighting = Sighting {
            file: directory.path().join(&file),
            ..Sighting::default()
        };
        let staged = look(&directory, &file, (&trust, glibc), &mut sighting)
            .and_then(|library| free(library, &mut names))
            .and_then(|library| Ok(stage.put(library)?));
        seen.push((sighting, staged));
    }
    Ok((stage, seen))
}

/// What the libraries in `dir` call themselves and which they are, each as far as it would be trusted. Runs nothing of
/// them. Blocks.
///
/// # Errors
///
/// When the directory cannot be read or trusted.
pub fn identities(dir: &Path, trust: &trust::Options) -> Result<Vec<(PathBuf, Identified)>, LoadError> {
    let directory = Directory::open(dir)?;
    let (trust, mut names) = (Trust::read(trust), BTreeMap::new());
    let mut identified = Vec::new();
    for file in directory.libraries()? {
        let looked = look(
            &directory,
            &file,
            (&trust, ffi::glibc()),
            &mut Sighting::default(),
        );
        let found = looked.and_then(|library| free(library, &mut names));
        let found = found.map(|library| (library.identity().name.clone(), library.digest()));
        identified.push((directory.path().join(&file), found));
    }
    Ok(identified)
}

/// The name and the digest of a library, or why it would not be loaded.
pub type Identified = Result<(String, Digest), LoadError>;

/// Reads a file and looks into it, and notes what is seen.
fn look(
    directory: &Directory,
    file: &OsStr,
    (trust, glibc): (&Trust, Option<Glibc>),
    sighting: &mut Sighting,
) -> Result<Inspected, LoadError> {
    let candidate = directory.read(file, SIZE_LIMIT)?;
    sighting.digest = Some(candidate.digest());
    let origin = trust.check_signature(&candidate, directory.signature(file))?;
    let library = elf::inspect(candidate, glibc)?;
    sighting.identity = Some(library.identity().clone());
    sighting.signed = origin.signed;
    sighting.warnings = library.warnings().iter().cloned().chain(origin.warning).collect();
    trust.check_lock(&library)?;
    Ok(library)
}

/// Passes a library whose name no file before it has.
fn free(library: Inspected, names: &mut BTreeMap<String, PathBuf>) -> Result<Inspected, LoadError> {
    let (path, name) = (
        library.candidate().path().to_owned(),
        library.identity().name.clone(),
    );
    match names.entry(name) {
        Entry::Occupied(taken) => Err(LoadError::NameTaken {
            path,
            name: taken.key().clone(),
            first: taken.get().clone(),
        }),
        Entry::Vacant(free) => {
            free.insert(path);
            Ok(library)
        }
    }
}

/// The instance that a plugin gets of which no configuration speaks.
fn dropped_in(ready: &Arc<Ready>, plans: &[Plan]) -> Result<Plan, LoadError> {
    let name = &ready.manifest.name;
    if plans.iter().any(|plan| plan.options.name == *name) {
        return Err(LoadError::InstanceNameTaken(name.clone()));
    }
    let options = InstanceOptions::plain(name);
    let violations = misfits(ready, &options);
    if !violations.is_empty() {
        return Err(LoadError::NeedsConfiguration {
            name: name.clone(),
            violations,
        });
    }
    let lines = not_granted(ready, &options);
    if !lines.is_empty() {
        return Err(LoadError::NeedsGrant {
            name: name.clone(),
            lines,
        });
    }
    Ok(Plan {
        options,
        plugin: Ok(Arc::clone(ready)),
    })
}

/// The lines that grant an instance what its plugin needs; none where it has that, or is not bounded at all.
fn not_granted(ready: &Ready, options: &InstanceOptions) -> Vec<String> {
    match options.isolation {
        Isolation::Process => options
            .grant
            .missing(&ready.manifest.needs, &options.config, &options.secrets),
        Isolation::None => Vec::new(),
    }
}

/// In what a configuration does not fit, without saying what a secret is.
fn misfits(ready: &Ready, options: &InstanceOptions) -> Vec<Violation> {
    let mut violations = ready.manifest.config_schema.check(&options.config);
    for violation in &mut violations {
        if options.secrets.contains_key(&violation.pointer) {
            violation.message = "the secret there does not fit (and is not shown)".to_owned();
        }
    }
    violations
}

/// How many libraries are asked for their manifests at a time: each is a process, and each has a few seconds.
const ASKED_AT_ONCE: usize = 8;

/// The largest library that is read: several times what a plugin with everything in it has, unoptimized.
pub(super) const SIZE_LIMIT: u64 = 512 << 20;
