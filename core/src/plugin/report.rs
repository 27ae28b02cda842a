//! What a call's end, as a plugin tells it, means to the router.

use std::time::Duration;

use bytes::Bytes;
use jackfield_abi as abi;

use super::{Report, limits};
use crate::{delivery::Outcome, reason::Reason};

/// How a call ended, in the plugin's numbers and words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: u32,
    pub(super) code: u32,
    pub(super) retry_after_ms: u64,
    pub(super) output: Output,
    pub(super) message: String,
}

/// What a plugin put out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// All of it.
    Whole(Bytes),
    /// More than there may be, which is not even copied.
    TooLong(usize),
}

impl Output {
    /// Copies what a plugin lends, where it may be so long.
    pub(super) fn copied(lent: &[u8]) -> Self {
        match lent.len() {
            0..=OUTPUT_LIMIT => Self::Whole(Bytes::copy_from_slice(lent)),
            bytes => Self::TooLong(bytes),
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

/// Why the router asked a call to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Its deadline has passed.
    Deadline,
    /// Whoever made it does not want it any more.
    Cancelled,
}

impl Stopped {
    fn reason(self) -> Reason {
        match self {
            Self::Deadline => Reason::TimedOut,
            Self::Cancelled => Reason::Interrupted,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Deadline => "did not end within the instance's time-out",
            Self::Cancelled => "was asked to stop",
        }
    }
}

/// The report of a call that ended by itself, or when it was asked to: what it did counts, not that it was asked.
pub(super) fn of(ended: Ended, stopped: Option<Stopped>) -> Report {
    let outcome = match ended.outcome {
        abi::DONE => Outcome::Done,
        abi::SKIPPED => Outcome::Skipped,
        abi::RETRY => Outcome::Retry,
        abi::FATAL => Outcome::Fatal,
        abi::AMBIGUOUS => Outcome::Ambiguous,
        unknown => {
            let message = format!(
                "the plugin reported the outcome {unknown}, which there is not: {}",
                ended.message
            );
            return fault(message);
        }
    };
    let output = match ended.output {
        Output::Whole(output) => unusable(&output).map_or(Ok(output), Err),
        Output::TooLong(bytes) => Err(too_long(bytes)),
    };
    let output = match output {
        Ok(output) => output,
        Err(message) => {
            let outcome = outcome.word();
            return fault(format!(
                "the plugin reported that the step is {outcome}, but {message}"
            ));
        }
    };
    let message = match (ended.message.is_empty(), stopped) {
        (false, _) => Some(ended.message),
        (true, Some(stopped)) if outcome == Outcome::Retry => Some(format!("the call {}", stopped.words())),
        (true, _) => None,
    };
    Report {
        outcome,
        reason: reason(outcome, ended.code, stopped),
        code: ended.code,
        output: (!output.is_empty()).then_some(output),
        message,
        retry_after: (outcome == Outcome::Retry && ended.retry_after_ms > 0)
            .then(|| Duration::from_millis(ended.retry_after_ms)),
    }
}

/// The report of a call that did not end within the grace either, and goes on by itself.
pub(super) fn stuck(stopped: Stopped, grace: Duration) -> Report {
    let message = format!(
        "the call {}, and not within {grace:?} after that either",
        stopped.words()
    );
    Report {
        reason: Some(stopped.reason()),
        message: Some(message),
        ..empty(Outcome::Retry)
    }
}

/// A report as a worker process tells it: made there as it is here, or else by whatever lives there.
pub(super) fn checked(report: Report) -> Report {
    match report.output.as_ref().and_then(unusable) {
        Some(message) => fault(format!(
            "the plugin's worker says that the step is {}, but {message}",
            report.outcome.word()
        )),
        None => Report {
            message: report.message.map(limits::shortened),
            ..report
        },
    }
}

/// The report of a call that was in a worker process when that died; `words` say of what.
pub(super) fn crashed(words: String) -> Report {
    Report {
        reason: Some(Reason::PluginCrashed),
        message: Some(words),
        ..empty(Outcome::Retry)
    }
}

/// The report of a call that was in a worker process when that was ended by the router.
pub(super) fn cut_short(words: String) -> Report {
    Report {
        reason: Some(Reason::Interrupted),
        message: Some(words),
        ..empty(Outcome::Retry)
    }
}

/// The report of a call that was not begun since the worker process keeps dying.
pub(super) fn down(why: &str) -> Report {
    Report {
        reason: Some(Reason::InstanceDown),
        message: Some(format!("the call was not begun: {why}")),
        ..empty(Outcome::Retry)
    }
}

/// The report of a call that could not be begun, for `why`.
pub(super) fn not_begun(stopped: Stopped, why: &str) -> Report {
    Report {
        reason: Some(stopped.reason()),
        message: Some(format!("the call was not begun: {why}")),
        ..empty(Outcome::Retry)
    }
}

/// The report of a request that was given to a plugin of another kind.
pub(super) fn no_provider() -> Report {
    fault("the plugin is no provider: its library has no `jackfield.provider/1`".to_owned())
}

/// The report of a plugin that does not keep to the ABI: nobody knows what it did, so a person has to look.
pub(super) fn fault(message: String) -> Report {
    Report {
        reason: Some(Reason::PluginFatal),
        message: Some(message),
        ..empty(Outcome::Fatal)
    }
}

fn empty(outcome: Outcome) -> Report {
    Report {
        outcome,
        reason: None,
        code: abi::CODE_NONE,
        output: None,
        message: None,
        retry_after: None,
    }
}

fn reason(outcome: Outcome, code: u32, stopped: Option<Stopped>) -> Option<Reason> {
    let plain = match outcome {
        Outcome::Done => return None,
        Outcome::Skipped => return Some(Reason::PluginSkipped),
        Outcome::Retry => Reason::PluginRetry,
        Outcome::Fatal => Reason::PluginFatal,
        Outcome::Ambiguous => Reason::PluginAmbiguous,
    };
    Some(match code {
        abi::CODE_PANIC => Reason::PluginPanicked,
        abi::CODE_INVALID if outcome == Outcome::Fatal => Reason::InputInvalid,
        abi::CODE_CANCELLED if outcome == Outcome::Retry => stopped.map_or(plain, Stopped::reason),
        abi::CODE_SHUTDOWN if outcome == Outcome::Retry => Reason::Interrupted,
        _ => plain,
    })
}

/// What is wrong with an output: steps after it must be able to read it, and the journal to keep it.
fn unusable(output: &Bytes) -> Option<String> {
    if output.is_empty() {
        return None;
    }
    if output.len() > OUTPUT_LIMIT {
        return Some(too_long(output.len()));
    }
    let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(output);
    parsed
        .err()
        .map(|error| format!("its output is not JSON: {error}"))
}

fn too_long(bytes: usize) -> String {
    format!("its output has {bytes} bytes, of {OUTPUT_LIMIT} at most")
}

/// The longest output of a step: larger things belong in the work directory.
const OUTPUT_LIMIT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: u32, code: u32) -> Ended {
        Ended {
            outcome,
            code,
            message: "words".to_owned(),
            ..Ended::default()
        }
    }

