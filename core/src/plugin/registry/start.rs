//! How instances come to run: in this process or in one of their own.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OnceCell, Semaphore, watch},
    task::JoinSet,
};

use crate::plugin::{
    Caller, Egress, Exit, Host, Housing, InProcess, Instance, InstanceOptions, Isolation, Library, OpenError,
    Sandbox, Setup, Tally, Worker, instance::Visits, reason_of, survey::Ready,
};

/// Starts instances.
pub(super) struct Starter {
    /// Counted up when an instance lives again that was down.
    changes: watch::Sender<u64>,
    host: Arc<dyn Host>,
    runtime: Handle,
    /// This program, which is that of worker processes too.
    program: PathBuf,
    /// Where work directories lie.
    work: PathBuf,
    /// The way out of worker processes, opened for the first that needs it.
    egress: OnceCell<Egress>,
    /// By instance: one generation of a plugin takes over from the one before. A leaf lock.
    legacies: Mutex<BTreeMap<String, Legacy>>,
}

/// What of an instance outlives the generations of its plugin.
#[derive(Clone, Debug)]
struct Legacy {
    permits: Arc<Semaphore>,
    tally: Arc<Tally>,
}

/// An instance that is to run, of which plugin.
pub(super) type Order = (InstanceOptions, Arc<Ready>);

/// What became of it.
pub(super) type Started = Result<Arc<Instance>, String>;

/// Where an instance is to live.
enum Place {
    /// In this process, where its library is loaded.
    Here(Library),
    /// In a process of its own.
    Process(Housing),
}

impl Starter {
    pub(super) fn new(host: Arc<dyn Host>, runtime: Handle, program: PathBuf, work: PathBuf) -> Self {
        Self {
            changes: watch::Sender::new(0),
            host,
            runtime,
            program,
            work,
            egress: OnceCell::new(),
            legacies: Mutex::default(),
        }
    }

    pub(super) fn changes(&self) -> watch::Sender<u64> {
        self.changes.clone()
    }

    /// Starts instances, all at the same time, and says of each what became of it, by name.
    pub(super) async fn start(&self, orders: Vec<Order>) -> BTreeMap<String, Started> {
        let mut results = BTreeMap::new();
        // All libraries are loaded before any of these starts, so that what an instance does to the process's signals
        // is not taken for the doing of a library that is being loaded.
        let mut placed = Vec::new();
        for (options, ready) in orders {
            let place = match options.isolation {
                Isolation::None => open(&ready)
                    .await
                    .map(Place::Here)
                    .map_err(|error| reason_of(&error)),
                Isolation::Process => self
                    .housing(&options, &ready)
                    .await
                    .map(Place::Process)
                    .map_err(|error| format!("the proxy for its connections cannot be opened: {error}")),
            };
            match place {
                Ok(place) => placed.push((options, ready, place)),
                Err(reason) => drop(results.insert(options.name, Err(reason))),
            }
        }
        let mut starting = JoinSet::new();
        for (options, ready, place) in placed {
            let (name, Legacy { permits, tally }) = (options.name.clone(), self.legacy(&options));
            let setup = self.setup(&options, tally);
            starting.spawn(async move {
                let caller = make(place, setup, &ready).await;
                let instance = caller.map(|caller| Arc::new(instance(options, &ready, permits, caller)));
                (name, instance)
            });
        }
        results.extend(starting.join_all().await);
        results
    }

    fn setup(&self, options: &InstanceOptions, tally: Arc<Tally>) -> Setup {
        Setup {
            plugin: options.plugin.clone(),
            instance: options.name.clone(),
            config: options.config.clone(),
            secrets: options.secrets.clone(),
            host: Arc::clone(&self.host),
            runtime: self.runtime.clone(),
            limit: CREATE_LIMIT,
            grace: CANCEL_GRACE,
            busy: false,
            tally,
        }
    }

    async fn housing(&self, options: &InstanceOptions, ready: &Ready) -> io::Result<Housing> {
        let (needs, grant) = (&ready.manifest.needs, &options.grant);
        for kind in grant.idle(needs) {
            let (instance, plugin) = (&options.name, &options.plugin);
            tracing::warn!(
                instance,
                plugin,
                kind,
                "grant not given: the plugin does not say that it needs it"
            );
        }
        let egress = match grant.is_networked(needs) {
            true => Some(
                self.egress
                    .get_or_try_init(|| Egress::open(&self.runtime))
                    .await?,
            ),
            false => None,
        };
        Ok(Housing {
            program: self.program.clone(),
            limits: options.limits,
            sandbox: Sandbox::of(needs, grant, &self.work, egress.map(Egress::port)),
            exit: egress.map(|egress| Exit {
                egress: egress.clone(),
                destinations: grant.network.clone(),
            }),
            revived: self.changes.clone(),
        })
    }

    fn legacy(&self, options: &InstanceOptions) -> Legacy {
        let mut legacies = self.legacies.lock().unwrap_or_else(PoisonError::into_inner);
        let own = legacies.entry(options.name.clone()).or_insert_with(|| {
            let calls = options.concurrency.get().min(Semaphore::MAX_PERMITS);
            Legacy {
                permits: Arc::new(Semaphore::new(calls)),
                tally: Arc::default(),
            }
        });
        own.clone()
    }
}

async fn open(ready: &Ready) -> Result<Library, OpenError> {
    let staged = ready.staged.clone();
    let opened = tokio::task::spawn_blocking(move || Library::open(staged.harmless()?)).await;
    opened.expect("opening a library does not panic: foreign code that does ends the process")
}

async fn make(place: Place, setup: Setup, ready: &Ready) -> Result<Arc<dyn Caller>, String> {
    match place {
        Place::Here(library) => match InProcess::create(library, setup).await {
            Ok(caller) => Ok(Arc::new(caller)),
            Err(error) => Err(reason_of(&error)),
        },
        Place::Process(housing) => match Worker::start(ready.staged.clone(), setup, housing).await {
            Ok(caller) => Ok(Arc::new(caller)),
            Err(error) => Err(reason_of(&error)),
        },
    }
}

fn instance(
    options: InstanceOptions,
    ready: &Ready,
    permits: Arc<Semaphore>,
    caller: Arc<dyn Caller>,
) -> Instance {
    Instance {
        name: options.name,
        plugin: options.plugin,
        version: ready.manifest.version.clone(),
        timeout: options.timeout,
        permits,
        input_schema: Arc::clone(&ready.manifest.input_schema),
        caller,
        visits: Visits::default(),
    }
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starter")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// How long an instance may take to start.
const CREATE_LIMIT: Duration = Duration::from_secs(30);
/// How long a call that was asked to end may take to do so.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
