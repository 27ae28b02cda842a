//! What is said between a test and the process that drives a library: one object of JSON on each line.
//!
//! The other side is `plugin::drive` in the router, which may be of another version than this: what both must agree on is
//! [`PROTOCOL`], told first. Bytes are a text where they are UTF-8, and a list of numbers where they are not.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    call::{Code, Ended, Report},
    ffi,
};

/// What both sides must agree on.
pub(super) const PROTOCOL: u32 = 1;

/// To the process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order<'o> {
    Start { config: &'o Value },
    Call(Call<'o>),
    Receive(Receive<'o>),
    Cancel { call: u64 },
    Abandon { call: u64 },
    Answer { question: u64, answer: Answer<'o> },
    End { grace_us: u64 },
}

/// From the process.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notice {
    Ready {
        protocol: u32,
        manifest: Value,
    },
    Failed {
        message: String,
    },
    Started,
    Refused {
        code: String,
        message: String,
    },
    Ended(EndedCall),
    Ask {
        question: u64,
        asked: Asked,
    },
    Metric {
        name: String,
        labels: Vec<(String, String)>,
        value: f64,
    },
    Log {
        level: u32,
        target: String,
        message: String,
        fields: String,
        in_call: bool,
    },
    Over {
        whole: bool,
    },
}

/// A call to be made.
#[derive(Debug, Serialize)]
pub(super) struct Call<'o> {
    pub(super) id: u64,
    pub(super) event: Blob<'o>,
    pub(super) input: Blob<'o>,
    pub(super) delivery: &'o str,
    pub(super) route: &'o str,
    pub(super) step: &'o str,
    pub(super) attempt: u32,
    pub(super) key: &'o str,
    pub(super) workdir: Blob<'o>,
    pub(super) left_us: u64,
}

/// A request to be handed over.
#[derive(Debug, Serialize)]
pub(super) struct Receive<'o> {
    pub(super) id: u64,
    pub(super) head: Blob<'o>,
    pub(super) body: Blob<'o>,
    pub(super) left_us: u64,
}

/// How a call ended.
#[derive(Debug, Deserialize)]
pub(super) struct EndedCall {
    pub(super) call: u64,
    outcome: String,
    code: String,
    output: Option<Value>,
    message: String,
    retry_after_us: Option<u64>,
}

impl EndedCall {
    pub(super) fn report(self) -> Report {
        Report {
            ended: match self.outcome.as_str() {
                "done" => Ended::Done,
                "skipped" => Ended::Skipped,
                "retry" => Ended::Retry,
                "ambiguous" => Ended::Ambiguous,
                _ => Ended::Fatal,
            },
            code: code(&self.code),
            retry_after: self.retry_after_us.map(Duration::from_micros),
            output: self
                .output
                .map(|output| output.to_string().into_bytes())
                .unwrap_or_default(),
            message: self.message,
        }
    }
}

/// A code of the ABI, by its word.
pub(super) fn code(word: &str) -> Code {
    match word {
        "invalid" => Code::Invalid,
        "cancelled" => Code::Cancelled,
        "panic" => Code::Panic,
        "unsupported" => Code::Unsupported,
        "shutdown" => Code::Shutdown,
        _ => Code::None,
    }
}

/// What a plugin asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    KvGet {
        key: String,
    },
    KvPut {
        key: String,
        value: Blob<'static>,
        life_us: u64,
    },
    KvDelete {
        key: String,
    },
    Receipt {
        key: String,
    },
    Intend {
        key: String,
        body: Blob<'static>,
    },
    Record {
        key: String,
        body: Blob<'static>,
    },
    Secret {
        name: String,
    },
    Emit {
        key: String,
        name: String,
        event: Blob<'static>,
    },
}

/// What it is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer<'o> {
    Found { value: Blob<'o>, stage: Option<Stage> },
    NotFound,
    Refused(&'o str),
    Unavailable(&'o str),
}

/// How far a step had got that has a receipt.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Intent,
    Done,
}

impl From<ffi::Stage> for Stage {
    fn from(stage: ffi::Stage) -> Self {
        match stage {
            ffi::Stage::Intent => Self::Intent,
            ffi::Stage::Done => Self::Done,
        }
    }
}

/// Any bytes.
pub(super) struct Blob<'b>(pub(super) Cow<'b, [u8]>);

impl<'b> From<&'b [u8]> for Blob<'b> {
    fn from(bytes: &'b [u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a secret.
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for Blob<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a list of bytes")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Blob(text.as_bytes().to_vec().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(Blob(bytes.into()))
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
            let line = serde_json::to_string(&Blob::from(bytes)).unwrap();
            assert!(!line.contains('\n'), "{line}");
            let blob: Blob<'static> = serde_json::from_str(&line).unwrap();
            assert_eq!(&*blob.0, bytes, "{line}");
        }
        assert!(serde_json::from_str::<Blob<'static>>("[256]").is_err());
    }
}