    #[track_caller]
    fn check(ended: Ended, stopped: Option<Stopped>, outcome: Outcome, reason: Option<Reason>) -> Report {
        let report = of(ended, stopped);
        assert_eq!((report.outcome, report.reason), (outcome, reason));
        report
    }

    #[test]
    fn what_a_worker_says_is_no_longer_than_what_a_plugin_here_can_say() {
        let said = Report {
            message: Some("x".repeat(10 << 20)),
            ..empty(Outcome::Fatal)
        };
        let kept = checked(said).message.unwrap();
        assert!(
            kept.len() < limits::TEXT + 100 && kept.ends_with("… (10485760 bytes)"),
            "{}",
            kept.len()
        );
    }

    #[test]
    fn outcomes_and_codes_become_reasons() {
        use abi::*;
        for (outcome, code, expected, reason) in [
            (DONE, CODE_NONE, Outcome::Done, None),
            (SKIPPED, CODE_NONE, Outcome::Skipped, Some(Reason::PluginSkipped)),
            (RETRY, CODE_NONE, Outcome::Retry, Some(Reason::PluginRetry)),
            (RETRY, CODE_PANIC, Outcome::Retry, Some(Reason::PluginPanicked)),
            (RETRY, CODE_SHUTDOWN, Outcome::Retry, Some(Reason::Interrupted)),
            (RETRY, 4711, Outcome::Retry, Some(Reason::PluginRetry)),
            (FATAL, CODE_NONE, Outcome::Fatal, Some(Reason::PluginFatal)),
            (FATAL, CODE_INVALID, Outcome::Fatal, Some(Reason::InputInvalid)),
            (FATAL, CODE_PANIC, Outcome::Fatal, Some(Reason::PluginPanicked)),
            (
                AMBIGUOUS,
                CODE_CANCELLED,
                Outcome::Ambiguous,
                Some(Reason::PluginAmbiguous),
            ),
        ] {
            check(ended(outcome, code), None, expected, reason);
        }
    }

