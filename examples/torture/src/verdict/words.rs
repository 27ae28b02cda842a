//! What people were told is so: what was made for their word, how it began, and what it let go.

use std::collections::BTreeMap;

use jackfield::{delivery::State, reason::Reason};

use super::{Evidence, Verdict, order::key};
use crate::{
    master::{Call, MOURN},
    operator::{Heard, Said, Word},
    site::{FREE, HELD},
};

pub(super) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for said in &evidence.ended.befallen.said {
        let Heard::Yes(made) = &said.heard else { continue };
        for made in made {
            if let Err(wrong) = evidence.is_made(said, made) {
                verdict.wrong.push(format!(
                    "{} was {}, for which {made} was made, and {wrong}",
                    said.delivery,
                    said.word.words()
                ));
            }
        }
    }
    evidence.held(&mut verdict.wrong);
}

impl Evidence<'_> {
    /// Whether a delivery came of a word as it should.
    fn is_made(&self, said: &Said, made: &str) -> Result<(), String> {
        let calls: Vec<_> = self
            .calls_of(made)
            .iter()
            .filter(|call| call.told.step != MOURN)
            .collect();
        let parents = self.calls_of(&said.delivery);
        let Some(story) = self.stories.get(made) else {
            let told = self
                .calls_of(made)
                .iter()
                .chain(parents)
                .map(|call| &call.told.event);
            let parent = self.stories.get(said.delivery.as_str());
            let mut events = told.chain(parent.iter().flat_map(|parent| &parent.events));
            return match events.any(|event| self.gone.contains(event.as_str())) {
                true => Ok(()),
                false => Err("the journal does not know it".into()),
            };
        };
        if story
            .parent
            .as_ref()
            .is_some_and(|parent| *parent != said.delivery)
        {
            return Err(format!("it replays {:?}", story.parent));
        }
        let Some(first) = calls.first() else {
            let is_resolved = |step: &str| {
                let mut attempts = story.attempts.iter();
                attempts.any(|attempt| attempt.step == step && attempt.reason == Some(Reason::Resolved))
            };
            return match said.word == Word::Done && story.route != FREE {
                true if story.state != State::Succeeded => Err(format!("it is {}", story.state.word())),
                true if !is_resolved("only") => Err("nothing of it says that it is resolved".into()),
                _ => Ok(()),
            };
        };
        let key = &first.told.key;
        let is_own = key.starts_with(made);
        let before = parents.iter().rfind(|call| call.told.step == first.told.step);
        match said.word {
            Word::Done if story.route != FREE => Err("it was called for".into()),
            Word::Renew | Word::Repeat if !is_own => Err(format!("its key is {key}")),
            Word::Keep if before.is_some_and(|before| before.told.key != *key) => {
                Err(format!("its key is {key}"))
            }
            Word::Skip | Word::Keep | Word::Renew | Word::Done | Word::Repeat => Ok(()),
        }
    }

    /// Behind a dead one that holds its line up, nothing is called for before somebody says a word of it.
    fn held(&self, wrong: &mut Vec<String>) {
        let mut lines: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in self.calls.iter().filter(|call| call.told.route == HELD) {
            lines.entry(key(call.told.job())).or_default().push(call);
        }
        for (key, calls) in lines {
            for pair in calls.windows(2) {
                let [call, next] = pair else { continue };
                let (id, other) = (&call.told.delivery, &next.told.delivery);
                let is_dead = self
                    .stories
                    .get(id.as_str())
                    .is_some_and(|story| story.state == State::Dead);
                if id == other || !is_dead {
                    continue;
                }
                let mut said = self.ended.befallen.said.iter();
                if !said.any(|said| said.delivery == *id && said.at < next.came) {
                    wrong.push(format!(
                        "{id} is dead and held up the line of {key}, and {other} was called for before anybody let it go"
                    ));
                }
            }
        }
        for story in self.stories.values().filter(|story| story.held) {
            // What was seen to hold its line up was let go since, or is there still.
            let mut said = self.ended.befallen.said.iter();
            if !said.any(|said| said.delivery == story.id) {
                wrong.push(format!("{} holds its line up to the end", story.id));
            }
        }
    }
}
