//! The search for a message that an attempt before may have posted.

use jackfield_sdk::{Cx, Error, Result};
use serde_json::Value;

use super::{
    Bot, EVENT_TYPE, Earlier,
    channel::{is_channel_id, is_person_id},
    limited,
};
use crate::{api::Failure, receipt::Posted};

impl Bot {
    /// The message with this step's key, if it is there. It reads everything since the intent before it says no, in each channel
    /// that a name may have led to: the one that it led to when it was last heard of, and today's.
    pub(super) async fn look_for(&self, earlier: &Earlier, cx: &Cx) -> Result<Option<Posted>> {
        let called = earlier.channel.as_str();
        if is_channel_id(called) {
            return self.search(called, earlier, cx).await;
        }
        let kept = self.kept_id(called, cx).await?;
        if let Some(kept) = &kept {
            let found = self.search(kept, earlier, cx).await?;
            if found.is_some() || is_person_id(called) {
                return Ok(found);
            }
        }
        let today = self.id_today(called).await?;
        if kept.as_ref() == Some(&today) {
            return Ok(None);
        }
        self.search(&today, earlier, cx).await
    }

    /// The message with this step's key, if the channel with this id has it.
    async fn search(&self, channel: &str, earlier: &Earlier, cx: &Cx) -> Result<Option<Posted>> {
        let oldest = format!("{}.000000", earlier.since.saturating_sub(CLOCKS_APART));
        let mut arguments = vec![
            ("channel", channel),
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
                    channel: Some(channel.to_owned()),
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
