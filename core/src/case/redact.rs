//! Takes secrets out of JSON: what keys that are called like secrets hold, and what looks like one within a text.
//!
//! Nothing tells a secret for certain. This finds what is known to be one by its name or its form, and leaves the rest; whoever
//! passes a case on is told what was found, and looks.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

/// JSON without its secrets, in lines, and the paths of what was taken out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redacted {
    pub(super) text: String,
    pub(super) paths: Vec<String>,
}

/// Takes the secrets out of a JSON value that is called `name`. Numbers and the order of keys stay as they are written, and
/// so does what is no JSON.
pub(super) fn redact(json: &str, name: &str) -> Redacted {
    let mut walk = Walk {
        json,
        at: 0,
        text: String::new(),
        paths: Vec::new(),
    };
    walk.value(&Frame {
        path: name.to_owned(),
        is_secret: false,
        depth: 0,
    });
    Redacted {
        text: walk.text,
        paths: walk.paths,
    }
}

/// A pass over JSON that is known to be sound.
struct Walk<'j> {
    json: &'j str,
    at: usize,
    text: String,
    paths: Vec<String>,
}

/// Where a value stands.
struct Frame {
    path: String,
    is_secret: bool,
    depth: usize,
}

impl<'j> Walk<'j> {
    fn value(&mut self, frame: &Frame) {
        match self.peek() {
            Some(b'{') => self.members(frame, b'}'),
            Some(b'[') => self.members(frame, b']'),
            Some(b'"') => {
                let literal = self.literal();
                let text: Option<String> = serde_json::from_str(literal).ok();
                let redacted = match frame.is_secret {
                    true => Some(REDACTED.to_owned()),
                    // Half a surrogate pair has no form in UTF-8; what stands there is looked at as it is written.
                    false => within(text.as_deref().unwrap_or(literal)),
                };
                self.put(
                    frame,
                    redacted.filter(|redacted| Some(redacted) != text.as_ref()),
                    literal,
                );
            }
            _ => {
                let word = self.word();
                let is_number = word.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                match frame.is_secret && is_number && word != "0" {
                    true => {
                        self.paths.push(frame.path.clone());
                        self.text.push('0');
                    }
                    false => self.text.push_str(word),
                }
            }
        }
    }

    fn put(&mut self, frame: &Frame, redacted: Option<String>, literal: &str) {
        match redacted {
            Some(redacted) => {
                self.paths.push(frame.path.clone());
                self.text.push_str(&serde_json::Value::from(redacted).to_string());
            }
            None => self.text.push_str(literal),
        }
    }

    /// The members of an object or a list, each on a line.
    fn members(&mut self, frame: &Frame, end: u8) {
        self.text.push(if end == b'}' { '{' } else { '[' });
        self.at += 1;
        let mut count = 0;
        while self.peek().is_some_and(|byte| byte != end) {
            if count > 0 {
                self.skip(b',');
                self.text.push(',');
            }
            self.line(frame.depth + 1);
            let mut inner = Frame {
                path: format!("{}[{count}]", frame.path),
                is_secret: frame.is_secret,
                depth: frame.depth + 1,
            };
            if end == b'}' && self.peek() == Some(b'"') {
                let key = self.literal();
                self.text.push_str(key);
                self.text.push_str(": ");
                let name: String = serde_json::from_str(key).unwrap_or_else(|_| key.to_owned());
                inner.path = format!("{}.{name}", frame.path);
                inner.is_secret |= is_secret(&name);
                self.skip(b':');
            }
            let before = self.at;
            self.value(&inner);
            count += 1;
            if self.at == before {
                break; // not JSON after all
            }
        }
        if count > 0 {
            self.line(frame.depth);
        }
        self.skip(end);
        self.text.push(char::from(end));
    }

    fn skip(&mut self, mark: u8) {
        if self.peek() == Some(mark) {
            self.at += 1;
        }
    }

    fn line(&mut self, depth: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("  ", depth));
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.as_bytes().get(self.at..).unwrap_or_default();
        let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    /// A string with its quotes, as it is written.
    fn literal(&mut self) -> &'j str {
        let start = self.at;
        let mut bytes = self.json.as_bytes()[start..].iter().zip(0..).skip(1);
        let mut length = self.json.len() - start;
        while let Some((byte, at)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'"' => {
                    length = at + 1;
                    break;
                }
                _ => {}
            }
        }
        self.at = start + length;
        &self.json[start..self.at]
    }

    /// A number, or `true`, `false`, `null`.
    fn word(&mut self) -> &'j str {
        let rest = &self.json[self.at..];
        let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}'));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }
}

/// Whether a key is called like a secret: `apiKey`, `client_secret`, `x-signature`, `accessToken`. Not `tokens`, which in design
/// systems are colours and fonts.
fn is_secret(key: &str) -> bool {
    let words = words(key);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let pair = |pair: &[&str]| matches!(pair, [first, "key" | "keys"] if KEYS.contains(first));
    words.iter().any(|word| SECRETS.contains(word))
        || words.last() == Some(&"token")
        || words.windows(2).any(pair)
}

/// The words of a name, in lower case, however it joins them.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        // `APIKey` is two words as well.
        let begins = was_lower || rest.peek().is_some_and(|next| next.is_lowercase());
        let is_next = !c.is_alphanumeric() || (c.is_uppercase() && begins);
        if is_next && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase() || c.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A text without what looks like a secret in it; nothing where it has none.
