//! What plugins may ask of the router, carried out over the journal.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::{DATA_SCHEMA, Data, DeliveryId, Event, EventId, SpecVersion, Verification};
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use serde::Deserialize;

use super::offspring::{MOST_MEMBERS, Offspring};
use crate::{
    clock::Clock,
    journal::{Arrival, Journal, JournalError, Kept, KeptReceipt},
    plugin::{Host, HostError, Receipt, ReceiptStage},
    reason::Reason,
    router::Generation,
};

/// The rules in force, which are compiled when the plugins are there, which need their host first.
pub(super) type LateRoutes = Arc<OnceLock<Arc<ArcSwap<Generation>>>>;

/// The router's side of every plugin.
pub(super) struct JournalHost {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    routes: LateRoutes,
    offspring: Offspring,
    metrics: PluginMetrics,
}

/// What a plugin says of an event that it raises.
#[derive(Deserialize)]
struct NewEvent {
    #[serde(rename = "type")]
    kind: String,
    subject: Option<String>,
    #[serde(default)]
    data: Data,
}

impl JournalHost {
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        routes: LateRoutes,
        registry: &mut Registry,
    ) -> Self {
        Self {
            journal,
            clock,
            routes,
            offspring: Offspring::default(),
            metrics: PluginMetrics::register(registry),
        }
    }

    /// The common event of what a plugin raised, and its payload.
    fn event(&self, instance: &str, key: &str, raised: NewEvent) -> (Event, Bytes) {
        let now = self.clock.now();
        let mut data = raised.data;
        let payload = match data.payload.take() {
            Some(payload) => Bytes::copy_from_slice(payload.get().as_bytes()),
            None => Bytes::from_static(b"null"),
        };
        let event = Event {
            specversion: SpecVersion::V1,
            id: EventId::new(now, fastrand::u128(..)),
            source: format!("/plugin/{instance}"),
            kind: raised.kind,
            subject: raised.subject,
            time: now,
            datacontenttype: "application/json".to_owned(),
            dataschema: DATA_SCHEMA.to_owned(),
            provider: PROVIDER.to_owned(),
            sourcename: instance.to_owned(),
            providerdelivery: Some(key.to_owned()),
            providerattempt: None,
            verified: Verification::Plugin,
            data,
        };
        (event, payload)
    }

    /// How many events stand between the step of `key` and one that came from outside; and that one, or the first that is known.
    ///
    /// A route that answers its own events would go round for ever. Every event that a plugin raised names the
    /// delivery that it was raised in, so that the chain can be followed back without keeping a count anywhere.
    async fn descent(&self, key: &str) -> Result<(usize, Option<EventId>), HostError> {
        let mut key = Some(key.to_owned());
        let (mut depth, mut ancestor) = (0, None);
        while let Some(delivery) = key.take().as_deref().and_then(delivery_of) {
            let Some(delivery) = self.journal.delivery(delivery).await? else {
                break;
            };
            let Some(newest) = delivery.record.events.last() else {
                break;
            };
            let Some(story) = self.journal.event(*newest).await? else {
                break;
            };
            ancestor = Some(*newest);
            // Of what is too old for a loop or a flood, no more is known.
            if story.kept == Kept::Outline {
                break;
            }
            let cause = Event::from_json(story.event.get().as_bytes()).map_err(|error| {
                HostError::Unavailable(format!("the event {newest} cannot be read: {error}"))
            })?;
            if cause.provider == PROVIDER {
                key = cause.providerdelivery;
                depth += 1;
            }
            if depth >= DEEPEST {
                break;
            }
        }
        Ok((depth, ancestor))
    }

    /// Refuses an event that is one of a loop or a flood.
    async fn admit(&self, key: &str, kind: &str) -> Result<(), HostError> {
        let (depth, ancestor) = self.descent(key).await?;
        let too_many = |most: usize, how: &str| {
            HostError::Invalid(format!(
                "it would follow {most} that plugins raised {how}, which is the most that there may be: does a route answer what it \
                 leads to? Its `when` can leave out the type `{kind}`, or the provider `{PROVIDER}`"
            ))
        };
        if depth >= DEEPEST {
            return Err(too_many(DEEPEST, "one after the other"));
        }
        match ancestor {
            Some(ancestor) if !self.offspring.admit(ancestor, key) => {
                let how = format!("because of the event {ancestor}");
                Err(too_many(MOST_MEMBERS, &how))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Host for JournalHost {
    async fn kv_get(&self, instance: &str, key: &str) -> Result<Option<Bytes>, HostError> {
        Ok(self.journal.kv_get(instance, key).await?)
    }

    async fn kv_put(
        &self,
        instance: &str,
        key: &str,
        value: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<(), HostError> {
        Ok(self.journal.kv_put(instance, key, value, ttl).await?)
    }

    async fn receipt(&self, _instance: &str, key: &str) -> Result<Option<Receipt>, HostError> {
        let kept = self.journal.receipt(key).await?;
        Ok(kept.map(|kept| Receipt {
            stage: if kept.done {
                ReceiptStage::Done
            } else {
                ReceiptStage::Intent
            },
            body: kept.body,
        }))
    }

    async fn keep_receipt(&self, _instance: &str, key: &str, receipt: Receipt) -> Result<(), HostError> {
        let kept = KeptReceipt {
            done: receipt.stage == ReceiptStage::Done,
            body: receipt.body,
        };
        Ok(self.journal.keep_receipt(key, kept).await?)
    }

    async fn emit(&self, instance: &str, key: &str, event: Bytes) -> Result<String, HostError> {
        let raised: NewEvent = serde_json::from_slice(&event)
            .map_err(|error| HostError::Invalid(format!("the event is not as `NewEvent` says: {error}")))?;
        let routes = self.routes.get();
        let routes =
            routes.ok_or_else(|| HostError::Unavailable("the rules are not loaded yet".to_owned()))?;
        self.admit(key, &raised.kind).await?;
        let (event, payload) = self.event(instance, key, raised);
        let (received, kind) = (event.time, event.kind.clone());
        // An attempt that is made again raises the same event, not another.
        let routed = routes
            .load()
            .route(event, payload, Some(key.to_owned()))
            .map_err(|error| HostError::Invalid(error.to_string()))?;
        let arrival = Arrival {
            routed,
            headers: Vec::new(),
            received,
            dedup_window: DEDUP_WINDOW,
        };
        let committed = self
            .journal
            .append(arrival)
            .await
            .map_err(|error| HostError::Unavailable(error.to_string()))?;
        tracing::info!(
            instance,
            event.id = %committed.event(),
            "event.type" = kind,
            reason = committed.is_duplicate().then_some(Reason::Duplicate.code()),
            deliveries = committed.deliveries().len(),
            "event raised"
        );
        Ok(committed.event().to_string())
    }

    fn metric(&self, instance: &str, name: &str, labels: &[(String, String)], value: f64) {
        self.metrics.add(instance, name, labels, value);
    }
}

impl From<JournalError> for HostError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::NotFound(words) => Self::NotFound(words),
            JournalError::Refused(words) => Self::Invalid(words),
            JournalError::Store(_) | JournalError::Closed => Self::Unavailable(error.to_string()),
        }
    }
}

/// The delivery with which an idempotency key begins.
fn delivery_of(key: &str) -> Option<DeliveryId> {
    key.split('/').next()?.parse().ok()
}

/// The numbers that plugins add up, as one metric with the plugin's own labels.
struct PluginMetrics {
    values: Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>,
    /// Which series there are, since a plugin could make a new one for every call.
    known: Mutex<HashSet<Vec<(String, String)>>>,
}

impl PluginMetrics {
    fn register(registry: &mut Registry) -> Self {
        let values = Family::default();
        registry.register(
            "plugin_value",
            "What plugins add up, by instance and metric",
            values.clone(),
        );
        Self {
            values,
            known: Mutex::default(),
        }
    }

    fn add(&self, instance: &str, name: &str, labels: &[(String, String)], value: f64) {
        let own =
            [("instance", instance), ("metric", name)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let others = labels
            .iter()
            .filter(|(key, _)| is_label(key) && !own.iter().any(|(own, _)| own == key));
        let mut series: Vec<_> = own.iter().cloned().chain(others.cloned()).collect();
        series[2..].sort();
        series.dedup_by(|a, b| a.0 == b.0);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&series) {
            if known.len() >= MOST_SERIES {
                return;
            }
            known.insert(series.clone());
        }
        drop(known);
        self.values.get_or_create(&series).inc_by(value);
    }
}

/// What Prometheus takes as a label's name.
fn is_label(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter)
        && name.chars().all(|c| letter(c) || c.is_ascii_digit())
        && !name.starts_with("__")
}

