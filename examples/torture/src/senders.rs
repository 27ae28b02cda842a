//! Those who post, and remember what was promised. Each has an order key of its own and sends the next when the one before is
//! acknowledged: so the order of arrival within a key is known from outside.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use hyper::{HeaderMap, Method};
use jackfield_stage::http::{self, Answered};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// What was promised, and how it came about.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// By job.
    pub(crate) jobs: BTreeMap<String, Promise>,
    /// Acknowledgements of what had been acknowledged before.
    pub(crate) again: u64,
}

/// What was promised of a job.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// The events that acknowledgements named: one, unless the router forgot it meanwhile, as it may in time.
    pub(crate) events: Vec<String>,
    /// When it was first posted.
    pub(crate) posted: Instant,
    /// When an answer first named an event.
    pub(crate) acknowledged: Instant,
    /// When it was last answered.
    pub(crate) answered: Instant,
}

/// Counts while they post.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) acknowledged: AtomicU64,
    /// Answers that were not a 200, each followed by another attempt.
    pub(crate) refused: AtomicU64,
    /// Attempts without an answer.
    pub(crate) unanswered: AtomicU64,
}

/// The senders at work.
#[derive(Debug)]
pub(crate) struct Senders {
    pub(crate) counted: Arc<Counted>,
    promises: Arc<Mutex<Promises>>,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Senders {
    /// So many, each of which waits up to `pause` between two events.
    pub(crate) fn start(address: SocketAddr, count: usize, pause: Duration, random: &mut Rng) -> Self {
        let (counted, promises, stop) = (Arc::default(), Arc::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let sender = Sender {
                address,
                key: format!("k{number:02}"),
                pause,
                random: random.fork(),
                counted: Arc::clone(&counted),
                promises: Arc::clone(&promises),
            };
            tasks.spawn(sender.run(stop.clone()));
        }
        Self {
            counted,
            promises,
            stop,
            tasks,
        }
    }

    /// Has them end when what they have begun is acknowledged.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Promises> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a sender panicked")??;
        }
        Ok(std::mem::take(&mut *lock(&self.promises)))
    }
}

struct Sender {
    address: SocketAddr,
    key: String,
    pause: Duration,
    random: Rng,
    counted: Arc<Counted>,
    promises: Arc<Mutex<Promises>>,
}

impl Sender {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        for number in 1_u64.. {
            if stop.is_cancelled() {
                break;
            }
            let job = format!("{}-{number:06}", self.key);
            let body = body(&self.key, &job);
            self.until_acknowledged(&job, &body).await?;
            // Some providers send again what they have an answer for.
            if self.random.u8(0..20) == 0 {
                self.until_acknowledged(&job, &body).await?;
            }
            tokio::time::sleep(self.pause.mul_f64(self.random.f64())).await;
        }
        Ok(())
    }

    async fn until_acknowledged(&mut self, job: &str, body: &[u8]) -> anyhow::Result<()> {
        let posted = Instant::now();
        let patience = posted + PATIENCE;
        let mut last = "nothing was heard".to_owned();
        loop {
            ensure!(Instant::now() < patience, "{job} is not acknowledged: {last}");
            match tokio::time::timeout(ANSWER, self.post(body)).await {
                Ok(Ok(answer)) if answer.status == 200 => {
                    let event = answer.json()["id"].as_str().unwrap_or_default().to_owned();
                    self.counted.acknowledged.fetch_add(1, Ordering::Relaxed);
                    lock(&self.promises).note(job, event, posted);
                    return Ok(());
                }
                Ok(Ok(answer)) => {
                    last = format!("{}: {}", answer.status, answer.body);
                    self.counted.refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Err(error)) => {
                    last = format!("{error:#}");
                    self.counted.unanswered.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    last = format!("no answer within {ANSWER:?}");
                    self.counted.unanswered.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(self.random.u64(20..150))).await;
        }
    }

    async fn post(&self, body: &[u8]) -> anyhow::Result<Answered> {
        let path = format!("/in/exports/{TOKEN}");
        http::send(
            self.address,
            Method::POST,
            &path,
            &HeaderMap::new(),
            body.to_vec(),
        )
        .await
    }
}

impl Promises {
    fn note(&mut self, job: &str, event: String, posted: Instant) {
        let now = Instant::now();
        let Some(promise) = self.jobs.get_mut(job) else {
            let promise = Promise {
                events: vec![event],
                posted,
                acknowledged: now,
                answered: now,
            };
            self.jobs.insert(job.to_owned(), promise);
            return;
        };
        promise.answered = now;
        match promise.events.last() == Some(&event) {
            true => self.again += 1,
            false => promise.events.push(event),
        }
    }
}

/// As Supernova posts: it signs no time, so that clocks may jump, and a job with its status is told from others.
fn body(key: &str, job: &str) -> Vec<u8> {
    let body = json!({
        "event": "job:updated",
        "workspace": { "id": "1", "name": "Torture" },
        "designSystem": { "id": key, "name": "A design system" },
        "designSystemVersion": { "id": "3", "name": "A version", "version": "v0.1" },
        "exporter": { "id": "4", "name": "An exporter" },
        "job": { "id": job, "status": "Success", "s3": { "url": "https://storage.example.com/result.zip" } }
    });
    serde_json::to_vec(&body).expect("a JSON value has a JSON form")
}

/// The lock is held for a look or a change, and no other is taken under it.
fn lock(promises: &Mutex<Promises>) -> MutexGuard<'_, Promises> {
    promises.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the path of the source ends with.
pub(crate) const TOKEN: &str = "torture-path-token-0123456789abcdef";
/// Longer than any of the misfortunes.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a sender waits for an answer.
const ANSWER: Duration = Duration::from_secs(10);
