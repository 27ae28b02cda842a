//! Within an order key, one delivery at a time, in the order in which the events came.

use std::collections::{BTreeMap, HashMap};

use super::{Story, Verdict, attempts::was_heard};
use crate::{
    master::{Call, IN_PROCESS},
    site::{BURST, NEWEST, ORDERED},
};

/// The order key of a job.
pub(super) fn key(job: &str) -> &str {
    job.split_once('-').map_or(job, |(key, _)| key)
}

pub(super) fn check(stories: &BTreeMap<String, Story>, calls: &[Call], verdict: &mut Verdict) {
    let mut last: HashMap<(&str, &str), &Call> = HashMap::new();
    let in_order = [ORDERED, IN_PROCESS, NEWEST, BURST];
    // A replay comes when somebody asks for it.
    let is_replay = |call: &Call| {
        stories
            .get(&call.told.delivery)
            .is_some_and(|story| story.is_replay)
    };
    for call in calls
        .iter()
        .filter(|call| in_order.contains(&call.told.route.as_str()) && !is_replay(call))
    {
        let (route, job) = (call.told.route.as_str(), call.told.input.job.as_str());
        let before = last.insert((route, key(job)), call);
        let Some(before) = before.filter(|before| before.told.input.job != job) else {
            continue;
        };
        let earlier = before.told.input.job.as_str();
        if earlier > job {
            verdict
                .wrong
                .push(format!("of `{route}`, {job} was called for after {earlier}"));
        }
        // Of a call of which the router did not hear, it could not wait for the end.
        let story = stories.get(&before.told.delivery);
        if call.came < before.went && story.is_some_and(|story| was_heard(story, before)) {
            verdict.wrong.push(format!(
                "of `{route}`, {job} was called for while {earlier} was under way"
            ));
        }
    }
}
