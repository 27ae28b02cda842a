//! The router: which routes an event owes, and what their steps say.
//!
//! Rule text comes in and is compiled into an immutable [`Generation`]; an event comes in and goes out as
//! [`Routed`], which only a generation can make. A generation decides nothing about time, order or retries of
//! what it found: that is the dispatcher's, which asks it for steps.

mod context;
mod deadline;
mod explain;
mod generation;
mod limit_key;
mod pattern;
mod plan;
mod rehearsal;
mod route;
mod rules;
mod shape;
mod step;
mod table;
mod template;

use std::fmt;

use bytes::Bytes;
use jackfield_event::Event;
use serde::{Deserialize, Serialize};

pub use context::{Context, ContextError, FailureView};
pub use deadline::{Deadline, NoDeadline};
pub use explain::{Explanation, FailedClause};
pub use generation::Generation;
pub use limit_key::LimitKey;
pub use pattern::Pattern;
pub use plan::{Change, Compared, Comparison, Difference};
pub use rehearsal::{Given, Rehearsed, Rendered};
pub use route::Route;
pub use rules::{CASES, RuleFile, RuleFiles, schema};
pub use shape::{Missing, missing};
pub use step::{RenderError, Step, dotted};
pub use table::{NotJson, Table, View};

use crate::delivery::Line;

/// Names a generation: the SHA-256 of its rule text, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(pub String);

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event with the deliveries that it owes under one generation.
#[derive(Clone, Debug)]
pub struct Routed(Parts);

/// What a [`Routed`] is made of, for the stage that takes it apart.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The event, without its payload.
    pub event: Box<Event>,
    /// The event in JSON, without its payload: what was matched and what is kept.
    pub envelope: String,
    /// The payload: the body of the request.
    pub payload: Bytes,
    /// What tells redeliveries of the event.
    pub dedup: Option<String>,
    /// The generation that decided.
    pub generation: GenerationId,
    /// The deliveries, in the order of the rule file.
    pub owed: Vec<Owed>,
}

/// One delivery that is owed.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// The route's name.
    pub route: String,
    /// The instance that its first step uses.
    pub instance: String,
    /// The instance that the first of its `on_failure` steps uses, where it has such.
    pub on_failure: Option<String>,
    /// The rendered `order_by`, where the route has one, and an empty one where only its line asks for a key; or why it could not be rendered: then the
    /// delivery is given up from the start, and nothing is done of it but `on_failure`.
    pub order: Result<Option<String>, String>,
    /// How it stands to others with that key.
    pub line: Line,
    /// The rendered `deadline`, where the route has one and it came to something; or why it could not be rendered, with the
    /// same consequence.
    pub deadline: Result<Option<Deadline>, String>,
}

impl Routed {
    /// Puts one together, for tests of the stage that it is handed to.
    #[cfg(test)]
    pub(crate) fn for_test(
        event: Event,
        payload: Bytes,
        dedup: Option<String>,
        generation: GenerationId,
        owed: Vec<Owed>,
    ) -> Self {
        Self(Parts {
            envelope: event.to_json(),
            event: Box::new(event),
            payload,
            dedup,
            generation,
            owed,
        })
    }

    /// Takes it apart.
    pub fn into_parts(self) -> Parts {
        self.0
    }

    /// The event, without its payload.
    pub fn event(&self) -> &Event {
        &self.0.event
    }

    /// The payload: the body of the request.
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// What tells redeliveries of the event.
    pub fn dedup(&self) -> Option<&str> {
        self.0.dedup.as_deref()
    }

    /// The generation that decided.
    pub fn generation(&self) -> &GenerationId {
        &self.0.generation
    }

    /// The deliveries, in the order of the rule file.
    pub fn owed(&self) -> &[Owed] {
        &self.0.owed
    }

    /// The same, with what these routes owe alone.
    #[must_use]
    pub fn only(mut self, routes: &[String]) -> Self {
        self.0.owed.retain(|owed| routes.contains(&owed.route));
        self
    }
}
