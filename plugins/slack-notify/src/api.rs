//! Slack's Web API: a method is called, and its answer is one of four.
//!
//! Slack answers 200 whether or not a call succeeded; `ok` in the body tells. What this module adds is the judgement of
//! the error's word: whether another try can help, and what a person can do.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, header::HeaderValue};
use serde_json::Value;
use url::Url;

use crate::http::{self, Answer, NoAnswer};

/// The Web API, as one bot sees it.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: Client,
    base: Url,
    authorization: HeaderValue,
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing reached Slack.
    NotSent(String),
    /// Slack has turned it away for now; it did nothing.
    Limited(Option<Duration>),
    /// Slack has refused it; no repetition will change that.
    Refused {
        /// Slack's word for it.
        error: String,
        /// What that means and what helps.
        reading: String,
    },
    /// Nobody knows whether it happened.
    Unknown(String),
}

impl Api {
    pub(crate) fn new(client: Client, base: Url, authorization: HeaderValue) -> Self {
        Self {
            client,
            base,
            authorization,
        }
    }

    /// Calls a method that changes something.
    pub(crate) async fn post(&self, method: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.client.request(Method::POST, self.address(method)?);
        let text = body.to_string();
        let request = request
            .header("content-type", "application/json; charset=utf-8")
            .body(text);
        self.call(method, request).await
    }

    /// Calls a method that reads something.
    pub(crate) async fn get(&self, method: &str, arguments: &[(&str, &str)]) -> Result<Value, Failure> {
        let mut address = self.address(method)?;
        address.query_pairs_mut().extend_pairs(arguments);
        self.call(method, self.client.request(Method::GET, address)).await
    }

    async fn call(&self, method: &str, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let request = request.header("authorization", self.authorization.clone());
        match http::send(request).await {
            Ok(answer) => judge(method, answer),
            Err(NoAnswer::NotSent(cause)) => {
                Err(Failure::NotSent(format!("Slack could not be reached: {cause}")))
            }
            Err(NoAnswer::Unknown(cause)) => {
                Err(Failure::Unknown(format!("{method} got no answer: {cause}")))
            }
        }
    }

    fn address(&self, method: &str) -> Result<Url, Failure> {
        self.base
            .join(method)
            .map_err(|error| Failure::NotSent(format!("`api` cannot be joined to: {error}")))
    }
}

fn judge(method: &str, answer: Answer) -> Result<Value, Failure> {
    let Answer { status, body, after } = answer;
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Failure::Limited(after));
    }
    // A 408 is of something between us and Slack, which may have handed the call on before it lost patience.
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return Err(Failure::Unknown(format!("{method} was answered with {status}")));
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(body) if body["ok"] == true && status.is_success() => Ok(body),
        Ok(body) if body["ok"] == false => Err(of_word(method, &body, after)),
        _ if status.is_success() => Err(Failure::Unknown(format!(
            "{method} was answered with something other than Slack's JSON"
        ))),
        _ => Err(Failure::Refused {
            error: status.as_u16().to_string(),
            reading: format!("{method} was answered with {status}, which Slack does not do; check `api`"),
        }),
    }
}

fn of_word(method: &str, body: &Value, after: Option<Duration>) -> Failure {
    let error: String = body["error"]
        .as_str()
        .unwrap_or("no error named")
        .chars()
        .take(100)
        .collect();
    match error.as_str() {
        "ratelimited" | "rate_limited" => Failure::Limited(after),
        "fatal_error"
        | "internal_error"
        | "org_login_required"
        | "request_timeout"
        | "service_unavailable"
        | "team_added_to_org" => Failure::Unknown(format!("{method} failed at Slack: {error}")),
        _ => Failure::Refused {
            reading: format!("{method} failed: {error}{}", hint(&error, body)),
            error,
        },
    }
}

