//! Ids whose text starts with their kind and sorts by time.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Timestamp;

/// The text is not an id of the kind that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an id of the form {prefix}… with 26 characters after the underscore")]
pub struct ParseIdError {
    text: String,
    prefix: &'static str,
}

/// 48 bits of milliseconds, 80 random bits, printed as [ULID](https://github.com/ulid/spec) in lower case.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The id of something that came into being at `time`, to the millisecond; the upper 80 bits of `random` tell it from
            /// others of that millisecond.
            pub fn new(time: Timestamp, random: u128) -> Self {
                let millis = u128::try_from(time.as_millis()).unwrap_or(0);
                Self((millis << 80) | (random >> 48))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(std::str::from_utf8(&encode(self.0)).expect("the alphabet is ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix)
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| ParseIdError { text: text.to_owned(), prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": concat!("^", $prefix, "[0-9a-hjkmnp-tv-z]{26}$") })
            }
        }
    };
}

id!(
    /// Names an event: `evt_` and 26 characters that sort by the time of arrival.
    ///
    /// ```
    /// use jackfield_event::{EventId, Timestamp};
    ///
    /// let at = |seconds| Timestamp::from_secs(seconds).expect("a moment of our time");
    /// let (earlier, later) = (EventId::new(at(1_767_225_600), 7), EventId::new(at(1_767_225_601), 0));
    /// assert!(earlier < later && earlier.to_string() < later.to_string());
    /// assert_eq!(later.to_string().parse::<EventId>()?, later);
    /// assert!("dlv_01kdvdna000000000000000000".parse::<EventId>().is_err());
    /// # Ok::<(), jackfield_event::ParseIdError>(())
    /// ```
    EventId,
    "evt_"
);
id!(
    /// Names a delivery: `dlv_` and 26 characters that sort by the time at which it came to be owed.
    ///
    /// ```
    /// use jackfield_event::DeliveryId;
    ///
    /// let id: DeliveryId = "dlv_01kdvdna000000000000000000".parse()?;
    /// assert_eq!(format!("{id:?}"), id.to_string());
    /// # Ok::<(), jackfield_event::ParseIdError>(())
    /// ```
    DeliveryId,
    "dlv_"
);

/// Crockford's base 32, lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 26;

fn encode(value: u128) -> [u8; LENGTH] {
    std::array::from_fn(|i| ALPHABET[(value >> (5 * (LENGTH - 1 - i))) as usize & 31])
}

fn decode(text: &str) -> Option<u128> {
    let digits = text.as_bytes();
    // 26 digits hold 130 bits: the first may use only its lower three.
    if digits.len() != LENGTH || digits[0] > b'7' {
        return None;
    }
    digits.iter().try_fold(0u128, |value, digit| {
        let bits = ALPHABET.iter().position(|letter| letter == digit)?;
        Some((value << 5) | bits as u128)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_what_it_printed() {
        let id = EventId::new(Timestamp::from_millis(1_767_225_600_000).unwrap(), u128::MAX);
        assert_eq!(id.to_string(), "evt_01kdvdna00zzzzzzzzzzzzzzzz");
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
    }

    #[test]
    fn ids_sort_by_time_as_numbers_and_as_text() {
        let at = |millis| DeliveryId::new(Timestamp::from_millis(millis).unwrap(), 7 << 100);
        assert!(at(1_000) < at(1_001));
        assert!(at(1_000).to_string() < at(1_001).to_string());
    }

    #[test]
    fn a_text_of_another_kind_is_refused_with_what_was_expected() {
        for text in [
            "",
            "evt_",
            "dlv_01kdvdna00zzzzzzzzzzzzzzzz",
            "evt_81kdvdna00zzzzzzzzzzzzzzzz",
            "evt_01KDVDNA00ZZZZZZZZZZZZZZZZ",
        ] {
            let error = text.parse::<EventId>().unwrap_err().to_string();
            assert!(error.contains("evt_…"), "{error}");
        }
    }
}
