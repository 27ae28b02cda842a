//! Holds what the journal says against what was promised to the senders and what the puppets were told. Each thing that is
//! not as it must be comes out as a sentence.

mod attempts;
mod newest;
mod order;
mod pace;
mod pruned;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jackfield::delivery::State;

use crate::{
    archive::Story,
    master::{Call, Order},
    misfortunes::Ended,
    senders::{Promise, Promises},
    site::{COALESCING, DEDUP_WINDOW, Instance, owed},
};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    pub(crate) states: BTreeMap<&'static str, u64>,
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    pub(crate) orders: BTreeMap<Order, u64>,
    /// Calls that were made again after one that had come to its end, of which the router did not hear; by the life in which it had.
    pub(crate) again: BTreeMap<u64, Again>,
    /// Calls whose outcome the router did not hear.
    pub(crate) unheard: u64,
    /// Events that retention took.
    pub(crate) pruned: u64,
    /// Deliveries of those that nobody had seen settled: the puppets alone tell of their end.
    pub(crate) told_by_puppets: u64,
    /// Dead ones that held their lines up.
    pub(crate) held: u64,
    /// Calls of what is paced.
    pub(crate) paced: u64,
    /// What is not as it must be.
    pub(crate) wrong: Vec<String>,
}

/// Calls that were made again after one that had come to its end in some life of the router.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Again {
    /// Since that life had ended before it heard of it, or it was kept from hearing.
    pub(crate) unheard: u64,
    /// Since the process had died in which it was made.
    pub(crate) crashed: u64,
    /// How many calls can have been in those processes at most.
    pub(crate) most_crashed: u64,
}

/// Everything that is held against everything else.
struct Evidence<'e> {
    ended: &'e Ended,
    promises: &'e Promises,
    /// In the order in which they came.
    calls: &'e [Call],
    by_delivery: HashMap<&'e str, Vec<&'e Call>>,
    by_job: HashMap<&'e str, Vec<&'e Call>>,
    /// The deliveries of each event that no person asked for.
    owed: HashMap<&'e str, Vec<&'e Story>>,
    /// What is known of each delivery.
    stories: BTreeMap<&'e str, &'e Story>,
    /// What each event is about.
    jobs: BTreeMap<&'e str, &'e str>,
    /// Events that retention took.
    gone: HashSet<&'e str>,
}

/// Judges.
pub(crate) fn judge(ended: &Ended, promises: &Promises, calls: &[Call]) -> Verdict {
    let mut verdict = Verdict {
        wrong: ended.archive.turned.clone(),
        ..Verdict::default()
    };
    let evidence = Evidence::gather(ended, promises, calls, &mut verdict);
    evidence.promised(&mut verdict);
    evidence.owed(&mut verdict);
    for (id, story) in &evidence.stories {
        verdict.deliveries += 1;
        verdict.held += u64::from(story.held);
        *verdict.states.entry(story.state.word()).or_default() += 1;
        if let Some(failure) = &story.failure {
            *verdict.reasons.entry(failure.reason.code()).or_default() += 1;
        }
        attempts::check(story, evidence.calls_of(id), &evidence, &mut verdict);
        if story.state == State::Canceled && !ended.befallen.canceled.contains_key(*id) {
            verdict
                .wrong
                .push(format!("{id} is canceled, and nobody asked for it"));
        }
    }
    for (delivery, calls) in &evidence.by_delivery {
        let is_gone = || {
            calls
                .iter()
                .all(|call| evidence.gone.contains(call.told.event.as_str()))
        };
        if !evidence.stories.contains_key(delivery) && !is_gone() {
            verdict.wrong.push(format!(
                "{delivery} was called for, and the journal does not know it"
            ));
        }
    }
    order::check(&evidence, &mut verdict);
    pace::check(&evidence, &mut verdict);
    words::check(&evidence, &mut verdict);
    newest::check(&evidence, &mut verdict);
    verdict
}

