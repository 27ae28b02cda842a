//! Providers that are plugins: what such a source asks of its plugin, and what becomes of the answer.
//!
//! A [`Judge`] takes a request to the plugin and brings back its verdict, which is as hostile as any input. The order is that of
//! every provider: [`Foreign::verify`] gives what only a verdict that believes the request can make, and
//! [`Foreign::translate`] takes that. What always holds: without a verdict, nothing is accepted; what was believed becomes an
//! event, of the type `plugin.<name>.unrecognized` where the plugin gives none that fits. The event is made here: the plugin
//! says what happened, and nothing of who it is or how it was verified beyond what the source's configuration allows.

mod verdict;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::{EventId, Timestamp, Verification};
use serde::{Serialize, Serializer, de::IgnoredAny, ser::SerializeSeq};
use serde_json::{Map, Value};

use self::verdict::{Accepted, Fitted, Verdict};
use super::{
    BuildError, Handshake, Options, Provider, Request, TranslateError, Translation, Verified, VerifyError,
    body, draft, proof,
};
use crate::{reason::Reason, secret::Secret};

/// Takes requests to plugins.
#[async_trait]
pub trait Judge: Send + Sync + fmt::Debug {
    /// What the plugin of that instance says of a request: JSON, as the ABI has it, or anything.
    ///
    /// # Errors
    ///
    /// Where it says nothing, for whatever reason.
    async fn judge(&self, instance: &str, head: Bytes, body: Bytes) -> Result<Bytes, Unheard>;
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unheard(pub String);

/// How the requests of a source are verified and translated.
#[derive(Clone, Debug)]
pub enum Way {
    /// By a provider of the router's own, at once.
    BuiltIn(Arc<dyn Provider>),
    /// By a plugin, after a while.
    Plugin(Foreign),
}

impl Way {
    /// The same, with who takes requests to plugins.
    #[must_use]
    pub fn judged_by(self, judge: &Arc<dyn Judge>) -> Self {
        match self {
            Self::BuiltIn(provider) => Self::BuiltIn(provider),
            Self::Plugin(foreign) => Self::Plugin(Foreign {
                judge: Arc::clone(judge),
                ..foreign
            }),
        }
    }

    /// As [`Provider::admit`].
    ///
    /// # Errors
    ///
    /// Where this is not the source's path token, if it has one.
    pub fn admit(&self, token: Option<&Secret>) -> Result<(), VerifyError> {
        match self {
            Self::BuiltIn(provider) => provider.admit(token),
            Self::Plugin(foreign) => proof::check_path_token(foreign.options.path_token.as_ref(), token),
        }
    }
}

impl From<Arc<dyn Provider>> for Way {
    fn from(provider: Arc<dyn Provider>) -> Self {
        Self::BuiltIn(provider)
    }
}

/// The instance that `provider = "plugin:…"` names, if it does.
pub fn plugin_of(provider: &str) -> Option<&str> {
    provider.strip_prefix("plugin:")
}

/// A provider that is a plugin, as one source is configured for it.
#[derive(Clone)]
pub struct Foreign {
    instance: String,
    options: Options,
    own: Map<String, Value>,
    judge: Arc<dyn Judge>,
}

/// A request that its plugin has believed, or answered.
#[derive(Debug)]
pub struct Judged<'r>(Kind<'r>);

#[derive(Debug)]
enum Kind<'r> {
    Event(Verified<'r>, Box<Accepted>),
    Handshake(Handshake),
}

impl Foreign {
    /// The provider of a source whose `provider` names the instance `instance`; `own` is what the plugin itself is told of the
    /// source. Nobody takes its requests anywhere before [`Way::judged_by`].
    ///
    /// # Errors
    ///
    /// Where an option would check nothing, or could not be right. Whether a secret is needed, the plugin alone knows: one that
    /// has none to check with refuses every request.
    pub fn new(instance: &str, options: Options, own: Map<String, Value>) -> Result<Self, BuildError> {
        options.check_any()?;
        Ok(Self {
            instance: instance.to_owned(),
            options,
            own,
            judge: Arc::new(Nobody),
        })
    }

