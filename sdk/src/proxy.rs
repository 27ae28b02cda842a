//! The way to the hosts that an instance is granted.

use std::{fmt, io};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::Secret;

/// The router's proxy: in a process of its own, a plugin reaches a host by this or not at all.
///
/// It speaks SOCKS5 and resolves names itself (`socks5h`), which reqwest, curl and git know; whatever is not granted is refused
/// there, and in the router's log with the reason. What it is asked for ends with the process.
///
/// ```no_run
/// # use jackfield_sdk::Start;
/// # struct Builder;
/// # impl Builder { fn proxy(self, _url: &str) -> Self { self } }
/// fn client(builder: Builder, start: &Start) -> Builder {
///     match start.proxy() {
///         Some(proxy) => builder.proxy(proxy.url()),     // with reqwest: `.proxy(reqwest::Proxy::all(proxy.url())?)`
///         None => builder,                               // in the router's own process, or granted no host
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Proxy(Secret);

impl Proxy {
    /// A proxy at this URL, for tests.
    pub fn new(url: impl Into<String>) -> Self {
        Self(Secret::new(url))
    }

    /// That of this process, where there is one.
    pub(crate) fn of_process() -> Option<Self> {
        let url = std::env::var(VARIABLE).ok()?;
        Some(Self::new(url))
    }

    /// Where it is, as `socks5h://user:password@address:port`. It holds a secret of this process: not for logs.
    pub fn url(&self) -> &str {
        self.0.expose()
    }

    /// Connects to `address`, which is `host:port`, by it: for what speaks a protocol of its own.
    ///
    /// ```
    /// use jackfield_sdk::Proxy;
    /// # use jackfield_sdk::tokio::{self, io::{AsyncReadExt, AsyncWriteExt}, net::TcpListener};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// # let url = format!("socks5h://7:t0ken@{}", listener.local_addr().unwrap());
    /// # let stand_in = async {
    /// #     let (mut stream, _) = listener.accept().await.unwrap();
    /// #     let (mut greeting, mut request) = ([0; 12], [0; 24]);
    /// #     stream.read_exact(&mut greeting).await.unwrap();
    /// #     stream.write_all(&[5, 2, 1, 0]).await.unwrap();
    /// #     stream.read_exact(&mut request).await.unwrap();
    /// #     stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    /// #     stream.read_exact(&mut [0; 6]).await.unwrap();
    /// #     stream.write_all(b"+PONG\r\n").await.unwrap();
    /// # };
    /// // What `Start::proxy` gives, where there is one.
    /// let proxy = Proxy::new(url);
    /// # let talk = async {
    /// let mut stream = proxy.connect("redis.example.com:6379").await?;
    /// stream.write_all(b"PING\r\n").await?;
    /// let mut pong = [0; 7];
    /// stream.read_exact(&mut pong).await?;
    /// assert_eq!(&pong, b"+PONG\r\n");
    /// # std::io::Result::Ok(())
    /// # };
    /// # tokio::join!(async { talk.await.unwrap() }, stand_in);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// `PermissionDenied` where the host is not granted, `ConnectionRefused`, `HostUnreachable` and `TimedOut` as they say, and others
    /// where the proxy itself is not reached.
    pub async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let (_, proxy) = self.url().rsplit_once('@').unwrap_or_default();
        let mut stream = TcpStream::connect(proxy).await?;
        self.ask(&mut stream, address).await?;
        Ok(stream)
    }

    /// Asks for a connection (RFC 1928), with the pass of this process (RFC 1929).
    async fn ask(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), address: &str) -> io::Result<()> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let sized = |text: &str| -> io::Result<Vec<u8>> {
            let length = u8::try_from(text.len()).map_err(|_| wrong("a name is too long"))?;
            Ok([&[length], text.as_bytes()].concat())
        };
        let pass = self.url().rsplit_once('@').map_or("", |(pass, _)| pass);
        let user = pass.rsplit_once(':').map_or("", |(user, _)| user);
        let user = user.strip_prefix(SCHEME).unwrap_or(user);
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| wrong("an address is a host, a colon and a port"))?;
        let greeting = [&[5, 1, 2, 1][..], &sized(user)?, &sized(self.secret())?].concat();
        stream.write_all(&greeting).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        if answer != [5, 2, 1, 0] {
            return Err(io::Error::other("the router's proxy does not know this process"));
        }
        let request = [&[5, 1, 0, 3][..], &sized(host)?, &port.to_be_bytes()].concat();
        stream.write_all(&request).await?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await?;
        Err(match answer[1] {
            0 => return Ok(()),
            2 => {
                let message = format!("{address} is not granted; the router's log says more");
                io::Error::new(io::ErrorKind::PermissionDenied, message)
            }
            5 => io::ErrorKind::ConnectionRefused.into(),
            6 => io::ErrorKind::TimedOut.into(),
            _ => io::ErrorKind::HostUnreachable.into(),
        })
    }

    /// The secret in [`url`](Self::url), to be taken out of what is shown.
    pub fn secret(&self) -> &str {
        let pass = self.url().rsplit_once('@').map_or("", |(pass, _)| pass);
        pass.rsplit_once(':').map_or("", |(_, secret)| secret)
    }

    /// What a program needs in its environment that is to run [`COMMAND`](Self::COMMAND).
    pub fn environment(&self) -> Vec<(String, String)> {
        let tunnel = std::env::var(TUNNEL).unwrap_or_default();
        vec![
            (VARIABLE.to_owned(), self.url().to_owned()),
            (TUNNEL.to_owned(), tunnel),
        ]
    }

    /// A command for a shell that is a connection to `%h` at `%p` by its standard input and output: `ProxyCommand` of ssh,
    /// which must be among the programs that are granted, and puts the shell's `exec` before it.
    pub const COMMAND: &'static str = "\"$JACKFIELD_TUNNEL\" plugin-tunnel %h %p";
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(***)")
    }
}

