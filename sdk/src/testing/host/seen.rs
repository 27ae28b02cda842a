//! What a host sees of its instances: what they log, count and raise.

use std::collections::BTreeMap;

use serde_json::Value;
use tracing::Level;

/// One message that was logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How grave it is.
    pub level: Level,
    /// The module that it comes from.
    pub target: String,
    /// The message.
    pub message: String,
    /// Its fields, and those of the spans around it.
    pub fields: Value,
    /// Whether it was logged within a call.
    pub in_call: bool,
}

/// One addition to a counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The counter.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What was added.
    pub value: f64,
}

/// One follow-up event that was raised.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    /// What tells it from others of its step.
    pub name: String,
    /// Its type, subject and data.
    pub event: Value,
}

impl Log {
    /// Of what crosses the boundary: the level as the ABI numbers it, the fields as an object in JSON, or empty.
    pub(in crate::testing) fn new(
        level: u32,
        target: String,
        message: String,
        fields: &[u8],
        in_call: bool,
    ) -> Self {
        let fields = if fields.is_empty() { b"{}" } else { fields };
        Self {
            level: level
                .checked_sub(1)
                .and_then(|at| LEVELS.get(usize::try_from(at).ok()?))
                .copied()
                .unwrap_or(Level::TRACE),
            target,
            message,
            fields: serde_json::from_slice(fields).unwrap_or(Value::Null),
            in_call,
        }
    }
}

/// The number of a level, as the ABI has it; 0 is none.
pub(super) fn number(level: Option<Level>) -> u32 {
    let at = level.and_then(|level| LEVELS.iter().position(|known| *known == level));
    at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(0)
}

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
