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

/// Spreads sockets that listen already over `count` acceptors, or more where there are more: each has a queue of its own, of
/// which somebody must take.
pub(super) fn spread(mut sockets: Vec<TcpListener>, count: NonZeroUsize) -> io::Result<Vec<TcpListener>> {
    let given = sockets.len();
    for number in given..count.get() {
        sockets.push(sockets[number % given].try_clone()?);
    }
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    Ok(sockets)
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

    #[test]
    fn every_socket_that_is_given_has_an_acceptor() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let given = |count| bind(local, NonZeroUsize::new(count).unwrap()).unwrap();
        for (sockets, acceptors, expected) in [(1, 3, 3), (2, 3, 3), (3, 1, 3)] {
            let spread = spread(given(sockets), NonZeroUsize::new(acceptors).unwrap()).unwrap();
            assert_eq!(spread.len(), expected, "{sockets} for {acceptors}");
        }
    }
}
