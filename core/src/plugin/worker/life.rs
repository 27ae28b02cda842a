//! One worker process, from the router's side: its start, its calls, what it asks for, and its end.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    net::UnixStream,
    process::{Child, Command},
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::level_filters::LevelFilter;

use super::{
    Housing,
    process::COMMAND,
    wire::{
        self, Answer, Call, Features, Garbage, Given, Inbox, Notice, Order, Outbox, PROTOCOL, QUESTIONS,
        Question, Received, Refusal, Start,
    },
};
use crate::plugin::{
    HostError, Report, Setup,
    describe::{by_path, end_group, is_group_left, signal_group, signal_name},
    egress::{self, Pass},
    elf, limits,
    log::{self, Trickle},
    report::{self, Stopped, not_begun, stuck},
    stage::Staged,
    work::Work,
};

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The system does not start the process, or no socket to it.
    #[error("its worker process cannot be started")]
    Process(#[from] io::Error),
    /// It is another program: the file was replaced while the router ran.
    #[error(
        "its worker process speaks protocol {0}, this router {PROTOCOL}: the program was replaced, restart the router"
    )]
    Protocol(u32),
    /// The plugin cannot be loaded there, or says no.
    #[error("{words}")]
    Refused {
        /// Why.
        words: String,
        /// The plugin's own code and words, where it is the plugin that says no.
        own: Option<(u32, String)>,
    },
    /// It does not start in time.
    #[error("the plugin did not start within {0:?}")]
    TimedOut(Duration),
    /// The process ended instead.
    #[error("{0}")]
    Died(Death),
}

/// How a process came to its end.
#[derive(Clone, Debug)]
pub struct Death(Arc<str>);

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A process that takes calls.
pub(super) struct Life {
    orders: Outbox<Order>,
    /// What the process knows beyond the protocol, once it has said so.
    features: OnceLock<Features>,
    /// What it was told to log, as a number.
    level: AtomicU32,
    next: AtomicU64,
    /// Who waits for the end of which call; `None` once the process is dead. A leaf lock.
    pending: Mutex<Option<HashMap<u64, Pending>>>,
    /// Whether it is dead or about to be killed: no other call is to be in it. Set under the lock of `pending`.
    closed: AtomicBool,
    death: OnceLock<Death>,
    process: Option<u32>,
}

/// A call whose end is waited for.
pub(super) struct Expected {
    id: u64,
    ended: oneshot::Receiver<Report>,
}

struct Pending {
    ended: oneshot::Sender<Report>,
    /// Under which its receipt is kept, and its events are raised; a request has neither.
    key: Option<String>,
    /// Where the call's log lines belong.
    span: tracing::Span,
}

/// Why a process is followed no further.
pub(super) enum End {
    /// It is dead.
    Died(Death),
    /// A call in it does not end, and only its own end will change that. No further calls should be made of it; it is
    /// followed on until those that are in it have ended.
    Spent,
}

/// What has to be watched of a process.
pub(super) struct Watch {
    /// Whether it has been said that it is.
    spent: bool,
    child: Child,
    /// The group that it leads, until that has ended.
    group: Option<u32>,
    /// Its way out, which ends with it.
    _pass: Option<Pass>,
    notices: Inbox<Notice>,
    life: Arc<Life>,
    /// What it wrote last to its standard error.
    words: Arc<Mutex<VecDeque<String>>>,
    listening: JoinHandle<()>,
    answering: TaskTracker,
    /// One permit for each question that may be asked before others are answered.
    questions: Arc<Semaphore>,
    /// One permit for each answer that may be long.
    reading: Arc<Semaphore>,
}

impl Life {
    /// Starts a process, and returns when the instance is there.
    pub(super) async fn start(
        staged: &Staged,
        setup: &Setup,
        housing: &Housing,
    ) -> Result<(Arc<Self>, Watch), WorkerError> {
        let mut watch = spawn(staged, setup, housing).await?;
        let limit = setup.limit + LATE;
        match timeout(limit, watch.introduce(staged, setup, housing)).await {
            Ok(Ok(())) => Ok((Arc::clone(&watch.life), watch)),
            Ok(Err(Some(error))) => {
                watch.bury(setup, Some("did not start".to_owned())).await;
                Err(error)
            }
            Ok(Err(None)) => Err(WorkerError::Died(watch.bury(setup, None).await)),
            Err(_) => {
                watch.bury(setup, Some("did not start".to_owned())).await;
                Err(WorkerError::TimedOut(setup.limit))
            }
        }
    }

