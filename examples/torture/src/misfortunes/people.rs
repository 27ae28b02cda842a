//! People, who ask a router for things by its commands, whatever befalls it meanwhile.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jackfield_stage::router::Signal;
use serde_json::Value;

use super::{Canceled, Fate, OWED};
use crate::operator::{self, Dead, Heard, Word};

impl Fate<'_> {
    /// Dead letters are asked for again.
    pub(super) async fn replay(&mut self) -> anyhow::Result<()> {
        for dead in self.some(&["dead"], 5).await? {
            let word = if self.random.bool() {
                Word::Keep
            } else {
                Word::Renew
            };
            // Another look at it may find it replayed already, which is as good as any.
            let said = operator::say(&self.site.router, self.master, &id(&dead), word).await?;
            self.befallen.said.push(said);
        }
        Ok(())
    }

    /// What is owed is given up.
    pub(super) async fn cancel(&mut self) -> anyhow::Result<()> {
        for owed in self.some(&OWED, 3).await? {
            let id = id(&owed);
            // What has settled meanwhile is not canceled.
            self.site.router.attempt(&["deliveries", "cancel", &id]).await?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let canceled = Canceled {
                route: text(&owed["route"]),
                events: owed["events"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(text)
                    .collect(),
            };
            self.befallen.canceled.insert(id, canceled);
        }
        Ok(())
    }

    /// What holds up its line or leaves a doubt is dealt with.
    pub(super) async fn operate(&mut self) -> anyhow::Result<()> {
        let mut dead = operator::holding(&self.site.router).await?;
        let mut doubtful = operator::doubtful(&self.site.router).await?;
        self.random.shuffle(&mut doubtful);
        doubtful.retain(|one| dead.iter().all(|other| other.id != one.id));
        doubtful.truncate(2);
        dead.append(&mut doubtful);
        self.random.shuffle(&mut dead);
        if self.random.u8(0..3) == 0
            && let Some(dead) = dead.pop()
        {
            self.die_over(&dead).await?;
        }
        for dead in dead {
            self.deal_with(&dead).await?;
        }
        Ok(())
    }

    /// Says some word of a dead delivery, which is to be heard.
    pub(super) async fn deal_with(&mut self, dead: &Dead) -> anyhow::Result<()> {
        let word = self.word(dead);
        let said = operator::say(&self.site.router, self.master, &dead.id, word).await?;
        let was_heard = match &said.heard {
            Heard::Yes(_) => true,
            // What holds nobody up may be pruned meanwhile.
            Heard::No(reason) => !dead.holds && PRUNED.iter().any(|words| reason.contains(words)),
            Heard::Nothing => false,
        };
        ensure!(
            was_heard,
            "{} is not to be {}: {:?}",
            dead.id,
            word.words(),
            said.heard
        );
        self.befallen.said.push(said);
        Ok(())
    }

    /// The same, and the router is killed before it has answered, or just after.
    async fn die_over(&mut self, dead: &Dead) -> anyhow::Result<()> {
        let word = self.word(dead);
        let patience = Duration::from_millis(self.random.u64(0..60));
        let router = &self.site.router;
        let kill = async {
            tokio::time::sleep(patience).await;
            router.signal(Signal::KILL)
        };
        let said = operator::say(router, self.master, &dead.id, word);
        let (said, killed) = tokio::join!(said, kill);
        killed?;
        self.befallen.said.push(said?);
        self.site.router.ended().await?;
        self.master.next_life();
        self.befallen.kills += 1;
        self.site.router.start().await
    }

    /// What can be said of it, and was said least often.
    fn word(&mut self, dead: &Dead) -> Word {
        let mut words = match (dead.in_doubt, dead.holds) {
            (true, true) => Word::ALL.to_vec(),
            (true, false) => vec![Word::Done, Word::Repeat],
            (false, _) => vec![Word::Skip, Word::Keep, Word::Renew],
        };
        self.random.shuffle(&mut words);
        let said = |word: &Word| {
            self.befallen
                .said
                .iter()
                .filter(|said| said.word == *word)
                .count()
        };
        words.into_iter().min_by_key(said).unwrap_or(Word::Skip)
    }

    /// Any deliveries in one of these states, so many at most.
    async fn some(&mut self, states: &[&str], most: usize) -> anyhow::Result<Vec<Value>> {
        let asked = states.iter().flat_map(|state| ["--state", state]);
        let command: Vec<_> = ["deliveries", "list"].into_iter().chain(asked).collect();
        let listed = self.site.router.ask(&command).await?;
        let mut some = listed.as_array().cloned().context("a list of deliveries")?;
        self.random.shuffle(&mut some);
        some.truncate(most);
        Ok(some)
    }
}

fn id(delivery: &Value) -> String {
    delivery["id"].as_str().unwrap_or_default().to_owned()
}

/// What is said of what is no longer kept.
const PRUNED: [&str; 2] = ["no longer kept", "there is no delivery"];
