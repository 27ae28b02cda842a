//! The router, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::sync::watch;
use tracing::Level;

use super::{
    asked::Asked,
    cut::{self, Cutting, NextOp},
};
use crate::{
    Receipt,
    ffi::{
        Stage,
        double::{Answer, Double, Replier, Request},
    },
};

/// Plays the router for instances under test: keeps what they keep, in memory, and remembers what they do.
///
/// Its clones are the same host. It replies from a thread of its own, as a router does.
#[derive(Clone)]
pub struct TestHost {
    shared: Arc<Shared>,
}

/// A kind of request that a plugin makes of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostCall {
    /// [`Kv::get`](crate::Kv::get)
    KvGet,
    /// [`Kv::put`](crate::Kv::put)
    KvPut,
    /// [`Kv::delete`](crate::Kv::delete)
    KvDelete,
    /// [`Cx::receipt`](crate::Cx::receipt)
    Receipt,
    /// [`Cx::intend`](crate::Cx::intend)
    Intend,
    /// [`Cx::record`](crate::Cx::record)
    Record,
    /// [`Cx::secret`](crate::Cx::secret)
    Secret,
    /// [`Cx::emit`](crate::Cx::emit)
    Emit,
}

/// One message that was logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How grave it is.
    pub level: Level,
    /// The module that it comes from.
    pub target: String,
    /// The message.
    pub message: String,
    /// Its fields, and those of the spans around it.
    pub fields: Value,
    /// Whether it was logged within a call.
    pub in_call: bool,
}

/// One addition to a counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The counter.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What was added.
    pub value: f64,
}

/// One follow-up event that was raised.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    /// What tells it from others of its step.
    pub name: String,
    /// Its type, subject and data.
    pub event: Value,
}

struct Shared {
    state: Mutex<State>,
    level: Arc<AtomicU32>,
    /// To the thread that replies.
    replies: mpsc::Sender<(Answer, Replier)>,
    /// Changes with every request that is held.
    held: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    logs: Vec<Log>,
    metrics: Vec<Metric>,
    kv: BTreeMap<String, (Vec<u8>, Option<Duration>)>,
    receipts: BTreeMap<String, (Stage, Vec<u8>)>,
    secrets: BTreeMap<String, String>,
    emitted: Vec<(String, Emitted)>,
    /// The keys of open calls, by the calls' ids.
    calls: HashMap<u64, String>,
    failing: HashMap<HostCall, usize>,
    holding: HashMap<HostCall, Vec<(Request, Replier)>>,
    /// Calls that are to be cut off, by their ids.
    cuts: HashMap<u64, Cutting>,
    inline: bool,
}

