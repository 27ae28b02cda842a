//! A moment, as RFC 3339 text on the wire and as milliseconds in the journal.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in time, to the nanosecond; its text is RFC 3339 in UTC, as in `2026-01-01T00:00:00Z`.
///
/// ```
/// use std::time::Duration;
/// use jackfield_event::Timestamp;
///
/// let moment: Timestamp = "2026-01-01T01:00:00+01:00".parse()?;
/// assert_eq!(moment.to_string(), "2026-01-01T00:00:00Z");
/// assert_eq!(Timestamp::from_secs(moment.as_secs()), Some(moment));
///
/// let later = moment.saturating_add(Duration::from_secs(90));
/// assert_eq!(later.saturating_since(moment), Duration::from_secs(90));
/// assert_eq!(moment.saturating_since(later), Duration::ZERO);
/// assert!("yesterday".parse::<Timestamp>().is_err());
/// # Ok::<(), jackfield_event::ParseTimestampError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// The text is not an RFC 3339 date and time with an offset.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an RFC 3339 time such as 2026-01-01T00:00:00Z")]
pub struct ParseTimestampError {
    text: String,
}

impl Timestamp {
    /// The moment `milliseconds` after 1970-01-01T00:00:00Z, or `None` outside the years -9999 to 9999.
    pub fn from_millis(milliseconds: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(milliseconds).ok().map(Self)
    }

    /// The moment `seconds` after 1970-01-01T00:00:00Z, or `None` outside the years -9999 to 9999.
    pub fn from_secs(seconds: i64) -> Option<Self> {
        jiff::Timestamp::from_second(seconds).ok().map(Self)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, rounded towards zero.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub fn as_secs(self) -> i64 {
        self.0.as_second()
    }

    /// This moment moved on by the whole milliseconds of `duration`, held at the last representable moment. What it has below a
    /// millisecond itself is left out.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_add(millis)).unwrap_or(Self(jiff::Timestamp::MAX))
    }

    /// How long after `earlier` this moment is, in whole milliseconds; zero where it is not after it.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(
            u64::try_from(self.as_millis().saturating_sub(earlier.as_millis())).unwrap_or(0),
        )
    }
}

impl From<std::time::SystemTime> for Timestamp {
    /// Held at the first or last representable moment where the clock is beyond the years -9999 to 9999.
    fn from(time: std::time::SystemTime) -> Self {
        Self(jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Strict: `T`, seconds and an offset are required, and only one offset.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseTimestampError {
            text: text.to_owned(),
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(
            text.parse::<Timestamp>().ok().map(|t| t.to_string()).as_deref(),
            expected
        );
    }

    #[test]
    fn a_time_is_read_strictly_and_printed_in_utc() {
        check("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z"));
        check(
            "2018-08-24T14:56:45.986317+00:00",
            Some("2018-08-24T14:56:45.986317Z"),
        );
        check("2018-08-24T14:56:45+02:00", Some("2018-08-24T12:56:45Z"));
        check("2018-02-13T20:35:46.486541Z+00:00", None);
        check("2018-02-13T20:35:46", None);
        check("2018-02-13", None);
        check("yesterday", None);
    }
}
