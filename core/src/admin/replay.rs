//! `POST /v1/replay`: a person asks for something again.

use hyper::body::Incoming;
use jackfield_event::{DeliveryId, Event, EventId};
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, answer};
use crate::journal::ReplayKeys;

/// What to do again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// A settled delivery (`dlv_…`), or a stored event (`evt_…`) under today's rules.
    pub id: String,
    /// For a delivery: whether steps keep the keys by which they know what they have done.
    #[serde(default = "keep")]
    pub keys: ReplayKeys,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replayed {
    /// The new deliveries; none where no route matches the event today.
    pub deliveries: Vec<DeliveryId>,
}

pub(super) async fn replay(shared: &Shared, body: Incoming) -> Result<Replayed, Problem> {
    let replay: Replay = answer::read(body, LONGEST).await?;
    let deliveries = if let Ok(id) = replay.id.parse::<DeliveryId>() {
        vec![shared.journal.replay_delivery(id, replay.keys).await?]
    } else if let Ok(id) = replay.id.parse::<EventId>() {
        replay_event(shared, id).await?
    } else {
        let words = format!(
            "`{}` is neither an event (evt_…) nor a delivery (dlv_…)",
            replay.id
        );
        return Err(Problem::new(400, words));
    };
    tracing::info!(id = replay.id, deliveries = deliveries.len(), "replayed");
    Ok(Replayed { deliveries })
}

async fn replay_event(shared: &Shared, id: EventId) -> Result<Vec<DeliveryId>, Problem> {
    let story = shared
        .journal
        .event(id)
        .await?
        .ok_or_else(|| Problem::new(404, format!("there is no event {id}")))?;
    let unreadable = |error: &dyn std::fmt::Display| {
        Problem::new(409, format!("the stored event {id} cannot be read: {error}"))
    };
    let mut event = Event::from_json(story.event.get().as_bytes()).map_err(|error| unreadable(&error))?;
    // The router takes the payload beside the event, as it came.
    let payload = event.data.payload.take();
    let payload = payload.map_or_else(|| "null".to_owned(), |payload| payload.get().to_owned());
    let routed = shared
        .routes
        .load()
        .route(event, payload.into(), story.dedup)
        .map_err(|error| unreadable(&error))?;
    Ok(shared.journal.replay_event(id, routed).await?)
}

fn keep() -> ReplayKeys {
    ReplayKeys::Keep
}

const LONGEST: usize = 64 << 10;
