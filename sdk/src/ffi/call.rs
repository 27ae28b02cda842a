//! An open call.

use std::{
    borrow::Cow,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use jackfield_abi as abi;
use tokio::time::Instant;

use super::{CODES, ENDED, bytes, number, read, slice, struct_size};
use crate::call::{Code, Report};

/// A call that has not ended. Whatever becomes of it, it ends exactly once: by [`finish`](Self::finish), or by its drop.
///
/// The host keeps all that belongs to the call until then. What is borrowed from here borrows from the value itself, so the
/// compiler sees to it that nothing is used afterwards.
pub(crate) struct OpenCall {
    raw: abi::Call,
    done: abi::DoneFn,
    texts: Texts,
    deadline: Option<Instant>,
    is_request: bool,
    finished: bool,
}

/// The host's texts, mended where they are not UTF-8. They live as long as the call: whoever is given one is given it for as
/// long as he holds the call.
struct Texts {
    delivery: Cow<'static, str>,
    route: Cow<'static, str>,
    step: Cow<'static, str>,
    idempotency_key: Cow<'static, str>,
    traceparent: Cow<'static, str>,
}

// SAFETY: the ABI says that a call's memory is valid on any thread until `done`, that nobody writes to it but for the
// atomic flag, and that `done` may be called on any thread.
unsafe impl Send for OpenCall {}
// SAFETY: as above; `&OpenCall` only reads.
unsafe impl Sync for OpenCall {}

impl OpenCall {
    /// Takes on a call, or `None` where there is no telling how to end it.
    ///
    /// # Safety
    ///
    /// `call` is what the host passed to `jf_plugin.call`, and is taken on once.
    pub(super) unsafe fn accept(call: *const abi::Call) -> Option<Self> {
        // SAFETY: the host wrote it.
        let raw = unsafe { read(call) }?;
        let done = raw.done?;
        // SAFETY: the slices are the host's, valid until `done` is called, which takes `self` or drops it.
        let text = |slice| String::from_utf8_lossy(unsafe { bytes(slice) });
        let texts = Texts {
            delivery: text(raw.delivery),
            route: text(raw.route),
            step: text(raw.step),
            idempotency_key: text(raw.idempotency_key),
            traceparent: text(raw.traceparent),
        };
        Some(Self {
            raw,
            done,
            texts,
            deadline: instant(raw.deadline_mono_ns),
            is_request: false,
            finished: false,
        })
    }

    /// Takes on a request, which is a call with its head for an event and its body for an input, and no delivery.
    ///
    /// # Safety
    ///
    /// `request` is what the host passed to `jf_provider.receive`, and is taken on once.
    pub(super) unsafe fn accept_request(request: *const abi::Request) -> Option<Self> {
        // SAFETY: the host wrote it.
        let request = unsafe { read(request) }?;
        let none = slice(b"");
        let call = abi::Call {
            struct_size: struct_size::<abi::Call>(),
            attempt: 1,
            id: request.id,
            deadline_mono_ns: request.deadline_mono_ns,
            event: request.head,
            input: request.body,
            delivery: none,
            route: none,
            step: none,
            idempotency_key: none,
            workdir: none,
            traceparent: none,
            cancelled: request.cancelled,
            done: request.done,
            done_ctx: request.done_ctx,
        };
        // SAFETY: all that it points to is the host's, valid until `done` is called, or static; it is copied.
        let mut open = unsafe { Self::accept(&raw const call) }?;
        open.is_request = true;
        Some(open)
    }

    pub(crate) fn is_request(&self) -> bool {
        self.is_request
    }

    pub(crate) fn id(&self) -> u64 {
        self.raw.id
    }

    pub(crate) fn delivery(&self) -> &str {
        &self.texts.delivery
    }

    pub(crate) fn route(&self) -> &str {
        &self.texts.route
    }

    pub(crate) fn step(&self) -> &str {
        &self.texts.step
    }

    pub(crate) fn idempotency_key(&self) -> &str {
        &self.texts.idempotency_key
    }

    pub(crate) fn traceparent(&self) -> &str {
        &self.texts.traceparent
    }

    pub(crate) fn workdir(&self) -> &Path {
        // SAFETY: as in `accept`.
        Path::new(OsStr::from_bytes(unsafe { bytes(self.raw.workdir) }))
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn event(&self) -> &[u8] {
        // SAFETY: valid until `done` is called, which takes `self` or drops it.
        unsafe { bytes(self.raw.event) }
    }

    pub(crate) fn input(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { bytes(self.raw.input) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        let flag = self.raw.cancelled;
        if flag.is_null() {
            return false;
        }
        // SAFETY: the ABI says that the flag is valid until `done` is called, and is only accessed atomically.
        let flag = unsafe { AtomicU32::from_ptr(flag.cast_mut()) };
        flag.load(Ordering::Relaxed) != 0
    }

    /// Ends the call.
    pub(crate) fn finish(mut self, report: &Report) {
        self.end(report);
    }

    fn end(&mut self, report: &Report) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let retry_after = report
            .retry_after
            .unwrap_or(Duration::ZERO)
            .as_nanos()
            .div_ceil(1_000_000);
        let result = abi::CallResult {
            struct_size: struct_size::<abi::CallResult>(),
            outcome: number(&ENDED, report.ended),
            code: number(&CODES, report.code),
            reserved: 0,
            retry_after_ms: u64::try_from(retry_after).unwrap_or(u64::MAX),
            output: slice(&report.output),
            message: slice(report.message.as_bytes()),
        };
        // SAFETY: the host's function with the host's argument, called once as `finished` shows; the result lives until it
        // returns.
        unsafe { (self.done)(self.raw.done_ctx, &raw const result) };
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.end(&Report::stopped(
            Code::Shutdown,
            "the instance was shut down in the middle of the call",
        ));
    }
}

/// The moment at which the monotonic clock shows `mono_ns`.
pub(super) fn instant(mono_ns: u64) -> Option<Instant> {
    if mono_ns == 0 {
        return None;
    }
    Instant::now().checked_add(Duration::from_nanos(mono_ns).saturating_sub(mono_now()))
}

/// What the monotonic clock shows at `instant`: the inverse of [`instant`](fn@instant).
pub(super) fn mono_ns(instant: Instant) -> u64 {
    let then = mono_now() + instant.saturating_duration_since(Instant::now());
    u64::try_from(then.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// What the monotonic clock shows, by the C library: a library in somebody else's process had better not look for the kernel's
/// pages by itself, as rustix does.
fn mono_now() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes into the struct that it is given. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use std::{ffi::c_void, ptr};

    use super::*;
    use crate::{
        call::Ended,
        ffi::{text, word},
    };

    /// How calls ended, in the order in which they did.
    type Ends = Vec<(Option<Ended>, Option<Code>, String)>;

    unsafe extern "C" fn done(ends: *mut c_void, result: *const abi::CallResult) {
        // SAFETY: the result is whole, and lives until this returns.
        let result = unsafe { read(result) }.unwrap();
        // SAFETY: as above, with its slices.
        let message = unsafe { text(result.message) };
        // SAFETY: the test's own list, which nobody else uses at the moment.
        let ends = unsafe { &mut *ends.cast::<Ends>() };
        ends.push((word(&ENDED, result.outcome), word(&CODES, result.code), message));
    }

    fn raw(ends: &mut Ends, cancelled: &AtomicU32) -> abi::Call {
        let empty = slice(b"");
        abi::Call {
            struct_size: struct_size::<abi::Call>(),
            attempt: 1,
            id: 7,
            deadline_mono_ns: 0,
            event: slice(b"{}"),
            input: empty,
            delivery: slice(b"dlv_\xff"),
            route: empty,
            step: empty,
            idempotency_key: empty,
            workdir: slice(b"/w\xff"),
            traceparent: empty,
            cancelled: cancelled.as_ptr(),
            done: Some(done),
            done_ctx: ptr::from_mut(ends).cast(),
        }
    }

    fn accept(raw: &abi::Call) -> Option<OpenCall> {
        // SAFETY: the tests keep what a call points to until it has ended.
        unsafe { OpenCall::accept(raw) }
    }

    #[test]
    fn a_call_ends_once_by_its_report_or_by_its_drop() {
        let (mut ends, flag) = (Ends::new(), AtomicU32::new(0));
        accept(&raw(&mut ends, &flag))
            .unwrap()
            .finish(&Report::skipped("no".to_owned()));
        assert_eq!(ends, [(Some(Ended::Skipped), Some(Code::None), "no".to_owned())]);

        let (mut ends, flag) = (Ends::new(), AtomicU32::new(0));
        drop(accept(&raw(&mut ends, &flag)));
        assert_eq!(ends.len(), 1);
        assert_eq!((ends[0].0, ends[0].1), (Some(Ended::Retry), Some(Code::Shutdown)));
    }

    #[test]
    fn a_call_is_seen_as_the_host_wrote_it() {
        let (mut ends, flag) = (Ends::new(), AtomicU32::new(0));
        let call = accept(&raw(&mut ends, &flag)).unwrap();
        assert_eq!((call.id(), call.event(), call.input()), (7, &b"{}"[..], &b""[..]));
        // Texts are mended, paths are not.
        assert_eq!(call.delivery(), "dlv_\u{fffd}");
        assert_eq!(call.workdir().as_os_str().as_bytes(), b"/w\xff");
        assert_eq!((call.deadline(), call.is_cancelled()), (None, false));
        flag.store(1, Ordering::Relaxed);
        assert!(call.is_cancelled());
    }

    #[test]
    fn a_call_that_nobody_can_end_is_not_taken_on() {
        let (mut ends, flag) = (Ends::new(), AtomicU32::new(0));
        let whole = raw(&mut ends, &flag);
        let short = abi::Call {
            struct_size: 8,
            ..whole
        };
        assert!(accept(&abi::Call { done: None, ..whole }).is_none());
        assert!(accept(&short).is_none());
        // SAFETY: NULL is allowed.
        assert!(unsafe { OpenCall::accept(ptr::null()) }.is_none());
        assert!(ends.is_empty());
    }

    #[test]
    fn a_moment_survives_the_way_through_the_clock() {
        for seconds in [0, 1, 3600] {
            let moment = Instant::now() + Duration::from_secs(seconds);
            let back = instant(mono_ns(moment)).unwrap();
            let off = back.max(moment) - back.min(moment);
            // Both clocks go on between the two readings.
            assert!(off < Duration::from_secs(60), "{off:?}");
        }
        assert_eq!(instant(0), None);
        assert!(instant(1).unwrap() <= Instant::now(), "the past is now");
    }
}
