//! Many requests over many connections, each connection sending the next when it has its answer.
//!
//! The client is as thin as it can be, since it shares the machine with what it measures: requests are bytes
//! prepared once, in which only the delivery id changes.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hyper::HeaderMap;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

/// A request in which only the value of one header changes.
#[derive(Clone, Debug)]
pub struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
}

/// How much to send.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// So many requests, each sent again until it is acknowledged, as providers do.
    Count(u64),
    /// The same, one after the other at this distance, whatever the server does meanwhile.
    Paced(u64, Duration),
    /// As many as fit.
    For(Duration),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// The number of each request that got a 200, with the event's id.
    pub acknowledged: Vec<(u64, String)>,
    /// How many answers were not a 200.
    pub refused: u64,
    /// How many times no connection could be made.
    pub unreached: u64,
    /// What fell into each life of the server; those in which nothing happened are missing at the end.
    pub lives: Vec<Life>,
    /// From the first byte sent to the last byte read, of each acknowledged request.
    pub latencies: Vec<Duration>,
    /// From the start of the first request to the end of the last.
    pub elapsed: Duration,
}

/// What came of the requests that were sent to one life of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// How many got a 200.
    pub acknowledged: u64,
    /// How many of those were answered as duplicates.
    pub duplicates: u64,
    /// How many connections broke with a request under way.
    pub broken: u64,
}

/// Counts while requests are under way, and knows which life of the server they are sent to.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    acknowledged: watch::Sender<u64>,
    life: AtomicUsize,
}

impl Progress {
    /// How many requests have been acknowledged.
    pub fn acknowledged(&self) -> u64 {
        *self.0.acknowledged.borrow()
    }

    /// Waits until so many have been.
    pub async fn reaches(&self, count: u64) {
        // The sender lives as long as this does.
        let _ = self
            .0
            .acknowledged
            .subscribe()
            .wait_for(|now| *now >= count)
            .await;
    }

    /// Says that the server has died and not been started again yet.
    ///
    /// So an acknowledgement of a request that was sent before is of the life that has ended, and one of a request
    /// sent from now on is not.
    pub fn died(&self) {
        self.0.life.fetch_add(1, Ordering::SeqCst);
    }

    fn life(&self) -> usize {
        self.0.life.load(Ordering::SeqCst)
    }

    fn count(&self) {
        self.0.acknowledged.send_modify(|count| *count += 1);
    }
}

impl Template {
    /// A POST of `body` to `path`; the header `varies`, in lower case, is added with the number of each request.
    pub fn post(path: &str, headers: &HeaderMap, varies: &str, body: &[u8]) -> Self {
        let mut before = format!(
            "POST {path} HTTP/1.1\r\nhost: stage\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers.iter().filter(|(name, _)| *name != varies) {
            before.push_str(&format!(
                "{name}: {}
",
                value.to_str().unwrap_or_default()
            ));
        }
        before.push_str(&format!("{varies}: "));
        let mut after = b"\r\n\r\n".to_vec();
        after.extend_from_slice(body);
        Self {
            before: before.into_bytes(),
            after,
        }
    }

    fn write(&self, run: &str, number: u64, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.before);
        buffer.extend_from_slice(format!("{run}-{number:012}").as_bytes());
        buffer.extend_from_slice(&self.after);
    }
}

/// Sends `amount` of `template` over `connections`; `run` makes the ids of this run its own.
///
/// # Errors
///
/// Where a request of a fixed count stays unacknowledged for a minute.
pub async fn run(
    address: SocketAddr,
    template: &Template,
    run: &str,
    connections: usize,
    amount: Amount,
    progress: &Progress,
) -> anyhow::Result<Tally> {
    let shared = Arc::new(Shared {
        address,
        template: template.clone(),
        run: run.to_owned(),
        amount,
        next: AtomicU64::new(0),
        started: Instant::now(),
        tally: Mutex::default(),
        progress: progress.clone(),
    });
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(Arc::clone(&shared).client());
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    let mut tally = std::mem::take(&mut *shared.tally.lock().unwrap_or_else(PoisonError::into_inner));
    tally.elapsed = shared.started.elapsed();
    Ok(tally)
}

struct Shared {
    address: SocketAddr,
    template: Template,
    run: String,
    amount: Amount,
    next: AtomicU64,
    started: Instant,
    tally: Mutex<Tally>,
    progress: Progress,
}

