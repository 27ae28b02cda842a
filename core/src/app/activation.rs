//! Sockets that a supervisor has opened for us: systemd's socket activation (`sd_listen_fds(3)`).

use std::{io, net::TcpListener};

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};

/// The listening TCP sockets that this process was started with; none where nobody gave any. To be called once, and before
/// there are threads, since it takes the variables out of the environment.
///
/// # Errors
///
/// Where a descriptor is something else.
pub fn sockets() -> io::Result<Vec<TcpListener>> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for place in 0..given.len() {
        let socket = given.take_tcp_listener(place).map_err(|error| {
            let number = FIRST + place;
            io::Error::new(
                error.kind(),
                format!("descriptor {number} of LISTEN_FDS is not a listening TCP socket: {error}; of a unit, `ListenStream=` with a port makes one"),
            )
        })?;
        if let Some(socket) = socket {
            // No plugin's process is to have it.
            fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// `SD_LISTEN_FDS_START`.
const FIRST: usize = 3;
