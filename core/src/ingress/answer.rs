//! The answers: what each decision says to the sender.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};

use crate::{journal::Committed, provider::Handshake, reason::Reason};

/// An answer, whole and in memory.
pub(super) type Response = hyper::Response<Full<Bytes>>;

/// The 200 that promises that the event is on disk; there is no other way to one.
pub(super) fn accepted(committed: &Committed) -> Response {
    let event = committed.event();
    let body = if committed.is_duplicate() {
        format!("{{\"id\":\"{event}\",\"duplicate\":true}}\n")
    } else {
        format!("{{\"id\":\"{event}\"}}\n")
    };
    with(StatusCode::OK, JSON, Bytes::from(body))
}

/// What the provider asked to hear before it sends events.
pub(super) fn handshake(handshake: Handshake) -> Response {
    with(handshake.status, handshake.content_type, handshake.body)
}

/// A refusal. It says no more to the sender than it needs to know.
pub(super) fn refused(reason: Reason) -> Response {
    let status = status(reason);
    let mut response = with(status, JSON, Bytes::from_static(words(status).as_bytes()));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from(fastrand::u32(RETRY_AFTER_SECONDS));
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The one place where a reason becomes a status.
///
/// Senders act on it: most switch a webhook off after some 4xx, so that a 4xx is given only where sending the
/// same again cannot help, and none because of what became of the event later.
fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::UnknownPath | Reason::UnknownSource | Reason::WrongToken => StatusCode::NOT_FOUND,
        Reason::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Reason::MissingHeader | Reason::WrongSignature | Reason::StaleTimestamp => StatusCode::UNAUTHORIZED,
        Reason::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::IncompleteRequest => StatusCode::REQUEST_TIMEOUT,
        Reason::MalformedRequest | Reason::TlsFailed | Reason::NotJson | Reason::TooDeep => {
            StatusCode::BAD_REQUEST
        }
        Reason::ProviderUnavailable | Reason::JournalUnavailable | Reason::Overloaded => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        // These speak of events and deliveries that were accepted; no request is refused for them.
        Reason::Duplicate
        | Reason::OtherRules
        | Reason::ConditionFalse
        | Reason::PluginSkipped
        | Reason::InstanceMissing
        | Reason::InstanceParked
        | Reason::InstanceDown
        | Reason::OrderKeyFailed
        | Reason::Coalescing
        | Reason::Coalesced
        | Reason::Superseded
        | Reason::RateLimited
        | Reason::KeyBusy
        | Reason::InstanceResting
        | Reason::DeadlineFailed
        | Reason::DeadlinePassed
        | Reason::TemplateFailed
        | Reason::InputInvalid
        | Reason::WorkDirectoryFailed
        | Reason::PluginRetry
        | Reason::PluginFatal
        | Reason::PluginAmbiguous
        | Reason::PluginPanicked
        | Reason::PluginCrashed
        | Reason::Quarantined
        | Reason::TimedOut
        | Reason::Interrupted
        | Reason::AttemptsExhausted
        | Reason::GenerationMissing
        | Reason::Unreadable
        | Reason::Canceled
        | Reason::TakenOver
        | Reason::Resolved => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The body of a refusal: by status alone, so that reasons which share one cannot be told apart.
fn words(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "{\"error\":\"there is nothing here\"}\n",
        StatusCode::METHOD_NOT_ALLOWED => "{\"error\":\"events are sent with POST\"}\n",
        StatusCode::UNAUTHORIZED => "{\"error\":\"the request could not be verified\"}\n",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "{\"error\":\"the body must not be encoded\"}\n",
        StatusCode::PAYLOAD_TOO_LARGE => "{\"error\":\"the body is longer than this source allows\"}\n",
        StatusCode::REQUEST_TIMEOUT => "{\"error\":\"the request did not arrive in time\"}\n",
        StatusCode::BAD_REQUEST => {
            "{\"error\":\"the request is malformed, or its body is not JSON or nests too deep\"}\n"
        }
        StatusCode::SERVICE_UNAVAILABLE => "{\"error\":\"the event could not be stored; send it again\"}\n",
        _ => "{\"error\":\"the request was refused\"}\n",
    }
}

fn with(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Long enough for a full queue to empty, short enough for providers that count minutes until they give up; not the same for all,
/// who would else come back together.
const RETRY_AFTER_SECONDS: RangeInclusive<u32> = 5..=15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_sender_can_do_nothing_about_is_a_4xx() {
        let expected = [
            (Reason::UnknownPath, 404),
            (Reason::UnknownSource, 404),
            (Reason::WrongToken, 404),
            (Reason::WrongMethod, 405),
            (Reason::MissingHeader, 401),
            (Reason::WrongSignature, 401),
            (Reason::StaleTimestamp, 401),
            (Reason::UnsupportedEncoding, 415),
            (Reason::BodyTooLarge, 413),
            (Reason::IncompleteRequest, 408),
            (Reason::NotJson, 400),
            (Reason::TooDeep, 400),
            (Reason::ProviderUnavailable, 503),
            (Reason::JournalUnavailable, 503),
            (Reason::Overloaded, 503),
        ];
        for (reason, code) in expected {
            let response = refused(reason);
            assert_eq!(response.status(), code, "{reason}");
            assert_eq!(
                response.headers().contains_key(RETRY_AFTER),
                code == 503,
                "{reason}"
            );
            assert_eq!(response.headers().contains_key(ALLOW), code == 405, "{reason}");
        }
    }
}
