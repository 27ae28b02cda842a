//! The configuration of an instance: as it is written, and checked.

use std::time::Duration;

use jackfield_sdk::Secret;
use reqwest::header::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

/// How to reach Slack: with a bot's token, or through an incoming webhook. Exactly one of `bot_token` and `webhook_url` is given.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["bot_token"] }, { "required": ["webhook_url"] }]))]
pub struct Config {
    /// The bot's token, `xoxb-…`. It wants the scopes `chat:write` to post and `channels:history` (`groups:history`
    /// for private channels) to find out, after a crash, whether it has.
    #[serde(default)]
    pub bot_token: Option<Secret>,
    /// The address of an incoming webhook, which is itself a secret. It posts to a channel of its own.
    #[serde(default)]
    pub webhook_url: Option<Secret>,
    /// Where the Web API is; for proxies and stand-ins.
    #[serde(default = "slack_api")]
    pub api: String,
    /// Whether plain http is good enough for another host than this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Where to post for steps that name no `channel`. Only with a `bot_token`.
    #[serde(default)]
    pub channel: Option<String>,
    /// How long Slack may take for an answer, as in `30s`, which is the default.
    #[serde(default = "thirty_seconds")]
    pub timeout: String,
}

fn slack_api() -> String {
    "https://slack.com/api".to_owned()
}

fn thirty_seconds() -> String {
    "30s".to_owned()
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) way: Way,
    pub(crate) timeout: Duration,
}

/// How messages get to Slack.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// By `chat.postMessage`.
    Bot {
        /// Ends with a slash, so that methods can be joined to it.
        api: Url,
        /// `Bearer …`, never shown.
        authorization: HeaderValue,
        /// For steps that name none.
        channel: Option<String>,
    },
    /// By an incoming webhook.
    Webhook(WebhookUrl),
}

/// The address of an incoming webhook; its `Debug` shows no more than the origin.
#[derive(Clone)]
pub(crate) struct WebhookUrl(pub(crate) Url);

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/…", self.0.origin().ascii_serialization())
    }
}

impl Options {
    /// Checks `config`; every mistake is named, each with its key.
    pub(crate) fn new(config: &Config) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let timeout = parse_duration(&config.timeout).unwrap_or_else(|| {
            mistakes.push(format!(
                "timeout: `{}` is not a duration, as in \"30s\"",
                config.timeout
            ));
            Duration::ZERO
        });
        let way = match (&config.bot_token, &config.webhook_url) {
            (Some(token), None) => bot(config, token).map_err(|found| mistakes.extend(found)).ok(),
            (None, Some(webhook)) => by_webhook(config, webhook)
                .map_err(|found| mistakes.extend(found))
                .ok(),
            (Some(_), Some(_)) => {
                mistakes.push("it has both `bot_token` and `webhook_url`; one is meant".to_owned());
                None
            }
            (None, None) => {
                mistakes.push("it has neither `bot_token` nor `webhook_url`".to_owned());
                None
            }
        };
        match way {
            Some(way) if mistakes.is_empty() => Ok(Self { way, timeout }),
            _ => Err(mistakes),
        }
    }
}

fn bot(config: &Config, token: &Secret) -> Result<Way, Vec<String>> {
    let mut mistakes = Vec::new();
    let api = Url::parse(config.api.trim_end_matches('/'))
        .ok()
        .filter(|url| url.query().is_none() && url.fragment().is_none())
        .and_then(|url| Url::parse(&format!("{url}/")).ok());
    if api.is_none() {
        mistakes.push(format!(
            "api: `{}` is not an address, as in \"https://slack.com/api\"",
            config.api
        ));
    }
    if let Some(mistake) = api
        .as_ref()
        .and_then(|api| check_scheme("api", api, config.allow_http))
    {
        mistakes.push(mistake);
    }
    let authorization = match HeaderValue::from_str(&format!("Bearer {}", token.expose().trim())) {
        Ok(value) if !token.expose().trim().is_empty() => Some(value),
        _ => {
            mistakes.push("bot_token: it is empty, or holds a character that no token has".to_owned());
            None
        }
    };
    match (api, authorization) {
        (Some(api), Some(mut authorization)) if mistakes.is_empty() => {
            authorization.set_sensitive(true);
            Ok(Way::Bot {
                api,
                authorization,
                channel: config.channel.clone(),
            })
        }
        _ => Err(mistakes),
    }
}