    /// The instance of the plugin.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Has the plugin look at the raw bytes, and at the rest only once it believes them.
    ///
    /// # Errors
    ///
    /// Where it does not believe the request; and where there is no verdict, or one that makes no sense or claims what the source's
    /// configuration does not allow.
    pub async fn verify<'r>(&self, source: &str, request: &'r Request) -> Result<Judged<'r>, VerifyError> {
        proof::check_path_token(self.options.path_token.as_ref(), request.token.as_ref())?;
        let head = self.head(source, request);
        let said = self.judge.judge(&self.instance, head, request.body.clone());
        let verdict = said
            .await
            .map_err(|unheard| self.unavailable(unheard.to_string()))?;
        match verdict::read(&verdict).map_err(|fault| self.unavailable(fault))? {
            Verdict::Refused { reason, detail } => {
                Err(VerifyError::new(reason.into(), verdict::clip(&detail)))
            }
            Verdict::Handshake(answer) => {
                let handshake = answer.check().map_err(|fault| self.unavailable(fault))?;
                Ok(Judged(Kind::Handshake(handshake)))
            }
            Verdict::Event(accepted) => {
                self.allows(accepted.verified)?;
                let verified = Verified::by(request, accepted.verified);
                Ok(Judged(Kind::Event(verified, accepted)))
            }
        }
    }

    /// Makes the event `id` of what the plugin says of a request that it has believed.
    ///
    /// # Errors
    ///
    /// Where the body is not JSON at all, or nests too deep.
    pub fn translate(
        &self,
        id: EventId,
        source: &str,
        judged: Judged<'_>,
    ) -> Result<Translation, TranslateError> {
        let (verified, accepted) = match judged.0 {
            Kind::Handshake(handshake) => return Ok(Translation::Handshake(handshake)),
            Kind::Event(verified, accepted) => (verified, accepted),
        };
        body::read::<Anything>(&verified.request().body)?;
        let event = |kind| draft::event(&self.instance, id, source, &verified, kind);
        match accepted.fit() {
            Ok(Fitted {
                draft,
                dedup,
                delivery,
                attempt,
            }) => {
                let mut event = event(draft.kind);
                event.subject = draft.subject;
                event.time = draft.time.unwrap_or(event.time);
                event.data = draft.data;
                (event.providerdelivery, event.providerattempt) = (delivery, attempt);
                Ok(draft::translation(event, dedup))
            }
            Err(why) => {
                tracing::warn!(
                    source,
                    instance = self.instance,
                    why,
                    "provider plugin gave no event that fits"
                );
                let mut event = event(format!("plugin.{}.unrecognized", self.instance));
                event.data.title = Some(draft::clip(&format!("Not understood: {why}")).into_owned());
                Ok(draft::translation(event, None))
            }
        }
    }

    /// Whether a request may have been verified like that.
    fn allows(&self, verification: Verification) -> Result<(), VerifyError> {
        let fault = match verification {
            Verification::Signature => return Ok(()),
            Verification::PathToken if self.options.path_token.is_some() => return Ok(()),
            Verification::None if self.options.unverified => return Ok(()),
            Verification::PathToken => "it believes a path token, and the source has none",
            Verification::None => "it believes everybody, and the source does not say `unverified = true`",
            Verification::Plugin => "it says that a plugin raised the event, and it came from outside",
        };
        Err(self.unavailable(fault.to_owned()))
    }

    fn unavailable(&self, why: String) -> VerifyError {
        let detail = format!("no verdict of the provider plugin `{}`: {why}", self.instance);
        VerifyError::new(Reason::ProviderUnavailable, detail)
    }

    fn head(&self, source: &str, request: &Request) -> Bytes {
        let head = Head {
            source,
            received: request.received,
            headers: Headers(&request.headers),
            secrets: self.options.secrets.iter().map(Secret::expose).collect(),
            unverified: self.options.unverified,
            path_token: self.options.path_token.is_some(),
            tolerance_seconds: self.options.tolerance.as_ref().map(Duration::as_secs),
            options: &self.own,
        };
        let json = serde_json::to_vec(&head).expect("texts and numbers have a JSON form");
        json.into()
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the plugin's own options: they may have secrets in them.
        f.debug_struct("Foreign")
            .field("instance", &self.instance)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// `jf_request.head`.
#[derive(Serialize)]
struct Head<'a> {
    source: &'a str,
    received: Timestamp,
    headers: Headers<'a>,
    secrets: Vec<&'a str>,
    unverified: bool,
    path_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance_seconds: Option<u64>,
    options: &'a Map<String, Value>,
}

/// Pairs of name and value, as they came.
struct Headers<'a>(&'a hyper::HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pairs = serializer.serialize_seq(Some(self.0.len()))?;
        for (name, value) in self.0 {
            // What is mended matches no signature.
            pairs.serialize_element(&(name.as_str(), String::from_utf8_lossy(value.as_bytes())))?;
        }
        pairs.end()
    }
}

/// Any JSON, looked at and forgotten.
#[derive(Default)]
struct Anything;