    /// Makes a call that is expected, and waits for its end, or for that of the process.
    pub(super) async fn call(
        self: &Arc<Self>,
        work: Work,
        Expected { id, mut ended }: Expected,
        setup: &Setup,
    ) -> Result<Report, Death> {
        let in_flight = InFlight { life: self, id };
        let (cancelled, deadline) = (work.cancelled().clone(), work.deadline());
        self.tell_level();
        let stopped = async {
            tokio::select! {
                () = cancelled.cancelled() => Stopped::Cancelled,
                // The worker knows the deadline too, and asks the plugin to end.
                () = sleep_until(deadline) => Stopped::Deadline,
            }
        };
        let mut stopped = pin!(stopped);
        let order = order(id, work);
        tokio::select! {
            biased;
            // Where the worker is gone, so is whoever would end the call: that is told below.
            _ = self.orders.send(&order) => {}
            stopped = &mut stopped => {
                return Ok(not_begun(stopped, "its worker has not taken what came before"));
            }
        }
        let stopped = tokio::select! {
            biased;
            report = &mut ended => return report.map_err(|_| self.death()),
            stopped = stopped => stopped,
        };
        if matches!(stopped, Stopped::Cancelled) {
            self.orders.offer(&Order::Cancel(id));
        }
        let report = match timeout(setup.grace + LATE, &mut ended).await {
            Ok(report) => report.map_err(|_| self.death()),
            Err(_) => Ok(stuck(stopped, setup.grace)),
        };
        drop(in_flight);
        report
    }

    /// Has it log what is wanted at present, if that is something else than before.
    fn tell_level(&self) {
        let level = log::number(LevelFilter::current());
        if level != self.level.load(Relaxed)
            && self.features.get().is_some_and(|features| features.level)
            && self.orders.offer(&Order::Level(level))
        {
            self.level.store(level, Relaxed);
        }
    }

    /// Whether nobody waits for a call in it.
    fn is_idle(&self) -> bool {
        self.pending().as_ref().is_none_or(HashMap::is_empty)
    }

    /// Its number.
    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    /// Takes no other calls from now on; those that are in it are told later how it ended.
    fn close(&self) {
        let _pending = self.pending();
        self.closed.store(true, Relaxed);
    }

    /// Expects the end of a call that is about to be made; unless no call is to be made of it any more.
    pub(super) fn expect(&self, work: &Work) -> Option<Expected> {
        let id = self.next.fetch_add(1, Relaxed);
        let (tell, ended) = oneshot::channel();
        let waiting = Pending {
            ended: tell,
            key: work.key().map(str::to_owned),
            span: tracing::Span::current(),
        };
        let mut pending = self.pending();
        pending
            .as_mut()
            .filter(|_| !self.closed.load(Relaxed))?
            .insert(id, waiting);
        Some(Expected { id, ended })
    }

    /// Whether a call is running that may ask this: receipts and events are those of a step.
    fn may_ask(&self, question: &Question) -> bool {
        let is_of = |key: &str, rest: fn(&str) -> bool| {
            let pending = self.pending();
            let mut calls = pending.iter().flat_map(HashMap::values);
            calls.any(|call| {
                let own = call.key.as_deref();
                own.and_then(|own| key.strip_prefix(own)).is_some_and(rest)
            })
        };
        match question {
            Question::Value { .. } | Question::Put { .. } | Question::Secret { .. } => true,
            Question::Receipt { key } | Question::Keep { key, .. } => is_of(key, str::is_empty),
            Question::Emit { key, .. } => is_of(key, |rest| {
                rest.strip_prefix('/')
                    .is_some_and(|name| limits::check_key(name).is_ok())
            }),
        }
    }

    /// Refuses what it may not ask, before anything is kept of it.
    fn admit(&self, question: &Question) -> Result<(), HostError> {
        if !self.may_ask(question) {
            return Err(HostError::Invalid(
                "no call of this instance with that key is running".to_owned(),
            ));
        }
        match question {
            Question::Value { key } | Question::Secret { name: key } => limits::check_key(key),
            Question::Put { key, value, .. } => {
                limits::check_key(key)?;
                value.as_deref().map_or(Ok(()), limits::check_value)
            }
            Question::Receipt { .. } => Ok(()),
            Question::Keep { receipt, .. } => limits::check_value(&receipt.body),
            Question::Emit { event, .. } => limits::check_value(event),
        }
    }

