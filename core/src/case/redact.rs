//! Takes secrets out of JSON: what keys that are called like secrets hold, and what looks like one within a text, or within
//! what a text holds in its turn: JSON, a form, an address within an address.
//!
//! Nothing tells a secret for certain. This finds what is known to be one by its name or its form, and leaves the rest; whoever
//! passes a case on is told what was found, and looks.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode_str;
use regex::{Captures, Regex};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::provider::{MAX_DEPTH, nests_deeper_than};

/// JSON without its secrets, in lines, and the paths of what was taken out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redacted {
    pub(super) text: String,
    pub(super) paths: Vec<String>,
}

/// Takes the secrets out of a JSON value that is called `name`. Numbers and the order of keys stay as they are written, and
/// so does what is no JSON.
pub(super) fn redact(json: &str, name: &str) -> Redacted {
    Walk::over(json, name, Shape::Lines, DEEPEST)
}

/// A pass over JSON that is known to be sound.
struct Walk<'j> {
    json: &'j str,
    at: usize,
    shape: Shape,
    /// How many texts within texts are still looked into.
    deep: usize,
    text: String,
    paths: Vec<String>,
}

/// How JSON is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Each member on a line.
    Lines,
    /// As short as it goes, for JSON within a text.
    Short,
}

/// Where a value stands.
struct Frame {
    path: String,
    is_secret: bool,
    depth: usize,
}

