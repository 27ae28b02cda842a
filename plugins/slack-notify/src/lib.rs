//! Posts a message to Slack.
#![forbid(unsafe_code)]
