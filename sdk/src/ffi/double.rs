//! The host's side of the boundary, for tests: a table of host functions over a safe trait, and an instance that is driven
//! through the plugin's table, exactly as a host drives it.

use std::{
    ffi::c_void,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jackfield_abi as abi;
use tokio::{sync::oneshot, time::Instant};

use super::{
    CODES, ENDED, bytes,
    call::mono_ns,
    host::Stage,
    read, slice, struct_size,
    table::{Table, table},
    text, word,
};
use crate::{
    Plugin,
    call::{Code, Ended, Report},
};

/// What a host does for the instance under test.
pub(crate) trait Double: Send + Sync {
    fn log(&self, call: u64, level: u32, target: String, message: String, fields: &[u8]);
    fn metric(&self, name: String, labels: &[u8], value: f64);
    fn request(&self, request: Request, reply: Replier);
}

/// A request for something durable.
#[derive(Debug)]
pub(crate) enum Request {
    KvGet(String),
    KvPut(String, Vec<u8>, Duration),
    KvDelete(String),
    ReceiptGet(u64),
    ReceiptPut(u64, Option<Stage>, Vec<u8>),
    Secret(String),
    Emit(u64, String, Vec<u8>),
}

/// The way back for one reply. Where it is dropped, that is a reply as well.
pub(crate) struct Replier {
    reply: abi::ReplyFn,
    ctx: *mut c_void,
    sent: bool,
}

// SAFETY: the ABI says that a reply may come on any thread.
unsafe impl Send for Replier {}

/// The answer to a request.
pub(crate) enum Answer {
    Found(Vec<u8>, Option<Stage>),
    NotFound,
    Refused(String),
    Unavailable(String),
}

impl Replier {
    fn new(reply: abi::ReplyFn, ctx: *mut c_void) -> Self {
        Self {
            reply,
            ctx,
            sent: false,
        }
    }

    pub(crate) fn send(mut self, answer: &Answer) {
        self.write(answer);
    }

    fn write(&mut self, answer: &Answer) {
        if std::mem::replace(&mut self.sent, true) {
            return;
        }
        let (status, value, stage, message): (_, &[u8], _, &str) = match answer {
            Answer::Found(value, stage) => (abi::OK, value, *stage, ""),
            Answer::NotFound => (abi::NOT_FOUND, b"", None, ""),
            Answer::Refused(message) => (abi::REFUSED, b"", None, message),
            Answer::Unavailable(message) => (abi::UNAVAILABLE, b"", None, message),
        };
        let reply = abi::Reply {
            struct_size: struct_size::<abi::Reply>(),
            status,
            stage: stage.map_or(0, stage_number),
            reserved: 0,
            value: slice(value),
            message: slice(message.as_bytes()),
        };
        // SAFETY: the plugin's function with the plugin's argument; the reply lives until it returns.
        unsafe { (self.reply)(self.ctx, &raw const reply) };
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        self.write(&Answer::Unavailable("the host is gone".to_owned()));
    }
}

fn stage_number(stage: Stage) -> u32 {
    match stage {
        Stage::Intent => abi::STAGE_INTENT,
        Stage::Done => abi::STAGE_DONE,
    }
}

/// A table of host functions. Its memory stays where it is, as long as it lives.
struct HostTable {
    raw: abi::Host,
    _ctx: Box<HostCtx>,
    _level: Arc<AtomicU32>,
}

struct HostCtx {
    double: Arc<dyn Double>,
}

impl HostTable {
    fn new(double: Arc<dyn Double>, level: Arc<AtomicU32>) -> Box<Self> {
        let ctx = Box::new(HostCtx { double });
        let raw = abi::Host {
            struct_size: struct_size::<abi::Host>(),
            abi_major: abi::ABI_MAJOR,
            abi_minor: abi::ABI_MINOR,
            flags: 0,
            ctx: ptr::from_ref(&*ctx).cast_mut().cast(),
            max_log_level: level.as_ptr(),
            log: Some(log),
            metric: Some(metric),
            kv_get: Some(kv_get),
            kv_put: Some(kv_put),
            kv_delete: Some(kv_delete),
            receipt_get: Some(receipt_get),
            receipt_put: Some(receipt_put),
            secret: Some(secret),
            emit: Some(emit),
            get_extension: Some(get_extension),
        };
        Box::new(Self {
            raw,
            _ctx: ctx,
            _level: level,
        })
    }
}

/// The double behind a host's `ctx`.
///
/// # Safety
///
/// `ctx` is of a [`HostTable`] that lives as long as `'a`.
unsafe fn double<'a>(ctx: *mut c_void) -> &'a dyn Double {
    // SAFETY: the caller vouches for it.
    let ctx = unsafe { &*ctx.cast::<HostCtx>() };
    &*ctx.double
}

/// Hands a request of the plugin's to the double.
///
/// # Safety
///
/// As for [`double`], for the duration of the call.
unsafe fn request(ctx: *mut c_void, request: Request, reply: abi::ReplyFn, reply_ctx: *mut c_void) {
    // SAFETY: the caller vouches for it.
    let double = unsafe { double(ctx) };
    double.request(request, Replier::new(reply, reply_ctx));
}

unsafe extern "C" fn log(
    ctx: *mut c_void,
    call: u64,
    level: u32,
    target: abi::Slice,
    message: abi::Slice,
    fields: abi::Slice,
) {
    // SAFETY: the table's own `ctx`; the plugin closes its side before the table goes.
    let double = unsafe { double(ctx) };
    // SAFETY: the plugin's slices, valid until this returns.
    let target = unsafe { text(target) };
    // SAFETY: as above.
    let message = unsafe { text(message) };
    // SAFETY: as above.
    double.log(call, level, target, message, unsafe { bytes(fields) });
}

unsafe extern "C" fn metric(ctx: *mut c_void, name: abi::Slice, labels: abi::Slice, value: f64) {
    // SAFETY: as in `log`.
    let double = unsafe { double(ctx) };
    // SAFETY: as in `log`.
    let name = unsafe { text(name) };
    // SAFETY: as in `log`.
    double.metric(name, unsafe { bytes(labels) }, value);
}

unsafe extern "C" fn kv_get(ctx: *mut c_void, key: abi::Slice, reply: abi::ReplyFn, reply_ctx: *mut c_void) {
    // SAFETY: as in `log`.
    let key = unsafe { text(key) };
    // SAFETY: as in `log`.
    unsafe { request(ctx, Request::KvGet(key), reply, reply_ctx) };
}

unsafe extern "C" fn kv_put(
    ctx: *mut c_void,
    key: abi::Slice,
    value: abi::Slice,
    ttl_ms: u64,
    reply: abi::ReplyFn,
    reply_ctx: *mut c_void,
) {
    // SAFETY: as in `log`.
    let key = unsafe { text(key) };
    // SAFETY: as in `log`.
    let value = unsafe { bytes(value) }.to_owned();
    let put = Request::KvPut(key, value, Duration::from_millis(ttl_ms));
    // SAFETY: as in `log`.
    unsafe { request(ctx, put, reply, reply_ctx) };
}

unsafe extern "C" fn kv_delete(
    ctx: *mut c_void,
    key: abi::Slice,
    reply: abi::ReplyFn,
    reply_ctx: *mut c_void,
) {
    // SAFETY: as in `log`.
    let key = unsafe { text(key) };
    // SAFETY: as in `log`.
    unsafe { request(ctx, Request::KvDelete(key), reply, reply_ctx) };
}

unsafe extern "C" fn receipt_get(ctx: *mut c_void, call: u64, reply: abi::ReplyFn, reply_ctx: *mut c_void) {
    // SAFETY: as in `log`.
    unsafe { request(ctx, Request::ReceiptGet(call), reply, reply_ctx) };
}

unsafe extern "C" fn receipt_put(
    ctx: *mut c_void,
    call: u64,
    stage: u32,
    body: abi::Slice,
    reply: abi::ReplyFn,
    reply_ctx: *mut c_void,
) {
    let stage = match stage {
        abi::STAGE_INTENT => Some(Stage::Intent),
        abi::STAGE_DONE => Some(Stage::Done),
        _ => None,
    };
    // SAFETY: as in `log`.
    let body = unsafe { bytes(body) }.to_owned();
    // SAFETY: as in `log`.
    unsafe { request(ctx, Request::ReceiptPut(call, stage, body), reply, reply_ctx) };
}

unsafe extern "C" fn secret(ctx: *mut c_void, name: abi::Slice, reply: abi::ReplyFn, reply_ctx: *mut c_void) {
    // SAFETY: as in `log`.
    let name = unsafe { text(name) };
    // SAFETY: as in `log`.
    unsafe { request(ctx, Request::Secret(name), reply, reply_ctx) };
}

unsafe extern "C" fn emit(
    ctx: *mut c_void,
    call: u64,
    name: abi::Slice,
    event: abi::Slice,
    reply: abi::ReplyFn,
    reply_ctx: *mut c_void,
) {
    // SAFETY: as in `log`.
    let name = unsafe { text(name) };
    // SAFETY: as in `log`.
    let event = unsafe { bytes(event) }.to_owned();
    // SAFETY: as in `log`.
    unsafe { request(ctx, Request::Emit(call, name, event), reply, reply_ctx) };
}

unsafe extern "C" fn get_extension(_ctx: *mut c_void, _id: abi::Slice) -> *const c_void {
    ptr::null()
}

/// An instance, driven through its table. Its functions with "control" in their contract block, so they belong on a thread
/// that may.
pub(crate) struct Driven {
    table: &'static abi::Plugin,
    instance: *mut abi::Instance,
    /// All calls ever made: kept, so that a `done` too many is counted and not a crash.
    calls: Mutex<Vec<Arc<CallState>>>,
    stuck: bool,
    host: Box<HostTable>,
}

// SAFETY: the ABI says that an instance may be used on any thread.
unsafe impl Send for Driven {}
// SAFETY: as above, concurrently; what is [control] takes `&mut self`.
unsafe impl Sync for Driven {}

/// Why there is no instance.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// What belongs to a call.
#[derive(Debug)]
pub(crate) struct CallParts {
    pub(crate) id: u64,
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) event: Vec<u8>,
    pub(crate) input: Vec<u8>,
    pub(crate) delivery: String,
    pub(crate) route: String,
    pub(crate) step: String,
    pub(crate) idempotency_key: String,
    pub(crate) workdir: PathBuf,
    pub(crate) traceparent: String,
}

