//! The C ABI between Jackfield and its plugins: structs and constants, no code.
//!
//! This is the mirror, field by field, of `include/jackfield_plugin.h`; a test compiles a C program against the header
//! and compares every size and offset. **The contracts are written there, once**: who owns what, how long it lives, on which
//! thread a function runs. The docs here only name things. Plugin authors in Rust want `jackfield-sdk` instead.
//!
//! Every function pointer is an `Option`, since the table may come from a library in C that left one out; whoever is
//! handed a table checks it once.
//!
//! Each struct that crosses begins with its own size, as its writer saw it; texts and bytes are [`Slice`]s, which belong to whoever
//! wrote them. What a plugin says when a call is done:
//!
//! ```
//! use jackfield_abi::{CODE_NONE, CallResult, DONE, Slice};
//!
//! let slice = |bytes: &'static [u8]| Slice { ptr: bytes.as_ptr(), len: bytes.len() };
//! let result = CallResult {
//!     struct_size: size_of::<CallResult>().try_into()?,
//!     outcome: DONE,
//!     code: CODE_NONE,
//!     reserved: 0,
//!     retry_after_ms: 0,
//!     output: slice(br#"{"greeting":"hello"}"#),
//!     message: slice(b""),
//! };
//! // On every machine that plugins are built for: a test holds it against the header.
//! assert_eq!(result.struct_size, 56);
//! # Ok::<(), std::num::TryFromIntError>(())
//! ```

use core::ffi::c_void;

/// Incompatible changes. A host refuses every other major.
pub const ABI_MAJOR: u32 = 1;
/// Additions.
pub const ABI_MINOR: u32 = 0;

/// The ELF section of the [`Note`].
pub const NOTE_SECTION: &str = ".note.jackfield";
/// The owner of the [`Note`], without its NUL.
pub const NOTE_OWNER: &str = "Jackfield";
/// The type of the [`Note`].
pub const NOTE_TYPE: u32 = 1;
/// The first bytes of an [`Ident`].
pub const MAGIC: [u8; 8] = *b"JFPLUGIN";
/// A flag of [`Ident`]: a panic aborts the process.
pub const IDENT_PANIC_ABORT: u32 = 1;
/// A flag of [`Plugin`]: `call` returns at once.
pub const PLUGIN_PROMPT: u32 = 1;
/// The one exported symbol, of type [`Entry`].
pub const ENTRY_SYMBOL: &str = "jf_plugin_entry";
/// The name under which [`Plugin::get_extension`] gives a [`Provider`].
pub const PROVIDER_1: &str = "jackfield.provider/1";

/// An outcome: it happened.
pub const DONE: u32 = 1;
/// An outcome: there was nothing to do.
pub const SKIPPED: u32 = 2;
/// An outcome: it did not happen; a later attempt may succeed.
pub const RETRY: u32 = 3;
/// An outcome: it did not happen and will not.
pub const FATAL: u32 = 4;
/// An outcome: it may have happened, and nothing can tell.
pub const AMBIGUOUS: u32 = 5;

/// A code: nothing particular.
pub const CODE_NONE: u32 = 0;
/// A code: the configuration, the input or the event is wrong.
pub const CODE_INVALID: u32 = 1;
/// A code: stopped because the host asked for it.
pub const CODE_CANCELLED: u32 = 2;
/// A code: the plugin's own fault, contained.
pub const CODE_PANIC: u32 = 3;
/// A code: this plugin cannot do that, or this host lacks what it needs.
pub const CODE_UNSUPPORTED: u32 = 4;
/// A code: the instance is being shut down.
pub const CODE_SHUTDOWN: u32 = 5;

/// A reply's status: done.
pub const OK: u32 = 0;
/// A reply's status: there is no such thing.
pub const NOT_FOUND: u32 = 1;
/// A reply's status: the request is wrong, and will be again.
pub const REFUSED: u32 = 2;
/// A reply's status: not now; later perhaps.
pub const UNAVAILABLE: u32 = 3;

/// A receipt's stage: about to act.
pub const STAGE_INTENT: u32 = 1;
/// A receipt's stage: has acted.
pub const STAGE_DONE: u32 = 2;

/// `jf_slice`: bytes that belong to somebody else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// May be anything, NULL too, where `len` is 0.
    pub ptr: *const u8,
    /// In bytes.
    pub len: usize,
}

/// `jf_ident`: who the plugin is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ident {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// The size of this struct, as the plugin saw it.
    pub ident_size: u32,
    /// [`ABI_MAJOR`], as the plugin saw it.
    pub abi_major: u32,
    /// [`ABI_MINOR`], as the plugin saw it.
    pub abi_minor: u32,
    /// [`IDENT_PANIC_ABORT`].
    pub flags: u32,
    /// The plugin's name.
    pub name: [u8; 64],
    /// The plugin's own version.
    pub version: [u8; 32],
    /// With what it was written.
    pub sdk: [u8; 32],
    /// With what it was built.
    pub toolchain: [u8; 96],
}

