//! What a worker process does: it makes one instance, and does as its router says until that is gone.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::File,
    io,
    os::unix::net::UnixStream,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{
    Event, Instrument as _, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    reload,
};

use super::wire::{
    self, Answer, Call, Given, Inbox, Notice, Order, Outbox, PROTOCOL, QUESTIONS, Question, Received,
    Refusal, Start,
};
use crate::{
    plugin::{
        Caller, CreateError, Host, HostError, InProcess, Library, Receipt, Report, Setup, Tally,
        describe::begin, ffi::refresh_level, log, reason_of, stage::Reopened,
    },
    secret::Secret,
};

/// The hidden command of the CLI.
pub(super) const COMMAND: &str = "plugin-worker";

/// What a worker process does, with a socket of its router for its standard input.
pub fn worker_main() -> ExitCode {
    let done = take_over().and_then(|stream| {
        // One thread: the plugin has its own, and a call is handed over to it at once.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let done = runtime.block_on(serve(stream));
        // What the plugin still holds ends with the process.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the worker cannot go on: {error}");
            ExitCode::from(UNABLE)
        }
    }
}

/// Makes the process one that a plugin may live in; what it prints goes to standard error, and it reads nothing.
fn take_over() -> io::Result<UnixStream> {
    begin()?;
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

async fn serve(stream: UnixStream) -> io::Result<()> {
    let (read, write) = tokio::net::UnixStream::from_std(stream)?.into_split();
    let tally = Arc::<Tally>::default();
    let (notices, writing) = wire::outbox(write, Arc::clone(&tally));
    let tasks = TaskTracker::new();
    let written = tasks.spawn(writing);
    let mut orders = Inbox::<Order>::new(read);
    let gone = |_| io::Error::other("the router is gone");
    notices.greet().await.map_err(gone)?;
    let Some(hello) = orders.hello().await? else {
        return Ok(());
    };
    // There is nothing yet that would have to be left out for a router that does not know it.
    let _features = hello.agree().map_err(|protocol| {
        io::Error::other(format!(
            "the router speaks protocol {protocol}, this program {PROTOCOL}"
        ))
    })?;
    let Some(Order::Start(start)) = orders.next().await? else {
        return Err(io::Error::other("the router did not say what to start"));
    };
    let level = Level::forward_logs(&notices, start.level);
    let remote = Arc::new(Remote {
        notices: notices.clone(),
        next: AtomicU64::new(1),
        room: Arc::new(Semaphore::new(QUESTIONS)),
        questions: Mutex::default(),
    });
    // The plugin may ask for something while it starts, so that orders are read meanwhile.
    let mut making = std::pin::pin!(make(*start, Arc::clone(&remote), tally));
    let instance = loop {
        tokio::select! {
            made = &mut making => break made,
            order = orders.next() => match order? {
                Some(Order::Answer(id, answer)) => remote.answered(id, answer),
                Some(Order::Ping(number)) => drop(notices.offer(&Notice::Pong(number, 0))),
                Some(_) => return Err(io::Error::other("the router orders too early")),
                None => return Ok(()),
            },
        }
    };
    let instance = match instance {
        Ok(instance) => Arc::new(instance),
        Err(refusal) => {
            notices.send(&Notice::Started(Err(refusal))).await.map_err(gone)?;
            // Written before this process ends: the router closes its side when it has read it.
            while orders.next().await?.is_some() {}
            return Ok(());
        }
    };
    notices.send(&Notice::Started(Ok(()))).await.map_err(gone)?;
    let mut served = Served {
        instance,
        remote,
        notices,
        level,
        tasks,
        cancels: Arc::default(),
    };
    while let Some(order) = orders.next().await? {
        if let Some(grace) = served.obey(order) {
            served.end(grace, &mut orders).await;
            break;
        }
    }
    drop(served);
    written.abort();
    Ok(())
}

/// Loads the library and makes the instance; or says why not.
async fn make(start: Start, host: Arc<Remote>, tally: Arc<Tally>) -> Result<InProcess, Refusal> {
    start
        .limits
        .apply()
        .map_err(|error| format!("the limits of its process cannot be set: {error}"))?;
    let reopened = Reopened::vouched(start.library).map_err(|error| reason_of(&error))?;
    let config: Value = serde_json::from_str(&start.config).map_err(|error| error.to_string())?;
    // There is no other thread yet, which would stay outside.
    start
        .sandbox
        .enter(reopened.staged().path())
        .map_err(|error| reason_of(&error))?;
    // On this thread, since until it is loaded there is nothing else to do here.
    let library = Library::open_apart(&reopened).map_err(|error| reason_of(&error))?;
    let secrets = start.secrets.into_iter();
    let setup = Setup {
        plugin: start.plugin,
        instance: start.instance,
        config,
        secrets: secrets
            .map(|(name, text)| (name, Secret::new(&text)))
            .collect::<BTreeMap<_, _>>(),
        host,
        runtime: Handle::current(),
        limit: start.limit,
        grace: start.grace,
        // This thread reads what the router says.
        busy: true,
        tally,
    };
    InProcess::create(library, setup).await.map_err(|error| Refusal {
        words: reason_of(&error),
        own: match error {
            CreateError::Refused { code, message } => Some((code, message)),
            CreateError::Silent | CreateError::TimedOut(_) | CreateError::Thread(_) => None,
        },
    })
}

/// An instance that is there, and who wants what of it.
struct Served {
    instance: Arc<InProcess>,
    remote: Arc<Remote>,
    notices: Outbox<Notice>,
    level: Level,
    tasks: TaskTracker,
    /// By what calls that go on are asked to end. A leaf lock.
    cancels: Arc<Mutex<HashMap<u64, CancellationToken>>>,
}

impl Served {
    /// Does as it is told; how long the instance has to end, where that is the order.
    fn obey(&mut self, order: Order) -> Option<Duration> {
        match order {
            Order::Call(id, call) => self.call(id, call),
            Order::Receive(id, request) => self.receive(id, request),
            Order::Cancel(id) => {
                if let Some(cancel) = lock(&self.cancels).get(&id) {
                    cancel.cancel();
                }
            }
            Order::Answer(id, answer) => self.remote.answered(id, answer),
            Order::Ping(number) => drop(self.notices.offer(&Notice::Pong(number, self.instance.stuck()))),
            Order::End(grace) => return Some(grace),
            Order::Level(level) => self.level.set(level),
            Order::Start(_) => tracing::error!("the router starts an instance twice; it is left as it is"),
        }
        None
    }

    fn call(&self, id: u64, call: Call) {
        let instance = Arc::clone(&self.instance);
        self.carry_out(
            id,
            |cancel| async move { instance.call(call.step_call(cancel)).await },
        );
    }

    fn receive(&self, id: u64, request: Received) {
        let instance = Arc::clone(&self.instance);
        self.carry_out(id, |cancel| async move {
            instance.receive(request.request_call(cancel)).await
        });
    }

    /// Does `work`, which the token asks to end, and tells the router how it ended.
    fn carry_out<W>(&self, id: u64, work: impl FnOnce(CancellationToken) -> W)
    where
        W: Future<Output = Report> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        lock(&self.cancels).insert(id, cancel.clone());
        let (instance, notices, cancels) = (
            Arc::clone(&self.instance),
            self.notices.clone(),
            Arc::clone(&self.cancels),
        );
        let span = tracing::error_span!(target: "worker", "call", id);
        let work = work(cancel);
        let work = async move {
            let report = work.await;
            lock(&cancels).remove(&id);
            if instance.stuck() > 0 {
                // Only the end of this process changes that, so that it is told at once.
                let _ = notices.send(&Notice::Pong(0, instance.stuck())).await;
            }
            // Where the router is gone, so is whoever waits.
            let _ = notices.send(&Notice::Ended(id, report)).await;
        };
        self.tasks.spawn(work.instrument(span));
    }

    /// Ends the instance within `grace`; what it still asks for meanwhile is answered.
    async fn end(&self, grace: Duration, orders: &mut Inbox<Order>) {
        let mut ending = std::pin::pin!(self.instance.end(grace));
        let ended = loop {
            tokio::select! {
                ended = &mut ending => break ended == Some(true),
                order = orders.next() => match order {
                    Ok(Some(Order::Answer(id, answer))) => self.remote.answered(id, answer),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return,
                },
            }
        };
        let whole = ended && self.instance.stuck() == 0;
        if self.notices.send(&Notice::Over { whole }).await.is_ok() {
            // The router closes its side when it has read that.
            while matches!(orders.next().await, Ok(Some(_))) {}
        }
    }
}

