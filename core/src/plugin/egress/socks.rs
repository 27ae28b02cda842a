//! The server's side of SOCKS5, as far as it is needed: a user name and a password, and one command.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) host: Asked,
    pub(super) port: u16,
}

/// How it calls the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Name(String),
    Address(IpAddr),
}

/// What it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Done = 0,
    Failed = 1,
    NotAllowed = 2,
    Unreachable = 4,
    Refused = 5,
    TimedOut = 6,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

/// Lets in a client that shows what `find` knows.
pub(super) async fn greet<H>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    find: impl FnOnce(&[u8], &[u8]) -> Option<H>,
) -> io::Result<H> {
    let [version, count] = bytes(stream).await?;
    let methods = some(stream, count).await?;
    if version != VERSION || !methods.contains(&PASSWORD) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(io::Error::other("it did not offer a user name and a password"));
    }
    stream.write_all(&[VERSION, PASSWORD]).await?;
    let [_, length] = bytes(stream).await?;
    let user = some(stream, length).await?;
    let [length] = bytes(stream).await?;
    let password = some(stream, length).await?;
    let found = find(&user, &password);
    stream
        .write_all(&[PASSWORD_VERSION, u8::from(found.is_none())])
        .await?;
    found.ok_or_else(|| io::Error::other("its pass is none, or has ended"))
}

/// Reads where a client that was let in wants to go; or what it is to be answered.
pub(super) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Request, Reply>> {
    let [version, command, _, kind] = bytes(stream).await?;
    if version != VERSION {
        return Err(io::Error::other("it speaks another version"));
    }
    let host = match kind {
        1 => Asked::Address(IpAddr::V4(Ipv4Addr::from(bytes::<4>(stream).await?))),
        4 => Asked::Address(IpAddr::V6(Ipv6Addr::from(bytes::<16>(stream).await?))),
        3 => {
            let [length] = bytes(stream).await?;
            let name = String::from_utf8(some(stream, length).await?);
            match name {
                Ok(name) => named(name),
                Err(_) => return Ok(Err(Reply::NoSuchAddress)),
            }
        }
        _ => return Ok(Err(Reply::NoSuchAddress)),
    };
    let port = u16::from_be_bytes(bytes(stream).await?);
    if command != CONNECT {
        return Ok(Err(Reply::NoSuchCommand));
    }
    Ok(Ok(Request { host, port }))
}

/// Tells a client how its request has ended.
pub(super) async fn reply(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<()> {
    // The address from which the connection was made is not its business: nowhere.
    stream
        .write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
}

/// An address that is written as a name is one all the same.
fn named(name: String) -> Asked {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(address) => Asked::Address(address),
        Err(_) => Asked::Name(name),
    }
}

async fn bytes<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn some(stream: &mut (impl AsyncRead + Unpin), length: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

const VERSION: u8 = 5;
const PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    async fn greeted(said: &[u8]) -> (bool, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(said).await.unwrap();
        client.shutdown().await.unwrap();
        let known = |user: &[u8], password: &[u8]| (user == b"7" && password == b"token").then_some(());
        let greeted = greet(&mut server, known).await.is_ok();
        drop(server);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        (greeted, heard)
    }

    #[tokio::test]
    async fn only_who_shows_a_pass_is_let_in() {
        assert_eq!(
            greeted(b"\x05\x02\x00\x02\x01\x017\x05token").await,
            (true, vec![5, 2, 1, 0])
        );
        assert_eq!(
            greeted(b"\x05\x01\x02\x01\x017\x05taken").await,
            (false, vec![5, 2, 1, 1])
        );
        assert_eq!(
            greeted(b"\x05\x01\x02\x01\x00\x00").await,
            (false, vec![5, 2, 1, 1])
        );
        assert_eq!(greeted(b"\x05\x01\x00").await, (false, vec![5, 0xff]));
        assert!(!greeted(b"\x04\x01\x00\x50").await.0);
        assert!(!greeted(b"GET / HTTP/1.1\r\n\r\n").await.0);
        assert_eq!(greeted(b"").await, (false, vec![]));
    }

    async fn asked(said: &[u8]) -> Option<Result<(Asked, u16), Reply>> {
        let request = request(&mut &*said).await.ok()?;
        Some(request.map(|request| (request.host, request.port)))
    }

    #[tokio::test]
    async fn hosts_are_named_or_numbered() {
        let name = |name: &str| Asked::Name(name.to_owned());
        let address = |address: &str| Asked::Address(address.parse().unwrap());
        for (said, expected) in [
            (&b"\x05\x01\x00\x03\x01a\x01\xbb"[..], Ok((name("a"), 443))),
            (b"\x05\x01\x00\x03\x07127.0.1\x00\x50", Ok((name("127.0.1"), 80))),
            (
                b"\x05\x01\x00\x03\x09127.0.0.1\x00\x50",
                Ok((address("127.0.0.1"), 80)),
            ),
            (b"\x05\x01\x00\x03\x05[::1]\x00\x50", Ok((address("::1"), 80))),
            (
                b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
                Ok((address("127.0.0.1"), 80)),
            ),
            (b"\x05\x02\x00\x03\x01a\x00\x50", Err(Reply::NoSuchCommand)),
            (b"\x05\x01\x00\x05\x01a\x00\x50", Err(Reply::NoSuchAddress)),
            (b"\x05\x01\x00\x03\x01\xff\x00\x50", Err(Reply::NoSuchAddress)),
        ] {
            assert_eq!(asked(said).await, Some(expected), "{said:?}");
        }
        assert_eq!(asked(b"\x05\x01\x00\x03\xffa").await, None);
        assert_eq!(asked(b"\x04\x01\x00\x50\x7f\x00\x00\x01").await, None);
    }
}
