//! The admin side: how the router is, for monitors and people, and the door for writes.
//!
//! Two doors lead to one small HTTP server. A loopback address answers `GET /healthz`, `/readyz`, `/metrics` and
//! `/v1/plugins`, `/v1/routes` and `/v1/events/<id>/explain` and changes nothing; it asks for a loopback `Host`, so that no web page can read it through a
//! name that it made point here. A Unix socket in the data directory, open to the router's own user alone, takes
//! `POST /v1/replay`, `/v1/resolve`, `/v1/cancel`, `/v1/skip`, `/v1/call`, `/v1/routes/reload` and `/v1/routes/rollback` as well. The socket's file is replaced without asking who made it: whoever holds the journal's
//! lock is the only router here, so a file that lies there is left over from one that was killed.

mod answer;
mod call;
mod explain;
mod health;
mod metrics;
mod plugins;
mod replay;
mod rules;
mod settle;
mod socket;

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::{Method, Request, body::Incoming, header::HOST, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{clock::Clock, dispatcher::Handle as Deliveries, journal::Journal, plugin, router::Generation};

pub use answer::Problem;
pub use call::Call;
pub use explain::{Became, Explained, Idle, NotExplained, Skipped, deliveries_of};
pub use health::Handle;
pub use plugins::{InstanceListed, Listed};
pub use replay::{
    DeliveryPlan, EventPlan, Fate, PIECE, Plan, Refused, Replay, Replayed, Rulebook, RulesOf, StepPlan, plan,
    plan::Verdict,
};
pub use rules::{RefusedRules, RollBack, Rules, RulesError, Standing, Taken};
pub use settle::{Cancel, Resolve, Skip};
pub use socket::{connect, listen};

use answer::Response;

/// Where the doors are.
#[derive(Clone, Debug)]
pub struct Options {
    /// The loopback address; port 0 takes a free one.
    pub address: SocketAddr,
    /// The file of the socket, in the data directory.
    pub socket: PathBuf,
}

/// What the admin side shows and works with.
pub struct Parts {
    /// What is told about and replayed.
    pub journal: Arc<dyn Journal>,
    /// The routes in force, under which an event is replayed.
    pub routes: Arc<ArcSwap<Generation>>,
    /// What puts others in their place.
    pub rules: Arc<dyn Rules>,
    /// The plugins and their instances.
    pub plugins: Arc<plugin::Registry>,
    /// What is told of deliveries that a person cancels.
    pub deliveries: Deliveries,
    /// What the drivers count.
    pub metrics: Registry,
    /// The time, for ages.
    pub clock: Arc<dyn Clock>,
    /// Where calls by hand have their work directories.
    pub work_root: PathBuf,
}

/// The driver that answers at both doors. Bound, but answering nothing until it runs.
pub struct Admin {
    shared: Arc<Shared>,
    address: SocketAddr,
    tcp: tokio::net::TcpListener,
    unix: tokio::net::UnixListener,
}

/// What all connections share.
struct Shared {
    journal: Arc<dyn Journal>,
    routes: Arc<ArcSwap<Generation>>,
    rules: Arc<dyn Rules>,
    plugins: Arc<plugin::Registry>,
    deliveries: Deliveries,
    metrics: metrics::Metrics,
    health: health::Health,
    clock: Arc<dyn Clock>,
    work_root: PathBuf,
}

/// The way by which a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// From whoever can reach the loopback address: may look.
    Tcp,
    /// From the router's own user: may change things.
    Unix,
}

impl Admin {
    /// Binds both doors.
    ///
    /// # Errors
    ///
    /// Where one cannot be bound; the error names it.
    pub fn bind(options: &Options, parts: Parts) -> Result<Self, BindError> {
        let tcp = std::net::TcpListener::bind(options.address)
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener)
            })
            .map_err(|source| BindError {
                door: options.address.to_string(),
                source,
            })?;
        let unix = socket::listen(&options.socket).map_err(|source| BindError {
            door: options.socket.display().to_string(),
            source,
        })?;
        let address = tcp.local_addr().unwrap_or(options.address);
        let shared = Arc::new(Shared {
            health: health::Health::new(Arc::clone(&parts.journal)),
            metrics: metrics::Metrics::new(parts.metrics, Arc::clone(&parts.clock)),
            clock: parts.clock,
            work_root: parts.work_root,
            journal: parts.journal,
            routes: parts.routes,
            rules: parts.rules,
            plugins: parts.plugins,
            deliveries: parts.deliveries,
        });
        Ok(Self {
            shared,
            address,
            tcp,
            unix,
        })
    }

    /// Where the loopback door is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells it that the router is stopping.
    pub fn handle(&self) -> Handle {
        self.shared.health.handle()
    }

    /// Answers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        // Whoever can reach the loopback address takes no place from the router's own user.
        let [tcp, unix] = [TaskTracker::new(), TaskTracker::new()];
        loop {
            // Both accepts are cancel-safe: a connection that is not taken now is taken in the next turn.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => self.open(stream, Door::Tcp, &tcp, &stop),
                    Err(error) => rest(&error).await,
                },
                accepted = self.unix.accept() => match accepted {
                    Ok((stream, _)) => self.open(stream, Door::Unix, &unix, &stop),
                    Err(error) => rest(&error).await,
                },
            }
        }
        for tracker in [tcp, unix] {
            tracker.close();
            tracker.wait().await;
        }
    }

    fn open<S>(&self, stream: S, door: Door, tracker: &TaskTracker, stop: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if tracker.len() < CONNECTIONS {
            tracker.spawn(serve(Arc::clone(&self.shared), stream, door, stop.clone()));
        }
    }
}