    fn death(&self) -> Death {
        self.death
            .get()
            .cloned()
            .unwrap_or_else(|| Death("the worker died".into()))
    }

    fn pending(&self) -> MutexGuard<'_, Option<HashMap<u64, Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn order(id: u64, work: Work) -> Order {
    match work {
        Work::Step(call) => Order::Call(id, Call::of(call)),
        Work::Request(request) => Order::Receive(id, Received::of(request)),
    }
}

/// A call that somebody waits for. Dropped before its end, it is asked to end.
struct InFlight<'l> {
    life: &'l Life,
    id: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let waiting = self
            .life
            .pending()
            .as_mut()
            .and_then(|pending| pending.remove(&self.id));
        if waiting.is_some() {
            self.life.orders.offer(&Order::Cancel(self.id));
        }
    }
}

impl Watch {
    /// Follows the process until it dies, or has to (when it has not answered for `silence`, for one), or is spent.
    pub(super) async fn follow(&mut self, setup: &Setup, silence: Duration, stuck: &AtomicUsize) -> End {
        let mut beat = interval(silence / BEATS);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        let why = loop {
            tokio::select! {
                notice = self.notices.next() => match notice {
                    Ok(Some(Notice::Pong(_, count))) => {
                        silent = 0;
                        stuck.store(count, Relaxed);
                        if count > 0 && !self.spent {
                            self.spent = true;
                            return End::Spent;
                        }
                    }
                    Ok(Some(notice)) => if let Err(error) = self.heed(notice, setup) {
                        break Some(senseless(&error));
                    },
                    Ok(None) => break None,
                    Err(error) => break Some(senseless(&error)),
                },
                // Whatever it has started may hold its socket open.
                _ = self.child.wait() => {
                    self.life.close();
                    self.hear_out(setup).await;
                    break None;
                }
                _ = beat.tick() => {
                    if silent >= BEATS {
                        break Some(format!("did not answer for {silence:?}"));
                    }
                    silent += 1;
                    self.life.tell_level();
                    self.life.orders.offer(&Order::Ping(0));
                }
            }
            if self.spent && self.life.is_idle() {
                break Some("was ended, since a call in it does not end".to_owned());
            }
        };
        stuck.store(0, Relaxed);
        End::Died(self.bury(setup, why).await)
    }

    /// Heeds what a process that has died said before.
    async fn hear_out(&mut self, setup: &Setup) {
        while let Ok(Ok(Some(notice))) = timeout(HEARING, self.notices.next()).await
            && self.heed(notice, setup).is_ok()
        {}
    }

    /// Ends the process, whatever is in it.
    pub(super) async fn kill(&mut self, setup: &Setup) {
        self.bury(setup, Some("was ended".to_owned())).await;
    }

    /// Ends the instance within `grace`, and then the process. Whether all of the instance ended in time.
    pub(super) async fn end(mut self, setup: &Setup, grace: Duration) -> bool {
        let over = async {
            let _ = self.life.orders.send(&Order::End(grace)).await;
            while let Ok(Some(notice)) = self.notices.next().await {
                match notice {
                    Notice::Over { whole } => return Some(whole),
                    notice => self.heed(notice, setup).ok()?,
                }
            }
            None
        };
        let whole = matches!(timeout(grace + LATE, over).await, Ok(Some(true)));
        if !whole {
            tracing::warn!(
                plugin = setup.plugin,
                instance = setup.instance,
                "plugin instance does not end; its process is killed"
            );
        }
        self.bury(setup, Some("was ended".to_owned())).await;
        whole
    }

    /// The first words between the two; `None` for an error says that the process is gone.
    async fn introduce(
        &mut self,
        staged: &Staged,
        setup: &Setup,
        housing: &Housing,
    ) -> Result<(), Option<WorkerError>> {
        let life = &self.life;
        let start = Order::Start(Box::new(start_of(
            staged,
            setup,
            housing,
            life.level.load(Relaxed),
        )));
        // Both without waiting for its hello: nearly always it is this same program.
        life.orders.greet().await.map_err(|_| None)?;
        life.orders.send(&start).await.map_err(|_| None)?;
        let garbled = |garbage| Some(io::Error::from(garbage).into());
        let hello = self.notices.hello().await.map_err(garbled)?.ok_or(None)?;
        let features = hello
            .agree()
            .map_err(|protocol| Some(WorkerError::Protocol(protocol)))?;
        self.life.features.get_or_init(|| features);
        loop {
            match self.notice().await? {
                Notice::Started(Ok(())) => return Ok(()),
                Notice::Started(Err(Refusal { words, own })) => {
                    return Err(Some(WorkerError::Refused { words, own }));
                }
                notice => self.heed(notice, setup).map_err(not_ours)?,
            }
        }
    }

