//! What a provider says of a request.

use std::fmt;

use jackfield_event::{Data, Timestamp};
use serde_json::{Map, Value, json};

use crate::{Error, error::Result};

/// How a request proved where it comes from: what [`Provider::verify`](super::Provider::verify) gives for one that it believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof(&'static str);

impl Proof {
    /// It is signed, with a secret that is shared or a key that is known.
    pub const SIGNATURE: Self = Self("signature");
    pub(super) const PATH_TOKEN: Self = Self("path-token");
    pub(super) const NONE: Self = Self("none");
}

/// Why a request is not believed. The text is for the operator: the sender learns only that it was refused. It must not hold
/// a secret.
///
/// ```
/// use jackfield_sdk::provider::{Proof, Refusal};
///
/// fn verify(signature: Option<&str>, age: u64, key: Result<&str, &str>) -> Result<Proof, Refusal> {
///     let key = key.map_err(Refusal::not_now)?;
///     let signature = signature.ok_or_else(|| Refusal::missing_header("header `acme-signature` is missing"))?;
///     if age > 300 {
///         return Err(Refusal::stale_timestamp(format_args!("it is {age} seconds old, more than the 300 allowed")));
///     }
///     // In constant time, and over the body, where it is real.
///     match signature == key {
///         true => Ok(Proof::SIGNATURE),
///         false => Err(Refusal::wrong_signature("the signature matches none of the secrets")),
///     }
/// }
///
/// assert_eq!(verify(Some("5d41"), 7, Ok("5d41")), Ok(Proof::SIGNATURE));
/// assert!(verify(Some("5d42"), 7, Ok("5d41")).is_err());
/// let unknown = "the keys cannot be fetched";
/// assert_eq!(verify(Some("5d41"), 7, Err(unknown)), Err(Refusal::not_now(unknown)));
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `None` where that cannot be told now.
    reason: Option<&'static str>,
    detail: String,
}

impl Refusal {
    /// A header that the verification needs is missing or empty.
    pub fn missing_header(detail: impl fmt::Display) -> Self {
        Self::because("missing-header", detail)
    }

    /// The signature matches none of the live secrets, or is none.
    pub fn wrong_signature(detail: impl fmt::Display) -> Self {
        Self::because("wrong-signature", detail)
    }

    /// The signed timestamp is too far from the present.
    pub fn stale_timestamp(detail: impl fmt::Display) -> Self {
        Self::because("stale-timestamp", detail)
    }

    /// It cannot be told now: the provider's keys cannot be fetched, for example. The sender is asked to try again.
    pub fn not_now(detail: impl fmt::Display) -> Self {
        Self {
            reason: None,
            detail: detail.to_string(),
        }
    }

    fn because(reason: &'static str, detail: impl fmt::Display) -> Self {
        Self {
            reason: Some(reason),
            detail: detail.to_string(),
        }
    }

    pub(super) fn into_verdict(self) -> Result<Verdict> {
        let Self { reason, detail } = self;
        match reason {
            Some(reason) => Ok(Verdict(
                json!({ "refused": { "reason": reason, "detail": detail } }),
            )),
            None => Err(Error::retry(detail)),
        }
    }
}

/// What a request that was believed becomes.
#[derive(Clone, Debug)]
pub struct Translation(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Event(Box<Draft>),
    Handshake(Value),
    Unrecognized,
}

impl Translation {
    /// It is no event: the provider asks for just this answer, with a status of 200 and at most 64 KiB.
    ///
    /// ```
    /// use jackfield_sdk::provider::Translation;
    ///
    /// let answer = Translation::handshake("application/json", r#"{"challenge":"3eZbrw1a"}"#);
    /// ```
    pub fn handshake(content_type: &str, body: impl Into<String>) -> Self {
        Self(Kind::Handshake(
            json!({ "status": 200, "content_type": content_type, "body": body.into() }),
        ))
    }

    /// The plugin does not know what it is; it becomes an event that says so.
    pub fn unrecognized() -> Self {
        Self(Kind::Unrecognized)
    }

    pub(super) fn into_verdict(self, proof: Proof, why: &str) -> Verdict {
        let event = match self.0 {
            Kind::Handshake(handshake) => return Verdict(json!({ "handshake": handshake })),
            Kind::Unrecognized => json!({ "verified": proof.0, "why": why }),
            Kind::Event(draft) => draft.event(proof),
        };
        Verdict(json!({ "event": event }))
    }
}

impl From<Draft> for Translation {
    fn from(draft: Draft) -> Self {
        Self(Kind::Event(Box::new(draft)))
    }
}

/// An event, but for what the router knows itself: id, source, provider, how it was verified, and the payload, which is the body.
///
/// ```
/// use jackfield_sdk::{event::Data, provider::Draft};
///
/// let title = Some("Order 7 was paid".to_owned());
/// let draft = Draft::new("com.acme.order.paid").subject("order/7").data(Data { title, ..Data::default() }).dedup("7/paid");
/// ```
#[derive(Clone, Debug)]
pub struct Draft {
    kind: String,
    subject: Option<String>,
    time: Option<Timestamp>,
    data: Data,
    dedup: Option<String>,
    delivery: Option<String>,
    attempt: Option<u32>,
}

impl Draft {
    /// An event of this type, in reverse-DNS and lower case, with nothing else.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            subject: None,
            time: None,
            data: Data::default(),
            dedup: None,
            delivery: None,
            attempt: None,
        }
    }

    /// The same event, with what it happened to.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same event, with when it happened, as the provider says; otherwise that is when the request arrived.
    #[must_use]
    pub fn time(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// The same event, with its data in the common form. A payload in it is left out.
    #[must_use]
    pub fn data(mut self, data: Data) -> Self {
        self.data = data;
        self
    }

    /// The same event, with what stays the same over all deliveries of it and is unique within its source: the provider's id of
    /// the delivery, or of what happened. Without one a redelivery is a new event. Never a hash of the body.
    #[must_use]
    pub fn dedup(mut self, key: impl Into<String>) -> Self {
        self.dedup = Some(key.into());
        self
    }

    /// The same event, with the provider's own id of its delivery.
    #[must_use]
    pub fn delivery(mut self, id: impl Into<String>) -> Self {
        self.delivery = Some(id.into());
        self
    }

    /// The same event, with which of the provider's attempts this was, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    fn event(mut self, proof: Proof) -> Value {
        self.data.payload = None;
        let mut draft = Map::new();
        draft.insert("type".into(), self.kind.into());
        draft.insert("data".into(), json!(self.data));
        draft.extend(self.subject.map(|subject| ("subject".into(), subject.into())));
        draft.extend(self.time.map(|time| ("time".into(), json!(time))));
        let mut event = Map::new();
        event.insert("verified".into(), proof.0.into());
        event.insert("draft".into(), draft.into());
        event.extend(self.dedup.map(|key| ("dedup".into(), key.into())));
        event.extend(self.delivery.map(|id| ("providerdelivery".into(), id.into())));
        event.extend(
            self.attempt
                .map(|attempt| ("providerattempt".into(), attempt.into())),
        );
        event.into()
    }
}

/// The verdict on a request, as the ABI has it. Made by the SDK.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Verdict(Value);

impl Verdict {
    pub(crate) fn to_json(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }
}
