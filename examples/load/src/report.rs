//! What a run showed, in plain words; each statement is checked before it is made.

use std::{collections::HashSet, time::Duration};

use jackfield_stage::told::Told;

use crate::{Run, reload::Reloaded, replacement::Replaced, retention::Retained};

impl Run {
    /// Tells what was seen.
    pub fn tell(&self, told: &mut Told) {
        self.load(told);
        self.deliveries(told);
        if self.plan.replacements > 0 {
            self.replacements(told);
        }
        if self.plan.reloads > 0 {
            self.reloads(told);
        }
        if let Some(retained) = &self.retained {
            removed(retained, told);
        }
    }

    fn load(&self, told: &mut Told) {
        let (plan, tally) = (self.plan, &self.tally);
        told.chapter("The load");
        for (number, life) in tally.lives.iter().enumerate() {
            told.quote(&format!(
                "life {}: {} acknowledged, {} of them as duplicates; {} cut off in flight",
                number + 1,
                life.acknowledged,
                life.duplicates,
                life.broken
            ));
        }
        let acknowledged = tally.acknowledged.len();
        let seconds = tally.elapsed.as_secs_f64();
        told.check(
            &format!(
                "{acknowledged} of {} requests got their 200, over {} connections in {seconds:.1} s",
                plan.events.max(acknowledged as u64),
                plan.connections
            ),
            // While rules are replaced, or events removed, posting goes on.
            acknowledged > 0
                && (acknowledged as u64 == plan.events
                    || (plan.reloads > 0 || plan.retention) && acknowledged as u64 > plan.events),
        );
        let events: HashSet<_> = tally.acknowledged.iter().map(|(_, event)| event).collect();
        told.check(
            "each of them as an event of its own",
            events.len() == acknowledged && events.iter().all(|event| event.starts_with("evt_")),
        );
        for (kill, life) in (1..=plan.kills).zip(0..) {
            let (before, after) = (tally.lives.get(life), tally.lives.get(life + 1));
            let within = before.is_some_and(|life| life.acknowledged > 0 && life.broken > 0)
                && after.is_some_and(|life| life.acknowledged > 0);
            told.check(
                &format!(
                    "kill {kill} fell into the load: requests were in flight, and acknowledgements lie on both sides"
                ),
                within,
            );
        }
    }

    fn deliveries(&self, told: &mut Told) {
        told.chapter("What reached the plugin");
        let missing = self.missing();
        told.check(
            &format!(
                "{} of {} acknowledged events",
                self.tally.acknowledged.len() - missing.len(),
                self.tally.acknowledged.len()
            ),
            missing.is_empty(),
        );
        for event in missing.iter().take(SHOWN) {
            told.quote(&format!("acknowledged, and not delivered: {event}"));
        }
        let strange = self.strange();
        told.check("and no event that nobody was told of", strange.is_empty());
        for event in strange.iter().take(SHOWN) {
            told.quote(&format!("delivered, and not acknowledged: {event}"));
        }
        let owed = self.plan.owed();
        let repeated = self.delivered.values().filter(|count| **count > owed).count();
        let reports: u64 = self.delivered.values().sum();
        told.quote(&format!(
            "{repeated} events were delivered more often than they had to be: {reports} calls for {} events, {owed} for each",
            self.delivered.len()
        ));
        told.quote(&format!(
            "{} requests were answered as duplicates: committed, but the router died before it could say so",
            self.tally.duplicates()
        ));
    }