    async fn notice(&mut self) -> Result<Notice, Option<WorkerError>> {
        self.notices.next().await.map_err(not_ours)?.ok_or(None)
    }

    /// Does what one notice asks for, and waits for nothing: while it does, nobody would notice that the process is silent.
    fn heed(&self, notice: Notice, setup: &Setup) -> Result<(), Garbage> {
        let Setup {
            plugin,
            instance,
            host,
            ..
        } = setup;
        match notice {
            Notice::Ended(id, report) => {
                let waiting = self
                    .life
                    .pending()
                    .as_mut()
                    .and_then(|pending| pending.remove(&id));
                match waiting {
                    // Whoever waited may have given up in this moment.
                    Some(waiting) => drop(waiting.ended.send(report::checked(report))),
                    None => tracing::debug!(instance, "plugin call ended after it was given up"),
                }
            }
            Notice::Ask(id, question) => {
                let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
                    return Err(Garbage(format!(
                        "more than {QUESTIONS} questions that are not answered yet"
                    )));
                };
                let (host, instance) = (Arc::clone(host), instance.clone());
                let (orders, reading) = (self.life.orders.clone(), Arc::clone(&self.reading));
                let admitted = self.life.admit(&question).map(|()| question);
                self.answering.spawn(async move {
                    let long = match &admitted {
                        Ok(question) if question.is_to_read() => reading.acquire().await.ok(),
                        Ok(_) | Err(_) => None,
                    };
                    let answer = match admitted {
                        Ok(question) => answer(&*host, &instance, question).await,
                        Err(refused) => Err(refused),
                    };
                    // Where the worker has died, nobody asks any more.
                    if let Ok(place) = orders.place(&Order::Answer(id, answer)).await {
                        // Whoever reads the answer may ask again at once.
                        drop((permit, long));
                        place.take();
                    }
                });
            }
            Notice::Metric { name, labels, value } => match log::check_metric(&name, &labels, value) {
                Ok(()) => host.metric(instance, &name, &labels, value),
                Err(fault) => tracing::debug!(plugin, instance, name, fault, "metric of plugin dropped"),
            },
            Notice::Log {
                call,
                level,
                target,
                message,
                fields,
            } => {
                let line = log::Line {
                    plugin,
                    instance,
                    level,
                    target: limits::shortened(target),
                    message: limits::shortened(message),
                    fields: limits::shortened(fields),
                };
                let of_call = call.and_then(|id| {
                    let pending = self.life.pending();
                    let waiting = pending.as_ref()?.get(&id)?;
                    Some((waiting.span.clone(), waiting.key.clone()))
                });
                match of_call {
                    Some((span, key)) => {
                        key.iter().for_each(|key| line.tell(key));
                        span.in_scope(|| line.write());
                    }
                    None => tracing::Span::none().in_scope(|| line.write()),
                }
            }
            // Said once, at the start or the end, and heard there.
            Notice::Started(_) | Notice::Pong(..) | Notice::Over { .. } => {}
        }
        Ok(())
    }

    /// Makes sure that the process is dead, and tells everybody who waits for it how that came.
    async fn bury(&mut self, setup: &Setup, why: Option<String>) -> Death {
        // All of this takes a while, and a call that comes meanwhile is one for the next process.
        self.life.close();
        if why.is_none() {
            // It closed its socket: it is dying by itself, unless it closed nothing but that.
            let _ = timeout(DYING, self.child.wait()).await;
        }
        // Also where it is gone itself: what it has started is not.
        if let Some(group) = self.group {
            // Any of it may have something to tidy up, such as a file that locks others out. The next process is to meet
            // neither that nor them, and begins when they are gone.
            signal_group(group, Signal::TERM);
            if timeout(TIDYING, gone(&mut self.child, group)).await.is_err() {
                signal_group(group, Signal::KILL);
            }
            self.group = None;
        }
        let status = self.child.wait().await.ok();
        // What it started may hold its standard error open.
        let _ = timeout(DYING, &mut self.listening).await;
        self.listening.abort();
        let words: Vec<_> = self
            .words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect();
        let how = match (why, status.map(told)) {
            (Some(why), Some(end)) => format!("{why}, and {end}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "is gone".to_owned(),
        };
        let said = if words.is_empty() {
            String::new()
        } else {
            format!(", saying: {}", words.join(" / "))
        };
        let death = Death(format!("the worker of `{}` {how}{said}", setup.instance).into());
        let _ = self.life.death.set(death.clone());
        // Dropped, they tell whoever waits.
        drop(self.life.pending().take());
        death
    }
}

