//! Rests for instances that fail, whoever calls them.
//!
//! A service that is down fails every call, and each spends an attempt. After so many deliveries in turn have failed at an instance
//! without one that succeeded, its breaker *opens*: the instance rests, in the journal, so that nothing of it is claimed and no
//! attempt is spent. After the rest one call is made to see; where it succeeds, all go on, else the next rest is twice as long.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jackfield_event::{DeliveryId, Timestamp};

use crate::{delivery::Outcome, journal::Rest, plugin::Report, reason::Reason};

/// When an instance is given a rest, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// After so many deliveries that failed in turn.
    pub failures: NonZeroU32,
    /// The first rest.
    pub rest: Duration,
    /// The longest.
    pub max: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::new(10).expect("10 is not zero"),
            rest: Duration::from_secs(10),
            max: Duration::from_secs(300),
        }
    }
}

/// The breakers of all instances that were called, as far as they are not just closed.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<String, State>>);

#[derive(Debug)]
enum State {
    /// Calls are made; these deliveries failed since the last that succeeded. → Open
    Closed { failed: HashSet<DeliveryId> },
    /// None are made until then. → Trial
    Open {
        until: Timestamp,
        rest: Duration,
        why: Arc<str>,
    },
    /// One is made at a time, to see. → Closed, Open
    Trial {
        by: Option<DeliveryId>,
        rest: Duration,
        why: Arc<str>,
    },
}

/// What the end of a call does to a breaker.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// The instance rests.
    Opens(Rest),
    /// It works again.
    Closes,
}

/// Whether a call may be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// It may.
    Free,
    /// Not before that, for this reason.
    Resting(Timestamp, Arc<str>),
}

impl Breakers {
    /// Takes up what an earlier run left.
    pub(super) fn remember(&self, instance: &str, rest: &Rest, breaker: Breaker, now: Timestamp) {
        let left = rest.until.saturating_since(now);
        let open = State::Open {
            until: rest.until,
            // As long as it was at least, so that it is not taken for one that a clock made long.
            rest: left.clamp(breaker.rest, breaker.max.max(breaker.rest)),
            why: rest.detail.as_str().into(),
        };
        self.states().insert(instance.to_owned(), open);
    }

    /// Whether a delivery may call the instance now. During a trial only one may, and that is this one from now on.
    pub(super) fn way(&self, instance: &str, delivery: DeliveryId, now: Timestamp) -> Way {
        let mut states = self.states();
        let Some(state) = states.get_mut(instance) else {
            return Way::Free;
        };
        if let State::Open { until, rest, why } = state {
            // A clock that was set back is no reason to rest for longer than was meant.
            if now < *until && until.saturating_since(now) <= rest.saturating_mul(2) {
                return Way::Resting(*until, Arc::clone(why));
            }
            *state = State::Trial {
                by: None,
                rest: *rest,
                why: Arc::clone(why),
            };
        }
        match state {
            State::Trial {
                by: Some(by), why, ..
            } if *by != delivery => Way::Resting(now.saturating_add(LOOK_AGAIN), Arc::clone(why)),
            State::Trial { by, .. } => {
                *by = Some(delivery);
                Way::Free
            }
            State::Closed { .. } | State::Open { .. } => Way::Free,
        }
    }

    /// Instances at which a trial is made: no more is to be claimed of them.
    pub(super) fn tried(&self) -> Vec<String> {
        let states = self.states();
        let tried = states
            .iter()
            .filter(|(_, state)| matches!(state, State::Trial { by: Some(_), .. }));
        tried.map(|(instance, _)| instance.clone()).collect()
    }

    /// A delivery is at work no longer: where it was to be a trial and made no call, another may be.
    pub(super) fn pass_on(&self, delivery: DeliveryId) {
        for state in self.states().values_mut() {
            match state {
                State::Trial { by, .. } if *by == Some(delivery) => *by = None,
                State::Trial { .. } | State::Closed { .. } | State::Open { .. } => {}
            }
        }
    }

