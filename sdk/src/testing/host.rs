//! The router, in memory.

mod asking;
mod seen;
mod store;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tracing::Level;

pub(super) use self::asking::Asker;
use self::asking::{Shared, State};
pub use self::seen::{Emitted, Log, Metric};
use super::{
    asked::{Asked, HostCall},
    cut::{self, Cutting, NextOp},
    driver::Ticket,
};
use crate::{
    Receipt,
    ffi::{
        Stage,
        double::{Double, Request},
    },
};

/// Plays the router for instances under test: keeps what they keep, in memory, and remembers what they do.
///
/// Its clones are the same host. It replies from a thread of its own, as a router does.
///
/// ```
/// use jackfield_sdk::{prelude::*, testing::{Call, Harness, HostCall, TestHost}};
/// #
/// # struct Keeper;
/// # #[async_trait]
/// # impl Plugin for Keeper {
/// #     type Config = Empty;
/// #     type Input = Empty;
/// #     type Output = ();
/// #     const NAME: &'static str = "example";
/// #     const VERSION: &'static str = "1.0.0";
/// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
/// # async fn call(&self, _: Empty, cx: &Cx) -> Result<Outcome<()>> {
/// #     cx.intend(&"act").await?;
/// #     cx.record(&"acted").await?;
/// #     Ok(Outcome::Done(()))
/// # }
/// # }
/// #
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// // It dies between what it does and the word of it, and the next one finds what it had written down.
/// let host = TestHost::new();
/// let keeper = Harness::<Keeper>::start_on(&host, json!({})).await.unwrap();
/// host.hold(HostCall::Record);
/// let running = keeper.begin(Call::new(json!({})).key("dlv_1/act"));
/// host.held(HostCall::Record, 1).await;
/// keeper.crash().await;
/// assert_eq!(host.receipt("dlv_1/act"), Receipt::Intended(json!("act")));
/// # });
/// ```
#[derive(Clone)]
pub struct TestHost {
    shared: Arc<Shared>,
}

/// Prepares the host.
impl TestHost {
    /// A host that holds nothing, and logs everything.
    pub fn new() -> Self {
        Self {
            shared: Shared::new(),
        }
    }

    /// Gives it a secret.
    pub fn set_secret(&self, name: impl Into<String>, value: impl Into<String>) {
        self.state().store.secrets.insert(name.into(), value.into());
    }

    /// Gives it a value in the instance's key-value store.
    pub fn set_kv(&self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.state().store.kv.insert(key.into(), (value.into(), None));
    }

    /// Gives it a receipt under an idempotency key, as an earlier attempt would have left it.
    pub fn set_receipt(&self, key: impl Into<String>, receipt: Receipt<Value, Value>) {
        let receipts = &mut self.state().store.receipts;
        let (stage, body) = match receipt {
            Receipt::Absent => return drop(receipts.remove(&key.into())),
            Receipt::Intended(body) => (Stage::Intent, body),
            Receipt::Done(body) => (Stage::Done, body),
        };
        receipts.insert(key.into(), (stage, body.to_string().into_bytes()));
    }

    /// Changes what it wants logged, at any time; `None` for nothing.
    pub fn set_log_level(&self, level: Option<Level>) {
        self.shared.level.store(seen::number(level), Ordering::Relaxed);
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
        for (request, asker) in held {
            self.shared.carry_out(request, asker);
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
            .store
            .kv
            .iter()
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect()
    }

    /// How long the entry under this key was to live when it was put, if not for ever. No time passes on this host.
    pub fn kv_life(&self, key: &str) -> Option<Duration> {
        self.state().store.kv.get(key).and_then(|(_, life)| *life)
    }

    /// The receipt under an idempotency key.
    ///
    /// # Panics
    ///
    /// Where it is not JSON, which the SDK rules out.
    pub fn receipt(&self, key: &str) -> Receipt<Value, Value> {
        match self.state().store.receipts.get(key) {
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
            .store
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
        self.state().store.calls.insert(id, key.to_owned());
    }

    pub(super) fn close_call(&self, id: u64) {
        self.state().store.calls.remove(&id);
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

    pub(super) fn is_to_cut(&self, call: u64) -> bool {
        self.state().cuts.contains_key(&call)
    }

    pub(super) fn polling(&self, call: u64) {
        if self.is_to_cut(call) {
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
        for (answer, asker) in answers {
            self.shared.reply(answer, asker);
        }
    }

    /// What a process asks in the name of the instance that it has.
    pub(super) fn ask(&self, request: Request, ticket: Ticket) {
        self.shared.ask(request, Asker::Driver(ticket));
    }

    /// What an instance in another process logs, if that is wanted at present.
    pub(super) fn logged(&self, level: u32, log: impl FnOnce() -> Log) {
        if level <= self.shared.level.load(Ordering::Relaxed) {
            self.shared.logged(log());
        }
    }

    pub(super) fn counted(&self, metric: Metric) {
        self.shared.counted(metric);
    }

    /// The open call that has this key.
    pub(super) fn call_of(&self, key: &str) -> Option<u64> {
        self.state().store.call_of(key)
    }

    pub(super) fn replies_inline(&self) -> bool {
        self.state().inline
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
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
