//! TLS as the client of a router has it.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Whom a client trusts.
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Whoever has the first certificate of this file, whatever name it is for: it is the router's own, which is at hand, and
    /// need not be vouched for by others.
    pub(super) fn of(certificate: &Path) -> anyhow::Result<Self> {
        let own = CertificateDer::from_pem_file(certificate)
            .with_context(|| format!("{} cannot be read", certificate.display()))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = Own {
            certificate: own,
            provider: Arc::clone(&provider),
        };
        Self::with(provider, Arc::new(verifier))
    }

    /// Those whom the system's authorities vouch for.
    pub(super) fn of_system() -> anyhow::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(Arc::clone(&provider))
            .context("the system has no authorities that could vouch for a certificate")?;
        Self::with(provider, Arc::new(verifier))
    }

    fn with(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> anyhow::Result<Self> {
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands with `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("`{host}` is no name that a certificate could be for"))?;
        let connected = self.0.connect(name, stream).await;
        connected.with_context(|| format!("there is no talking TLS to {host}"))
    }
}

/// Trusts one certificate.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