    /// Notes how a call of `delivery` ended.
    pub(super) fn note(
        &self,
        instance: &str,
        delivery: DeliveryId,
        report: &Report,
        breaker: Breaker,
        now: Timestamp,
    ) -> Option<Change> {
        let mut states = self.states();
        match tells(report) {
            None => {
                if let Some(State::Trial { by, .. }) = states.get_mut(instance) {
                    by.take_if(|by| *by == delivery);
                }
                None
            }
            // Closed is what nothing is known of.
            Some(true) => match states.remove(instance)? {
                State::Closed { .. } => None,
                State::Open { .. } | State::Trial { .. } => Some(Change::Closes),
            },
            Some(false) => {
                let state = states
                    .entry(instance.to_owned())
                    .or_insert_with(|| State::Closed {
                        failed: HashSet::new(),
                    });
                let (rest, words) = match state {
                    State::Closed { failed } => {
                        failed.insert(delivery);
                        if failed.len() < breaker.failures.get() as usize {
                            return None;
                        }
                        (
                            breaker.rest,
                            format!("{} deliveries in turn failed", failed.len()),
                        )
                    }
                    // What was under way when it opened says nothing new, also where it ends during the trial.
                    State::Open { .. } => return None,
                    State::Trial { by, .. } if *by != Some(delivery) => return None,
                    State::Trial { rest, .. } => (
                        rest.saturating_mul(2).min(breaker.max),
                        "the call that was to see whether it works failed".to_owned(),
                    ),
                };
                let asked = report.retry_after.unwrap_or_default().min(breaker.max);
                let rest = rest.max(asked);
                let until = now.saturating_add(rest);
                let last = report.message.as_deref().unwrap_or("the plugin gave no reason");
                let detail = format!("`{instance}` rests: {words}, the last since {last}");
                *state = State::Open {
                    until,
                    rest,
                    why: detail.as_str().into(),
                };
                Some(Change::Opens(Rest {
                    until,
                    reason: Reason::InstanceResting,
                    detail,
                }))
            }
        }
    }

    /// A leaf lock.
    fn states(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is called works, as far as the end of a call tells.
fn tells(report: &Report) -> Option<bool> {
    match (report.outcome, report.reason) {
        (Outcome::Done | Outcome::Skipped, _) => Some(true),
        // The router's own doing; and a worker that keeps dying has a rest of its own.
        (_, Some(Reason::Interrupted | Reason::InstanceDown | Reason::WorkDirectoryFailed)) => None,
        (Outcome::Retry | Outcome::Ambiguous, _) => Some(false),
        // Of this input alone, or so says the plugin.
        (Outcome::Fatal, _) => None,
    }
}

/// When one looks again that is not the trial; it is woken when that succeeds.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds).unwrap()
    }

    fn delivery(number: i64) -> DeliveryId {
        DeliveryId::new(at(number), 0)
    }

    fn report(outcome: Outcome) -> Report {
        Report {
            outcome,
            reason: None,
            code: 0,
            output: None,
            message: Some("503".to_owned()),
            retry_after: None,
        }
    }

    const BREAKER: Breaker = Breaker {
        failures: NonZeroU32::new(3).expect("3 is not zero"),
        rest: Duration::from_secs(10),
        max: Duration::from_secs(30),
    };

    /// The change when a call of the delivery of that number ends so.
    fn note(breakers: &Breakers, number: i64, outcome: Outcome, seconds: i64) -> Option<Change> {
        breakers.note("a", delivery(number), &report(outcome), BREAKER, at(seconds))
    }

    fn until(change: Option<Change>) -> Option<Timestamp> {
        match change {
            Some(Change::Opens(rest)) => Some(rest.until),
            Some(Change::Closes) | None => None,
        }
    }

