//! A request, as a provider sees it.

use std::{fmt, time::Duration};

use jackfield_event::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Proof, Refusal};
use crate::{Error, Secret, error::Result};

/// The plugin's own options of a source: `[source.options]`.
pub type Options = serde_json::Map<String, Value>;

/// One request that came in for a source, and what is configured for that.
///
/// ```
/// use std::time::Duration;
/// use jackfield_sdk::{event::Timestamp, prelude::*, provider::*, testing::{Incoming, ProviderHarness}};
///
/// # struct Acme;
/// # #[async_trait]
/// # impl Provider for Acme {
/// #     type Config = Empty;
/// #     const NAME: &'static str = "acme";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Acme) }
/// async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> {
///     let sent = request.header("acme-timestamp")?.parse();
///     let sent: Timestamp = sent.map_err(|_| Refusal::stale_timestamp("`acme-timestamp` is no time"))?;
///     request.check_age(sent, Duration::from_secs(300))?;
///     // Here follows the signature, over time and body.
///     request.path_token()
/// }
/// #     async fn translate(&self, _: &Request<'_>) -> Result<Translation> { Ok(Translation::unrecognized()) }
/// # }
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let acme = ProviderHarness::<Acme>::start(json!({})).await.unwrap();
/// // Requests of tests arrive at the beginning of 2026.
/// let sent = |time| Incoming::new("{}").path_token().header("Acme-Timestamp", time);
/// assert_eq!(acme.receive(sent("2026-01-01T00:04:00Z")).await["event"]["verified"], "path-token");
/// assert_eq!(acme.receive(sent("2026-01-01T00:06:00Z")).await["refused"]["reason"], "stale-timestamp");
/// assert_eq!(acme.receive(Incoming::new("{}")).await["refused"]["reason"], "missing-header");
/// # });
/// ```
pub struct Request<'r> {
    head: Head,
    body: &'r [u8],
}

/// What the router writes beside the body.
#[derive(Deserialize)]
pub(crate) struct Head {
    source: String,
    received: Timestamp,
    headers: Vec<(String, String)>,
    #[serde(default)]
    secrets: Vec<Secret>,
    #[serde(default)]
    unverified: bool,
    #[serde(default)]
    path_token: bool,
    tolerance_seconds: Option<u64>,
    #[serde(default)]
    options: Options,
}

impl<'r> Request<'r> {
    pub(crate) fn new(head: Head, body: &'r [u8]) -> Self {
        Self { head, body }
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        &self.head.source
    }

    /// The body, byte for byte as it came.
    pub fn body(&self) -> &'r [u8] {
        self.body
    }

    /// When its last byte arrived.
    pub fn received(&self) -> Timestamp {
        self.head.received
    }

    /// The value of a header that must be there exactly once and not be empty. The name is given in lower case.
    ///
    /// # Errors
    ///
    /// Where it is not: which of several a signature speaks of is anybody's guess, so none is believed.
    pub fn header(&self, name: &str) -> Result<&str, Refusal> {
        let mut values = self.headers().filter(|(found, _)| *found == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) if !value.is_empty() => Ok(value),
            (Some(_), Some(_)) => Err(Refusal::wrong_signature(format_args!(
                "header `{name}` comes several times, expected once"
            ))),
            (Some(_), None) => Err(Refusal::missing_header(format_args!("header `{name}` is empty"))),
            (None, _) => Err(Refusal::missing_header(format_args!(
                "header `{name}` is missing"
            ))),
        }
    }

    /// All headers as they came, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.head.headers.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Every live secret of the source: a signature need match only one, since secrets are replaced while requests come in.
    ///
    /// ```
    /// # use jackfield_sdk::{Secret, provider::{Proof, Refusal, Request}};
    /// # fn is_signature(signature: &str, secret: &Secret, body: &[u8]) -> bool { false }
    /// fn verify(request: &Request<'_>) -> Result<Proof, Refusal> {
    ///     let signature = request.header("acme-signature")?;
    ///     let mut secrets = request.secrets().iter();
    ///     match secrets.any(|secret| is_signature(signature, secret, request.body())) {
    ///         true => Ok(Proof::SIGNATURE),
    ///         false => Err(Refusal::wrong_signature("the signature matches none of the secrets")),
    ///     }
    /// }
    /// ```
    pub fn secrets(&self) -> &[Secret] {
        &self.head.secrets
    }

    /// That the address had the source's secret token, which the router has checked.
    ///
    /// # Errors
    ///
    /// Where the source has none.
    pub fn path_token(&self) -> Result<Proof, Refusal> {
        match self.head.path_token {
            true => Ok(Proof::PATH_TOKEN),
            false => Err(Refusal::wrong_signature(
                "the source has no `path_token`, which is all that could be checked",
            )),
        }
    }

    /// That `sent`, a moment that is signed, lies no further from the arrival than the source's `tolerance`, or `default`.
    ///
    /// # Errors
    ///
    /// Where it does.
    pub fn check_age(&self, sent: Timestamp, default: Duration) -> Result<(), Refusal> {
        let tolerance = self.head.tolerance_seconds.map_or(default, Duration::from_secs);
        let received = self.received();
        if sent.saturating_add(tolerance) < received || received.saturating_add(tolerance) < sent {
            return Err(Refusal::stale_timestamp(format_args!(
                "the timestamp is {sent}, and the request came at {received}, more than the {tolerance:?} allowed"
            )));
        }
        Ok(())
    }

    /// The plugin's own options of the source.
    ///
    /// ```
    /// # use jackfield_sdk::{prelude::*, provider::{Draft, Request, Translation}};
    /// #[derive(Deserialize)]
    /// struct Shop { shop: String }
    ///
    /// fn translate(request: &Request<'_>) -> Result<Translation> {
    ///     let Shop { shop } = request.options()?;
    ///     Ok(Draft::new("com.acme.order.created").subject(format!("shop/{shop}")).into())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Where they do not fit `T`.
    pub fn options<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.head.options.clone()))
            .map_err(|error| Error::invalid(format_args!("the options of the source do not fit: {error}")))
    }

    pub(crate) fn is_unverified(&self) -> bool {
        self.head.unverified
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither headers nor options: both have secrets.
        f.debug_struct("Request")
            .field("source", &self.head.source)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}
