//! Plugins that bring a provider.

mod request;
mod verdict;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use self::{
    request::{Options, Request},
    verdict::{Draft, Proof, Refusal, Translation, Verdict},
};
use crate::{Cx, Empty, Error, Needs, Outcome, Plugin, Start, error::Result, panic::Contained};

/// A provider: a service that calls the router, how its requests are verified, and what events they become.
///
/// A source names an instance of it: `provider = "plugin:acme"`. A value of the type is one instance. Made a library by
/// [`export_provider!`](crate::export_provider).
///
/// The SDK asks [`verify`](Self::verify) first, and [`translate`](Self::translate) only about a request that it has
/// believed: nothing parses a body of which nobody knows where it comes from. When `verify` panics, or fails, or does not end in
/// time, the sender is answered with a 503: nothing is ever accepted for want of an answer.
///
/// ```
/// use jackfield_sdk::{provider::*, prelude::*, testing::{Incoming, ProviderHarness}};
///
/// struct Acme;
///
/// #[derive(Deserialize)]
/// struct Body { order: u64 }
///
/// #[async_trait]
/// impl Provider for Acme {
///     type Config = Empty;
///     const NAME: &'static str = "acme";
///     const VERSION: &'static str = "1.0.0";
///
///     async fn create(_: Empty, _: Start) -> Result<Self> {
///         Ok(Acme)
///     }
///
///     // Acme signs nothing: its requests are told by a secret in the address, which the router has checked.
///     async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal> {
///         request.path_token()
///     }
///
///     async fn translate(&self, request: &Request<'_>) -> Result<Translation> {
///         let body: Body = serde_json::from_slice(request.body())?;
///         let event = Draft::new("com.acme.order.created").subject(format!("order/{}", body.order));
///         Ok(event.dedup(format!("order/{}", body.order)).into())
///     }
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let acme = ProviderHarness::<Acme>::start(json!({})).await.unwrap();
/// let verdict = acme.receive(Incoming::new(r#"{"order":7}"#).path_token()).await;
/// assert_eq!(verdict["event"]["draft"]["subject"], "order/7");
///
/// let verdict = acme.receive(Incoming::new(r#"{"order":7}"#)).await;
/// assert_eq!(verdict["refused"]["reason"], "wrong-signature");
/// # });
/// ```
#[async_trait]
pub trait Provider: Send + Sync + Sized + 'static {
    /// The configuration of an instance: `[instance.config]`. What differs by source is in [`Request::options`].
    type Config: DeserializeOwned + JsonSchema + Send + 'static;

    /// The plugin's name, as for [`Plugin::NAME`].
    const NAME: &'static str;
    /// The plugin's version, as for [`Plugin::VERSION`].
    const VERSION: &'static str;
    /// One line for people.
    const DESCRIPTION: &'static str = "";
    /// More for people, in Markdown.
    const DOCS: &'static str = "";
    /// What it needs of the machine, as for [`Plugin::NEEDS`].
    const NEEDS: Needs = Needs::NOTHING;
    /// Whether a request is judged on the very thread that brings it, as for [`Plugin::INLINE`]. To hash a body of megabytes takes
    /// milliseconds: it pays where the router's `body_size` is small.
    const INLINE: bool = false;

    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// Whatever keeps the instance from working: it is then parked, with this error.
    async fn create(config: Self::Config, start: Start) -> Result<Self>;

    /// Finds out whether the request comes from the provider, by its raw bytes, in constant time, and against every live
    /// secret. It does not parse the body. Not asked about requests of a source that believes everybody.
    ///
    /// # Errors
    ///
    /// Where it does not prove that the provider sent it, and lately; or where that cannot be told now.
    async fn verify(&self, request: &Request<'_>) -> Result<Proof, Refusal>;

    /// Turns a request that was believed into an event, or into the answer to a handshake.
    ///
    /// # Errors
    ///
    /// Where the body is not understood. It becomes an event all the same, one of the type `plugin.<name>.unrecognized`, with this
    /// error for its title; so it does after a panic. What was verified is not refused for its content.
    async fn translate(&self, request: &Request<'_>) -> Result<Translation>;

    /// Ends the instance, after its last request.
    async fn shutdown(&self) {}
}

/// A provider as a plugin that no step can call; for [`export_provider!`](crate::export_provider).
#[doc(hidden)]
#[derive(Debug)]
pub struct AsPlugin<P>(P);

#[async_trait]
impl<P: Provider> Plugin for AsPlugin<P> {
    type Config = P::Config;
    type Input = Empty;
    type Output = ();
    const NAME: &'static str = P::NAME;
    const VERSION: &'static str = P::VERSION;
    const DESCRIPTION: &'static str = P::DESCRIPTION;
    const DOCS: &'static str = P::DOCS;
    const NEEDS: Needs = P::NEEDS;
    const INLINE: bool = P::INLINE;
    const CAPABILITIES: &'static [&'static str] = &["provider"];

    async fn create(config: P::Config, start: Start) -> Result<Self> {
        P::create(config, start).await.map(Self)
    }

    async fn call(&self, _: Empty, _: &Cx) -> Result<Outcome<()>> {
        Err(Error::unsupported(
            "this plugin is a provider: sources use it, and no step can",
        ))
    }

    async fn receive(&self, request: &Request<'_>) -> Result<Verdict> {
        let proof = match request.is_unverified() {
            true => Proof::NONE,
            false => match self.0.verify(request).await {
                Ok(proof) => proof,
                Err(refusal) => return refusal.into_verdict(),
            },
        };
        let translated = Contained::new(self.0.translate(request)).await;
        let (translation, why) = match translated {
            Ok(Ok(translation)) => (translation, String::new()),
            Ok(Err(error)) => (Translation::unrecognized(), error.to_string()),
            // The hook has told where.
            Err(panic) => (
                Translation::unrecognized(),
                format!("the plugin panicked: {panic}"),
            ),
        };
        if !why.is_empty() {
            tracing::warn!(source = request.source(), why, "a request is not understood");
        }
        Ok(translation.into_verdict(proof, &why))
    }

    async fn shutdown(&self) {
        self.0.shutdown().await;
    }
}
