//! What a run showed, in statements that are looked at before they are made.

use std::time::Duration;

use jackfield_stage::told::Told;

use crate::{
    Run,
    master::{Order, Weather},
    misfortunes::Misfortune,
    operator::{Heard, Word},
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
                "{} steps that had come to their end were called for again, since the router or the puppet had died: at most {}",
                verdict.repeated,
                self.bound()
            ),
            self.is_bounded(),
        );
        told.quote(&format!("{} ends of calls were not heard", verdict.unheard));
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

    /// How many calls can have been in flight at all those ends of a process.
    fn bound(&self) -> u64 {
        let crashes = self.verdict.orders.get(&Order::Crash).copied().unwrap_or(0);
        let ends = self.befallen.kills + self.befallen.stops + self.befallen.plugins_taken + crashes;
        ends * IN_FLIGHT
    }

    fn is_bounded(&self) -> bool {
        self.verdict.repeated <= self.bound()
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

/// The calls that all instances take at once.
const IN_FLIGHT: u64 = 24 + 8 + 4;
/// Long enough for each kind of misfortune to befall the router.
const LONG: Duration = Duration::from_secs(240);
/// How many mistakes are shown.
const SHOWN: usize = 20;
