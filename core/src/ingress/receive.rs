//! One request, from its first header to its answer.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use hyper::{
    Method,
    body::{Body, Incoming},
    header::CONTENT_ENCODING,
    http::request,
};
use jackfield_event::{EventId, Timestamp};
use tokio::time::timeout_at;

use super::{
    Shared, Source,
    answer::{self, Response},
    body, headers,
    metrics::OfSource,
};
use crate::{
    journal::{AppendError, Arrival, Committed, Rejection},
    provider::{Request, TranslateError, Translated, Translation, VerifyError, Way},
    reason::Reason,
    router::NotJson,
    secret::Secret,
};

/// A source with its counters.
pub(super) struct Endpoint {
    source: Source,
    metrics: OfSource,
}

impl Endpoint {
    pub(super) fn new(source: Source, metrics: &super::Metrics) -> Self {
        let metrics = metrics.of_source(&source.name);
        Self { source, metrics }
    }

    pub(super) fn name(&self) -> &str {
        &self.source.name
    }
}

/// Why a request is refused. The detail is for the operator.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) detail: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// Decides one request. `unread` is called where the answer leaves before the body was read to its end.
pub(super) async fn receive(
    shared: &Shared,
    request: hyper::Request<Incoming>,
    remote: IpAddr,
    unread: impl Fn(),
) -> Response {
    let received = shared.clock.now();
    let (head, mut body) = request.into_parts();
    let (source, result) = match address(&head) {
        Err(refusal) => (None, Err(refusal)),
        Ok((name, token)) => match shared.sources.get(name) {
            None => (None, Err(unknown_source(shared))),
            Some(endpoint) => {
                endpoint.metrics.received.inc();
                let token = token.map(Secret::new);
                let result = take(shared, endpoint, head.headers, token, &mut body).await;
                (Some(endpoint), result)
            }
        },
    };
    result.unwrap_or_else(|refusal| {
        if !body.is_end_stream() {
            unread();
        }
        let reason = refusal.reason;
        record(shared, source, refusal, received, remote);
        answer::refused(reason)
    })
}

/// The source's name and the token of the address, where the request could be an event at all.
fn address(head: &request::Parts) -> Result<(&str, Option<&str>), Refusal> {
    let rest = head
        .uri
        .path()
        .strip_prefix("/in/")
        .ok_or_else(|| Refusal::new(Reason::UnknownPath, "events come in under /in/<source>"))?;
    let (name, token) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), None),
        Some((name, token)) => (name, Some(token)),
    };
    if head.method != Method::POST {
        return Err(Refusal::new(
            Reason::WrongMethod,
            format!("{} where only POST is answered", head.method),
        ));
    }
    Ok((name, token))
}

/// Takes a request of a known source: limits, verification, translation, routes, commit.
async fn take(
    shared: &Shared,
    endpoint: &Endpoint,
    headers: hyper::HeaderMap,
    token: Option<Secret>,
    body: &mut Incoming,
) -> Result<Response, Refusal> {
    let source = &endpoint.source;
    source.provider.admit(token.as_ref())?;
    check_lag(shared)?;
    check_count(shared, &headers)?;
    check_encoding(&headers)?;
    let (body, _share) = body::read(
        body,
        source.body_limit,
        shared.limits.body_timeout,
        &shared.memory,
    )
    .await?;
    let request = Request {
        headers,
        body,
        token,
        received: shared.clock.now(),
    };
    match translate(source, &request).await? {
        Translation::Handshake(handshake) => {
            endpoint.metrics.handshakes.inc();
            tracing::info!(source = source.name, "handshake answered");
            Ok(answer::handshake(handshake))
        }
        Translation::Event(event) => {
            let committed = commit(shared, endpoint, event, &request).await?;
            Ok(answer::accepted(&committed))
        }
    }
}

/// Verifies, and then translates. What a provider of the router's own does is done at once, here.
async fn translate(source: &Source, request: &Request) -> Result<Translation, Refusal> {
    let id = EventId::new(request.received, fastrand::u128(..));
    match &source.provider {
        Way::BuiltIn(provider) => {
            let verified = provider.verify(request)?;
            Ok(provider.translate(id, &source.name, &verified)?)
        }
        Way::Plugin(foreign) => {
            let judged = foreign.verify(&source.name, request).await?;
            Ok(foreign.translate(id, &source.name, judged)?)
        }
    }
}

