//! How an instance is, while it runs.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};

use super::Report;
use crate::delivery::Outcome;

/// How an instance is: since the router started, over all generations of its plugin, and at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// Calls that have ended.
    pub calls: u64,
    /// Those of them that came to neither done nor skipped.
    pub failures: u64,
    /// Calls that somebody waits for now.
    pub in_flight: u64,
    /// How often its process was started again; nothing where it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// Its process, if it has one of its own and that is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
}

/// Counts what becomes of an instance: one tally for all generations of its plugin.
#[derive(Debug, Default)]
pub struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
    in_flight: AtomicU64,
    restarts: AtomicU64,
}

impl Tally {
    /// Counts a call: one that is dropped before its end is in flight no more, and counts for nothing.
    pub(super) async fn count(&self, call: impl Future<Output = Report>) -> Report {
        let _waiting = Waiting::new(&self.in_flight);
        let report = call.await;
        self.calls.fetch_add(1, Relaxed);
        match report.outcome {
            Outcome::Done | Outcome::Skipped => {}
            Outcome::Retry | Outcome::Fatal | Outcome::Ambiguous => drop(self.failures.fetch_add(1, Relaxed)),
        }
        report
    }

    /// Counts that a process of its own was started again.
    pub(super) fn count_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// How many calls are on their way.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// What was counted of an instance with that process, where it has one of its own.
    pub(super) fn vitals_apart(&self, process: Option<u32>) -> Vitals {
        Vitals {
            restarts: Some(self.restarts.load(Relaxed)),
            process,
            ..self.vitals()
        }
    }

    /// What was counted of an instance in this process.
    pub(super) fn vitals(&self) -> Vitals {
        Vitals {
            calls: self.calls.load(Relaxed),
            failures: self.failures.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            restarts: None,
            process: None,
        }
    }
}

struct Waiting<'t>(&'t AtomicU64);

impl<'t> Waiting<'t> {
    fn new(in_flight: &'t AtomicU64) -> Self {
        in_flight.fetch_add(1, Relaxed);
        Self(in_flight)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: Outcome) -> Report {
        Report {
            outcome,
            reason: None,
            code: 0,
            output: None,
            message: None,
            retry_after: None,
        }
    }

    #[tokio::test]
    async fn calls_are_counted_when_they_have_ended() {
        let tally = Tally::default();
        for outcome in [Outcome::Done, Outcome::Skipped, Outcome::Retry, Outcome::Fatal] {
            tally.count(async { ended(outcome) }).await;
        }
        let mut given_up = Box::pin(tally.count(std::future::pending()));
        tokio::select! {
            biased;
            _ = &mut given_up => unreachable!("it never ends"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(tally.vitals().in_flight, 1);
        drop(given_up);
        let Vitals {
            calls,
            failures,
            in_flight,
            ..
        } = tally.vitals();
        assert_eq!((calls, failures, in_flight), (4, 2, 0));
    }
}
