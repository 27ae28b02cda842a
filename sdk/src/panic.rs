//! Panics: caught, told, and never handed on.
//!
//! The standard library that a `.so` carries is its own, and so is its panic hook: the one here sends the panics of an
//! instance's threads to the router's log, and leaves those of other threads to the hook that was there before.

use std::{
    any::Any,
    cell::Cell,
    future::Future,
    mem,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
};

/// Runs `work`; a panic in it comes back as its message.
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(message)
}

/// The message of a panic. Its payload is dropped with care: that may panic as well.
fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        (None, None) => "without a message".to_owned(),
    };
    drop_quietly(payload);
    text
}

/// Drops `value`; if that panics, there is nothing to be done about it, and the second payload is leaked.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(value))) {
        mem::forget(second);
    }
}

/// A future that panics neither when it is polled nor when it is dropped: its panic is its result.
pub(crate) struct Contained<F>(Option<Pin<Box<F>>>);

impl<F: Future> Contained<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.as_mut().expect("a future is not polled after its end");
        let polled = match contain(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(message) => Err(message),
        };
        drop_quietly(self.0.take());
        Poll::Ready(polled)
    }
}

impl<F> Drop for Contained<F> {
    fn drop(&mut self) {
        drop_quietly(self.0.take());
    }
}

thread_local! {
    /// Whether this thread belongs to an instance, so that its panics are the router's business.
    static REPORTED: Cell<bool> = const { Cell::new(false) };
}

/// Has the panics of this thread sent to the router's log.
pub(crate) fn report_from_this_thread() {
    install_hook();
    REPORTED.set(true);
}

/// Does `work` on a thread of somebody else's, with its panics sent to the router's log.
pub(crate) fn reported<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            REPORTED.set(self.0);
        }
    }
    install_hook();
    let _before = Before(REPORTED.replace(true));
    work()
}

/// Installs the hook, once in this copy of the SDK.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is about to end may have lost its locals.
            if REPORTED.try_with(Cell::get).unwrap_or(false) {
                report(info);
            } else {
                before(info);
            }
        }));
    });
}

fn report(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(target: "panic", what = message, location = place, "the plugin panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb(&'static str);

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn the_message_of_a_panic_comes_back_whatever_its_payload() {
        assert_eq!(contain(|| 1), Ok(1));
        assert_eq!(contain(|| panic!("plain")), Err::<(), _>("plain".into()));
        assert_eq!(contain(|| panic!("{}", 7)), Err::<(), _>("7".into()));
        assert_eq!(
            contain(|| panic::panic_any(7)),
            Err::<(), _>("without a message".into())
        );
        assert_eq!(
            contain(|| panic::panic_any(Bomb("in the payload"))),
            Err::<(), _>("without a message".into())
        );
    }

    #[test]
    fn a_future_that_panics_when_polled_ends_with_the_message() {
        let mut future = Contained::new(async { panic!("in poll") });
        assert_eq!(poll(&mut future), Poll::Ready(Err::<(), _>("in poll".into())));
    }

    #[test]
    fn a_future_that_panics_when_dropped_is_dropped_in_silence() {
        let mut future = Contained::new(async {
            let _bomb = Bomb("in drop");
            std::future::pending::<()>().await;
        });
        assert_eq!(poll(&mut future), Poll::Pending);
        drop(future);
    }
}
