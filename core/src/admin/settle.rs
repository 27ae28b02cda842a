//! `POST /v1/cancel`, `/v1/resolve` and `/v1/skip`: a person decides what becomes of a delivery, or of those behind it.

use hyper::body::Incoming;
use jackfield_event::DeliveryId;
use serde::{Deserialize, Serialize};

use super::{
    Problem, Shared, answer,
    replay::{
        Replayed,
        plan::{self, Verdict},
    },
};
use crate::journal::{Asker, Canceled};

/// A delivery that nobody wants any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Which.
    pub id: DeliveryId,
    /// Who asks.
    #[serde(default)]
    pub asker: Asker,
}

/// A delivery that was given up while nobody knew whether its last step was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// Which.
    pub id: DeliveryId,
    /// Whether it was.
    pub verdict: Verdict,
    /// Who knows.
    #[serde(default)]
    pub asker: Asker,
}

/// A dead delivery that holds up those of its order key, which are let go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// Which.
    pub id: DeliveryId,
    /// Who asks.
    #[serde(default)]
    pub asker: Asker,
}

pub(super) async fn cancel(shared: &Shared, body: Incoming) -> Result<Canceled, Problem> {
    let Cancel { id, asker } = answer::read(body, LONGEST).await?;
    let by = asker.by.clone();
    // It is in the journal before the dispatcher is told, which ends the call and then asks the journal what becomes of it.
    let canceled = shared.journal.cancel(id, asker).await?;
    match canceled {
        Canceled::Settled => shared.deliveries.canceled(id).await,
        Canceled::Asked => shared.deliveries.cancel(id),
    }
    tracing::info!(delivery.id = %id, by, at_work = canceled == Canceled::Asked, "delivery canceled by a person");
    Ok(canceled)
}

pub(super) async fn resolve(shared: &Shared, body: Incoming) -> Result<Replayed, Problem> {
    let Resolve { id, verdict, asker } = answer::read(body, LONGEST).await?;
    let by = asker.by.clone();
    let done = matches!(verdict, Verdict::Done(_));
    let planned = plan::resolve(id, verdict, asker, &*shared.journal, shared).await?;
    let made = shared.journal.replay(vec![planned.replay]).await?.into_iter();
    let deliveries = made.collect::<Result<_, _>>()?;
    tracing::info!(delivery.id = %id, by, done, "a doubt was settled by a person");
    Ok(Replayed {
        deliveries,
        ..Replayed::default()
    })
}

pub(super) async fn skip(shared: &Shared, body: Incoming) -> Result<DeliveryId, Problem> {
    let Skip { id, asker } = answer::read(body, LONGEST).await?;
    shared.journal.skip(id).await?;
    tracing::info!(delivery.id = %id, by = asker.by, note = asker.note, "skipped by a person");
    Ok(id)
}

/// Room for an output as large as a plugin may give.
const LONGEST: usize = 16 << 20;