impl fmt::Debug for JournalHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalHost").finish_non_exhaustive()
    }
}

/// The provider of events that plugins raise. No source can have it, as none is configured with it.
const PROVIDER: &str = "plugin";
/// How many events plugins may raise one after the other from one that came from outside.
const DEEPEST: usize = 8;
/// As long as a delivery may go on being retried, and longer.
const DEDUP_WINDOW: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// For all plugins together.
const MOST_SERIES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        journal::{Options, SqliteJournal},
        router::RuleFile,
    };

    /// A host over a journal of its own, under rules by which every event owes a delivery.
    async fn host() -> (JournalHost, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let journal = Arc::new(SqliteJournal::open(directory.path(), Options::default()).unwrap());
        let text =
            "[[route]]\nname = \"all\"\nwhen = { specversion = [\"1.0\"] }\n[[route.step]]\nuse = \"echo\"\n";
        let file = RuleFile {
            name: "routes.toml".into(),
            text: text.into(),
        };
        let generation = Generation::compile(&[file], None).unwrap();
        journal
            .store_rules(generation.id(), generation.text())
            .await
            .unwrap();
        let routes = Arc::new(OnceLock::from(Arc::new(ArcSwap::from_pointee(generation))));
        let host = JournalHost::new(journal, Arc::new(SystemClock), routes, &mut Registry::default());
        (host, directory)
    }

    /// The key under which a step of the only delivery of `event` raises one.
    async fn key_of(host: &JournalHost, event: &str) -> String {
        let story = host.journal.event(event.parse().unwrap()).await.unwrap().unwrap();
        format!("{}/echo/raised", story.record.deliveries[0].id)
    }

    fn raised() -> Bytes {
        Bytes::from_static(
            br#"{"type":"com.acme.raised","subject":"x/1","data":{"title":"T","payload":{"b":[1, 2]}}}"#,
        )
    }

    #[tokio::test]
    async fn a_raised_event_is_journaled_and_routed_once_for_all_attempts() {
        let (host, _directory) = host().await;
        let id = host.emit("echo", "outside/echo/raised", raised()).await.unwrap();
        assert_eq!(
            host.emit("echo", "outside/echo/raised", raised()).await.unwrap(),
            id
        );

        let story = host.journal.event(id.parse().unwrap()).await.unwrap().unwrap();
        let event = Event::from_json(story.event.get().as_bytes()).unwrap();
        assert_eq!(
            (event.source.as_str(), event.kind.as_str()),
            ("/plugin/echo", "com.acme.raised")
        );
        assert_eq!(event.verified, Verification::Plugin);
        assert_eq!(event.data.payload.unwrap().get(), r#"{"b":[1, 2]}"#);
        assert_eq!(story.record.deliveries.len(), 1);

        let wrong = host
            .emit("echo", "outside/echo/other", Bytes::from_static(b"{}"))
            .await
            .unwrap_err();
        assert!(
            matches!(&wrong, HostError::Invalid(words) if words.contains("missing field `type`")),
            "{wrong}"
        );
    }

    #[tokio::test]
    async fn events_that_plugins_raise_in_turn_come_to_an_end() {
        let (host, _directory) = host().await;
        let mut key = "outside/echo/raised".to_owned();
        for _ in 0..DEEPEST {
            let id = host.emit("echo", &key, raised()).await.unwrap();
            key = key_of(&host, &id).await;
        }
        let refused = host.emit("echo", &key, raised()).await.unwrap_err();
        assert!(matches!(refused, HostError::Invalid(_)), "{refused}");
        assert_eq!(host.journal.counts().await.unwrap().events, 8);
    }

    #[tokio::test]
    async fn a_plugin_that_raises_events_without_end_is_stopped() {
        let (host, _directory) = host().await;
        let outside = host.emit("echo", "outside/echo/raised", raised()).await.unwrap();
        let step = key_of(&host, &outside).await;
        for number in 0..MOST_MEMBERS {
            assert!(
                host.offspring
                    .admit(outside.parse().unwrap(), &format!("{step}-{number}"))
            );
        }
        let raise = async |key: String| host.emit("echo", &key, raised()).await;
        // Those that are known may be raised again; and others because of others.
        raise(format!("{step}-7")).await.unwrap();
        raise("outside/echo/other".to_owned()).await.unwrap();
        let refused = raise(format!("{step}-more")).await.unwrap_err().to_string();
        assert!(
            refused.contains(&format!(
                "follow 1000 that plugins raised because of the event {outside}, which"
            )),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn receipts_and_values_come_back_as_they_were_kept() {
        let (host, _directory) = host().await;
        let receipt = Receipt {
            stage: ReceiptStage::Intent,
            body: Bytes::from_static(b"{}"),
        };
        assert_eq!(host.receipt("echo", "k").await.unwrap(), None);
        host.keep_receipt("echo", "k", receipt.clone()).await.unwrap();
        assert_eq!(host.receipt("echo", "k").await.unwrap(), Some(receipt));

        host.kv_put("echo", "k", Some(Bytes::from_static(b"v")), None)
            .await
            .unwrap();
        assert_eq!(host.kv_get("other", "k").await.unwrap(), None);
        assert_eq!(
            host.kv_get("echo", "k").await.unwrap(),
            Some(Bytes::from_static(b"v"))
        );
    }

    #[test]
    fn a_plugin_cannot_make_series_without_end_or_labels_that_no_one_reads() {
        let mut registry = Registry::default();
        let metrics = PluginMetrics::register(&mut registry);
        let label = |key: &str, value: String| vec![(key.to_owned(), value)];
        metrics.add("echo", "calls", &label("kind", "a".into()), 1.0);
        metrics.add("echo", "calls", &label("kind", "a".into()), 1.5);
        metrics.add("echo", "calls", &label("instance", "forged".into()), 1.0);
        metrics.add("echo", "calls", &label("no label", "x".into()), 1.0);
        for number in 0..2 * MOST_SERIES {
            metrics.add("echo", "many", &label("id", number.to_string()), 1.0);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("plugin_value{instance=\"echo\",metric=\"calls\",kind=\"a\"} 2.5"),
            "{text}"
        );
        assert!(text.contains("plugin_value{instance=\"echo\",metric=\"calls\"} 2.0"));
        assert_eq!(text.matches("plugin_value{").count(), MOST_SERIES);
    }
}