/// Routes an event and commits it with what it owes.
async fn commit(
    shared: &Shared,
    endpoint: &Endpoint,
    event: Translated,
    request: &Request,
) -> Result<Committed, Refusal> {
    let source = &endpoint.source;
    let kind = tracing::enabled!(tracing::Level::INFO).then(|| event.event.kind.clone());
    let Translated { event, dedup } = event;
    let routed = shared.routes.load().route(event, request.body.clone(), dedup)?;
    let arrival = Arrival {
        routed,
        headers: headers::kept(&request.headers),
        received: request.received,
        dedup_window: source.dedup_window,
    };
    let begun = tokio::time::Instant::now();
    let patience = shared.limits.commit_timeout;
    let committed = timeout_at(begun + patience, shared.journal.append(arrival))
        .await
        .map_err(|_| stalled(patience))??;
    shared.metrics.appended(begun.elapsed());
    let counters = &endpoint.metrics;
    match (committed.is_duplicate(), committed.deliveries().is_empty()) {
        (true, _) => counters.duplicates.inc(),
        (false, true) => counters.unmatched.inc(),
        (false, false) => 0,
    };
    if !committed.is_duplicate() {
        counters.accepted.inc();
    }
    if let Some(kind) = kind
        && let Some(held_back) = shared.accepted.pass(request.received)
    {
        tracing::info!(
            source = source.name,
            event.id = %committed.event(),
            "event.type" = kind,
            reason = committed.is_duplicate().then_some(Reason::Duplicate.code()),
            deliveries = committed.deliveries().len(),
            held_back = (held_back > 0).then_some(held_back),
            "event accepted"
        );
    }
    Ok(committed)
}

/// Where the disk is so far behind, a request that waited for it would only wait in vain.
fn check_lag(shared: &Shared) -> Result<(), Refusal> {
    match shared.journal.lag() {
        lag if lag < shared.limits.commit_timeout => Ok(()),
        lag => Err(stalled(lag)),
    }
}

/// It may be committed yet. Where it has a dedup key, whoever sends it again is told that it is a duplicate.
fn stalled(since: Duration) -> Refusal {
    Refusal::new(
        Reason::JournalUnavailable,
        format!("the journal has not committed for {:.1} s", since.as_secs_f64()),
    )
}

/// HTTP/1 counts headers as it reads them; HTTP/2 knows only how long they are.
fn check_count(shared: &Shared, headers: &hyper::HeaderMap) -> Result<(), Refusal> {
    let (count, most) = (headers.len(), shared.limits.headers);
    if count > most {
        let words = format!("found {count} headers, expected at most {most}");
        return Err(Refusal::new(Reason::MalformedRequest, words));
    }
    Ok(())
}

fn check_encoding(headers: &hyper::HeaderMap) -> Result<(), Refusal> {
    match headers.get(CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(encoding) => Err(Refusal::new(
            Reason::UnsupportedEncoding,
            format!("content-encoding is {encoding:?}; the signature covers the bytes as they come"),
        )),
    }
}

/// The name that was asked for is not shown: it may be a token in the wrong place.
fn unknown_source(shared: &Shared) -> Refusal {
    Refusal::new(
        Reason::UnknownSource,
        format!("the address names none of the {} sources", shared.sources.len()),
    )
}

/// Counts, logs and records a refusal.
pub(super) fn record(
    shared: &Shared,
    endpoint: Option<&Endpoint>,
    refusal: Refusal,
    received: Timestamp,
    remote: IpAddr,
) {
    let reason = refusal.reason;
    let source = endpoint.map(Endpoint::name);
    shared.metrics.refused(reason);
    if let Some(held_back) = shared.refused.pass(received) {
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    source,
                    reason = reason.code(),
                    detail = %refusal.detail,
                    %remote,
                    held_back = (held_back > 0).then_some(held_back),
                    "request refused"
                )
            };
        }
        // Whoever knows no source is a passer-by; the network is full of them.
        if source.is_some() {
            line!(warn)
        } else {
            line!(info)
        }
    }
    shared.journal.reject(Rejection {
        received,
        source: source.map(str::to_owned),
        reason,
        detail: refusal.detail.into_owned(),
        remote: Some(remote),
    });
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Self {
        Self::new(error.reason, error.detail)
    }
}

impl From<TranslateError> for Refusal {
    fn from(error: TranslateError) -> Self {
        let reason = match error {
            TranslateError::NotJson(_) => Reason::NotJson,
            TranslateError::TooDeep { .. } => Reason::TooDeep,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<NotJson> for Refusal {
    fn from(error: NotJson) -> Self {
        Self::new(Reason::NotJson, error.to_string())
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match &error {
            AppendError::Full => Self::new(Reason::Overloaded, error.to_string()),
            AppendError::Unavailable(cause) => {
                Self::new(Reason::JournalUnavailable, format!("{error}: {cause}"))
            }
        }
    }
}
