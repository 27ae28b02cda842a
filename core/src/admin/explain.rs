//! `GET /v1/events/<id>/explain`: why each route matched a stored event or did not, and what came of it.

use std::sync::Arc;

use jackfield_event::EventId;
use serde::Serialize;

use super::{Problem, Shared};
use crate::{
    delivery::{Outcome, Phase},
    journal::{
        AttemptRecord, DeliveryFilter, DeliveryRecord, DeliveryStory, EventStory, History, JournalError, Kept,
    },
    reason::Reason,
    router::{Explanation, Generation, NotJson},
};

/// What a route says to an event, and what it came to owe.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Whether it matches, and what failed first where it does not.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What is no longer kept of a stored event, so that nobody can tell whether a clause on it is met; in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<&'static str>,
    /// The deliveries of a stored event along the route, replays included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<Became>,
    /// How many times the event came again, for which nothing more is owed than for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<u64>,
    /// Why it matches and owes nothing, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
}

/// What became of a delivery.
#[derive(Clone, Debug, Serialize)]
pub struct Became {
    /// Where it stands, and why.
    #[serde(flatten)]
    pub record: DeliveryRecord,
    /// Its steps that had nothing to do, of which its state tells nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// A step that had nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Which list of steps.
    pub phase: Phase,
    /// The step's id.
    pub step: String,
    /// The code for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What the plugin said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why a route that matches owes nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// The code for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// In words.
    pub detail: String,
}

impl Explained {
    /// What the routes of a generation say to a stored event, and what came of it.
    ///
    /// # Errors
    ///
    /// Where too little is left of the event.
    pub fn of_stored(
        generation: &Generation,
        story: &EventStory,
        deliveries: &[Became],
    ) -> Result<Vec<Self>, NotExplained> {
        let missing = story.kept.missing();
        if let (Kept::Outline, Some(missing)) = (story.kept, missing) {
            return Err(NotExplained::Gone(missing));
        }
        let explanations = generation.explain(story.event.get().as_bytes())?;
        let explained = explanations.into_iter().map(|mut explanation| {
            let of_route = deliveries
                .iter()
                .filter(|delivery| delivery.record.route == explanation.route);
            let deliveries: Vec<_> = of_route.cloned().collect();
            let is_idle = explanation.matched && deliveries.is_empty();
            // There is nothing at the path, but for another reason than the event's.
            if let (Some(missing), Some(failed)) = (missing, &mut explanation.failed)
                && (failed.path == PAYLOAD || failed.path.starts_with(&format!("{PAYLOAD}.")))
            {
                failed.hint = Some(missing.to_owned());
            }
            Self {
                missing,
                idle: is_idle.then(|| idle(generation, story)),
                duplicates: (!deliveries.is_empty() && story.record.duplicates > 0)
                    .then_some(story.record.duplicates),
                deliveries,
                explanation,
            }
        });
        Ok(explained.collect())
    }

    /// What the routes say to an event of which nobody knows whether it ever came.
    ///
    /// # Errors
    ///
    /// Where it is not JSON.
    pub fn of_any(generation: &Generation, event: &[u8]) -> Result<Vec<Self>, NotJson> {
        let explanations = generation.explain(event)?.into_iter();
        let explained = explanations.map(|explanation| Self {
            explanation,
            missing: None,
            deliveries: Vec::new(),
            duplicates: None,
            idle: None,
        });
        Ok(explained.collect())
    }
}

impl Became {
    fn of(story: DeliveryStory) -> Self {
        let DeliveryStory { record, attempts, .. } = story;
        let skipped = attempts
            .into_iter()
            .filter(|attempt| attempt.outcome == Some(Outcome::Skipped));
        Self {
            skipped: skipped.map(Skipped::of).collect(),
            record,
        }
    }
}

impl Skipped {
    fn of(attempt: AttemptRecord) -> Self {
        Self {
            phase: attempt.phase,
            step: attempt.step_id,
            reason: attempt.reason,
            message: attempt.message,
        }
    }
}

