//! One connection of a process: asked for, checked, made, and carried to its end.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{io::copy_bidirectional, net::TcpStream, time::timeout};

use super::{
    Holder,
    socks::{self, Asked, Reply, Request},
};
use crate::plugin::destination::Destination;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    /// No grant has it.
    #[error("it is not granted; add it to `grant.network` of the instance, if the plugin is to reach it")]
    NotGranted,
    /// It is granted by its name, and lies within some network.
    #[error(
        "its address {0} is {1}; if it is meant, `grant.network` has to name both it and the host, with the port"
    )]
    Private(IpAddr, &'static str),
    /// It is not found.
    #[error("it is not found")]
    Unresolved(#[source] Option<io::Error>),
    /// It is not there.
    #[error("it cannot be reached")]
    Unreachable(#[source] io::Error),
    /// It does not answer.
    #[error("it does not answer within {CONNECTING:?}")]
    TimedOut,
    /// There are too many.
    #[error("{} connections of the instance are open", super::CONNECTIONS)]
    TooMany,
}

/// Does what a client that was let in asks for, until one of both ends is closed.
pub(super) async fn carry(mut stream: TcpStream, holder: &Arc<Holder>) {
    let Ok(_permit) = Arc::clone(&holder.connections).try_acquire_owned() else {
        holder.tell("a connection", &TunnelError::TooMany);
        return;
    };
    let request = match timeout(super::GREETING, socks::request(&mut stream)).await {
        Ok(Ok(Ok(request))) => request,
        Ok(Ok(Err(reply))) => return drop(socks::reply(&mut stream, reply).await),
        Ok(Err(_)) | Err(_) => return,
    };
    let place = request.to_string();
    let mut far = match holder.connect(&request).await {
        Ok(far) => far,
        Err(error) => {
            holder.tell(&place, &error);
            return drop(socks::reply(&mut stream, error.reply()).await);
        }
    };
    if socks::reply(&mut stream, Reply::Done).await.is_err() {
        return;
    }
    let (plugin, instance) = (&holder.plugin, &holder.instance);
    match copy_bidirectional(&mut stream, &mut far).await {
        Ok((sent, received)) => tracing::debug!(
            plugin,
            instance,
            place,
            sent,
            received,
            "connection of plugin ended"
        ),
        Err(error) => tracing::debug!(plugin, instance, place, error = %error, "connection of plugin broke"),
    }
}

impl Holder {
    /// Connects to an address that was checked.
    async fn connect(&self, request: &Request) -> Result<TcpStream, TunnelError> {
        let addresses = self.addresses(request).await?;
        let connecting = async {
            let mut last = None;
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.map_or(TunnelError::Unresolved(None), TunnelError::Unreachable))
        };
        let stream = timeout(CONNECTING, connecting)
            .await
            .map_err(|_| TunnelError::TimedOut)??;
        // What is sent in small pieces was sent so by somebody else, who knows better.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// The addresses of the host that may be connected to: at least one.
    async fn addresses(&self, request: &Request) -> Result<Vec<SocketAddr>, TunnelError> {
        let port = request.port;
        let found = match &request.host {
            Asked::Address(address) => vec![*address],
            Asked::Name(name) => {
                // Asked only for names that are granted: a question to the name's servers says something, too.
                if !self.destinations.iter().any(|granted| granted.names(name, port)) {
                    return Err(TunnelError::NotGranted);
                }
                let found = timeout(CONNECTING, self.look_up(name)).await;
                let found = found.map_err(|_| TunnelError::TimedOut)?;
                found.map_err(|error| TunnelError::Unresolved(Some(error)))?
            }
        };
        let mut refused = TunnelError::Unresolved(None);
        let mut allowed = Vec::new();
        for address in found {
            match self.check(request, address) {
                Ok(()) => allowed.push(SocketAddr::new(address, port)),
                Err(error) => refused = error,
            }
        }
        if allowed.is_empty() {
            Err(refused)
        } else {
            Ok(allowed)
        }
    }

    /// Has the system find a host. That takes a thread, which nothing can stop: only so many at a time, for each process.
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.lookups).acquire_owned().await;
        let name = name.to_owned();
        let looking = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let found = (name.as_str(), 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        });
        looking.await.map_err(io::Error::other)?
    }

    /// Checks an address, of a name that is granted or by itself.
    fn check(&self, request: &Request, address: IpAddr) -> Result<(), TunnelError> {
        let port = request.port;
        let any = |is_granted: &dyn Fn(&Destination) -> bool| self.destinations.iter().any(is_granted);
        // A name that only a grant of all hosts has may be anybody's, who chooses what it leads to.
        let is_meant = match &request.host {
            Asked::Name(name) => any(&|granted| granted.names(name, port) && !granted.is_any(port)),
            Asked::Address(_) => true,
        };
        if is_meant && any(&|granted| granted.is_address(address, port)) {
            return Ok(());
        }
        let is_local = matches!(&request.host, Asked::Name(name) if name.eq_ignore_ascii_case(LOCALHOST));
        if is_local && address.is_loopback() && any(&|granted| granted.is_name(LOCALHOST, port)) {
            return Ok(());
        }
        match (jackfield_address::refusal(address), &request.host) {
            (None, Asked::Name(_)) => Ok(()),
            (None, Asked::Address(_)) if any(&|granted| granted.is_any(port)) => Ok(()),
            (_, Asked::Address(_)) => Err(TunnelError::NotGranted),
            (Some(kind), Asked::Name(_)) => Err(TunnelError::Private(address, kind)),
        }
    }

    fn tell(&self, place: &str, error: &TunnelError) {
        let (plugin, instance, reason) = (&self.plugin, &self.instance, crate::plugin::reason_of(error));
        match error {
            TunnelError::NotGranted | TunnelError::Private(..) | TunnelError::TooMany => {
                let admitted = self
                    .refusals
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .admit();
                if let Some(left_out) = admitted {
                    tracing::warn!(
                        plugin,
                        instance,
                        place,
                        reason,
                        left_out,
                        "connection of plugin refused"
                    );
                }
            }
            TunnelError::Unresolved(_) | TunnelError::Unreachable(_) | TunnelError::TimedOut => {
                tracing::debug!(plugin, instance, place, reason, "connection of plugin not made");
            }
        }
    }
}