    #[test]
    fn a_call_that_was_stopped_says_why_unless_it_had_ended_otherwise() {
        for (stopped, reason) in [
            (Stopped::Deadline, Reason::TimedOut),
            (Stopped::Cancelled, Reason::Interrupted),
        ] {
            let cancelled = ended(abi::RETRY, abi::CODE_CANCELLED);
            check(cancelled, Some(stopped), Outcome::Retry, Some(reason));
            check(
                ended(abi::DONE, abi::CODE_NONE),
                Some(stopped),
                Outcome::Done,
                None,
            );
        }
        let silent = Ended {
            message: String::new(),
            ..ended(abi::RETRY, abi::CODE_CANCELLED)
        };
        let report = check(
            silent,
            Some(Stopped::Deadline),
            Outcome::Retry,
            Some(Reason::TimedOut),
        );
        insta::assert_snapshot!(report.message.unwrap(), @"the call did not end within the instance's time-out");
    }

    #[test]
    fn an_unknown_outcome_is_fatal_and_named() {
        for outcome in [0, 6, u32::MAX] {
            let report = check(ended(outcome, 0), None, Outcome::Fatal, Some(Reason::PluginFatal));
            let message = report.message.unwrap();
            assert!(
                message.contains(&format!("outcome {outcome},")) && message.ends_with("words"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_output_that_nobody_could_read_is_fatal() {
        let output = |bytes: &[u8]| Ended {
            output: Output::copied(bytes),
            ..ended(abi::DONE, 0)
        };
        let report = check(
            output(b"{\"sha\": "),
            None,
            Outcome::Fatal,
            Some(Reason::PluginFatal),
        );
        insta::assert_snapshot!(report.message.unwrap(), @"the plugin reported that the step is done, but its output is not JSON: EOF while parsing a value at line 1 column 8");
        let long = [b"\"", vec![b'a'; OUTPUT_LIMIT].as_slice(), b"\""].concat();
        let report = check(output(&long), None, Outcome::Fatal, Some(Reason::PluginFatal));
        insta::assert_snapshot!(report.message.unwrap(), @"the plugin reported that the step is done, but its output has 1048578 bytes, of 1048576 at most");
        let report = check(output(b"{}"), None, Outcome::Done, None);
        assert_eq!(report.output.as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn only_a_retry_may_ask_for_a_rest() {
        let asking = |outcome| Ended {
            retry_after_ms: 1500,
            ..ended(outcome, 0)
        };
        assert_eq!(
            of(asking(abi::RETRY), None).retry_after,
            Some(Duration::from_millis(1500))
        );
        assert_eq!(of(asking(abi::FATAL), None).retry_after, None);
    }
}
