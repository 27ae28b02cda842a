//! The ingress: HTTP in, proofs through, answers out.
//!
//! Requests come in on `POST /in/<source>` and `/in/<source>/<token>`, over HTTP/1.1 and HTTP/2, with TLS or without. What
//! goes out is an answer, given only when everything that it says is true: a 200 is built from a [`Committed`],
//! which only the journal makes. Limits come before work, verification before parsing. Every refusal is
//! counted, recorded in the journal and logged with its [`Reason`], never with a token, a secret or a body.
//!
//! One single-threaded runtime per acceptor, each with a listening socket of its own: a request is served on the
//! core that accepted it, without a hand-over and without a task of its own.
//!
//! [`Committed`]: crate::journal::Committed
//! [`Reason`]: crate::reason::Reason

mod acceptor;
mod answer;
mod body;
mod connection;
mod headers;
mod listener;
mod metrics;
mod pace;
mod receive;
mod tls;
mod wire;

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, journal::Journal, provider::Way, router::Generation};

pub use metrics::Metrics;
pub use tls::{Tls, TlsError};

/// Where the ingress listens and what it allows.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen at; port 0 takes a free one.
    pub address: SocketAddr,
    /// How many threads accept and serve, each with a runtime and a socket of its own.
    pub acceptors: NonZeroUsize,
    /// The certificate, where TLS is not left to what stands in front.
    pub tls: Option<Tls>,
    /// What one client may take, and all together.
    pub limits: Limits,
    /// How long requests in flight may take to end once the ingress is told to stop.
    pub grace: Duration,
}

/// What one client may take, and all together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at a time; more wait in the kernel's queue.
    pub connections: NonZeroUsize,
    /// Bytes of request line and headers. At least 8 KiB, which hyper asks for.
    pub header_bytes: usize,
    /// How many headers.
    pub headers: usize,
    /// How long a client may take to send its headers, and how long a connection may lie idle.
    pub header_timeout: Duration,
    /// How long a client may take to send its body.
    pub body_timeout: Duration,
    /// How long a request waits for its commit. While the oldest has been waiting as long, no other is begun.
    pub commit_timeout: Duration,
    /// Bytes of bodies held in memory at a time, over all connections.
    pub bodies_bytes: usize,
    /// Requests in flight at a time on one HTTP/2 connection.
    pub streams: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: NonZeroUsize::new(4096).expect("4096 is not zero"),
            header_bytes: 16 << 10,
            headers: 100,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            // Less than the ten seconds after which most providers give up: they are told, and keep to the time that they are told.
            commit_timeout: Duration::from_secs(8),
            bodies_bytes: 64 << 20,
            streams: NonZeroU32::new(128).expect("128 is not zero"),
        }
    }
}

/// One configured endpoint.
#[derive(Debug)]
pub struct Source {
    /// What its address ends with.
    pub name: String,
    /// Its provider, with the secrets of this source.
    pub provider: Way,
    /// The longest body that it takes.
    pub body_limit: usize,
    /// How long redeliveries of its events are told.
    pub dedup_window: Duration,
}

/// What the ingress works with.
pub struct Parts {
    /// The endpoints.
    pub sources: Vec<Source>,
    /// The routes in force; swapped when rules are loaded anew.
    pub routes: Arc<ArcSwap<Generation>>,
    /// Where events are committed.
    pub journal: Arc<dyn Journal>,
    /// The time of arrival.
    pub clock: Arc<dyn Clock>,
    /// What it counts.
    pub metrics: Metrics,
    /// Sockets that listen already; where there are none, the address is bound.
    pub sockets: Vec<std::net::TcpListener>,
}

/// The driver that takes requests in. Bound, but accepting nothing until it runs.
pub struct Ingress {
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    address: SocketAddr,
}

impl Ingress {
    /// Binds the address, once for every acceptor, or takes the sockets that are there.
    ///
    /// # Errors
    ///
    /// Where the address cannot be bound, and where somebody listens there already.
    pub fn bind(options: Options, parts: Parts) -> io::Result<Self> {
        let listeners = if parts.sockets.is_empty() {
            listener::bind(options.address, options.acceptors)?
        } else {
            listener::spread(parts.sockets, options.acceptors)?
        };
        let address = listeners[0].local_addr()?;
        let sources = parts
            .sources
            .into_iter()
            .map(|source| receive::Endpoint::new(source, &parts.metrics))
            .map(|endpoint| (endpoint.name().to_owned(), endpoint))
            .collect::<HashMap<_, _>>();
        let shared = Arc::new(Shared {
            memory: body::Memory::new(options.limits.bodies_bytes),
            connections: Arc::new(tokio::sync::Semaphore::new(options.limits.connections.get())),
            accepted: pace::Pace::default(),
            refused: pace::Pace::default(),
            limits: options.limits,
            tls: options.tls,
            grace: options.grace,
            sources,
            routes: parts.routes,
            journal: parts.journal,
            clock: parts.clock,
            metrics: parts.metrics,
        });
        Ok(Self {
            shared,
            listeners,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same sockets once more, for whoever takes them over.
    ///
    /// # Errors
    ///
    /// Where the process has no descriptors left.
    pub fn sockets(&self) -> io::Result<Vec<std::net::TcpListener>> {
        self.listeners
            .iter()
            .map(std::net::TcpListener::try_clone)
            .collect()
    }

    /// Serves until `stop`, then closes the listeners and lets what is in flight end within the grace.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started or ends by itself.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let mut ends = JoinSet::new();
        for (number, listener) in self.listeners.into_iter().enumerate() {
            let (ended, end) = oneshot::channel();
            let shared = Arc::clone(&self.shared);
            let stop = stop.child_token();
            std::thread::Builder::new()
                .name(format!("ingress-{number}"))
                .spawn(move || ended.send(acceptor::run(&shared, listener, stop)))?;
            ends.spawn(end);
        }
        while let Some(end) = ends.join_next().await {
            end.map_err(io::Error::other)?
                .unwrap_or_else(|_| Err(io::Error::other("a thread of the ingress panicked")))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingress")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

/// What all acceptors share.
struct Shared {
    sources: HashMap<String, receive::Endpoint>,
    routes: Arc<ArcSwap<Generation>>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    limits: Limits,
    tls: Option<Tls>,
    grace: Duration,
    /// One permit for each open connection.
    connections: Arc<tokio::sync::Semaphore>,
    memory: body::Memory,
    /// Of the lines that tell of accepted events, and of refused requests: a flood of one does not hide the other.
    accepted: pace::Pace,
    refused: pace::Pace,
}