impl Drop for Watch {
    /// Where it was not buried, since nobody waits for it any more: what it has started ends with it.
    fn drop(&mut self) {
        self.group.into_iter().for_each(end_group);
    }
}

/// Waits until the child has ended, and all that it started in its group.
async fn gone(child: &mut Child, group: u32) {
    let _ = child.wait().await;
    while is_group_left(group) {
        sleep(LOOK_AGAIN).await;
    }
}

fn start_of(staged: &Staged, setup: &Setup, housing: &Housing, level: u32) -> Start {
    let secrets = setup.secrets.iter();
    Start {
        library: staged.voucher(),
        plugin: setup.plugin.clone(),
        instance: setup.instance.clone(),
        config: setup.config.to_string(),
        secrets: secrets
            .map(|(name, secret)| (name.clone(), secret.expose().to_owned()))
            .collect(),
        limit: setup.limit,
        grace: setup.grace,
        limits: housing.limits,
        sandbox: housing.sandbox.clone(),
        level,
    }
}

/// What is not said as the two have agreed.
fn not_ours(garbage: Garbage) -> Option<WorkerError> {
    Some(io::Error::from(garbage).into())
}

fn senseless(garbage: &Garbage) -> String {
    format!("sent what makes no sense ({garbage})")
}

async fn answer(host: &dyn crate::plugin::Host, instance: &str, question: Question) -> Answer {
    Ok(match question {
        Question::Value { key } => Given::Value(host.kv_get(instance, &key).await?),
        Question::Put { key, value, ttl } => {
            host.kv_put(instance, &key, value, ttl).await?;
            Given::Value(None)
        }
        Question::Secret { name } => {
            let secret = host.secret(instance, &name).await?;
            Given::Value(secret.map(|secret| secret.expose().to_owned().into_bytes().into()))
        }
        Question::Receipt { key } => Given::Receipt(host.receipt(instance, &key).await?),
        Question::Keep { key, receipt } => {
            limits::check_json(&receipt.body)?;
            host.keep_receipt(instance, &key, receipt).await?;
            Given::Value(None)
        }
        Question::Emit { key, event } => {
            limits::check_json(&event)?;
            Given::Value(Some(host.emit(instance, &key, event).await?.into_bytes().into()))
        }
    })
}

/// Starts a process with a socket for its standard input, and listens to its standard error.
async fn spawn(staged: &Staged, setup: &Setup, housing: &Housing) -> io::Result<Watch> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(&housing.program);
    // It stays in the router's directory, where relative paths of a configuration lie.
    command
        .arg(COMMAND)
        .env_clear()
        .envs(elf::environment(staged.hazards()))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let exit = housing.exit.as_ref();
    let pass = exit
        .map(|exit| {
            exit.egress
                .admit(&setup.plugin, &setup.instance, &exit.destinations)
        })
        .transpose()?;
    if let Some(pass) = &pass {
        command
            .env(egress::VARIABLE, pass.url())
            .env(egress::TUNNEL, by_path(&housing.program)?);
    }
    let mut child = on_lasting_thread(command, Handle::current()).await?;
    let (read, write) = UnixStream::from_std(ours)?.into_split();
    let (orders, writing) = wire::outbox(write, Arc::clone(&setup.tally));
    let answering = TaskTracker::new();
    answering.spawn(writing);
    let words = Arc::default();
    let (process, stderr) = (child.id(), child.stderr.take());
    let listening = listen(
        stderr,
        (setup.plugin.clone(), setup.instance.clone()),
        Arc::clone(&words),
    );
    Ok(Watch {
        spent: false,
        child,
        group: process,
        _pass: pass,
        notices: Inbox::new(read),
        life: Arc::new(Life {
            orders,
            features: OnceLock::new(),
            level: AtomicU32::new(log::number(LevelFilter::current())),
            next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            pending: Mutex::new(Some(HashMap::new())),
            death: OnceLock::new(),
            process,
        }),
        words,
        listening: answering.spawn(listening),
        answering,
        questions: Arc::new(Semaphore::new(QUESTIONS)),
        reading: Arc::new(Semaphore::new(READS)),
    })
}