/// Why nothing can be said of a stored event.
#[derive(Debug, thiserror::Error)]
pub enum NotExplained {
    /// Retention has removed it.
    #[error("{0}")]
    Gone(&'static str),
    /// What the journal has is damaged.
    #[error(transparent)]
    NotJson(#[from] NotJson),
}

/// What became of the deliveries of an event, all of them.
///
/// # Errors
///
/// Where the journal cannot be read.
pub async fn deliveries_of(history: &dyn History, event: EventId) -> Result<Vec<Became>, JournalError> {
    let mut deliveries = Vec::new();
    let mut before = None;
    loop {
        let filter = DeliveryFilter {
            event: Some(event),
            before,
            limit: PAGE,
            ..DeliveryFilter::default()
        };
        let page = history.deliveries(filter).await?;
        let Some(last) = page.last() else {
            return Ok(deliveries);
        };
        before = Some(last.id);
        for record in page {
            // One that retention has removed meanwhile is gone with its event.
            deliveries.extend(history.delivery(record.id).await?.map(Became::of));
        }
    }
}

fn idle(generation: &Generation, story: &EventStory) -> Idle {
    let record = &story.record;
    let whole = story.kept.is_whole();
    match (record.generation == *generation.id(), whole) {
        (true, true) => Idle {
            reason: None,
            detail: "owes nothing, which is a fault of the router: please report it".to_owned(),
        },
        (true, false) => Idle {
            reason: None,
            detail: "owed nothing when it came: it matches only without its payload".to_owned(),
        },
        (false, whole) => {
            let again = match whole {
                true => format!("; `jackfield replay {}` routes it again", record.id),
                false => String::new(),
            };
            Idle {
                reason: Some(Reason::OtherRules),
                detail: format!("owed nothing when it came: other rules were in force then{again}"),
            }
        }
    }
}

/// How many deliveries are read at a time.
const PAGE: usize = 1_000;
/// What an event loses first.
const PAYLOAD: &str = "data.payload";

/// The answer for the path between `/v1/events/` and `/explain`, and the query behind it.
pub(super) async fn explain(shared: &Shared, id: &str, query: &str) -> Result<Vec<Explained>, Problem> {
    told(&*shared.journal, shared.routes.load_full(), id, query).await
}

async fn told(
    journal: &dyn History,
    generation: Arc<Generation>,
    id: &str,
    query: &str,
) -> Result<Vec<Explained>, Problem> {
    let wrong = |words: String| Problem::new(400, words);
    let id: EventId = id
        .parse()
        .map_err(|error: jackfield_event::ParseIdError| wrong(error.to_string()))?;
    let mut route = None;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            // Names of routes need no encoding.
            Some(("route", name)) => route = Some(name.to_owned()),
            _ => {
                return Err(wrong(format!(
                    "`{parameter}` is not asked for here; `route=…` names one route"
                )));
            }
        }
    }
    let missing = |words: String| Problem::new(404, words);
    let story = journal.event(id).await?;
    let story = story.ok_or_else(|| missing(format!("there is no event {id}")))?;
    let deliveries = deliveries_of(journal, id).await?;
    // With thousands of routes this takes a while, and others are answered on these threads as well.
    let explaining =
        tokio::task::spawn_blocking(move || Explained::of_stored(&generation, &story, &deliveries));
    let explained = explaining
        .await
        .map_err(|error| Problem::new(500, format!("the explanation broke off: {error}")))?;
    let mut explained =
        explained.map_err(|error| Problem::new(409, format!("{id} cannot be explained: {error}")))?;
    if let Some(route) = route {
        explained.retain(|explained| explained.explanation.route == route);
        if explained.is_empty() {
            return Err(missing(format!("there is no route `{route}`")));
        }
    }
    Ok(explained)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        journal::{
            Retention,
            contract::{Bench, arrival},
        },
        router::RuleFile,
    };

    #[tokio::test]
    async fn what_is_no_longer_kept_of_an_event_is_said_and_not_taken_for_unmatched() {
        let place = tempfile::tempdir().unwrap();
        let bench = Bench::new(&place).await;
        let event = bench.append(arrival(0, None, Vec::new())).await.event();
        // The numbers go on from it, so that it stays.
        bench.append(arrival(9_000_000, None, Vec::new())).await;
        let text =
            "[[route]]\nname = \"r\"\nwhen.data.payload.kind = [\"x\"]\n[[route.step]]\nuse = \"slack\"\n";
        let (name, text) = ("routes.toml".to_owned(), text.to_owned());
        let generation = Generation::compile(&[RuleFile { name, text }], None).unwrap();
        let generation = Arc::new(generation);
        let id = event.to_string();
        let told = || told(&*bench.journal, Arc::clone(&generation), &id, "route=r");

        let explained = told().await.unwrap().remove(0);
        let hint = explained.explanation.failed.and_then(|failed| failed.hint);
        assert_eq!(
            (explained.missing, hint.as_deref()),
            (None, Some("`data.payload` has no `kind`"))
        );

        let ages = Retention {
            payloads: Duration::ZERO,
            ..Retention::default()
        };
        bench.prune(10, &ages).await;
        let explained = told().await.unwrap().remove(0);
        let missing = "its payload is no longer kept (`payloads` in `[retention]` says how long)";
        let hint = explained.explanation.failed.and_then(|failed| failed.hint);
        assert_eq!(
            (explained.missing, hint.as_deref()),
            (Some(missing), Some(missing))
        );

        let ages = Retention {
            events: Duration::ZERO,
            ..ages
        };
        bench.prune(10, &ages).await;
        let problem = told().await.unwrap_err();
        assert_eq!(
            (problem.status, problem.error),
            (
                409,
                format!(
                    "{event} cannot be explained: the event is no longer kept (`events` in `[retention]` says how long)"
                )
            )
        );
    }
}
