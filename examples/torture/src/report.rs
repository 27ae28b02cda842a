//! What a run showed, in statements that are looked at before they are made.

use std::time::Duration;

use jackfield_stage::told::Told;

use crate::{
    Run,
    master::Weather,
    misfortunes::Misfortune,
    operator::{Heard, Word},
    site::Instance,
    verdict::Again,
};

impl Run {
    /// Whether all that was promised was kept, and something was promised and went wrong.
    pub(crate) fn passes(&self) -> bool {
        let kills = self.befallen.kills > 0;
        self.verdict.wrong.is_empty()
            && !self.promises.jobs.is_empty()
            && kills
            && self.hurt()
            && self.is_bounded()
            && self.spared().is_empty()
    }

    /// Says what was seen, and whether it is as it must be.
    pub fn tell(&self, told: &mut Told) {
        self.misfortunes(told);
        told.chapter("What was promised");
        told.check(
            &format!("{} events were acknowledged", self.promises.jobs.len()),
            !self.promises.jobs.is_empty(),
        );
        told.quote(&format!(
            "{} were posted again after that and recognized; {} attempts were refused and {} not answered, each with another after it",
            self.promises.again, self.refused, self.unanswered
        ));
        told.chapter("What came of it");
        let verdict = &self.verdict;
        let wrong = verdict.wrong.len();
        told.check(
            &format!(
                "{} events and {} deliveries are in the journal as the senders and the puppets know them, or were: {wrong} are not",
                verdict.events, verdict.deliveries
            ),
            wrong == 0 && verdict.deliveries > 0,
        );
        for wrong in verdict.wrong.iter().take(SHOWN) {
            told.quote(&format!("WRONG: {wrong}"));
        }
        told.quote(&format!("states: {}", listed(verdict.states.iter())));
        told.quote(&format!("dead for: {}", listed(verdict.reasons.iter())));
        let orders = verdict.orders.iter().map(|(order, count)| (order.word(), count));
        let calls: u64 = verdict.orders.values().sum();
        told.quote(&format!(
            "puppets were called {calls} times, and told: {}",
            listed(orders)
        ));
        told.check(
            &format!(
                "{} steps that had come to their end were called for again since the router had died or could not hear of it, and {} \
                 since the puppet had died; in {} lives of the router, in each of them no more than were under way",
                self.repeated(|again| again.unheard),
                self.repeated(|again| again.crashed),
                self.befallen.kills + self.befallen.stops + 1,
            ),
            self.is_bounded(),
        );
        for (life, again) in verdict
            .again
            .iter()
            .filter(|(life, again)| !self.bounds(**life, again))
        {
            told.quote(&format!(
                "WRONG: in life {life} it was {again:?}, and {} at most may have been unheard",
                self.most_unheard(*life)
            ));
        }
        told.quote(&format!(
            "{} ends of calls were not heard; {} puppets failed as they were made again",
            verdict.unheard, self.unmade
        ));
        told.quote(&format!(
            "{} calls of what is paced, none of them too soon; {} of its deliveries were seen to wait for that",
            verdict.paced, self.put_off
        ));
        told.quote(&format!(
            "{} events were pruned; of {} of their deliveries the puppets alone tell the end",
            verdict.pruned, verdict.told_by_puppets
        ));
    }

    fn misfortunes(&self, told: &mut Told) {
        told.chapter("What went wrong");
        let befallen = &self.befallen;
        told.check(
            &format!("the router was killed {} times", befallen.kills),
            befallen.kills > 0,
        );
        let counts = befallen.counts.iter().map(|(kind, count)| (kind.words(), count));
        told.quote(&listed(counts));
        told.quote(&format!(
            "rules: {} taken up, {} refused; plugins: {} taken up, {} refused; {} deliveries to be canceled",
            befallen.rules_taken,
            befallen.rules_refused,
            befallen.plugins_taken,
            befallen.plugins_refused,
            befallen.canceled.len()
        ));
        let words = Word::ALL.map(|word| (word.words(), self.heard(word)));
        let unheard = befallen
            .said
            .iter()
            .filter(|said| said.heard == Heard::Nothing)
            .count();
        told.quote(&format!(
            "dead letters: {}; {unheard} times the router died over it; lines were held up {} times",
            listed(words.into_iter()),
            self.verdict.held
        ));
        let injected = self.injected;
        told.check(
            &format!(
                "calls of the system failed or lagged: {} writes, {} syncs, {} opens failed; {} syncs took longer; {} looks at the clock were misled",
                injected.writes, injected.syncs, injected.opens, injected.delayed, injected.shifted
            ),
            self.hurt(),
        );
        match self.spared() {
            _ if !self.is_long() => told.quote("too short for everything to come about by chance"),
            spared if spared.is_empty() => told.check("everything that can go wrong did", true),
            spared => told.check(
                &format!("everything that can go wrong did; missing: {}", spared.join(", ")),
                false,
            ),
        }
        if let Some(why) = &self.no_volume {
            told.quote(&format!(
                "SKIPPED: a disk that is full or read-only for real: {why}"
            ));
        }
    }