/// What helps against an error, in brackets.
fn hint(error: &str, body: &Value) -> String {
    let hint = match error {
        "channel_not_found" => "there is no such channel, or it is private and the app is not in it",
        "not_in_channel" => "invite the app to the channel, or give it the scope `chat:write.public`",
        "is_archived" => "the channel is archived",
        "restricted_action"
        | "restricted_action_read_only_channel"
        | "restricted_action_thread_only_channel" => "the workspace does not let this app post there",
        "invalid_auth" | "not_authed" | "token_expired" | "token_revoked" | "account_inactive" => {
            "check the instance's `bot_token`"
        }
        "not_allowed_token_type" => "the token must be a bot's, `xoxb-…`",
        "no_text" => "the message is empty",
        "msg_too_long" | "msg_blocks_too_long" => "shorten the message, or put the rest into its thread",
        "unknown_method" => "`api` does not lead to Slack's Web API",
        "missing_scope" => {
            let needed = body["needed"].as_str().unwrap_or("more than it has");
            return format!(" (the app needs the scope {})", shortened(needed));
        }
        _ => "",
    };
    let details = body
        .pointer("/response_metadata/messages")
        .and_then(Value::as_array);
    let details: Vec<_> = details
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(shortened)
        .collect();
    match (hint, details.as_slice()) {
        ("", []) => String::new(),
        ("", details) => format!(" ({})", details.join("; ")),
        (hint, _) => format!(" ({hint})"),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(status: u16, body: &str, after: Option<u64>) -> Result<Value, Failure> {
        let status = StatusCode::from_u16(status).unwrap();
        let after = after.map(Duration::from_secs);
        judge(
            "chat.postMessage",
            Answer {
                status,
                body: body.into(),
                after,
            },
        )
    }

    fn failed(error: &str) -> Failure {
        judged(200, &json!({ "ok": false, "error": error }).to_string(), None).unwrap_err()
    }

    #[test]
    fn a_200_is_a_success_only_where_it_says_ok() {
        assert_eq!(
            judged(200, r#"{"ok":true,"ts":"1.2"}"#, None).unwrap()["ts"],
            "1.2"
        );
        for (status, body) in [
            (200, r#"{"ok":false}"#),
            (200, "{}"),
            (200, "ok"),
            (200, ""),
            (404, r#"{"ok":true}"#),
        ] {
            assert!(judged(status, body, None).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn errors_that_pass_are_told_from_those_that_stay() {
        for error in [
            "internal_error",
            "fatal_error",
            "service_unavailable",
            "request_timeout",
            "team_added_to_org",
        ] {
            assert!(matches!(failed(error), Failure::Unknown(_)), "{error}");
        }
        assert_eq!(failed("ratelimited"), Failure::Limited(None));
        assert_eq!(
            judged(429, "", Some(30)),
            Err(Failure::Limited(Some(Duration::from_secs(30))))
        );
        for error in [
            "channel_not_found",
            "invalid_blocks",
            "not_in_channel",
            "invalid_auth",
            "something_new",
        ] {
            assert!(matches!(failed(error), Failure::Refused { .. }), "{error}");
        }
        for status in [408, 500, 502, 503, 504] {
            for body in ["", "<html>", "{\"ok\":true}", "{\"ok\":false}"] {
                assert!(
                    matches!(judged(status, body, None), Err(Failure::Unknown(_))),
                    "{status} {body}"
                );
            }
        }
        for status in [301, 302, 400, 401, 403, 404] {
            assert!(
                matches!(judged(status, "<html>", None), Err(Failure::Refused { .. })),
                "{status}"
            );
        }
        assert!(matches!(judged(200, "<html>", None), Err(Failure::Unknown(_))));
    }

    #[test]
    fn refusals_say_what_helps() {
        let read = |body: Value| match judged(200, &body.to_string(), None) {
            Err(Failure::Refused { reading, .. }) => reading,
            other => panic!("{body} is refused, not {other:?}"),
        };
        let failure = |error: &str| json!({ "ok": false, "error": error });
        let mut scope = failure("missing_scope");
        scope["needed"] = json!("chat:write.customize");
        let mut blocks = failure("invalid_blocks");
        blocks["response_metadata"] =
            json!({ "messages": ["[ERROR] must be more than 0 characters [json-pointer:/blocks/0/text]"] });
        let bodies = [
            failure("channel_not_found"),
            failure("not_in_channel"),
            failure("invalid_auth"),
            scope,
            blocks,
            failure("unknown_method"),
            failure("something_new"),
            json!({ "ok": false }),
        ];
        insta::assert_snapshot!(bodies.map(read).join("\n"), @r#"
        chat.postMessage failed: channel_not_found (there is no such channel, or it is private and the app is not in it)
        chat.postMessage failed: not_in_channel (invite the app to the channel, or give it the scope `chat:write.public`)
        chat.postMessage failed: invalid_auth (check the instance's `bot_token`)
        chat.postMessage failed: missing_scope (the app needs the scope chat:write.customize)
        chat.postMessage failed: invalid_blocks ([ERROR] must be more than 0 characters [json-pointer:/blocks/0/text])
        chat.postMessage failed: unknown_method (`api` does not lead to Slack's Web API)
        chat.postMessage failed: something_new
        chat.postMessage failed: no error named
        "#);
    }
}
