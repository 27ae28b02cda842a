//! The rules in force, and what puts others in their place.
//!
//! Rules come out of the rule files: at the start, when those change, on SIGHUP, and when a person asks. Or they come out
//! of the journal: a person asks for an earlier generation, which then holds until the rule files change, over restarts
//! as well. All of it is done by one task, one thing after the other, and in the same way.
//!
//! What always holds: rules that do not compile, or do not fit the plugins in force, change nothing. What rules in force use
//! is known while it is away, also to those that come after them: one plugin that is missing is waited for, and stops no
//! other rules. A generation is on disk, and noted as being in force, before an event is routed under it. While rules are held against the plugins, no
//! generation of a plugin takes over, so that neither passes against a partner that is on its way out. An event is routed
//! under the generation that it finds, and whatever comes of it is carried out under that one.

mod metrics;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use prometheus_client::registry::Registry;
use tokio::{
    signal::unix::Signal,
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    RunError,
    aside::Aside,
    load::{FirstRules, earlier, missing},
    supervisor,
};
use crate::{
    admin::{RefusedRules, Rules, RulesError, Standing, Taken},
    clock::Clock,
    dispatcher::Generations,
    fault::Faults,
    journal::{Cause, Journal, JournalError},
    plugin::{self, Held},
    router::{Generation, GenerationId, RuleFile, RuleFiles},
    schema::Catalog,
    watch::Watch,
};

use metrics::Metrics;

/// The driver that puts rules in force.
pub(super) struct InForce {
    parts: Parts,
    routes: Arc<ArcSwap<Generation>>,
    generations: Arc<Generations>,
    standing: Arc<ArcSwap<Standing>>,
    metrics: Metrics,
    watch: Watch<RuleFiles>,
    asked: mpsc::Receiver<Asked>,
    handle: Handle,
    /// Why rule files were taken up that the journal could not keep.
    owed: Option<Cause>,
}

/// What it works with.
pub(super) struct Parts {
    /// A rule file, or a directory of them.
    pub(super) path: PathBuf,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) plugins: Arc<plugin::Registry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) aside: Aside,
}

/// By which others ask for rules.
#[derive(Clone)]
pub(super) struct Handle {
    ask: mpsc::Sender<Asked>,
    standing: Arc<ArcSwap<Standing>>,
    generations: Arc<Generations>,
    journal: Arc<dyn Journal>,
}

/// What a person asks for, and who waits for the answer.
struct Asked {
    what: What,
    answer: oneshot::Sender<Result<Taken, RulesError>>,
}

enum What {
    Reload,
    RollBack(String),
}

impl InForce {
    /// Puts those rules in force that a start finds.
    ///
    /// # Errors
    ///
    /// Every mistake in them; and where the journal cannot keep them.
    pub(super) async fn start(parts: Parts, registry: &mut Registry) -> Result<Self, RunError> {
        // Before the files are read for the first time, so that nothing is missed in between.
        let watch = Watch::begin(RuleFiles(parts.path.clone()));
        let held = parts.plugins.hold().await;
        let (generation, displaced) = parts.first(&held).await?;
        let generation = Arc::new(generation);
        let (id, displaced) = (generation.id(), displaced.as_ref());
        parts.journal.store_rules(id, generation.text()).await?;
        let in_force = parts.journal.put_in_force(id, Cause::Start, displaced).await?;
        warn_of_missing(&generation, held.catalog());
        drop(held);
        let standing = Standing {
            in_force,
            routes: generation.routes().len(),
            refused: None,
        };
        warn_of_unindexed(&generation);
        let generations = parts.unsettled().await?;
        generations.insert(Arc::clone(&generation));
        // As many as people type at a time.
        let (ask, asked) = mpsc::channel(16);
        let metrics = Metrics::register(registry);
        metrics.stands(&standing);
        let standing = Arc::new(ArcSwap::from_pointee(standing));
        let generations = Arc::new(generations);
        Ok(Self {
            routes: Arc::new(ArcSwap::new(generation)),
            generations: Arc::clone(&generations),
            metrics,
            watch,
            asked,
            handle: Handle {
                ask,
                standing: Arc::clone(&standing),
                generations,
                journal: Arc::clone(&parts.journal),
            },
            standing,
            parts,
            owed: None,
        })
    }

