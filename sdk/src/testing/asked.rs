//! What was asked of the host, in order.

use std::{fmt, time::Duration};

use serde_json::Value;

use super::host::{Emitted, Metric};
use crate::ffi::{Stage, double::Request};

/// A kind of request that a plugin makes of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostCall {
    /// [`Kv::get`](crate::Kv::get)
    KvGet,
    /// [`Kv::put`](crate::Kv::put)
    KvPut,
    /// [`Kv::delete`](crate::Kv::delete)
    KvDelete,
    /// [`Cx::receipt`](crate::Cx::receipt)
    Receipt,
    /// [`Cx::intend`](crate::Cx::intend)
    Intend,
    /// [`Cx::record`](crate::Cx::record)
    Record,
    /// [`Cx::secret`](crate::Cx::secret)
    Secret,
    /// [`Cx::emit`](crate::Cx::emit)
    Emit,
}

impl HostCall {
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::KvGet(_) => Self::KvGet,
            Request::KvPut(..) => Self::KvPut,
            Request::KvDelete(_) => Self::KvDelete,
            Request::ReceiptGet(_) => Self::Receipt,
            Request::ReceiptPut(_, Some(Stage::Intent), _) => Self::Intend,
            Request::ReceiptPut(..) => Self::Record,
            Request::Secret(_) => Self::Secret,
            Request::Emit(..) => Self::Emit,
        }
    }
}

/// One thing that a plugin asked of its host, of those that [`TestHost::asked`](super::TestHost::asked) lists. As a text it is one
/// line, for lists that a test compares.
///
/// ```
/// use std::time::Duration;
/// use jackfield_sdk::testing::{Asked, HostCall};
///
/// let put = Asked::KvPut { key: "cursor".into(), value: b"17".into(), life: Some(Duration::from_secs(60)) };
/// assert_eq!(put.to_string(), "kv put cursor = 17 for 60s");
/// assert_eq!(put.kind(), Some(HostCall::KvPut));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Asked {
    /// [`Kv::get`](crate::Kv::get) of this key.
    KvGet(String),
    /// [`Kv::put`](crate::Kv::put)
    KvPut {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// How long it is to live, if not for ever.
        life: Option<Duration>,
    },
    /// [`Kv::delete`](crate::Kv::delete) of this key.
    KvDelete(String),
    /// [`Cx::receipt`](crate::Cx::receipt)
    Receipt,
    /// [`Cx::intend`](crate::Cx::intend) with this.
    Intend(Value),
    /// [`Cx::record`](crate::Cx::record) of this.
    Record(Value),
    /// [`Cx::secret`](crate::Cx::secret) of this name.
    Secret(String),
    /// [`Cx::emit`](crate::Cx::emit)
    Emit(Emitted),
    /// [`Cx::metric`](crate::Cx::metric)
    Metric(Metric),
}

impl Asked {
    /// Which kind of request it is; none for a metric, which nobody waits for.
    pub fn kind(&self) -> Option<HostCall> {
        match self {
            Self::KvGet(_) => Some(HostCall::KvGet),
            Self::KvPut { .. } => Some(HostCall::KvPut),
            Self::KvDelete(_) => Some(HostCall::KvDelete),
            Self::Receipt => Some(HostCall::Receipt),
            Self::Intend(_) => Some(HostCall::Intend),
            Self::Record(_) => Some(HostCall::Record),
            Self::Secret(_) => Some(HostCall::Secret),
            Self::Emit(_) => Some(HostCall::Emit),
            Self::Metric(_) => None,
        }
    }

    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::KvGet(key) => Self::KvGet(key.clone()),
            Request::KvPut(key, value, life) => Self::KvPut {
                key: key.clone(),
                value: value.clone(),
                life: (!life.is_zero()).then_some(*life),
            },
            Request::KvDelete(key) => Self::KvDelete(key.clone()),
            Request::ReceiptGet(_) => Self::Receipt,
            Request::ReceiptPut(_, Some(Stage::Intent), body) => Self::Intend(json(body)),
            Request::ReceiptPut(_, _, body) => Self::Record(json(body)),
            Request::Secret(name) => Self::Secret(name.clone()),
            Request::Emit(_, name, event) => Self::Emit(Emitted {
                name: name.clone(),
                event: json(event),
            }),
        }
    }
}

/// The SDK sends nothing else; what a plugin made by other means sends is shown as text.
fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into())
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KvGet(key) => write!(f, "kv get {key}"),
            Self::KvPut { key, value, life } => {
                write!(f, "kv put {key} = {}", value.escape_ascii())?;
                match life {
                    Some(life) => write!(f, " for {life:?}"),
                    None => Ok(()),
                }
            }
            Self::KvDelete(key) => write!(f, "kv delete {key}"),
            Self::Receipt => f.write_str("receipt"),
            Self::Intend(body) => write!(f, "intend {body}"),
            Self::Record(body) => write!(f, "record {body}"),
            Self::Secret(name) => write!(f, "secret {name}"),
            Self::Emit(emitted) => write!(f, "emit {} {}", emitted.name, emitted.event),
            Self::Metric(Metric { name, labels, value }) => {
                let labels: Vec<_> = labels
                    .iter()
                    .map(|(label, value)| format!("{label}={value:?}"))
                    .collect();
                match labels.join(",").as_str() {
                    "" => write!(f, "metric {name} + {value}"),
                    labels => write!(f, "metric {name}{{{labels}}} + {value}"),
                }
            }
        }
    }
}