    #[test]
    fn it_opens_when_enough_deliveries_have_failed_in_turn() {
        let breakers = Breakers::default();
        for number in [1, 1, 1, 2] {
            assert_eq!(
                note(&breakers, number, Outcome::Retry, 0),
                None,
                "one may fail often"
            );
        }
        assert_eq!(note(&breakers, 3, Outcome::Done, 0), None);
        for number in [1, 2] {
            assert_eq!(
                note(&breakers, number, Outcome::Retry, 0),
                None,
                "they count anew"
            );
        }
        assert_eq!(
            note(&breakers, 4, Outcome::Fatal, 0),
            None,
            "which says nothing of it"
        );
        let Some(Change::Opens(rest)) = note(&breakers, 3, Outcome::Ambiguous, 5) else {
            panic!("it is the third");
        };
        assert_eq!((rest.until, rest.reason), (at(15), Reason::InstanceResting));
        assert_eq!(
            rest.detail,
            "`a` rests: 3 deliveries in turn failed, the last since 503"
        );
        assert_eq!(
            breakers.way("a", delivery(5), at(14)),
            Way::Resting(at(15), rest.detail.into())
        );
        assert_eq!(breakers.way("b", delivery(5), at(14)), Way::Free);
    }

    #[test]
    fn after_a_rest_one_call_is_made_to_see_and_rests_grow() {
        let breakers = Breakers::default();
        for number in 0..3 {
            let _ = note(&breakers, number, Outcome::Retry, 0);
        }
        assert_eq!(breakers.tried(), Vec::<String>::new());
        for (begins, ends) in [(10, 30), (30, 60), (60, 90)] {
            assert_eq!(breakers.way("a", delivery(7), at(begins)), Way::Free);
            assert_ne!(breakers.way("a", delivery(8), at(begins)), Way::Free);
            assert_eq!(breakers.tried(), ["a"]);
            assert_eq!(until(note(&breakers, 7, Outcome::Retry, begins)), Some(at(ends)));
        }
        assert_eq!(breakers.way("a", delivery(7), at(90)), Way::Free);
        breakers.pass_on(delivery(7));
        assert_eq!(
            breakers.way("a", delivery(8), at(90)),
            Way::Free,
            "it made no call"
        );
        assert_eq!(note(&breakers, 8, Outcome::Fatal, 90), None);
        assert_eq!(
            breakers.way("a", delivery(9), at(90)),
            Way::Free,
            "nothing is known yet"
        );
        assert_eq!(note(&breakers, 9, Outcome::Done, 91), Some(Change::Closes));
        assert_eq!(breakers.way("a", delivery(1), at(91)), Way::Free);
        assert_eq!(breakers.way("a", delivery(2), at(91)), Way::Free);
    }

    #[test]
    fn calls_from_before_the_rest_decide_about_no_trial() {
        let breakers = Breakers::default();
        for number in 0..3 {
            let _ = note(&breakers, number, Outcome::Retry, 0);
        }
        assert_eq!(breakers.way("a", delivery(7), at(10)), Way::Free);
        assert_eq!(note(&breakers, 1, Outcome::Retry, 11), None);
        assert_eq!(note(&breakers, 2, Outcome::Fatal, 11), None);
        assert_ne!(
            breakers.way("a", delivery(8), at(11)),
            Way::Free,
            "the trial goes on"
        );
        assert_eq!(until(note(&breakers, 7, Outcome::Retry, 12)), Some(at(32)));
    }

    #[test]
    fn a_rest_that_had_grown_lasts_over_a_restart() {
        let breakers = Breakers::default();
        let rest = Rest {
            until: at(30),
            reason: Reason::InstanceResting,
            detail: "it failed".to_owned(),
        };
        breakers.remember("a", &rest, BREAKER, at(1));
        for seconds in [1, 29] {
            assert_ne!(breakers.way("a", delivery(1), at(seconds)), Way::Free);
        }
        assert_eq!(breakers.way("a", delivery(1), at(30)), Way::Free);
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_no_rest() {
        let breakers = Breakers::default();
        for number in 0..3 {
            let _ = note(&breakers, number, Outcome::Retry, 3_600);
        }
        assert_eq!(breakers.way("a", delivery(7), at(0)), Way::Free);
    }
}