impl Shared {
    /// Sends one request after the other until the amount is reached.
    async fn client(self: Arc<Self>) -> anyhow::Result<()> {
        let mut mine = Tally::default();
        let mut connection = None;
        let mut buffer = Vec::new();
        'requests: while let Some(number) = self.take() {
            self.wait_for_turn(number).await;
            self.template.write(&self.run, number, &mut buffer);
            let patience = Instant::now() + Duration::from_secs(60);
            loop {
                let (sent, life) = (Instant::now(), self.progress.life());
                match exchange(&mut connection, self.address, &buffer).await {
                    Ok(answer) if answer.status == 200 => {
                        mine.latencies.push(sent.elapsed());
                        mine.acknowledged.push((number, event_id(&answer.body)?));
                        let life = mine.life(life);
                        life.acknowledged += 1;
                        life.duplicates += u64::from(answer.body.contains("\"duplicate\":true"));
                        self.progress.count();
                        continue 'requests;
                    }
                    Ok(_) => mine.refused += 1,
                    Err(_) if connection.is_none() => mine.unreached += 1,
                    Err(_) => {
                        mine.life(life).broken += 1;
                        connection = None;
                    }
                }
                match self.amount {
                    Amount::For(_) => continue 'requests,
                    Amount::Count(_) | Amount::Paced(..) => {
                        ensure!(Instant::now() < patience, "request {number} is not acknowledged")
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(mine);
        Ok(())
    }

    /// Waits until it is time for a request that is paced.
    async fn wait_for_turn(&self, number: u64) {
        if let Amount::Paced(_, distance) = self.amount {
            let turn = distance.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
            tokio::time::sleep_until((self.started + turn).into()).await;
        }
    }

    fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let more = match self.amount {
            Amount::Count(count) | Amount::Paced(count, _) => number < count,
            Amount::For(time) => self.started.elapsed() < time,
        };
        more.then_some(number)
    }
}

impl Tally {
    /// Adds what came of others; how long it took stays as it was.
    pub fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.latencies.extend(other.latencies);
        self.refused += other.refused;
        self.unreached += other.unreached;
        for (number, theirs) in other.lives.into_iter().enumerate() {
            let life = self.life(number);
            life.acknowledged += theirs.acknowledged;
            life.duplicates += theirs.duplicates;
            life.broken += theirs.broken;
        }
    }

    fn life(&mut self, number: usize) -> &mut Life {
        if self.lives.len() <= number {
            self.lives.resize(number + 1, Life::default());
        }
        &mut self.lives[number]
    }

    /// How many requests were answered as duplicates.
    pub fn duplicates(&self) -> u64 {
        self.lives.iter().map(|life| life.duplicates).sum()
    }

    /// How many connections broke with a request under way.
    pub fn broken(&self) -> u64 {
        self.lives.iter().map(|life| life.broken).sum()
    }

    /// The latency that `share` (0 to 1) of the acknowledged requests did not exceed.
    pub fn percentile(&mut self, share: f64) -> Duration {
        self.latencies.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        let index = (self.latencies.len().saturating_sub(1) as f64 * share) as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

struct Answer {
    status: u16,
    body: String,
}

async fn exchange(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
) -> anyhow::Result<Answer> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connection.insert(stream)
        }
    };
    stream.write_all(request).await?;
    read(stream).await
}

/// Reads one answer: a head and a body of a given length, as every server here answers.
async fn read(stream: &mut TcpStream) -> anyhow::Result<Answer> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        ensure!(
            stream.read_buf(&mut bytes).await? > 0,
            "the connection ended before an answer"
        );
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(start) = head.parse(&bytes)? else {
            continue;
        };
        let status = head.code.context("an answer without a status")?;
        let length = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let Some(length) = length else {
            bail!("an answer without a length")
        };
        let length: usize = std::str::from_utf8(length.value)?.parse()?;
        while bytes.len() < start + length {
            ensure!(
                stream.read_buf(&mut bytes).await? > 0,
                "the connection ended within an answer"
            );
        }
        let body = String::from_utf8_lossy(&bytes[start..start + length]).into_owned();
        return Ok(Answer { status, body });
    }
}

/// The id in `{"id":"evt_…"}`; empty where a server measured for comparison gives none.
fn event_id(body: &str) -> anyhow::Result<String> {
    if body.is_empty() {
        return Ok(String::new());
    }
    let json: serde_json::Value = serde_json::from_str(body)?;
    Ok(json["id"].as_str().unwrap_or_default().to_owned())
}