    fn replacements(&self, told: &mut Told) {
        told.chapter("The plugin's replacements");
        let Replaced {
            taken,
            refused,
            wrong,
            handled,
            workers,
        } = &self.replaced;
        let (good, bad) = (taken.len() as u64, refused.len() as u64);
        told.check(
            &format!(
                "{} files were put in its place: {good} took over, all of them good, and {bad} were refused, all of them bad",
                self.plan.replacements
            ),
            good == self.plan.replacements.div_ceil(2) && bad == self.plan.replacements / 2 && bad > 0,
        );
        for words in wrong {
            told.quote(&format!("wrong: {words}"));
        }
        let mut reasons: Vec<_> = refused.iter().collect();
        reasons.sort();
        reasons.dedup();
        for reason in reasons {
            told.quote(&format!("refused: {reason}"));
        }
        let is_one = |stamp: &String| stamp.is_empty() || taken.contains(stamp);
        told.check(
            &format!(
                "every event was handled by one of those that took over, or by the first: by {} of them",
                handled.len()
            ),
            handled.len() > 1 && handled.keys().all(is_one),
        );
        for (stamp, events) in handled.iter().filter(|(stamp, _)| !is_one(stamp)) {
            told.quote(&format!("handled by {stamp}, which was refused: {events} events"));
        }
        told.check("one worker process is left at the end", *workers == 1);
    }

    fn reloads(&self, told: &mut Told) {
        told.chapter("The reloads of the rules");
        let Reloaded {
            taken,
            refused,
            sets,
            mixed,
            quiet,
            busy,
        } = &self.reloaded;
        let bad = refused.len() as u64;
        told.check(
            &format!(
                "{} sets of {} rules were put in the place of others: {taken} were taken up, {bad} were refused",
                self.plan.reloads, self.plan.rules
            ),
            *taken == self.plan.reloads - (self.plan.reloads + 1) / 4 && taken + bad == self.plan.reloads,
        );
        for reason in refused.iter().take(1) {
            told.quote(&format!("refused: {reason}"));
        }
        told.check(
            &format!("all of those, and the first, have decided about events: {sets}"),
            *sets as u64 == taken + 1,
        );
        told.check(
            "and about each event one of them, whole and alone",
            mixed.is_empty(),
        );
        for event in mixed.iter().take(SHOWN) {
            told.quote(&format!("mixed: {event}"));
        }
        told.quote(&compared("rules were replaced", *quiet, *busy));
    }

    /// Tells what the router took of the memory, which is worth a word where it was built to be measured.
    pub fn tell_memory(&self, told: &mut Told) {
        told.chapter("Memory of the router");
        if self.plan.reloads > 0 {
            // The marks are for one rule.
            let [idle, peak] =
                [self.idle.resident, self.lives[0].peak].map(|bytes| bytes as f64 / MIB as f64);
            let rules = self.plan.rules;
            return told.quote(&format!(
                "{idle:.1} MiB idle with {rules} rules, {peak:.1} MiB at most"
            ));
        }
        let idle = ("idle, before the load".to_owned(), self.idle.resident, IDLE_MARK);
        let lives = self.lives.iter().enumerate().map(|(number, memory)| {
            let life = format!("at most, in life {}", number + 1);
            (life, memory.peak, PEAK_MARK)
        });
        for (when, bytes, mark) in std::iter::once(idle).chain(lives) {
            let found = bytes as f64 / MIB as f64;
            let statement = format!("{found:.1} MiB {when}, of at most {} MiB", mark / MIB);
            told.check(&statement, bytes <= mark);
        }
    }

    /// Events that were acknowledged and not delivered to each route that they owe it to.
    fn missing(&self) -> Vec<&str> {
        let acknowledged = self.tally.acknowledged.iter().map(|(_, event)| event.as_str());
        acknowledged
            .filter(|event| {
                self.delivered
                    .get(*event)
                    .is_none_or(|count| *count < self.plan.owed())
            })
            .collect()
    }

    /// Events that were delivered and not acknowledged.
    fn strange(&self) -> Vec<&str> {
        let acknowledged: HashSet<_> = self.tally.acknowledged.iter().map(|(_, event)| event).collect();
        let delivered = self.delivered.keys();
        delivered
            .filter(|event| !acknowledged.contains(event))
            .map(String::as_str)
            .collect()
    }
}

