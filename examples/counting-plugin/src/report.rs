//! The connection to whoever counts.

use std::{io, path::PathBuf};

use jackfield_sdk::{Error, Proxy, Result, schemars::JsonSchema, serde::Deserialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::Mutex,
};

/// Where ids go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        if text.starts_with('/') {
            Self::Unix(text.into())
        } else {
            Self::Tcp(text)
        }
    }
}

/// Writes lines to a connection that is made when it is needed, and again when it has broken.
#[derive(Debug)]
pub(crate) struct Reporter {
    address: Address,
    proxy: Option<Proxy>,
    // Held over the writing of one line, so that lines do not mix.
    connection: Mutex<Option<Connection>>,
}

type Connection = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> Stream for S {}

impl Reporter {
    pub(crate) fn new(address: Address, proxy: Option<Proxy>) -> Self {
        Self {
            address,
            proxy,
            connection: Mutex::new(None),
        }
    }

    /// Has the listener count what is in `line`. That the system has taken the line is not enough: between here and there may be the
    /// router's proxy, which ends with the router.
    pub(crate) async fn report(&self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        // Taken out, and put back only when the line is whole: a call that is canceled, or fails, in the middle of it
        // leaves no connection on which another would go on with half a line.
        let mut connection = self.connection.lock().await;
        let mut current = match connection.take() {
            Some(current) => current,
            None => self
                .connect()
                .await
                .map_err(|error| self.failed("connecting to", error))?,
        };
        current
            .write_all(line.as_bytes())
            .await
            .map_err(|error| self.failed("writing to", error))?;
        let counted = current.read_u8().await;
        counted.map_err(|error| self.failed("hearing from", error))?;
        *connection = Some(current);
        Ok(())
    }

    async fn connect(&self) -> io::Result<Connection> {
        Ok(match &self.address {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(address) => {
                let stream = match &self.proxy {
                    Some(proxy) => proxy.connect(address).await?,
                    None => TcpStream::connect(address).await?,
                };
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }

    fn failed(&self, doing: &str, error: io::Error) -> Error {
        Error::from(error).context(format_args!("{doing} {:?}", self.address))
    }
}