    /// The generation in force, whichever it is.
    pub(super) fn routes(&self) -> Arc<ArcSwap<Generation>> {
        Arc::clone(&self.routes)
    }

    /// Those that deliveries are carried out under.
    pub(super) fn generations(&self) -> Arc<Generations> {
        Arc::clone(&self.generations)
    }

    /// By which others ask for rules.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `stop`. What is under way then is brought to its end.
    pub(super) async fn run(mut self, mut hangup: Signal, stop: CancellationToken) {
        let mut plugins = self.parts.plugins.changes();
        loop {
            let is_refused = self.standing.load().refused.is_some();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(asked) = self.asked.recv() => self.answer(asked).await,
                Some(()) = hangup.recv() => {
                    supervisor::reloading();
                    let _ = self.reload(Cause::Signal).await;
                    supervisor::ready();
                }
                // What the rules name may be there now, or take what they give.
                Ok(()) = plugins.changed(), if is_refused => drop(self.reload(Cause::Change).await),
                () = self.watch.changed() => drop(self.reload(Cause::Change).await),
                // The journal may be well again, and nobody changes the files for that.
                () = sleep(AGAIN), if self.owed.is_some() => drop(self.reload(Cause::Change).await),
            }
        }
    }

    async fn answer(&mut self, Asked { what, answer }: Asked) {
        let result = match what {
            What::Reload => self.reload(Cause::Request).await,
            What::RollBack(name) => self.roll_back(&name).await,
        };
        // Whoever does not wait for it any more finds it in the log.
        let _ = answer.send(result);
    }

    /// Takes up the rule files as they are now.
    async fn reload(&mut self, cause: Cause) -> Result<Taken, RulesError> {
        // A person who asked for files that could not be kept asks for them still, whatever has them tried again.
        let first = match (cause, self.owed) {
            (Cause::Change, Some(first)) => first,
            _ => cause,
        };
        let held = self.parts.plugins.hold().await;
        let result = self.take_files(&held, first).await;
        drop(held);
        match &result {
            Ok(taken) => self.metrics.taken(taken),
            Err(error) => self.refuse(error, cause),
        }
        self.owed = matches!(result, Err(RulesError::Journal(_))).then_some(first);
        result
    }

    async fn take_files(&self, held: &Held<'_>, cause: Cause) -> Result<Taken, RulesError> {
        let (files, id) = self.parts.files().await?;
        let in_force = self.routes.load_full();
        let displaced = self.standing.load().in_force.displaced.clone();
        // A rollback holds for as long as nobody has changed the files, or asked for them as they are.
        if cause == Cause::Change && displaced.as_ref() == Some(&id) {
            return Ok(self.taken(&in_force));
        }
        if id == *in_force.id() {
            return self.put_in_force(in_force, cause, None).await;
        }
        self.forget(&in_force).await;
        let catalog = in_force.complete(held.catalog());
        let generation = Arc::new(self.parts.compile(files, catalog).await?);
        self.put_in_force(generation, cause, None).await
    }

    /// Puts an earlier generation in force, in place of that of the rule files.
    async fn roll_back(&mut self, name: &str) -> Result<Taken, RulesError> {
        let held = self.parts.plugins.hold().await;
        let id = self.parts.journal.generation(name).await?;
        let in_force = self.routes.load_full();
        if id == *in_force.id() {
            let words = format!("the generation {id} is in force already");
            return Err(JournalError::Refused(words).into());
        }
        // Files that cannot even be read are displaced by nothing: they have to change before they are of any use.
        let displaced = self.parts.files().await.ok().map(|(_, files)| files);
        let displaced = displaced.filter(|files| *files != id);
        self.forget(&in_force).await;
        let catalog = in_force.complete(held.catalog());
        let generation = Arc::new(self.parts.stored(&id, catalog).await?);
        let taken = self.put_in_force(generation, Cause::Rollback, displaced).await?;
        self.owed = None;
        self.metrics.taken(&taken);
        Ok(taken)
    }

    async fn put_in_force(
        &self,
        generation: Arc<Generation>,
        cause: Cause,
        displaced: Option<GenerationId>,
    ) -> Result<Taken, RulesError> {
        let (id, journal) = (generation.id(), &self.parts.journal);
        journal.store_rules(id, generation.text()).await?;
        let in_force = journal.put_in_force(id, cause, displaced.as_ref()).await?;
        // From here on nothing fails: whoever is told of an error can rely on it that the rules are those from before.
        // The dispatcher is to know the generation before there is a delivery of it.
        self.generations.insert(Arc::clone(&generation));
        let before = self.routes.swap(Arc::clone(&generation));
        let standing = Standing {
            in_force,
            routes: generation.routes().len(),
            // A rollback makes the files no better.
            refused: self
                .standing
                .load()
                .refused
                .clone()
                .filter(|_| displaced.is_some()),
        };
        self.metrics.stands(&standing);
        self.standing.store(Arc::new(standing));
        let taken = self.taken(&before);
        announce(&taken, cause);
        if taken.generation != taken.before {
            warn_of_missing(&generation, &self.parts.plugins.catalog());
            warn_of_unindexed(&generation);
            self.parts.plugins.reconsider();
        }
        Ok(taken)
    }

    /// What there is to say after `before`.
    fn taken(&self, before: &Generation) -> Taken {
        let standing = self.standing.load();
        Taken {
            generation: standing.in_force.id.clone(),
            before: before.id().clone(),
            routes: standing.routes,
            displaced: standing.in_force.displaced.clone(),
        }
    }

    /// Lets go of generations that nothing is owed under, but for that in force: before another is compiled, so that there are
    /// never more of them than two for that. The one before it is kept until then, since an event may be on its way to the
    /// journal that has just been routed.
    async fn forget(&self, in_force: &Generation) {
        let mut needed = match self.parts.journal.unsettled_generations().await {
            Ok(needed) => needed,
            // Then they are kept until the next time.
            Err(error) => return tracing::warn!(%error, "the journal could not say which rules are needed"),
        };
        needed.push(in_force.id().clone());
        let forgotten = self.generations.retain(&needed);
        // Taking thousands of routes apart takes a while.
        self.parts.aside.does(move || drop(forgotten)).await;
    }

    fn refuse(&self, error: &RulesError, cause: Cause) {
        self.metrics.refused();
        let faults = match error {
            RulesError::Faults(faults) => faults,
            RulesError::Journal(_) if self.owed.is_some() && cause == Cause::Change => return,
            RulesError::Journal(error) => {
                return tracing::error!(%error, "rules not taken up; those in force stay, and it is tried again");
            }
            RulesError::Stopping => return,
        };
        let before = self.standing.load_full();
        let known = before.refused.as_ref().map(|refused| &refused.faults) == Some(faults);
        // Whoever asks is told; whoever does not, has been.
        if !known || cause != Cause::Change {
            let in_force = &before.in_force.id;
            tracing::warn!(%faults, %in_force, cause = cause.word(), "rules refused; those in force stay");
        }
        if known {
            return;
        }
        let standing = Standing {
            refused: Some(RefusedRules {
                since: self.parts.clock.now(),
                faults: faults.clone(),
            }),
            ..Standing::clone(&before)
        };
        self.metrics.stands(&standing);
        self.standing.store(Arc::new(standing));
    }
}