/// Tells what retention removed while events came in.
fn removed(retained: &Retained, told: &mut Told) {
    let Retained {
        pruned,
        given_back,
        quiet,
        busy,
    } = retained;
    told.chapter("Retention");
    told.check(
        &format!("{pruned} payloads, events and outcomes were removed while events came in"),
        *pruned > 0,
    );
    told.quote(&format!(
        "the database became shorter by {:.1} MiB",
        *given_back as f64 / MIB as f64
    ));
    told.quote(&compared("they were removed", *quiet, *busy));
}

/// What 99 in 100 requests took, beside what they took before and after: where those two are far apart, something else
/// disturbed the run, and there is nothing to compare with.
fn compared(what: &str, quiet: [Duration; 2], busy: Duration) -> String {
    let [before, after] = quiet.map(|time| time.as_secs_f64() * 1e3);
    let (least, most) = (before.min(after), before.max(after));
    let busy = busy.as_secs_f64() * 1e3;
    let times = format!(
        "99 in 100 requests took at most {before:.1} ms before {what}, {busy:.1} ms meanwhile, and {after:.1} ms after"
    );
    if most > least * DISTURBED_MARK {
        return format!(
            "{times}: NO VERDICT, since before and after are too far apart; was the machine busy with other things?"
        );
    }
    let ratio = busy / least;
    let verdict = if ratio < BUSY_MARK { "within" } else { "ABOVE" };
    format!(
        "{times}: {ratio:.2} times as long as in the better of the two, {verdict} the mark of {BUSY_MARK} times"
    )
}

