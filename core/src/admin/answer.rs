//! The answers of the admin side.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{fault::Faults, journal::JournalError};

/// An answer, whole and in memory.
pub(super) type Response = hyper::Response<Full<Bytes>>;

/// Why something that was asked for was not done.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Problem {
    /// In words.
    pub error: String,
    /// The mistakes in what a person wrote, where those are why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<Faults>,
    /// The HTTP status for it.
    #[serde(skip)]
    pub(super) status: u16,
}

impl Problem {
    pub(super) fn new(status: u16, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            faults: None,
            status,
        }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        let status = match &error {
            JournalError::NotFound(_) => 404,
            JournalError::Refused(_) => 409,
            JournalError::Store(_) | JournalError::Closed => 503,
        };
        Self::new(status, error.to_string())
    }
}

/// Reads the JSON of a request, of at most `longest` bytes.
pub(super) async fn read<T: DeserializeOwned>(body: Incoming, longest: usize) -> Result<T, Problem> {
    let body = Limited::new(body, longest)
        .collect()
        .await
        .map_err(|error| Problem::new(400, format!("the request could not be read: {error}")))?
        .to_bytes();
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(400, format!("the request is not understood: {error}")))
}

pub(super) fn text(status: u16, text: impl Into<Bytes>) -> Response {
    with(status, "text/plain; charset=utf-8", text.into())
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(json) => with(200, "application/json", json.into()),
        Err(error) => text(500, format!("the answer has no JSON form: {error}\n")),
    }
}

pub(super) fn result<T: Serialize>(result: Result<T, Problem>) -> Response {
    match result {
        Ok(value) => json(&value),
        Err(problem) => {
            let mut response = json(&problem);
            *response.status_mut() =
                StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response
        }
    }
}

pub(super) fn open_metrics(text: String) -> Response {
    with(
        200,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        text.into(),
    )
}

pub(super) fn not_allowed(method: &'static str) -> Response {
    let mut response = text(405, format!("only {method} is answered here\n"));
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(method));
    response
}

fn with(status: u16, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