impl Parts {
    /// What is wrong with the rules that a start would put in force.
    pub(super) async fn faults(&self) -> Result<Faults, RunError> {
        let held = self.plugins.hold().await;
        match self.first(&held).await {
            Ok(_) => Ok(Faults::new()),
            Err(RunError::Faults(faults)) => Ok(faults),
            Err(error) => Err(error),
        }
    }

    /// The generation that a start puts in force, and that of the rule files where it is another.
    async fn first(&self, held: &Held<'_>) -> Result<(Generation, Option<GenerationId>), RunError> {
        let (files, id) = self.files().await?;
        let rules = FirstRules::after(&*self.journal, files, &id).await?;
        let rollback = rules.rollback().is_some();
        if let Some(last) = rules.rollback() {
            tracing::warn!(
                generation = %last.id, displaced = %id,
                "a rollback is in force; the rule files are not used until they change, or `jackfield routes reload`"
            );
        }
        let catalog = Arc::clone(held.catalog());
        let generation = self.aside.does(move || rules.compile(&catalog)).await?;
        Ok((generation, rollback.then_some(id)))
    }

    /// Compiles rules that are to come into force, and holds them against the plugins that there are.
    async fn compile(&self, files: Vec<RuleFile>, catalog: Catalog) -> Result<Generation, Faults> {
        let compile = move || Generation::compile(&files, Some(&catalog));
        self.aside.does(compile).await
    }

