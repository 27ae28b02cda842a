//! What a run showed, in statements that are looked at before they are made.

use jackfield_stage::told::Told;

use crate::{Run, misfortunes::Misfortune};

impl Run {
    /// Whether all that was promised was kept, and something was promised and went wrong.
    pub(crate) fn passes(&self) -> bool {
        let kills = self.befallen.kills > 0;
        self.verdict.wrong.is_empty()
            && !self.promises.events.is_empty()
            && kills
            && self.hurt()
            && self.is_bounded()
    }

    /// Says what was seen, and whether it is as it must be.
    pub fn tell(&self, told: &mut Told) {
        self.misfortunes(told);
        told.chapter("What was promised");
        told.check(
            &format!("{} events were acknowledged", self.promises.events.len()),
            !self.promises.events.is_empty(),
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
                "{} events and {} deliveries are in the journal as the senders and the puppets know them: {wrong} are not",
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
        told.quote(&format!("puppets were told: {}", listed(orders)));
        told.check(
            &format!(
                "{} steps that had come to their end were called for again, since the router or the puppet had died: at most {}",
                verdict.repeated,
                self.bound()
            ),
            self.is_bounded(),
        );
        told.quote(&format!("{} ends of calls were not heard", verdict.unheard));
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
            "rules: {} taken up, {} refused; plugins: {} taken up, {} refused; {} dead letters replayed, {} deliveries to be canceled",
            befallen.rules_taken,
            befallen.rules_refused,
            befallen.plugins_taken,
            befallen.plugins_refused,
            befallen.replays,
            befallen.canceled.len()
        ));
        let injected = self.injected;
        told.check(
            &format!(
                "calls of the system failed or lagged: {} writes, {} syncs, {} opens failed; {} syncs took longer; {} looks at the clock were misled",
                injected.writes, injected.syncs, injected.opens, injected.delayed, injected.shifted
            ),
            self.hurt(),
        );
        if let Some(why) = &self.no_volume {
            told.quote(&format!(
                "SKIPPED: a disk that is full or read-only for real: {why}"
            ));
        }
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
        let crashes = self
            .verdict
            .orders
            .get(&crate::master::Order::Crash)
            .copied()
            .unwrap_or(0);
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

/// The calls that both instances take at once.
const IN_FLIGHT: u64 = 24 + 8;
/// How many mistakes are shown.
const SHOWN: usize = 20;
