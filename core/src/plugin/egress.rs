//! The way out: every connection of a plugin in a process of its own goes through this proxy, which knows hosts, where the
//! kernel knows but ports.
//!
//! It speaks SOCKS5 ([RFC 1928], [RFC 1929]) on one port of loopback. That carries whatever a plugin and its programs speak
//! (TLS, plain HTTP, ssh), and libraries and programs know it; `CONNECT` would carry no plain HTTP, since clients do not ask
//! it to. A client names a *pass*, which each process is given one of and which ends with it. What always holds:
//!
//! - No connection is made but to a destination that the pass is for. Names are resolved here, and a connection goes to an
//!   address that was checked, not to what the name resolves to the next time.
//! - Addresses within some network are refused, unless they are granted themselves, by number and port; `localhost` stands for
//!   this machine's.
//! - What is refused is logged, with the plugin, the instance, the host and the reason; of very much, how much it was.
//!
//! [RFC 1928]: https://www.rfc-editor.org/rfc/rfc1928
//! [RFC 1929]: https://www.rfc-editor.org/rfc/rfc1929

mod client;
mod socks;
mod tunnel;

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::rand::{GetRandomFlags, getrandom};
use subtle::ConstantTimeEq as _;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{Semaphore, oneshot},
    time::Instant,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{destination::Destination, log::Trickle};
use crate::secret::Secret;
pub use client::tunnel_main;
pub(super) use client::{TUNNEL, VARIABLE};

/// The proxy of a router.
#[derive(Clone, Debug)]
pub struct Egress {
    port: u16,
    passes: Arc<Passes>,
    _running: Arc<DropGuard>,
}

/// Who may pass, by the number of the pass. A leaf lock.
#[derive(Default)]
struct Passes {
    next: AtomicU64,
    holders: Mutex<HashMap<u64, Arc<Holder>>>,
}

/// Whom a pass is for.
struct Holder {
    plugin: String,
    instance: String,
    destinations: Vec<Destination>,
    token: Secret,
    /// One permit for each connection.
    connections: Arc<Semaphore>,
    /// One permit for each name that is being looked up.
    lookups: Arc<Semaphore>,
    /// What is logged of the connections that it is refused. A leaf lock.
    refusals: Mutex<Trickle>,
    /// Ends its connections.
    over: CancellationToken,
}

/// The right of one process to go out. It ends when this is dropped, and so do its connections.
#[derive(Debug)]
pub(super) struct Pass {
    number: u64,
    port: u16,
    token: Secret,
    passes: Arc<Passes>,
}

impl Egress {
    /// Opens the proxy; it is closed when the last of its clones has gone.
    ///
    /// # Errors
    /// When there is no port for it.
    pub async fn open(runtime: &Handle) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let passes = Arc::new(Passes::default());
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn_on(
            accept(listener, Arc::clone(&passes), tasks.clone(), closing.clone()),
            runtime,
        );
        Ok(Self {
            port,
            passes,
            _running: Arc::new(closing.drop_guard()),
        })
    }

    /// Its port on loopback.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A pass to `destinations` for one process.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn admit(
        &self,
        plugin: &str,
        instance: &str,
        destinations: &[Destination],
    ) -> io::Result<Pass> {
        let number = self.passes.next.fetch_add(1, Relaxed);
        let token = Secret::new(&token()?);
        let holder = Holder {
            plugin: plugin.to_owned(),
            instance: instance.to_owned(),
            destinations: destinations.to_vec(),
            token: token.clone(),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            refusals: Mutex::new(Trickle::new()),
            over: CancellationToken::new(),
        };
        self.passes.holders().insert(number, Arc::new(holder));
        Ok(Pass {
            number,
            port: self.port,
            token,
            passes: Arc::clone(&self.passes),
        })
    }
}

impl Pass {
    /// Where the process finds the proxy, in the form that most programs take: the token is in it.
    pub(super) fn url(&self) -> String {
        let (number, token, port) = (self.number, self.token.expose(), self.port);
        format!("socks5h://{number}:{token}@{}:{port}", Ipv4Addr::LOCALHOST)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(holder) = self.passes.holders().remove(&self.number) {
            holder.over.cancel();
        }
    }
}

impl Passes {
    fn holders(&self) -> MutexGuard<'_, HashMap<u64, Arc<Holder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose pass it is.
    fn find(&self, number: &[u8], token: &[u8]) -> Option<Arc<Holder>> {
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        let holder = self.holders().get(&number).cloned()?;
        bool::from(holder.token.expose().as_bytes().ct_eq(token)).then_some(holder)
    }
}

impl fmt::Debug for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passes").finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, passes: Arc<Passes>, tasks: TaskTracker, closing: CancellationToken) {
    let mut strangers = Strangers::default();
    loop {
        let stream = tokio::select! {
            () = closing.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(error = %error, "a connection to the egress proxy was not accepted");
                    // Descriptors come back when others end.
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            },
        };
        let place = tokio::select! {
            place = strangers.place() => place,
            () = closing.cancelled() => return,
        };
        let passes = Arc::clone(&passes);
        let closed = closing.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = serve(stream, &passes, place) => {}
                () = closed.cancelled() => {}
            }
        });
    }
}

