//! The sending side: a request as the provider would make it, for whoever plays the provider.

use hyper::{HeaderMap, header, http::HeaderValue};
use jackfield_event::Timestamp;

use super::{BuildError, Options};
use crate::secret::Secret;

/// What a request needs, beside its body, for a source with the same options to believe it.
#[derive(Clone, Debug)]
pub struct SignedRequest {
    /// The headers, content type included.
    pub headers: HeaderMap,
    /// The last segment of the path, where the source has a token.
    pub token: Option<Secret>,
}

impl SignedRequest {
    /// The path to post to. Secret where the source has a token: do not log it.
    pub fn path(&self, source: &str) -> String {
        match &self.token {
            Some(token) => format!("/in/{source}/{}", token.expose()),
            None => format!("/in/{source}"),
        }
    }
}

/// Signs `body` as the provider of `options` would have at `now`, as its delivery `delivery`.
///
/// A redelivery is the same call with the same `delivery`. Providers that have no delivery ids tell
/// redeliveries by ids in the body, and pass over it.
///
/// ```
/// use jackfield::{provider::{self, Options}, secret::Secret};
///
/// let options = Options {
///     provider: "zeplin".into(),
///     secrets: vec![Secret::new("it is a secret")],
///     ..Options::default()
/// };
/// let now = "2026-01-01T00:00:00Z".parse()?;
/// let request = provider::sign(&options, b"{}", now, "delivery-1")?;
/// assert_eq!(request.path("screens"), "/in/screens");
/// assert_eq!(request.headers["zeplin-delivery-timestamp"], "1767225600");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Where [`build`](super::build) refuses `options`.
pub fn sign(
    options: &Options,
    body: &[u8],
    now: Timestamp,
    delivery: &str,
) -> Result<SignedRequest, BuildError> {
    let adapter = options.check()?;
    Ok((adapter.sign)(options, body, now, delivery))
}

/// A request of a provider that signs nothing.
pub(super) fn unsigned(options: &Options) -> SignedRequest {
    let json = HeaderValue::from_static("application/json");
    SignedRequest {
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
        token: options.path_token.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use jackfield_event::Verification;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        provider::{Request, build, names},
        reason::Reason,
    };

    fn options(provider: &str, secrets: &[&str], token: Option<&str>) -> Options {
        Options {
            provider: provider.into(),
            secrets: secrets.iter().copied().map(Secret::new).collect(),
            path_token: token.map(Secret::new),
            unverified: secrets.is_empty() && token.is_none(),
            tolerance: None,
        }
    }

    fn sent(options: &Options, body: &[u8], at: i64) -> Request {
        let now = Timestamp::from_secs(at).unwrap();
        let signed = sign(options, body, now, "delivery-1").unwrap();
        Request {
            headers: signed.headers,
            body: Bytes::copy_from_slice(body),
            token: signed.token,
            received: now.saturating_add(Duration::from_millis(1999)),
        }
    }

    #[test]
    fn every_provider_believes_what_is_signed_for_its_own_options() {
        for provider in names() {
            let options = match provider {
                "zeplin" => options(provider, &["secret"], None),
                _ => options(provider, &[], Some("t0ken")),
            };
            let believed = build(options.clone()).unwrap();
            assert!(
                believed.verify(&sent(&options, b"{}", 1_767_225_600)).is_ok(),
                "{provider}"
            );
        }
    }

    #[test]
    fn a_source_that_believes_everybody_says_so_in_the_event() {
        for provider in names() {
            let options = options(provider, &[], None);
            let request = sent(&options, b"{}", 1_767_225_600);
            let verified = build(options).unwrap();
            assert_eq!(
                verified.verify(&request).unwrap().verification(),
                Verification::None
            );
        }
    }

    #[test]
    fn a_token_beside_a_signature_is_asked_for_as_well() {
        let both = options("zeplin", &["secret"], Some("t0ken"));
        let believed = build(both.clone()).unwrap();
        let request = sent(&both, b"{}", 1_767_225_600);
        assert_eq!(
            believed.verify(&request).unwrap().verification(),
            Verification::Signature
        );
        for token in [None, Some(Secret::new("token"))] {
            assert!(believed.admit(token.as_ref()).is_err());
            let request = Request {
                token,
                ..request.clone()
            };
            assert_eq!(believed.verify(&request).unwrap_err().reason, Reason::WrongToken);
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let options = options("supernova", &[], Some("hunter2"));
        let signed = sign(&options, b"{}", Timestamp::from_secs(0).unwrap(), "").unwrap();
        assert_eq!(signed.path("tokens"), "/in/tokens/hunter2");
        assert!(!format!("{signed:?} {options:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn only_the_signed_body_and_secret_are_believed(
            body in proptest::collection::vec(any::<u8>(), 1..200),
            secret in ".{1,80}",
            at in 0..4_000_000_000i64,
            place in any::<prop::sample::Index>(),
            flip in 1..=255u8,
        ) {
            let options = options("zeplin", &["older", &secret], None);
            let signing = self::options("zeplin", &[&secret], None);
            let provider = build(options).unwrap();
            let mut request = sent(&signing, &body, at);
            prop_assert!(provider.verify(&request).is_ok());
            let mut forged = body;
            let place = place.index(forged.len());
            forged[place] ^= flip;
            request.body = forged.into();
            prop_assert!(provider.verify(&request).is_err());
        }
    }
}
