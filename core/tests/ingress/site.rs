//! An ingress with three sources on a free port, a journal in a directory of its own, and clients that send bytes.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{
    BodyExt,
    channel::{Channel, Sender},
};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jackfield::{
    clock::{Clock, SystemClock},
    ingress::{Ingress, Limits, Metrics, Options, Parts, Source},
    journal::{self, History, Journal, Rejection, SqliteJournal},
    provider::{self, SignedRequest},
    router::{Generation, RuleFile},
    secret::Secret,
};
use jackfield_event::Timestamp;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The longest body that the sources take.
pub(crate) const BODY_LIMIT: usize = 256 << 10;
/// What a site with little memory sets aside for bodies.
pub(crate) const LITTLE: usize = 1 << 10;
/// The token of the source `builds`.
pub(crate) const TOKEN: &str = "t0ken-of-builds";
/// What `zeplin` posts.
pub(crate) const ZEPLIN_BODY: &str = r#"{"event":"project.screen.version","action":"created","timestamp":1590624000,"resource":{"id":"5ed0","type":"ScreenVersionSummary"},"context":{"screen":{"id":"5db8","name":"Login"}},"actor":{"user":{"id":"5d9c","username":"ada"}}}"#;

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) journal: Arc<SqliteJournal>,
    stop: CancellationToken,
    running: JoinSet<std::io::Result<()>>,
    metrics: Registry,
    _directory: TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default(), journal::Options::default()).await
    }

    /// Gives clients a fifth of a second.
    pub(crate) async fn impatient() -> Self {
        let time = Duration::from_millis(200);
        let limits = Limits {
            header_timeout: time,
            body_timeout: time,
            ..Limits::default()
        };
        Self::with(limits, journal::Options::default()).await
    }

    /// Gives clients a fifth of a second for a body, and all the time that there is for anything else.
    pub(crate) async fn impatient_for_bodies() -> Self {
        let limits = Limits {
            body_timeout: Duration::from_millis(200),
            ..Limits::default()
        };
        Self::with(limits, journal::Options::default()).await
    }

    pub(crate) async fn with_little_memory() -> Self {
        let limits = Limits {
            bodies_bytes: LITTLE,
            ..Limits::default()
        };
        Self::with(limits, journal::Options::default()).await
    }

    /// Its journal has no room for a single arrival.
    pub(crate) async fn with_a_full_journal() -> Self {
        let options = journal::Options {
            queue_bytes: 0,
            ..journal::Options::default()
        };
        Self::with(Limits::default(), options).await
    }

    /// Takes the least that can be set of headers: less than what any protocol has by itself.
    pub(crate) async fn with_small_headers() -> Self {
        let limits = Limits {
            header_bytes: 8 << 10,
            ..Limits::default()
        };
        Self::with(limits, journal::Options::default()).await
    }

    /// Serves one connection at a time.
    pub(crate) async fn with_one_connection() -> Self {
        let limits = Limits {
            connections: NonZeroUsize::MIN,
            ..Limits::default()
        };
        Self::of(1, limits, journal::Options::default()).await
    }

    /// Serves one request at a time on an HTTP/2 connection.
    pub(crate) async fn with_one_stream() -> Self {
        let limits = Limits {
            streams: NonZeroU32::MIN,
            ..Limits::default()
        };
        Self::with(limits, journal::Options::default()).await
    }

    pub(crate) async fn with_one_acceptor() -> Self {
        Self::of(1, Limits::default(), journal::Options::default()).await
    }

    async fn with(limits: Limits, options: journal::Options) -> Self {
        Self::of(2, limits, options).await
    }

    async fn of(acceptors: usize, limits: Limits, options: journal::Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = Arc::new(SqliteJournal::open(directory.path(), options).unwrap());
        let mut metrics = Registry::default();
        let generation = generation();
        journal
            .store_rules(generation.id(), generation.text())
            .await
            .unwrap();
        let parts = Parts {
            sources: vec![
                source("screens", zeplin("the secret")),
                source("builds", token("appflow")),
                source("design-system", token("supernova")),
            ],
            routes: Arc::new(ArcSwap::from_pointee(generation)),
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            clock: Arc::new(SystemClock),
            metrics: Metrics::register(&mut metrics),
            sockets: Vec::new(),
        };
        let options = Options {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            acceptors: NonZeroUsize::new(acceptors).unwrap(),
            tls: None,
            limits,
            grace: Duration::from_secs(30),
        };
        let ingress = Ingress::bind(options, parts).unwrap();
        let (address, stop) = (ingress.address(), CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(ingress.run(stop.clone()));
        Self {
            address,
            journal,
            stop,
            running,
            metrics,
            _directory: directory,
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    pub(crate) async fn multiplex(&self) -> Multiplexed {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        let mut running = JoinSet::new();
        running.spawn(connection);
        Multiplexed { sender, running }
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn exchange(&self, protocol: Protocol, request: &[u8]) -> Answer {
        match protocol {
            Protocol::Http1 => self.connect().await.exchange(request).await,
            Protocol::Http2 => self.multiplex().await.exchange(request).await,
        }
    }

    /// A request that Zeplin signed just now, as its delivery `delivery`.
    pub(crate) fn zeplin(&self, delivery: &str) -> Vec<u8> {
        signed_post(zeplin_signs("the secret", SystemClock.now(), delivery))
    }

    pub(crate) fn stale_zeplin(&self, delivery: &str) -> Vec<u8> {
        signed_post(zeplin_signs(
            "the secret",
            Timestamp::from_secs(1_590_714_485).unwrap(),
            delivery,
        ))
    }

    pub(crate) fn forged_zeplin(&self, delivery: &str) -> Vec<u8> {
        signed_post(zeplin_signs("a guess", SystemClock.now(), delivery))
    }

    pub(crate) async fn close_the_journal(&self) {
        self.journal.close().await.unwrap();
    }

    /// The next refusal that is recorded.
    pub(crate) async fn next_rejection(&self) -> Rejection {
        loop {
            if let Some(record) = self.journal.rejections(1).await.unwrap().pop() {
                return record.rejection;
            }
            tokio::task::yield_now().await;
        }
    }

    /// What was refused so far.
    pub(crate) async fn rejections(&self) -> Vec<Rejection> {
        let records = self.journal.rejections(100).await.unwrap();
        records.into_iter().map(|record| record.rejection).collect()
    }

    /// Posts to `path` again and again, which is answered as if nobody else were there.
    pub(crate) async fn is_answered(&self, path: &str) {
        loop {
            let answer = self.connect().await.exchange(&post(path, &[], b"{}")).await;
            assert_eq!(answer.status, 200);
        }
    }

    /// Waits until the headers of so many requests to `screens` have arrived.
    pub(crate) async fn until_received(&self, count: u64) {
        self.until_counted("requests_received", count).await;
    }

    /// Waits until the counter of that name stands so for `screens`.
    pub(crate) async fn until_counted(&self, counter: &str, count: u64) {
        let line = format!("{counter}_total{{source=\"screens\"}} {count}\n");
        loop {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
            if text.contains(&line) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Stops it: no new connection is accepted.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) async fn ended(&mut self) -> std::io::Result<()> {
        self.running.join_next().await.unwrap().unwrap()
    }
}

/// A connection on which bytes are sent as they are.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// In which way requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// An HTTP/2 connection, on which requests are sent as they would be over HTTP/1.1.
pub(crate) struct Multiplexed {
    sender: http2::SendRequest<Channel<Bytes>>,
    running: JoinSet<hyper::Result<()>>,
}

/// What a client reads.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            stream: TcpStream::connect(address).await?,
            read: Vec::new(),
        })
    }

    /// Sends all of it; where the server has closed the connection before, the rest is dropped.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Closes its half of the connection.
    pub(crate) async fn sends_no_more(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// Reads one whole answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            assert!(
                self.read_more().await,
                "no whole answer: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.read_more().await, "the answer breaks off");
        }
        answer.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        answer
    }

    /// Reads until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read_more().await {}
        std::mem::take(&mut self.read)
    }

    async fn read_more(&mut self) -> bool {
        self.stream
            .read_buf(&mut self.read)
            .await
            .is_ok_and(|length| length > 0)
    }
}

