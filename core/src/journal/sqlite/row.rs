//! Values between Rust and SQLite: words, ids, times and JSON.

use std::{borrow::Cow, str::FromStr};

use jackfield_event::Timestamp;
use rusqlite::{Error, Row, types::Type};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, value::StrDeserializer},
};
use serde_json::value::RawValue;

use crate::{delivery::Phase, journal::Failure};

/// Reads a word: a state, a phase, an outcome or a reason.
pub(super) fn word<'de, T: Deserialize<'de>>(text: &'de str) -> rusqlite::Result<T> {
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(text)).map_err(damaged)
}

/// Reads the word in a column.
pub(super) fn word_at<T: for<'de> Deserialize<'de>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    word(row.get_ref(column)?.as_str()?)
}

/// Reads the word in a column that may be empty.
pub(super) fn maybe_word_at<T: for<'de> Deserialize<'de>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    row.get_ref(column)?.as_str_or_null()?.map(word).transpose()
}

/// Reads an id.
pub(super) fn id<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> rusqlite::Result<T> {
    text.parse().map_err(damaged)
}

/// Reads the id in a column.
pub(super) fn id_at<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<T> {
    id(row.get_ref(column)?.as_str()?)
}

/// Reads the time in a column.
pub(super) fn time_at(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    time(row.get(column)?)
}

/// Reads the time in a column that may be empty.
pub(super) fn maybe_time_at(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(time).transpose()
}

/// A moment as it is read once it has been written.
pub(super) fn as_kept(moment: Timestamp) -> rusqlite::Result<Timestamp> {
    time(moment.as_millis())
}

fn time(millis: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millis(millis).ok_or(Error::IntegralValueOutOfRange(0, millis))
}

/// The word of a phase, as serde spells it.
pub(super) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Steps => "steps",
        Phase::OnFailure => "on-failure",
    }
}

/// JSON as text. What is not UTF-8, which JSON always is, keeps its readable parts.
pub(super) fn json(bytes: &[u8]) -> Cow<'_, str> {
    // `from_utf8` is several times as fast as the lossy one, and what is lossy is never seen.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// JSON as it was stored; text that is none becomes a JSON string.
pub(super) fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text.clone())
        .unwrap_or_else(|_| serde_json::value::to_raw_value(&text).expect("a string has a JSON form"))
}

/// What is kept as JSON in one column.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("what a column keeps has a JSON form")
}

/// Reads the JSON in a column that may be empty.
pub(super) fn maybe_json_at<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let json = row.get_ref(column)?.as_str_or_null()?;
    json.map(|json| serde_json::from_str(json).map_err(damaged))
        .transpose()
}

/// A failure's JSON.
pub(super) fn failure(failure: &Failure) -> String {
    to_json(failure)
}

fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}