fn by_webhook(config: &Config, webhook: &Secret) -> Result<Way, Vec<String>> {
    let mut mistakes = Vec::new();
    if config.channel.is_some() {
        mistakes.push(
            "channel: an incoming webhook posts to its own channel; drop it, or give a `bot_token`"
                .to_owned(),
        );
    }
    // The address is a secret: a mistake in it is described, not quoted.
    let Ok(url) = Url::parse(webhook.expose().trim()) else {
        mistakes.push(
            "webhook_url: it is not an address, as in \"https://hooks.slack.com/services/…\"".to_owned(),
        );
        return Err(mistakes);
    };
    mistakes.extend(check_scheme("webhook_url", &url, config.allow_http));
    if mistakes.is_empty() {
        Ok(Way::Webhook(WebhookUrl(url)))
    } else {
        Err(mistakes)
    }
}

/// What is wrong with the scheme of `url`, if anything.
fn check_scheme(key: &str, url: &Url, allow_http: bool) -> Option<String> {
    let local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => None,
        "http" if local || allow_http => None,
        "http" => Some(format!(
            "{key}: plain http would show the secret to anybody on the way; use https, or set `allow_http = true`"
        )),
        other => Some(format!(
            "{key}: it has the scheme `{other}`, and https is expected"
        )),
    }
}

/// Reads `500ms`, `30s`, `2m`; nothing else, and not zero.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let milliseconds = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number
        .checked_mul(milliseconds)
        .filter(|total| *total > 0)
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn options(config: Value) -> Result<Options, Vec<String>> {
        Options::new(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn a_token_or_a_webhook_is_enough() {
        for config in [
            json!({ "bot_token": "xoxb-1" }),
            json!({ "bot_token": "xoxb-1", "channel": "#design" }),
            json!({ "bot_token": "xoxb-1", "api": "http://127.0.0.1:8080/api/" }),
            json!({ "bot_token": "xoxb-1", "api": "http://localhost:8080" }),
            json!({ "bot_token": "xoxb-1", "api": "http://proxy.internal/slack", "allow_http": true }),
            json!({ "webhook_url": "https://hooks.slack.com/services/T0/B0/x" }),
            json!({ "webhook_url": "http://[::1]:8080/services/T0/B0/x" }),
        ] {
            assert!(options(config.clone()).is_ok(), "{config}");
        }
    }

    #[test]
    fn methods_are_joined_to_the_api_however_it_is_written() {
        for api in [
            "https://slack.com/api",
            "https://slack.com/api/",
            "https://slack.com/api//",
        ] {
            let Way::Bot { api, .. } = options(json!({ "bot_token": "xoxb-1", "api": api })).unwrap().way
            else {
                panic!("a token means a bot");
            };
            assert_eq!(
                api.join("chat.postMessage").unwrap().as_str(),
                "https://slack.com/api/chat.postMessage"
            );
        }
    }

    #[test]
    fn every_mistake_is_named_and_no_secret_with_it() {
        let table = [
            json!({}),
            json!({ "bot_token": "hunter2", "webhook_url": "https://hooks.slack.com/hunter2" }),
            json!({ "bot_token": "hunter2\n", "api": "slack.com", "timeout": "soon" }),
            json!({ "bot_token": "hun\nter2", "api": "http://slack.com/api" }),
            json!({ "bot_token": " ", "api": "https://slack.com/api?x" }),
            json!({ "webhook_url": "hooks.slack.com/hunter2", "channel": "#design" }),
            json!({ "webhook_url": "http://hooks.slack.com/hunter2" }),
            json!({ "webhook_url": "ftp://hooks.slack.com/hunter2" }),
        ];
        let found = table.map(|config| options(config).unwrap_err().join("; "));
        insta::assert_snapshot!(found.join("\n"), @r#"
        it has neither `bot_token` nor `webhook_url`
        it has both `bot_token` and `webhook_url`; one is meant
        timeout: `soon` is not a duration, as in "30s"; api: `slack.com` is not an address, as in "https://slack.com/api"
        api: plain http would show the secret to anybody on the way; use https, or set `allow_http = true`; bot_token: it is empty, or holds a character that no token has
        api: `https://slack.com/api?x` is not an address, as in "https://slack.com/api"; bot_token: it is empty, or holds a character that no token has
        channel: an incoming webhook posts to its own channel; drop it, or give a `bot_token`; webhook_url: it is not an address, as in "https://hooks.slack.com/services/…"
        webhook_url: plain http would show the secret to anybody on the way; use https, or set `allow_http = true`
        webhook_url: it has the scheme `ftp`, and https is expected
        "#);
    }

    #[test]
    fn secrets_do_not_show_themselves() {
        for config in [
            json!({ "bot_token": "hunter2" }),
            json!({ "webhook_url": "https://hooks.slack.com/services/hunter2" }),
        ] {
            let shown = format!("{:?}", options(config).unwrap());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