impl<'e> Evidence<'e> {
    fn gather(ended: &'e Ended, promises: &'e Promises, calls: &'e [Call], verdict: &mut Verdict) -> Self {
        let archive = &ended.archive;
        let mut evidence = Self {
            ended,
            promises,
            calls,
            by_delivery: HashMap::new(),
            by_job: HashMap::new(),
            owed: HashMap::new(),
            stories: BTreeMap::new(),
            jobs: BTreeMap::new(),
            gone: HashSet::new(),
        };
        for call in calls {
            evidence
                .by_delivery
                .entry(&call.told.delivery)
                .or_default()
                .push(call);
            for job in &call.told.input.jobs {
                evidence.by_job.entry(job).or_default().push(call);
            }
            *verdict.orders.entry(call.order).or_default() += 1;
            if pruned::is_deadly(call) {
                let most = u64::from(Instance::of(&call.told.route).at_once);
                verdict.again.entry(call.life).or_default().most_crashed += most;
            }
        }
        for (event, job) in &archive.events {
            if let Some(job) = job {
                evidence.jobs.insert(event, job);
            }
        }
        for (job, promise) in &promises.jobs {
            for event in &promise.events {
                evidence.jobs.insert(event, job);
            }
        }
        for event in archive
            .events
            .keys()
            .map(String::as_str)
            .chain(evidence.jobs.keys().copied())
        {
            if !archive.there.contains(event) {
                evidence.gone.insert(event);
            }
        }
        verdict.events = archive.there.len() as u64;
        for (id, story) in &archive.stories {
            evidence.stories.insert(id, story);
            for event in story.events.iter().filter(|_| !story.is_replay) {
                evidence.owed.entry(event).or_default().push(story);
            }
        }
        evidence
    }

    fn calls_of(&self, delivery: &str) -> &[&'e Call] {
        self.by_delivery.get(delivery).map_or(&[][..], Vec::as_slice)
    }

    /// Every acknowledged event is there, or may be pruned; and nobody knows of no other.
    fn promised(&self, verdict: &mut Verdict) {
        for (job, promise) in &self.promises.jobs {
            for event in &promise.events {
                match (self.gone.contains(event.as_str()), self.may_be_pruned(promise)) {
                    (false, _) => {}
                    (true, true) => verdict.pruned += 1,
                    (true, false) => verdict
                        .wrong
                        .push(format!("{event} ({job}) was acknowledged and is lost")),
                }
            }
            if promise.events.len() > 1 && !self.may_be_forgotten(promise) {
                verdict.wrong.push(format!(
                    "{job} was acknowledged as {}",
                    promise.events.join(" and as ")
                ));
            }
        }
        for event in self.ended.archive.events.keys() {
            // What an attempt became that was not answered is another's, once it is forgotten.
            let job = self.jobs.get(event.as_str()).copied();
            let is_known = match job.and_then(|job| self.promises.jobs.get(job)) {
                Some(promise) => promise.events.contains(event) || self.may_be_forgotten(promise),
                None => false,
            };
            if !is_known {
                verdict.wrong.push(format!(
                    "{event} ({job:?}) is there, and its sender knows nothing of it"
                ));
            }
        }
    }

    /// Whether what was posted again may have been taken for something new: its key holds for a time of the clock.
    fn may_be_forgotten(&self, promise: &Promise) -> bool {
        let first = (promise.posted, promise.acknowledged);
        self.ended
            .clock
            .may_have_passed(DEDUP_WINDOW, first, promise.answered)
    }

    /// Whether the event's key may have expired since; until then its rows stay.
    fn may_be_pruned(&self, promise: &Promise) -> bool {
        let posted = (promise.posted, promise.answered);
        let now = self.ended.archive.looked();
        self.ended.clock.may_have_passed(DEDUP_WINDOW, posted, now)
    }