fn within(text: &str) -> Option<String> {
    let redacted = PARAMETER.replace_all(text, |found: &Captures<'_>| {
        let is_secret = is_secret(&found[2]) || PARAMETERS.contains(&found[2].to_lowercase().as_str());
        match is_secret {
            true => format!("{}{}=redacted", &found[1], &found[2]),
            false => found[0].to_owned(),
        }
    });
    let redacted = FORMS.iter().fold(redacted, |text, (form, with)| {
        match form.replace_all(&text, *with) {
            Cow::Borrowed(_) => text,
            Cow::Owned(text) => text.into(),
        }
    });
    (redacted != text).then(|| redacted.into_owned())
}

const REDACTED: &str = "(redacted)";
/// Words of which one makes a key a secret's, and those that do so before `key`.
const SECRETS: &[&str] = &[
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "authorization",
    "credential",
    "credentials",
    "signature",
    "signatures",
    "cookie",
    "cookies",
    "jwt",
    "apikey",
    "bearer",
];
const KEYS: &[&str] = &[
    "api",
    "access",
    "private",
    "secret",
    "signing",
    "encryption",
    "auth",
];
/// Parameters of addresses that are secrets, beside those that are called like one.
const PARAMETERS: &[&str] = &["sig", "sign", "hmac", "key", "code", "auth", "policy", "pwd"];

/// `?name=value` and `&name=value` of an address.
static PARAMETER: LazyLock<Regex> = LazyLock::new(|| form(r#"([?&#;])([\w.~%\[\]-]+)=([^&\s"'<>#|)]+)"#));
/// What is known to be a secret by its form, and what takes its place.
static FORMS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (form(r"(://[^/\s:@?#]*):[^/\s@?#]+@"), "$1:redacted@"),
        (
            form(r#"(hooks\.slack\.com/(?:services|workflows|triggers)/)[^\s"'<>|?#]+"#),
            "${1}redacted",
        ),
        (
            form(concat!(
                r"\b(?:xox[abeoprs]-[\w-]{8,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|",
                r"[rs]k_(?:live|test)_\w{8,}|AKIA[A-Z0-9]{12,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
            )),
            REDACTED,
        ),
        (form(r"(?i)\b(bearer)\s+[\w.~+/=-]{16,}"), "$1 (redacted)"),
    ]
});

fn form(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is one of those above, which tests compile")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_called_like_secrets_are_told_from_others() {
        for key in [
            "token",
            "accessToken",
            "access_token",
            "X-Auth-Token",
            "secret",
            "clientSecret",
            "password",
            "Authorization",
            "zeplin-signature",
            "apiKey",
            "api_key",
            "private-key",
            "X-Amz-Credential",
            "APIKey",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "tokens",
            "tokensUrl",
            "designTokens",
            "token_count",
            "tokenized",
            "key",
            "keyboard",
            "auth",
            "author",
            "secretary",
            "signed",
            "title",
            "url",
            "",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn secrets_within_texts_are_taken_out_and_the_rest_stays() {
        for (text, expected) in [
            (
                "https://a.example/x.zip?X-Amz-Signature=abc&size=3",
                "https://a.example/x.zip?X-Amz-Signature=redacted&size=3",
            ),
            (
                "https://a.example/?token=t0ken#top",
                "https://a.example/?token=redacted#top",
            ),
            (
                "see <https://a.example/?sig=t0ken|here>",
                "see <https://a.example/?sig=redacted|here>",
            ),
            (
                "https://ada:hunter2@git.example/x",
                "https://ada:redacted@git.example/x",
            ),
            (
                "https://hooks.slack.com/services/T1/B2/c3",
                "https://hooks.slack.com/services/redacted",
            ),
            ("the bot is xoxb-1234567890-abc", "the bot is (redacted)"),
            (
                "Authorization: Bearer 0123456789abcdef0123",
                "Authorization: Bearer (redacted)",
            ),
        ] {
            assert_eq!(within(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "https://git.example/commit/0123456789abcdef0123456789abcdef01234567",
            "https://a.example/?page=2&tokens=12",
            "bearer authentication is what it uses",
            "ssh://git@git.example:22/x",
            "a = b; c & d",
        ] {
            assert_eq!(within(text), None, "{text}");
        }
    }

    #[test]
    fn json_keeps_its_numbers_its_order_and_its_duplicates() {
        let json = r#"{"b":1.50,"a":[1e400,true,null,{}],"a":[],"e":"\ud800 \"x\"","token":"t0ken","credentials":{"user":"ada","pin":[7,"x"]},
            "link":"https://a.example/?token=t0ken"}"#;
        let redacted = redact(json, "event");
        insta::assert_snapshot!(redacted.text, @r#"
        {
          "b": 1.50,
          "a": [
            1e400,
            true,
            null,
            {}
          ],
          "a": [],
          "e": "\ud800 \"x\"",
          "token": "(redacted)",
          "credentials": {
            "user": "(redacted)",
            "pin": [
              0,
              "(redacted)"
            ]
          },
          "link": "https://a.example/?token=redacted"
        }
        "#);
        assert_eq!(
            redacted.paths,
            [
                "event.token",
                "event.credentials.user",
                "event.credentials.pin[0]",
                "event.credentials.pin[1]",
                "event.link"
            ]
        );
        // What is redacted already is not told again.
        assert_eq!(redact(&redacted.text, "event").paths, Vec::<String>::new());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_walked_to_its_end(text in "[\\[\\]{}:,\"\\\\ a0é]{0,20}") {
            let _ = redact(&text, "x");
        }

        #[test]
        fn what_holds_no_secret_says_the_same(numbers in proptest::collection::vec(proptest::prelude::any::<i32>(), 0..5), text in "[a-z \"\\\\é]{0,9}") {
            let value = serde_json::json!({ "a": numbers, "b": { "c": text } });
            let redacted = redact(&value.to_string(), "x");
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&redacted.text).unwrap(), value);
        }
    }
}
