//! Providers: each verifies a request on its raw bytes and translates it into an event.
//!
//! A [`Request`] comes in, untrusted. [`Provider::verify`] hands out [`Verified`], which only it can make;
//! [`Provider::translate`] takes that and gives an [`Event`] with the key that tells redeliveries, or an answer
//! to a handshake. Nothing is parsed before it is verified.
//!
//! [`build`] makes a provider from a source's checked [`Options`]; [`sign`] is the other side of `verify`, for
//! whoever plays the provider: `jackfield send`, the demo, load tests.
//!
//! [`Foreign`] does the same by way of a plugin, and is therefore asynchronous; the two are told apart by [`Way`], so that
//! those of the router's own cost nothing more.
//!
//! A translation reads the body once, borrowing from it, into the few fields that it wants; no tree of the
//! whole is built. It forgives what it can: a field of an unexpected type is absent, of duplicate keys the
//! last wins, a state nobody has heard of passes through in lower case. What it cannot interpret at all
//! becomes an event whose type ends in `.unrecognized`.

mod appflow;
mod body;
mod draft;
mod foreign;
mod lenient;
mod options;
mod outcome;
mod proof;
mod sending;
mod supernova;
mod zeplin;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, http::HeaderValue};
use jackfield_event::{Event, EventId, Timestamp, Verification};

use crate::reason::Reason;

pub use body::MAX_DEPTH;
pub(crate) use body::nests_deeper_than;
pub use foreign::{Foreign, Judge, Judged, Unheard, Way, plugin_of};
pub use options::{BuildError, Options, build, event_types, names, verification};
pub use sending::{SignedRequest, sign};

/// What came over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    /// The headers, names in lower case.
    pub headers: HeaderMap,
    /// The body as it came, byte for byte.
    pub body: Bytes,
    /// The path segment after the source's name, where there was one. Secret.
    pub token: Option<crate::secret::Secret>,
    /// When its last byte arrived.
    pub received: Timestamp,
}

/// A request that proved where it comes from.
#[derive(Clone, Debug)]
pub struct Verified<'r> {
    request: &'r Request,
    verification: Verification,
}

impl<'r> Verified<'r> {
    /// The request.
    pub fn request(&self) -> &'r Request {
        self.request
    }

    /// How it proved it.
    pub fn verification(&self) -> Verification {
        self.verification
    }
}

/// What a request becomes.
#[derive(Debug)]
pub enum Translation {
    /// An event to journal and route.
    Event(Translated),
    /// A handshake, answered at once and not journaled.
    Handshake(Handshake),
}

/// An event without its payload, which is the request's body.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The event; `data.payload` is absent and joined on read.
    pub event: Box<Event>,
    /// What stays the same over redeliveries, unique within its source; absent where nothing does.
    pub dedup: Option<String>,
}

/// The answer to a handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Some success.
    pub status: StatusCode,
    /// The media type of `body`.
    pub content_type: HeaderValue,
    /// The body.
    pub body: Bytes,
}

/// One service that calls us, as one source is configured for it.
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// Checks the token of the address, before anything of the body is read.
    ///
    /// A wrong token is then answered exactly as an unknown source is, whatever the body. A source that
    /// has no path token admits only requests without one.
    ///
    /// # Errors
    ///
    /// Where this is not the source's path token, if it has one.
    fn admit(&self, token: Option<&crate::secret::Secret>) -> Result<(), VerifyError>;

    /// Checks the raw bytes against every live secret, in constant time.
    ///
    /// # Errors
    ///
    /// Where the request does not prove that the provider sent it, and lately.
    fn verify<'r>(&self, request: &'r Request) -> Result<Verified<'r>, VerifyError>;

    /// Turns the body into the event `id` of the source `source`.
    ///
    /// A body that is JSON, but not as the provider documents it, still becomes an event.
    ///
    /// # Errors
    ///
    /// Where the body is not JSON at all, or nests too deep.
    fn translate(
        &self,
        id: EventId,
        source: &str,
        request: &Verified<'_>,
    ) -> Result<Translation, TranslateError>;
}

/// Why a request is not believed. Its text is for the operator; the sender learns only that it was refused.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct VerifyError {
    /// The code for it.
    pub reason: Reason,
    /// What was found and what was expected. Never a secret, nor what could be one.
    pub detail: String,
}

/// Why a body cannot become an event.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    /// It is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// It nests deeper than is allowed.
    #[error("the body nests deeper than {limit} levels")]
    TooDeep {
        /// How deep it may nest.
        limit: usize,
    },
}

impl TranslateError {
    /// The code for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotJson(_) => Reason::NotJson,
            Self::TooDeep { .. } => Reason::TooDeep,
        }
    }
}
