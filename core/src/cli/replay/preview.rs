//! What would be made of what is asked for again. Reads the journal, and nothing else.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    admin::{self, DeliveryPlan, EventPlan, Fate, Plan, Refused, Rulebook, StepPlan, plan},
    cli::table::short,
    journal::{History, JournalError, ReplayKeys},
    router::{Generation, GenerationId},
};

/// What would be made.
#[derive(Debug, Default, Serialize)]
pub(super) struct Preview {
    /// New deliveries.
    deliveries: Vec<Foreseen>,
    /// Events that no route matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmatched: Vec<String>,
    /// What would not be done again, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<Refused>,
}

/// A delivery that would be made.
#[derive(Debug, Serialize)]
struct Foreseen {
    /// Of which delivery or event.
    of: String,
    route: String,
    generation: GenerationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<ReplayKeys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_key: Option<String>,
    steps: Vec<StepPlan>,
}

/// Compiled rules, each once.
struct Shelf {
    history: Arc<dyn History>,
    compiled: Mutex<HashMap<GenerationId, Arc<Generation>>>,
}

impl Preview {
    /// How many would not be done again.
    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    pub(super) async fn of(
        request: &admin::Replay,
        ids: &[String],
        history: Arc<dyn History>,
    ) -> anyhow::Result<Self> {
        let shelf = Shelf {
            history: Arc::clone(&history),
            compiled: Mutex::default(),
        };
        let mut preview = Self::default();
        for id in ids {
            match plan(request, id, &*history, &shelf).await {
                Ok(Plan::Delivery(plan)) => preview.deliveries.push(of_delivery(*plan)),
                Ok(Plan::Event(plan)) => preview.add_event(&plan, &shelf).await?,
                Err(problem) => preview.refused.push(Refused {
                    id: id.clone(),
                    error: problem.error,
                }),
            }
        }
        Ok(preview)
    }

    async fn add_event(&mut self, plan: &EventPlan, shelf: &Shelf) -> anyhow::Result<()> {
        let of = plan.event.to_string();
        if plan.routed.owed().is_empty() {
            self.unmatched.push(of);
            return Ok(());
        }
        let generation = shelf.find(plan.routed.generation()).await?;
        for owed in plan.routed.owed() {
            let steps = generation.find(&owed.route).map(|route| {
                let steps = route.steps(crate::delivery::Phase::Steps).iter();
                steps.map(|step| StepPlan {
                    id: step.id().to_owned(),
                    fate: Fate::Made,
                })
            });
            self.deliveries.push(Foreseen {
                of: of.clone(),
                route: owed.route.clone(),
                generation: generation.id().clone(),
                keys: None,
                order_key: owed.order.clone().ok().flatten(),
                steps: steps.map(Iterator::collect).unwrap_or_default(),
            });
        }
        Ok(())
    }

    pub(super) fn words(&self) -> String {
        let mut text = String::new();
        for foreseen in &self.deliveries {
            let keys = match foreseen.keys {
                Some(ReplayKeys::Renew) => ", with new keys",
                Some(ReplayKeys::Keep) | None => "",
            };
            let _ = writeln!(
                text,
                "{}: a delivery of route {} under generation {}{keys}",
                foreseen.of,
                short(&foreseen.route, 64),
                short(&foreseen.generation.0, 12),
            );
            for step in &foreseen.steps {
                let fate = match step.fate {
                    Fate::Made => "made",
                    Fate::MadeForItsFiles => "made, since its files are gone",
                    Fate::TakenOver => "not made; what it put out stands",
                    Fate::Resolved => "not made; it is done",
                };
                let _ = writeln!(text, "  step {}: {fate}", short(&step.id, 64));
            }
        }
        for event in &self.unmatched {
            let _ = writeln!(text, "{event}: nothing, since no route matches");
        }
        for refused in &self.refused {
            let _ = writeln!(text, "{}: nothing: {}", refused.id, refused.error);
        }
        let _ = write!(
            text,
            "{} deliveries would be made; nothing was",
            self.deliveries.len()
        );
        text
    }
}

fn of_delivery(plan: DeliveryPlan) -> Foreseen {
    Foreseen {
        of: plan.replay.parent.to_string(),
        keys: Some(plan.replay.keys),
        order_key: plan.replay.under.and_then(|(_, owed)| owed.order.ok().flatten()),
        route: plan.route,
        generation: plan.generation,
        steps: plan.steps,
    }
}

#[async_trait]
impl Rulebook for Shelf {
    async fn in_force(&self) -> Result<Arc<Generation>, JournalError> {
        let last = self.history.generations(1).await?.pop();
        let last =
            last.ok_or_else(|| JournalError::NotFound("no rules have been in force yet".to_owned()))?;
        self.find(&last.id).await
    }

    async fn find(&self, id: &GenerationId) -> Result<Arc<Generation>, JournalError> {
        let known = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(generation) = known().get(id) {
            return Ok(Arc::clone(generation));
        }
        let missing = || JournalError::NotFound(format!("the rules of generation {id} are missing"));
        let text = self.history.rules(id).await?.ok_or_else(missing)?;
        let compiled = Generation::from_stored(&text).map_err(|faults| {
            JournalError::Refused(format!(
                "the rules of generation {id} do not compile any more: {faults}"
            ))
        })?;
        let generation = Arc::new(compiled);
        known().insert(id.clone(), Arc::clone(&generation));
        Ok(generation)
    }
}