/// Why the admin side cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the admin side cannot listen at {door}")]
pub struct BindError {
    door: String,
    source: io::Error,
}

async fn serve<S>(shared: Arc<Shared>, stream: S, door: Door, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let in_hand = AtomicUsize::new(0);
    let service = service_fn(|request| {
        let (shared, in_hand) = (Arc::clone(&shared), &in_hand);
        async move {
            in_hand.fetch_add(1, Relaxed);
            let answer = shared.answer(request, door).await;
            in_hand.fetch_sub(1, Relaxed);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            loop {
                match timeout(LAST_WORDS, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    // It has asked for nothing yet, or does not read the answer.
                    Err(_) if in_hand.load(Relaxed) == 0 => return,
                    Err(_) => {}
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "an admin connection broke");
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, door: Door) -> Response {
        if door == Door::Tcp && !is_loopback(&request) {
            return answer::text(403, "the host of the request is not this machine's loopback\n");
        }
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let reads = method == Method::GET || method == Method::HEAD;
        if let Some(id) = explained(&path) {
            let query = request.uri().query().unwrap_or_default();
            return match reads {
                true => answer::result(explain::explain(self, id, query).await),
                false => answer::not_allowed("GET"),
            };
        }
        match path.as_str() {
            "/" | "/healthz" | "/readyz" | "/metrics" | "/v1/plugins" | "/v1/routes" if !reads => {
                answer::not_allowed("GET")
            }
            "/" => answer::text(200, INDEX),
            "/healthz" => answer::text(200, "ok\n"),
            "/readyz" => match self.health.check().await {
                Ok(()) => answer::text(200, "ready\n"),
                Err(why) => answer::text(503, format!("not ready: {why}\n")),
            },
            "/metrics" => answer::open_metrics(self.metrics.encode(&*self.journal).await),
            "/v1/plugins" => answer::json(&plugins::listed(&self.plugins, &*self.journal).await),
            "/v1/routes" => answer::json(&*self.rules.standing()),
            path if WRITES.contains(&path) && door == Door::Tcp => {
                answer::text(403, "writes go through the control socket\n")
            }
            path if WRITES.contains(&path) && method != Method::POST => answer::not_allowed("POST"),
            "/v1/routes/reload" => answer::result(self.rules.reload().await.map_err(Problem::from)),
            "/v1/routes/rollback" => answer::result(rules::roll_back(self, request.into_body()).await),
            "/v1/call" => answer::result(call::call(self, request.into_body()).await),
            "/v1/cancel" => answer::result(settle::cancel(self, request.into_body()).await),
            "/v1/resolve" => answer::result(settle::resolve(self, request.into_body()).await),
            "/v1/replay" => answer::result(replay::replay(self, request.into_body()).await),
            "/v1/skip" => answer::result(settle::skip(self, request.into_body()).await),
            _ => answer::text(404, "there is nothing here\n"),
        }
    }
}

/// The event of which an explanation is asked for.
fn explained(path: &str) -> Option<&str> {
    path.strip_prefix("/v1/events/")?.strip_suffix("/explain")
}

/// Whether the browser or monitor meant this machine: a page of another name that resolves to loopback did not.
fn is_loopback<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The machine may be out of descriptors; a connection that ends gives some back.
async fn rest(error: &io::Error) {
    tracing::warn!(error = %error, "an admin connection could not be accepted");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Where something is changed.
const WRITES: [&str; 7] = [
    "/v1/call",
    "/v1/cancel",
    "/v1/replay",
    "/v1/resolve",
    "/v1/routes/reload",
    "/v1/routes/rollback",
    "/v1/skip",
];
/// Monitors and people, not traffic.
const CONNECTIONS: usize = 128;
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client of a router that stops has to ask, or to read what it is answered.
const LAST_WORDS: Duration = Duration::from_secs(1);
const INDEX: &str = "jackfield\n\n/healthz     the process answers\n/readyz      events can be taken in\n\
                     /metrics     what is counted\n/v1/plugins  the plugins and their instances\n/v1/routes   the rules in force\n\
                     /v1/events/evt_…/explain  why each route matched an event or did not; `?route=…` asks for one\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_host_may_look() {
        for (host, expected) in [
            (Some("localhost"), true),
            (Some("localhost:9090"), true),
            (Some("127.0.0.1:9090"), true),
            (Some("127.1.2.3"), true),
            (Some("[::1]:9090"), true),
            (Some("rebound.example"), false),
            (Some("127.0.0.1.rebound.example:9090"), false),
            (Some("192.168.0.1"), false),
            (None, false),
        ] {
            let mut request = Request::new(());
            if let Some(host) = host {
                request.headers_mut().insert(HOST, host.parse().unwrap());
            }
            assert_eq!(is_loopback(&request), expected, "{host:?}");
        }
    }
}
