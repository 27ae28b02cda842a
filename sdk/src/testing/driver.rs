//! An instance of a built library, in a process that drives it: `jackfield plugin-drive`.
//!
//! Orders go out by its standard input, notices come in by its standard output, and a thread heeds them: what the plugin asks for,
//! logs and counts goes to the [`TestHost`], ends of calls to whoever waits for them.

mod words;

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::words::{Asked, Blob, Notice, Order, PROTOCOL, code, micros};
use super::{
    host::{Log, Metric, TestHost},
    library,
};
use crate::{
    call::{Code, Report},
    ffi::{
        Stage,
        double::{Answer, CallParts, Failure, Request},
    },
};

/// An instance in another process.
pub(super) struct Driver {
    child: Child,
    link: Arc<Link>,
    /// What concerns the instance as a whole.
    news: mpsc::UnboundedReceiver<News>,
}

/// What is said to the process, and who waits for what.
struct Link {
    /// `None` once nothing is to be said any more.
    orders: Mutex<Option<ChildStdin>>,
    /// Who waits for the ends of which calls; `None` once the process is gone. A leaf lock.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Report>>>>,
}

/// What concerns the instance as a whole.
enum News {
    Ready { protocol: u32, manifest: Value },
    Failed(String),
    Started,
    Refused(Failure),
    Over { whole: bool },
}

/// A call in another process.
pub(super) struct Op {
    link: Arc<Link>,
    id: u64,
}

/// The way back for one answer. Where it is dropped, that is an answer as well.
pub(super) struct Ticket {
    link: Arc<Link>,
    question: u64,
    sent: bool,
}

impl Driver {
    /// Has the library driven by a process of its own, with one instance of this configuration. `manifest` is that of the plugin that
    /// the test was built with.
    ///
    /// # Panics
    ///
    /// Where it cannot be driven, or is another plugin.
    pub(super) async fn start(
        library: PathBuf,
        manifest: &Value,
        host: &TestHost,
        config: &Value,
    ) -> Result<Self, Failure> {
        let mut driver = Self::open(library, host);
        let of_library = driver.ready().await;
        assert_same(manifest, &of_library);
        driver.link.order(&Order::Start { config });
        match driver.news().await {
            News::Started => Ok(driver),
            News::Refused(failure) => Err(failure),
            News::Failed(message) => panic!("the library cannot be driven: {message}"),
            News::Ready { .. } | News::Over { .. } => driver.is_gone(),
        }
    }

