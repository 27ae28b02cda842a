//! A table of host functions over a safe trait.

use std::{
    ffi::c_void,
    ptr,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use jackfield_abi as abi;

use crate::ffi::{Stage, bytes, slice, struct_size, text};

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
pub(super) struct HostTable {
    pub(super) raw: abi::Host,
    _ctx: Box<HostCtx>,
    _level: Arc<AtomicU32>,
}

struct HostCtx {
    double: Arc<dyn Double>,
}

impl HostTable {
    pub(super) fn new(double: Arc<dyn Double>, level: Arc<AtomicU32>) -> Box<Self> {
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
