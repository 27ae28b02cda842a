//! The host as a plugin sees it: plain functions for any thread, bridged to the asynchronous [`Host`].
//!
//! Every request is answered exactly once. What it asks for runs as a task of the router's runtime; where that task
//! ends before its time, because the router does, the answer is that it is not to be had now.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    fmt,
    future::Future,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use jackfield_abi as abi;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::level_filters::LevelFilter;

use super::{
    call::{self, abi_size, contain},
    handles::{Handles, from_context, to_context},
    memory,
    reply::{Answer, Replier, Reply, unavailable},
};
use crate::{
    plugin::{Host, HostError, Receipt, ReceiptStage, limits, log},
    secret::Secret,
};

/// The bridges of the instances that live.
static BRIDGES: Handles<Bridge> = Handles::new();

/// What of tracing's level the plugins may read.
static MAX_LOG_LEVEL: AtomicU32 = AtomicU32::new(0);

/// What stands between one instance and the router.
pub(super) struct Bridge {
    handle: usize,
    pub(super) plugin: String,
    pub(super) instance: String,
    host: Arc<dyn Host>,
    secrets: BTreeMap<String, Secret>,
    runtime: Handle,
    /// Requests that are not answered, and calls that are not let go of: all must end before `destroy`.
    pub(super) pending: TaskTracker,
    /// Whether requests are taken.
    open: AtomicBool,
    /// Calls that go on although nobody waits for them.
    pub(super) stuck: AtomicUsize,
}

impl Bridge {
    pub(super) fn new(
        (plugin, instance): (String, String),
        host: Arc<dyn Host>,
        secrets: BTreeMap<String, Secret>,
        runtime: Handle,
    ) -> Arc<Self> {
        let bridge = Arc::new(Self {
            handle: BRIDGES.next(),
            plugin,
            instance,
            host,
            secrets,
            runtime,
            pending: TaskTracker::new(),
            open: AtomicBool::new(true),
            stuck: AtomicUsize::new(0),
        });
        BRIDGES.keep(bridge.handle, Arc::clone(&bridge));
        bridge
    }

    /// The table for the plugin. Never freed: a thread that the plugin forgot may still look into it.
    pub(super) fn table(&self) -> *const abi::Host {
        refresh_level();
        ptr::from_ref(Box::leak(Box::new(abi::Host {
            struct_size: abi_size::<abi::Host>(),
            abi_major: abi::ABI_MAJOR,
            abi_minor: abi::ABI_MINOR,
            flags: 0,
            ctx: to_context(self.handle),
            max_log_level: MAX_LOG_LEVEL.as_ptr().cast_const(),
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
        })))
    }

    /// Takes no more requests.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// Forgets the instance: whatever still calls in its name finds nobody.
    pub(super) fn forget(&self) {
        self.close();
        drop(BRIDGES.take(self.handle));
    }

    /// Does what is asked, in a task, and answers.
    fn serve(&self, replier: Replier, work: impl Future<Output = Answer> + Send + 'static) {
        if !self.open.load(Ordering::Acquire) {
            return replier.send(unavailable("the instance has been shut down"));
        }
        let task = async move { replier.send(work.await) };
        // Where the runtime has ended, the task is dropped at once, and with it the replier, which answers.
        drop(self.pending.spawn_on(task, &self.runtime));
    }

