//! A message through an incoming webhook: once, or not at all, or nobody knows.
//!
//! Nothing can be looked up here. So a request that may have reached Slack and has no good answer ends the step as
//! *ambiguous*, and an attempt that finds such a request before it does not send another.

use jackfield_sdk::{Cx, Error, Result};
use reqwest::Client;
use serde_json::Value;
use url::Url;

use crate::{
    bot::limited,
    http::{self, Answer, NoAnswer},
    input::Input,
    receipt::{Intent, Posted},
};

/// An incoming webhook.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) client: Client,
    /// A secret.
    pub(crate) address: Url,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhook(…)")
    }
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Posted,
    /// It did nothing; this is what the step makes of it.
    Refused {
        error: String,
        retry: bool,
        after: Option<std::time::Duration>,
    },
    Unknown(String),
}

impl Webhook {
    /// Posts the message, unless an attempt before may have done so.
    pub(crate) async fn post_once(&self, input: &Input, in_doubt: bool, cx: &Cx) -> Result<Posted> {
        if input
            .channel
            .as_deref()
            .is_some_and(|channel| !channel.is_empty())
        {
            return Err(Error::invalid(
                "channel: an incoming webhook posts to its own channel; drop it",
            ));
        }
        if in_doubt {
            return Err(Error::ambiguous(format_args!("an earlier attempt {DOUBT}")));
        }
        cx.intend(&Intent::Webhook { in_flight: true }).await?;
        match self.post(input).await {
            Sent::Posted => {
                let posted = Posted {
                    channel: None,
                    ts: None,
                };
                cx.record(&posted).await?;
                Ok(posted)
            }
            Sent::Unknown(cause) => Err(Error::ambiguous(format_args!("{cause}; the request {DOUBT}"))),
            Sent::Refused { error, retry, after } => {
                cx.intend(&Intent::Webhook { in_flight: false }).await?;
                Err(match (retry, error) {
                    (true, _) if after.is_some() => limited(after),
                    (true, error) => Error::retry(error),
                    (false, error) => Error::fatal(error),
                })
            }
        }
    }

    async fn post(&self, input: &Input) -> Sent {
        let body = Value::Object(input.body()).to_string();
        let request = self.client.post(self.address.clone());
        match http::send(request.header("content-type", "application/json").body(body)).await {
            Ok(answer) => judge(&answer),
            Err(NoAnswer::NotSent(cause)) => Sent::Refused {
                error: format!("the webhook could not be reached: {cause}"),
                retry: true,
                after: None,
            },
            Err(NoAnswer::Unknown(cause)) => Sent::Unknown(format!("the webhook gave no answer: {cause}")),
        }
    }
}

fn judge(answer: &Answer) -> Sent {
    let word: String = String::from_utf8_lossy(&answer.body)
        .trim()
        .chars()
        .take(100)
        .collect();
    let status = answer.status;
    match status.as_u16() {
        200 if word == "ok" => Sent::Posted,
        200 => Sent::Unknown("the webhook answered 200 without Slack's `ok`".to_owned()),
        429 => Sent::Refused {
            error: "the webhook takes no more messages for now: rate limited".to_owned(),
            retry: true,
            after: answer.after,
        },
        400..=499 if status != 408 => {
            let hint = hint(&word);
            Sent::Refused {
                error: format!("the webhook answered {status}: {word:?}{hint}"),
                retry: false,
                after: None,
            }
        }
        300..=399 => Sent::Refused {
            error: format!(
                "the webhook answered {status}, and redirects are not followed; check `webhook_url`"
            ),
            retry: false,
            after: None,
        },
        _ => Sent::Unknown(format!("the webhook answered {status}")),
    }
}

fn hint(word: &str) -> &'static str {
    match word {
        "no_service" | "no_team" | "invalid_token" | "no_active_hooks" => {
            " (the webhook was removed or turned off; make a new one)"
        }
        "channel_is_archived" | "channel_not_found" => " (the webhook's channel is gone; make a new one)",
        "action_prohibited" | "posting_to_general_channel_denied" => {
            " (the workspace does not let it post there)"
        }
        "invalid_payload" | "invalid_blocks" => " (Slack cannot read the message; check `blocks`)",
        _ => "",
    }
}

/// Read after "the request" or "an earlier attempt".
const DOUBT: &str = "may have posted, which an incoming webhook cannot be asked; look at the channel, and say whether the \
                     message is there: `jackfield deliveries resolve`, with `--done` or `--repeat`";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::StatusCode;

    use super::*;

    fn judged(status: u16, body: &str) -> Sent {
        let after = Some(Duration::from_secs(3));
        judge(&Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.into(),
            after,
        })
    }

    #[test]
    fn only_slacks_own_word_is_success() {
        assert_eq!(judged(200, "ok"), Sent::Posted);
        assert_eq!(judged(200, "ok\n"), Sent::Posted);
        for (status, body) in [
            (200, "<html>"),
            (200, ""),
            (204, ""),
            (408, ""),
            (500, "rollup_error"),
            (502, ""),
            (503, "ok"),
        ] {
            assert!(
                matches!(judged(status, body), Sent::Unknown(_)),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn refusals_did_nothing_and_say_what_helps() {
        for (status, body, expected) in [
            (
                400,
                "invalid_payload",
                "\"invalid_payload\" (Slack cannot read the message",
            ),
            (
                403,
                "action_prohibited",
                "(the workspace does not let it post there)",
            ),
            (
                404,
                "no_service",
                "(the webhook was removed or turned off; make a new one)",
            ),
            (
                410,
                "channel_is_archived",
                "(the webhook's channel is gone; make a new one)",
            ),
            (404, "<html>\nnot here", "404 Not Found: \"<html>\\nnot here\""),
            (302, "", "check `webhook_url`"),
        ] {
            match judged(status, body) {
                Sent::Refused {
                    error, retry: false, ..
                } => assert!(error.contains(expected), "{error}"),
                other => panic!("{status} {body} is refused for good, not {other:?}"),
            }
        }
        let limited = judged(429, "");
        assert!(
            matches!(limited, Sent::Refused { retry: true, after: Some(after), .. } if after.as_secs() == 3)
        );
    }
}
