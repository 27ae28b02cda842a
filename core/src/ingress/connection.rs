//! One connection: version, requests, idleness, drain, and an orderly end.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{Version, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Shared,
    receive::{self, Refusal},
    wire::Wire,
};
use crate::reason::Reason;

/// What serves connections: the protocol's settings, made once.
pub(super) struct Server {
    shared: Arc<Shared>,
    protocol: auto::Builder<Tracked>,
    stop: CancellationToken,
}

impl Server {
    pub(super) fn new(shared: Arc<Shared>, tracker: TaskTracker, stop: CancellationToken) -> Self {
        let limits = &shared.limits;
        let mut protocol = auto::Builder::new(Tracked(tracker));
        protocol
            .http1()
            // Who has sent a whole request is answered, though it sends no more: some close their half then. Who has gone for
            // good cannot be told from that, and what came of its request is counted as any other.
            .half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(limits.headers)
            .max_buf_size(limits.header_bytes);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams.get())
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            // What a client may send before we read: small, since a body waits in memory for our turn.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(20)
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.header_timeout);
        Self {
            shared,
            protocol,
            stop,
        }
    }

    /// Serves one connection to its end; never fails, as there is nobody else to tell.
    pub(super) fn serve(&self, stream: TcpStream, remote: IpAddr) -> impl Future<Output = ()> + use<> {
        // Answers are one small write each; waiting to fill a segment would only delay them.
        let _ = stream.set_nodelay(true);
        let peer = Arc::new(Peer {
            shared: Arc::clone(&self.shared),
            remote,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            heard: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            unread: AtomicBool::new(false),
        });
        let wire = match &self.shared.tls {
            Some(tls) => Wire::Handshake(Box::new(tls.accept(stream))),
            None => Wire::Plain(stream),
        };
        let io = TokioIo::new(Lingering {
            wire,
            peer: Arc::clone(&peer),
            closing: None,
        });
        let service = {
            let peer = Arc::clone(&peer);
            service_fn(move |request| answer(Arc::clone(&peer), request))
        };
        let connection = self.protocol.serve_connection(io, service).into_owned();
        let stop = self.stop.clone();
        async move {
            let mut connection = pin!(connection);
            let mut tick = pin!(tokio::time::sleep(peer.shared.limits.header_timeout));
            let mut stopping = pin!(stop.cancelled());
            let (mut stopped, mut draining) = (false, false);
            let mut seen = 0;
            loop {
                // All arms are polled in place and dropped only with the connection.
                tokio::select! {
                    biased;
                    result = &mut connection => return peer.ended_with(result),
                    () = &mut stopping, if !stopped => {
                        stopped = true;
                        seen = peer.begun.load(Relaxed);
                        if peer.is_about_to_ask() {
                            // hyper would cut it off.
                            tick.as_mut().reset(tokio::time::Instant::now() + LAST_REQUEST);
                        } else {
                            draining = true;
                            connection.as_mut().graceful_shutdown();
                        }
                    }
                    // It has asked, and the answer says that it is the last. Looked at whenever the connection was.
                    () = poll_fn(|_| peer.has_begun(seen)), if stopped && !draining => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    // HTTP/1 has hyper's own clock for headers. This one covers what that does not: a client that
                    // never says which version it speaks, and an HTTP/2 connection that asks for nothing.
                    () = &mut tick => {
                        let begun = peer.begun.load(Relaxed);
                        if stopped && !draining {
                            draining = true;
                            connection.as_mut().graceful_shutdown();
                        } else if begun == seen && peer.ended.load(Relaxed) == begun {
                            if draining {
                                return;
                            }
                            draining = true;
                            if begun == 0 && peer.heard.load(Relaxed) < PREFACE {
                                peer.never_finished_headers();
                            }
                            connection.as_mut().graceful_shutdown();
                        }
                        seen = begun;
                        tick.as_mut().reset(tokio::time::Instant::now() + peer.shared.limits.header_timeout);
                    }
                }
            }
        }
    }
}

/// What the requests of one connection share.
pub(super) struct Peer {
    shared: Arc<Shared>,
    remote: IpAddr,
    /// Requests begun and ended; equal while none is in flight.
    begun: AtomicU64,
    ended: AtomicU64,
    /// How many bytes came since the last request ended.
    heard: AtomicUsize,
    /// Whether it is HTTP/2, where bytes between requests need be none of a next one.
    multiplexed: AtomicBool,
    /// Whether a body was answered before its end, so that more of it may still be on its way.
    unread: AtomicBool,
}

