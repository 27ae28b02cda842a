//! `GET /v1/routes`, `POST /v1/routes/reload` and `/v1/routes/rollback`: the rules in force, and others in their place.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::body::Incoming;
use jackfield_event::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, answer};
use crate::{
    fault::Faults,
    journal::{GenerationRecord, JournalError},
    router::{Generation, GenerationId},
};

/// Puts rules in force.
#[async_trait]
pub trait Rules: Send + Sync {
    /// How they stand.
    fn standing(&self) -> Arc<Standing>;

    /// Takes up the rule files as they are now.
    async fn reload(&self) -> Result<Taken, RulesError>;

    /// Puts an earlier generation in force, of which `name` is at least the beginning.
    async fn roll_back(&self, name: String) -> Result<Taken, RulesError>;

    /// A generation that the journal keeps, compiled as deliveries of it are carried out.
    async fn generation(&self, id: &GenerationId) -> Result<Arc<Generation>, JournalError>;
}

/// How the rules stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The generation in force.
    pub in_force: GenerationRecord,
    /// How many routes it has.
    pub routes: usize,
    /// Why the rule files, as they are now, are not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedRules>,
}

/// Rule files that were not taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRules {
    /// Since when.
    pub since: Timestamp,
    /// What is wrong with them.
    pub faults: Faults,
}

/// Rules that are in force from now on, or were already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Their generation.
    pub generation: GenerationId,
    /// The one before; the same where nothing has changed.
    pub before: GenerationId,
    /// How many routes there are.
    pub routes: usize,
    /// The generation of the rule files, where this one is in force in place of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<GenerationId>,
}

/// Which generation is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// Its name, or the beginning of it.
    pub to: String,
}

/// Why rules were not put in force. Those that were are still.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RulesError {
    /// They are faulty.
    #[error("the rules are faulty; those in force stay")]
    Faults(#[from] Faults),
    /// The journal does not have them, or cannot keep them.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Nobody takes them up any more.
    #[error("the router is stopping")]
    Stopping,
}

pub(super) async fn roll_back(shared: &Shared, body: Incoming) -> Result<Taken, Problem> {
    let RollBack { to } = answer::read(body, LONGEST).await?;
    Ok(shared.rules.roll_back(to).await?)
}

impl From<RulesError> for Problem {
    fn from(error: RulesError) -> Self {
        let words = error.to_string();
        match error {
            RulesError::Faults(faults) => Self {
                faults: Some(faults),
                ..Self::new(422, words)
            },
            RulesError::Journal(error) => error.into(),
            RulesError::Stopping => Self::new(503, words),
        }
    }
}

const LONGEST: usize = 64 << 10;
