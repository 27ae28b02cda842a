//! Sockets that only the router's own user may open, as files of the data directory: the control socket, and another.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// Listens at `path`, in place of whatever lies there. The caller holds the journal's lock.
///
/// # Errors
///
/// Where it cannot be bound.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file takes the socket's mode when it comes into being, so that at no moment it is open to others.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let short = Short::of(path)?;
    socket.bind(&SockAddr::unix(&short.path)?)?;
    socket.listen(16)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// Connects to the router whose socket is `path`.
///
/// # Errors
///
/// Where no router listens there.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = Short::of(path)?;
    UnixStream::connect(&short.path).await
}

/// A path to the same file that fits into a socket address, which has room for 107 bytes.
struct Short {
    path: PathBuf,
    /// Keeps the way through `/proc` open.
    _directory: Option<File>,
}

impl Short {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self {
                path: path.to_owned(),
                _directory: None,
            });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket's path names no file",
            ));
        };
        let directory = File::open(parent)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(Self {
            path,
            _directory: Some(directory),
        })
    }
}

const LONGEST: usize = 107;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn the_socket_is_the_users_own_however_long_its_path() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["short", &"long".repeat(40)] {
            let path = directory.path().join(name).join("control.sock");
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            assert!(connect(&path).await.is_err());
            let left_over = listen(&path).unwrap();
            let listener = listen(&path).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
            let (connected, accepted) = tokio::join!(connect(&path), listener.accept());
            assert!(connected.is_ok() && accepted.is_ok(), "{name}");
            drop(left_over);
        }
    }
}