/// The router, as a plugin sees it from here.
struct Remote {
    notices: Outbox<Notice>,
    next: AtomicU64,
    /// One permit for each question that is not answered.
    room: Arc<Semaphore>,
    /// Who waits for which answer. A leaf lock.
    questions: Mutex<HashMap<u64, Asker>>,
}

/// Who waits for an answer, and the question's permit: the question is the router's until it is answered, also where nobody
/// waits any more.
type Asker = (oneshot::Sender<Answer>, OwnedSemaphorePermit);

impl Remote {
    async fn ask(&self, question: Question) -> Answer {
        let gone = || HostError::Unavailable("the router is gone".to_owned());
        let id = self.next.fetch_add(1, Relaxed);
        let (sender, answer) = oneshot::channel();
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(|_| gone())?;
        let ask = Notice::Ask(id, question);
        let place = self.notices.place(&ask).await.map_err(|_| gone())?;
        lock(&self.questions).insert(id, (sender, permit));
        place.take();
        answer.await.map_err(|_| gone())?
    }

    /// Asks for something that is a value, or nothing.
    async fn value(&self, question: Question) -> Result<Option<Bytes>, HostError> {
        match self.ask(question).await? {
            Given::Value(value) => Ok(value),
            Given::Receipt(_) => Err(strange()),
        }
    }

