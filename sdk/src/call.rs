//! How a call ends, in words that both the plugin's side and the tests' host share.

use std::time::Duration;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It happened.
    Done,
    /// There was nothing to do.
    Skipped,
    /// It did not happen; a later attempt may succeed.
    Retry,
    /// It did not happen and will not.
    Fatal,
    /// It may have happened, and nothing can tell.
    Ambiguous,
}

/// What kind of failure it was, beside how the call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Nothing particular.
    None,
    /// The configuration, the input or the event is wrong.
    Invalid,
    /// Stopped because the host asked for it.
    Cancelled,
    /// The plugin panicked.
    Panic,
    /// This plugin cannot do that, or the host lacks what it needs.
    Unsupported,
    /// The instance is being shut down.
    Shutdown,
}

/// All that a call leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) ended: Ended,
    pub(crate) code: Code,
    pub(crate) retry_after: Option<Duration>,
    /// One JSON value, or empty.
    pub(crate) output: Vec<u8>,
    pub(crate) message: String,
}

impl Report {
    pub(crate) fn done(output: Vec<u8>) -> Self {
        Self {
            ended: Ended::Done,
            code: Code::None,
            retry_after: None,
            output,
            message: String::new(),
        }
    }

    pub(crate) fn skipped(reason: String) -> Self {
        Self {
            ended: Ended::Skipped,
            message: reason,
            ..Self::done(Vec::new())
        }
    }

    /// Ended because the host, or the end of the instance, asked for it.
    pub(crate) fn stopped(code: Code, message: &str) -> Self {
        Self {
            ended: Ended::Retry,
            code,
            message: message.to_owned(),
            ..Self::done(Vec::new())
        }
    }
}
