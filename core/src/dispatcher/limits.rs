//! What bounds the calls of an instance beside how many run at a time: how fast they may begin, and both by key.
//!
//! How fast is the journal's business (`journal::Bound`), so that a restart knows of it; how many run is told by this process
//! alone, which makes them. What has no room waits in the journal in either case, and holds nothing here.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::breaker::Breaker;
use crate::{
    journal::Bound,
    rate::Rate,
    router::{Context, LimitKey},
};

/// What bounds the calls of an instance.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How fast they may begin, all together.
    pub rate: Option<Rate>,
    /// What bounds those that are alike.
    pub keys: Vec<KeyLimit>,
    /// When it is given a rest, if ever.
    pub breaker: Option<Breaker>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate: None,
            keys: Vec::new(),
            breaker: Some(Breaker::default()),
        }
    }
}

/// What bounds calls with an equal key.
#[derive(Clone, Debug)]
pub struct KeyLimit {
    /// What the key is made of.
    pub by: LimitKey,
    /// How fast they may begin.
    pub rate: Option<Rate>,
    /// How many may run at a time.
    pub concurrency: Option<NonZeroUsize>,
}

/// What an attempt goes through, and what it holds while it runs.
#[derive(Debug, Default)]
pub(super) struct Passage {
    pub(super) bounds: Vec<Bound>,
    holds: Vec<Hold>,
    /// Those that it found full.
    full: Vec<(String, NonZeroUsize)>,
}

impl Limits {
    /// The way of a call of `instance` with this input.
    pub(super) fn passage(
        &self,
        instance: &str,
        context: &Context,
        input: &Value,
        calls: &Arc<Calls>,
    ) -> Result<Passage, String> {
        let mut passage = Passage::default();
        passage.bounds.extend(self.rate.map(|rate| Bound {
            bucket: instance.to_owned(),
            rate: Some(rate),
            full: false,
        }));
        for (number, limit) in (1..).zip(&self.keys) {
            let key = limit
                .by
                .render(context, input)
                .map_err(|error| format!("instance `{instance}`, `limit.by`: {error}"))?;
            let bucket = bucket(instance, number, &key);
            let mut full = false;
            if let Some(most) = limit.concurrency {
                match calls.hold(&bucket, most) {
                    Some(hold) => passage.holds.push(hold),
                    None => {
                        full = true;
                        passage.full.push((bucket.clone(), most));
                    }
                }
            }
            passage.bounds.push(Bound {
                bucket,
                rate: limit.rate,
                full,
            });
        }
        Ok(passage)
    }
}

impl Passage {
    /// The bucket that a service means which asks for a pause: the nearest to the call whose rate somebody has told. Without
    /// one nobody said that it counts calls, and the pause is the step's alone.
    pub(super) fn counted_by(&self) -> Option<&str> {
        let counted = self.bounds.iter().rev().find(|bound| bound.rate.is_some());
        counted.map(|bound| bound.bucket.as_str())
    }

    /// Lets go of what it holds, and gives the bounds that have room now for who waits there: what was held, and what was
    /// full and is not, since whoever left it may have looked before this one waited.
    pub(super) fn let_go(self, calls: &Calls) -> Vec<Bound> {
        let held = self.holds.iter().map(|hold| hold.bucket.clone());
        let mut free: Vec<_> = held.collect();
        drop(self.holds);
        let full = self.full.into_iter();
        free.extend(
            full.filter(|(bucket, most)| calls.has_room(bucket, *most))
                .map(|(bucket, _)| bucket),
        );
        let bounds = self.bounds.into_iter();
        bounds
            .filter(|bound| free.contains(&bound.bucket))
            .map(|bound| Bound { full: false, ..bound })
            .collect()
    }
}

/// How many calls run that went through which bucket, as far as that is bounded.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<HashMap<String, usize>>);

/// A call that is counted until this is dropped.
#[derive(Debug)]
struct Hold {
    calls: Arc<Calls>,
    bucket: String,
}

impl Calls {
    fn hold(self: &Arc<Self>, bucket: &str, most: NonZeroUsize) -> Option<Hold> {
        let mut counts = self.counts();
        let count = counts.entry(bucket.to_owned()).or_insert(0);
        if *count >= most.get() {
            return None;
        }
        *count += 1;
        Some(Hold {
            calls: Arc::clone(self),
            bucket: bucket.to_owned(),
        })
    }

    fn has_room(&self, bucket: &str, most: NonZeroUsize) -> bool {
        self.counts().get(bucket).is_none_or(|count| *count < most.get())
    }

    /// A leaf lock.
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.calls.counts();
        if let Some(count) = counts.get_mut(&self.bucket) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.bucket);
            }
        }
    }
}

/// The name of the bucket for a key of the instance's limit of that number. A key may be as long as it likes, its name not.
fn bucket(instance: &str, number: usize, key: &str) -> String {
    if key.len() <= LONGEST_KEY {
        return format!("{instance}/{number} {key}");
    }
    let start: String = key.chars().take(SHOWN).collect();
    let hash = Sha256::digest(key);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{instance}/{number} {start}… {hash}")
}

/// In bytes.
const LONGEST_KEY: usize = 200;
/// In characters, of a key that is longer.
const SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_calls_hold_a_key_as_may_and_it_is_forgotten_with_the_last() {
        let calls = Arc::new(Calls::default());
        let two = NonZeroUsize::new(2).unwrap();
        let first = calls.hold("a", two).unwrap();
        let second = calls.hold("a", two).unwrap();
        assert!(calls.hold("a", two).is_none() && !calls.has_room("a", two));
        assert!(calls.hold("b", two).is_some(), "another key has room of its own");
        drop(first);
        assert!(calls.has_room("a", two));
        drop(second);
        assert!(calls.counts().is_empty());
    }

    #[test]
    fn who_leaves_tells_how_fast_the_next_may_come() {
        let calls = Arc::new(Calls::default());
        let one = NonZeroUsize::new(1).unwrap();
        let bound = |bucket: &str, full| Bound {
            bucket: bucket.to_owned(),
            rate: Rate::parse("1/m"),
            full,
        };
        let _other = calls.hold("taken", one);
        let passage = Passage {
            bounds: vec![
                bound("a", false),
                bound("held", false),
                bound("free", true),
                bound("taken", true),
            ],
            holds: vec![calls.hold("held", one).unwrap()],
            full: vec![("free".to_owned(), one), ("taken".to_owned(), one)],
        };
        assert_eq!(
            passage.let_go(&calls),
            [bound("held", false), bound("free", false)]
        );
        assert!(calls.has_room("held", one));
    }

    #[test]
    fn long_keys_have_short_names_that_differ() {
        let [one, other] = ["x", "y"].map(|end| bucket("slack", 1, &("k".repeat(5_000) + end)));
        assert_ne!(one, other);
        assert!(one.len() < 200, "{one}");
        assert_eq!(bucket("slack", 1, "#general"), "slack/1 #general");
    }
}