    /// What the library says of itself.
    ///
    /// # Panics
    ///
    /// Where it cannot be driven.
    pub(super) fn manifest(library: PathBuf) -> Value {
        let ask = move || {
            let mut driver = Self::open(library, &TestHost::new());
            let news = driver.news.blocking_recv();
            driver.is_ready(news)
        };
        // Not on this thread, which may be one of a runtime.
        let asked = thread::spawn(ask).join();
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn open(library: PathBuf, host: &TestHost) -> Self {
        let program = library::program();
        let mut child = Command::new(&program)
            .arg("plugin-drive")
            .arg(&library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} cannot be run ({error}), which drives the library {}: run the tests by `jackfield plugin test`",
                    program.display(),
                    library.display()
                )
            });
        let link = Arc::new(Link {
            orders: Mutex::new(child.stdin.take()),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let (sender, news) = mpsc::unbounded_channel();
        let notices = child.stdout.take().expect("its standard output is a pipe");
        let heeding = Heeding {
            link: link.clone(),
            host: host.clone(),
            news: sender,
        };
        thread::spawn(move || heeding.heed_all(notices));
        Self { child, link, news }
    }

    async fn ready(&mut self) -> Value {
        let news = self.news.recv().await;
        self.is_ready(news)
    }

    fn is_ready(&mut self, news: Option<News>) -> Value {
        match news {
            Some(News::Ready {
                protocol: PROTOCOL,
                manifest,
            }) => manifest,
            Some(News::Ready { protocol, .. }) => panic!(
                "jackfield drives libraries by protocol {protocol}, and this SDK by {PROTOCOL}: take both from one version"
            ),
            Some(News::Failed(message)) => panic!("the library cannot be driven: {message}"),
            Some(News::Started | News::Refused(_) | News::Over { .. }) | None => self.is_gone(),
        }
    }

    async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => self.is_gone(),
        }
    }

    fn is_gone(&mut self) -> ! {
        let _ = self.child.kill();
        let status = self.child.wait();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        panic!("the process that drives the library is gone ({status}), and has said why on standard error")
    }

    /// Makes a call. How it ends comes by the receiver.
    pub(super) fn call(&self, parts: &CallParts) -> (Op, oneshot::Receiver<Report>) {
        self.begin(
            parts.id,
            &Order::Call(words::Call {
                id: parts.id,
                event: parts.event.as_slice().into(),
                input: parts.input.as_slice().into(),
                delivery: &parts.delivery,
                route: &parts.route,
                step: &parts.step,
                attempt: parts.attempt,
                key: &parts.idempotency_key,
                workdir: parts.workdir.as_os_str().as_bytes().into(),
                left_us: left(parts.deadline),
            }),
        )
    }

    /// Hands a request to the plugin, which must be a provider: its head for an event, its body for an input.
    pub(super) fn receive(&self, parts: &CallParts) -> (Op, oneshot::Receiver<Report>) {
        self.begin(
            parts.id,
            &Order::Receive(words::Receive {
                id: parts.id,
                head: parts.event.as_slice().into(),
                body: parts.input.as_slice().into(),
                left_us: left(parts.deadline),
            }),
        )
    }

    fn begin(&self, id: u64, order: &Order<'_>) -> (Op, oneshot::Receiver<Report>) {
        let (sender, ended) = oneshot::channel();
        match &mut *self.link.waiting() {
            Some(waiting) => drop(waiting.insert(id, sender)),
            None => drop(sender.send(gone())),
        }
        self.link.order(order);
        let link = self.link.clone();
        (Op { link, id }, ended)
    }

    /// Ends the instance. Whether all of it has ended within `grace`.
    pub(super) async fn shutdown(mut self, grace: Duration) -> bool {
        self.link.order(&Order::End {
            grace_us: micros(grace),
        });
        loop {
            match self.news().await {
                News::Over { whole } => return whole,
                News::Ready { .. } | News::Failed(_) | News::Started | News::Refused(_) => {}
            }
        }
    }

    /// Kills the process, and with it the worker that the instance lives in.
    pub(super) async fn crash(mut self) {
        let _ = self.child.kill();
        // Its end, and not that of a call, is what this waits for.
        while self.news.recv().await.is_some() {}
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Without a test it ends the instance, and itself.
        drop(self.link.orders().take());
        let _ = self.child.wait();
    }
}

/// How a call ends that has no process any more.
fn gone() -> Report {
    Report::stopped(Code::Shutdown, "the process of the instance has ended")
}

/// What is left until then.
fn left(deadline: Option<Instant>) -> u64 {
    deadline.map_or(u64::MAX, |deadline| {
        micros(deadline.saturating_duration_since(Instant::now()))
    })
}

/// Makes sure that the test and the library are of one plugin, and of one state of its source.
#[track_caller]
fn assert_same(of_test: &Value, of_library: &Value) {
    let name = |manifest: &Value| format!("{} {}", manifest["name"], manifest["version"]).replace('"', "");
    assert!(
        of_test == of_library,
        "the library is `{}`, and this test is of `{}`{}: build the library anew, and run the tests of its plugin alone",
        name(of_library),
        name(of_test),
        if name(of_test) == name(of_library) {
            ", which says something else of itself"
        } else {
            ""
        },
    );
}

impl Link {
    fn order(&self, order: &Order<'_>) {
        let mut line = serde_json::to_vec(order).expect("an order has a JSON form");
        line.push(b'\n');
        if let Some(orders) = &mut *self.orders() {
            // Where the process is gone, whoever waits for something of it is told.
            let _ = orders.write_all(&line).and_then(|()| orders.flush());
        }
    }

    fn orders(&self) -> MutexGuard<'_, Option<ChildStdin>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Report>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Op {
    pub(super) fn cancel(&self) {
        self.link.order(&Order::Cancel { call: self.id });
    }

