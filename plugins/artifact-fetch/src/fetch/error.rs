//! Why a file was not fetched, in words for whoever has to act on it.
//!
//! No message holds a path or a query of a URL: that is where links carry their tokens.

use std::{io, net::IpAddr, time::Duration};

use reqwest::{Response, StatusCode, header::HeaderMap};
use url::Url;

use crate::place;

/// What the event says about a link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// When it stops working, as the event has it.
    pub expires: Option<String>,
    /// Whose link it is: `appflow`.
    pub provider: String,
}

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Another try, after a while where the server asked for one.
    Retry(Option<Duration>),
    /// A person.
    Person,
}

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the link has the scheme `{0}`; only https is fetched")]
    Scheme(String),
    #[error(
        "the link to {0} is plain http, which anybody on the way can read and change; only https is fetched, \
         but for the hosts in `allow_private`"
    )]
    PlainHttp(String),
    #[error("the link to {0} has a user name or password in it; name a credential with `auth` instead")]
    UserInfo(String),
    #[error(
        "the host `{host}` is refused: its address {address} is {kind}; if it is meant, add \"{place}\" to `allow_private`"
    )]
    Refused {
        host: String,
        address: IpAddr,
        kind: &'static str,
        place: String,
    },
    #[error(
        "the router's proxy refuses to connect to {0}: the host is not granted, or its address is not public; the router's \
         log says which, and what to add to `grant.network` if it is meant"
    )]
    Forbidden(String),
    #[error("the host `{0}` was not found: {1}")]
    Unresolved(String, String),
    #[error(
        "no certificate can be verified on this machine ({0}); install ca-certificates or set SSL_CERT_FILE"
    )]
    NoRoots(String),
    #[error("the HTTP client could not be set up: {0}")]
    Client(String),
    #[error("{place} gave no answer: {cause}")]
    Unreachable { place: String, cause: String },
    #[error("{0} redirects without saying where to")]
    BadRedirect(String),
    #[error("the link leads through more than {0} redirects (`max_redirects`)")]
    Redirects(u32),
    #[error("the credential `{name}` is only for {}, and the link leads to {found}; it was not sent", origins.join(", "))]
    CredentialOrigin {
        name: String,
        origins: Vec<String>,
        found: String,
    },
    #[error("{place} answered {status}: {reading}")]
    Status {
        place: String,
        status: StatusCode,
        reading: String,
    },
    #[error("{place} answered {status}")]
    Busy {
        place: String,
        status: StatusCode,
        after: Option<Duration>,
    },
    #[error(
        "the file came with the content coding `{0}`, though none was asked for; its bytes are not the artifact's"
    )]
    Encoded(String),
    #[error("the file {}is larger than the {max_bytes} bytes allowed (`max_bytes`)", of_size(*announced))]
    TooLarge { announced: Option<u64>, max_bytes: u64 },
    #[error("the connection broke after {size} bytes{}: {cause}", of_all(*announced))]
    Interrupted {
        size: u64,
        announced: Option<u64>,
        cause: String,
    },
    #[error("the file's sha256 is {found} ({size} bytes), and {expected} was expected")]
    Digest {
        expected: String,
        found: String,
        size: u64,
    },
    #[error("failed to write the file: {0}")]
    Disk(#[from] io::Error),
}

impl FetchError {
    /// What an answer means that does not hold the file.
    pub(super) async fn of_status(url: &Url, response: Response, link: &Link) -> Self {
        let (place, status) = (place::shown(url), response.status());
        if matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error() {
            let after = retry_after(response.headers());
            return Self::Busy { place, status, after };
        }
        let says_expired = says_expired(response).await;
        Self::Status {
            place,
            status,
            reading: reading(status, says_expired, link),
        }
    }

    /// What helps against it.
    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Busy { after, .. } => Remedy::Retry(*after),
            Self::Unresolved(..) | Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Disk(_) => {
                Remedy::Retry(None)
            }
            Self::Scheme(_)
            | Self::PlainHttp(_)
            | Self::UserInfo(_)
            | Self::Refused { .. }
            | Self::Forbidden(_)
            | Self::NoRoots(_)
            | Self::Client(_)
            | Self::BadRedirect(_)
            | Self::Redirects(_)
            | Self::CredentialOrigin { .. }
            | Self::Status { .. }
            | Self::Encoded(_)
            | Self::TooLarge { .. }
            | Self::Digest { .. } => Remedy::Person,
        }
    }
}

/// What a refusal of the server means, and what to do.
fn reading(status: StatusCode, says_expired: bool, link: &Link) -> String {
    let life = match (&link.expires, link.provider.as_str()) {
        (Some(expires), _) => format!(" (the event says that it expires at {expires})"),
        (None, "appflow") => " (Appflow's links die after 24 hours)".to_owned(),
        (None, _) => String::new(),
    };
    match status.as_u16() {
        410 => format!("the link has expired{life}; have the provider send a new one"),
        400 | 401 | 403 if says_expired => format!("the link has expired{life}; have the provider send a new one"),
        401 => "it asks for a credential, or refuses the one it got; check `auth` and the instance's `credentials`".to_owned(),
        403 => format!("the link has expired{life}, or the credential may not read it"),
        404 => format!("there is nothing at the link, or no longer{life}"),
        _ if status.is_redirection() => "a redirection that leads nowhere".to_owned(),
        _ if status.is_success() => "not the whole file, which only 200 stands for".to_owned(),
        _ => "the request was refused".to_owned(),
    }
}

/// Whether the body speaks of expiry, as S3 and its kin do with a 403 or a 400. Nothing else of it is kept.
async fn says_expired(mut response: Response) -> bool {
    let mut start = Vec::new();
    while start.len() < 4096
        && let Ok(Some(chunk)) = response.chunk().await
    {
        start.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&start)
        .to_ascii_lowercase()
        .contains("expired")
}

/// Reads `Retry-After`: seconds, or a date, which counts from the answer's own `Date` and not from our clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let value = text("retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, from) = (
        httpdate::parse_http_date(value).ok()?,
        httpdate::parse_http_date(text("date")?).ok()?,
    );
    until.duration_since(from).ok()
}

fn of_size(announced: Option<u64>) -> String {
    announced
        .map(|size| format!("has {size} bytes and "))
        .unwrap_or_default()
}

fn of_all(announced: Option<u64>) -> String {
    announced.map(|size| format!(" of {size}")).unwrap_or_default()
}