    /// Every event owes one delivery to each route that asks for it, all of them by one set of rules.
    fn owed(&self, verdict: &mut Verdict) {
        for (event, job) in &self.jobs {
            let routes: BTreeSet<_> = owed(job).collect();
            let found = self.owed.get(event).map_or(&[][..], Vec::as_slice);
            let names: BTreeSet<_> = found.iter().map(|story| story.route.as_str()).collect();
            let gone = self.gone.contains(event);
            if names.len() != found.len() || !names.is_subset(&routes) || (!gone && names != routes) {
                verdict
                    .wrong
                    .push(format!("{event} ({job}) owes to {names:?}, not to {routes:?}"));
            }
            for route in routes.iter().filter(|route| gone && !names.contains(*route)) {
                verdict.told_by_puppets += 1;
                if let Err(wrong) = self.came_to_its_end(event, job, route) {
                    verdict
                        .wrong
                        .push(format!("{event} ({job}) was pruned, and of `{route}` {wrong}"));
                }
            }
            // A burst is one delivery of several events, which different rules may have decided about.
            let of_its_own = found
                .iter()
                .filter(|story| !COALESCING.contains(&story.route.as_str()));
            let calls = of_its_own.flat_map(|story| self.calls_of(&story.id));
            let sets: BTreeSet<_> = calls.map(|call| call.told.input.set).collect();
            if sets.len() > 1 {
                verdict.wrong.push(format!(
                    "{event} ({job}) was handled by several sets of rules: {sets:?}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        archive::Archive,
        clock::Settings,
        master::tests::call,
        misfortunes::Befallen,
        operator::{Heard, Said, Word},
        site::{BY_TIME, HELD, LATEST, NEWEST, ORDERED, TIMELY},
    };

    /// A run in which jobs were promised as `evt_` and their name, and what became of it.
    struct Case {
        ended: Ended,
        promises: Promises,
        calls: Vec<Call>,
    }

    impl Case {
        fn of(jobs: &[&str], clock: Settings) -> Self {
            let now = Instant::now();
            let promise = |job: &&str| {
                let promise = Promise {
                    events: vec![format!("evt_{job}")],
                    posted: now,
                    acknowledged: now,
                    answered: now,
                };
                ((*job).to_owned(), promise)
            };
            Self {
                ended: Ended {
                    befallen: Befallen::default(),
                    archive: Archive::new("nowhere".into()),
                    clock,
                },
                promises: Promises {
                    jobs: jobs.iter().map(promise).collect(),
                    again: 0,
                },
                calls: Vec::new(),
            }
        }

        fn call(&mut self, route: &str, job: &str, delivery: &str, order: Order) {
            let mut call = call(1, order, true);
            call.told.event = format!("evt_{job}");
            call.told.input.jobs = vec![job.to_owned()];
            call.told.key = format!("{delivery}/only");
            (call.told.route, call.told.delivery) = (route.to_owned(), delivery.to_owned());
            (call.came, call.ordered) = (self.moment(), self.moment() + 1);
            call.went = call.ordered;
            self.calls.push(call);
        }

        fn say(&mut self, delivery: &str, word: Word, made: &[&str]) {
            let said = Said {
                word,
                delivery: delivery.to_owned(),
                at: self.moment(),
                heard: Heard::Yes(made.iter().map(|made| (*made).to_owned()).collect()),
            };
            self.ended.befallen.said.push(said);
        }

        fn moment(&self) -> u64 {
            10 * (self.calls.len() + self.ended.befallen.said.len()) as u64
        }

        fn story(&mut self, route: &str, job: &str, delivery: &str, state: State) {
            let story = Story {
                id: delivery.to_owned(),
                route: route.to_owned(),
                is_replay: false,
                parent: None,
                successor: None,
                events: vec![format!("evt_{job}")],
                state,
                held: false,
                deadline: None,
                failure: None,
                attempts: Vec::new(),
            };
            self.ended.archive.stories.insert(delivery.to_owned(), story);
        }

        /// What is found that says so.
        fn found(&self, words: &str) -> usize {
            let verdict = judge(&self.ended, &self.promises, &self.calls);
            verdict.wrong.iter().filter(|wrong| wrong.contains(words)).count()
        }
    }

    #[test]
    fn what_is_gone_is_lost_until_its_key_may_have_expired() {
        let lost = "was acknowledged and is lost";
        assert_eq!(Case::of(&["k01-000001"], Settings::never()).found(lost), 1);
        assert_eq!(
            Case::of(&["k01-000001"], Settings::leaping(DEDUP_WINDOW)).found(lost),
            0
        );
        let short = DEDUP_WINDOW - Duration::from_secs(60);
        assert_eq!(Case::of(&["k01-000001"], Settings::leaping(short)).found(lost), 1);
    }

    #[test]
    fn what_has_succeeded_is_not_dead_afterwards() {
        let job = "k01-000001";
        let mut case = Case::of(&[job], Settings::leaping(DEDUP_WINDOW));
        let dead = "dlv_1 of `ordered` was succeeded, and later it was dead";
        case.story(ORDERED, job, "dlv_1", State::Succeeded);
        assert!(case.ended.archive.is_known("dlv_1", State::Succeeded));
        assert_eq!(case.found(dead), 0);
        assert!(case.ended.archive.is_known("dlv_1", State::Dead));
        assert_eq!(case.found(dead), 1);
        assert!(!case.ended.archive.is_known("dlv_2", State::Dead));
    }

    #[test]
    fn what_took_the_place_of_another_is_newer_and_of_its_key() {
        let jobs = ["k01-000001", "k01-000003", "k02-000003"];
        let check = |route: &str, successor: Option<&str>, wrong: usize| {
            let mut case = Case::of(&jobs, Settings::never());
            for (at, (job, delivery)) in jobs.iter().zip(["dlv_1", "dlv_2", "dlv_3"]).enumerate() {
                case.story(route, job, delivery, State::Succeeded);
                let event = format!("evt_{job}");
                // The second came when the clock had been set back.
                let time = [10, 5, 10][at];
                case.ended.archive.times.insert(event.clone(), time);
                case.ended.archive.there.insert(event);
            }
            let superseded = if successor == Some("dlv_1") {
                "dlv_2"
            } else {
                "dlv_1"
            };
            let story = case.ended.archive.stories.get_mut(superseded).unwrap();
            (story.state, story.successor) = (State::Superseded, successor.map(str::to_owned));
            assert_eq!(case.found("took its place"), wrong, "{route} {successor:?}");
        };
        check(NEWEST, Some("dlv_2"), 0);
        check(NEWEST, Some("dlv_1"), 1);
        check(BY_TIME, Some("dlv_1"), 0);
        check(BY_TIME, Some("dlv_2"), 1);
        check(NEWEST, Some("dlv_3"), 1);
        check(NEWEST, Some("dlv_4"), 1);
        check(NEWEST, None, 1);
    }

    #[test]
    fn what_was_forgotten_and_posted_again_is_newer_than_what_it_was_before() {
        let job = "k01-000001";
        for (older, newer, wrong) in [
            ("evt_1", "evt_2", 0),
            ("evt_2", "evt_1", 1),
            ("evt_0", "evt_1", 0),
        ] {
            let mut case = Case::of(&[job], Settings::leaping(DEDUP_WINDOW));
            // Of the first of all no answer told.
            case.promises.jobs.get_mut(job).unwrap().events = vec!["evt_1".into(), "evt_2".into()];
            for (event, delivery) in [(older, "dlv_1"), (newer, "dlv_2")] {
                case.story(NEWEST, job, delivery, State::Succeeded);
                let story = case.ended.archive.stories.get_mut(delivery).unwrap();
                story.events = vec![event.into()];
                case.ended.archive.events.insert(event.into(), Some(job.into()));
                case.ended.archive.there.insert(event.into());
            }
            let story = case.ended.archive.stories.get_mut("dlv_1").unwrap();
            (story.state, story.successor) = (State::Superseded, Some("dlv_2".into()));
            assert_eq!(case.found("took its place"), wrong, "{older} {newer}");
        }
    }

    #[test]
    fn of_a_burst_its_steps_see_the_newest_though_it_is_gone_before_others() {
        let (older, newer) = ("k01-000001", "k01-000002");
        for (told, there, wrong) in [
            (newer, &[older, newer][..], 0),
            (older, &[older, newer], 1),
            (newer, &[older], 0),
        ] {
            let mut case = Case::of(&[older, newer], Settings::leaping(DEDUP_WINDOW));
            case.call(LATEST, told, "dlv_1", Order::Done);
            case.story(LATEST, older, "dlv_1", State::Succeeded);
            let events: Vec<_> = there.iter().map(|job| format!("evt_{job}")).collect();
            case.ended.archive.there.extend(events.iter().cloned());
            case.ended.archive.stories.get_mut("dlv_1").unwrap().events = events;
            assert_eq!(case.found("was of"), wrong, "{told} of {there:?}");
        }
    }

    #[test]
    fn an_instance_takes_no_more_calls_at_once_than_it_is_configured_to() {
        let case = |count: usize| {
            let jobs: Vec<_> = (0..count).map(|number| format!("k{number:02}-000001")).collect();
            let jobs: Vec<_> = jobs.iter().map(String::as_str).collect();
            let mut case = Case::of(&jobs, Settings::never());
            for (number, job) in jobs.iter().enumerate() {
                let delivery = format!("dlv_{number}");
                case.call(ORDERED, job, &delivery, Order::Done);
                case.story(ORDERED, job, &delivery, State::Succeeded);
                let story = case.ended.archive.stories.get_mut(&delivery).unwrap();
                story.attempts.push(crate::archive::Attempt {
                    phase: jackfield::delivery::Phase::Steps,
                    step: "only".into(),
                    number: 1,
                    outcome: Some(jackfield::delivery::Outcome::Done),
                    reason: None,
                });
            }
            for call in &mut case.calls {
                (call.ordered, call.went) = (100_000, 100_000);
            }
            case.found("were called for at once")
        };
        assert_eq!(case(24), 0);
        assert_eq!(case(25), 1);
    }

    #[test]
    fn what_was_pruned_had_come_to_its_end() {
        let job = "k01-000001";
        for (order, wrong) in [
            (Order::Done, 0),
            (Order::Fatal, 0),
            (Order::Retry, 1),
            (Order::Panic, 1),
        ] {
            let mut case = Case::of(&[job], Settings::leaping(DEDUP_WINDOW));
            case.call(ORDERED, job, "dlv_1", order);
            assert_eq!(case.found("was pruned, and of `ordered`"), wrong, "{order:?}");
        }
        let mut case = Case::of(&[job], Settings::leaping(DEDUP_WINDOW));
        assert_eq!(
            case.found("was pruned, and of `ordered` nothing was ever called"),
            1
        );
        case.story(ORDERED, job, "dlv_1", State::Dead);
        assert_eq!(
            case.found("was pruned, and of `ordered`"),
            0,
            "it was seen settled"
        );
    }

    #[test]
    fn behind_one_that_holds_its_line_up_nothing_comes_before_a_word() {
        let jobs = ["k01-000005", "k01-000010"];
        let mut case = Case::of(&jobs, Settings::leaping(DEDUP_WINDOW));
        case.story(HELD, jobs[0], "dlv_1", State::Dead);
        case.call(HELD, jobs[0], "dlv_1", Order::Fatal);
        let mut too_soon = Case::of(&jobs, Settings::leaping(DEDUP_WINDOW));
        std::mem::swap(&mut too_soon.ended, &mut case.ended);
        too_soon.calls = case.calls.clone();
        too_soon.call(HELD, jobs[1], "dlv_2", Order::Done);
        assert_eq!(too_soon.found("before anybody let it go"), 1);

        let mut in_time = too_soon;
        in_time.calls.pop();
        in_time.say("dlv_1", Word::Skip, &[]);
        in_time.call(HELD, jobs[1], "dlv_2", Order::Done);
        assert_eq!(in_time.found("before anybody let it go"), 0);
    }

    #[test]
    fn what_is_made_for_a_word_is_as_it_was_asked_for() {
        let job = "k01-000005";
        let check = |word, key: &str, wrong| {
            let mut case = Case::of(&[job], Settings::leaping(DEDUP_WINDOW));
            case.call(HELD, job, "dlv_1", Order::Ambiguous);
            case.say("dlv_1", word, &["dlv_2"]);
            case.story(HELD, job, "dlv_2", State::Succeeded);
            case.call(HELD, job, "dlv_2", Order::Done);
            case.calls[1].told.key = key.to_owned();
            assert_eq!(case.found("for which dlv_2 was made"), wrong, "{word:?} {key}");
        };
        check(Word::Keep, "dlv_1/only", 0);
        check(Word::Keep, "dlv_2/only", 1);
        check(Word::Renew, "dlv_2/only", 0);
        check(Word::Repeat, "dlv_1/only", 1);
        check(Word::Done, "dlv_2/only", 1);
    }

    #[test]
    fn what_was_made_for_a_word_is_there_or_its_event_is_gone() {
        let job = "k01-000002";
        let mut case = Case::of(&[job], Settings::leaping(DEDUP_WINDOW));
        // Nothing was called before its deadline.
        case.story(TIMELY, job, "dlv_1", State::Dead);
        case.say("dlv_1", Word::Keep, &["dlv_2"]);
        assert_eq!(case.found("the journal does not know it"), 0);
        case.ended.archive.there.insert(format!("evt_{job}"));
        assert_eq!(case.found("the journal does not know it"), 1);
    }
}
