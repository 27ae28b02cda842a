//! What plugins log and count, made fit for the router's own log and metrics.

use std::collections::BTreeMap;

use tracing::level_filters::LevelFilter;

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
    fn labels_are_an_object_of_strings() {
        let read = labels("posts_total", r#"{"team": "a", "kind": "b"}"#, 1.0).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read, [pair("kind", "b"), pair("team", "a")]);
        assert_eq!(labels("posts_total", "", 0.5), Ok(Vec::new()));
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
