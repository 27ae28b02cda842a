//! The first look at a verified body: UTF-8, depth, JSON.

use serde::{Deserialize, de::IgnoredAny};

use super::TranslateError;

/// How many arrays and objects may lie inside one another in a body.
///
/// Parsers downstream stop at 127 or 128 levels (serde_json does), and an event wraps the body in two, a
/// plugin's call in one or two more, a template's value in as many as its author likes. This leaves them room.
pub const MAX_DEPTH: usize = 100;

/// Reads `body` into `T`. What is JSON but does not fit is the default, which is a `T` with nothing in it.
pub(super) fn read<'b, T: Deserialize<'b> + Default>(body: &'b [u8]) -> Result<T, TranslateError> {
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    if nests_deeper_than(MAX_DEPTH, body) {
        return Err(TranslateError::TooDeep { limit: MAX_DEPTH });
    }
    serde_json::from_str(text).or_else(|_| {
        // Only the reader of `T` can refuse what is JSON: the other takes everything that the grammar allows.
        serde_json::from_str::<IgnoredAny>(text)
            .map(|_| T::default())
            .map_err(|error| TranslateError::NotJson(error.to_string()))
    })
}

fn not_utf8(body: &[u8], valid: usize) -> TranslateError {
    let before = &body[..valid];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    TranslateError::NotJson(format!("invalid UTF-8 at line {line} column {column}"))
}

/// Whether more than `limit` arrays and objects lie inside one another, as far as brackets can tell.
///
/// Most bodies have fewer than `limit` brackets in all. Only where there are more are strings told from
/// structure.
pub(crate) fn nests_deeper_than(limit: usize, body: &[u8]) -> bool {
    opening(body) > limit && deepest(body, limit) > limit
}

/// How many `[` and `{` there are, in stretches that a byte can count: measured ten times as fast as counting
/// in a `usize`, for the compiler then fills whole vectors.
fn opening(body: &[u8]) -> usize {
    // The two differ in that bit alone.
    let opens = |byte: &u8| u8::from(byte | 0x20 == b'{');
    body.chunks(255)
        .map(|stretch| usize::from(stretch.iter().map(opens).sum::<u8>()))
        .sum()
}

/// How deep `body` nests; stops counting just above `limit`.
fn deepest(body: &[u8], limit: usize) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                if deepest > limit {
                    break;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::lenient::Text;

    #[track_caller]
    fn refused(body: &[u8]) -> String {
        read::<Text<'_>>(body)
            .expect_err("the body is faulty")
            .to_string()
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (body, message) in [
            (
                &b""[..],
                "the body is not JSON: EOF while parsing a value at line 1 column 0",
            ),
            (
                b"\"a\" x",
                "the body is not JSON: trailing characters at line 1 column 5",
            ),
            (
                b"{\"a\":1}{}",
                "the body is not JSON: trailing characters at line 1 column 8",
            ),
            (
                b"\n{\"a\":}",
                "the body is not JSON: expected value at line 2 column 6",
            ),
            (
                b"\"a\nb\"",
                "the body is not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 2",
            ),
            (
                b"{\n\"a\": \"\xff\"}",
                "the body is not JSON: invalid UTF-8 at line 2 column 7",
            ),
            (
                b"\xef\xbb\xbf{}",
                "the body is not JSON: expected value at line 1 column 1",
            ),
        ] {
            assert_eq!(refused(body), message);
        }
    }

    #[test]
    fn depth_is_counted_outside_strings_only() {
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        for (body, fits) in [
            (nested(MAX_DEPTH), true),
            (nested(MAX_DEPTH + 1), false),
            (format!("[{}]", vec![nested(MAX_DEPTH - 1); 3].join(",")), true),
            (format!("\"{}\"", "[".repeat(1000)), true),
            (format!("\"\\\"{}\"", "{".repeat(1000)), true),
            (format!("[\"\\\\\",{}]", nested(MAX_DEPTH)), false),
            ("[".repeat(1_000_000), false),
            ("{\"a\":".repeat(1_000_000), false),
        ] {
            assert_eq!(read::<Text<'_>>(body.as_bytes()).is_ok(), fits, "{:.40}", body);
        }
        assert_eq!(
            refused("[".repeat(101).as_bytes()),
            "the body nests deeper than 100 levels"
        );
    }

    #[test]
    fn every_opening_bracket_is_counted() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(opening(&all), 2);
        assert_eq!(
            opening(&[b"[".repeat(300), b"]".repeat(300), b"{".repeat(700)].concat()),
            1000
        );
    }

    #[test]
    fn json_that_does_not_fit_is_empty_and_not_refused() {
        for body in ["{}", "[1]", "null", "1e999", r#""\ud800""#, "  true  "] {
            assert_eq!(
                read::<Text<'_>>(body.as_bytes()).unwrap().get(),
                (body == "1e999").then_some("1e999")
            );
        }
    }
}