/// `jf_note`: the ELF note around [`Ident`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// The length of [`NOTE_OWNER`] with its NUL.
    pub namesz: u32,
    /// The size of [`Ident`].
    pub descsz: u32,
    /// [`NOTE_TYPE`].
    pub kind: u32,
    /// [`NOTE_OWNER`], padded with NULs.
    pub name: [u8; 12],
    /// Who the plugin is.
    pub desc: Ident,
}

/// `jf_result`: how a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CallResult {
    /// As its writer saw it.
    pub struct_size: u32,
    /// [`DONE`], [`SKIPPED`], [`RETRY`], [`FATAL`] or [`AMBIGUOUS`].
    pub outcome: u32,
    /// [`CODE_NONE`] and the like.
    pub code: u32,
    /// 0.
    pub reserved: u32,
    /// With [`RETRY`]: the least time to wait, in milliseconds; 0 where it does not matter.
    pub retry_after_ms: u64,
    /// One JSON value, or empty.
    pub output: Slice,
    /// For people.
    pub message: Slice,
}

/// Receives how a call ended.
pub type DoneFn = unsafe extern "C" fn(done_ctx: *mut c_void, result: *const CallResult);

/// `jf_call`: one call of an instance, for one attempt at one step of a delivery.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// As its writer saw it.
    pub struct_size: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Names this call to the functions of [`Host`].
    pub id: u64,
    /// `CLOCK_MONOTONIC`; 0 for none.
    pub deadline_mono_ns: u64,
    /// The event, JSON.
    pub event: Slice,
    /// The rendered `with`, JSON.
    pub input: Slice,
    /// The delivery's id.
    pub delivery: Slice,
    /// The route's name.
    pub route: Slice,
    /// The step's id.
    pub step: Slice,
    /// The same for every attempt.
    pub idempotency_key: Slice,
    /// Where files may be left, once it is made.
    pub workdir: Slice,
    /// W3C trace context, or empty.
    pub traceparent: Slice,
    /// Live: not 0 once the call should end.
    pub cancelled: *const u32,
    /// Ends the call, exactly once.
    pub done: Option<DoneFn>,
    /// The first argument of `done`.
    pub done_ctx: *mut c_void,
}

/// `jf_reply`: the answer to a host call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// As its writer saw it.
    pub struct_size: u32,
    /// [`OK`], [`NOT_FOUND`], [`REFUSED`] or [`UNAVAILABLE`].
    pub status: u32,
    /// Of a receipt: [`STAGE_INTENT`] or [`STAGE_DONE`]; else 0.
    pub stage: u32,
    /// 0.
    pub reserved: u32,
    /// What was asked for.
    pub value: Slice,
    /// What went wrong.
    pub message: Slice,
}

/// Receives the answer to one host call.
pub type ReplyFn = unsafe extern "C" fn(reply_ctx: *mut c_void, reply: *const Reply);

/// `jf_host.log`.
pub type LogFn = unsafe extern "C" fn(
    ctx: *mut c_void,
    call: u64,
    level: u32,
    target: Slice,
    message: Slice,
    fields: Slice,
);
/// `jf_host.metric`.
pub type MetricFn = unsafe extern "C" fn(ctx: *mut c_void, name: Slice, labels: Slice, value: f64);
/// `jf_host.kv_get`, `kv_delete` and `secret`: a request that has but a key.
pub type KeyFn = unsafe extern "C" fn(ctx: *mut c_void, key: Slice, reply: ReplyFn, reply_ctx: *mut c_void);
/// `jf_host.kv_put`.
pub type KvPutFn = unsafe extern "C" fn(
    ctx: *mut c_void,
    key: Slice,
    value: Slice,
    ttl_ms: u64,
    reply: ReplyFn,
    reply_ctx: *mut c_void,
);
/// `jf_host.receipt_get`.
pub type ReceiptGetFn =
    unsafe extern "C" fn(ctx: *mut c_void, call: u64, reply: ReplyFn, reply_ctx: *mut c_void);
/// `jf_host.receipt_put`.
pub type ReceiptPutFn = unsafe extern "C" fn(
    ctx: *mut c_void,
    call: u64,
    stage: u32,
    body: Slice,
    reply: ReplyFn,
    reply_ctx: *mut c_void,
);
/// `jf_host.emit`.
pub type EmitFn = unsafe extern "C" fn(
    ctx: *mut c_void,
    call: u64,
    name: Slice,
    event: Slice,
    reply: ReplyFn,
    reply_ctx: *mut c_void,
);

