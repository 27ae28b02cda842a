//! A message as a bot: intent, post, receipt; and after a crash, a look before anything is posted.
//!
//! The message carries the step's idempotency key in its metadata. Where an attempt before may have posted, the
//! channel is searched for that key, from the time of the intent on. Only when it is not there is the message posted.

mod channel;
mod look;

use std::time::{SystemTime, UNIX_EPOCH};

use jackfield_sdk::{Cx, Error, Result};
use serde_json::{Value, json};

use crate::{
    api::{Api, Failure},
    input::Input,
    receipt::{Intent, Posted},
};

/// A bot and the channel that it posts to where a step names none.
#[derive(Clone, Debug)]
pub(crate) struct Bot {
    pub(crate) api: Api,
    pub(crate) channel: Option<String>,
}

/// What a bot knows about the post of an attempt before.
#[derive(Clone, Debug)]
pub(crate) struct Earlier {
    pub(crate) since: u64,
    pub(crate) channel: String,
    pub(crate) thread_ts: Option<String>,
    pub(crate) in_flight: bool,
}

impl Bot {
    /// Posts the message, unless `earlier` turns out to have been it. Tells whether it was.
    pub(crate) async fn post_once(
        &self,
        input: &Input,
        earlier: Option<Earlier>,
        cx: &Cx,
    ) -> Result<(Posted, bool)> {
        let channel = self.channel_of(input)?;
        if let Some(earlier) = earlier.as_ref().filter(|earlier| earlier.in_flight)
            && let Some(posted) = self.look_for(earlier, cx).await?
        {
            cx.record(&posted).await?;
            return Ok((posted, true));
        }
        let intent = |in_flight| Intent::Bot {
            since: earlier.as_ref().map_or_else(now, |earlier| earlier.since),
            channel: channel.clone(),
            thread_ts: input.thread_ts.clone(),
            in_flight,
        };
        let doubt_before = earlier.as_ref().is_some_and(|earlier| earlier.in_flight);
        let place = (&channel, &input.thread_ts);
        let moved = earlier
            .as_ref()
            .is_some_and(|earlier| (&earlier.channel, &earlier.thread_ts) != place);
        if !doubt_before || moved {
            cx.intend(&intent(true)).await?;
        }
        match self.post(input, &channel, cx).await {
            Ok(posted) => {
                cx.record(&posted).await?;
                self.remember(&channel, &posted, cx).await;
                Ok((posted, false))
            }
            Err(failure) => {
                // It is certain that this post did nothing, and there was none before it that may have: the next
                // attempt need not search.
                if !matches!(failure, Failure::Unknown(_)) && !doubt_before {
                    cx.intend(&intent(false)).await?;
                }
                Err(of_post(failure))
            }
        }
    }

    fn channel_of(&self, input: &Input) -> Result<String> {
        let given = input.channel.as_deref().filter(|channel| !channel.is_empty());
        let channel = given.or(self.channel.as_deref()).ok_or_else(|| {
            Error::invalid("the message has no `channel`, and neither has the instance's configuration")
        })?;
        Ok(channel.to_owned())
    }

    async fn post(&self, input: &Input, channel: &str, cx: &Cx) -> Result<Posted, Failure> {
        let mut body = input.body();
        body.insert("channel".to_owned(), channel.into());
        // Only what the rule writes as `<@…>` is a mention, never an `@name` from a payload.
        body.insert("link_names".to_owned(), false.into());
        body.insert("metadata".to_owned(), metadata(cx));
        let answer = self.api.post("chat.postMessage", &Value::Object(body)).await?;
        let text = |key: &str| answer[key].as_str().map(str::to_owned);
        Ok(Posted {
            channel: text("channel"),
            ts: text("ts"),
        })
    }
}

/// By what a message is recognized; `event_payload` takes anything flat.
fn metadata(cx: &Cx) -> Value {
    let payload = json!({ "idempotency_key": cx.idempotency_key(), "delivery": cx.delivery() });
    json!({ "event_type": EVENT_TYPE, "event_payload": payload })
}

/// What a failed post means for the step. As the next attempt looks before it posts, not to know is no reason to stop.
fn of_post(failure: Failure) -> Error {
    match failure {
        Failure::NotSent(cause) | Failure::Unknown(cause) => Error::retry(cause),
        Failure::Limited(after) => limited(after),
        Failure::Refused { reading, .. } => Error::fatal(reading),
    }
}

pub(crate) fn limited(after: Option<std::time::Duration>) -> Error {
    let error = Error::retry("Slack takes no more messages for now: rate limited");
    match after {
        Some(after) => error.after(after),
        None => error,
    }
}

fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the search starts at a time of the world's, to be found by Slack's clock"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

const EVENT_TYPE: &str = "jackfield_delivery";
