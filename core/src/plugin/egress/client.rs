//! The client's side of SOCKS5, for a program that knows no proxy but can run a command instead: `ProxyCommand` of ssh.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    process::ExitCode,
    thread,
};

/// The variable in which a worker, and what it starts, finds the proxy: a URL with the pass in it.
pub(in crate::plugin) const VARIABLE: &str = "JACKFIELD_PROXY";

/// The variable that names this program, for what needs a command in place of a proxy.
pub(in crate::plugin) const TUNNEL: &str = "JACKFIELD_TUNNEL";

/// Carries standard input and output to `port` of `host`, through the proxy that [`VARIABLE`] names.
pub fn tunnel_main(host: &str, port: u16) -> ExitCode {
    let url = std::env::var(VARIABLE).unwrap_or_default();
    match connect(&url, host, port).and_then(carry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever runs this shows its standard error.
            let _ = writeln!(
                io::stderr(),
                "{host}:{port} was not reached through the router: {error}"
            );
            ExitCode::FAILURE
        }
    }
}

/// A connection to `port` of `host`, made by the proxy at `url`.
pub(super) fn connect(url: &str, host: &str, port: u16) -> io::Result<TcpStream> {
    let not_ours = || io::Error::other(format!("{VARIABLE} names no proxy of the router"));
    let (pass, address) = url
        .strip_prefix("socks5h://")
        .and_then(|rest| rest.split_once('@'))
        .ok_or_else(not_ours)?;
    let (user, password) = pass.split_once(':').ok_or_else(not_ours)?;
    let sized = |text: &str| -> io::Result<Vec<u8>> {
        let length = u8::try_from(text.len()).map_err(io::Error::other)?;
        Ok([&[length], text.as_bytes()].concat())
    };
    let mut stream = TcpStream::connect(address)?;
    let greeting = [&[5, 1, 2, 1][..], &sized(user)?, &sized(password)?].concat();
    stream.write_all(&greeting)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer != [5, 2, 1, 0] {
        return Err(io::Error::other("the pass of this process has ended"));
    }
    let request = [&[5, 1, 0, 3][..], &sized(host)?, &port.to_be_bytes()].concat();
    stream.write_all(&request)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    match answer[1] {
        0 => Ok(stream),
        2 => Err(io::Error::other("it is not granted; the router's log says more")),
        5 => Err(io::ErrorKind::ConnectionRefused.into()),
        6 => Err(io::ErrorKind::TimedOut.into()),
        _ => Err(io::ErrorKind::HostUnreachable.into()),
    }
}

/// Copies both ways, until the other end is closed.
fn carry(stream: TcpStream) -> io::Result<()> {
    let mut there = stream.try_clone()?;
    thread::Builder::new().spawn(move || {
        // Where nobody reads any more, the other direction ends, too.
        let _ = copy(&mut io::stdin().lock(), &mut there);
        let _ = there.shutdown(Shutdown::Write);
    })?;
    copy(&mut &stream, &mut io::stdout().lock())
}

/// Copies what there is as soon as it is there: [`io::copy`] into standard output waits for lines.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
