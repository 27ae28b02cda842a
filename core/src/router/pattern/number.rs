//! Numbers that compare by value.

use std::{cmp::Ordering, fmt};

/// A number: a whole one of up to 64 bits exactly, any other as the nearest `f64`.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) enum Number {
    Natural(u64),
    /// Whole and below zero.
    Negative(i64),
    /// Not whole, or beyond 64 bits.
    Float(f64),
}

impl Number {
    /// Reads a number's text, as JSON spells it.
    ///
    /// # Errors
    ///
    /// In words, where it is no finite number, or one that is so small that it would be taken for zero.
    pub(in crate::router) fn parse(text: &str) -> Result<Self, String> {
        let number = Self::read(text).ok_or_else(|| format!("`{text}` is not a number"))?;
        let vanished = number == Self::Natural(0) && text.contains(|c: char| matches!(c, '1'..='9'));
        match number {
            Self::Float(float) if !float.is_finite() => Err(format!("`{text}` is too large to compare")),
            Self::Natural(_) if vanished && !is_zero(text) => {
                Err(format!("`{text}` is too small to compare"))
            }
            number => Ok(number),
        }
    }

    /// Reads a number's text; beyond `f64`, it is infinite.
    pub(in crate::router) fn read(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse::<u64>() {
            return Some(Self::Natural(whole));
        }
        match text.parse::<i128>().ok().and_then(Self::whole) {
            Some(whole) => Some(whole),
            // As serde_json reads it, which is where the events' numbers come from.
            None => match serde_json::from_str::<f64>(text) {
                Ok(float) => Some(Self::from(float)),
                Err(_) => text
                    .parse::<f64>()
                    .ok()
                    .filter(|float| !float.is_nan())
                    .map(Self::from),
            },
        }
    }

    /// A whole number, where it is one of 64 bits.
    fn whole(whole: i128) -> Option<Self> {
        let natural = u64::try_from(whole).map(Self::Natural);
        natural.or_else(|_| i64::try_from(whole).map(Self::Negative)).ok()
    }

    /// Its value, where it is whole.
    fn as_whole(self) -> Result<i128, f64> {
        match self {
            Self::Natural(whole) => Ok(whole.into()),
            Self::Negative(whole) => Ok(whole.into()),
            Self::Float(float) => Err(float),
        }
    }
}

impl From<u64> for Number {
    fn from(whole: u64) -> Self {
        Self::Natural(whole)
    }
}

impl From<i64> for Number {
    fn from(whole: i64) -> Self {
        u64::try_from(whole).map_or(Self::Negative(whole), Self::Natural)
    }
}

impl From<f64> for Number {
    fn from(float: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and `as` saturates")]
        let whole = float as i128;
        let whole = Self::whole(whole).filter(|_| float.fract() == 0.0);
        whole.unwrap_or(Self::Float(float))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.as_whole(), other.as_whole()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Err(a), Err(b)) => a.total_cmp(&b),
            (Ok(a), Err(b)) => compare(a, b),
            (Err(a), Ok(b)) => compare(b, a).reverse(),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Natural(whole) => whole.fmt(f),
            Self::Negative(whole) => whole.fmt(f),
            Self::Float(float) => float.fmt(f),
        }
    }
}

/// A whole number of 64 bits against one that is none of those: never equal.
fn compare(whole: i128, float: f64) -> Ordering {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, far beyond 64 bits"
    )]
    let floor = float.floor() as i128;
    match whole <= floor {
        true => Ordering::Less,
        false => Ordering::Greater,
    }
}

/// Whether the digits before any exponent are all zero.
fn is_zero(text: &str) -> bool {
    let digits = text.split(['e', 'E']).next().unwrap_or_default();
    !digits.contains(|c: char| matches!(c, '1'..='9'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &str, expected: Ordering, b: &str) {
        let [a, b] = [a, b].map(|text| Number::read(text).unwrap());
        assert_eq!(a.cmp(&b), expected, "{a} {b}");
        assert_eq!(b.cmp(&a), expected.reverse(), "{b} {a}");
    }

    #[test]
    fn numbers_compare_by_value_however_they_are_written() {
        check("1", Ordering::Equal, "1.0");
        check("1000", Ordering::Equal, "1e3");
        check("0", Ordering::Equal, "-0.0");
        check("0.30", Ordering::Equal, "3e-1");
        check("1", Ordering::Less, "1.5");
        check("-1", Ordering::Greater, "-1.5");
        check("-2", Ordering::Less, "-1.5");
        check("1e300", Ordering::Greater, "18446744073709551615");
        check("-1e300", Ordering::Less, "-9223372036854775808");
        check("1e400", Ordering::Greater, "1e300");
    }

    #[test]
    fn whole_numbers_of_64_bits_are_exact() {
        check("9007199254740993", Ordering::Greater, "9007199254740992");
        check("18446744073709551615", Ordering::Greater, "18446744073709551614");
        check("-9223372036854775808", Ordering::Less, "-9223372036854775807");
        check("123456789012345678901", Ordering::Equal, "123456789012345678902");
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for wrong in ["1e309", "-2.0e422", "1E-325", "inf", "nan", "", "x"] {
            assert!(Number::parse(wrong).is_err(), "{wrong}");
        }
        for right in ["0e9", "0.0", "-0", "1E-320", "1e308", "5"] {
            assert!(Number::parse(right).is_ok(), "{right}");
        }
    }
}
