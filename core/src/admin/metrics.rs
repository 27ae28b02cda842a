//! What is counted, in the form that Prometheus reads.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use jackfield_event::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use crate::{clock::Clock, journal::Journal};

/// The drivers' counters, and beside them what the journal holds at the moment of asking.
pub(super) struct Metrics {
    registry: Registry,
    clock: Arc<dyn Clock>,
    deliveries: Family<StateLabel, Gauge>,
    settled: Family<StateLabel, Counter>,
    events: Gauge,
    oldest_pending: Gauge<f64, AtomicU64>,
    oldest_event: Gauge<f64, AtomicU64>,
    journal: Family<PartLabel, Gauge>,
    lag: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

impl Metrics {
    pub(super) fn new(mut registry: Registry, clock: Arc<dyn Clock>) -> Self {
        let (deliveries, events, oldest_pending) = <(Family<_, _>, Gauge, Gauge<f64, AtomicU64>)>::default();
        let (oldest_event, journal, lag) =
            <(Gauge<f64, AtomicU64>, Family<_, _>, Gauge<f64, AtomicU64>)>::default();
        let settled = Family::<StateLabel, Counter>::default();
        registry.register(
            "deliveries",
            "Deliveries in the journal, by state",
            deliveries.clone(),
        );
        registry.register(
            "deliveries_settled",
            "Deliveries that were settled since the start, by state",
            settled.clone(),
        );
        registry.register("events", "Events in the journal", events.clone());
        registry.register_with_unit(
            "oldest_pending_age",
            "How long the oldest delivery has waited that could be worked at; 0 where there is none",
            Unit::Seconds,
            oldest_pending.clone(),
        );
        registry.register_with_unit(
            "oldest_event_age",
            "How old the oldest event in the journal is; 0 where there is none",
            Unit::Seconds,
            oldest_event.clone(),
        );
        registry.register_with_unit(
            "journal",
            "What the journal takes on disk: its database; of that, what is free and used next; its log beside it",
            Unit::Bytes,
            journal.clone(),
        );
        registry.register_with_unit(
            "journal_lag",
            "How long what waits longest for its commit has been waiting; 0 where nothing waits",
            Unit::Seconds,
            lag.clone(),
        );
        registry.register(
            "build",
            "The program",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            registry,
            clock,
            deliveries,
            settled,
            events,
            oldest_pending,
            oldest_event,
            journal,
            lag,
        }
    }

    /// Everything, as text. Where the journal cannot be read, its numbers stay as they were.
    pub(super) async fn encode(&self, journal: &dyn Journal) -> String {
        self.lag.set(journal.lag().as_secs_f64());
        for (state, count) in journal.settled() {
            let settled = self.settled.get_or_create(&StateLabel { state });
            settled.inner().store(count, Relaxed);
        }
        match journal.counts().await {
            Ok(counts) => {
                self.events.set(signed(counts.events));
                for (state, count) in counts.deliveries {
                    self.deliveries
                        .get_or_create(&StateLabel { state })
                        .set(signed(count));
                }
                let age = |since: Option<Timestamp>| {
                    let age = since.map(|since| self.clock.now().saturating_since(since));
                    age.unwrap_or_default().as_secs_f64()
                };
                self.oldest_pending.set(age(counts.oldest_pending));
                self.oldest_event.set(age(counts.oldest_event));
            }
            Err(error) => tracing::warn!(error = %error, "the journal could not be counted"),
        }
        match journal.disk_use().await {
            Ok(disk) => {
                let parts = [
                    ("database", disk.database),
                    ("free", disk.free),
                    ("log", disk.log),
                ];
                for (part, bytes) in parts {
                    self.journal.get_or_create(&PartLabel { part }).set(signed(bytes));
                }
            }
            Err(error) => tracing::warn!(error = %error, "the journal could not be measured"),
        }
        let mut text = String::new();
        if let Err(fmt::Error) = text::encode(&mut text, &self.registry) {
            tracing::error!("the metrics could not be written");
        }
        text
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