impl<'de> serde::Deserialize<'de> for Anything {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Takes requests nowhere.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Judge for Nobody {
    async fn judge(&self, _: &str, _: Bytes, _: Bytes) -> Result<Bytes, Unheard> {
        Err(Unheard("there are no plugins here".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, http::HeaderValue};
    use serde_json::json;

    use super::*;

    /// A plugin that says one thing.
    #[derive(Debug)]
    struct Says(&'static str);

    #[async_trait]
    impl Judge for Says {
        async fn judge(&self, _: &str, _: Bytes, _: Bytes) -> Result<Bytes, Unheard> {
            Ok(Bytes::from_static(self.0.as_bytes()))
        }
    }

    fn foreign(options: Options, judge: Arc<dyn Judge>) -> Foreign {
        let own = json!({ "shop": "North" }).as_object().unwrap().clone();
        let options = Options {
            provider: "plugin:acme".into(),
            ..options
        };
        match Way::Plugin(Foreign::new("acme", options, own).unwrap()).judged_by(&judge) {
            Way::Plugin(foreign) => foreign,
            Way::BuiltIn(_) => panic!("it stays what it was"),
        }
    }

    fn request(token: Option<&str>) -> Request {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static("1"));
        headers.append("a", HeaderValue::from_bytes(b"\xff").unwrap());
        Request {
            headers,
            body: Bytes::from_static(b"{}"),
            token: token.map(Secret::new),
            received: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn signing() -> Options {
        Options {
            secrets: vec![Secret::new("new"), Secret::new("old")],
            tolerance: Some(Duration::from_secs(60)),
            ..Options::default()
        }
    }

    fn with_token() -> Options {
        Options {
            path_token: Some(Secret::new("t0ken")),
            ..Options::default()
        }
    }

    fn unverified() -> Options {
        Options {
            unverified: true,
            ..Options::default()
        }
    }

    #[test]
    fn a_plugin_is_told_all_that_it_needs_and_not_the_token() {
        let told = |options| {
            let head = foreign(options, Arc::new(Nobody)).head("orders", &request(Some("t0ken")));
            serde_json::from_slice::<Value>(&head).unwrap()
        };
        assert_eq!(
            told(signing()),
            json!({
                "source": "orders", "received": "2026-01-01T00:00:00Z", "headers": [["a", "1"], ["a", "\u{fffd}"]],
                "secrets": ["new", "old"], "unverified": false, "path_token": false, "tolerance_seconds": 60,
                "options": { "shop": "North" },
            })
        );
        let told = told(with_token());
        assert!(
            told["path_token"] == true && !told.to_string().contains("t0ken"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_plugin_can_claim_no_more_than_the_source_allows() {
        for (options, token, claim, believed) in [
            (signing(), None, "signature", true),
            (signing(), None, "path-token", false),
            (signing(), None, "none", false),
            (signing(), None, "plugin", false),
            (with_token(), Some("t0ken"), "path-token", true),
            (with_token(), Some("t0ken"), "none", false),
            (unverified(), None, "none", true),
            (unverified(), None, "path-token", false),
        ] {
            let verdict = format!("{{\"event\":{{\"verified\":\"{claim}\"}}}}");
            let foreign = foreign(options, Arc::new(Says(verdict.leak())));
            let request = request(token);
            let judged = foreign.verify("orders", &request).await;
            match (judged, believed) {
                (Ok(Judged(Kind::Event(..))), true) => {}
                (Err(error), false) => assert_eq!(error.reason, Reason::ProviderUnavailable, "{claim}"),
                (judged, _) => panic!("{claim}: {judged:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_plugin_is_not_asked_where_the_token_is_wrong_and_refuses_with_its_own_reason() {
        let refuses = r#"{"refused":{"reason":"stale-timestamp","detail":"two\nlines"}}"#;
        let foreign = foreign(with_token(), Arc::new(Says(refuses)));
        for (token, reason) in [
            (Some("other"), Reason::WrongToken),
            (None, Reason::WrongToken),
            (Some("t0ken"), Reason::StaleTimestamp),
        ] {
            let error = foreign.verify("orders", &request(token)).await.unwrap_err();
            assert_eq!(error.reason, reason);
            assert!(!error.detail.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_source_that_contradicts_itself_is_not_made() {
        let contradiction = Options {
            unverified: true,
            ..signing()
        };
        let error = Foreign::new("acme", contradiction, Map::new()).unwrap_err();
        assert_eq!(error, BuildError::Contradiction { key: "secrets" });
    }
}