    fn answered(&self, id: u64, answer: Answer) {
        if let Some((asker, _permit)) = lock(&self.questions).remove(&id) {
            // Whoever asked may have been given up.
            let _ = asker.send(answer);
        }
    }
}

#[async_trait]
impl Host for Remote {
    async fn kv_get(&self, _: &str, key: &str) -> Result<Option<Bytes>, HostError> {
        self.value(Question::Value { key: key.to_owned() }).await
    }

    async fn kv_put(
        &self,
        _: &str,
        key: &str,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), HostError> {
        let key = key.to_owned();
        self.value(Question::Put { key, value, ttl }).await.map(drop)
    }

    async fn secret(&self, _: &str, name: &str) -> Result<Option<Secret>, HostError> {
        let name = name.to_owned();
        let secret = self.value(Question::Secret { name }).await?;
        Ok(secret.map(|bytes| Secret::new(String::from_utf8_lossy(&bytes))))
    }

    async fn receipt(&self, _: &str, key: &str) -> Result<Option<Receipt>, HostError> {
        match self.ask(Question::Receipt { key: key.to_owned() }).await? {
            Given::Receipt(receipt) => Ok(receipt),
            Given::Value(_) => Err(strange()),
        }
    }

    async fn keep_receipt(&self, _: &str, key: &str, receipt: Receipt) -> Result<(), HostError> {
        let key = key.to_owned();
        self.value(Question::Keep { key, receipt }).await.map(drop)
    }

    async fn emit(&self, _: &str, key: &str, event: Bytes) -> Result<String, HostError> {
        let key = key.to_owned();
        let id = self.value(Question::Emit { key, event }).await?;
        Ok(String::from_utf8_lossy(&id.unwrap_or_default()).into_owned())
    }

    fn metric(&self, _: &str, name: &str, labels: &[(String, String)], value: f64) {
        // Like a log line, it is not worth waiting for.
        self.notices.offer(&Notice::Metric {
            name: name.to_owned(),
            labels: labels.to_vec(),
            value,
        });
    }
}

fn strange() -> HostError {
    HostError::Unavailable("the router answered something else".to_owned())
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// What is logged here, as the router wants it.
struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Sends whatever is logged here to the router, whose log it is.
    fn forward_logs(notices: &Outbox<Notice>, level: u32) -> Self {
        let (filter, handle) = reload::Layer::new(log::filter(level));
        let forward = Forward(notices.clone()).with_filter(filter);
        // There is none yet, this being the start of the process.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(forward));
        Self(handle)
    }

    fn set(&self, level: u32) {
        // The filter is as long there as the process.
        let _ = self.0.reload(log::filter(level));
        // The plugin asks before it logs anything, and not us.
        refresh_level();
    }
}

struct Forward(Outbox<Notice>);

/// The call that a span is about.
struct OfCall(u64);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Forward {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut found = Found::default();
        attributes.record(&mut found);
        if let (Some(span), Some(call)) = (context.span(id), found.fields.get("id").and_then(Value::as_u64)) {
            span.extensions_mut().insert(OfCall(call));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut found = Found::default();
        event.record(&mut found);
        let meta = event.metadata();
        let spans = context.event_scope(event).into_iter().flatten();
        let call = spans
            .filter_map(|span| span.extensions().get::<OfCall>().map(|call| call.0))
            .next();
        let mut text = |name: &str| match found.fields.remove(name) {
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
            None => String::new(),
        };
        // A line of the plugin's own, as `log::Line` writes it, or one of the loader's.
        let is_plugins = meta.target() == "plugin";
        let (module, own) = (text("module"), text("fields"));
        for known in ["plugin", "instance"] {
            found.fields.remove(known);
        }
        let others = || match found.fields.is_empty() {
            true => String::new(),
            false => Value::Object(found.fields.clone()).to_string(),
        };
        self.0.offer(&Notice::Log {
            call,
            level: log::number(LevelFilter::from_level(*meta.level())),
            target: if is_plugins { module } else { "worker".to_owned() },
            message: std::mem::take(&mut found.message),
            fields: if is_plugins { own } else { others() },
        });
    }
}

/// The fields of an event or a span.
#[derive(Default)]
struct Found {
    message: String,
    fields: Map<String, Value>,
}

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => drop(self.fields.insert(name.to_owned(), text.into())),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => drop(self.fields.insert(name.to_owned(), value.into())),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

/// Nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status of a process that could not go on.
const UNABLE: u8 = 70;
