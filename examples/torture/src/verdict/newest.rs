//! Where newer ones take the place of older ones, the newest of all is among those that were carried out.

use std::collections::BTreeMap;

use jackfield::delivery::State;

use super::{Evidence, Verdict, order::key};
use crate::{
    archive::Story,
    master::Call,
    senders::Promise,
    site::{BURST, BY_TIME, LATEST, NEWEST, PACED},
};

pub(super) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for story in evidence.stories.values() {
        if story.state != State::Superseded {
            continue;
        }
        if let Err(wrong) = evidence.yielded(story) {
            let (id, route) = (&story.id, &story.route);
            verdict
                .wrong
                .push(format!("{id} of `{route}` is superseded, and {wrong}"));
        }
    }
    evidence.last_of_all(verdict);
}

impl Evidence<'_> {
    /// Whether a newer one of its route and key took its place. As each is newer than the one before, they end in one that nothing
    /// took the place of.
    fn yielded(&self, story: &Story) -> Result<(), String> {
        if story.is_replay {
            return Err("a person asked for it".into());
        }
        let Some(next) = self.successor(story)? else {
            return Ok(());
        };
        let (own, other) = (self.job_of(story), self.job_of(next));
        if let (Some(own), Some(other)) = (own, other)
            && (next.route != story.route || key(own) != key(other) || !self.is_newer(next, story))
        {
            return Err(format!(
                "{} of `{}`, {other}, took its place, and that of {own}",
                next.id, next.route
            ));
        }
        Ok(())
    }

    /// What took its place; nothing where that was pruned.
    fn successor(&self, story: &Story) -> Result<Option<&Story>, String> {
        let successor = story.successor.as_deref();
        let found = successor.and_then(|successor| self.stories.get(successor));
        match found {
            Some(next) => Ok(Some(next)),
            None if !self.gone.is_empty() => Ok(None),
            None => Err(format!(
                "nobody knows what took its place: {successor:?} of {}",
                story.id
            )),
        }
    }

    /// Whether its newest event is the newer one, as its route has it.
    fn is_newer(&self, story: &Story, than: &Story) -> bool {
        let age = |story: &Story| {
            let event = story.events.last();
            let time = event.and_then(|event| self.ended.archive.times.get(event));
            let time = time.filter(|_| story.route == BY_TIME).copied();
            // What was posted again when it was forgotten is another event of the same job.
            let job = self.job_of(story);
            let promise = job.and_then(|job| self.promises.jobs.get(job));
            let place =
                promise.and_then(|promise| promise.events.iter().position(|other| Some(other) == event));
            (time, job.map(str::to_owned), place)
        };
        let (other, own) = (age(story), age(than));
        let unknown = other.2.is_none() || own.2.is_none();
        other > own || ((other.0, &other.1) >= (own.0, &own.1) && unknown && story.events != than.events)
    }

    /// What its newest event is about.
    fn job_of(&self, story: &Story) -> Option<&str> {
        let newest = story.events.last()?;
        self.jobs.get(newest.as_str()).copied()
    }

    /// The last of each key was carried out, or else its end is told.
    fn last_of_all(&self, verdict: &mut Verdict) {
        let mut last: BTreeMap<&str, (&str, &Promise)> = BTreeMap::new();
        for (job, promise) in &self.promises.jobs {
            // Jobs are in order, and so are their numbers within a key.
            last.insert(key(job), (job, promise));
        }
        for (key, (job, promise)) in last {
            let event = promise.events.last().map_or("", String::as_str);
            let stories = self.owed.get(event).into_iter().flatten();
            for story in
                stories.filter(|story| [NEWEST, BURST, LATEST, PACED].contains(&story.route.as_str()))
            {
                let id = &story.id;
                if story.state == State::Superseded {
                    verdict
                        .wrong
                        .push(format!("{id} is superseded, and {job} is the newest of {key}"));
                }
                let is_told = |call: &&&Call| call.told.input.jobs.iter().any(|told| told == job);
                if story.state == State::Succeeded && self.calls_of(id).iter().find(is_told).is_none() {
                    verdict.wrong.push(format!(
                        "{id} succeeded without a word of {job}, the newest of {key}"
                    ));
                }
            }
        }
    }
}
