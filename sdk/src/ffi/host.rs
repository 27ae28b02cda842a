//! The host, as an instance may use it.

use std::{
    collections::HashMap,
    ffi::c_void,
    fmt, ptr,
    sync::{
        LazyLock, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use jackfield_abi as abi;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{bytes, read, slice, text, understands};
use crate::{
    Secret,
    error::{Error, Result},
    panic::contain,
};

/// The host's functions. They can be asked for at any time, on any thread; after [`close`](Self::close) the answer is that
/// the instance is gone, and nothing of the host is touched.
pub(crate) struct Host {
    /// Held for reading while one of the host's functions runs, which never waits; and for writing only to close.
    table: RwLock<Option<Functions>>,
}

/// How far a step got, in a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Intent,
    Done,
}

/// The answer to a request, copied.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u32,
    reply: Reply,
}

/// What an answer carries.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) value: Vec<u8>,
    pub(crate) stage: Option<Stage>,
    message: String,
}

/// The host's table, with every function there.
#[derive(Clone, Copy)]
struct Functions {
    ctx: *mut c_void,
    max_log_level: *const u32,
    log: abi::LogFn,
    metric: abi::MetricFn,
    kv_get: abi::KeyFn,
    kv_put: abi::KvPutFn,
    kv_delete: abi::KeyFn,
    receipt_get: abi::ReceiptGetFn,
    receipt_put: abi::ReceiptPutFn,
    secret: abi::KeyFn,
    emit: abi::EmitFn,
}

// SAFETY: the ABI says that all of the host's functions may be called on any thread, with its `ctx`.
unsafe impl Send for Functions {}
// SAFETY: as above, concurrently.
unsafe impl Sync for Functions {}

impl Host {
    /// Takes the host's table, or says what is wrong with it.
    ///
    /// # Safety
    ///
    /// `host` is what the host passed to `jf_plugin.create`. The value is closed before `destroy` returns, or `create`
    /// returns NULL.
    pub(super) unsafe fn accept(host: *const abi::Host) -> Result<Self, String> {
        let ours = format!("{}.{}", abi::ABI_MAJOR, abi::ABI_MINOR);
        // SAFETY: the host wrote it.
        let Some(table) = (unsafe { read(host) }) else {
            return Err(format!(
                "the table of the router's functions is missing, or shorter than that of ABI {}.0: {REMEDY}",
                abi::ABI_MAJOR
            ));
        };
        let (major, minor) = (table.abi_major, table.abi_minor);
        if !understands(major) {
            return Err(format!(
                "this plugin was built for ABI {ours}, the router speaks {major}.{minor}: {REMEDY}"
            ));
        }
        let functions = Functions::complete(&table)
            .map_err(|missing| format!("the router has no `{missing}`, which ABI {ours} has: {REMEDY}"))?;
        Ok(Self {
            table: RwLock::new(Some(functions)),
        })
    }

