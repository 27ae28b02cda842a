//! What a step writes down about itself, for the attempt after a crash.

use serde::{Deserialize, Serialize};

/// A message that is about to be posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub(crate) enum Intent {
    /// As a bot: whether it was posted can be looked up.
    Bot {
        /// Seconds since 1970, before the first post. It stays the same over all attempts.
        since: u64,
        /// Where it was to go, as the rule said it.
        channel: String,
        /// Whose thread it was to go to.
        #[serde(skip_serializing_if = "Option::is_none")]
        thread_ts: Option<String>,
        /// Whether a post went out whose end is not known.
        in_flight: bool,
    },
    /// Through an incoming webhook: nothing can be looked up.
    Webhook {
        /// Whether a post went out whose end is not known.
        in_flight: bool,
    },
}

/// A message that was posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Posted {
    /// The channel's id; a webhook does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// The message's id within the channel; a webhook does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ts: Option<String>,
}
