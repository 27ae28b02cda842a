//! Tells systemd, or whoever speaks its protocol, how the router stands (`Type=notify`, sd_notify(3)).

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Events are taken in from now on.
pub(super) fn ready() {
    notify("READY=1");
}

/// Rules are read again, until [`ready`] is said once more.
pub(super) fn reloading() {
    // Supervisors that asked by a signal tell by this that their question was heard, and not an earlier one.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The router stops.
pub(super) fn stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    // Absent where nobody supervises.
    let Ok(address) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&address, state) {
        tracing::warn!(address, %error, "the supervisor could not be told");
    }
}

/// A leading `@` stands for the zero byte of an abstract address.
fn send(address: &str, state: &str) -> io::Result<()> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_told_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("jackfield-test-{:016x}", fastrand::u64(..));
        let abstracted = SocketAddr::from_abstract_name(&name).unwrap();
        for (supervisor, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstracted).unwrap(), format!("@{name}")),
        ] {
            send(&address, "READY=1").unwrap();
            let mut told = [0; 32];
            let length = supervisor.recv(&mut told).unwrap();
            assert_eq!(&told[..length], b"READY=1");
        }
        assert!(send("/nonexistent/notify", "READY=1").is_err());
    }
}
