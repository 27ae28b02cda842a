//! A strict reader of JSON, from left to right, that keeps nothing.
//!
//! What it lets pass is what serde_json lets pass when it ignores a value, halves of surrogate pairs and numbers
//! beyond `f64` included: others make such JSON, and tests hold it against serde_json. It is here because most of an
//! event is skipped, and little else than skipping is done to it.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::skip::{
    Wrong, after_escape, after_key, after_number, after_string, after_value, after_word, byte, expect, run,
    space,
};

/// Reads one text.
#[derive(Debug)]
pub(super) struct Scanner<'e> {
    text: &'e str,
    at: usize,
}

impl<'e> Scanner<'e> {
    /// Reads `text` from its start.
    pub(super) fn new(text: &'e str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space, which stays the next.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Result<u8, Wrong> {
        self.at = space(self.bytes(), self.at);
        byte(self.bytes(), self.at).ok_or(Wrong)
    }

    /// Passes the next byte that is no white space, where it is `expected`.
    #[inline(always)]
    pub(super) fn next_if(&mut self, expected: u8) -> Result<bool, Wrong> {
        let is_next = self.peek()? == expected;
        self.at += usize::from(is_next);
        Ok(is_next)
    }

    /// Passes a byte that must be there.
    #[inline(always)]
    pub(super) fn expect(&mut self, expected: u8) -> Result<(), Wrong> {
        self.at = expect(self.bytes(), self.at, expected)?;
        Ok(())
    }

