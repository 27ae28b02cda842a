//! No more calls than a rate allows, whatever was killed and started again; and no more at once than a limit or an instance allows.
//!
//! What the router counts is the start of a call, by its own clock. What is seen here is its arrival, by another. So in any
//! stretch of time may be seen: what the rate lets begin in it, and what had begun before. A call that is late by a little does
//! not put off those after it. A clock that is set may fill the bucket, once, when that is noticed.

use std::{collections::BTreeMap, time::Duration};

use super::{Evidence, Verdict, attempts::was_heard, order::key};
use crate::{
    clock::Settings,
    master::Call,
    site::{GROUP, GROUP_AT_ONCE, Instance, KEY_PACE, PACE, PACED, Pace},
};

pub(super) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let paced: Vec<_> = evidence
        .calls
        .iter()
        .filter(|call| call.told.route == PACED)
        .collect();
    verdict.paced = paced.len() as u64;
    let clock = &evidence.ended.clock;
    verdict.wrong.extend(too_fast("`paced`", &paced, PACE, clock));
    let mut by_key: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &paced {
        by_key.entry(key(call.told.job())).or_default().push(call);
    }
    for (key, calls) in by_key {
        verdict
            .wrong
            .extend(too_fast(&format!("`paced` for {key}"), &calls, KEY_PACE, clock));
    }
    let group = |call: &Call| call.told.job().chars().take(GROUP).collect::<String>();
    at_once(evidence, &paced, group, |_| GROUP_AT_ONCE, &mut verdict.wrong);
    let all: Vec<_> = evidence.calls.iter().collect();
    let instance = |call: &Call| Instance::of(&call.told.route);
    at_once(
        evidence,
        &all,
        instance,
        |instance| instance.at_once as usize,
        &mut verdict.wrong,
    );
}

/// The first stretch in which more calls were seen than may be.
fn too_fast(what: &str, calls: &[&Call], pace: Pace, clock: &Settings) -> Option<String> {
    for (from, first) in calls.iter().enumerate() {
        for (seen, last) in (1_u32..).zip(&calls[from..]) {
            let time = last.at - first.at;
            // Settings are looked for only where they matter.
            if f64::from(seen) <= pace.allows(time, 0) {
                continue;
            }
            let settings = clock.count(first.at.checked_sub(NOTICED).unwrap_or(first.at), last.at);
            if f64::from(seen) > pace.allows(time, settings) {
                return Some(format!(
                    "of {what}, {seen} calls came within {time:?} (lives {} to {}, {settings} settings of the clock), \
                     and {:.1} may",
                    first.life,
                    last.life,
                    pace.allows(time, settings)
                ));
            }
        }
    }
    None
}

impl Pace {
    /// How many calls may be seen within some time, in which the clock was set so often.
    fn allows(&self, time: Duration, settings: usize) -> f64 {
        let stretches = f64::from(u32::try_from(settings + 1).unwrap_or(u32::MAX));
        let filled = stretches * (f64::from(self.burst) + LATE.div_duration_f64(self.interval));
        // Of a life that ended as well, some that had begun may come.
        filled + time.div_duration_f64(self.interval) + f64::from(2 * self.at_once)
    }
}

/// Of those that have something in common, only so many calls are under way at a time.
fn at_once<G: Ord + std::fmt::Debug>(
    evidence: &Evidence<'_>,
    calls: &[&Call],
    common: impl Fn(&Call) -> G,
    most: impl Fn(&G) -> usize,
    wrong: &mut Vec<String>,
) {
    let mut under_way: BTreeMap<G, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        let group = common(call);
        let most = most(&group);
        let words = format!("{group:?}");
        let others = under_way.entry(group).or_default();
        // Of a call whose end the router did not hear, it may know that it is over.
        others.retain(|other| {
            let story = evidence.stories.get(other.told.delivery.as_str());
            other.ordered > call.came
                && other.life == call.life
                && story.is_some_and(|story| was_heard(story, other))
        });
        others.push(call);
        if others.len() > most {
            let of = |call: &&Call| format!("{} of `{}`", call.told.job(), call.told.route);
            let jobs: Vec<_> = others.iter().map(of).collect();
            wrong.push(format!(
                "of {words}, these were called for at once: {}",
                jobs.join(", ")
            ));
        }
    }
}

/// How late a call may be that was told its time, without putting off those after it.
const LATE: Duration = Duration::from_millis(100);
/// How long it may take until a setting of the clock is noticed, with deaths and stops in between.
const NOTICED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::{Order, tests::call};

    /// What is found of one key whose calls come at these seconds.
    fn found(seconds: &[u64]) -> Option<String> {
        let first = call(1, Order::Done, true);
        let calls: Vec<_> = seconds
            .iter()
            .map(|seconds| Call {
                at: first.at + Duration::from_secs(*seconds),
                ..first.clone()
            })
            .collect();
        too_fast(
            "it",
            &calls.iter().collect::<Vec<_>>(),
            KEY_PACE,
            &Settings::never(),
        )
    }

    #[test]
    fn a_rate_is_kept_where_no_stretch_has_more_than_it_allows() {
        // Two at once, two that had begun before, and one every ten seconds.
        assert_eq!(found(&[0, 0, 0, 0, 10, 20, 30]), None);
        let wrong = found(&[0, 0, 0, 0, 10, 12, 14]).unwrap();
        assert!(wrong.starts_with("of it, 6 calls came within 12s"), "{wrong}");
    }

    #[test]
    fn a_bucket_that_is_full_again_after_each_death_is_found() {
        let bursts: Vec<_> = (0..60).flat_map(|death| [death * 5, death * 5]).collect();
        assert!(found(&bursts).is_some());
    }
}