/// `jf_host`: what the host does for one instance.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// As its writer saw it.
    pub struct_size: u32,
    /// [`ABI_MAJOR`].
    pub abi_major: u32,
    /// [`ABI_MINOR`].
    pub abi_minor: u32,
    /// 0.
    pub flags: u32,
    /// The first argument of every function.
    pub ctx: *mut c_void,
    /// Live: 0 nothing, 1 error … 5 trace.
    pub max_log_level: *const u32,
    /// Logs one message.
    pub log: Option<LogFn>,
    /// Adds to a counter.
    pub metric: Option<MetricFn>,
    /// Reads a key.
    pub kv_get: Option<KeyFn>,
    /// Writes a key.
    pub kv_put: Option<KvPutFn>,
    /// Deletes a key.
    pub kv_delete: Option<KeyFn>,
    /// Reads the step's receipt.
    pub receipt_get: Option<ReceiptGetFn>,
    /// Keeps the step's receipt.
    pub receipt_put: Option<ReceiptPutFn>,
    /// Resolves a secret.
    pub secret: Option<KeyFn>,
    /// Raises a follow-up event.
    pub emit: Option<EmitFn>,
    /// A table of further functions by name, or NULL.
    pub get_extension: Option<unsafe extern "C" fn(ctx: *mut c_void, id: Slice) -> *const c_void>,
}

/// `jf_instance`: of the plugin's own making.
#[repr(C)]
#[derive(Debug)]
pub struct Instance {
    _opaque: [u8; 0],
}

/// `jf_op`: of the plugin's own making.
#[repr(C)]
#[derive(Debug)]
pub struct Op {
    _opaque: [u8; 0],
}

/// Says why there is no instance.
pub type FailFn = unsafe extern "C" fn(fail_ctx: *mut c_void, code: u32, message: Slice);

/// `jf_start`: with what an instance starts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// As its writer saw it.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// The instance's name.
    pub name: Slice,
    /// Its configuration, JSON.
    pub config: Slice,
    /// `CLOCK_MONOTONIC`; 0 for none.
    pub deadline_mono_ns: u64,
    /// Says why there is no instance.
    pub fail: Option<FailFn>,
    /// The first argument of `fail`.
    pub fail_ctx: *mut c_void,
}

/// `jf_plugin`: what a plugin does for the host.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// As its writer saw it.
    pub struct_size: u32,
    /// [`ABI_MAJOR`].
    pub abi_major: u32,
    /// [`ABI_MINOR`].
    pub abi_minor: u32,
    /// [`PLUGIN_PROMPT`].
    pub flags: u32,
    /// As in the note.
    pub name: Slice,
    /// As in the note.
    pub version: Slice,
    /// The manifest.
    pub describe: Option<unsafe extern "C" fn() -> Slice>,
    /// Makes an instance.
    pub create: Option<unsafe extern "C" fn(host: *const Host, start: *const Start) -> *mut Instance>,
    /// Takes on one call.
    pub call: Option<unsafe extern "C" fn(instance: *mut Instance, call: *const Call) -> *mut Op>,
    /// Asks a call to end soon.
    pub op_cancel: Option<unsafe extern "C" fn(op: *mut Op)>,
    /// The last touch of an op.
    pub op_release: Option<unsafe extern "C" fn(op: *mut Op)>,
    /// Ends an instance.
    pub shutdown: Option<unsafe extern "C" fn(instance: *mut Instance, grace_ms: u32) -> u32>,
    /// Frees an instance.
    pub destroy: Option<unsafe extern "C" fn(instance: *mut Instance)>,
    /// A table of further functions by name, or NULL.
    pub get_extension: Option<unsafe extern "C" fn(id: Slice) -> *const c_void>,
}

/// `jf_plugin_entry`: the one exported function.
pub type Entry = unsafe extern "C" fn(host_major: u32, host_minor: u32) -> *const Plugin;

/// `jf_request`: one request for a source whose provider is the instance.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// As its writer saw it.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Names this request to [`Host::log`].
    pub id: u64,
    /// `CLOCK_MONOTONIC`; 0 for none.
    pub deadline_mono_ns: u64,
    /// Headers and what is configured, JSON.
    pub head: Slice,
    /// Byte for byte as it came.
    pub body: Slice,
    /// Live: not 0 once the request should end.
    pub cancelled: *const u32,
    /// Ends the request with a verdict, exactly once.
    pub done: Option<DoneFn>,
    /// The first argument of `done`.
    pub done_ctx: *mut c_void,
}

/// `jf_provider`: what a plugin that brings a provider does besides.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// As its writer saw it.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Takes on one request.
    pub receive: Option<unsafe extern "C" fn(instance: *mut Instance, request: *const Request) -> *mut Op>,
}