/// Those who have not shown a pass yet, the oldest first. Anybody on this machine may be one, and any plugin very many.
#[derive(Default)]
struct Strangers(VecDeque<Stranger>);

struct Stranger {
    came: Instant,
    place: oneshot::Sender<()>,
}

impl Strangers {
    /// A place for one more, until that is dropped or resolves. Where there is none, whoever has been here for longest loses
    /// his as soon as he has had the time to speak: a plugin with hundreds of calls comes all at once, and means well.
    async fn place(&mut self) -> oneshot::Receiver<()> {
        loop {
            self.0.retain(|stranger| !stranger.place.is_closed());
            if self.0.len() < STRANGERS {
                break;
            }
            let oldest = self.0.front();
            if oldest.is_some_and(|oldest| oldest.came.elapsed() >= TIME_TO_SPEAK) {
                self.0.pop_front();
                break;
            }
            tokio::time::sleep(MOMENT).await;
        }
        let (place, lost) = oneshot::channel();
        let came = Instant::now();
        self.0.push_back(Stranger { came, place });
        lost
    }
}

async fn serve(mut stream: TcpStream, passes: &Passes, place: oneshot::Receiver<()>) {
    let greeting = socks::greet(&mut stream, |number, token| passes.find(number, token));
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(GREETING, greeting) => greeted,
        _ = place => return tracing::debug!("somebody lost a place at the egress proxy to others"),
    };
    let holder = match greeted {
        Ok(Ok(holder)) => holder,
        Ok(Err(error)) => {
            return tracing::debug!(error = %error, "nobody with a pass came to the egress proxy");
        }
        Err(_) => return tracing::debug!("somebody came to the egress proxy and said nothing"),
    };
    tokio::select! {
        () = tunnel::carry(stream, &holder) => {}
        () = holder.over.cancelled() => {}
    }
}

/// 256 bits that nobody guesses.
fn token() -> io::Result<String> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Connections of one process at a time: more than the calls of an instance have, by default, each with several.
const CONNECTIONS: usize = 1024;
/// Names of one process that are looked up at a time.
const LOOKUPS: usize = 16;
/// Connections at a time that have not shown a pass.
const STRANGERS: usize = 128;
/// How long they may take to where others wait for their places, and how often it is looked who does.
const TIME_TO_SPEAK: Duration = Duration::from_millis(250);
const MOMENT: Duration = Duration::from_millis(2);
/// How long they may take to where nobody does.
const GREETING: Duration = Duration::from_secs(10);
const BREATH: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::{client::connect, *};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_pass_ends_with_the_process_that_has_it_and_its_connections_with_it() {
        let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = host.local_addr().unwrap().port();
        let granted = [format!("127.0.0.1:{port}").parse().unwrap()];
        let egress = Egress::open(&Handle::current()).await.unwrap();
        let (pass, other) = (
            egress.admit("plugin", "one", &granted).unwrap(),
            egress.admit("plugin", "other", &granted).unwrap(),
        );
        assert_ne!(pass.token.expose(), other.token.expose());
        assert!(!format!("{pass:?}").contains(pass.token.expose()));
        let (url, others) = (pass.url(), other.url());
        tokio::task::block_in_place(|| {
            let mut connection = connect(&url, "127.0.0.1", port).unwrap();
            connection.write_all(b"hello").unwrap();
            drop(pass);
            assert_eq!(connection.read(&mut [0; 8]).unwrap_or(0), 0, "it is closed");
            assert!(connect(&url, "127.0.0.1", port).is_err());
            assert!(connect(&others, "127.0.0.1", port).is_ok());
            // The number of one pass with the token of another.
            let mixed = others.replace("//1:", "//0:");
            assert_ne!(mixed, others);
            assert!(connect(&mixed, "127.0.0.1", port).is_err());
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_who_come_at_once_and_have_a_pass_are_all_served() {
        let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let granted = [format!("127.0.0.1:{port}").parse().unwrap()];
        let egress = Egress::open(&Handle::current()).await.unwrap();
        let pass = egress.admit("plugin", "one", &granted).unwrap();
        let url = pass.url();
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| host.incoming().take(2 * STRANGERS).for_each(drop));
                for _ in 0..2 * STRANGERS {
                    scope.spawn(|| drop(connect(&url, "127.0.0.1", port).unwrap()));
                }
            });
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn who_comes_and_says_nothing_stands_in_nobodys_way() {
        let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = host.local_addr().unwrap().port();
        let granted = [format!("127.0.0.1:{port}").parse().unwrap()];
        let egress = Egress::open(&Handle::current()).await.unwrap();
        let pass = egress.admit("plugin", "one", &granted).unwrap();
        tokio::task::block_in_place(|| {
            let come = || std::net::TcpStream::connect(("127.0.0.1", egress.port())).unwrap();
            let mut strangers: Vec<_> = (0..2 * STRANGERS).map(|_| come()).collect();
            connect(&pass.url(), "127.0.0.1", port).unwrap();
            let (first, last) = (0, strangers.len() - 1);
            assert_eq!(strangers[first].read(&mut [0; 8]).unwrap_or(0), 0, "it is closed");
            strangers[last].set_nonblocking(true).unwrap();
            let nothing = strangers[last].read(&mut [0; 8]).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "it may still speak");
        });
    }
}
