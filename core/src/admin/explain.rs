//! `GET /v1/events/<id>/explain`: why each route matched a stored event or did not, and what came of it.

use std::sync::Arc;

use jackfield_event::EventId;
use serde::Serialize;

use super::{Problem, Shared};
use crate::{
    journal::{DeliveryFilter, DeliveryRecord, EventStory, History, JournalError, Kept},
    router::{Explanation, Generation, NotJson},
};

/// What a route says to an event, and what it came to owe.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Whether it matches, and what failed first where it does not.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The deliveries of a stored event along the route, replays included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<DeliveryRecord>,
    /// Why it matches and owes nothing, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

impl Explained {
    /// What the routes of a generation say to a stored event, and what came of it.
    ///
    /// # Errors
    ///
    /// Where the event is not JSON.
    pub fn of_stored(
        generation: &Generation,
        story: &EventStory,
        deliveries: &[DeliveryRecord],
    ) -> Result<Vec<Self>, NotJson> {
        let explanations = generation.explain(story.event.get().as_bytes())?;
        let explained = explanations.into_iter().map(|explanation| {
            let of_route = deliveries
                .iter()
                .filter(|delivery| delivery.route == explanation.route);
            let deliveries: Vec<_> = of_route.cloned().collect();
            let is_idle = explanation.matched && deliveries.is_empty();
            Self {
                idle: is_idle.then(|| idle(generation, story)),
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
            deliveries: Vec::new(),
            idle: None,
        });
        Ok(explained.collect())
    }
}

/// The deliveries of an event, all of them.
///
/// # Errors
///
/// Where the journal cannot be read.
pub async fn deliveries_of(
    history: &dyn History,
    event: EventId,
) -> Result<Vec<DeliveryRecord>, JournalError> {
    let filter = DeliveryFilter {
        event: Some(event),
        limit: usize::MAX,
        ..DeliveryFilter::default()
    };
    history.deliveries(filter).await
}

fn idle(generation: &Generation, story: &EventStory) -> String {
    let record = &story.record;
    match record.generation == *generation.id() {
        true => "owes nothing, which is a fault of the router: please report it".to_owned(),
        false => format!(
            "owed nothing when it came: other rules were in force then; `jackfield replay {}` routes it again",
            record.id
        ),
    }
}

/// The answer for the path between `/v1/events/` and `/explain`, and the query behind it.
pub(super) async fn explain(shared: &Shared, id: &str, query: &str) -> Result<Vec<Explained>, Problem> {
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
    let story = shared.journal.event(id).await?;
    let story = story.ok_or_else(|| missing(format!("there is no event {id}")))?;
    if story.kept == Kept::Outline {
        let why = story.kept.missing().unwrap_or_default();
        return Err(Problem::new(409, format!("{id} cannot be explained: {why}")));
    }
    let deliveries = deliveries_of(&*shared.journal, id).await?;
    let generation = shared.routes.load_full();
    let whole = Arc::clone(&generation);
    // With thousands of routes this takes a while, and others are answered on these threads as well.
    let explaining = tokio::task::spawn_blocking(move || Explained::of_stored(&whole, &story, &deliveries));
    let explained = explaining
        .await
        .map_err(|error| Problem::new(500, format!("the explanation broke off: {error}")))?;
    let mut explained =
        explained.map_err(|error| Problem::new(409, format!("the stored event {id}: {error}")))?;
    if let Some(route) = route {
        explained.retain(|explained| explained.explanation.route == route);
        if explained.is_empty() {
            return Err(missing(format!("there is no route `{route}`")));
        }
    }
    Ok(explained)
}
