//! Rests of instances: who finds one at rest, what the end of a call says of it, and what outlasts a restart.

use jackfield_event::{DeliveryId, Timestamp};

use super::Course;
use crate::{
    dispatcher::{
        Shared,
        breaker::{Change, Way},
        limits::Limits,
    },
    journal::JournalError,
    plugin::Report,
    reason::Reason,
};

impl Course<'_> {
    /// Until when to wait, and why, where the instance rests.
    pub(super) fn resting(&self, instance: &str) -> Option<(Timestamp, Reason, String)> {
        self.shared.limits(instance).breaker?;
        let now = self.shared.clock.now();
        match self.shared.breakers.way(instance, self.claim.delivery, now) {
            Way::Free => None,
            Way::Resting(until, why) => {
                self.shared.metrics.put_off(instance, Reason::InstanceResting);
                Some((until, Reason::InstanceResting, why.to_string()))
            }
        }
    }
}

impl Shared {
    /// What bounds the calls of an instance.
    pub(super) fn limits(&self, instance: &str) -> &Limits {
        self.options.limits.get(instance).unwrap_or(&self.unsaid)
    }

    /// Gives the instance a rest, or ends it, where this end of a call says so.
    pub(super) async fn heed_outcome(&self, instance: &str, delivery: DeliveryId, report: &Report) {
        let Some(breaker) = self.limits(instance).breaker else {
            return;
        };
        let now = self.clock.now();
        let change = self.breakers.note(instance, delivery, report, breaker, now);
        let written = match change {
            None => return,
            Some(Change::Opens(rest)) => {
                tracing::error!(instance, until = %rest.until, reason = %rest.detail, "instance is given a rest");
                self.metrics.resting(instance, true);
                self.journal.rest(instance, Some(rest)).await
            }
            Some(Change::Closes) => {
                tracing::info!(instance, "instance works again");
                self.metrics.resting(instance, false);
                self.end_rest(instance).await
            }
        };
        // The rest is kept all the same, by this process; and what waits for its end looks again by itself.
        if let Err(error) = written {
            tracing::warn!(instance, error = %error, "the journal could not note the rest of an instance");
        }
    }

    async fn end_rest(&self, instance: &str) -> Result<(), JournalError> {
        self.journal.rest(instance, None).await?;
        self.journal
            .wake(vec![instance.to_owned()], Reason::InstanceResting)
            .await
    }

    /// Takes up the rests that an earlier run gave, as far as instances are still given any.
    pub(in crate::dispatcher) async fn recall_rests(&self) {
        let rests = match self.journal.rests().await {
            Ok(rests) => rests,
            Err(error) => {
                tracing::warn!(error = %error, "the journal could not tell which instances rest");
                return;
            }
        };
        for (instance, rest) in rests {
            if rest.reason != Reason::InstanceResting {
                continue;
            }
            match self.limits(&instance).breaker {
                Some(breaker) => {
                    self.breakers
                        .remember(&instance, &rest, breaker, self.clock.now());
                    self.metrics.resting(&instance, true);
                }
                None => drop(self.end_rest(&instance).await),
            }
        }
    }
}