    /// The rule files as they are now, and the name that their generation has or would have.
    async fn files(&self) -> Result<(Vec<RuleFile>, GenerationId), Faults> {
        let path = self.path.clone();
        let read = move || {
            let files = RuleFile::load(&path)?;
            let id = GenerationId::of_files(&files);
            Ok((files, id))
        };
        self.aside.does(read).await
    }

    /// A generation out of the journal, held against the plugins of today.
    async fn stored(&self, id: &GenerationId, catalog: Catalog) -> Result<Generation, RulesError> {
        let text = self.journal.rules(id).await?.ok_or_else(|| missing(id))?;
        let files = RuleFile::unpack(&text).map_err(Faults::from)?;
        let compiled = self.compile(files, catalog).await;
        Ok(compiled.map_err(|faults| earlier(id, faults))?)
    }

    /// Compiles the rules of every delivery that is not settled, from the journal.
    ///
    /// A generation that no longer compiles is left out, with a word in the log: the dispatcher then finds it missing, and
    /// gives each of its deliveries up with that reason.
    async fn unsettled(&self) -> Result<Generations, JournalError> {
        let generations = Generations::default();
        for id in self.journal.unsettled_generations().await? {
            let Some(text) = self.journal.rules(&id).await? else {
                tracing::error!(generation = %id, "the rules of unsettled deliveries are missing in the journal");
                continue;
            };
            match self.aside.does(move || Generation::from_stored(&text)).await {
                Ok(generation) => generations.insert(Arc::new(generation)),
                Err(faults) => {
                    tracing::error!(generation = %id, %faults, "the rules of unsettled deliveries do not compile any more");
                }
            }
        }
        Ok(generations)
    }
}

fn announce(taken: &Taken, cause: Cause) {
    let Taken {
        generation,
        before,
        routes,
        displaced,
    } = taken;
    let (cause, displaced) = (cause.word(), displaced.as_ref().map(tracing::field::display));
    if generation == before {
        return tracing::info!(%generation, cause, "rules unchanged");
    }
    match &displaced {
        None => tracing::info!(%generation, %before, routes, cause, "rules in force"),
        Some(displaced) => tracing::warn!(
            %generation, %before, routes, cause, displaced,
            "rules in force by a rollback, until the rule files change, or `jackfield routes reload`"
        ),
    }
}

/// Names the instances that rules use and that there are not: of what was known before, no fault is made.
fn warn_of_missing(generation: &Generation, catalog: &Catalog) {
    for instance in generation.instances() {
        if !catalog.contains_key(instance) {
            tracing::warn!(
                instance,
                "the rules use an instance that there is not; what is owed to it waits until it is there"
            );
        }
    }
}

/// Names the routes that cost something with every event, as `check` does: the first of them, and how many more there are.
fn warn_of_unindexed(generation: &Generation) {
    let mut unindexed = generation.unindexed();
    for route in unindexed.by_ref().take(MOST_WARNINGS) {
        tracing::warn!(
            route = route.name(),
            "no value leads to the route, so that it is held against nearly every event"
        );
    }
    let more = unindexed.count();
    if more > 0 {
        tracing::warn!(
            more,
            "no value leads to more routes; `jackfield check` names them all"
        );
    }
}

/// When rules are tried again that the journal could not keep.
const AGAIN: Duration = Duration::from_secs(5);
/// How many routes a log names one by one.
const MOST_WARNINGS: usize = 20;

#[async_trait]
impl Rules for Handle {
    fn standing(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    async fn reload(&self) -> Result<Taken, RulesError> {
        self.ask(What::Reload).await
    }

    async fn roll_back(&self, name: String) -> Result<Taken, RulesError> {
        self.ask(What::RollBack(name)).await
    }

    async fn generation(&self, id: &GenerationId) -> Result<Arc<Generation>, JournalError> {
        let found = self.generations.get(id, &*self.journal).await?;
        found.ok_or_else(|| {
            JournalError::NotFound(format!(
                "the rules of generation {id} are missing, or do not compile any more"
            ))
        })
    }
}

impl Handle {
    async fn ask(&self, what: What) -> Result<Taken, RulesError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.ask.send(Asked { what, answer }).await;
        asked.map_err(|_| RulesError::Stopping)?;
        answered.await.map_err(|_| RulesError::Stopping)?
    }
}
