//! `POST /v1/skip`: a person lets go of the deliveries behind a dead one.

use hyper::body::Incoming;
use jackfield_event::DeliveryId;
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, answer};

/// Which delivery to skip.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// A dead one that holds up those of its order key.
    pub id: DeliveryId,
}

pub(super) async fn skip(shared: &Shared, body: Incoming) -> Result<Skip, Problem> {
    let skip: Skip = answer::read(body, LONGEST).await?;
    shared.journal.skip(skip.id).await?;
    tracing::info!(delivery.id = %skip.id, "skipped");
    Ok(skip)
}

const LONGEST: usize = 64 << 10;
