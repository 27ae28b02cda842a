//! The HTTP client, and the question that everything here turns on: can Slack have got the request?

use std::{error::Error as _, sync::Arc, time::Duration};

use jackfield_sdk::{Error, Proxy, Result};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::RETRY_AFTER, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::Verifier;

/// An answer that was read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// How long the server asks to wait.
    pub(crate) after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// No connection came about: nothing was sent.
    NotSent(String),
    /// It went out, or may have; what became of it is not known.
    Unknown(String),
}

/// A client that goes by `proxy`, if there is one, and by none of the environment's, and waits for an answer for `timeout`; for an address of plain http it does not matter whether this machine
/// can verify certificates.
///
/// Redirects are not followed and nothing is sent twice. Connections are not kept: one that the server closes at the
/// wrong moment would leave us not knowing whether it got the request. The provider of cryptography is handed over here,
/// not installed for the process; the roots are the system's, so that an administrator's own authority counts.
///
/// # Errors
///
/// Where https is wanted and this machine has no roots to verify certificates with.
pub(crate) fn client(timeout: Duration, https: bool, proxy: Option<&Proxy>) -> Result<Client> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::unsupported)?;
    let builder = match Verifier::new(provider) {
        Ok(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)),
        Err(_) if !https => builder.with_root_certificates(RootCertStore::empty()),
        Err(error) => {
            return Err(Error::unsupported(format_args!(
                "no certificate can be verified on this machine ({error}); install ca-certificates or set SSL_CERT_FILE"
            )));
        }
    };
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(0)
        // Less than the whole, so that a connection that does not come about is told from an answer that does not come.
        .connect_timeout(timeout / 2)
        .timeout(timeout)
        .user_agent(concat!(
            "jackfield-",
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ));
    let unusable = |error| {
        Error::unsupported(format_args!(
            "the HTTP client could not be set up: {}",
            chain(error)
        ))
    };
    if let Some(proxy) = proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.url()).map_err(unusable)?);
    }
    builder.build().map_err(unusable)
}

/// Sends a request and reads the answer whole, up to a bound that no honest answer comes near.
pub(crate) async fn send(request: RequestBuilder) -> Result<Answer, NoAnswer> {
    let response = request
        .send()
        .await
        .map_err(|error| match error.is_connect() || error.is_builder() {
            true => NoAnswer::NotSent(chain(error)),
            false => NoAnswer::Unknown(chain(error)),
        })?;
    let (status, after) = (response.status(), retry_after(&response));
    let body = read(response).await.map_err(NoAnswer::Unknown)?;
    Ok(Answer { status, body, after })
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(chain)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the answer is longer than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Slack writes seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error and its causes in one line, without the address, which may be a secret.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

/// A page of a channel's history, with blocks and metadata, stays below a fraction of this.
const MAX_ANSWER: usize = 32 << 20;
