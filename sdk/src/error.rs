//! Why a call, or the making of an instance, failed.

use std::{fmt, time::Duration};

use crate::call::{Code, Ended, Report};

/// The result of most things here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call, or the making of an instance, failed.
///
/// It is opaque: made by one of the constructors, which say what the router should do, or by `?` from any `std` error,
/// which means [`retry`](Self::retry) and keeps the text of the whole chain. (For that reason it is not a
/// [`std::error::Error`] itself.) The text goes into the journal and before people's eyes: it must not hold a secret.
///
/// ```
/// use std::time::Duration;
/// use jackfield_sdk::{Error, Result};
///
/// fn answered(status: u16, seconds: Option<u64>) -> Result<()> {
///     match status {
///         200..300 => Ok(()),
///         429 => Err(Error::retry("the service asks for a pause").after(Duration::from_secs(seconds.unwrap_or(30)))),
///         500..600 => Err(Error::retry(format!("the service answered {status}"))),
///         _ => Err(Error::fatal(format!("the service answered {status}"))),
///     }
/// }
///
/// assert_eq!(answered(404, None).unwrap_err().to_string(), "the service answered 404");
/// ```
pub struct Error {
    kind: Kind,
    message: String,
    after: Option<Duration>,
}

/// What the router is to make of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Retry,
    Fatal,
    Invalid,
    Unsupported,
    Ambiguous,
    Cancelled,
    Panic,
}

impl Error {
    /// It did not happen; a later attempt may succeed.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self::new(Kind::Retry, message)
    }

    /// It did not happen, and no attempt will change that.
    pub fn fatal(message: impl fmt::Display) -> Self {
        Self::new(Kind::Fatal, message)
    }

    /// The configuration, the input or the event is wrong; no attempt will change that.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// This plugin cannot do that, or the router lacks what it needs; no attempt will change that.
    pub fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// It may have happened, and nothing can tell. The router does not try again on its own.
    pub fn ambiguous(message: impl fmt::Display) -> Self {
        Self::new(Kind::Ambiguous, message)
    }

    /// The call was asked to end, and did. Made by the SDK, or by a plugin that watches [`Cx::cancelled`](crate::Cx::cancelled).
    pub fn cancelled(message: impl fmt::Display) -> Self {
        Self::new(Kind::Cancelled, message)
    }

    pub(crate) fn panicked(message: impl fmt::Display) -> Self {
        Self::new(Kind::Panic, format_args!("the plugin panicked: {message}"))
    }

    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            after: None,
        }
    }

    /// The same error, but the next attempt is not to come before `pause` has passed, in whole milliseconds. For errors that are retried.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.after = Some(pause);
        self
    }

    /// The same error, but no attempt will change it: for a `std` error that is known to be permanent.
    ///
    /// ```
    /// # use jackfield_sdk::Error;
    /// let port = "eighty".parse::<u16>().map_err(|error| Error::from(error).permanent().context("the port"));
    /// assert_eq!(port.unwrap_err().to_string(), "the port: invalid digit found in string");
    /// ```
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.kind = Kind::Fatal;
        self
    }

    /// The same error, with `what` was being done in front.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Whether the router is to try again on its own.
    pub fn is_retry(&self) -> bool {
        self.ended() == Ended::Retry
    }

    /// Whether it may have happened.
    pub fn is_ambiguous(&self) -> bool {
        self.kind == Kind::Ambiguous
    }

    fn ended(&self) -> Ended {
        match self.kind {
            Kind::Retry | Kind::Cancelled | Kind::Panic => Ended::Retry,
            Kind::Fatal | Kind::Invalid | Kind::Unsupported => Ended::Fatal,
            Kind::Ambiguous => Ended::Ambiguous,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self.kind {
            Kind::Retry | Kind::Fatal | Kind::Ambiguous => Code::None,
            Kind::Invalid => Code::Invalid,
            Kind::Unsupported => Code::Unsupported,
            Kind::Cancelled => Code::Cancelled,
            Kind::Panic => Code::Panic,
        }
    }

    pub(crate) fn into_report(self) -> Report {
        Report {
            ended: self.ended(),
            code: self.code(),
            retry_after: self.after,
            output: Vec::new(),
            message: self.message,
        }
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::retry(chain(&error))
    }
}

/// The error and its sources in one line, each told once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        match self.after {
            Some(after) => write!(f, " (after {after:?})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[track_caller]
    fn check(layers: &[&'static str], expected: &str) {
        let error = layers
            .iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Layer(text, source))));
        assert_eq!(Error::from(*error.unwrap()).to_string(), expected);
    }

    #[test]
    fn a_std_error_becomes_a_retry_with_its_whole_chain_in_one_line() {
        check(&["a"], "a");
        check(
            &["sending", "connecting", "refused"],
            "sending: connecting: refused",
        );
        check(
            &["sending: connecting", "connecting", "refused"],
            "sending: connecting: refused",
        );
        assert!(Error::from(Layer("a", None)).is_retry());
        assert!(!Error::from(Layer("a", None)).permanent().is_retry());
    }

    #[test]
    fn each_kind_has_its_outcome_and_its_code() {
        let table = [
            (Error::retry("m"), Ended::Retry, Code::None),
            (Error::fatal("m"), Ended::Fatal, Code::None),
            (Error::invalid("m"), Ended::Fatal, Code::Invalid),
            (Error::unsupported("m"), Ended::Fatal, Code::Unsupported),
            (Error::ambiguous("m"), Ended::Ambiguous, Code::None),
            (Error::cancelled("m"), Ended::Retry, Code::Cancelled),
            (Error::panicked("m"), Ended::Retry, Code::Panic),
        ];
        for (error, ended, code) in table {
            let kind = format!("{error:?}");
            let report = error.into_report();
            assert_eq!((report.ended, report.code), (ended, code), "{kind}");
        }
    }
}
