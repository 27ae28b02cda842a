//! What a process was told is on disk: what a thing is, since when it may be so, and from when on it must.

use std::{collections::BTreeMap, sync::Mutex};

use jackfield_event::DeliveryId;

use super::super::*;
use crate::journal::DeliveryRecord;

/// By thing, in order.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, Vec<Word>>);

/// Moments are how long the record was.
#[derive(Debug)]
struct Word {
    /// When it was asked for.
    since: u64,
    /// When it was told.
    at: u64,
    is: String,
}

impl Told {
    /// From what the process has printed.
    pub(super) fn read(printed: &str) -> Self {
        let mut told = Self::default();
        for line in printed.lines() {
            if let ["told", since, at, kind, name, is] = line.split(' ').collect::<Vec<_>>()[..] {
                let word = Word {
                    since: since.parse().unwrap(),
                    at: at.parse().unwrap(),
                    is: is.to_owned(),
                };
                told.0.entry(format!("{kind} {name}")).or_default().push(word);
            }
        }
        told
    }

    /// What each thing may be of which something was told by then: that, or what was asked for since.
    pub(super) fn at(&self, position: u64) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.0.iter().filter_map(move |(thing, words)| {
            let known = words.iter().rposition(|word| word.at <= position)?;
            let may_be = words[known..].iter().filter(|word| word.since <= position);
            Some((thing.as_str(), may_be.map(|word| word.is.as_str()).collect()))
        })
    }

    /// The same of what was told last, and of some of the rest, others each time; in the end of all.
    pub(super) fn lately(&self, position: u64) -> Vec<(&str, Vec<&str>)> {
        let mut all: Vec<_> = self.at(position).collect();
        if position < u64::MAX {
            let told = |thing: &str| {
                let words = self.0[thing].iter().map(|word| word.at);
                words.filter(|at| *at <= position).max()
            };
            all.sort_by_cached_key(|(thing, _)| std::cmp::Reverse(told(thing)));
            let mut place = 0;
            all.retain(|_| {
                place += 1;
                place <= LATE || fastrand::u8(0..10) == 0
            });
        }
        all
    }

    /// When the first of it was asked for.
    pub(super) fn begins(&self) -> u64 {
        let words = self.0.values().flatten();
        words.map(|word| word.since).min().unwrap_or_default()
    }

    /// When something like it was told last.
    pub(super) fn last(&self, kind: &str, is: impl Fn(&str) -> bool) -> u64 {
        let words = self.of(kind).filter(|word| is(&word.is));
        words.map(|word| word.at).max().unwrap()
    }

    /// Of how many things of a kind something was told.
    pub(super) fn count(&self, kind: &str) -> usize {
        self.0.keys().filter(|thing| is_of(thing, kind)).count()
    }

    pub(super) fn ever(&self, kind: &str, is: &str) -> bool {
        self.of(kind).any(|word| word.is == is)
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Word> {
        let things = self.0.iter().filter(move |(thing, _)| is_of(thing, kind));
        things.flat_map(|(_, words)| words)
    }
}

fn is_of(thing: &str, kind: &str) -> bool {
    thing.split_once(' ').is_some_and(|(of, _)| of == kind)
}

/// What a thing is, in a word.
pub(super) async fn look(journal: &SqliteJournal, thing: &str) -> String {
    let (kind, name) = thing.split_once(' ').unwrap();
    match kind {
        "rules" => {
            let text = journal.rules(&GenerationId(name.into())).await.unwrap();
            text.map_or("gone".into(), |text| text.len().to_string())
        }
        "force" => {
            let in_force = journal.generations(1_000).await.unwrap();
            let named = in_force.iter().filter(|record| record.id.0 == name);
            named.count().to_string()
        }
        "owes" | "event" => {
            let story = journal.event(name.parse().unwrap()).await.unwrap();
            story.map_or("gone".into(), |story| story.record.deliveries.len().to_string())
        }
        "receipt" => {
            let receipt = journal.receipt(name).await.unwrap();
            receipt.map_or("gone".into(), |receipt| receipt.done.to_string())
        }
        "kv" => {
            let value = journal.kv_get("slack", name).await.unwrap();
            value.map_or("gone".into(), |value| {
                String::from_utf8_lossy(&value).into_owned()
            })
        }
        "pace" | "rests" => bucket(journal, kind, name).await,
        _ => match journal.delivery(name.parse().unwrap()).await.unwrap() {
            Some(story) => of_delivery(kind, &story.record, story.attempts.len()),
            None => "gone".into(),
        },
    }
}