impl Peer {
    /// Whether a request is to be expected yet: of what was just accepted, and where a part of its head is here.
    fn is_about_to_ask(&self) -> bool {
        match self.begun.load(Relaxed) {
            0 => true,
            begun if begun > self.ended.load(Relaxed) => false,
            _ => self.heard.load(Relaxed) > 0 && !self.multiplexed.load(Relaxed),
        }
    }

    /// Ready when more than `before` requests have begun.
    fn has_begun(&self, before: u64) -> Poll<()> {
        match self.begun.load(Relaxed) > before {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Records what the client did wrong, where no request tells.
    fn ended_with(&self, result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
        let Err(error) = result else { return };
        tracing::debug!(error = %error, "a connection broke");
        let Some(error) = error.downcast_ref::<hyper::Error>() else {
            return;
        };
        if error.is_parse() {
            self.refuse(Reason::MalformedRequest, error.to_string());
        } else if error.is_timeout() && std::error::Error::source(error).is_none() {
            // Of time-outs only that of HTTP/1's headers has no source; HTTP/2's tells of a peer that is gone.
            self.never_finished_headers();
        } else if error.is_incomplete_message() && self.heard.load(Relaxed) > 0 {
            self.refuse(Reason::IncompleteRequest, "the client broke off in its headers");
        }
    }

    /// A client that is merely idle has done nothing wrong.
    fn never_finished_headers(&self) {
        if self.heard.swap(0, Relaxed) > 0 {
            let within = self.shared.limits.header_timeout;
            let words = format!("the headers were not complete within {within:?}");
            self.refuse(Reason::IncompleteRequest, words);
        }
    }

    fn refuse(&self, reason: Reason, detail: impl Into<std::borrow::Cow<'static, str>>) {
        let now = self.shared.clock.now();
        receive::record(&self.shared, None, Refusal::new(reason, detail), now, self.remote);
    }
}

async fn answer(
    peer: Arc<Peer>,
    request: hyper::Request<Incoming>,
) -> Result<super::answer::Response, Infallible> {
    peer.begun.fetch_add(1, Relaxed);
    peer.multiplexed
        .store(request.version() == Version::HTTP_2, Relaxed);
    let _ended = Ended(&peer);
    Ok(receive::receive(&peer.shared, request, peer.remote, || {
        peer.unread.store(true, Relaxed)
    })
    .await)
}

/// Counts a request's end, also where the client hangs up in the middle.
struct Ended<'p>(&'p Peer);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
        self.0.heard.store(0, Relaxed);
    }
}

/// Runs the streams of HTTP/2 connections where the acceptor waits for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// A stream that ends so that the client can read the answer.
///
/// To close a socket that holds unread bytes resets the connection, and a reset takes an answer with it that the
/// client has not read yet: it would see a broken connection in place of its 413. So where a body was left
/// unread, the writing half is closed first, and what still comes is thrown away for a while.
struct Lingering {
    wire: Wire,
    peer: Arc<Peer>,
    closing: Option<Closing>,
}

struct Closing {
    deadline: Pin<Box<Sleep>>,
    left: usize,
}

impl Lingering {
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(|| Closing {
            deadline: Box::pin(tokio::time::sleep(LINGER)),
            left: LINGER_BYTES,
        });
        let mut scratch = [0; 4096];
        while closing.left > 0 && closing.deadline.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.wire).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    closing.left = closing.left.saturating_sub(buffer.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.wire).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &poll
            && self.wire.is_shaking_hands()
            // A client that only looks whether somebody listens, as monitors do, has done nothing wrong.
            && !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
        {
            self.peer.refuse(Reason::TlsFailed, error.to_string());
        }
        self.peer.heard.fetch_add(buffer.filled().len() - before, Relaxed);
        poll
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.wire).poll_shutdown(cx))?;
        }
        if self.peer.unread.load(Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// How long a connection has for a request that it is about to make when the router stops.
const LAST_REQUEST: Duration = Duration::from_secs(2);
/// How long the words are by which HTTP/2 is told from HTTP/1.
const PREFACE: usize = 24;
/// What a client may send on one HTTP/2 stream, and on all of a connection, before we read.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How long, and how much, we listen to a client that is still sending what we have answered.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 << 20;
