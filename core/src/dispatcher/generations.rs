//! The generations that deliveries are carried out under, compiled.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::{
    journal::{Journal, JournalError},
    router::{Generation, GenerationId},
};

/// The generations under which unsettled deliveries were made, as far as they have been needed.
#[derive(Debug, Default)]
pub struct Generations {
    known: ArcSwap<Vec<Arc<Generation>>>,
    /// Held over a compilation, so that many deliveries of one generation cause one. No other lock is taken under it.
    loading: Mutex<()>,
}

impl Generations {
    /// Adds a generation, once.
    pub fn insert(&self, generation: Arc<Generation>) {
        self.known.rcu(|known| {
            let mut known = Vec::clone(known);
            if !known.iter().any(|other| other.id() == generation.id()) {
                known.push(Arc::clone(&generation));
            }
            known
        });
    }

    /// Lets go of all but these, and gives what it held. A delivery that needs one of them all the same gets it out of the
    /// journal.
    pub fn retain(&self, needed: &[GenerationId]) -> Vec<Arc<Generation>> {
        let is_needed = |generation: &&Arc<Generation>| needed.contains(generation.id());
        let before = self
            .known
            .rcu(|known| known.iter().filter(is_needed).cloned().collect::<Vec<_>>());
        before
            .iter()
            .filter(|generation| !is_needed(generation))
            .cloned()
            .collect()
    }

    /// The generation of that id: at hand, or out of the journal. One that had nothing unsettled is wanted again where a
    /// delivery of it is replayed, or was made in the moment in which the next one came into force. `None` where it is not
    /// there, or does not compile any more.
    ///
    /// # Errors
    ///
    /// Where the journal cannot be read.
    pub async fn get(
        &self,
        id: &GenerationId,
        journal: &dyn Journal,
    ) -> Result<Option<Arc<Generation>>, JournalError> {
        if let Some(generation) = self.find(id) {
            return Ok(Some(generation));
        }
        let _loading = self.loading.lock().await;
        // It may be what was waited for.
        if let Some(generation) = self.find(id) {
            return Ok(Some(generation));
        }
        let Some(text) = journal.rules(id).await? else {
            return Ok(None);
        };
        let compiled = tokio::task::spawn_blocking(move || Generation::from_stored(&text)).await;
        match compiled.expect("compiling rules does not panic") {
            Ok(generation) => {
                let generation = Arc::new(generation);
                self.insert(Arc::clone(&generation));
                Ok(Some(generation))
            }
            Err(faults) => {
                tracing::error!(generation = %id, %faults, "the rules of a delivery do not compile any more");
                Ok(None)
            }
        }
    }

    fn find(&self, id: &GenerationId) -> Option<Arc<Generation>> {
        let known = self.known.load();
        known.iter().find(|generation| generation.id() == id).cloned()
    }
}
