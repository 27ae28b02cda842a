//! What a provider plugin says of a request: read, and held against what an event can be.

use bytes::Bytes;
use hyper::{StatusCode, http::HeaderValue};
use jackfield_event::{Data, Timestamp, Verification};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    provider::{Handshake, draft},
    reason::Reason,
};

/// A verdict; of a plugin's making, but of a shape that makes sense.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Refused {
        reason: Doubt,
        #[serde(default)]
        detail: String,
    },
    Event(Box<Accepted>),
    Handshake(Answer),
}

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Doubt {
    MissingHeader,
    WrongSignature,
    StaleTimestamp,
}

impl From<Doubt> for Reason {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::MissingHeader => Self::MissingHeader,
            Doubt::WrongSignature => Self::WrongSignature,
            Doubt::StaleTimestamp => Self::StaleTimestamp,
        }
    }
}

/// A request is believed; all else may be anything.
#[derive(Debug, Deserialize)]
pub(super) struct Accepted {
    pub(super) verified: Verification,
    #[serde(default)]
    dedup: Value,
    #[serde(default)]
    providerdelivery: Value,
    #[serde(default)]
    providerattempt: Value,
    #[serde(default)]
    draft: Value,
    #[serde(default)]
    why: Value,
}

/// What of it fits.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) draft: Draft,
    pub(super) dedup: Option<String>,
    pub(super) delivery: Option<String>,
    pub(super) attempt: Option<u32>,
}

/// What happened.
#[derive(Debug, Deserialize)]
pub(super) struct Draft {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) subject: Option<String>,
    /// Absent where it cannot be read: a date never fails an event.
    #[serde(default, deserialize_with = "readable")]
    pub(super) time: Option<Timestamp>,
    #[serde(default)]
    pub(super) data: Data,
}

/// The answer to a handshake.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

/// Reads a verdict.
pub(super) fn read(json: &[u8]) -> Result<Verdict, String> {
    serde_json::from_slice(json).map_err(|error| format!("it is none that the ABI knows: {error}"))
}

impl Answer {
    pub(super) fn check(self) -> Result<Handshake, String> {
        let status = StatusCode::from_u16(self.status).ok();
        let status = status.filter(StatusCode::is_success);
        let status = status.ok_or_else(|| {
            format!(
                "its handshake has the status {}, not one from 200 to 299",
                self.status
            )
        })?;
        let content_type = HeaderValue::from_str(&self.content_type)
            .map_err(|_| "the content type of its handshake is none".to_owned())?;
        if self.body.len() > LONGEST_ANSWER {
            let length = self.body.len();
            return Err(format!(
                "its handshake has {length} bytes, of {LONGEST_ANSWER} at most"
            ));
        }
        Ok(Handshake {
            status,
            content_type,
            body: Bytes::from(self.body),
        })
    }
}

impl Accepted {
    /// All of it, if all of it fits: an event is not made of half of what was meant.
    pub(super) fn fit(self) -> Result<Fitted, String> {
        if self.draft.is_null() {
            return Err(self
                .why
                .as_str()
                .unwrap_or("the plugin gives no event")
                .to_owned());
        }
        let mut draft = Draft::deserialize(self.draft).map_err(|error| error.to_string())?;
        if !is_type(&draft.kind) {
            return Err(format!(
                "`type` is {:?}, not words of a-z, 0-9, `-` and `_` with dots between",
                clip(&draft.kind)
            ));
        }
        let dedup = text("dedup", self.dedup)?;
        let delivery = text("providerdelivery", self.providerdelivery)?;
        let attempt = Option::<u32>::deserialize(self.providerattempt)
            .map_err(|error| format!("`providerattempt`: {error}"))?;
        draft.subject = text("subject", draft.subject.into())?;
        draft.data.payload = None;
        draft.data.artifacts.truncate(draft::MAX_ARTIFACTS);
        draft.data.images.truncate(draft::MAX_ARTIFACTS);
        let length = serde_json::to_vec(&draft.data).map_or(usize::MAX, |json| json.len());
        if length > LONGEST_DATA {
            return Err(format!("`data` has {length} bytes, of {LONGEST_DATA} at most"));
        }
        Ok(Fitted {
            draft,
            dedup,
            delivery,
            attempt,
        })
    }
}

/// What of a plugin's text is shown.
pub(super) fn clip(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(SHOWN)
        .collect()
}

/// A text of bearable length, where there is one.
fn text(name: &str, value: Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text)
            if (1..=LONGEST_TEXT).contains(&text.len()) && !text.contains(char::is_control) =>
        {
            Ok(Some(text))
        }
        Value::String(text) => Err(format!(
            "`{name}` has {} bytes, of 1 to {LONGEST_TEXT}, or control characters",
            text.len()
        )),
        _ => Err(format!("`{name}` is no text")),
    }
}

