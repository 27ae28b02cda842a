//! Within an order key, one delivery at a time, in the order in which the events came.

use std::collections::HashMap;

use super::{Evidence, Verdict, attempts::was_heard};
use crate::{
    master::{Call, IN_PROCESS},
    site::{BURST, BY_TIME, HELD, LATEST, NEWEST, ORDERED, PACED},
};

/// The order key of a job.
pub(super) fn key(job: &str) -> &str {
    job.split_once('-').map_or(job, |(key, _)| key)
}

pub(super) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let in_order = [ORDERED, IN_PROCESS, NEWEST, BY_TIME, BURST, LATEST, PACED, HELD];
    let (mut last, mut newest) = (HashMap::new(), HashMap::new());
    for call in evidence.calls {
        let (route, job) = (call.told.route.as_str(), call.told.job());
        // Of what is gone unseen nobody knows whether somebody asked for it.
        let story = evidence.stories.get(call.told.delivery.as_str());
        let (true, Some(story)) = (in_order.contains(&route), story) else {
            continue;
        };
        let line = (route, key(job));
        let before: Option<&Call> = last.insert(line, call);
        let before = before.filter(|before| before.told.delivery != call.told.delivery);
        // Of a call of which the router did not hear, it could not wait for the end.
        let is_heard = |before: &&Call| {
            let story = evidence.stories.get(before.told.delivery.as_str());
            story.is_some_and(|story| was_heard(story, before))
        };
        if let Some(before) = before.filter(is_heard)
            && call.came < before.ordered
        {
            verdict.wrong.push(format!(
                "of `{route}`, {job} was called for while {} was under way",
                before.told.job()
            ));
        }
        // A replay comes when somebody asks for it.
        if story.is_replay {
            continue;
        }
        if let Some(earlier) = newest.insert(line, job)
            && earlier > job
        {
            verdict
                .wrong
                .push(format!("of `{route}`, {job} was called for after {earlier}"));
        }
    }
}
