//! What plugins log and count, made fit for the router's own log and metrics.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use super::limits;
use crate::rate::Rate;

/// One line that a plugin logs.
pub(super) struct Line<'a> {
    pub(super) plugin: &'a str,
    pub(super) instance: &'a str,
    /// 1 error … 5 trace.
    pub(super) level: u32,
    /// The module or component of the plugin.
    pub(super) target: String,
    pub(super) message: String,
    /// A JSON object, or empty.
    pub(super) fields: String,
}

impl Line<'_> {
    /// Writes it to the router's log, under the target `plugin`.
    pub(super) fn write(&self) {
        let Self {
            plugin,
            instance,
            target,
            message,
            ..
        } = self;
        let fields = (!self.fields.is_empty()).then_some(self.fields.as_str());
        // A macro, since the level of an event is part of its static description.
        macro_rules! write {
            ($level:ident) => {
                tracing::$level!(target: "plugin", plugin, instance, module = target, fields, "{message}")
            };
        }
        match self.level {
            1 => write!(error),
            2 => write!(warn),
            3 => write!(info),
            4 => write!(debug),
            _ => write!(trace),
        }
    }
}

/// A line that a plugin logged for a call, as whoever made the call by hand is told it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// `error` … `trace`.
    pub level: String,
    /// The module or component of the plugin.
    pub module: String,
    /// What it says.
    pub message: String,
    /// Facts, by their names.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub fields: Value,
}

/// Who listens to which calls, by their idempotency keys, and what they have heard. A leaf lock.
static LISTENERS: Mutex<BTreeMap<String, Vec<Logged>>> = Mutex::new(BTreeMap::new());
/// How many they are: nobody, nearly always, which is all that a line has to find out.
static LISTENING: AtomicUsize = AtomicUsize::new(0);

/// Listens to what is logged for one call, until it is dropped.
pub(super) struct Listening(String);

impl Listening {
    pub(super) fn to(key: &str) -> Self {
        listeners().insert(key.to_owned(), Vec::new());
        LISTENING.fetch_add(1, Relaxed);
        Self(key.to_owned())
    }

    /// What was heard.
    pub(super) fn end(self) -> Vec<Logged> {
        listeners()
            .get_mut(&self.0)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        listeners().remove(&self.0);
        LISTENING.fetch_sub(1, Relaxed);
    }
}

impl Line<'_> {
    /// Tells it to whoever listens to the call of that idempotency key.
    pub(super) fn tell(&self, key: &str) {
        if LISTENING.load(Relaxed) == 0 {
            return;
        }
        if let Some(heard) = listeners().get_mut(key).filter(|heard| heard.len() < MOST_LINES) {
            heard.push(Logged {
                level: filter(self.level).to_string(),
                module: self.target.clone(),
                message: self.message.clone(),
                fields: serde_json::from_str(&self.fields).unwrap_or_default(),
            });
        }
    }
}

fn listeners() -> MutexGuard<'static, BTreeMap<String, Vec<Logged>>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many as a person reads.
const MOST_LINES: usize = 1000;

/// Lets into the log what a plugin brings about at will and nobody asks for: a burst, and then so little that it fills no disk. The
/// rest is counted.
#[derive(Debug)]
pub(super) struct Trickle {
    rate: Rate,
    since: Instant,
    pace: i64,
    left_out: u64,
}

impl Trickle {
    pub(super) fn new() -> Self {
        let (rate, burst) = (NonZeroU32::new(TRICKLE), NonZeroU32::new(TRICKLE_BURST));
        let rate = rate.zip(burst);
        let rate = rate.and_then(|(rate, burst)| Rate::new(rate, Duration::from_secs(1), burst));
        Self {
            rate: rate.expect("it is some in a second"),
            since: Instant::now(),
            pace: 0,
            left_out: 0,
        }
    }