impl<'j> Walk<'j> {
    fn over(json: &'j str, name: &str, shape: Shape, deep: usize) -> Redacted {
        let mut walk = Self {
            json,
            at: 0,
            shape,
            deep,
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

    fn value(&mut self, frame: &Frame) {
        match self.peek() {
            Some(b'{') => self.members(frame, b'}'),
            Some(b'[') => self.members(frame, b']'),
            Some(b'"') => self.string(frame),
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

    fn string(&mut self, frame: &Frame) {
        let literal = self.literal();
        let text: Option<String> = serde_json::from_str(literal).ok();
        // Half a surrogate pair has no form in UTF-8; what stands there is looked at as it is written.
        let written = text.as_deref().unwrap_or(literal);
        let redacted = match frame.is_secret {
            true => Some(Redacted {
                text: REDACTED.to_owned(),
                paths: vec![frame.path.clone()],
            }),
            false => look(written, &frame.path, self.deep),
        };
        match redacted.filter(|redacted| Some(&redacted.text) != text.as_ref()) {
            Some(redacted) => {
                self.paths.extend(redacted.paths);
                self.text
                    .push_str(&serde_json::Value::from(redacted.text).to_string());
            }
            None => self.text.push_str(literal),
        }
    }

    /// The members of an object or a list.
    fn members(&mut self, frame: &Frame, end: u8) {
        let names_a_secret = end == b'}' && names_a_secret(&self.json[self.at..]);
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
                self.text.push_str(match self.shape {
                    Shape::Lines => ": ",
                    Shape::Short => ":",
                });
                let name: String = serde_json::from_str(key).unwrap_or_else(|_| key.to_owned());
                self.skip(b':');
                inner.path = format!("{}.{name}", frame.path);
                inner.is_secret |= is_secret(&name)
                    // A number is how many passed.
                    || (is_password(&name) && self.peek() == Some(b'"'))
                    || (names_a_secret && name.eq_ignore_ascii_case(VALUE));
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
        if self.shape == Shape::Lines {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n("  ", depth));
        }
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

/// Whether an object is a pair that says by its name what its value is: `{"name": "X-Api-Key", "value": "…"}`.
fn names_a_secret(object: &str) -> bool {
    let mut objects = serde_json::Deserializer::from_str(object).into_iter::<BTreeMap<String, &RawValue>>();
    let Some(Ok(members)) = objects.next() else {
        return false;
    };
    // What has white space in it is what a person reads, and not the name of a header or a variable.
    let is_named =
        |name: String| !name.contains(char::is_whitespace) && (is_secret(&name) || is_password(&name));
    members.iter().any(|(key, value)| {
        NAMES.iter().any(|name| key.eq_ignore_ascii_case(name))
            && serde_json::from_str(value.get()).is_ok_and(is_named)
    })
}

/// Whether a key is called like a secret: `apiKey`, `client_secret`, `x-signature`, `accessToken`. Not `tokens`, which in design
/// systems are colours and fonts, nor what is said of a token.
fn is_secret(key: &str) -> bool {
    let words = words(key);
    let words: Vec<_> = words.iter().map(|word| unnumbered(word)).collect();
    let pair = |pair: &[&str]| matches!(pair, [first, "key" | "keys"] if KEYS.contains(first));
    let mut tokens = words.iter().zip(1..).filter(|(word, _)| **word == "token");
    words.iter().any(|word| SECRETS.contains(word))
        || tokens.any(|(_, next)| words.get(next).is_none_or(|next| !OF_TOKENS.contains(next)))
        || words.windows(2).any(pair)
}

/// Whether a key is called like a password, in short: `pass`, `db_pwd`. A text has to be there as well, since much passes.
fn is_password(key: &str) -> bool {
    let words = words(key);
    words
        .last()
        .is_some_and(|word| matches!(unnumbered(word), "pass" | "pwd"))
}

/// The word of `token2`.
fn unnumbered(word: &str) -> &str {
    word.trim_end_matches(|c: char| c.is_ascii_digit())
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

/// A text called `name` without the secrets that it holds, JSON or not; nothing where it has none. What stands within it is
/// looked into as well, `deep` times.
fn look(text: &str, name: &str, deep: usize) -> Option<Redacted> {
    if deep > 0 && is_json(text) {
        let redacted = Walk::over(text, name, Shape::Short, deep - 1);
        return (!redacted.paths.is_empty()).then_some(redacted);
    }
    within(text, deep).map(|text| Redacted {
        text,
        paths: vec![name.to_owned()],
    })
}

/// Whether a text is an object or a list, as forms and queues hold them.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
        && !nests_deeper_than(MAX_DEPTH, text.as_bytes())
}

/// A text without what looks like a secret in it; nothing where it has none.
fn within(text: &str, deep: usize) -> Option<String> {
    let is_form = text.contains('&') && !text.contains(char::is_whitespace);
    let redacted = PARAMETER.replace_all(text, |found: &Captures<'_>| {
        let (before, name, value) = (&found[1], &found[2], &found[3]);
        let in_address = matches!(before, "?" | "&" | "#" | ";") || (before.is_empty() && is_form);
        let is_secret = is_secret(name)
            || is_password(name)
            || (in_address && PARAMETERS.contains(&name.to_lowercase().as_str()));
        match is_secret {
            true => format!("{before}{name}=redacted"),
            false => format!("{before}{name}={}", parameter(value, deep)),
        }
    });
    let redacted = ADDRESS.replace_all(&redacted, |found: &Captures<'_>| {
        let user = match found[1].starts_with("http") && is_token(&found[2]) {
            true => "redacted",
            false => &found[2],
        };
        let password = found.get(3).map_or("", |_| ":redacted");
        format!("{}{user}{password}@", &found[1])
    });
    let redacted = BASIC.replace_all(&redacted, |found: &Captures<'_>| match is_basic(&found[2]) {
        true => format!("{} {REDACTED}", &found[1]),
        false => found[0].to_owned(),
    });
    let redacted = FORMS.iter().fold(redacted, |text, (form, with)| {
        match form.replace_all(&text, *with) {
            Cow::Borrowed(_) => text,
            Cow::Owned(text) => text.into(),
        }
    });
    (redacted != text).then(|| redacted.into_owned())
}

/// The value of a parameter without the secrets that it holds: an address within an address, or JSON within a form.
fn parameter(value: &str, deep: usize) -> Cow<'_, str> {
    let Some(deep) = deep.checked_sub(1) else {
        return value.into();
    };
    if let Some(redacted) = look(value, "", deep) {
        return redacted.text.into();
    }
    let decoded = decoded(value);
    match decoded != value && look(&decoded, "", deep).is_some() {
        // Part of what is encoded would be no help to a reader.
        true => "redacted".into(),
        false => value.into(),
    }
}

/// What a form or an address has encoded.
fn decoded(text: &str) -> Cow<'_, str> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map_or(text.into(), |decoded| decoded.into_owned().into())
}

/// Whether who is named in an address is no person, but a token: it is long, or not short and has digits.
fn is_token(user: &str) -> bool {
    user.len() >= 20 || (user.len() >= 8 && user.contains(|c: char| c.is_ascii_digit()))
}