    /// Lets go of the host. Waits for functions of the host that run at this moment.
    pub(crate) fn close(&self) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn with<T>(&self, work: impl FnOnce(&Functions) -> T) -> Option<T> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.as_ref().map(work)
    }

    pub(crate) fn max_log_level(&self) -> u32 {
        self.with(Functions::max_log_level).unwrap_or(0)
    }

    pub(crate) fn log(&self, call: u64, level: u32, target: &str, message: &str, fields: &str) {
        let (target, message, fields) = (
            slice(target.as_bytes()),
            slice(message.as_bytes()),
            slice(fields.as_bytes()),
        );
        // SAFETY: the host's function with the host's `ctx`; the slices live until it returns.
        self.with(|host| unsafe { (host.log)(host.ctx, call, level, target, message, fields) });
    }

    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: serde_json::Map<_, _> = labels
            .iter()
            .map(|&(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            Value::from(labels).to_string()
        };
        // SAFETY: as above.
        self.with(|host| unsafe {
            (host.metric)(host.ctx, slice(name.as_bytes()), slice(labels.as_bytes()), value)
        });
    }

    pub(crate) async fn kv_get(&self, key: &str) -> Answer {
        // SAFETY: as above; the reply goes to `reply` with its ticket, whenever it comes.
        self.request(|host, ticket| unsafe { (host.kv_get)(host.ctx, slice(key.as_bytes()), reply, ticket) })
            .await
    }

    pub(crate) async fn kv_put(&self, key: &str, value: &[u8], ttl_ms: u64) -> Answer {
        let put = |host: &Functions, ticket| {
            // SAFETY: as above.
            unsafe {
                (host.kv_put)(
                    host.ctx,
                    slice(key.as_bytes()),
                    slice(value),
                    ttl_ms,
                    reply,
                    ticket,
                )
            }
        };
        self.request(put).await
    }

    pub(crate) async fn kv_delete(&self, key: &str) -> Answer {
        // SAFETY: as above.
        self.request(|host, ticket| unsafe {
            (host.kv_delete)(host.ctx, slice(key.as_bytes()), reply, ticket)
        })
        .await
    }

    pub(crate) async fn receipt_get(&self, call: u64) -> Answer {
        // SAFETY: as above.
        self.request(|host, ticket| unsafe { (host.receipt_get)(host.ctx, call, reply, ticket) })
            .await
    }

    pub(crate) async fn receipt_put(&self, call: u64, stage: Stage, body: &[u8]) -> Answer {
        let stage = match stage {
            Stage::Intent => abi::STAGE_INTENT,
            Stage::Done => abi::STAGE_DONE,
        };
        // SAFETY: as above.
        self.request(|host, ticket| unsafe {
            (host.receipt_put)(host.ctx, call, stage, slice(body), reply, ticket)
        })
        .await
    }

    pub(crate) async fn secret(&self, name: &str) -> Answer {
        // SAFETY: as above.
        self.request(|host, ticket| unsafe { (host.secret)(host.ctx, slice(name.as_bytes()), reply, ticket) })
            .await
    }

    pub(crate) async fn emit(&self, call: u64, name: &str, event: &[u8]) -> Answer {
        let emit = |host: &Functions, ticket| {
            // SAFETY: as above.
            unsafe {
                (host.emit)(
                    host.ctx,
                    call,
                    slice(name.as_bytes()),
                    slice(event),
                    reply,
                    ticket,
                )
            }
        };
        self.request(emit).await
    }

    /// Makes a request and waits for its reply.
    async fn request(&self, start: impl FnOnce(&Functions, *mut c_void)) -> Answer {
        let (ticket, answer) = Ticket::new();
        if self
            .with(|host| start(host, ptr::without_provenance_mut(ticket.0)))
            .is_none()
        {
            return Answer::failed("the instance has been shut down");
        }
        answer
            .await
            .unwrap_or_else(|_| Answer::failed("the host gave no answer"))
    }
}

impl Functions {
    /// All of them; or the name of one that is missing.
    fn complete(table: &abi::Host) -> Result<Self, &'static str> {
        Ok(Self {
            ctx: table.ctx,
            max_log_level: table.max_log_level,
            log: table.log.ok_or("log")?,
            metric: table.metric.ok_or("metric")?,
            kv_get: table.kv_get.ok_or("kv_get")?,
            kv_put: table.kv_put.ok_or("kv_put")?,
            kv_delete: table.kv_delete.ok_or("kv_delete")?,
            receipt_get: table.receipt_get.ok_or("receipt_get")?,
            receipt_put: table.receipt_put.ok_or("receipt_put")?,
            secret: table.secret.ok_or("secret")?,
            emit: table.emit.ok_or("emit")?,
        })
    }

    fn max_log_level(&self) -> u32 {
        if self.max_log_level.is_null() {
            return u32::MAX;
        }
        // SAFETY: the ABI says that it is valid as long as the host, and is only accessed atomically.
        let level = unsafe { AtomicU32::from_ptr(self.max_log_level.cast_mut()) };
        level.load(Ordering::Relaxed)
    }
}

/// The number under which the other end of a request waits. The host holds the number, not a pointer: a host that replied
/// twice, or after everybody has gone, would find nothing instead of freed memory.
struct Ticket(usize);

static WAITING: LazyLock<Mutex<HashMap<usize, oneshot::Sender<Answer>>>> = LazyLock::new(Mutex::default);

impl Ticket {
    fn new() -> (Self, oneshot::Receiver<Answer>) {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (answer, wait) = oneshot::channel();
        WAITING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, answer);
        (Self(number), wait)
    }

    fn redeem(number: usize) -> Option<oneshot::Sender<Answer>> {
        WAITING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number)
    }
}

/// A ticket whose request could not be made, or is no longer waited for, must not stay: but the host still holds its number, and
/// may reply at any time. Both are right, since a redeemed ticket is merely not found.
impl Drop for Ticket {
    fn drop(&mut self) {
        Self::redeem(self.0);
    }
}

