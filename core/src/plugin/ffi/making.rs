//! The making of an instance: on a thread that the plugin may block, and with a refusal in words.

use std::{
    ffi::c_void,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jackfield_abi as abi;
use tokio::sync::oneshot;

use super::{
    call::{abi_size, contain},
    handles::{Handles, from_context, to_context},
    host::Bridge,
    library::Library,
    memory,
};

/// An instance, as the plugin knows it.
#[derive(Clone, Copy)]
pub(super) struct Pointer(pub(super) *mut abi::Instance);

// SAFETY: an instance may be used on any thread; its making and its end are not concurrent with anything else, which
// `ending` and `handing` see to.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The plugin says no.
    #[error("the plugin refuses to start: {message}")]
    Refused {
        /// The ABI's code for it.
        code: u32,
        /// In the plugin's words.
        message: String,
    },
    /// The plugin says neither yes nor no.
    #[error("the plugin gave no instance and no reason, which the ABI requires")]
    Silent,
    /// It takes too long.
    #[error("the plugin did not start within {0:?}")]
    TimedOut(Duration),
    /// There is no thread to make it on.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
}

/// The making of an instance.
pub(super) struct Making {
    pub(super) library: Library,
    pub(super) bridge: Arc<Bridge>,
    pub(super) name: String,
    /// JSON, unless it is to be seen what the plugin does with something else.
    pub(super) config: Vec<u8>,
    /// On the monotonic clock, in nanoseconds.
    pub(super) deadline: u64,
}

/// What a plugin says instead of an instance.
type Refusal = Mutex<Option<(u32, String)>>;

/// The instances that are being made.
static MAKINGS: Handles<Refusal> = Handles::new();

impl Making {
    /// Makes it, and hands it over; ends it again where nobody waits any more.
    pub(super) fn run(self, sender: oneshot::Sender<Result<Pointer, CreateError>>) {
        let made = self.make();
        if made.is_err() {
            self.bridge.forget();
        }
        if let Err(Ok(Pointer(instance))) = sender.send(made) {
            // Nobody waited so long. It never had a call.
            // SAFETY: it has just been made, and nobody else knows it.
            if unsafe { (self.library.shutdown)(instance, 0) } == 0 {
                // SAFETY: it has been shut down, and there are no ops.
                unsafe { (self.library.destroy)(instance) };
                self.bridge.forget();
            }
        }
    }

    fn make(&self) -> Result<Pointer, CreateError> {
        let handle = MAKINGS.next();
        let refusal = Arc::new(Mutex::new(None));
        MAKINGS.keep(handle, Arc::clone(&refusal));
        let start = abi::Start {
            struct_size: abi_size::<abi::Start>(),
            flags: 0,
            name: memory::lend(self.name.as_bytes()),
            config: memory::lend(&self.config),
            deadline_mono_ns: self.deadline,
            fail: Some(fail),
            fail_ctx: to_context(handle),
        };
        let host = self.bridge.table();
        // SAFETY: the table is never freed, and the start lives until this returns, as the ABI asks.
        let instance = unsafe { (self.library.create)(host, &raw const start) };
        drop(MAKINGS.take(handle));
        if !instance.is_null() {
            return Ok(Pointer(instance));
        }
        let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(
            refusal.map_or(CreateError::Silent, |(code, message)| CreateError::Refused {
                code,
                message,
            }),
        )
    }
}

/// `jf_start.fail`.
unsafe extern "C" fn fail(context: *mut c_void, code: u32, message: abi::Slice) {
    // SAFETY: the ABI says that the message is valid until this returns; the text is a copy.
    let message = unsafe { memory::text(message) };
    contain(|| {
        if let Some(refusal) = MAKINGS.get(from_context(context)) {
            *refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, message));
        }
    });
}