/// Whether a word is a name and a password with a colon between them, in Base64, as RFC 7617 has it; and not one that
/// follows "basic" in a sentence.
fn is_basic(word: &str) -> bool {
    let word = word.trim_end_matches('=');
    // What was cut off may end in a letter that is no byte.
    let word = &word[..word.len() - usize::from(word.len() % 4 == 1)];
    let bytes = BASE64.decode(word).unwrap_or_default();
    String::from_utf8(bytes).is_ok_and(|text| text.contains(':') && !text.contains(char::is_control))
}

/// With padding or without, and wherever it was cut off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
const REDACTED: &str = "(redacted)";
/// How many texts within texts are looked into.
const DEEPEST: usize = 4;
/// What a pair calls its name, and its value.
const NAMES: [&str; 2] = ["name", "key"];
const VALUE: &str = "value";
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
/// What is said of a token, a design system's or another: it is none itself.
const OF_TOKENS: &[&str] = &[
    "collection",
    "count",
    "endpoint",
    "expires",
    "expiry",
    "group",
    "id",
    "kind",
    "length",
    "name",
    "order",
    "path",
    "scope",
    "set",
    "status",
    "style",
    "theme",
    "type",
    "uri",
    "url",
    "version",
];
/// Parameters of addresses that are secrets, beside those that are called like one.
const PARAMETERS: &[&str] = &["sig", "sign", "hmac", "key", "code", "auth", "policy"];

