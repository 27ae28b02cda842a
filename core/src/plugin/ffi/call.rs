//! One call of an instance, from the host's side: what the plugin may read, until it says that it is done.

use std::{
    ffi::c_void,
    fmt,
    os::unix::ffi::OsStrExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use jackfield_abi as abi;
use tokio::sync::oneshot;

use super::{
    handles::{Handles, from_context, to_context},
    host::Bridge,
    library::Library,
    memory,
};
use crate::plugin::{
    StepCall,
    report::{Ended, Output},
    work::Work,
};

/// The calls that plugins are at work on. One that never ends stays for ever, since its plugin may still read it.
pub(super) static CALLS: Handles<Call> = Handles::new();

/// How often a plugin ended a call that was not running.
static STRAY: AtomicUsize = AtomicUsize::new(0);

/// How often plugins in this process ended calls that were not, or no longer, running.
pub(in crate::plugin) fn stray_ends() -> usize {
    STRAY.load(Ordering::Relaxed)
}

/// One call. It is kept in [`CALLS`] until `done`.
pub(super) struct Call {
    handle: usize,
    pub(super) bridge: Arc<Bridge>,
    pub(super) work: Work,
    /// Where log lines of the call belong.
    pub(super) span: tracing::Span,
    delivery: String,
    cancelled: AtomicU32,
    /// Whether the host has given up waiting.
    stuck: AtomicBool,
    /// Who waits for the end; taken by the first `done`. A leaf lock.
    ended: Mutex<Option<oneshot::Sender<Ended>>>,
    /// Held over `op_cancel` and `op_release`, so that neither follows the other by mistake. `done` does not take it.
    op: Mutex<Op>,
    /// What the plugin sees; it points to what lies beside it.
    seen: OnceLock<Seen>,
}

enum Seen {
    Step(abi::Call),
    Request(abi::Request),
}

// SAFETY: it points only into the `Call` that it is part of, to what is never written, or atomically.
unsafe impl Send for Seen {}
// SAFETY: as above.
unsafe impl Sync for Seen {}

/// What the plugin gave us to take hold of a call.
// Starting => (Held | Released)
// Held => Released
enum Op {
    /// The plugin's `call` has not returned.
    Starting,
    /// It can be canceled.
    Held(*mut abi::Op),
    /// It is not ours any more.
    Released,
}

// SAFETY: the ABI says that an op may be used on any thread, and the lock around it sees to the order.
unsafe impl Send for Op {}

impl Call {
    /// Makes a call ready; the receiver hears how it ended.
    pub(super) fn new(
        work: Work,
        bridge: Arc<Bridge>,
        deadline: u64,
    ) -> (Arc<Self>, oneshot::Receiver<Ended>) {
        let (sender, receiver) = oneshot::channel();
        let call = Arc::new(Self {
            handle: CALLS.next(),
            bridge,
            delivery: work.delivery(),
            work,
            span: tracing::Span::current(),
            cancelled: AtomicU32::new(0),
            stuck: AtomicBool::new(false),
            ended: Mutex::new(Some(sender)),
            op: Mutex::new(Op::Starting),
            seen: OnceLock::new(),
        });
        call.seen.get_or_init(|| call.view(deadline));
        (call, receiver)
    }

    fn view(&self, deadline_mono_ns: u64) -> Seen {
        let id = u64::try_from(self.handle).expect("handles are counted up from 1");
        match &self.work {
            Work::Step(step) => Seen::Step(self.view_step(step, id, deadline_mono_ns)),
            Work::Request(request) => Seen::Request(abi::Request {
                struct_size: abi_size::<abi::Request>(),
                flags: 0,
                id,
                deadline_mono_ns,
                head: memory::lend(&request.head),
                body: memory::lend(&request.body),
                cancelled: self.cancelled.as_ptr().cast_const(),
                done: Some(done),
                done_ctx: to_context(self.handle),
            }),
        }
    }

    fn view_step(&self, step: &StepCall, id: u64, deadline_mono_ns: u64) -> abi::Call {
        abi::Call {
            struct_size: abi_size::<abi::Call>(),
            attempt: step.attempt,
            id,
            deadline_mono_ns,
            event: memory::lend(&step.event),
            input: memory::lend(&step.input),
            delivery: memory::lend(self.delivery.as_bytes()),
            route: memory::lend(step.route.as_bytes()),
            step: memory::lend(step.step.as_bytes()),
            idempotency_key: memory::lend(step.idempotency_key.as_bytes()),
            workdir: memory::lend(step.workdir.as_os_str().as_bytes()),
            traceparent: memory::lend(b""),
            cancelled: self.cancelled.as_ptr().cast_const(),
            done: Some(done),
            done_ctx: to_context(self.handle),
        }
    }

    /// Hands the call to the plugin. Returns when the plugin has taken it on, which is soon, or should be.
    pub(super) fn begin(self: &Arc<Self>, library: &Library, instance: *mut abi::Instance) {
        let seen = self.seen.get().expect("it is set by `new`");
        CALLS.keep(self.handle, Arc::clone(self));
        let op = match seen {
            // SAFETY: the caller has made sure that the instance lives and is not being shut down; the call, and what it
            // points to, is kept by `CALLS` until `done`.
            Seen::Step(call) => unsafe { (library.call)(instance, call) },
            Seen::Request(request) => {
                let receive = library.receive.expect("requests are given to providers alone");
                // SAFETY: as above.
                unsafe { receive(instance, request) }
            }
        };
        let mut slot = self.op();
        match *slot {
            Op::Starting => {
                *slot = Op::Held(op);
                // It was asked to end before there was anything to take hold of.
                if self.is_cancelled() {
                    cancel(library, &slot);
                }
            }
            Op::Held(_) | Op::Released => {
                *slot = Op::Held(op);
                cancel(library, &slot);
                release(library, &mut slot);
            }
        }
    }

    /// Asks the plugin to end the call.
    pub(super) fn cancel(&self, library: &Library) {
        self.cancelled.store(1, Ordering::Relaxed);
        cancel(library, &self.op());
    }

    /// Lets go of the call; the plugin still ends it, some time.
    pub(super) fn release(&self, library: &Library) {
        release(library, &mut self.op());
    }

    /// Notes that nobody waits for the end any more; `false` where the plugin has ended the call.
    pub(super) fn give_up(&self) -> bool {
        // Under the lock of `done`, so that a call is counted as stuck, and not counted any more, in this order.
        let waiting = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_some() {
            self.stuck.store(true, Ordering::Relaxed);
            self.bridge.stuck.fetch_add(1, Ordering::Relaxed);
        }
        waiting.is_some()
    }

    /// Whether the host wants it to end.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) != 0
    }

    fn op(&self) -> MutexGuard<'_, Op> {
        self.op.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits how it ended; only the first end counts.
    pub(super) fn end(&self, ended: Ended) {
        let mut waiting = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waiter = waiting.take();
        if self.stuck.load(Ordering::Relaxed) {
            self.bridge.stuck.fetch_sub(1, Ordering::Relaxed);
        }
        drop(waiting);
        if let Some(waiter) = waiter
            && waiter.send(ended).is_err()
        {
            tracing::debug!(parent: &self.span, instance = self.bridge.instance, "plugin call ended after it was given up");
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("handle", &self.handle)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

/// The live call that a plugin names by its id, if it is one of `bridge`'s.
pub(super) fn find(id: u64, bridge: &Bridge) -> Option<Arc<Call>> {
    let call = CALLS.get(usize::try_from(id).ok()?)?;
    std::ptr::eq(Arc::as_ptr(&call.bridge), bridge).then_some(call)
}

/// The size of a struct of ours, as the ABI writes it.
pub(super) fn abi_size<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("the structs of the ABI have a few dozen bytes")
}

fn cancel(library: &Library, op: &Op) {
    if let Op::Held(op) = *op
        && !op.is_null()
    {
        // SAFETY: the plugin gave the op and it has not been released; the lock is held, so it is not meanwhile.
        unsafe { (library.op_cancel)(op) };
    }
}

fn release(library: &Library, slot: &mut Op) {
    if let Op::Held(op) = std::mem::replace(slot, Op::Released)
        && !op.is_null()
    {
        // SAFETY: the plugin gave the op, and the slot says from now on that it is released.
        unsafe { (library.op_release)(op) };
    }
}

/// `jf_call.done`.
unsafe extern "C" fn done(context: *mut c_void, result: *const abi::CallResult) {
    // SAFETY: the ABI says that `result` is valid until this returns.
    let ended = unsafe { read(result) };
    contain(|| match CALLS.take(from_context(context)) {
        Some(call) => call.end(ended),
        None => {
            STRAY.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                call = from_context(context),
                "plugin ended a call that is not, or no longer, running"
            );
        }
    });
}

/// Runs what a plugin called, and keeps a panic in it from leaving through the plugin's code. The panic has been
/// reported by the hook; whoever waits finds the channel closed.
pub(super) fn contain(work: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

/// Copies what the plugin says; what cannot be read becomes an outcome that there is not, with the reason.
///
/// # Safety
/// The result is valid, as the ABI says.
unsafe fn read(result: *const abi::CallResult) -> Ended {
    // SAFETY: as the caller says.
    match unsafe { memory::read(result) } {
        Ok(result) => Ended {
            outcome: result.outcome,
            code: result.code,
            retry_after_ms: result.retry_after_ms,
            // SAFETY: the result's slices are valid as long as it is, and copied here.
            output: Output::copied(unsafe { memory::bytes(result.output) }),
            // SAFETY: as above.
            message: unsafe { memory::text(result.message) },
        },
        Err(error) => Ended {
            message: format!("its result cannot be read: {error}"),
            ..Ended::default()
        },
    }
}
