//! `POST /v1/replay`: a person asks for something again.
//!
//! What is to be made of what is asked for is worked out by [`plan`], in one way for whoever only wants to know and for the
//! router, which then has the journal make it. What could not be made is told beside what was: of several things each stands
//! for itself, and the answer about one is not lost by another.

pub(super) mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use hyper::body::Incoming;
use jackfield_event::DeliveryId;
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, answer};
use crate::{
    journal::{self, Asker, JournalError, ReplayKeys},
    router::{Generation, GenerationId},
};

pub use plan::{DeliveryPlan, EventPlan, Fate, Plan, Rulebook, StepPlan, plan};

/// What to do again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Settled deliveries (`dlv_…`), or stored events (`evt_…`), each of which is routed anew.
    pub ids: Vec<String>,
    /// For deliveries: whether steps keep the keys by which they know what they have done.
    #[serde(default)]
    pub keys: ReplayKeys,
    /// For deliveries: the step from which on; all of them, without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For events: these routes alone, which have to match; all that match, where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The rules. Without a word, an event is routed by those of today, and a delivery done by those it was made under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesOf>,
    /// For deliveries: whether one that has been replayed before is refused.
    #[serde(default)]
    pub once: bool,
    /// Who asks.
    #[serde(default)]
    pub asker: Asker,
}

/// Which rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RulesOf {
    /// Those in force.
    Today,
    /// Those under which the event came in, or the delivery was made.
    Then,
    /// Those of a generation, of whose name this is at least the beginning.
    Generation(String),
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Replayed {
    /// The new deliveries; none for an event that no route matches.
    pub deliveries: Vec<DeliveryId>,
    /// What was not done again, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// Something that was not done again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The delivery or event.
    pub id: String,
    /// Why.
    pub error: String,
}

/// How many things one request may ask for: what one transaction holds, and others wait for.
pub const PIECE: usize = 200;

pub(super) async fn replay(shared: &Shared, body: Incoming) -> Result<Replayed, Problem> {
    let replay: Replay = answer::read(body, LONGEST).await?;
    if replay.ids.is_empty() || replay.ids.len() > PIECE {
        let words = format!(
            "a request names 1 to {PIECE} deliveries or events, and not {}",
            replay.ids.len()
        );
        return Err(Problem::new(400, words));
    }
    let mut replayed = Replayed::default();
    let mut deliveries = Vec::new();
    for id in &replay.ids {
        let made = match plan(&replay, id, &*shared.journal, shared).await {
            Ok(Plan::Delivery(plan)) => {
                deliveries.push(plan.replay);
                continue;
            }
            Ok(Plan::Event(plan)) => {
                let EventPlan { event, routed, asked } = *plan;
                let made = shared.journal.replay_event(event, routed, asked).await;
                made.map_err(Problem::from)
            }
            Err(problem) => Err(problem),
        };
        match made {
            Ok(made) => replayed.deliveries.extend(made),
            Err(problem) => replayed.refuse(id, problem.error),
        }
    }
    make(shared, deliveries, &mut replayed).await;
    tracing::info!(
        asked = replay.ids.len(),
        made = replayed.deliveries.len(),
        refused = replayed.refused.len(),
        by = replay.asker.by,
        "replayed"
    );
    Ok(replayed)
}

/// Has the journal make what was planned: all that can be made, in one transaction.
async fn make(shared: &Shared, replays: Vec<journal::Replay>, replayed: &mut Replayed) {
    if replays.is_empty() {
        return;
    }
    let parents: Vec<_> = replays.iter().map(|replay| replay.parent).collect();
    let made = match shared.journal.replay(replays).await {
        Ok(made) => made,
        Err(error) => parents.iter().map(|_| Err(error.clone())).collect(),
    };
    for (parent, made) in parents.into_iter().zip(made) {
        match made {
            Ok(delivery) => replayed.deliveries.push(delivery),
            Err(error) => replayed.refuse(&parent.to_string(), error.to_string()),
        }
    }
}

impl Replayed {
    /// Takes in what came of more.
    pub fn add(&mut self, more: Self) {
        self.deliveries.extend(more.deliveries);
        self.refused.extend(more.refused);
    }

    fn refuse(&mut self, id: &str, error: String) {
        self.refused.push(Refused {
            id: id.to_owned(),
            error,
        });
    }
}

#[async_trait]
impl Rulebook for Shared {
    async fn in_force(&self) -> Result<Arc<Generation>, JournalError> {
        Ok(self.routes.load_full())
    }

    async fn find(&self, id: &GenerationId) -> Result<Arc<Generation>, JournalError> {
        let in_force = self.routes.load_full();
        match in_force.id() == id {
            true => Ok(in_force),
            false => self.rules.generation(id).await,
        }
    }
}

const LONGEST: usize = 64 << 10;