/// `?name=value` and `&name=value` of an address, and `NAME=value` wherever it stands.
static PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
    form(concat!(
        r"(^|[^\w.~%\[\]-])([\w.~%\[\]-]+)=",
        r#"("[^"]+"|'[^']+'|[^&;\s"'<>#|)]+)"#
    ))
});
/// What stands before the host of an address: whose it is, or a token.
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| form(r#"(\b[A-Za-z][A-Za-z0-9+.-]*://)([^/\s:@?#"'<>]*)(:[^/\s@?#]+)?@"#));
/// What HTTP's `Basic` may be followed by.
static BASIC: LazyLock<Regex> = LazyLock::new(|| form(r"(?i)\b(basic)\s+([A-Za-z0-9+/]{4,}={0,2})"));
/// What is known to be a secret by its form, and what takes its place.
static FORMS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (
            // To its end, or where it was cut off.
            form(concat!(
                r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?",
                r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)"
            )),
            REDACTED,
        ),
        (
            form(r#"(hooks\.slack\.com/(?:services|workflows|triggers)/)[^\s"'<>|?#]+"#),
            "${1}redacted",
        ),
        (
            form(concat!(
                r"\b(?:xox[abeoprs]-[\w-]{8,}|xapp-[\w-]{8,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|",
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
            "tokenValue",
            "tokenForUser",
            "authToken2",
            "password1",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["pass", "pwd", "smtpPass", "DB_PWD"] {
            assert!(is_password(key), "{key}");
        }
        for key in [
            "tokens",
            "tokensUrl",
            "designTokens",
            "token_count",
            "tokenType",
            "tokenName",
            "tokenGroup2",
            "tokenized",
            "key",
            "keyboard",
            "auth",
            "author",
            "secretary",
            "signed",
            "title",
            "url",
            "passed",
            "passRate",
            "passenger",
            "bypass",
            "",
        ] {
            assert!(!is_secret(key) && !is_password(key), "{key}");
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
            (
                "Authorization: Basic YWRhOmh1bnRlcjI=",
                "Authorization: Basic (redacted)",
            ),
            ("token=t0ken&x=1", "token=redacted&x=1"),
            ("code=t0ken&state=1", "code=redacted&state=1"),
            ("a=1;token=t0ken", "a=1;token=redacted"),
            (
                "API_KEY=t0ken PASSWORD='hunter 2' N=1",
                "API_KEY=redacted PASSWORD=redacted N=1",
            ),
            ("deploy --token=t0ken --now", "deploy --token=redacted --now"),
            (
                "https://0123456789abcdef@git.example/x.git",
                "https://redacted@git.example/x.git",
            ),
            (
                "https://0123456789abcdef:x-oauth-basic@git.example/x.git",
                "https://redacted:redacted@git.example/x.git",
            ),
            (
                "https://a.example/?next=https%3A%2F%2Fb.example%2F%3Ftoken%3Dt0ken&x=1",
                "https://a.example/?next=redacted&x=1",
            ),
            (
                "https://a.example/?next=https://b.example/?token=t0ken&x=1",
                "https://a.example/?next=https://b.example/?token=redacted&x=1",
            ),
            ("payload=%7B%22token%22%3A+%22t0ken%22%7D", "payload=redacted"),
            (
                "<a href=\"https://a.example/?q=a+b&token=t0ken\">here</a>",
                "<a href=\"https://a.example/?q=a+b&token=redacted\">here</a>",
            ),
            (
                "the key: -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- as agreed",
                "the key: (redacted) as agreed",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "(redacted)"),
            (
                "the app is xapp-1-A0000000000-111111111111-abc",
                "the app is (redacted)",
            ),
        ] {
            assert_eq!(within(text, DEEPEST).as_deref(), Some(expected), "{text}");
            assert_eq!(within(expected, DEEPEST), None, "{expected}");
        }
        for text in [
            "https://git.example/commit/0123456789abcdef0123456789abcdef01234567",
            "https://a.example/?page=2&tokens=12",
            "bearer authentication is what it uses",
            "ssh://git@git.example:22/x",
            "ssh://deployer1@git.example/x",
            "https://adalovelace@git.example/x.git",
            "write to https://a.example or ada@b.example",
            "a = b; c & d",
            "it ended with code=404 and key=up",
            "https://a.example/?next=https%3A%2F%2Fb.example%2F%3Fpage%3D2",
            "basic internationalization of the screens",
            "Basic Internationalization",
            "x=1&y=50%&z=%zz",
            "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
            "[WIP] {draft} of the token page",
        ] {
            assert_eq!(within(text, DEEPEST), None, "{text}");
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

    #[track_caller]
    fn check(json: &str, expected: &str, paths: &[&str]) {
        let redacted = redact(json, "event");
        let short = serde_json::from_str::<serde_json::Value>(&redacted.text)
            .unwrap()
            .to_string();
        assert_eq!(short, expected);
        assert_eq!(redacted.paths, paths, "{json}");
        assert_eq!(
            redact(&redacted.text, "event").paths,
            Vec::<String>::new(),
            "{json}"
        );
    }

    #[test]
    fn json_within_a_text_is_looked_into() {
        check(
            r#"{"payload":"{\"token\": \"t0ken\", \"n\": 1.50}"}"#,
            r#"{"payload":"{\"token\":\"(redacted)\",\"n\":1.50}"}"#,
            &["event.payload.token"],
        );
        check(
            r#"["[{\"inner\": \"{\\\"secret\\\": 7}\"}]"]"#,
            r#"["[{\"inner\":\"{\\\"secret\\\":0}\"}]"]"#,
            &["event[0][0].inner.secret"],
        );
        for harmless in [r#"{"payload":"{\"title\": \"x\"}"}"#, r#"{"payload":"{\"token"}"#] {
            check(harmless, harmless, &[]);
        }
    }

    #[test]
    fn a_pair_says_by_its_name_whether_its_value_is_a_secret() {
        check(
            r#"[{"name":"X-Api-Key","value":"t0ken"},{"Value":"t0ken","Key":"DB_PASS"}]"#,
            r#"[{"name":"X-Api-Key","value":"(redacted)"},{"Key":"DB_PASS","Value":"(redacted)"}]"#,
            &["event[0].value", "event[1].Value"],
        );
        for harmless in [
            r#"{"name":"Content-Type","value":"text/plain"}"#,
            r#"{"name":"Secret garden, a poster","value":"12"}"#,
            r#"{"key":"api","value":"v2"}"#,
        ] {
            check(harmless, harmless, &[]);
        }
    }

    #[test]
    fn a_password_is_a_text_and_a_count_is_none() {
        check(
            r#"{"fail":2,"pass":10,"pwd":"hunter2","smtpPass":"hunter2"}"#,
            r#"{"fail":2,"pass":10,"pwd":"(redacted)","smtpPass":"(redacted)"}"#,
            &["event.pwd", "event.smtpPass"],
        );
    }

    #[test]
    fn texts_within_texts_without_end_are_left_at_some_depth() {
        let nested = (0..1_000).fold("x".to_owned(), |text, _| format!("a=?{text}"));
        assert_eq!(within(&nested, DEEPEST), None);
        let json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json = serde_json::Value::from(json).to_string();
        assert_eq!(redact(&json, "event").paths, Vec::<String>::new());
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