impl Multiplexed {
    pub(crate) async fn exchange(&self, request: &[u8]) -> Answer {
        let (answer, rest) = self.begin(request).await;
        drop(rest);
        answer.await.unwrap()
    }

    /// Sends a request, but not the end of its body: more may be sent, until the sender is dropped.
    pub(crate) async fn begin(
        &self,
        request: &[u8],
    ) -> (impl Future<Output = hyper::Result<Answer>> + use<>, Sender<Bytes>) {
        let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let (head, body) = (&request[..end], &request[end + 4..]);
        let mut lines = std::str::from_utf8(head).unwrap().split("\r\n");
        let [method, path, _] = lines.next().unwrap().split(' ').collect::<Vec<_>>()[..] else {
            unreachable!("a request line has three words")
        };
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://site{path}"));
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
            // It stands in the address.
            if name != "host" {
                request = request.header(name, value);
            }
        }
        let (mut rest, sent) = Channel::new(1);
        if !body.is_empty() {
            rest.send_data(Bytes::copy_from_slice(body)).await.unwrap();
        }
        let (mut sender, request) = (self.sender.clone(), request.body(sent).unwrap());
        let answer = async move { Ok(Answer::of(sender.send_request(request).await?).await) };
        (answer, rest)
    }

    /// Waits until the server has ended the connection, and tells whether it did so in good order.
    pub(crate) async fn ended(&mut self) -> hyper::Result<()> {
        self.running.join_next().await.unwrap().unwrap()
    }
}

impl Answer {
    async fn of(response: hyper::Response<hyper::body::Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let headers = head.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Self {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn headers_but_date(&self) -> Vec<(String, String)> {
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| name != "date");
        headers
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The bytes of a POST over HTTP/1.1.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: site\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// Every version of a screen goes to one step.
fn generation() -> Generation {
    let rules = r#"
[[route]]
name = "versions"
when = { type = ["io.zeplin.project.screen.version.created"] }
[[route.step]]
use = "slack"
"#;
    let file = RuleFile {
        name: "routes.toml".into(),
        text: rules.into(),
    };
    Generation::compile(&[file], None).unwrap()
}

fn signed_post(signed: SignedRequest) -> Vec<u8> {
    let headers: Vec<_> = signed
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    post(&signed.path("screens"), &headers, ZEPLIN_BODY.as_bytes())
}

fn zeplin_signs(secret: &str, at: Timestamp, delivery: &str) -> SignedRequest {
    provider::sign(&zeplin(secret), ZEPLIN_BODY.as_bytes(), at, delivery).unwrap()
}

fn zeplin(secret: &str) -> provider::Options {
    provider::Options {
        provider: "zeplin".into(),
        secrets: vec![Secret::new(secret)],
        ..provider::Options::default()
    }
}

fn token(provider: &str) -> provider::Options {
    provider::Options {
        provider: provider.into(),
        path_token: Some(Secret::new(TOKEN)),
        ..provider::Options::default()
    }
}

fn source(name: &str, options: provider::Options) -> Source {
    Source {
        name: name.into(),
        provider: provider::build(options).unwrap().into(),
        body_limit: BODY_LIMIT,
        dedup_window: Duration::from_secs(3600),
    }
}
