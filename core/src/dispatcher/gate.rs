//! How many calls an instance gets at once, and how many deliveries may stand in line for it.
//!
//! A delivery in line holds memory, so the line is short: what does not fit goes back to the journal, and claims
//! leave it there until the line is empty. One slow instance thus never keeps deliveries of another from running.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One gate for each instance that was ever called.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<HashMap<String, Arc<Gate>>>);

#[derive(Debug)]
pub(super) struct Gate {
    calls: Arc<Semaphore>,
    in_line: AtomicUsize,
}

impl Gates {
    /// The gate of `instance`, which lets in as many calls at once as `permits` has.
    pub(super) fn of(&self, instance: &str, permits: &Arc<Semaphore>) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(instance) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate {
            calls: Arc::clone(permits),
            in_line: AtomicUsize::new(0),
        });
        gates.insert(instance.to_owned(), Arc::clone(&gate));
        gate
    }

    /// Instances at which deliveries stand in line.
    pub(super) fn busy(&self) -> Vec<String> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates
            .iter()
            .filter(|(_, gate)| gate.is_busy())
            .map(|(instance, _)| instance.clone())
            .collect()
    }
}

impl Gate {
    /// Waits for a turn; `None` where the line is too long to join.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() {
            return Some(permit);
        }
        let _place = Place::take(&self.in_line)?;
        Some(
            Arc::clone(&self.calls)
                .acquire_owned()
                .await
                .expect("gates are never closed"),
        )
    }

    fn is_busy(&self) -> bool {
        self.calls.available_permits() == 0
    }
}

/// A place in line, given back on drop.
struct Place<'g>(&'g AtomicUsize);

impl<'g> Place<'g> {
    fn take(in_line: &'g AtomicUsize) -> Option<Self> {
        in_line
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |length| {
                (length < LINE).then_some(length + 1)
            })
            .ok()
            .map(|_| Self(in_line))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room for one batch of claims that all begin with the same instance.
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_instance_without_a_free_call_is_busy_until_one_ends() {
        let gates = Gates::default();
        let first = gates.of("slack", &Arc::new(Semaphore::new(1))).enter().await;
        assert_eq!(gates.busy(), ["slack"]);
        drop(first);
        assert_eq!(gates.busy(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_line_that_is_full_is_not_joined() {
        let gate = Gates::default().of("slack", &Arc::new(Semaphore::new(1)));
        let _running = gate.enter().await;
        let mut waiting: Vec<_> = (0..LINE).map(|_| Box::pin(gate.enter())).collect();
        for place in &mut waiting {
            assert!(
                futures_poll_once(place).await.is_none(),
                "the line should hold {LINE}"
            );
        }
        assert!(gate.enter().await.is_none());
    }

    /// Polls once: `None` while it waits.
    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