impl TunnelError {
    fn reply(&self) -> Reply {
        match self {
            Self::NotGranted | Self::Private(..) => Reply::NotAllowed,
            Self::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused => Reply::Refused,
            Self::Unresolved(_) | Self::Unreachable(_) => Reply::Unreachable,
            Self::TimedOut => Reply::TimedOut,
            Self::TooMany => Reply::Failed,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            // A name is whatever a plugin says, and goes into the log.
            Asked::Name(name) => write!(f, "{}:{}", name.escape_debug(), self.port),
            Asked::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
        }
    }
}

const LOCALHOST: &str = "localhost";
/// How long a host may take to be found, and to answer.
const CONNECTING: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{plugin::log::Trickle, secret::Secret};

    fn holder(granted: &[&str]) -> Holder {
        Holder {
            plugin: "plugin".to_owned(),
            instance: "instance".to_owned(),
            destinations: granted.iter().map(|granted| granted.parse().unwrap()).collect(),
            token: Secret::new("token"),
            connections: Arc::new(Semaphore::new(1)),
            lookups: Arc::new(Semaphore::new(1)),
            refusals: Mutex::new(Trickle::new()),
            over: CancellationToken::new(),
        }
    }

    #[test]
    fn an_address_within_a_network_is_reached_by_its_number_and_by_names_that_are_granted_themselves() {
        let named = |name: &str| Asked::Name(name.to_owned());
        let address = IpAddr::from([10, 0, 0, 7]);
        for (granted, host, reached) in [
            (&["git.corp.example"][..], named("git.corp.example"), false),
            (
                &["git.corp.example", "10.0.0.8"],
                named("git.corp.example"),
                false,
            ),
            (
                &["git.corp.example", "10.0.0.7:22"],
                named("git.corp.example"),
                false,
            ),
            (&["git.corp.example", "10.0.0.7"], named("git.corp.example"), true),
            (&["*.corp.example", "10.0.0.7"], named("git.corp.example"), true),
            (&["*", "10.0.0.7"], Asked::Address(address), true),
            // Whoever has the name says what it leads to.
            (&["*", "10.0.0.7"], named("evil.example"), false),
            (
                &["*", "git.corp.example", "10.0.0.7"],
                named("evil.example"),
                false,
            ),
            (
                &["*", "git.corp.example", "10.0.0.7"],
                named("git.corp.example"),
                true,
            ),
        ] {
            let request = Request { host, port: 443 };
            let checked = holder(granted).check(&request, address);
            assert_eq!(checked.is_ok(), reached, "{granted:?} {request} {checked:?}");
        }
    }
}
