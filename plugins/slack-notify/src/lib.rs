//! Posts a message to Slack, once.
//!
//! What comes in is a message; what goes out is where it stands. With a bot's token, an attempt that follows on a crash
//! or a time-out looks for the message before it posts. With an incoming webhook nothing can be looked up, so what may
//! have happened is reported as ambiguous and not repeated.
#![forbid(unsafe_code)]

mod api;
mod bot;
mod config;
mod http;
mod input;
mod receipt;
mod webhook;

use jackfield_sdk::{
    Cx, Error, Needs, Outcome, Plugin, Receipt, Result, Start, async_trait, export_plugin, tracing,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::Api,
    bot::{Bot, Earlier},
    config::{Options, Way, WebhookUrl},
    receipt::{Intent, Posted},
    webhook::Webhook,
};
pub use crate::{config::Config, input::Input};

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The channel's id. A webhook does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The message's id within the channel, for answers in its thread. A webhook does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<String>,
    /// Whether an earlier attempt had posted it, so that this one did not.
    pub duplicate: bool,
}

/// An instance of the plugin: one bot, or one incoming webhook.
#[derive(Debug)]
pub struct SlackNotify {
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    Bot(Bot),
    Webhook(Webhook),
}

export_plugin!(SlackNotify);

#[async_trait]
impl Plugin for SlackNotify {
    type Config = Config;
    type Input = Input;
    type Output = Output;

    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
    const DOCS: &'static str = include_str!("../README.md");
    const NEEDS: Needs = Needs::NOTHING.network(&["slack.com:443", "hooks.slack.com:443"]);

    async fn create(config: Config, start: Start) -> Result<Self> {
        let options = Options::new(&config).map_err(|mistakes| Error::invalid(mistakes.join("; ")))?;
        let proxy = start.proxy();
        let sender = match options.way {
            Way::Bot {
                api,
                authorization,
                channel,
            } => {
                let client = http::client(options.timeout, api.scheme() == "https", proxy.as_ref())?;
                Sender::Bot(Bot {
                    api: Api::new(client, api, authorization),
                    channel,
                })
            }
            Way::Webhook(WebhookUrl(address)) => {
                let client = http::client(options.timeout, address.scheme() == "https", proxy.as_ref())?;
                Sender::Webhook(Webhook { client, address })
            }
        };
        Ok(Self { sender })
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Output>> {
        input.check()?;
        let before = match cx.receipt::<Intent, Posted>().await? {
            Receipt::Done(posted) => return Ok(Outcome::Done(Output::new(posted, true))),
            Receipt::Intended(intent) => Some(intent),
            Receipt::Absent => None,
        };
        let (posted, duplicate) = match &self.sender {
            Sender::Bot(bot) => bot.post_once(&input, earlier(before)?, cx).await?,
            Sender::Webhook(webhook) => (webhook.post_once(&input, in_doubt(before), cx).await?, false),
        };
        tracing::info!(
            channel = posted.channel,
            ts = posted.ts,
            duplicate,
            "message posted"
        );
        Ok(Outcome::Done(Output::new(posted, duplicate)))
    }
}

impl Output {
    fn new(posted: Posted, duplicate: bool) -> Self {
        Self {
            channel: posted.channel,
            ts: posted.ts,
            duplicate,
        }
    }
}

/// What a bot can make of an intent. One that a webhook left, before the configuration changed, tells a bot nothing.
fn earlier(intent: Option<Intent>) -> Result<Option<Earlier>> {
    match intent {
        Some(Intent::Bot {
            since,
            channel,
            thread_ts,
            in_flight,
        }) => Ok(Some(Earlier {
            since,
            channel,
            thread_ts,
            in_flight,
        })),
        Some(Intent::Webhook { in_flight: true }) => Err(Error::ambiguous(
            "an earlier attempt may have posted through an incoming webhook, which leaves no trace to look for; look at \
             its channel, and say whether the message is there: `jackfield deliveries resolve`, with `--done` or `--repeat`",
        )),
        Some(Intent::Webhook { in_flight: false }) | None => Ok(None),
    }
}

/// Whether an attempt before may have posted.
fn in_doubt(intent: Option<Intent>) -> bool {
    matches!(
        intent,
        Some(Intent::Bot { in_flight: true, .. } | Intent::Webhook { in_flight: true })
    )
}

#[cfg(test)]
mod tests;