    /// Whether one more is let in now; and if any were left out since the last one, how many.
    pub(super) fn admit(&mut self) -> Option<Option<u64>> {
        let now = self.since.elapsed().as_micros();
        self.admit_at(i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn admit_at(&mut self, now: i64) -> Option<Option<u64>> {
        if self.rate.opens(self.pace) > now {
            self.left_out += 1;
            return None;
        }
        self.pace = self.rate.begun(self.pace, now, 0);
        let left_out = std::mem::take(&mut self.left_out);
        Some((left_out > 0).then_some(left_out))
    }
}

/// How many are let in each second, and how many at once.
const TRICKLE: u32 = 10;
const TRICKLE_BURST: u32 = 1000;

/// A level as a number, as the ABI has it: 0 nothing, 1 error … 5 trace.
pub(super) fn number(level: LevelFilter) -> u32 {
    match level {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        LevelFilter::TRACE => 5,
    }
}

/// The level of a number.
pub(super) fn filter(number: u32) -> LevelFilter {
    match number {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// The labels of a metric, if it is one that can be counted.
///
/// # Errors
/// Says why it cannot.
pub(super) fn labels(name: &str, labels: &str, value: f64) -> Result<Vec<(String, String)>, String> {
    let labels: BTreeMap<String, String> = match labels {
        "" => BTreeMap::new(),
        labels => serde_json::from_str(labels)
            .map_err(|error| format!("its labels are not an object of strings: {error}"))?,
    };
    let labels: Vec<_> = labels.into_iter().collect();
    check_metric(name, &labels, value)?;
    Ok(labels)
}

/// Checks that a metric is one that can be counted.
///
/// # Errors
/// Says why it is not.
pub(super) fn check_metric(name: &str, labels: &[(String, String)], value: f64) -> Result<(), String> {
    if !is_word(name) {
        return Err("its name is not made of a-z, 0-9 and `_`".to_owned());
    }
    let size = labels
        .iter()
        .fold(name.len(), |size, (name, value)| size + name.len() + value.len());
    if size > limits::TEXT {
        return Err(format!(
            "its name and labels have {size} bytes, of {} at most",
            limits::TEXT
        ));
    }
    if !value.is_finite() || value < 0.0 {
        return Err(format!("{value} cannot be added to a counter"));
    }
    match labels.iter().find(|(name, _)| !is_word(name)) {
        Some((name, _)) => Err(format!("the label `{name}` is not made of a-z, 0-9 and `_`")),
        None => Ok(()),
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_as_long_as_a_text_and_no_longer() {
        let metric = |length| check_metric("posts", &[("team".to_owned(), "x".repeat(length))], 1.0);
        assert_eq!(metric(limits::TEXT - "poststeam".len()), Ok(()));
        let refused = metric(limits::TEXT).unwrap_err();
        assert_eq!(refused, "its name and labels have 16393 bytes, of 16384 at most");
    }

    #[test]
    fn labels_are_an_object_of_strings() {
        let read = labels("posts_total", r#"{"team": "a", "kind": "b"}"#, 1.0).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read, [pair("kind", "b"), pair("team", "a")]);
        assert_eq!(labels("posts_total", "", 0.5), Ok(Vec::new()));
    }

    #[test]
    fn a_flood_is_let_in_by_a_burst_and_a_trickle_and_the_rest_is_counted() {
        let mut trickle = Trickle::new();
        let second = 1_000_000;
        let admitted = |trickle: &mut Trickle, now| -> Vec<_> {
            (0..5000).filter_map(|_| trickle.admit_at(now)).collect()
        };
        assert_eq!(admitted(&mut trickle, second), vec![None; 1000]);
        let next = admitted(&mut trickle, 2 * second);
        assert_eq!((next.len(), next[0], next[1]), (10, Some(4000), None));
        assert_eq!(admitted(&mut trickle, 3600 * second).len(), 1000);
    }

    #[test]
    fn whoever_listens_to_a_call_hears_its_lines_and_no_others() {
        let line = |message: &str| Line {
            plugin: "trial",
            instance: "trial",
            level: 3,
            target: "posts".to_owned(),
            message: message.to_owned(),
            fields: r#"{"to":"a"}"#.to_owned(),
        };
        let listening = Listening::to("dlv_1/call");
        line("posted").tell("dlv_1/call");
        line("of another").tell("dlv_2/call");
        let heard = serde_json::to_value(listening.end()).unwrap();
        assert_eq!(
            heard,
            serde_json::json!([{ "level": "info", "module": "posts", "message": "posted", "fields": { "to": "a" } }])
        );
        line("too late").tell("dlv_1/call");
        assert_eq!(Listening::to("dlv_1/call").end(), []);
    }

    #[test]
    fn a_metric_that_cannot_be_counted_is_refused_with_the_reason() {
        for (name, text, value, expected) in [
            ("Posts", "", 1.0, "its name"),
            ("", "", 1.0, "its name"),
            ("posts", "", -1.0, "-1 cannot be added"),
            ("posts", "", f64::NAN, "NaN cannot be added"),
            ("posts", "[]", 1.0, "its labels"),
            ("posts", r#"{"a b": "c"}"#, 1.0, "the label `a b`"),
        ] {
            let fault = labels(name, text, value).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