    /// How often the router did as a person said.
    fn heard(&self, word: Word) -> usize {
        let said = self.befallen.said.iter().filter(|said| said.word == word);
        said.filter(|said| matches!(said.heard, Heard::Yes(_))).count()
    }

    /// What did not befall it, though the run says that it does, and was long enough for it.
    fn spared(&self) -> Vec<&'static str> {
        if !self.is_long() {
            return Vec::new();
        }
        let (befallen, verdict) = (&self.befallen, &self.verdict);
        let real = |kind: &Misfortune| self.no_volume.is_none() || !Misfortune::OF_A_VOLUME.contains(kind);
        let kinds = Misfortune::ALL.into_iter().filter(real);
        let kinds = kinds.map(|kind| (kind.words(), befallen.counts.contains_key(&kind)));
        let orders = Weather::STORM
            .orders()
            .map(|order| (order.word(), verdict.orders.contains_key(&order)));
        let words = Word::ALL
            .into_iter()
            .map(|word| (word.words(), self.heard(word) > 0));
        let others = [
            (
                "refused for want of room",
                befallen.without_room > 0 || self.no_volume.is_some(),
            ),
            ("rules refused", befallen.rules_refused > 0),
            ("plugins refused", befallen.plugins_refused > 0),
            ("waited for its rate", self.put_off > 0),
            ("a puppet failed to be made", self.unmade > 0),
            ("superseded", verdict.states.contains_key("superseded")),
            ("canceled", verdict.states.contains_key("canceled")),
            ("a line held up", verdict.held > 0),
            (
                "a deadline passed",
                verdict.reasons.contains_key("deadline-passed"),
            ),
            ("pruned", verdict.pruned > 0),
        ];
        let all = kinds.chain(orders).chain(words).chain(others);
        all.filter(|(_, befell)| !befell).map(|(what, _)| what).collect()
    }

    fn is_long(&self) -> bool {
        self.plan.length >= LONG
    }

    /// Whether each fault that was set has befallen the router.
    fn hurt(&self) -> bool {
        let (injected, counts) = (self.injected, &self.befallen.counts);
        let set = |kinds: &[Misfortune]| kinds.iter().any(|kind| counts.contains_key(kind));
        let befell = [
            (
                set(&[Misfortune::Writes, Misfortune::NoSpace, Misfortune::ReadOnly]),
                injected.writes,
            ),
            (set(&[Misfortune::Syncs]), injected.syncs),
            (set(&[Misfortune::Slow]), injected.delayed),
            (set(&[Misfortune::Clock]), injected.shifted),
        ];
        befell.iter().any(|(set, _)| *set) && befell.iter().all(|(set, count)| !set || *count > 0)
    }

    fn repeated(&self, how: impl Fn(&Again) -> u64) -> u64 {
        self.verdict.again.values().map(how).sum()
    }

    /// How many calls can have been under way at the end of a life of the router, and when it was kept from hearing of them.
    fn most_unheard(&self, life: u64) -> u64 {
        let in_flight: u64 = Instance::ALL
            .iter()
            .map(|instance| u64::from(instance.at_once))
            .sum();
        let deafened = self.befallen.deafened.get(&life).copied().unwrap_or(0);
        (1 + deafened) * in_flight
    }

    fn bounds(&self, life: u64, again: &Again) -> bool {
        again.unheard <= self.most_unheard(life) && again.crashed <= again.most_crashed
    }

    fn is_bounded(&self) -> bool {
        let mut lives = self.verdict.again.iter();
        lives.all(|(life, again)| self.bounds(*life, again))
    }

    /// What tells this run from others.
    pub fn seed(&self) -> u64 {
        self.plan.seed
    }
}

