//! What a call goes through that is bounded, and what it leaves behind there.

use serde_json::Value;

use super::{
    Course,
    ready::{NotReady, Ready},
    record::Abandoned,
};
use crate::{
    delivery::{LONGEST_PAUSE, Outcome},
    dispatcher::{Shared, limits::Passage},
    journal::{Bound, Rest},
    plugin::Report,
    reason::Reason,
    router::Context,
};

impl Course<'_> {
    /// The way of a call of `instance`.
    pub(super) fn passage(
        &self,
        instance: &str,
        context: &Context,
        input: &Value,
    ) -> Result<Passage, NotReady> {
        self.shared
            .limits(instance)
            .passage(instance, context, input, &self.shared.calls)
            .map_err(|error| NotReady::Fail(Reason::TemplateFailed, error))
    }

    /// Gives back whatever a call held that does not begin.
    pub(super) async fn withdraw(&self, ready: Ready) {
        drop((ready.visit, ready.permit));
        self.shared.room.notify_one();
        let free = ready.passage.let_go(&self.shared.calls);
        self.shared.hand_on(free).await;
    }

    /// Tells that the call does not begin yet: the journal has the delivery back already.
    pub(super) fn put_off(&self, instance: &str, reason: Reason) {
        tracing::debug!(
            delivery.id = %self.claim.delivery, route = %self.claim.route, instance, reason = reason.code(),
            "attempt put off"
        );
        self.shared.metrics.put_off(instance, reason);
    }

    /// Where what it calls counts calls and asks for a pause, the others that are counted with this one take it too.
    pub(super) async fn heed_pause(&self, passage: &Passage, report: &Report) -> Result<(), Abandoned> {
        let (Outcome::Retry, Some(asked), Some(bucket)) =
            (report.outcome, report.retry_after, passage.counted_by())
        else {
            return Ok(());
        };
        let pause = asked.min(LONGEST_PAUSE);
        let words = report.message.as_deref().unwrap_or("the plugin gave no reason");
        tracing::warn!(bucket, pause = ?pause, reason = words, "calls pause, as was asked for");
        let rest = Rest {
            until: self.shared.clock.now().saturating_add(pause),
            reason: Reason::RateLimited,
            detail: format!("a call of `{bucket}` was asked for a pause of {asked:?}: {words}"),
        };
        self.insist(|| self.shared.journal.rest(bucket, Some(rest.clone())))
            .await
    }
}

impl Shared {
    /// Tells who waits at these buckets that there is room. Where the journal does not take it, they look by themselves later.
    pub(super) async fn hand_on(&self, free: Vec<Bound>) {
        for bound in free {
            let bucket = bound.bucket.clone();
            if let Err(error) = self.journal.hand_on(bound).await {
                tracing::warn!(bucket, error = %error, "the journal could not wake a delivery");
            }
        }
    }
}
