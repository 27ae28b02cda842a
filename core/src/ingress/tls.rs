//! TLS on the listener: a certificate and its key, which may be replaced while connections come in.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// A certificate with its key; clones share what is in force.
#[derive(Clone)]
pub struct Tls {
    certificate: Arc<Path>,
    key: Arc<Path>,
    config: Arc<ArcSwap<ServerConfig>>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no {expected} in PEM")]
    Missing {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// What is in them does not go together, or is of a kind that is not known.
    #[error("the certificate {certificate} and the key {key} cannot be used together: {source}")]
    Unfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl Tls {
    /// Reads a certificate, those of the authorities that vouch for it after it, and its key, both in PEM.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read, is something else, or they do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            config: Arc::new(ArcSwap::from_pointee(configuration(certificate, key)?)),
            certificate: certificate.into(),
            key: key.into(),
        })
    }

    /// Reads the files again; connections that are accepted from now on get what is in them.
    ///
    /// # Errors
    ///
    /// As for [`Tls::load`]; then what was in force stays.
    pub fn renew(&self) -> Result<(), TlsError> {
        let config = configuration(&self.certificate, &self.key)?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// The files that it was read from.
    pub fn files(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }

    /// The handshake with a client, which goes on as long as it is polled.
    pub(super) fn accept(&self, stream: TcpStream) -> Accept<TcpStream> {
        TlsAcceptor::from(self.config.load_full()).accept(stream)
    }
}

fn configuration(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unusable(certificate, CERTIFICATE))?;
    if chain.is_empty() {
        return Err(missing(certificate, CERTIFICATE));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(unusable(key, "private key without a passphrase"))?;
    let unfit = |source| TlsError::Unfit {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unfit)?;
    // RFC 7301: what a client that speaks HTTP/2 over TLS asks for.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn unusable(path: &Path, expected: &'static str) -> impl FnOnce(pem::Error) -> TlsError {
    move |error| match error {
        pem::Error::Io(source) => TlsError::Read {
            path: path.to_owned(),
            source,
        },
        _ => missing(path, expected),
    }
}

fn missing(path: &Path, expected: &'static str) -> TlsError {
    TlsError::Missing {
        path: path.to_owned(),
        expected,
    }
}

const CERTIFICATE: &str = "certificate";

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