/// Spawns on a thread that lives as long as the router: a worker asks to be killed when its parent dies, and the kernel
/// takes the thread that started it for its parent.
async fn on_lasting_thread(command: Command, runtime: Handle) -> io::Result<Child> {
    type Birth = (Command, Handle, oneshot::Sender<io::Result<Child>>);
    static MIDWIFE: LazyLock<io::Result<std::sync::mpsc::Sender<Birth>>> = LazyLock::new(|| {
        let (births, next) = std::sync::mpsc::channel::<Birth>();
        thread::Builder::new().name("workers".to_owned()).spawn(move || {
            for (mut command, runtime, born) in next {
                let _context = runtime.enter();
                // Where nobody waits any more, it is killed as it is dropped.
                drop(born.send(command.spawn()));
            }
        })?;
        Ok(births)
    });
    let gone = || io::Error::other("no thread can be started to start processes");
    let (born, birth) = oneshot::channel();
    let midwife = MIDWIFE.as_ref().map_err(|_| gone())?;
    midwife.send((command, runtime, born)).map_err(|_| gone())?;
    birth.await.map_err(|_| gone())?
}

/// Logs lines under the plugin's name, as many as that bears, and keeps the last ones.
async fn listen(
    from: Option<impl AsyncRead + Unpin>,
    (plugin, instance): (String, String),
    words: Arc<Mutex<VecDeque<String>>>,
) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let (mut line, mut trickle) = (Vec::new(), Trickle::new());
    loop {
        let Ok(bytes) = from.fill_buf().await else { return };
        let at_end = bytes.is_empty();
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let room = LONGEST_LINE - line.len();
        let taken = end.unwrap_or(bytes.len()).min(room);
        line.extend_from_slice(&bytes[..taken]);
        let is_whole = at_end || end == Some(taken) || line.len() == LONGEST_LINE;
        from.consume(taken + usize::from(end == Some(taken)));
        if is_whole && !line.is_empty() {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Some(left_out) = trickle.admit() {
                tracing::info!(target: "plugin", plugin, instance, module = "stderr", left_out, "{text}");
            }
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            if words.len() == LAST_WORDS {
                words.pop_front();
            }
            words.push_back(text);
            line.clear();
        }
        if at_end {
            return;
        }
    }
}