struct CallState {
    parts: CallParts,
    cancelled: AtomicU32,
    ended: AtomicUsize,
    told: Mutex<Option<oneshot::Sender<Report>>>,
}

/// What a running call can be cancelled by.
pub(crate) struct Op {
    table: &'static abi::Plugin,
    raw: *mut abi::Op,
    state: Arc<CallState>,
}

// SAFETY: the ABI says that an op may be cancelled and released on any thread.
unsafe impl Send for Op {}
// SAFETY: as above: `cancel` may race with itself; releasing takes the value.
unsafe impl Sync for Op {}

/// The manifest of `P`, as its table describes it.
pub(crate) fn describe<P: Plugin>() -> &'static [u8] {
    let describe = table::<P>()
        .raw()
        .describe
        .expect("the SDK's tables are complete");
    // SAFETY: a function of the ABI.
    let manifest = unsafe { describe() };
    // SAFETY: the ABI says that it is static.
    unsafe { bytes(manifest) }
}

impl Driven {
    pub(crate) fn create<P: Plugin>(
        double: Arc<dyn Double>,
        level: Arc<AtomicU32>,
        name: &str,
        config: &[u8],
    ) -> Result<Self, Failure> {
        unsafe extern "C" fn fail(ctx: *mut c_void, code: u32, message: abi::Slice) {
            // SAFETY: the local below, which outlives `create`.
            let failures = unsafe { &mut *ctx.cast::<Vec<Failure>>() };
            let code = word(&CODES, code).expect("a code of the ABI");
            // SAFETY: the plugin's slice, valid until this returns.
            let message = unsafe { text(message) };
            failures.push(Failure { code, message });
        }
        let table: &'static Table = table::<P>();
        let table = table.raw();
        let host = HostTable::new(double, level);
        let mut failures: Vec<Failure> = Vec::new();
        let start = abi::Start {
            struct_size: struct_size::<abi::Start>(),
            flags: 0,
            name: slice(name.as_bytes()),
            config: slice(config),
            deadline_mono_ns: mono_ns(Instant::now() + Duration::from_secs(30)),
            fail: Some(fail),
            fail_ctx: (&raw mut failures).cast(),
        };
        let create = table.create.expect("the SDK's tables are complete");
        // SAFETY: the host lives until the instance is destroyed, `start` until `create` returns.
        let instance = unsafe { create(&raw const host.raw, &raw const start) };
        assert_eq!(
            failures.len(),
            usize::from(instance.is_null()),
            "create says exactly once why there is no instance: {failures:?}"
        );
        match failures.pop() {
            Some(failure) => Err(failure),
            None => Ok(Self {
                table,
                instance,
                calls: Mutex::default(),
                stuck: false,
                host,
            }),
        }
    }

