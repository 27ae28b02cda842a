//! The HTTP client: one for each hop, bound to the addresses that were checked for it, or to the proxy that checks them.
//!
//! Environment proxies are ignored, redirects are not followed, nothing is retried and no referrer is sent: each of
//! these would reach an address that nobody checked.

use std::{error::Error, iter, net::SocketAddr, sync::Arc, time::Duration};

use jackfield_sdk::Proxy;
use reqwest::{Client, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::Verifier;

/// What all hops share: the TLS settings and the patience.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    tls: ClientConfig,
    /// Why no certificate of a server can be verified here, where that is so.
    no_roots: Option<String>,
    stall: Duration,
    proxy: Option<Proxy>,
}

impl Http {
    /// A client that gives up on a server which is silent for `stall`, and goes by `proxy`, if there is one.
    ///
    /// The provider of cryptography is handed over here, not installed for the process. Roots are the system's, so
    /// that an administrator's own authority (or a removed one) counts; `SSL_CERT_FILE` points elsewhere. A machine
    /// without any can still fetch from the hosts that are excepted from https.
    pub(crate) fn new(stall: Duration, proxy: Option<Proxy>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions");
        let (builder, no_roots) = match Verifier::new(provider) {
            Ok(verifier) => (
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier)),
                None,
            ),
            Err(error) => (
                builder.with_root_certificates(RootCertStore::empty()),
                Some(error.to_string()),
            ),
        };
        let mut tls = builder.with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            tls,
            no_roots,
            stall,
            proxy,
        }
    }

    /// Why https is out of the question on this machine.
    pub(crate) fn https_hindrance(&self) -> Option<&str> {
        self.no_roots.as_deref()
    }

    /// Whether names are resolved, and their addresses checked, elsewhere: by the router's proxy.
    pub(crate) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// A client that reaches `host` at `addresses` and nowhere else; by the proxy, where it is told none.
    pub(crate) fn client(&self, host: &str, addresses: &[SocketAddr]) -> reqwest::Result<Client> {
        let builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(self.stall)
            .read_timeout(self.stall)
            .user_agent(concat!(
                "jackfield-",
                env!("CARGO_PKG_NAME"),
                "/",
                env!("CARGO_PKG_VERSION")
            ));
        match &self.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.url())?),
            None => builder.resolve_to_addrs(host, addresses),
        }
        .build()
    }
}

/// Whether the proxy has refused to connect, as RFC 1928 calls it "connection not allowed by ruleset". The client keeps the
/// reply itself to itself: its words have to do, to which a test holds it.
pub(crate) fn is_forbidden(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.to_string() == FORBIDDEN)
}

/// An error and its causes in one line, without the URL, which may hold a token.
pub(crate) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    for cause in causes(&error).map(|cause| cause.to_string()) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(error.source(), |&cause| cause.source())
}

const FORBIDDEN: &str = "SOCKS error: connection not allowed";