fn told(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("died of {}", signal_name(signal)),
        (None, Some(code)) => format!("ended by itself, with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// How much later than it was told a worker may still answer.
const LATE: Duration = Duration::from_secs(2);
/// How often it is asked whether it is there before its silence has lasted too long.
const BEATS: u32 = 2;
/// How long a process may take to die that has closed its socket, and its standard error to follow it.
const DYING: Duration = Duration::from_millis(500);
/// How long to wait for the rest of what a dead process said, which lies in the socket already.
const HEARING: Duration = Duration::from_millis(20);
/// How long a process that was asked to end may take before it is killed, with what it has started; and how often it is
/// looked whether that has ended, of which nobody is told.
const TIDYING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Answers of one plugin that may be a megabyte long, and are made or wait for room at a time: more than the journal has readers.
const READS: usize = 16;
/// How long a line of its standard error may be, in bytes; and how many of the last ones are told with its death.
const LONGEST_LINE: usize = 4096;
const LAST_WORDS: usize = 3;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jackfield_event::{DeliveryId, Timestamp};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        plugin::{RequestCall, StepCall, rehearsal::Rehearsal, vitals::Tally},
        reason::Reason,
    };

    fn call(idempotency_key: &str) -> Work {
        Work::Step(StepCall {
            event: Bytes::new(),
            input: Bytes::new(),
            delivery: DeliveryId::new(Timestamp::from_millis(1).unwrap(), 0),
            route: String::new(),
            step: String::new(),
            attempt: 1,
            idempotency_key: idempotency_key.to_owned(),
            deadline: tokio::time::Instant::now(),
            workdir: "/".into(),
            cancelled: CancellationToken::new(),
        })
    }

    /// Something like a process, which knows these features; and what is to be written to it.
    fn life(features: Features) -> (Life, impl Future<Output = ()>, UnixStream) {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let (orders, writing) = wire::outbox(stream.into_split().1, Arc::default());
        let life = Life {
            orders,
            features: features.into(),
            // No level at all, so that every one is another.
            level: AtomicU32::new(u32::MAX),
            next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            pending: Mutex::new(Some(HashMap::new())),
            death: OnceLock::new(),
            process: None,
        };
        (life, writing, theirs)
    }

    #[tokio::test]
    async fn a_process_is_told_of_another_level_once_and_only_if_it_knows_of_such() {
        for level in [true, false] {
            let (life, writing, theirs) = life(Features { level });
            // Nothing is wanted at present: there is no subscriber.
            life.tell_level();
            life.tell_level();
            drop(life);
            writing.await;
            let mut orders = Inbox::<Order>::new(theirs.into_split().0);
            if level {
                assert!(matches!(orders.next().await, Ok(Some(Order::Level(0)))));
            }
            assert!(matches!(orders.next().await, Ok(None)));
        }
    }

    #[tokio::test]
    async fn receipts_and_events_are_those_of_the_calls_that_run() {
        let (life, _writing, _theirs) = life(Features::default());
        let _call = life.expect(&call("dlv_1/post")).unwrap();
        let request = RequestCall {
            head: Bytes::new(),
            body: Bytes::new(),
            deadline: tokio::time::Instant::now(),
            cancelled: CancellationToken::new(),
        };
        let _request = life.expect(&Work::Request(request)).unwrap();
        let receipt = |key: &str| Question::Receipt { key: key.to_owned() };
        let emit = |key: &str| Question::Emit {
            key: key.to_owned(),
            event: Bytes::new(),
        };
        for (question, may) in [
            (receipt("dlv_1/post"), true),
            (receipt("dlv_1/pos"), false),
            (receipt("dlv_1/post/first"), false),
            (receipt("dlv_2/post"), false),
            (receipt(""), false),
            (emit("/first"), false),
            (emit("dlv_1/post/first"), true),
            (emit("dlv_1/posted"), false),
            (emit("dlv_1/post"), false),
            (
                Question::Value {
                    key: "any".to_owned(),
                },
                true,
            ),
        ] {
            assert_eq!(life.may_ask(&question), may, "{question:?}");
        }
    }

    #[tokio::test]
    async fn a_process_that_is_about_to_end_takes_no_other_call() {
        let (life, _writing, _theirs) = life(Features::default());
        let mut first = life.expect(&call("dlv_1/post")).unwrap();
        life.close();
        assert!(life.expect(&call("dlv_2/post")).is_none());
        assert!(
            first.ended.try_recv().is_err() && !life.is_idle(),
            "it is told when all is over"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_in_time_where_its_worker_takes_nothing() {
        // Nobody writes what is handed in, as where the socket is full.
        let (life, _writing, _theirs) = life(Features::default());
        while timeout(LATE, life.orders.send(&Order::Cancel(0))).await.is_ok() {}
        let life = Arc::new(life);
        let setup = Setup {
            plugin: "plugin".to_owned(),
            instance: "instance".to_owned(),
            config: serde_json::Value::Null,
            secrets: std::collections::BTreeMap::new(),
            host: Arc::new(Rehearsal::default()),
            runtime: Handle::current(),
            limit: LATE,
            grace: LATE,
            busy: false,
            tally: Arc::<Tally>::default(),
        };
        let Work::Step(mut cancelled) = call("dlv_1/post") else {
            unreachable!("it is a step");
        };
        cancelled.deadline += Duration::from_secs(3600);
        cancelled.cancelled.cancel();
        for (work, reason) in [
            (call("dlv_1/post"), Reason::TimedOut),
            (Work::Step(cancelled), Reason::Interrupted),
        ] {
            let expected = life.expect(&work).unwrap();
            let report = life.call(work, expected, &setup).await.unwrap();
            assert_eq!(report.reason, Some(reason));
            assert!(report.message.unwrap().contains("was not begun"));
            assert!(life.is_idle());
        }
    }
}