fn is_type(kind: &str) -> bool {
    let is_word = |word: &str| {
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        !word.is_empty() && word.bytes().all(fits)
    };
    kind.len() <= LONGEST_TEXT && kind.contains('.') && kind.split('.').all(is_word)
}

fn readable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(|text| text.parse().ok()))
}

/// Bytes of a type, a subject or a key.
const LONGEST_TEXT: usize = 512;
/// Bytes of the common data in JSON: with the largest body, an event must still be one that plugins can be given.
const LONGEST_DATA: usize = 64 << 10;
/// Bytes of the answer to a handshake.
const LONGEST_ANSWER: usize = 64 << 10;
/// Characters of a plugin's text in a log line.
const SHOWN: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fit(event: &Value) -> Result<Fitted, String> {
        match read(json!({ "event": event }).to_string().as_bytes()).unwrap() {
            Verdict::Event(accepted) => accepted.fit(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_verdict_is_not_read() {
        for nonsense in [
            "",
            "null",
            "{}",
            "true",
            "\"event\"",
            r#"{"accepted":{}}"#,
            r#"{"event":{}}"#,
            r#"{"event":{"verified":"yes"}}"#,
            r#"{"refused":{"reason":"because"}}"#,
            r#"{"handshake":{"status":200}}"#,
            r#"{"refused":{"reason":"wrong-signature"},"event":{"verified":"signature"}}"#,
        ] {
            assert!(read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn an_event_is_made_of_what_fits_and_of_nothing_else() {
        let fitted = fit(&json!({
            "verified": "signature", "dedup": "7/paid", "providerattempt": 2,
            "draft": {
                "type": "com.acme.order.paid", "time": "yesterday", "id": "evt_forged", "verified": "none",
                "data": { "title": "Order 7", "payload": { "forged": true } },
            },
        }))
        .unwrap();
        assert_eq!(
            (fitted.draft.kind.as_str(), fitted.draft.time),
            ("com.acme.order.paid", None)
        );
        assert_eq!(
            (fitted.dedup.as_deref(), fitted.attempt),
            (Some("7/paid"), Some(2))
        );
        assert_eq!(
            serde_json::to_value(&fitted.draft.data).unwrap(),
            json!({ "title": "Order 7" })
        );
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let draft = |draft: Value| json!({ "verified": "signature", "draft": draft });
        let long = "a".repeat(LONGEST_TEXT + 1);
        let wrong = [
            json!({ "verified": "signature" }),
            json!({ "verified": "signature", "why": "no order in it" }),
            draft(json!(7)),
            draft(json!({})),
            draft(json!({ "type": "Paid" })),
            draft(json!({ "type": "com..paid" })),
            draft(json!({ "type": "com.acme", "subject": "two\nlines" })),
            draft(json!({ "type": "com.acme", "data": { "title": "a".repeat(LONGEST_DATA) } })),
            json!({ "verified": "signature", "dedup": 7, "draft": { "type": "com.acme" } }),
            json!({ "verified": "signature", "dedup": long, "draft": { "type": "com.acme" } }),
            json!({ "verified": "signature", "providerattempt": -1, "draft": { "type": "com.acme" } }),
        ];
        insta::assert_snapshot!(wrong.map(|event| fit(&event).unwrap_err()).join("\n"), @r#"
        the plugin gives no event
        no order in it
        invalid type: integer `7`, expected struct Draft
        missing field `type`
        `type` is "Paid", not words of a-z, 0-9, `-` and `_` with dots between
        `type` is "com..paid", not words of a-z, 0-9, `-` and `_` with dots between
        `subject` has 9 bytes, of 1 to 512, or control characters
        `data` has 65548 bytes, of 65536 at most
        `dedup` is no text
        `dedup` has 513 bytes, of 1 to 512, or control characters
        `providerattempt`: invalid value: integer `-1`, expected u32
        "#);
    }

    #[test]
    fn a_handshake_is_a_success_that_http_can_carry() {
        let answer = |status, content_type: &str, length| Answer {
            status,
            content_type: content_type.to_owned(),
            body: "a".repeat(length),
        };
        let handshake = answer(201, "text/plain", 3).check().unwrap();
        assert_eq!(
            (handshake.status.as_u16(), &handshake.body[..]),
            (201, &b"aaa"[..])
        );
        for wrong in [
            answer(302, "text/plain", 3),
            answer(99, "text/plain", 3),
            answer(200, "text\r\nset-cookie: a", 3),
            answer(200, "text/plain", LONGEST_ANSWER + 1),
        ] {
            assert!(wrong.check().is_err());
        }
    }
}
