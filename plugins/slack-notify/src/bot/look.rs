//! The search for a message that an attempt before may have posted.

use jackfield_sdk::{Cx, Error, Result};
use serde_json::Value;

use super::{Bot, EVENT_TYPE, Earlier, limited};
use crate::{api::Failure, receipt::Posted};

impl Bot {
    /// The message with this step's key, if it is there. It reads everything since the intent before it says no.
    pub(super) async fn look_for(&self, earlier: &Earlier, cx: &Cx) -> Result<Option<Posted>> {
        let channel = self.channel_id(&earlier.channel, cx).await?;
        let oldest = format!("{}.000000", earlier.since.saturating_sub(CLOCKS_APART));
        let mut arguments = vec![
            ("channel", channel.as_str()),
            ("oldest", oldest.as_str()),
            ("inclusive", "true"),
            ("include_all_metadata", "true"),
            ("limit", "200"),
        ];
        let method = match &earlier.thread_ts {
            Some(thread_ts) => {
                arguments.push(("ts", thread_ts));
                "conversations.replies"
            }
            None => "conversations.history",
        };
        let mut cursor = String::new();
        for _ in 0..MAX_PAGES {
            let page = self.page(method, &arguments, &cursor).await?;
            let messages = page["messages"].as_array().into_iter().flatten();
            if let Some(found) = messages
                .into_iter()
                .find(|message| is_ours(message, cx.idempotency_key()))
            {
                let ts = found["ts"].as_str().map(str::to_owned);
                return Ok(Some(Posted {
                    channel: Some(channel),
                    ts,
                }));
            }
            match next_cursor(&page) {
                Some(next) => cursor = next,
                None => return Ok(None),
            }
        }
        Err(Error::ambiguous(format_args!(
            "an earlier attempt may have posted, and the channel has had more than {} messages since, too many to \
             search; look at {} and say whether the message is there: `jackfield deliveries resolve`, with `--done` or \
             `--repeat`",
            MAX_PAGES * 200,
            earlier.channel
        )))
    }

    async fn page(&self, method: &str, arguments: &[(&str, &str)], cursor: &str) -> Result<Value> {
        let mut arguments = arguments.to_vec();
        if !cursor.is_empty() {
            arguments.push(("cursor", cursor));
        }
        self.api.get(method, &arguments).await.map_err(of_look)
    }
}

/// What a failed search means for the step: that nothing is known, and that nothing may be posted.
pub(super) fn of_look(failure: Failure) -> Error {
    match failure {
        Failure::NotSent(cause) | Failure::Unknown(cause) => Error::retry(cause),
        Failure::Limited(after) => limited(after),
        Failure::Refused { reading, .. } => Error::ambiguous(format_args!(
            "an earlier attempt may have posted, and the channel cannot be searched for it: {reading}"
        )),
    }
}

pub(super) fn next_cursor(page: &Value) -> Option<String> {
    let cursor = page.pointer("/response_metadata/next_cursor")?.as_str()?;
    (!cursor.is_empty()).then(|| cursor.to_owned())
}

fn is_ours(message: &Value, key: &str) -> bool {
    message.pointer("/metadata/event_type").and_then(Value::as_str) == Some(EVENT_TYPE)
        && message
            .pointer("/metadata/event_payload/idempotency_key")
            .and_then(Value::as_str)
            == Some(key)
}

/// How many seconds our clock may be ahead of Slack's. Slack itself refuses requests to it that are five minutes off.
const CLOCKS_APART: u64 = 600;
/// Pages of 200 messages.
const MAX_PAGES: u32 = 50;
