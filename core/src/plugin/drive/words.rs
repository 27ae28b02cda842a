//! What is said between a test and this process: one object of JSON on each line.
//!
//! The other side is `testing` in the SDK, which a plugin may have taken from another version than this: what both must agree
//! on is [`PROTOCOL`], told first. Bytes are a text where they are UTF-8, and a list of numbers where they are not.

use std::{fmt, time::Duration};

use bytes::Bytes;
use jackfield_abi as abi;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;

/// What both sides must agree on.
pub(super) const PROTOCOL: u32 = 1;

/// From the test.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Make the instance: the first order, once.
    Start { config: Value },
    /// Make a call.
    Call(Call),
    /// Have a request verified and translated, which ends as a call does.
    Receive(Receive),
    /// Ask a call to end.
    Cancel { call: u64 },
    /// Nobody waits for a call any more.
    Abandon { call: u64 },
    /// The answer to a question.
    Answer { question: u64, answer: Answer },
    /// End the instance.
    End { grace_us: u64 },
}

/// To the test.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notice<'n> {
    /// The library can be driven. The first, or else `Failed`.
    Ready { protocol: u32, manifest: Value },
    /// It cannot be, for a reason that is not the plugin's word.
    Failed { message: String },
    /// The instance is there.
    Started,
    /// The plugin refuses to make one.
    Refused { code: &'static str, message: String },
    /// A call has ended.
    Ended(Ended),
    /// The plugin asks for something.
    Ask { question: u64, asked: Asked },
    /// It counts.
    Metric {
        name: &'n str,
        labels: &'n [(String, String)],
        value: f64,
    },
    /// It logs.
    Log {
        level: u32,
        target: &'n str,
        message: &'n str,
        fields: &'n str,
        in_call: bool,
    },
    /// The instance has ended: all of it, or all but what is stuck.
    Over { whole: bool },
}

/// A call to be made.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) event: Blob,
    pub(super) input: Blob,
    pub(super) delivery: String,
    pub(super) route: String,
    pub(super) step: String,
    pub(super) attempt: u32,
    pub(super) key: String,
    pub(super) workdir: Blob,
    pub(super) left_us: u64,
}

/// A request to be handed over.
#[derive(Debug, Deserialize)]
pub(super) struct Receive {
    pub(super) id: u64,
    pub(super) head: Blob,
    pub(super) body: Blob,
    pub(super) left_us: u64,
}

/// How a call ended.
#[derive(Debug, Serialize)]
pub(super) struct Ended {
    pub(super) call: u64,
    pub(super) outcome: &'static str,
    pub(super) code: &'static str,
    pub(super) output: Option<Value>,
    pub(super) message: String,
    pub(super) retry_after_us: Option<u64>,
}

/// What a plugin asks for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    KvGet { key: String },
    KvPut { key: String, value: Blob, life_us: u64 },
    KvDelete { key: String },
    Receipt { key: String },
    Intend { key: String, body: Blob },
    Record { key: String, body: Blob },
    Secret { name: String },
    Emit { key: String, name: String, event: Blob },
}

/// What it is answered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Found { value: Blob, stage: Option<Stage> },
    NotFound,
    Refused(String),
    Unavailable(String),
}

/// How far a step had got that has a receipt.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Intent,
    Done,
}

/// Any bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a secret.
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a list of bytes")
    }

    fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(Blob(bytes.into()))
    }
}

/// A code of the ABI as both sides write it.
pub(super) fn code_word(code: u32) -> &'static str {
    match code {
        abi::CODE_INVALID => "invalid",
        abi::CODE_CANCELLED => "cancelled",
        abi::CODE_PANIC => "panic",
        abi::CODE_UNSUPPORTED => "unsupported",
        abi::CODE_SHUTDOWN => "shutdown",
        _ => "none",
    }
}

/// A time as both sides write it.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_as_they_were() {
        for bytes in [&b""[..], b"text \"quoted\"\n", "ä".as_bytes(), b"\xff\x00\xfe"] {
            let blob = Blob(Bytes::copy_from_slice(bytes));
            let line = serde_json::to_string(&blob).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Blob>(&line).unwrap(), blob, "{line}");
        }
        assert!(serde_json::from_str::<Blob>("[256]").is_err());
    }
}
