//! What a person asks of deliveries: that they are done again, or not at all.

use bytes::Bytes;
use jackfield_event::DeliveryId;
use serde::{Deserialize, Serialize};

use crate::{
    delivery::Outcome,
    reason::Reason,
    router::{GenerationId, Owed},
};

/// A new delivery that is to be made of a settled one.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The settled one, which the new one names.
    pub parent: DeliveryId,
    /// Whether steps keep the keys by which they know what they have done.
    pub keys: ReplayKeys,
    /// The id of a step that has a new key all the same.
    pub fresh: Option<String>,
    /// Other rules than those that the parent was made under, and what is owed under them.
    pub under: Option<(GenerationId, Owed)>,
    /// Where it begins.
    pub first: First,
    /// How steps stand that are not made again: all before `first`, and maybe some after it.
    pub taken: Vec<Taken>,
    /// Whether it is refused where the parent has been replayed before.
    pub once: bool,
    /// What the person asked for.
    pub asked: Asked,
}

impl Replay {
    /// All of `parent` again, under the rules that it was made under.
    pub fn whole(parent: DeliveryId, keys: ReplayKeys) -> Self {
        Self {
            parent,
            keys,
            fresh: None,
            under: None,
            first: First::Beginning,
            taken: Vec::new(),
            once: false,
            asked: Asked {
                what: Ask::Replay,
                from: None,
                keys,
                asker: Asker::default(),
            },
        }
    }

    /// Why it cannot be made of a delivery that was given up for `reason`, where it cannot: its rules never said what the new one
    /// would need as well.
    pub fn refused_for(&self, reason: Option<Reason>) -> Option<String> {
        let lacks = match reason {
            Some(Reason::OrderKeyFailed) if self.under.is_none() => "order key, since `order_by`",
            Some(Reason::DeadlineFailed) if self.under.is_none() => "deadline, since `deadline`",
            _ => return None,
        };
        let parent = self.parent;
        Some(format!(
            "delivery {parent} has no {lacks} of its rules failed; mend the rule, and replay this under the rules of today"
        ))
    }
}

/// Where a replay begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// With the first step of its route.
    Beginning,
    /// With another one.
    Step {
        /// Which, from 0.
        step: usize,
        /// The instance that it uses.
        instance: String,
    },
    /// There is nothing left to do: it has succeeded.
    Nothing,
}

/// A step that is not made again, since what became of it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which step of the route, from 0.
    pub step: usize,
    /// Its id.
    pub step_id: String,
    /// Done, or skipped.
    pub outcome: Outcome,
    /// What it put out, in JSON.
    pub output: Option<Bytes>,
    /// Whether a person says that it is done; else it was in the parent.
    pub resolved: bool,
}

/// Which idempotency keys the steps of a replayed delivery have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayKeys {
    /// Those of the delivery that is replayed: what it did already is not done again.
    #[default]
    Keep,
    /// Keys of its own: everything is done again.
    Renew,
}

/// What a person asked for, as it is kept with the delivery that came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What.
    pub what: Ask,
    /// The step from which on, where it was not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether steps kept their keys.
    pub keys: ReplayKeys,
    /// Who.
    #[serde(flatten)]
    pub asker: Asker,
}

/// What can be asked for that makes a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// That it is done again.
    Replay,
    /// That it goes on behind the step of which nobody knew whether it was done: it was.
    ResolveDone,
    /// That it goes on with that step: it was not done.
    ResolveRepeat,
}

/// Who asked for something, in their own words, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// A name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// A reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Asker {
    /// The same in a line: `by alice: wrong branch`.
    pub fn words(&self) -> String {
        let by = self.by.as_deref().unwrap_or("a person");
        match &self.note {
            Some(note) => format!("by {by}: {note}"),
            None => format!("by {by}"),
        }
    }
}

/// What became of a wish that a delivery is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Canceled {
    /// Nobody worked at it: it is canceled.
    Settled,
    /// It is being worked at: it will be canceled when that has come to an end, unless everything is done by then.
    Asked,
}

/// What became of a claimed delivery by what was recorded of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What was said.
    AsSaid,
    /// A person had asked for it to be canceled, and it is.
    Canceled,
    /// A newer one had come while it was at work, and has taken its place.
    Superseded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_is_told_in_a_line() {
        let asker = |by: Option<&str>, note: Option<&str>| Asker {
            by: by.map(str::to_owned),
            note: note.map(str::to_owned),
        };
        assert_eq!(asker(None, None).words(), "by a person");
        assert_eq!(
            asker(Some("alice"), Some("wrong branch")).words(),
            "by alice: wrong branch"
        );
    }
}
