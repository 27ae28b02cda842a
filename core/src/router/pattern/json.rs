//! JSON with places: strict, every number as its text, every key kept.

use std::ops::Range;

use super::node::{Member, Node, NodeValue};

/// What is wrong, and at which byte.
#[derive(Debug, PartialEq)]
pub(in crate::router) struct JsonError {
    pub(in crate::router) at: usize,
    pub(in crate::router) message: String,
}

/// Reads one JSON value. A half of a surrogate pair becomes U+FFFD.
pub(in crate::router) fn parse(text: &str) -> Result<Node, JsonError> {
    let mut parser = Parser { text, at: 0 };
    let node = parser.value(0)?;
    parser.space();
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.wrong("expected the end of the text")),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn value(&mut self, depth: usize) -> Result<Node, JsonError> {
        self.space();
        if depth > DEEPEST {
            return Err(self.wrong("nests too deep"));
        }
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => NodeValue::Table(self.table(depth)?),
            Some(b'[') => NodeValue::List(self.list(depth)?),
            Some(b'"') => NodeValue::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => NodeValue::Number(self.number()?),
            _ => self.word()?,
        };
        Ok(Node {
            span: start..self.at,
            value,
        })
    }

    fn table(&mut self, depth: usize) -> Result<Vec<Member>, JsonError> {
        let mut members = Vec::new();
        self.each(b'}', |parser| {
            let start = parser.at;
            if parser.peek() != Some(b'"') {
                return Err(parser.wrong("expected a key in double quotes"));
            }
            let key = parser.string()?;
            let key_span = start..parser.at;
            parser.space();
            parser.expect(b':', "expected `:` after the key")?;
            let node = parser.value(depth + 1)?;
            members.push(Member { key, key_span, node });
            Ok(())
        })?;
        Ok(members)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, JsonError> {
        let mut nodes = Vec::new();
        self.each(b']', |parser| {
            nodes.push(parser.value(depth + 1)?);
            Ok(())
        })?;
        Ok(nodes)
    }

    /// Reads what is separated by commas up to `close`, from the opening bracket on.
    fn each(
        &mut self,
        close: u8,
        mut read: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            read(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(found) if found == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.wrong(format!("expected `,` or `{}`", char::from(close)))),
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let end = rest
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .unwrap_or(rest.len());
            string.push_str(&rest[..end]);
            self.at += end;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(_) => return Err(self.wrong("a control character must be escaped")),
                None => return Err(self.wrong("the string does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(same @ (b'"' | b'\\' | b'/')) => char::from(same),
            _ => return Err(self.wrong("there is no such escape")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let unit = self.hex()?;
        if !(0xD800..0xDC00).contains(&unit) || !self.text[self.at..].starts_with("\\u") {
            return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        self.at += 2;
        let low = self.hex()?;
        if (0xDC00..0xE000).contains(&low) {
            let code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.at = before;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or_else(|| self.wrong("expected four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }

    fn number(&mut self) -> Result<String, JsonError> {
        let start = self.at;
        self.skip(|byte| byte == b'-', 0..2)?;
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.skip(|byte| byte.is_ascii_digit(), 1..usize::MAX)?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip(|byte| byte.is_ascii_digit(), 1..usize::MAX)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.skip(|byte| matches!(byte, b'+' | b'-'), 0..2)?;
            self.skip(|byte| byte.is_ascii_digit(), 1..usize::MAX)?;
        }
        Ok(self.text[start..self.at].to_owned())
    }

    /// Skips the bytes for which `is` holds, as many as `times` allows.
    fn skip(&mut self, is: impl Fn(u8) -> bool, times: Range<usize>) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes()[self.at..].iter();
        let count = bytes.take_while(|byte| is(**byte)).count();
        self.at += count;
        match times.contains(&count) {
            true => Ok(()),
            false => Err(self.wrong("not a number")),
        }
    }

    fn word(&mut self) -> Result<NodeValue, JsonError> {
        let words = [
            ("null", NodeValue::Null),
            ("true", NodeValue::Bool(true)),
            ("false", NodeValue::Bool(false)),
        ];
        for (word, value) in words {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("expected a value"))
    }

    fn expect(&mut self, byte: u8, message: &str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.wrong(message));
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        let bytes = self.text.as_bytes()[self.at..].iter();
        self.at += bytes
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self, message: impl Into<String>) -> JsonError {
        JsonError {
            at: self.at,
            message: message.into(),
        }
    }
}

/// How deep lists and objects may nest: deeper than any body that is let in.
const DEEPEST: usize = 192;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn value(node: &Node) -> Value {
        match &node.value {
            NodeValue::Null | NodeValue::Date => Value::Null,
            NodeValue::Bool(truth) => Value::from(*truth),
            NodeValue::Number(text) => serde_json::from_str(text).unwrap(),
            NodeValue::String(text) => Value::from(text.as_str()),
            NodeValue::List(nodes) => nodes.iter().map(value).collect(),
            NodeValue::Table(members) => members.iter().map(|m| (m.key.clone(), value(&m.node))).collect(),
        }
    }

    #[track_caller]
    fn check(text: &str, wrong: Option<(usize, &str)>) {
        let found = parse(text).err();
        assert_eq!(
            found.as_ref().map(|e| (e.at, e.message.as_str())),
            wrong,
            "{text}"
        );
        assert_eq!(
            found.is_none(),
            serde_json::from_str::<Value>(text).is_ok(),
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        check("{\"a\": [1, 2 3]}", Some((12, "expected `,` or `]`")));
        check("{\"a\": tru}", Some((6, "expected a value")));
        check("{a: 1}", Some((1, "expected a key in double quotes")));
        check("{\"a\" 1}", Some((5, "expected `:` after the key")));
        check("[1,]", Some((3, "expected a value")));
        check("\"a\\x\"", Some((3, "there is no such escape")));
        check("\"a", Some((2, "the string does not end")));
        check("\"\n\"", Some((1, "a control character must be escaped")));
        check("01", Some((1, "expected the end of the text")));
        check("1.", Some((2, "not a number")));
        check("-", Some((1, "not a number")));
        check("--1", Some((2, "not a number")));
        check("", Some((0, "expected a value")));
        check("{} x", Some((3, "expected the end of the text")));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(&deep).unwrap_err().message, "nests too deep");
    }

    #[test]
    fn half_a_surrogate_pair_is_a_replacement_character() {
        let text = |json: &str| value(&parse(json).unwrap()).as_str().unwrap().to_owned();
        assert_eq!(text("\"\\ud83d\\ude00\\u00e9\""), "😀é");
        assert_eq!(text("\"x\\ud83dy\""), "x\u{FFFD}y");
        assert_eq!(text("\"\\ud83d\\u0041\\udc00\""), "\u{FFFD}A\u{FFFD}");
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde_json(text in "([\\[\\]{},:\"]|\\\\[nu\"]|[0-9a-f]{1,4}|[-+.eE]|true|null|[ \\n]|\\PC){0,12}") {
            let expected = serde_json::from_str::<Value>(&text);
            match (parse(&text), expected) {
                (Ok(node), Ok(expected)) => proptest::prop_assert_eq!(value(&node), expected),
                (Err(_), Err(_)) => {}
                // serde_json refuses halves of surrogate pairs and numbers beyond f64.
                (Ok(_), Err(error)) => {
                    let error = error.to_string();
                    proptest::prop_assert!(error.contains("surrogate") || error.contains("hex escape") || error.contains("out of range"), "{}", error);
                }
                (Err(error), Ok(_)) => proptest::prop_assert!(false, "{error:?}"),
            }
        }
    }
}