/// How many times as long requests may take while something is done beside them.
const BUSY_MARK: f64 = 2.0;
/// How far apart two measures of the same may be.
const DISTURBED_MARK: f64 = 1.5;
const MIB: u64 = 1 << 20;
const IDLE_MARK: u64 = 40 * MIB;
const PEAK_MARK: u64 = 120 * MIB;
/// How many events of a kind are shown.
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use jackfield_stage::{
        load::{Life, Tally},
        router::Memory,
    };

    use super::*;
    use crate::Plan;

    /// Four events, one kill, all as it should be.
    fn sound() -> Run {
        let life = |acknowledged, broken| Life {
            acknowledged,
            duplicates: 0,
            broken,
        };
        let events = || (1..5_u64).map(|number| (number, format!("evt_{number}")));
        let memory = Memory {
            resident: MIB,
            peak: MIB,
        };
        Run {
            plan: Plan {
                events: 4,
                connections: 1,
                kills: 1,
                replacements: 2,
                reloads: 0,
                rules: 2,
                retention: false,
                rate: None,
            },
            tally: Tally {
                acknowledged: events().collect(),
                lives: vec![life(2, 1), life(2, 0)],
                ..Tally::default()
            },
            delivered: events().map(|(_, event)| (event, 1)).collect(),
            idle: memory,
            lives: vec![memory; 2],
            replaced: Replaced {
                taken: vec!["0001".into()],
                refused: vec!["it is not locked".into()],
                wrong: Vec::new(),
                handled: BTreeMap::from([(String::new(), 1), ("0001".into(), 3)]),
                workers: 1,
            },
            reloaded: Reloaded::default(),
            retained: None,
        }
    }

    /// The same with four reloads, one of them of faulty rules.
    fn reloaded(change: impl FnOnce(&mut Reloaded)) -> impl FnOnce(&mut Run) {
        |run| {
            run.plan.reloads = 4;
            run.delivered.values_mut().for_each(|count| *count = 2);
            run.reloaded = Reloaded {
                taken: 3,
                refused: vec!["there is no instance `nobody`".into()],
                sets: 4,
                ..Reloaded::default()
            };
            change(&mut run.reloaded);
        }
    }

    #[track_caller]
    fn check(holds: bool, change: impl FnOnce(&mut Run)) {
        let mut run = sound();
        change(&mut run);
        let mut told = Told::default();
        run.tell(&mut told);
        run.tell_memory(&mut told);
        assert_eq!(told.all_true(), holds);
    }

    #[test]
    fn a_run_passes_if_all_that_was_acknowledged_was_delivered_once_or_more() {
        check(true, |_| {});
        check(true, |run| {
            run.delivered.insert("evt_1".into(), 3);
        });
    }

    #[test]
    fn a_run_that_lost_something_or_showed_nothing_fails() {
        check(false, |run| {
            run.delivered.remove("evt_2");
        });
        check(false, |run| {
            run.delivered.insert("evt_5".into(), 1);
        });
        check(false, |run| run.tally.acknowledged[1].1 = "evt_1".into());
        check(false, |run| {
            run.tally.acknowledged.clear();
            run.delivered = HashMap::new();
        });
    }

    #[test]
    fn a_kill_outside_of_the_load_fails_the_run() {
        check(false, |run| run.tally.lives[0].broken = 0);
        check(false, |run| run.tally.lives[0].acknowledged = 0);
        check(false, |run| run.tally.lives[1].acknowledged = 0);
        check(false, |run| run.tally.lives.truncate(1));
    }

    #[test]
    fn a_replacement_that_came_to_nothing_or_left_something_behind_fails_the_run() {
        check(false, |run| run.replaced.taken.clear());
        check(false, |run| run.replaced.refused.clear());
        check(false, |run| run.replaced.workers = 2);
    }

    #[test]
    fn a_bad_file_that_took_over_or_handled_an_event_fails_the_run() {
        check(false, |run| {
            let bad = run.replaced.refused.pop().expect("there is one");
            run.replaced.taken.push(bad);
        });
        check(false, |run| {
            run.replaced.handled.insert("0002".into(), 1);
        });
        check(false, |run| {
            run.replaced.handled.retain(|stamp, _| stamp.is_empty())
        });
    }

    #[test]
    fn a_reload_that_came_to_nothing_or_mixed_rules_fails_the_run() {
        check(true, reloaded(|_| {}));
        check(true, |run| {
            reloaded(|_| {})(run);
            run.plan.events = 3;
        });
        check(false, reloaded(|reloaded| reloaded.refused.clear()));
        check(false, reloaded(|reloaded| reloaded.taken = 4));
        check(false, reloaded(|reloaded| reloaded.sets = 3));
        check(false, |run| {
            reloaded(|_| {})(run);
            run.delivered.insert("evt_2".into(), 1);
        });
        check(false, reloaded(|reloaded| reloaded.mixed = vec!["evt_1".into()]));
    }

    #[test]
    fn retention_that_removed_nothing_fails_the_run() {
        let retained = |pruned| {
            move |run: &mut Run| {
                run.retained = Some(Retained {
                    pruned,
                    ..Retained::default()
                });
            }
        };
        check(true, retained(1));
        check(false, retained(0));
    }

    #[test]
    fn reloads_are_compared_with_the_better_of_two_measures_that_agree_or_not_at_all() {
        let compare = |before, busy, after| {
            let [before, busy, after] = [before, busy, after].map(Duration::from_millis);
            let said = compared("rules were replaced", [before, after], busy);
            said.split_once(": ")
                .expect("times, then what they say")
                .1
                .to_owned()
        };
        assert_eq!(
            compare(12, 15, 10),
            "1.50 times as long as in the better of the two, within the mark of 2 times"
        );
        assert!(compare(10, 20, 12).contains("2.00 times as long as in the better of the two, ABOVE"));
        for (before, after) in [(460, 12), (12, 460)] {
            assert!(compare(before, 18, after).starts_with("NO VERDICT"));
        }
    }

    #[test]
    fn more_memory_than_the_marks_allow_fails_the_run() {
        check(true, |run| run.idle.resident = IDLE_MARK);
        check(false, |run| run.idle.resident = IDLE_MARK + 1);
        check(true, |run| run.lives[1].peak = PEAK_MARK);
        check(false, |run| run.lives[1].peak = PEAK_MARK + 1);
    }
}