/// Prepares the host.
impl TestHost {
    /// A host that holds nothing, and logs everything.
    pub fn new() -> Self {
        let (replies, queue) = mpsc::channel::<(Answer, Replier)>();
        thread::spawn(move || {
            queue
                .into_iter()
                .for_each(|(answer, replier)| replier.send(&answer))
        });
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                level: Arc::new(AtomicU32::new(5)),
                replies,
                held: watch::channel(()).0,
            }),
        }
    }

    /// Gives it a secret.
    pub fn set_secret(&self, name: impl Into<String>, value: impl Into<String>) {
        self.state().secrets.insert(name.into(), value.into());
    }

    /// Gives it a value in the instance's key-value store.
    pub fn set_kv(&self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.state().kv.insert(key.into(), (value.into(), None));
    }

    /// Gives it a receipt under an idempotency key, as an earlier attempt would have left it.
    pub fn set_receipt(&self, key: impl Into<String>, receipt: Receipt<Value, Value>) {
        let mut state = self.state();
        match receipt {
            Receipt::Absent => state.receipts.remove(&key.into()),
            Receipt::Intended(body) => state
                .receipts
                .insert(key.into(), (Stage::Intent, body.to_string().into_bytes())),
            Receipt::Done(body) => state
                .receipts
                .insert(key.into(), (Stage::Done, body.to_string().into_bytes())),
        };
    }

    /// Changes what it wants logged, at any time; `None` for nothing.
    pub fn set_log_level(&self, level: Option<Level>) {
        let number = level.map_or(0, |level| {
            LEVELS.iter().position(|known| *known == level).unwrap_or(0) + 1
        });
        self.shared
            .level
            .store(u32::try_from(number).unwrap_or(0), Ordering::Relaxed);
    }

    /// Has the next `times` requests of this kind fail, as not possible at present.
    pub fn fail(&self, call: HostCall, times: usize) {
        self.state().failing.insert(call, times);
    }

    /// Has all further requests of this kind wait, before anything of them is carried out, until they are
    /// [released](Self::release).
    pub fn hold(&self, call: HostCall) {
        self.state().holding.entry(call).or_default();
    }

    /// Waits until so many requests of this kind are held.
    pub async fn held(&self, call: HostCall, count: usize) {
        let mut changed = self.shared.held.subscribe();
        while self.state().holding.get(&call).map_or(0, Vec::len) < count {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Carries out the requests of this kind that are held, and holds no more.
    pub fn release(&self, call: HostCall) {
        let held = self.state().holding.remove(&call).unwrap_or_default();
        for (request, replier) in held {
            self.shared.carry_out(request, replier);
        }
    }

    /// Has it reply within the requests themselves, before they return, which a host may do as well.
    pub fn reply_inline(&self) {
        self.state().inline = true;
    }
}

/// Tells what happened on the host.
impl TestHost {
    /// All that was asked of it, in order, also what failed or is held; without what was logged, which has a list of its own.
    ///
    /// ```
    /// # use jackfield_sdk::{prelude::*, testing::{Call, Harness}};
    /// # use serde_json::Value;
    /// # struct Poster;
    /// # #[async_trait]
    /// # impl Plugin for Poster {
    /// #     type Config = Empty;
    /// #     type Input = Value;
    /// #     type Output = ();
    /// #     const NAME: &'static str = "poster";
    /// #     const VERSION: &'static str = "1.0.0";
    /// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
    /// #     async fn call(&self, _: Value, cx: &Cx) -> Result<Outcome<()>> {
    /// #         cx.intend(&7).await?;
    /// #         cx.metric("posts_total", &[("kind", "card")], 1.0);
    /// #         cx.record(&"1.2").await?;
    /// #         Ok(Outcome::Done(()))
    /// #     }
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let poster = Harness::<Poster>::start(json!({})).await.unwrap();
    /// poster.call(Call::new(json!({}))).await.done();
    /// let asked: Vec<_> = poster.host().asked().iter().map(ToString::to_string).collect();
    /// assert_eq!(asked, ["intend 7", "metric posts_total{kind=\"card\"} + 1", "record \"1.2\""]);
    /// # });
    /// ```
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// All that was logged.
    pub fn logs(&self) -> Vec<Log> {
        self.state().logs.clone()
    }

    /// All additions to counters.
    pub fn metrics(&self) -> Vec<Metric> {
        self.state().metrics.clone()
    }

    /// What the counter of this name stands at, over all of its labels.
    pub fn metric(&self, name: &str) -> f64 {
        self.state()
            .metrics
            .iter()
            .filter(|metric| metric.name == name)
            .map(|metric| metric.value)
            .sum()
    }

    /// The instance's key-value store.
    pub fn kv(&self) -> BTreeMap<String, Vec<u8>> {
        self.state()
            .kv
            .iter()
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect()
    }

    /// How long the entry under this key was to live when it was put, if not for ever. No time passes on this host.
    pub fn kv_life(&self, key: &str) -> Option<Duration> {
        self.state().kv.get(key).and_then(|(_, life)| *life)
    }

    /// The receipt under an idempotency key.
    ///
    /// # Panics
    ///
    /// Where it is not JSON, which the SDK rules out.
    pub fn receipt(&self, key: &str) -> Receipt<Value, Value> {
        match self.state().receipts.get(key) {
            None => Receipt::Absent,
            Some((stage, body)) => {
                let body = serde_json::from_slice(body).expect("a receipt is JSON");
                match stage {
                    Stage::Intent => Receipt::Intended(body),
                    Stage::Done => Receipt::Done(body),
                }
            }
        }
    }

    /// The follow-up events that were raised.
    pub fn emitted(&self) -> Vec<Emitted> {
        self.state()
            .emitted
            .iter()
            .map(|(_, emitted)| emitted.clone())
            .collect()
    }
}

impl TestHost {
    pub(super) fn as_double(&self) -> Arc<dyn Double> {
        self.shared.clone()
    }

    pub(super) fn level(&self) -> Arc<AtomicU32> {
        self.shared.level.clone()
    }

    pub(super) fn open_call(&self, id: u64, key: &str) {
        self.state().calls.insert(id, key.to_owned());
    }

    pub(super) fn close_call(&self, id: u64) {
        self.state().calls.remove(&id);
    }

    /// Has the call canceled when it waits for the `at`th time, by the op that comes.
    pub(super) fn cut(&self, id: u64, at: usize, op: NextOp) {
        self.state().cuts.insert(id, Cutting::new(at, op));
    }

    /// Whether the call came to where it was to be cut off.
    pub(super) fn was_cut(&self, id: u64) -> bool {
        let cutting = self.state().cuts.remove(&id);
        cutting.is_some_and(|cutting| cutting.was_reached())
    }

    pub(super) fn polling(&self, call: u64) {
        if self.state().cuts.contains_key(&call) {
            cut::polling(Some(call));
        }
    }

    pub(super) fn polled(&self, call: u64, waits: bool) {
        if cut::polling(None).is_none() {
            return;
        }
        let cutting = self
            .state()
            .cuts
            .get_mut(&call)
            .map(|cutting| cutting.polled(waits));
        let (op, answers) = cutting.unwrap_or_default();
        // Whoever began the call is about to send it, or has panicked.
        if let Some(op) = op.and_then(|op| op.recv().ok()) {
            op.cancel();
        }
        for (answer, reply) in answers {
            self.shared.reply(answer, reply);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Double for Shared {
    fn log(&self, call: u64, level: u32, target: String, message: String, fields: &[u8]) {
        let fields = if fields.is_empty() { b"{}" } else { fields };
        let log = Log {
            level: level
                .checked_sub(1)
                .and_then(|at| LEVELS.get(usize::try_from(at).ok()?))
                .copied()
                .unwrap_or(Level::TRACE),
            target,
            message,
            fields: serde_json::from_slice(fields).unwrap_or(Value::Null),
            in_call: call != 0,
        };
        self.state().logs.push(log);
    }

    fn metric(&self, name: String, labels: &[u8], value: f64) {
        let labels = serde_json::from_slice(labels).unwrap_or_default();
        let metric = Metric { name, labels, value };
        let mut state = self.state();
        state.asked.push(Asked::Metric(metric.clone()));
        state.metrics.push(metric);
    }

    fn request(&self, request: Request, reply: Replier) {
        let mut state = self.state();
        state.asked.push(Asked::of(&request));
        let kind = HostCall::of(&request);
        if let Some(held) = state.holding.get_mut(&kind) {
            held.push((request, reply));
            drop(state);
            self.held.send_replace(());
            return;
        }
        drop(state);
        self.carry_out(request, reply);
    }
}

impl Shared {
    fn carry_out(&self, request: Request, reply: Replier) {
        let mut state = self.state();
        let answer = state.answer(HostCall::of(&request), request);
        let cutting = cut::being_polled().and_then(|call| state.cuts.get_mut(&call));
        if let Some(cutting) = cutting {
            cutting.hold_back(answer, reply);
        } else {
            drop(state);
            self.reply(answer, reply);
        }
    }

    fn reply(&self, answer: Answer, reply: Replier) {
        if self.state().inline {
            reply.send(&answer);
        } else {
            // The thread ends with the host. Where it has, dropping the replier is a reply.
            let _ = self.replies.send((answer, reply));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, kind: HostCall, request: Request) -> Answer {
        if let Some(times) = self.failing.get_mut(&kind)
            && *times > 0
        {
            *times -= 1;
            return Answer::Unavailable(format!("the test has {kind:?} fail"));
        }
        match request {
            Request::KvGet(key) => found(self.kv.get(&key).map(|(value, _)| value)),
            Request::KvPut(key, value, life) => {
                self.kv.insert(key, (value, (!life.is_zero()).then_some(life)));
                done()
            }
            Request::KvDelete(key) => found(self.kv.remove(&key).map(|_| Vec::new()).as_ref()),
            Request::ReceiptGet(call) => self.with_key(call, |state, key| match state.receipts.get(&key) {
                Some((stage, body)) => Answer::Found(body.clone(), Some(*stage)),
                None => Answer::NotFound,
            }),
            Request::ReceiptPut(call, stage, body) => self.with_key(call, |state, key| match stage {
                Some(stage) => {
                    state.receipts.insert(key, (stage, body));
                    done()
                }
                None => Answer::Refused("a receipt of an unknown stage".to_owned()),
            }),
            Request::Secret(name) => found(
                self.secrets
                    .get(&name)
                    .map(|secret| secret.clone().into_bytes())
                    .as_ref(),
            ),
            Request::Emit(call, name, event) => {
                self.with_key(call, |state, key| state.emit(key, name, &event))
            }
        }
    }

    fn with_key(&mut self, call: u64, work: impl FnOnce(&mut Self, String) -> Answer) -> Answer {
        match self.calls.get(&call).cloned() {
            Some(key) => work(self, key),
            None => Answer::Refused(format!("there is no open call {call}")),
        }
    }

    fn emit(&mut self, key: String, name: String, event: &[u8]) -> Answer {
        let Ok(event @ Value::Object(_)) = serde_json::from_slice(event) else {
            return Answer::Refused("the event is not a JSON object".to_owned());
        };
        let known = self
            .emitted
            .iter()
            .position(|(of, emitted)| *of == key && emitted.name == name);
        let number = known.unwrap_or_else(|| {
            self.emitted.push((key, Emitted { name, event }));
            self.emitted.len() - 1
        });
        Answer::Found(format!("evt_{number:026}").into_bytes(), None)
    }
}

fn found(value: Option<&Vec<u8>>) -> Answer {
    value.map_or(Answer::NotFound, |value| Answer::Found(value.clone(), None))
}

fn done() -> Answer {
    Answer::Found(Vec::new(), None)
}

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

impl HostCall {
    fn of(request: &Request) -> Self {
        match request {
            Request::KvGet(_) => Self::KvGet,
            Request::KvPut(..) => Self::KvPut,
            Request::KvDelete(_) => Self::KvDelete,
            Request::ReceiptGet(_) => Self::Receipt,
            Request::ReceiptPut(_, Some(Stage::Intent), _) => Self::Intend,
            Request::ReceiptPut(..) => Self::Record,
            Request::Secret(_) => Self::Secret,
            Request::Emit(..) => Self::Emit,
        }
    }
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets and values are left out.
        f.write_str("TestHost")
    }
}