    pub(super) fn has_ended(&self) -> bool {
        let waiting = self.link.waiting();
        !waiting
            .as_ref()
            .is_some_and(|waiting| waiting.contains_key(&self.id))
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.link.order(&Order::Abandon { call: self.id });
        }
    }
}

impl Ticket {
    pub(super) fn send(mut self, answer: &Answer) {
        self.write(answer);
    }

    fn write(&mut self, answer: &Answer) {
        if std::mem::replace(&mut self.sent, true) {
            return;
        }
        let answer = match answer {
            Answer::Found(value, stage) => words::Answer::Found {
                value: value.as_slice().into(),
                stage: stage.map(Into::into),
            },
            Answer::NotFound => words::Answer::NotFound,
            Answer::Refused(message) => words::Answer::Refused(message),
            Answer::Unavailable(message) => words::Answer::Unavailable(message),
        };
        self.link.order(&Order::Answer {
            question: self.question,
            answer,
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.write(&Answer::Unavailable("the host is gone".to_owned()));
    }
}

/// Heeds what one process says, to its end.
struct Heeding {
    link: Arc<Link>,
    host: TestHost,
    news: mpsc::UnboundedSender<News>,
}

impl Heeding {
    fn heed_all(self, notices: ChildStdout) {
        for line in BufReader::new(notices).lines() {
            let notice = line.and_then(|line| serde_json::from_str(&line).map_err(io::Error::from));
            match notice {
                Ok(notice) => self.heed(notice),
                Err(error) => {
                    let message = format!("the process that drives it says what makes no sense ({error})");
                    let _ = self.news.send(News::Failed(message));
                    break;
                }
            }
        }
        drop(self.link.orders().take());
        let waiting = self.link.waiting().take();
        for (_, waiting) in waiting.into_iter().flatten() {
            // Whoever waited may have given up.
            let _ = waiting.send(gone());
        }
    }

    fn heed(&self, notice: Notice) {
        let news = match notice {
            Notice::Ready { protocol, manifest } => News::Ready { protocol, manifest },
            Notice::Failed { message } => News::Failed(message),
            Notice::Started => News::Started,
            Notice::Refused { code: word, message } => News::Refused(Failure {
                code: code(&word),
                message,
            }),
            Notice::Over { whole } => News::Over { whole },
            Notice::Ended(ended) => {
                let waiting = self
                    .link
                    .waiting()
                    .as_mut()
                    .and_then(|waiting| waiting.remove(&ended.call));
                // Whoever waited may have given up.
                return drop(waiting.map(|waiting| waiting.send(ended.report())));
            }
            Notice::Ask { question, asked } => {
                let ticket = Ticket {
                    link: self.link.clone(),
                    question,
                    sent: false,
                };
                return self.host.ask(self.request(asked), ticket);
            }
            Notice::Metric { name, labels, value } => {
                let labels = labels.into_iter().collect();
                return self.host.counted(Metric { name, labels, value });
            }
            Notice::Log {
                level,
                target,
                message,
                fields,
                in_call,
            } => {
                return self.host.logged(level, || {
                    Log::new(level, target, message, fields.as_bytes(), in_call)
                });
            }
        };
        // The driver may have been dropped.
        let _ = self.news.send(news);
    }

    /// A request as an instance in this process makes it, of the call that has the key.
    fn request(&self, asked: Asked) -> Request {
        let call = |key: &str| self.host.call_of(key).unwrap_or_default();
        let bytes = |Blob(bytes): Blob<'static>| bytes.into_owned();
        match asked {
            Asked::KvGet { key } => Request::KvGet(key),
            Asked::KvPut { key, value, life_us } => {
                Request::KvPut(key, bytes(value), Duration::from_micros(life_us))
            }
            Asked::KvDelete { key } => Request::KvDelete(key),
            Asked::Receipt { key } => Request::ReceiptGet(call(&key)),
            Asked::Intend { key, body } => Request::ReceiptPut(call(&key), Some(Stage::Intent), bytes(body)),
            Asked::Record { key, body } => Request::ReceiptPut(call(&key), Some(Stage::Done), bytes(body)),
            Asked::Secret { name } => Request::Secret(name),
            Asked::Emit { key, name, event } => Request::Emit(call(&key), name, bytes(event)),
        }
    }
}
