//! Just enough HTTP: a server on loopback from one function, and one request.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, channel::Channel, combinators::BoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{gate::Gate, tls};

/// What a stand-in answers with; its body may come piece by piece.
pub type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A request with its whole body.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Asked {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first value of `name` in the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// An answer that passes `middle` when half of its body is sent, and tells when all of it is.
pub(crate) fn in_halves(
    kind: &str,
    body: Bytes,
    middle: Gate,
    whole: impl FnOnce() + Send + 'static,
) -> Answer {
    let (mut sender, channel) = Channel::<Bytes, Infallible>::new(2);
    let response = Response::builder()
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_LENGTH, body.len())
        .body(channel.boxed())
        .expect("the parts are valid");
    #[expect(
        clippy::disallowed_methods,
        reason = "the task ends with the body that it writes"
    )]
    tokio::task::spawn(async move {
        let (first, second) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
        let _ = sender.send_data(first).await;
        middle.pass().await;
        if sender.send_data(second).await.is_ok() {
            whole();
        }
    });
    response
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Server {
    /// Serves `answer` on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// Where no port can be bound.
    pub async fn start<F, A>(answer: F) -> anyhow::Result<Self>
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        Self::listen(None, answer).await
    }

    /// The same behind TLS, over HTTP/2 for those who can, for `localhost`; see [`tls`](crate::tls).
    ///
    /// # Errors
    ///
    /// Where no port can be bound.
    pub async fn start_tls<F, A>(answer: F) -> anyhow::Result<Self>
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        Self::listen(Some(tls::acceptor()?), answer).await
    }

    async fn listen<F, A>(acceptor: Option<TlsAcceptor>, answer: F) -> anyhow::Result<Self>
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("binding a stand-in")?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let answer = Arc::new(answer);
        #[expect(
            clippy::disallowed_methods,
            reason = "the task ends with the server that owns its token"
        )]
        tokio::task::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => match accepted { Ok((stream, _)) => stream, Err(_) => continue },
                };
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                connections.spawn(async move {
                    // A client that breaks off is its own affair.
                    let _ = serve(stream, acceptor, answer).await;
                });
            }
        });
        Ok(Self {
            address,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve<F, A>(stream: TcpStream, acceptor: Option<TlsAcceptor>, answer: Arc<F>) -> anyhow::Result<()>
where
    F: Fn(Asked) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| respond(Arc::clone(&answer), request));
    let http1 = http1::Builder::new();
    let Some(acceptor) = acceptor else {
        return Ok(http1.serve_connection(TokioIo::new(stream), service).await?);
    };
    let stream = acceptor.accept(stream).await?;
    match stream.get_ref().1.alpn_protocol() {
        Some(tls::HTTP2) => {
            let http2 = http2::Builder::new(TokioExecutor::new());
            http2.serve_connection(TokioIo::new(stream), service).await?;
        }
        _ => http1.serve_connection(TokioIo::new(stream), service).await?,
    }
    Ok(())
}

async fn respond<F, A>(answer: Arc<F>, request: Request<Incoming>) -> hyper::Result<Answer>
where
    F: Fn(Asked) -> A,
    A: Future<Output = Answer>,
{
    let (head, body) = request.into_parts();
    let asked = Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.collect().await?.to_bytes(),
    };
    Ok(answer(asked).await)
}

/// An answer with a whole body.
pub fn answer(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(Full::new(body.into()).boxed())
        .expect("the parts are valid")
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    answer(status, "application/json; charset=utf-8", body.to_string())
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Answered {
    /// The body as JSON, or null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Sends one request over a connection of its own.
///
/// # Errors
///
/// Where there is no whole answer.
pub async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &HeaderMap,
    body: impl Into<Bytes>,
) -> anyhow::Result<Answered> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connecting to {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(body.into()))?;
    request.headers_mut().extend(headers.clone());
    request.headers_mut().insert(
        HOST,
        address.to_string().parse().expect("an address is a header value"),
    );
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        anyhow::Ok(Answered {
            status: head.status,
            headers: head.headers,
            body,
        })
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answered = &mut exchange => answered,
        // A server may end the connection with its answer. What was read by then is handed on.
        ended = connection => exchange.await.context(match ended {
            Ok(()) => "the connection ended before an answer".to_owned(),
            Err(error) => format!("the connection broke before an answer: {error}"),
        }),
    }
}
