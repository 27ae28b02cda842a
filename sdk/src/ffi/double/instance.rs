//! An instance, driven through its table.

use std::{
    ffi::c_void,
    mem::ManuallyDrop,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jackfield_abi as abi;
use tokio::{sync::oneshot, time::Instant};

use super::host::{Double, HostTable};
use crate::{
    Plugin,
    call::{Code, Ended, Report},
    ffi::{CODES, ENDED, bytes, call::mono_ns, read, slice, struct_size, table::table, text, word},
    probe::{self, Probe},
};

/// An instance, driven through its table. Its functions with "control" in their contract block, so they belong on a thread
/// that may.
pub(crate) struct Driven {
    table: &'static abi::Plugin,
    instance: *mut abi::Instance,
    /// All calls ever made: kept, so that a `done` too many is counted and not a crash.
    calls: ManuallyDrop<Mutex<Vec<Arc<CallState>>>>,
    host: ManuallyDrop<Box<HostTable>>,
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
        probe: Arc<dyn Probe>,
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
        let table = table::<P>().raw();
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
        let instance = probe::offer(probe, || unsafe { create(&raw const host.raw, &raw const start) });
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
                calls: ManuallyDrop::default(),
                host: ManuallyDrop::new(host),
            }),
        }
    }

    /// Makes a call. How it ends comes by the receiver.
    pub(crate) fn call(&self, parts: CallParts) -> (Op, oneshot::Receiver<Report>) {
        let call = self.table.call.expect("the SDK's tables are complete");
        self.begin(parts, |state| {
            // SAFETY: the instance lives; `state` keeps what the call points to, until after `done` and longer. The struct
            // itself is leaked here, since the ABI lets the plugin read it until `done`.
            unsafe { call(self.instance, Box::leak(Box::new(state.raw()))) }
        })
    }

    /// Hands a request to the plugin, which must be a provider: its head for an event, its body for an input.
    pub(crate) fn receive(&self, parts: CallParts) -> (Op, oneshot::Receiver<Report>) {
        let get_extension = self.table.get_extension.expect("the SDK's tables are complete");
        // SAFETY: a function of the ABI, with a static text.
        let provider = unsafe { get_extension(slice(abi::PROVIDER_1.as_bytes())) }.cast::<abi::Provider>();
        // SAFETY: the ABI says that it is static, and one of these.
        let provider = unsafe { provider.as_ref() }.expect("the plugin is a provider");
        let receive = provider.receive.expect("the SDK's tables are complete");
        self.begin(parts, |state| {
            // SAFETY: as for a call.
            unsafe { receive(self.instance, Box::leak(Box::new(state.raw_request()))) }
        })
    }

    fn begin(
        &self,
        parts: CallParts,
        hand_over: impl FnOnce(&Arc<CallState>) -> *mut abi::Op,
    ) -> (Op, oneshot::Receiver<Report>) {
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
        let raw = hand_over(&state);
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
        let ended = unsafe { shutdown(self.instance, grace) } == 0;
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = calls
            .iter()
            .map(|call| call.ended.load(Ordering::Acquire))
            .collect();
        (ended, counts)
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let (ended, _) = self.shutdown(Duration::ZERO);
        if !ended {
            // What is stuck may still use the host and the calls: they stay for ever.
            return;
        }
        let destroy = self.table.destroy.expect("the SDK's tables are complete");
        // SAFETY: `shutdown` has returned 0. Ops may be released later here, which this SDK's ops allow.
        unsafe { destroy(self.instance) };
        // SAFETY: the instance is gone, so nobody uses the host; it is not used below.
        unsafe { ManuallyDrop::drop(&mut self.host) };
        // SAFETY: every call has ended; as above.
        unsafe { ManuallyDrop::drop(&mut self.calls) };
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

    fn raw_request(self: &Arc<Self>) -> abi::Request {
        let call = self.raw();
        abi::Request {
            struct_size: struct_size::<abi::Request>(),
            flags: 0,
            id: call.id,
            deadline_mono_ns: call.deadline_mono_ns,
            head: call.event,
            body: call.input,
            cancelled: call.cancelled,
            done: call.done,
            done_ctx: call.done_ctx,
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

    /// How often the plugin has said that the call has ended.
    pub(crate) fn times_ended(&self) -> usize {
        self.state.ended.load(Ordering::Acquire)
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
