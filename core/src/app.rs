//! The router as a whole: built in order, run, and stopped in the order of the flow.
//!
//! A [`Config`] comes in, already whole. What always holds: the journal's lock is taken before anything is bound, so
//! that a second router cannot start by mistake; nothing is accepted before everything that it needs is there. What remains when the grace is over is pending
//! in the journal, which is why stopping is always possible.

mod activation;
mod aside;
mod certificate;
mod descriptors;
mod hand_over;
mod host;
mod in_force;
mod judge;
mod load;
mod offspring;
mod retention;
mod signal;
mod supervisor;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use prometheus_client::registry::Registry;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin},
    clock::{Clock, SystemClock},
    config::{self, Config, Grace},
    dispatcher::{self, Dispatcher},
    fault::Faults,
    ingress::{self, Ingress, Tls},
    journal::{Journal, JournalError, OpenError},
    plugin,
    provider::Judge,
};

use hand_over::{HandOver, Predecessor};

pub use activation::sockets;
pub use load::{FirstRules, back_up, history, limits, plugin_options, rules};

/// Why the router did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The rules are faulty.
    #[error("the rules are faulty")]
    Faults(#[from] Faults),
    /// What is configured does not go with the plugins that there are.
    #[error("the configuration does not fit the plugins")]
    Unfit(#[source] Faults),
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The rules cannot be stored, or those before them be read.
    #[error("rules could not be stored in the journal, or read there")]
    Store(#[from] JournalError),
    /// The ingress cannot listen.
    #[error("the ingress cannot listen at {address}, which is `address` in `[listen]`")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The admin side cannot listen.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// Something else of the system is missing.
    #[error("{what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A part ended by itself, and the rest with it.
    #[error("the {0} ended by itself, so the router was stopped; the log says why")]
    Ended(&'static str),
}

/// The file of the control socket.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Where a router has its listening sockets from.
#[derive(Debug)]
pub enum Sockets {
    /// These, which somebody else has opened; or its own, where there are none.
    Given(Vec<std::net::TcpListener>),
    /// The router that runs on the same data directory, which is relieved; where none does, these or its own, as before.
    Predecessor(Vec<std::net::TcpListener>),
}

/// Builds the router, runs it until SIGTERM or Ctrl-C, and drains it.
///
/// # Errors
///
/// Where it cannot start; then nothing was accepted. Where a part of it ended by itself.
pub async fn run(config: Config, sockets: Sockets) -> Result<(), RunError> {
    let mut signals = signal::Signals::listen().map_err(|source| RunError::System {
        what: "signals cannot be heard",
        source,
    })?;
    let built = async {
        match sockets {
            Sockets::Given(sockets) => {
                let journal = load::journal(&config.data_dir)?;
                App::build(config, sockets, journal).await
            }
            Sockets::Predecessor(given) => {
                let sockets = relieve(&config).await?.unwrap_or(given);
                let journal = journal_in_turn(&config).await?;
                App::build(config, sockets, journal).await
            }
        }
    };
    let app = tokio::select! {
        app = built => app?,
        // Nothing is accepted yet, so there is nothing to drain.
        () = signals.stop() => return Ok(()),
    };
    app.run(signals).await
}

/// Takes the sockets over of the router that runs on the same data directory, and waits for its end.
async fn relieve(config: &Config) -> Result<Option<Vec<std::net::TcpListener>>, RunError> {
    let relieved = Predecessor::relieve(&config.data_dir, config.listen.address, config.admin).await;
    let relieved = relieved.map_err(|source| RunError::System {
        what: "the router that runs cannot be relieved",
        source,
    })?;
    let Some((mut predecessor, sockets)) = relieved else {
        tracing::info!("no router runs that could be relieved");
        return Ok(None);
    };
    tracing::info!(
        process = predecessor.process(),
        sockets = sockets.len(),
        "took the sockets over; the router that had them stops"
    );
    predecessor.ended().await;
    Ok(Some(sockets))
}

/// Opens the journal as soon as the predecessor lets go of it: it may be about to end when its connection has.
async fn journal_in_turn(config: &Config) -> Result<Arc<dyn Journal>, RunError> {
    let patience = Instant::now() + config.grace.whole();
    loop {
        match load::journal(&config.data_dir) {
            Err(OpenError::Locked { .. }) if Instant::now() < patience => {
                tokio::time::sleep(LOOK_AGAIN).await
            }
            opened => return Ok(opened?),
        }
    }
}

/// Everything, bound and ready to run.
struct App {
    journal: Arc<dyn Journal>,
    plugins: Arc<plugin::Registry>,
    watch: Option<plugin::Watch>,
    rules: in_force::InForce,
    ingress: Ingress,
    tls: Option<Tls>,
    hand_over: HandOver,
    dispatcher: Dispatcher,
    keeping: retention::Keeping,
    admin: Admin,
    grace: Grace,
}

impl App {
    async fn build(
        mut config: Config,
        sockets: Vec<std::net::TcpListener>,
        journal: Arc<dyn Journal>,
    ) -> Result<Self, RunError> {
        let connections = &mut config.listen.limits.connections;
        *connections = descriptors::connections(*connections);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut metrics = Registry::with_prefix("jackfield");
        // Whatever a plugin calls by a relative path lies with the router's own data, wherever it was started.
        std::env::set_current_dir(&config.data_dir).map_err(|source| RunError::System {
            what: "the data directory cannot be entered",
            source,
        })?;
        let late_routes = host::LateRoutes::default();
        let host = host::JournalHost::new(
            Arc::clone(&journal),
            Arc::clone(&clock),
            Arc::clone(&late_routes),
            &mut metrics,
        );
        let runtime = tokio::runtime::Handle::current();
        let watch = config.plugins.dir.clone();
        let watch = watch.map(|dir| plugin::Watch::begin(dir, config.plugins.trust.lock.clone()));
        let plugins = plugin::Registry::load(plugin_options(&config), Arc::new(host), runtime).await;
        let plugins = Arc::new(plugins);
        let parts = in_force::Parts {
            path: config.routes.clone(),
            journal: Arc::clone(&journal),
            plugins: Arc::clone(&plugins),
            clock: Arc::clone(&clock),
            aside: aside::Aside::start().map_err(|source| RunError::System {
                what: "the thread that compiles rules cannot be started",
                source,
            })?,
        };
        if let Err(mut faults) = limits(&config.limits, &plugins.catalog()) {
            faults.extend(parts.faults().await?);
            return Err(RunError::Unfit(faults));
        }
        let rules = in_force::InForce::start(parts, &mut metrics).await?;
        let routes = late_routes.get_or_init(|| rules.routes());
        let (in_force, bounds) = (Arc::clone(routes), config.limits.clone());
        plugins.have_approved(Box::new(move |catalog| {
            let checked = in_force.load().check(catalog);
            checked.map_err(|faults| format!("the rules in force do not fit it: {faults}"))?;
            limits(&bounds, catalog).map_err(|faults| format!("the configuration does not fit it: {faults}"))
        }));

        let work_root = config.data_dir.join("work");
        let mut options = dispatcher::Options::new(work_root.clone());
        options.grace = config.grace.attempts();
        options.patience = config.plugins.patience;
        options.limits = config.limits;
        let dispatcher = Dispatcher::new(
            Arc::clone(&journal),
            Arc::clone(&plugins),
            rules.generations(),
            Arc::clone(&clock),
            options,
        )
        .map_err(|source| RunError::System {
            what: "the directory for work directories cannot be made",
            source,
        })?;
        dispatcher.metrics().register(&mut metrics);

        let keeping = retention::Keeping {
            journal: Arc::clone(&journal),
            retention: config.retention,
            work_root: work_root.clone(),
            metrics: retention::Metrics::register(&mut metrics),
        };

        let judge: Arc<dyn Judge> = Arc::new(judge::Plugins::new(
            Arc::clone(&plugins),
            tokio::runtime::Handle::current(),
        ));
        let sources = config.sources.into_iter().map(|source| {
            let provider = source.provider.clone().judged_by(&judge);
            ingress::Source::from(config::Source { provider, ..source })
        });
        let address = config.listen.address;
        let parts = ingress::Parts {
            sources: sources.collect(),
            routes: Arc::clone(routes),
            journal: Arc::clone(&journal),
            clock: Arc::clone(&clock),
            metrics: ingress::Metrics::register(&mut metrics),
            sockets,
        };
        let tls = config.listen.tls.clone();
        let ingress =
            Ingress::bind(config.listen, parts).map_err(|source| RunError::Listen { address, source })?;
        let hand_over = ingress
            .sockets()
            .and_then(|sockets| HandOver::prepare(&config.data_dir, sockets, config.admin))
            .map_err(|source| RunError::System {
                what: "the socket for a successor cannot be bound",
                source,
            })?;
        let admin = Admin::bind(
            &admin::Options {
                address: config.admin,
                socket: socket(&config.data_dir),
            },
            admin::Parts {
                journal: Arc::clone(&journal),
                routes: Arc::clone(routes),
                rules: Arc::new(rules.handle()),
                plugins: Arc::clone(&plugins),
                deliveries: dispatcher.handle(),
                metrics,
                clock,
                work_root,
            },
        )?;
        Ok(Self {
            journal,
            plugins,
            watch,
            rules,
            ingress,
            tls,
            hand_over,
            dispatcher,
            keeping,
            admin,
            grace: config.grace,
        })
    }

    async fn run(self, mut signals: signal::Signals) -> Result<(), RunError> {
        tracing::info!(
            address = %self.ingress.address(),
            admin = %self.admin.address(),
            version = env!("CARGO_PKG_VERSION"),
            "router runs"
        );
        let ready = self.admin.handle();
        let [accepting, dispatching, watching] = [(); 3].map(|()| CancellationToken::new());
        let mut drivers = Drivers::default();
        let (ingress, stop) = (self.ingress, accepting.clone());
        drivers.start(INGRESS, async move { ingress.run(stop).await });
        if let Some(watch) = self.watch {
            let (plugins, stop) = (Arc::clone(&self.plugins), accepting.clone());
            drivers.start(WATCH, async move {
                watch.run(plugins, stop).await;
                Ok(())
            });
        }
        if let Some(tls) = self.tls {
            let stop = accepting.clone();
            drivers.start(CERTIFICATE, async move {
                certificate::follow(tls, stop).await;
                Ok(())
            });
        }
        let (rules, hangup, stop) = (self.rules, signals.hangup(), accepting.clone());
        drivers.start(RULES, async move {
            rules.run(hangup, stop).await;
            Ok(())
        });
        let (dispatcher, stop) = (self.dispatcher, dispatching.clone());
        drivers.start(DISPATCHER, async move {
            dispatcher.run(stop).await;
            Ok(())
        });
        let (keeping, stop) = (self.keeping, accepting.clone());
        drivers.start(KEEPING, async move {
            keeping.run(stop).await;
            Ok(())
        });
        let (admin, stop) = (self.admin, watching.clone());
        drivers.start(ADMIN, async move {
            admin.run(stop).await;
            Ok(())
        });

        supervisor::ready();
        let mut successor = None;
        let fallen = tokio::select! {
            () = signals.stop() => None,
            fallen = drivers.next() => Some(fallen),
            taken = self.hand_over.taken() => {
                successor = Some(taken);
                None
            }
        };
        // Sockets of ours would go on taking connections for which nobody is here any more.
        drop(self.hand_over);
        ready.drain();
        supervisor::stopping();
        signals.exit_on_the_next();
        let (begun, grace) = (Instant::now(), self.grace);
        tracing::info!(
            grace = ?grace.whole(), relieved = successor.is_some(), "router stops; a second Ctrl-C ends it at once"
        );

        // The order of the flow: nothing new comes in, what came in is on disk, what is being done ends, the
        // plugins end. The admin side goes last, so that it can be watched.
        accepting.cancel();
        drivers.ended(INGRESS, begun + grace.until_synced()).await;
        journal_ended("synced", self.journal.sync(), begun + grace.until_synced()).await;
        dispatching.cancel();
        drivers
            .ended(DISPATCHER, begun + grace.until_attempts_ended())
            .await;
        let deadline = begun + grace.until_plugins_ended();
        // Half of it is theirs; the other is there to end what does not end by itself, with all that it started.
        let theirs = deadline.saturating_duration_since(Instant::now()) / 2;
        plugins_ended(self.plugins.shutdown(theirs), deadline).await;
        watching.cancel();
        drivers.ended(ADMIN, begun + grace.until_admin_ended()).await;
        let closed = journal_ended("closed", self.journal.close(), begun + grace.whole());
        if !closed.await {
            // Whoever drops the last of it would wait for the disk as well.
            std::mem::forget(self.journal);
        }
        tracing::info!("router stopped");
        fallen.map_or(Ok(()), |name| Err(RunError::Ended(name)))
    }
}

/// Waits for the journal until `deadline`, and tells whether it did what it was to do: a disk that stands still does not keep the router
/// from its own.
async fn journal_ended(
    what: &str,
    work: impl Future<Output = Result<(), JournalError>>,
    deadline: Instant,
) -> bool {
    match timeout_at(deadline, work).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(error = %error, "the journal could not be {what}");
            false
        }
        Err(_) => {
            tracing::error!(
                "the journal could not be {what} in time: its disk stands still; what was answered with a 200 is on it"
            );
            false
        }
    }
}

/// Waits for plugins until `deadline`: whatever they do, they do not keep the router from its own end.
async fn plugins_ended(shutdown: impl Future<Output = ()>, deadline: Instant) {
    if timeout_at(deadline, shutdown).await.is_err() {
        tracing::error!("plugins outlived their grace; their workers are killed as the router ends");
    }
}

/// The tasks of the drivers, and the names of those that still run.
#[derive(Default)]
struct Drivers {
    tasks: JoinSet<io::Result<()>>,
    running: HashMap<tokio::task::Id, &'static str>,
}

impl Drivers {
    fn start(&mut self, name: &'static str, driver: impl Future<Output = io::Result<()>> + Send + 'static) {
        let id = self.tasks.spawn(driver).id();
        self.running.insert(id, name);
    }

    /// Waits for any driver to end, and gives its name.
    async fn next(&mut self) -> &'static str {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return "last driver";
        };
        let id = ended
            .as_ref()
            .map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let name = self.running.remove(&id).unwrap_or("driver without a name");
        match ended {
            Ok((_, Ok(()))) => {}
            Ok((_, Err(error))) => tracing::error!(driver = name, error = %error, "a driver failed"),
            Err(panic) => tracing::error!(driver = name, error = %panic, "a driver panicked"),
        }
        name
    }

    /// Waits for the driver to end, until `deadline`.
    async fn ended(&mut self, name: &'static str, deadline: Instant) {
        while self.running.values().any(|running| *running == name) {
            if timeout_at(deadline, self.next()).await.is_err() {
                tracing::warn!(
                    driver = name,
                    "a driver outlived the grace; what it held is pending in the journal"
                );
                return;
            }
        }
    }
}