    /// Passes what stands between two values, or after the last one, which `close` ends. Says whether another one
    /// follows.
    #[inline(always)]
    pub(super) fn another(&mut self, close: u8) -> Result<bool, Wrong> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            _ => self.expect(close).map(|()| false),
        }
    }

    /// In an object, passes members up to one whose key may be of interest, given its first byte, and reads that key.
    /// `None` is the end of the object.
    pub(super) fn key(
        &mut self,
        mut is_first: bool,
        is_of_interest: impl Fn(u8) -> bool,
    ) -> Result<Option<Cow<'e, str>>, Wrong> {
        let bytes = self.bytes();
        let mut at = self.at;
        loop {
            at = space(bytes, at);
            match byte(bytes, at) {
                Some(b'}') => {
                    self.at = at + 1;
                    return Ok(None);
                }
                Some(b',') if !is_first => at = space(bytes, at + 1),
                _ if !is_first => return Err(Wrong),
                _ => is_first = false,
            }
            match byte(bytes, at + 1) {
                Some(first) if first != b'"' && first != b'\\' && !is_of_interest(first) => {
                    at = space(bytes, after_key(bytes, at)?);
                    at = match byte(bytes, at) {
                        Some(b'"') => after_string(bytes, at + 1)?,
                        _ => after_value(bytes, at)?,
                    };
                }
                _ => {
                    self.at = at;
                    let key = self.string()?;
                    self.expect(b':')?;
                    return Ok(Some(key));
                }
            }
        }
    }

    /// Reads a text.
    pub(super) fn string(&mut self) -> Result<Cow<'e, str>, Wrong> {
        self.expect(b'"')?;
        let start = self.at;
        self.at = run(self.bytes(), start);
        if byte(self.bytes(), self.at) == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        self.escaped(start)
    }

    /// Reads a text that began at `start`, from its first escape.
    #[cold]
    fn escaped(&mut self, start: usize) -> Result<Cow<'e, str>, Wrong> {
        let mut string = self.text[start..self.at].to_owned();
        loop {
            match byte(self.bytes(), self.at).ok_or(Wrong)? {
                b'"' => {
                    self.at += 1;
                    return Ok(Cow::Owned(string));
                }
                b'\\' => string.push(self.escape()?),
                _ => return Err(Wrong),
            }
            let start = self.at;
            self.at = run(self.bytes(), start);
            string.push_str(&self.text[start..self.at]);
        }
    }

    /// Reads an escape; of half a surrogate pair, a replacement.
    fn escape(&mut self) -> Result<char, Wrong> {
        let (escape, start) = (byte(self.bytes(), self.at + 1), self.at + 2);
        self.at = after_escape(self.bytes(), self.at)?;
        Ok(match escape.ok_or(Wrong)? {
            b'u' => return Ok(self.unicode(start)),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            same => char::from(same),
        })
    }

    /// Reads the digits of an escape, which are at `start`, and where they are half of a pair, the other half.
    fn unicode(&mut self, start: usize) -> char {
        let hex = |start: usize| u32::from_str_radix(&self.text[start..start + 4], 16).unwrap_or_default();
        let unit = hex(start);
        let is_escape = self.bytes()[self.at..].starts_with(b"\\u");
        if (0xD800..0xDC00).contains(&unit)
            && is_escape
            && let Ok(end) = after_escape(self.bytes(), self.at)
        {
            let low = hex(self.at + 2);
            if (0xDC00..0xE000).contains(&low) {
                self.at = end;
                let code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
        }
        char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// Reads a number.
    pub(super) fn number(&mut self) -> Result<&'e str, Wrong> {
        let start = space(self.bytes(), self.at);
        self.at = after_number(self.bytes(), start)?;
        Ok(&self.text[start..self.at])
    }

    /// Reads `null` or a truth value.
    pub(super) fn word(&mut self) -> Result<Option<bool>, Wrong> {
        let start = space(self.bytes(), self.at);
        self.at = after_word(self.bytes(), start)?;
        Ok(match byte(self.bytes(), start) {
            Some(b'n') => None,
            first => Some(first == Some(b't')),
        })
    }

    /// Passes a value, whatever is in it.
    pub(super) fn skip(&mut self) -> Result<(), Wrong> {
        self.at = after_value(self.bytes(), self.at)?;
        Ok(())
    }

    /// That nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        match space(self.bytes(), self.at) == self.text.len() {
            true => Ok(()),
            false => Err(Wrong),
        }
    }

    /// Why the text is not JSON, in the words of serde_json.
    pub(super) fn why(&self) -> String {
        let read = serde_json::from_str::<IgnoredAny>(self.text);
        read.map_or_else(|error| error.to_string(), |_| "it is none".to_owned())
    }

    fn bytes(&self) -> &'e [u8] {
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_json(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip().and_then(|()| scanner.end()).is_ok()
    }

    #[track_caller]
    fn check(text: &str) {
        let expected = serde_json::from_str::<IgnoredAny>(text).is_ok();
        assert_eq!(is_json(text), expected, "{text}");
        let read = Scanner::new(text).string();
        if let Ok(expected) = serde_json::from_str::<String>(text) {
            assert_eq!(read.unwrap(), expected);
        }
    }

    #[test]
    fn what_is_strange_is_judged_as_serde_json_does() {
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "tru",
            "-",
            "--1",
            "01",
            "-0",
            "1.",
            "1.e1",
            "1e",
            "1e+",
            "1E-07",
            "1e999",
            ".5",
            "+1",
            "[",
            "[]",
            "[,]",
            "[1,]",
            "[1 2]",
            "{",
            "{}",
            "{,}",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\" : [ ] }",
            "[}",
            "{]",
            "[]]",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\t\"",
            "\"\u{7f}é\"",
            "\"\\ud83d\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\ud83d\\u\"",
            "\"\u{0}\"",
            "\u{feff}1",
            "1\u{a0}",
        ] {
            check(text);
        }
    }

    #[test]
    fn any_depth_is_skipped() {
        for depth in [62, 63, 64, 127, 200_000] {
            let deep = format!("{}{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
            assert!(!is_json(&deep));
            let deep = deep.replacen("}]", "1}]", 1);
            assert!(is_json(&deep));
            assert!(!is_json(&deep[..deep.len() - 1]));
            assert!(!is_json(&format!("{deep}]")));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_as_serde_json_does(text in "([\\[\\]{},:\"]|\\\\[nu\"\\\\]|[0-9a-f]{1,4}|[-+.eE]|true|null|[ \\n]|\\PC|abcdefgh){0,16}") {
            check(&text);
        }

        #[test]
        fn any_string_is_read(string in "(\\PC|[\\\\\"\n\t\u{0}-\u{1f}]|abcdefgh){0,20}", after in "[a-z]{0,9}") {
            let text = format!("{}{after}", serde_json::Value::from(string.as_str()));
            prop_assert_eq!(Scanner::new(&text).string().unwrap(), string);
        }
    }
}
