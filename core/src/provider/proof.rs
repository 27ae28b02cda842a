//! What the verifications share: the token in the path, and headers of which there must be exactly one.

use hyper::HeaderMap;
use jackfield_event::Verification;

use super::{Request, Verified, VerifyError};
use crate::{reason::Reason, secret::Secret};

impl<'r> Verified<'r> {
    /// Only a verification says this, of a request that it has checked.
    pub(super) fn by(request: &'r Request, verification: Verification) -> Self {
        Self {
            request,
            verification,
        }
    }
}

impl VerifyError {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// Verifies a request of a provider that signs nothing: by the token, where the source has one.
pub(super) fn verify_unsigned<'r>(
    expected: Option<&Secret>,
    request: &'r Request,
) -> Result<Verified<'r>, VerifyError> {
    check_path_token(expected, request.token.as_ref())?;
    let verification = match expected {
        Some(_) => Verification::PathToken,
        None => Verification::None,
    };
    Ok(Verified::by(request, verification))
}

/// Compares the path's token with the source's, in constant time. A source without one takes no token either:
/// a token that nothing checks is a mistake in the address that was given to the provider.
pub(super) fn check_path_token(expected: Option<&Secret>, found: Option<&Secret>) -> Result<(), VerifyError> {
    let detail = match (expected, found) {
        (None, None) => return Ok(()),
        (Some(expected), Some(found)) if expected.matches(found.expose().as_bytes()) => return Ok(()),
        (Some(_), Some(_)) => "the token in the path is wrong",
        (Some(_), None) => "the path has no token, and the source needs one",
        (None, Some(_)) => "the path has a token, and the source has none",
    };
    Err(VerifyError::new(Reason::WrongToken, detail))
}

/// The value of a header that must be there exactly once and not be empty.
pub(super) fn only_header<'r>(headers: &'r HeaderMap, name: &str) -> Result<&'r [u8], VerifyError> {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let value = match values.next() {
        None => {
            return Err(VerifyError::new(
                Reason::MissingHeader,
                format!("header `{name}` is missing"),
            ));
        }
        Some(b"") => {
            return Err(VerifyError::new(
                Reason::MissingHeader,
                format!("header `{name}` is empty"),
            ));
        }
        Some(value) => value,
    };
    match values.count() {
        0 => Ok(value),
        // Which of them a signature speaks of is anybody's guess, so none is believed.
        more => Err(VerifyError::new(
            Reason::WrongSignature,
            format!("header `{name}` comes {} times, expected once", more + 1),
        )),
    }
}
