//! A certificate for stand-ins behind TLS: for `localhost` and 127.0.0.1, valid until 2120, by an authority that nobody
//! trusts who is not told to.
//!
//! The authorities' keys are gone; the certificate's key is public, like everything in this folder, and good for nothing.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

/// The authority's certificate, in PEM: what `SSL_CERT_FILE` points to for a program that is to trust it.
pub fn authority() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tls/authority.pem")
}

/// The certificate of an authority that has signed nothing, in PEM: for a program that is not to trust the stand-ins.
pub fn stranger() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tls/stranger.pem")
}

/// What a client and a server call HTTP/2 when they agree on it.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Accepts TLS with the certificate, HTTP/2 first.
pub(crate) fn acceptor() -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from(include_bytes!("../tls/certificate.der").as_slice());
    let key = PrivatePkcs8KeyDer::from(include_bytes!("../tls/key.der").as_slice());
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from(key))?;
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
