//! Listening sockets that share one address.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
};

use socket2::{Domain, Socket, Type};

/// Binds `address` `count` times, so that the kernel spreads connections over as many acceptors.
pub(super) fn bind(address: SocketAddr, count: NonZeroUsize) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT a second router of the same user would bind without an error and take half of the
    // connections. A socket without it finds any that listens, of whichever kind.
    let address = match address.port() {
        0 => address,
        _ => listen(address, false)?.local_addr()?,
    };
    let first = listen(address, true)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count.get() {
        listeners.push(listen(address, true)?);
    }
    Ok(listeners)
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart need not wait for the old connections' TIME_WAIT to pass.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that the kernel holds for us while we are busy; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acceptors_share_one_port_and_a_second_router_is_refused() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let three = NonZeroUsize::new(3).unwrap();
        let listeners = bind(local, three).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|one| one.local_addr().unwrap() == address));

        let second = bind(address, three).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(listeners);
        assert_eq!(bind(address, three).unwrap().len(), 3);
    }
}