const INGRESS: &str = "ingress";
const WATCH: &str = "watch over the plugins directory";
const CERTIFICATE: &str = "watch over the certificate";
const RULES: &str = "watch over the rules";
const DISPATCHER: &str = "dispatcher";
const KEEPING: &str = "pruning of the journal";
const ADMIN: &str = "admin side";
/// Between two looks for a lock.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_driver_that_ends_by_itself_is_noticed_whatever_its_end() {
        let mut drivers = Drivers::default();
        drivers.start(INGRESS, async { Ok(()) });
        assert_eq!(drivers.next().await, INGRESS);
        drivers.start(ADMIN, async { Err(io::Error::other("a thread panicked")) });
        assert_eq!(drivers.next().await, ADMIN);
        drivers.start(DISPATCHER, async { panic!("a bug") });
        assert_eq!(drivers.next().await, DISPATCHER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_panicked_is_not_waited_for() {
        let mut drivers = Drivers::default();
        drivers.start(INGRESS, async { panic!("a bug") });
        drivers.start(DISPATCHER, std::future::pending());
        drivers.next().await;
        let begun = Instant::now();
        drivers.ended(INGRESS, begun + Duration::from_secs(25)).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn plugins_that_do_not_end_keep_nobody_waiting_for_ever() {
        let deadline = Instant::now() + Duration::from_secs(5);
        plugins_ended(std::future::pending(), deadline).await;
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn no_driver_is_waited_for_longer_than_the_grace() {
        let mut drivers = Drivers::default();
        drivers.start(DISPATCHER, std::future::pending());
        drivers.start(INGRESS, async { Ok(()) });
        let deadline = Instant::now() + Duration::from_secs(25);
        drivers.ended(INGRESS, deadline).await;
        assert!(Instant::now() < deadline);
        drivers.ended(DISPATCHER, deadline).await;
        assert_eq!(Instant::now(), deadline);
        // One that has ended already is not waited for.
        drivers.ended(INGRESS, deadline + Duration::from_secs(25)).await;
        assert_eq!(Instant::now(), deadline);
    }
}