const SCHEME: &str = "socks5h://";
const VARIABLE: &str = "JACKFIELD_PROXY";
const TUNNEL: &str = "JACKFIELD_TUNNEL";

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(address: &str, answers: &[u8]) -> (io::Result<()>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(answers).await.unwrap();
        let proxy = Proxy::new("socks5h://7:t0ken@127.0.0.1:4711");
        let ended = proxy.ask(&mut ours, address).await;
        drop(ours);
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        (ended, said)
    }

    #[tokio::test]
    async fn a_connection_is_asked_for_with_the_pass_of_the_process() {
        let rest = [1, 0, 0, 0, 0, 0, 0];
        let answers = |last: u8| [&[5, 2, 1, 0, 5, last, 0][..], &rest].concat();
        let (ended, said) = asked("example.com:443", &answers(0)).await;
        assert!(ended.is_ok());
        assert_eq!(
            said,
            b"\x05\x01\x02\x01\x017\x05t0ken\x05\x01\x00\x03\x0bexample.com\x01\xbb"
        );
        let kind = async |last| asked("h:1", &answers(last)).await.0.unwrap_err().kind();
        assert_eq!(kind(2).await, io::ErrorKind::PermissionDenied);
        assert_eq!(kind(5).await, io::ErrorKind::ConnectionRefused);
        assert!(asked("h:1", &[5, 2, 1, 1]).await.0.is_err());
        assert!(asked("h", &answers(0)).await.0.is_err());
    }

    #[test]
    fn its_secret_is_not_shown() {
        let proxy = Proxy::new("socks5h://7:t0ken@127.0.0.1:4711");
        assert_eq!(proxy.secret(), "t0ken");
        assert_eq!(format!("{proxy:?}"), "Proxy(***)");
        assert!(Proxy::COMMAND.contains(TUNNEL));
    }
}