    fn call(&self, id: u64) -> Result<Arc<call::Call>, HostError> {
        call::find(id, self)
            .ok_or_else(|| HostError::Invalid(format!("no call {id} of this instance is running")))
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Bridge");
        debug
            .field("plugin", &self.plugin)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Passes on to the plugins which log lines are wanted at present.
pub(in crate::plugin) fn refresh_level() {
    let level = log::number(LevelFilter::current());
    // It is read on all threads and asked for with each call, and changes hardly ever.
    if MAX_LOG_LEVEL.load(Ordering::Relaxed) != level {
        MAX_LOG_LEVEL.store(level, Ordering::Relaxed);
    }
}

/// Answers one request, whatever happens on the way.
fn request(
    context: *mut c_void,
    (reply, reply_context): (abi::ReplyFn, *mut c_void),
    work: impl FnOnce(&Arc<Bridge>, Replier),
) {
    let replier = Replier::new(reply, reply_context);
    contain(|| match BRIDGES.get(from_context(context)) {
        Some(bridge) => work(&bridge, replier),
        None => replier.send(unavailable("the instance has been destroyed")),
    });
}

/// A key that the plugin names.
///
/// # Safety
/// The slice is valid, as the ABI says.
unsafe fn name(slice: abi::Slice) -> Result<String, HostError> {
    // SAFETY: as the caller says; it is copied before this returns.
    let key = std::str::from_utf8(unsafe { memory::bytes(slice) });
    let key = key.map_err(|_| HostError::Invalid("the key is not UTF-8".to_owned()))?;
    limits::check_key(key)?;
    Ok(key.to_owned())
}

/// What the plugin wants kept.
///
/// # Safety
/// The slice is valid, as the ABI says.
unsafe fn value(slice: abi::Slice) -> Result<Bytes, HostError> {
    // SAFETY: as the caller says; it is copied before this returns.
    let bytes = unsafe { memory::bytes(slice) };
    limits::check_value(bytes)?;
    Ok(Bytes::copy_from_slice(bytes))
}

/// Like [`value`], for what must be JSON.
///
/// # Safety
/// The slice is valid, as the ABI says.
unsafe fn json(slice: abi::Slice) -> Result<Bytes, HostError> {
    // SAFETY: as the caller says.
    let bytes = unsafe { value(slice) }?;
    limits::check_json(&bytes)?;
    Ok(bytes)
}

unsafe extern "C" fn log(
    context: *mut c_void,
    call: u64,
    level: u32,
    target: abi::Slice,
    message: abi::Slice,
    fields: abi::Slice,
) {
    refresh_level();
    if level == 0 || level > MAX_LOG_LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let text = |slice| {
        // SAFETY: the ABI says that the slices are valid until this returns; the text is a copy.
        unsafe { memory::text(slice) }
    };
    let (target, message, fields) = (text(target), text(message), text(fields));
    contain(|| {
        let Some(bridge) = BRIDGES.get(from_context(context)) else {
            return;
        };
        let line = log::Line {
            plugin: &bridge.plugin,
            instance: &bridge.instance,
            level,
            target,
            message,
            fields,
        };
        match call::find(call, &bridge) {
            Some(call) => {
                call.work.key().into_iter().for_each(|key| line.tell(key));
                call.span.in_scope(|| line.write());
            }
            None => line.write(),
        }
    });
}

unsafe extern "C" fn metric(context: *mut c_void, name: abi::Slice, labels: abi::Slice, value: f64) {
    // SAFETY: the ABI says that the slice is valid until this returns; the text is a copy.
    let name = unsafe { memory::text(name) };
    // SAFETY: as above.
    let labels = unsafe { memory::text(labels) };
    contain(|| {
        let Some(bridge) = BRIDGES.get(from_context(context)) else {
            return;
        };
        match log::labels(&name, &labels, value) {
            Ok(labels) => bridge.host.metric(&bridge.instance, &name, &labels, value),
            Err(fault) => {
                tracing::debug!(
                    plugin = bridge.plugin,
                    instance = bridge.instance,
                    name,
                    fault,
                    "metric of plugin dropped"
                );
            }
        }
    });
}

unsafe extern "C" fn kv_get(
    context: *mut c_void,
    key: abi::Slice,
    reply: abi::ReplyFn,
    reply_context: *mut c_void,
) {
    // SAFETY: the ABI says that the slice is valid until this returns.
    let key = unsafe { name(key) };
    request(context, (reply, reply_context), |bridge, replier| {
        let served = Arc::clone(bridge);
        bridge.serve(replier, async move {
            let (key, found) = (key?, || HostError::NotFound("there is no such key".to_owned()));
            let value = served.host.kv_get(&served.instance, &key).await?;
            value.map(Reply::from).ok_or_else(found)
        });
    });
}

unsafe extern "C" fn kv_put(
    context: *mut c_void,
    key: abi::Slice,
    new: abi::Slice,
    ttl_ms: u64,
    reply: abi::ReplyFn,
    reply_context: *mut c_void,
) {
    // SAFETY: the ABI says that the slice is valid until this returns.
    let key = unsafe { name(key) };
    // SAFETY: as above.
    let new = unsafe { value(new) };
    let ttl = (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms));
    request(context, (reply, reply_context), |bridge, replier| {
        let served = Arc::clone(bridge);
        bridge.serve(replier, async move {
            served
                .host
                .kv_put(&served.instance, &key?, Some(new?), ttl)
                .await?;
            Ok(Reply::default())
        });
    });
}

unsafe extern "C" fn kv_delete(
    context: *mut c_void,
    key: abi::Slice,
    reply: abi::ReplyFn,
    reply_context: *mut c_void,
) {
    // SAFETY: the ABI says that the slice is valid until this returns.
    let key = unsafe { name(key) };
    request(context, (reply, reply_context), |bridge, replier| {
        let served = Arc::clone(bridge);
        bridge.serve(replier, async move {
            served.host.kv_put(&served.instance, &key?, None, None).await?;
            Ok(Reply::default())
        });
    });
}

unsafe extern "C" fn receipt_get(
    context: *mut c_void,
    call: u64,
    reply: abi::ReplyFn,
    reply_context: *mut c_void,
) {
    request(context, (reply, reply_context), |bridge, replier| {
        let (served, call) = (Arc::clone(bridge), bridge.call(call));
        bridge.serve(replier, async move {
            let receipt = served.host.receipt(&served.instance, key_of(&*call?)?).await?;
            let Receipt { stage, body } =
                receipt.ok_or_else(|| HostError::NotFound("the step has no receipt".to_owned()))?;
            let stage = match stage {
                ReceiptStage::Intent => abi::STAGE_INTENT,
                ReceiptStage::Done => abi::STAGE_DONE,
            };
            Ok(Reply { value: body, stage })
        });
    });
}

/// The idempotency key of the step that a call is for.
fn key_of(call: &call::Call) -> Result<&str, HostError> {
    let none =
        || HostError::Invalid("a request is no step: it has no receipt, and raises no events".to_owned());
    call.work.key().ok_or_else(none)
}

unsafe extern "C" fn receipt_put(
    context: *mut c_void,
    call: u64,
    stage: u32,
    body: abi::Slice,
    reply: abi::ReplyFn,
    reply_context: *mut c_void,
) {
    // SAFETY: the ABI says that the slice is valid until this returns.
    let body = unsafe { json(body) };
    request(context, (reply, reply_context), |bridge, replier| {
        let (served, call) = (Arc::clone(bridge), bridge.call(call));
        bridge.serve(replier, async move {
            let stage = match stage {
                abi::STAGE_INTENT => ReceiptStage::Intent,
                abi::STAGE_DONE => ReceiptStage::Done,
                other => return Err(HostError::Invalid(format!("there is no receipt stage {other}"))),
            };
            let receipt = Receipt { stage, body: body? };
            served
                .host
                .keep_receipt(&served.instance, key_of(&*call?)?, receipt)
                .await?;
            Ok(Reply::default())
        });
    });
}

unsafe extern "C" fn secret(
    context: *mut c_void,
    key: abi::Slice,
    reply: abi::ReplyFn,
    reply_context: *mut c_void,
) {
    // SAFETY: the ABI says that the slice is valid until this returns.
    let key = unsafe { name(key) };
    request(context, (reply, reply_context), |bridge, replier| {
        let served = Arc::clone(bridge);
        bridge.serve(replier, async move {
            let key = key?;
            let found = match served.secrets.get(&key) {
                Some(secret) => Some(secret.clone()),
                None => served.host.secret(&served.instance, &key).await?,
            };
            let missing =
                || HostError::NotFound(format!("the instance's configuration names no secret `{key}`"));
            found
                .map(|secret| Reply::from(Bytes::copy_from_slice(secret.expose().as_bytes())))
                .ok_or_else(missing)
        });
    });
}

unsafe extern "C" fn emit(
    context: *mut c_void,
    call: u64,
    label: abi::Slice,
    event: abi::Slice,
    reply: abi::ReplyFn,
    reply_context: *mut c_void,
) {
    // SAFETY: the ABI says that the slice is valid until this returns.
    let label = unsafe { name(label) };
    // SAFETY: as above.
    let event = unsafe { json(event) };
    request(context, (reply, reply_context), |bridge, replier| {
        let (served, call) = (Arc::clone(bridge), bridge.call(call));
        bridge.serve(replier, async move {
            // One step may raise several events, and each once over all attempts.
            let key = format!("{}/{}", key_of(&*call?)?, label?);
            let id = served.host.emit(&served.instance, &key, event?).await?;
            Ok(Reply::from(Bytes::from(id)))
        });
    });
}

unsafe extern "C" fn get_extension(_context: *mut c_void, _id: abi::Slice) -> *const c_void {
    // There are none yet.
    ptr::null()
}
