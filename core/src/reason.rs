//! Why something did not happen: the fixed vocabulary of logs, metrics, the journal and the CLI.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $words:literal])+ $name:ident = $code:literal,)+) => {
        /// Why a request was refused, or why a delivery waits, was skipped or is dead.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[doc = $words])+ #[serde(rename = $code)] $name,)+
        }

        impl Reason {
            /// All of them, for documentation and metrics.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as it is spelled everywhere.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// What it means, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($words),+).trim_ascii()),+ }
            }
        }

        impl FromStr for Reason {
            type Err = UnknownReason;

            fn from_str(code: &str) -> Result<Self, Self::Err> {
                match code { $($code => Ok(Self::$name),)+ _ => Err(UnknownReason(code.to_owned())) }
            }
        }
    };
}

reasons! {
    // Requests that were refused.
    /// No source of that name, or a wrong token: the answer does not tell which.
    UnknownSource = "unknown-source",
    /// The path token is wrong or missing.
    WrongToken = "wrong-token",
    /// A header that the verification needs is missing or empty.
    MissingHeader = "missing-header",
    /// The signature matches none of the live secrets.
    WrongSignature = "wrong-signature",
    /// The signed timestamp is outside the tolerance.
    StaleTimestamp = "stale-timestamp",
    /// What came is not HTTP, or has more headers than are allowed.
    MalformedRequest = "malformed-request",
    /// The client and the router did not come to terms on TLS, or the client does not speak it.
    TlsFailed = "tls-failed",
    /// There is nothing at the path.
    UnknownPath = "unknown-path",
    /// The method is not one that the path answers.
    WrongMethod = "wrong-method",
    /// The body is compressed or otherwise encoded.
    UnsupportedEncoding = "unsupported-encoding",
    /// The body is longer than the source allows.
    BodyTooLarge = "body-too-large",
    /// The client did not send its request in time, or broke off.
    IncompleteRequest = "incomplete-request",
    /// The body is not JSON in UTF-8.
    NotJson = "not-json",
    /// The body nests deeper than is allowed.
    TooDeep = "too-deep",
    /// The plugin that is the source's provider is missing, parked or down, or gave no verdict that makes sense in time.
    ProviderUnavailable = "provider-unavailable",
    /// The journal could not commit.
    JournalUnavailable = "journal-unavailable",
    /// More requests are on their way, or wait for the journal, than memory is set aside for.
    Overloaded = "overloaded",

    // Events and deliveries.
    /// The provider had delivered this event before.
    Duplicate = "duplicate",
    /// The rules that were in force when it came owed nothing for it.
    OtherRules = "other-rules",
    /// `if` of the step is false.
    ConditionFalse = "condition-false",
    /// The plugin had nothing to do.
    PluginSkipped = "plugin-skipped",
    /// There is no instance of the name that the step uses.
    InstanceMissing = "instance-missing",
    /// The instance is configured, and cannot run: its plugin is missing or was refused, or its configuration does not fit.
    InstanceParked = "instance-parked",
    /// The process of the instance keeps dying, and is given a rest.
    InstanceDown = "instance-down",
    /// `order_by` could not be rendered.
    OrderKeyFailed = "order-key-failed",
    /// It gathers the events of a burst, which may not be over.
    Coalescing = "coalescing",
    /// The events of a burst were gathered in one delivery, whose steps may see the newest alone.
    Coalesced = "coalesced",
    /// A newer delivery of its route and order key took its place.
    Superseded = "superseded",
    /// What it calls takes no more calls in that time; of all, or of those with its key.
    RateLimited = "rate-limited",
    /// As many calls with its key are running as may at a time.
    KeyBusy = "key-busy",
    /// Calls of the instance failed one after the other, and it is given a rest.
    InstanceResting = "instance-resting",
    /// `deadline` could not be rendered, or is no time.
    DeadlineFailed = "deadline-failed",
    /// The deadline has passed, or would have before the next attempt.
    DeadlinePassed = "deadline-passed",
    /// `with` or `if` of a step could not be rendered.
    TemplateFailed = "template-failed",
    /// The rendered input does not fit the plugin's input schema.
    InputInvalid = "input-invalid",
    /// The plugin says that a later attempt may succeed.
    PluginRetry = "plugin-retry",
    /// The plugin says that no attempt can succeed.
    PluginFatal = "plugin-fatal",
    /// The plugin says that it may have happened, and nothing can tell.
    PluginAmbiguous = "plugin-ambiguous",
    /// The plugin panicked.
    PluginPanicked = "plugin-panicked",
    /// The worker process of the plugin's instance died with the call in it.
    PluginCrashed = "plugin-crashed",
    /// The call was in its worker process twice when that died.
    Quarantined = "quarantined",
    /// The plugin did not answer within the instance's time-out.
    TimedOut = "timed-out",
    /// The files that the step left could not be synced.
    WorkDirectoryFailed = "work-directory-failed",
    /// The router ended while the attempt ran.
    Interrupted = "interrupted",
    /// All attempts that the policy allows have been made.
    AttemptsExhausted = "attempts-exhausted",
    /// The rule text of the delivery's generation is missing or no longer compiles.
    GenerationMissing = "generation-missing",
    /// What the journal holds of it cannot be read.
    Unreadable = "unreadable",
    /// A person canceled it.
    Canceled = "canceled",
    /// It was done, or skipped, in the delivery that is replayed.
    TakenOver = "taken-over",
    /// A person says that it is done.
    Resolved = "resolved",
}

impl Reason {
    /// Whether a call that ended for this reason may have acted all the same, so that only a look tells.
    pub const fn leaves_doubt(self) -> bool {
        matches!(
            self,
            Self::PluginAmbiguous
                | Self::PluginPanicked
                | Self::PluginCrashed
                | Self::Quarantined
                | Self::TimedOut
                | Self::Interrupted
        )
    }
}

/// The text is none of the reason codes.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a reason code")]
pub struct UnknownReason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_reasons_is_true() {
        let mut page = include_str!("reason/page.md").to_owned();
        for reason in Reason::ALL {
            page += &format!("| `{reason}` | {} |\n", reason.meaning());
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/REASONS.md");
        if std::env::var_os("JACKFIELD_WRITE_REASONS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == page,
            "REASONS.md is not what reason.rs says; JACKFIELD_WRITE_REASONS=1 has this test write it"
        );
    }

    #[test]
    fn every_code_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.code().parse::<Reason>().unwrap(), *reason);
        }
    }
}