/// Where the host's replies arrive.
unsafe extern "C" fn reply(ticket: *mut c_void, reply: *const abi::Reply) {
    // A panic here has nobody to go to.
    let _ = contain(|| {
        let Some(waiting) = Ticket::redeem(ticket.addr()) else {
            return;
        };
        // SAFETY: the host wrote it; it lives until this function returns.
        let answer = match unsafe { read(reply) } {
            // SAFETY: as above, with its slices.
            Some(raw) => unsafe { Answer::read(&raw) },
            None => Answer::failed("the host's reply is missing or too short"),
        };
        // Nobody may be waiting any longer.
        let _ = waiting.send(answer);
    });
}

impl Answer {
    /// # Safety
    ///
    /// The slices of `raw` are valid for the duration of the call.
    unsafe fn read(raw: &abi::Reply) -> Self {
        // SAFETY: the caller vouches for it.
        let value = unsafe { bytes(raw.value) }.to_owned();
        // SAFETY: as above.
        let message = unsafe { text(raw.message) };
        let stage = match raw.stage {
            abi::STAGE_INTENT => Some(Stage::Intent),
            abi::STAGE_DONE => Some(Stage::Done),
            _ => None,
        };
        Self {
            status: raw.status,
            reply: Reply {
                value,
                stage,
                message,
            },
        }
    }

    fn failed(message: &str) -> Self {
        Self {
            status: abi::UNAVAILABLE,
            reply: Reply {
                value: Vec::new(),
                stage: None,
                message: message.to_owned(),
            },
        }
    }

    /// What was asked for, or the error with what was being done in front.
    pub(crate) fn ok(self, doing: impl Fn() -> String) -> Result<Reply> {
        let found = self.found(&doing)?;
        found.ok_or_else(|| Error::fatal("the host knows of no such thing").context(doing()))
    }

    /// The same where it is no error that there is nothing.
    pub(crate) fn found(self, doing: impl Fn() -> String) -> Result<Option<Reply>> {
        let message = self.reply.message.as_str();
        let message = if message.is_empty() {
            "the host did not say why"
        } else {
            message
        };
        match self.status {
            abi::OK => Ok(Some(self.reply)),
            abi::NOT_FOUND => Ok(None),
            abi::REFUSED => Err(Error::fatal(message).context(doing())),
            _ => Err(Error::retry(message).context(doing())),
        }
    }

    /// The secret that was asked for.
    pub(crate) fn secret(self, name: &str) -> Result<Secret> {
        let found = self.found(|| format!("resolving the secret `{name}`"))?;
        let reply = found.ok_or_else(|| {
            Error::invalid(format_args!(
                "the instance's configuration has no secret of the name `{name}`"
            ))
        })?;
        let text = String::from_utf8(reply.value);
        text.map(Secret::new)
            .map_err(|_| Error::invalid(format_args!("the secret `{name}` is not UTF-8")))
    }
}

/// What helps where the router is another than the plugin was built for.
const REMEDY: &str = "use the router of the SDK's own release, or build the plugin with the router's SDK";

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_redeemed_once_and_goes_with_its_request() {
        let (ticket, _wait) = Ticket::new();
        assert!(Ticket::redeem(ticket.0).is_some());
        assert!(Ticket::redeem(ticket.0).is_none());
        let (ticket, _wait) = Ticket::new();
        let number = ticket.0;
        drop(ticket);
        assert!(Ticket::redeem(number).is_none());
    }

    #[test]
    fn a_reply_to_nobody_is_harmless() {
        // SAFETY: no ticket has this number, so nothing is read.
        unsafe { reply(ptr::without_provenance_mut(usize::MAX), ptr::null()) };
    }

    #[tokio::test]
    async fn a_second_reply_changes_nothing() {
        let (ticket, wait) = Ticket::new();
        for value in [b"first" as &[u8], b"other"] {
            let raw = abi::Reply {
                struct_size: super::super::struct_size::<abi::Reply>(),
                status: abi::OK,
                stage: 0,
                reserved: 0,
                value: slice(value),
                message: slice(b""),
            };
            // SAFETY: a whole reply, which lives long enough.
            unsafe { reply(ptr::without_provenance_mut(ticket.0), &raw const raw) };
        }
        assert_eq!(wait.await.unwrap().reply.value, b"first");
    }
}