    /// Makes a call. How it ends comes by the receiver.
    pub(crate) fn call(&self, parts: CallParts) -> (Op, oneshot::Receiver<Report>) {
        let (told, ended) = oneshot::channel();
        let state = Arc::new(CallState {
            parts,
            cancelled: AtomicU32::new(0),
            ended: AtomicUsize::new(0),
            told: Mutex::new(Some(told)),
        });
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(state.clone());
        let raw_call = state.raw();
        let call = self.table.call.expect("the SDK's tables are complete");
        // SAFETY: the instance lives; `state` keeps what the call points to, until after `done` and longer. The struct itself
        // is leaked here, since the ABI lets the plugin read it until `done`.
        let raw = unsafe { call(self.instance, Box::leak(Box::new(raw_call))) };
        let op = Op {
            table: self.table,
            raw,
            state,
        };
        (op, ended)
    }

    /// Ends the instance. Whether everything of it has ended; and how often each call has.
    pub(crate) fn shutdown(&mut self, grace: Duration) -> (bool, Vec<usize>) {
        let shutdown = self.table.shutdown.expect("the SDK's tables are complete");
        let grace = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: the instance lives.
        self.stuck = unsafe { shutdown(self.instance, grace) } != 0;
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = calls
            .iter()
            .map(|call| call.ended.load(Ordering::Acquire))
            .collect();
        (!self.stuck, counts)
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let (ended, _) = self.shutdown(Duration::ZERO);
        if ended {
            let destroy = self.table.destroy.expect("the SDK's tables are complete");
            // SAFETY: `shutdown` has returned 0. Ops may be released later here, which this SDK's ops allow.
            unsafe { destroy(self.instance) };
        } else {
            // What is stuck may still use the host: it stays for ever.
            let host = HostTable::new(self.host._ctx.double.clone(), self.host._level.clone());
            std::mem::forget(std::mem::replace(&mut self.host, host));
            std::mem::forget(std::mem::take(
                &mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner),
            ));
        }
    }
}

