//! Zeplin: something changed in a project, a styleguide or a workspace.
//!
//! Zeplin signs `{timestamp}.{raw body}` with HMAC-SHA256 ([documentation][securing]). The signature is hex and
//! is compared as the 32 bytes that it stands for, so that upper case is the same signature. The timestamp is
//! that of the delivery; whether a retry renews it is not documented, and the last one comes about six minutes
//! after the first, hence a tolerance of ten minutes where Zeplin suggests five.
//!
//! An event's type is `io.zeplin.` and Zeplin's own words: `<event>.<action>`.
//!
//! [securing]: https://docs.zeplin.dev/docs/securing-webhook-requests

mod kinds;
mod translation;

use std::{fmt, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use hyper::http::HeaderValue;
use jackfield_event::{EventId, Timestamp, Verification};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use super::{
    Options, Provider, Request, SignedRequest, TranslateError, Translation, Verified, VerifyError,
    options::Adapter,
    proof::{check_path_token, only_header},
    sending,
};
use crate::{reason::Reason, secret::Secret};

pub(super) const ADAPTER: Adapter = Adapter {
    name: NAME,
    signs: true,
    types: || {
        let pairs = kinds::KINDS
            .iter()
            .flat_map(|kind| kind.actions.iter().map(|action| (&kind.event, action)));
        let kinds = pairs.map(|(event, action)| format!("{event}.{action}"));
        kinds
            .chain(["unrecognized".into()])
            .map(|kind| format!("io.zeplin.{kind}"))
            .collect()
    },
    build: |options| Arc::new(Zeplin::new(&options)),
    sign,
};

const NAME: &str = "zeplin";
const SIGNATURE: &str = "zeplin-signature";
const TIMESTAMP: &str = "zeplin-delivery-timestamp";
const DELIVERY: &str = "zeplin-delivery-id";
const ATTEMPT: &str = "zeplin-attempt-number";
const DEFAULT_TOLERANCE: Duration = Duration::from_secs(10 * 60);

struct Zeplin {
    /// The live secrets, each already worked into the first block of its HMAC. None: believe everybody.
    keys: Vec<Hmac<Sha256>>,
    path_token: Option<Secret>,
    tolerance: Duration,
}

impl Zeplin {
    fn new(options: &Options) -> Self {
        Self {
            keys: options.secrets.iter().map(key).collect(),
            path_token: options.path_token.clone(),
            tolerance: options.tolerance.unwrap_or(DEFAULT_TOLERANCE),
        }
    }
}

impl fmt::Debug for Zeplin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            keys,
            path_token,
            tolerance,
        } = self;
        f.debug_struct("Zeplin")
            .field("keys", &keys.len())
            .field("path_token", path_token)
            .field("tolerance", tolerance)
            .finish()
    }
}

impl Provider for Zeplin {
    fn admit(&self, token: Option<&Secret>) -> Result<(), VerifyError> {
        check_path_token(self.path_token.as_ref(), token)
    }

    fn verify<'r>(&self, request: &'r Request) -> Result<Verified<'r>, VerifyError> {
        check_path_token(self.path_token.as_ref(), request.token.as_ref())?;
        if self.keys.is_empty() {
            return Ok(Verified::by(request, Verification::None));
        }
        let timestamp = only_header(&request.headers, TIMESTAMP)?;
        let signature = only_header(&request.headers, SIGNATURE)?;
        self.check_signature(timestamp, &request.body, signature)?;
        // Only now is the timestamp known to be Zeplin's.
        check_age(timestamp, request.received, self.tolerance)?;
        Ok(Verified::by(request, Verification::Signature))
    }

    fn translate(
        &self,
        id: EventId,
        source: &str,
        request: &Verified<'_>,
    ) -> Result<Translation, TranslateError> {
        translation::translate(id, source, request)
    }
}

impl Zeplin {
    /// Every secret is tried, whichever matches, and each signature is compared whole.
    fn check_signature(&self, timestamp: &[u8], body: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let refused = |detail: String| Err(VerifyError::new(Reason::WrongSignature, detail));
        let Some(found) = unhex(signature) else {
            return refused(format!("header `{SIGNATURE}` is not 64 hexadecimal digits"));
        };
        let matches = self.keys.iter().fold(Choice::from(0), |matches, key| {
            matches | sum(key.clone(), timestamp, body).ct_eq(&found)
        });
        match bool::from(matches) {
            true => Ok(()),
            false => {
                let mismatch = match self.keys.len() {
                    1 => "does not match the live secret".to_owned(),
                    secrets => format!("matches none of the {secrets} live secrets"),
                };
                refused(format!(
                    "the signature {mismatch}: the body was changed on its way, or the secret is not that of the webhook"
                ))
            }
        }
    }
}

/// Checks that a delivery's timestamp is about `now`: within `tolerance`, early or late.
fn check_age(timestamp: &[u8], now: Timestamp, tolerance: Duration) -> Result<(), VerifyError> {
    let refused = |detail: String| Err(VerifyError::new(Reason::StaleTimestamp, detail));
    let Some(sent) = seconds(timestamp) else {
        return refused(format!("header `{TIMESTAMP}` is not a number of seconds"));
    };
    let apart = Duration::from_secs(now.as_secs().abs_diff(sent));
    if apart <= tolerance {
        return Ok(());
    }
    let (apart, allowed) = (Span(apart), Span(tolerance));
    if sent < now.as_secs() {
        refused(format!(
            "the timestamp is {apart} old, more than the {allowed} allowed"
        ))
    } else {
        refused(format!(
            "the timestamp is {apart} ahead of this machine's clock, more than the {allowed} allowed"
        ))
    }
}

/// A span of time for people: `10m 1s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 3600, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
        ];
        let mut parts = parts.iter().filter(|(count, _)| *count > 0);
        let Some((count, unit)) = parts.next() else {
            return f.write_str("0s");
        };
        write!(f, "{count}{unit}")?;
        parts.try_for_each(|(count, unit)| write!(f, " {count}{unit}"))
    }
}

/// Reads digits, and nothing but digits.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.try_into().ok()?;
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

fn key(secret: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length")
}

fn sum(mut key: Hmac<Sha256>, timestamp: &[u8], body: &[u8]) -> [u8; 32] {
    key.update(timestamp);
    key.update(b".");
    key.update(body);
    key.finalize().into_bytes().into()
}

/// Signs as Zeplin does, with the first secret; unsigned where the source believes everybody.
fn sign(options: &Options, body: &[u8], now: Timestamp, delivery: &str) -> SignedRequest {
    let mut request = sending::unsigned(options);
    let timestamp = now.as_secs().to_string();
    let mut header = |name: &'static str, value: &str| {
        // A delivery id that no header can hold is left out, as by a provider that sends none.
        if let Ok(value) = HeaderValue::from_str(value) {
            request.headers.insert(name, value);
        }
    };
    header("zeplin-version", "v1.0");
    header(ATTEMPT, "1");
    header(DELIVERY, delivery);
    header(TIMESTAMP, &timestamp);
    if let Some(secret) = options.secrets.first() {
        let sum = sum(key(secret), timestamp.as_bytes(), body);
        header(
            SIGNATURE,
            &sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        );
    }
    request
}