fn listed<W: std::fmt::Display, C: std::fmt::Display>(counts: impl Iterator<Item = (W, C)>) -> String {
    counts
        .map(|(what, count)| format!("{what} {count}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Long enough for each kind of misfortune to befall the router.
const LONG: Duration = Duration::from_secs(240);
/// How many mistakes are shown.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use jackfield_stage::disk::Injected;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        Plan,
        master::Order,
        misfortunes::Befallen,
        operator::Said,
        senders::{Promise, Promises},
        verdict::Verdict,
    };

    /// A run in which everything went wrong and nothing was lost.
    fn sound() -> Run {
        let now = Instant::now();
        let promise = Promise {
            events: vec!["evt_1".into()],
            posted: now,
            acknowledged: now,
            answered: now,
        };
        let said = Word::ALL.map(|word| Said {
            word,
            delivery: "dlv_1".into(),
            at: 1,
            heard: Heard::Yes(vec![]),
        });
        let again = Again {
            unheard: 3,
            crashed: 2,
            most_crashed: 24,
        };
        Run {
            plan: Plan {
                seed: 1,
                length: LONG,
                senders: 1,
                pause: Duration::ZERO,
                say: false,
            },
            no_volume: None,
            befallen: Befallen {
                counts: Misfortune::ALL.map(|kind| (kind, 1)).into(),
                kills: 3,
                stops: 2,
                rules_taken: 1,
                rules_refused: 1,
                plugins_taken: 1,
                plugins_refused: 1,
                without_room: 1,
                said: said.into(),
                ..Befallen::default()
            },
            injected: Injected {
                delayed: 1,
                writes: 1,
                syncs: 1,
                opens: 1,
                shifted: 1,
            },
            put_off: 1,
            unmade: 1,
            refused: 1,
            unanswered: 1,
            promises: Promises {
                jobs: [("k01-000001".to_owned(), promise)].into(),
                again: 1,
            },
            verdict: Verdict {
                events: 1,
                deliveries: 4,
                states: [("superseded", 1), ("canceled", 1), ("succeeded", 1), ("dead", 1)].into(),
                reasons: [("deadline-passed", 1)].into(),
                orders: Weather::STORM.orders().map(|order| (order, 1)).collect(),
                again: [(0, again)].into(),
                pruned: 1,
                held: 1,
                ..Verdict::default()
            },
        }
    }

    #[track_caller]
    fn check(holds: bool, change: impl FnOnce(&mut Run)) {
        let mut run = sound();
        change(&mut run);
        let mut told = Told::default();
        run.tell(&mut told);
        assert_eq!((told.all_true(), run.passes()), (holds, holds));
    }

    #[test]
    fn a_run_passes_in_which_all_was_kept_that_was_promised() {
        check(true, |_| {});
    }

    #[test]
    fn a_run_that_acknowledged_nothing_fails() {
        check(false, |run| run.promises.jobs.clear());
    }

    #[test]
    fn a_run_in_which_nothing_was_injected_fails() {
        check(false, |run| run.befallen.kills = 0);
        check(false, |run| run.injected = Injected::default());
        check(false, |run| {
            run.plan.length = Duration::ZERO;
            run.befallen.counts.clear();
        });
    }

    #[test]
    fn a_fault_that_was_set_and_befell_nobody_fails_the_run() {
        check(false, |run| run.injected.delayed = 0);
        check(false, |run| run.injected.writes = 0);
        check(false, |run| run.injected.syncs = 0);
        check(false, |run| run.injected.shifted = 0);
        check(true, |run| {
            run.plan.length = Duration::ZERO;
            run.befallen.counts.remove(&Misfortune::Slow);
            run.injected.delayed = 0;
        });
    }

    #[test]
    fn a_run_in_which_something_is_wrong_fails() {
        check(false, |run| run.verdict.wrong.push("it is lost".into()));
    }

    #[test]
    fn more_repetitions_than_there_were_calls_under_way_in_a_life_fail_the_run() {
        let again = |life: u64, unheard: u64, crashed: u64| {
            move |run: &mut Run| {
                let again = Again {
                    unheard,
                    crashed,
                    most_crashed: 24,
                };
                run.verdict.again.insert(life, again);
            }
        };
        check(true, again(1, 36, 24));
        // However often it died elsewhere.
        check(false, again(1, 37, 0));
        check(false, again(1, 0, 25));
        check(true, |run| {
            run.befallen.deafened.insert(1, 1);
            again(1, 72, 0)(run);
        });
    }

    #[test]
    fn a_long_run_that_spared_the_router_something_fails() {
        check(false, |run| {
            run.befallen.counts.remove(&Misfortune::Freeze);
        });
        check(false, |run| {
            run.verdict.orders.remove(&Order::Crash);
        });
        check(false, |run| {
            run.befallen.said.remove(0);
        });
        check(false, |run| run.verdict.pruned = 0);
        check(false, |run| run.unmade = 0);
        check(true, |run| {
            run.befallen.counts.remove(&Misfortune::Freeze);
            run.plan.length = LONG / 2;
        });
        // Where nothing can be mounted, that is no fault of the run's.
        let unmounted = |run: &mut Run| {
            for kind in Misfortune::OF_A_VOLUME {
                run.befallen.counts.remove(&kind);
            }
            run.befallen.without_room = 0;
        };
        check(false, unmounted);
        check(true, |run| {
            unmounted(run);
            run.no_volume = Some("mounting is not allowed".into());
        });
    }
}