impl CallState {
    fn raw(self: &Arc<Self>) -> abi::Call {
        let parts = &self.parts;
        abi::Call {
            struct_size: struct_size::<abi::Call>(),
            attempt: parts.attempt,
            id: parts.id,
            deadline_mono_ns: parts.deadline.map_or(0, mono_ns),
            event: slice(&parts.event),
            input: slice(&parts.input),
            delivery: slice(parts.delivery.as_bytes()),
            route: slice(parts.route.as_bytes()),
            step: slice(parts.step.as_bytes()),
            idempotency_key: slice(parts.idempotency_key.as_bytes()),
            workdir: slice(parts.workdir.as_os_str().as_bytes()),
            traceparent: slice(parts.traceparent.as_bytes()),
            cancelled: self.cancelled.as_ptr(),
            done: Some(done),
            done_ctx: Arc::as_ptr(self).cast_mut().cast(),
        }
    }
}

unsafe extern "C" fn done(ctx: *mut c_void, result: *const abi::CallResult) {
    // SAFETY: `Driven` keeps every call's state.
    let state = unsafe { &*ctx.cast::<CallState>() };
    state.ended.fetch_add(1, Ordering::AcqRel);
    let told = state.told.lock().unwrap_or_else(PoisonError::into_inner).take();
    // SAFETY: the plugin wrote it; it lives until this returns.
    let result = unsafe { read(result) };
    if let (Some(told), Some(result)) = (told, result) {
        // SAFETY: as above, with its slices.
        let _ = told.send(unsafe { report(&result) });
    }
}

/// # Safety
///
/// The slices of `result` are valid for the duration of the call.
unsafe fn report(result: &abi::CallResult) -> Report {
    Report {
        ended: word(&ENDED, result.outcome).unwrap_or(Ended::Fatal),
        code: word(&CODES, result.code).unwrap_or(Code::None),
        retry_after: (result.retry_after_ms > 0).then(|| Duration::from_millis(result.retry_after_ms)),
        // SAFETY: the caller vouches for it.
        output: unsafe { bytes(result.output) }.to_owned(),
        // SAFETY: as above.
        message: unsafe { text(result.message) },
    }
}

impl Op {
    pub(crate) fn cancel(&self) {
        self.state.cancelled.store(1, Ordering::Relaxed);
        let cancel = self.table.op_cancel.expect("the SDK's tables are complete");
        if !self.raw.is_null() {
            // SAFETY: it is released in `drop` only.
            unsafe { cancel(self.raw) };
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.state.parts.deadline
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        let release = self.table.op_release.expect("the SDK's tables are complete");
        if !self.raw.is_null() {
            // SAFETY: what `call` returned, released once.
            unsafe { release(self.raw) };
        }
    }
}
