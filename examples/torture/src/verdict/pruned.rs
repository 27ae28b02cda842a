//! What retention took before anybody had seen it settled: the puppets know whether it had come to its end.

use std::time::Duration;

use super::{Evidence, order::key};
use crate::{
    master::{Call, MOURN, Order},
    site::{ATTEMPTS, BY_TIME, COALESCING, FREE, LATEST, SUPERSEDING, TIMELY},
};

impl Evidence<'_> {
    /// Whether a route's delivery of an event that is gone can have been settled.
    pub(super) fn came_to_its_end(&self, event: &str, job: &str, route: &str) -> Result<(), String> {
        if route == TIMELY {
            // The clock has leapt past its deadline, else it would not be gone.
            return Ok(());
        }
        let is_of = |call: &&&Call| {
            let told = &call.told;
            told.route == route
                && told.input.jobs.iter().any(|told| told == job)
                && (COALESCING.contains(&route) || told.event == event)
        };
        let called = self.calls_about(job);
        let calls: Vec<_> = called.iter().filter(is_of).copied().collect();
        let is_canceled = self.ended.befallen.canceled.iter().any(|(id, canceled)| {
            let is_it = canceled.route == route && canceled.events.iter().any(|canceled| canceled == event);
            is_it || calls.iter().any(|call| call.told.delivery == *id)
        });
        // Of a burst of which the newest is seen, nothing tells of the others.
        let may_yield = SUPERSEDING.contains(&route) || route == LATEST;
        if is_canceled || (may_yield && self.has_newer(route, job)) {
            return Ok(());
        }
        let Some(last) = calls.iter().rfind(|call| call.told.step != MOURN) else {
            // A call that is in the process both times that it dies may not have come to say anything.
            return match self.has_died_since(job) {
                true => Ok(()),
                false => Err("nothing was ever called".into()),
            };
        };
        if calls.iter().any(|call| call.told.step == MOURN) || self.is_an_end(last, &calls) {
            return Ok(());
        }
        let Call { told, order, .. } = last;
        Err(format!(
            "the last call, attempt {} of `{}`, was told `{}`",
            told.attempt,
            told.step,
            order.word()
        ))
    }

    /// Whether nothing had to come after this call.
    fn is_an_end(&self, last: &Call, calls: &[&Call]) -> bool {
        let goes_on = last.told.route == FREE && last.told.step == "first";
        match last.order {
            Order::Done | Order::Skip => !goes_on,
            Order::Fatal | Order::Ambiguous | Order::Large => true,
            Order::Retry | Order::Panic | Order::Crash | Order::Wait | Order::Deaf => {
                // Those after it may have ended before a puppet said anything: with the router, or with its own process. And a
                // call that was in that both times that it died is not made again.
                let unsaid = self.deaths_after(last);
                let deaths = calls.iter().filter(|call| self.was_in_a_death(call)).count();
                last.told.attempt + unsaid >= ATTEMPTS || deaths > 1
            }
        }
    }

    /// How many processes died in the time in which a delivery is tried again.
    fn deaths_after(&self, last: &Call) -> u32 {
        let after = self.calls.partition_point(|call| call.came <= last.came);
        let soon = self.calls[after..]
            .iter()
            .take_while(|call| call.at - last.at < TRIED);
        let (mut life, mut deaths) = (last.life, 0);
        for call in soon {
            deaths += u32::from(call.life > life) + u32::from(is_deadly(call));
            life = call.life;
        }
        deaths
    }

    /// Whether the puppets' process died while the call was under way.
    fn was_in_a_death(&self, call: &Call) -> bool {
        let from = self
            .calls
            .partition_point(|other| other.came < call.came.saturating_sub(BEFORE));
        let near = self.calls[from..]
            .iter()
            .take_while(|other| other.came < call.went);
        near.filter(|other| is_deadly(other))
            .any(|other| other.went > call.came)
    }

    /// Whether the puppets' process died twice since the job was posted.
    fn has_died_since(&self, job: &str) -> bool {
        let posted = self.promises.jobs.get(job).map(|promise| promise.posted);
        let later = self.calls.iter().filter(|call| Some(call.at) > posted);
        later.filter(|call| is_deadly(call)).count() > 1
    }

    fn calls_about(&self, job: &str) -> &[&Call] {
        self.by_job.get(job).map_or(&[][..], Vec::as_slice)
    }

    /// Whether an event of the same key came that the route takes for newer.
    fn has_newer(&self, route: &str, job: &str) -> bool {
        let of_key = self
            .promises
            .jobs
            .range::<str, _>((std::ops::Bound::Included(key(job)), std::ops::Bound::Unbounded));
        let mut others = of_key.take_while(|(other, _)| key(other) == key(job));
        // What nobody has seen may have come at any time.
        let time = |job: &str, unknown| self.time_of(job).unwrap_or(unknown);
        others.any(|(other, _)| match route {
            BY_TIME => other != job && time(other, i64::MAX) >= time(job, i64::MIN),
            _ => other.as_str() > job,
        })
    }

    /// When the event of a job came, by the router's clock.
    fn time_of(&self, job: &str) -> Option<i64> {
        let event = self.promises.jobs.get(job)?.events.last()?;
        self.ended.archive.times.get(event).copied()
    }
}

/// Whether the puppet's process dies of it, and whatever is under way in it.
pub(super) fn is_deadly(call: &Call) -> bool {
    matches!(call.order, Order::Crash | Order::Deaf)
}

/// How long the attempts of a step take at most, with all that goes wrong meanwhile.
const TRIED: Duration = Duration::from_secs(60);
/// So many moments lie between the beginning of a call and its end at most.
const BEFORE: u64 = 10_000;