fn of_delivery(kind: &str, record: &DeliveryRecord, attempts: usize) -> String {
    let id = |id: Option<DeliveryId>| id.map_or("none".into(), |id| id.to_string());
    match kind {
        "state" => record.state.word().to_owned(),
        "after" => id(record.successor),
        "parent" => id(record.parent),
        "held" => record.held.to_string(),
        "due" => record
            .due
            .map_or("none".into(), |due| due.as_millis().to_string()),
        "events" => record.events.len().to_string(),
        "attempts" => attempts.to_string(),
        other => panic!("nothing is known of `{other}`"),
    }
}

/// What a bucket has let through, or until when it rests, as it is kept: whatever the clock says.
async fn bucket(journal: &SqliteJournal, column: &str, name: &str) -> String {
    let (sql, name) = (
        format!("SELECT {column} FROM bucket WHERE name = ?"),
        name.to_owned(),
    );
    let look = move |connection: &rusqlite::Connection| {
        let found = connection.query_row(&sql, [&name], |row| row.get::<_, Option<i64>>(0));
        rusqlite::OptionalExtension::optional(found)
    };
    let found = journal.history.pool.read(look).await.unwrap().flatten();
    found.map_or("none".into(), |found| found.to_string())
}

/// Says what is on disk by now.
#[derive(Debug, Default)]
pub(super) struct Teller {
    /// What was told last of each thing.
    told: Mutex<BTreeMap<String, String>>,
}

impl Teller {
    /// The present moment, before something is asked for.
    pub(super) fn moment(&self) -> u64 {
        let trace = std::env::var_os("JACKFIELD_DISK_TRACE").unwrap();
        std::fs::metadata(trace).unwrap().len()
    }

    /// Says what a thing is that was asked for at that moment, as the answer has it; the journal says so, too.
    pub(super) async fn tell(&self, journal: &SqliteJournal, since: u64, thing: &str, is: &str) {
        let at = self.moment();
        assert_eq!(look(journal, thing).await, is, "{thing}");
        self.note(since, at, thing, is);
    }

    /// Says what a thing is, as the journal has it.
    pub(super) async fn tell_whatever(&self, journal: &SqliteJournal, since: u64, thing: &str) {
        let at = self.moment();
        let is = look(journal, thing).await;
        self.note(since, at, thing, &is);
    }

    /// Says what all things have become of which something was told: what was asked for changes more than one of them.
    pub(super) async fn tell_changes(&self, journal: &SqliteJournal, since: u64) {
        let (at, told) = (self.moment(), self.told.lock().unwrap().clone());
        for (thing, was) in told {
            let is = look(journal, &thing).await;
            if is != was {
                self.note(since, at, &thing, &is);
            }
        }
    }

    /// Says what a thing is that somebody else knows.
    pub(super) fn say(&self, since: u64, thing: &str, is: &str) {
        self.note(since, self.moment(), thing, is);
    }

    fn note(&self, since: u64, at: u64, thing: &str, is: &str) {
        println!("told {since} {at} {thing} {is}");
        self.told.lock().unwrap().insert(thing.to_owned(), is.to_owned());
    }
}

/// Of how many things that were told of last everything is looked at.
const LATE: usize = 60;
