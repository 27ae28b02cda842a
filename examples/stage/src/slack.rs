//! A stand-in for Slack: `chat.postMessage`, `conversations.history`, `conversations.replies`, `conversations.list`,
//! `conversations.open` and one incoming webhook, as <https://docs.slack.dev/reference/methods> and
//! <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks> say. A channel exists once it has been
//! posted to. As at Slack, posting takes its name or its id, or a person's id, and reading its id alone.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use hyper::{Method, StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};

use crate::{
    gate::Gate,
    http::{Answer, Asked, Server, answer, json as respond},
};

/// A workspace with one bot and one incoming webhook.
#[derive(Debug)]
pub struct Slack {
    server: Server,
    state: Arc<State>,
}

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Posted {
    /// What the request called the channel; or `webhook`.
    pub channel: String,
    /// The channel's id.
    pub id: String,
    /// The message's id within the channel.
    pub ts: String,
    /// The body of the request.
    pub body: Value,
}

/// What the stand-in does with a request instead of what was asked.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// 429, to come back after so many seconds.
    RateLimited(u32),
    /// 200 with `ok: false` and this error.
    Error(&'static str),
    /// This status and nothing else.
    Status(u16),
}

#[derive(Debug, Default)]
struct State {
    posted: Mutex<Vec<Posted>>,
    /// How often a name was given to another channel.
    given_away: Mutex<HashMap<String, u64>>,
    troubles: Mutex<VecDeque<Trouble>>,
    reading_troubles: Mutex<VecDeque<Trouble>>,
    reads: AtomicUsize,
    withhold: Gate,
}

/// What the ids of channels begin with, and those of people.
const CHANNELS: [char; 3] = ['C', 'G', 'D'];
const PEOPLE: [char; 2] = ['U', 'W'];
/// The token of the workspace's bot.
pub const BOT_TOKEN: &str = "xoxb-stage-0000-0000-notarealtoken";
/// What stands for the incoming webhook's channel, which no request names.
const WEBHOOK: &str = "webhook";
/// The path of the incoming webhook, which is itself the secret.
pub const WEBHOOK_PATH: &str = "/services/T00000000/B00000000/notarealwebhook";

impl Slack {
    /// Starts one on a free port.
    ///
    /// # Errors
    ///
    /// Where no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let server = Server::start(move |asked| {
            let state = Arc::clone(&shared);
            async move { state.answer(asked).await }
        })
        .await?;
        Ok(Self { server, state })
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// What stands in for `https://slack.com/api`.
    pub fn api(&self) -> String {
        format!("{}/api", self.server.url())
    }

    /// The address of the incoming webhook.
    pub fn webhook(&self) -> String {
        format!("{}{WEBHOOK_PATH}", self.server.url())
    }

    /// What has been posted so far, in order of arrival.
    pub fn posted(&self) -> Vec<Posted> {
        lock(&self.state.posted).clone()
    }

    /// Gives a channel's name to a new one. The old one keeps its id and its messages.
    pub fn give_away(&self, name: &str) {
        *lock(&self.state.given_away).entry(bare(name)).or_default() += 1;
    }

    /// The next request that would post meets this.
    pub fn trouble(&self, trouble: Trouble) {
        lock(&self.state.troubles).push_back(trouble);
    }

    /// The next request that would read meets this.
    pub fn trouble_reading(&self, trouble: Trouble) {
        lock(&self.state.reading_troubles).push_back(trouble);
    }

    /// How many requests wanted to read.
    pub fn reads(&self) -> usize {
        self.state.reads.load(Ordering::Relaxed)
    }

    /// A message that is recorded passes here before it is answered.
    pub fn withhold(&self) -> &Gate {
        &self.state.withhold
    }
}

impl State {
    async fn answer(&self, asked: Asked) -> Answer {
        match (&asked.method, asked.path.as_str()) {
            (&Method::POST, WEBHOOK_PATH) => self.webhook(&asked).await,
            (_, path) => match path.strip_prefix("/api/") {
                Some(_) if asked.header("authorization") != Some(&format!("Bearer {BOT_TOKEN}")) => {
                    failure(if asked.header("authorization").is_some() {
                        "invalid_auth"
                    } else {
                        "not_authed"
                    })
                }
                Some("chat.postMessage") => self.post_message(&asked).await,
                Some(method) if method.starts_with("conversations.") => self.read(method, &asked),
                _ => failure("unknown_method"),
            },
        }
    }

    async fn post_message(&self, asked: &Asked) -> Answer {
        if let Some(trouble) = lock(&self.troubles).pop_front() {
            return trouble.answer();
        }
        let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else {
            return failure("invalid_json");
        };
        let Some(channel) = body["channel"].as_str().map(str::to_owned) else {
            return failure("channel_not_found");
        };
        if channel.contains("nowhere") {
            return failure("channel_not_found");
        }
        if body["text"].as_str().unwrap_or_default().is_empty() && body["blocks"].is_null() {
            return failure("no_text");
        }
        let id = self.id(&channel);
        let ts = self.record(&channel, &id, body.clone());
        self.withhold.pass().await;
        respond(
            StatusCode::OK,
            &json!({ "ok": true, "channel": id, "ts": ts, "message": body }),
        )
    }

    fn read(&self, method: &str, asked: &Asked) -> Answer {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(trouble) = lock(&self.reading_troubles).pop_front() {
            return trouble.answer();
        }
        match method {
            "conversations.history" => self.history(asked, None),
            "conversations.replies" => self.history(asked, arguments(asked)("ts")),
            "conversations.list" => self.list(asked),
            "conversations.open" => self.open(asked),
            _ => failure("unknown_method"),
        }
    }

    fn list(&self, asked: &Asked) -> Answer {
        let mut names: Vec<String> = lock(&self.posted)
            .iter()
            .filter(|message| message.id.starts_with('C'))
            .map(|message| message.channel.clone())
            .collect();
        names.sort();
        names.dedup();
        let channels = names
            .iter()
            .map(|name| json!({ "id": self.id(name), "name": bare(name) }));
        page("channels", channels.collect(), asked)
    }

    /// The conversation with one person.
    fn open(&self, asked: &Asked) -> Answer {
        match arguments(asked)("users").filter(|person| is_id(person, &PEOPLE)) {
            Some(person) => respond(
                StatusCode::OK,
                &json!({ "ok": true, "channel": { "id": self.id(&person) } }),
            ),
            None => failure("user_not_found"),
        }
    }

    async fn webhook(&self, asked: &Asked) -> Answer {
        if let Some(trouble) = lock(&self.troubles).pop_front() {
            return trouble.answer();
        }
        let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else {
            return answer(StatusCode::BAD_REQUEST, "text/plain", "invalid_payload");
        };
        if body["text"].is_null() && body["blocks"].is_null() {
            return answer(StatusCode::BAD_REQUEST, "text/plain", "no_text");
        }
        self.record(WEBHOOK, WEBHOOK, body);
        self.withhold.pass().await;
        answer(StatusCode::OK, "text/html", "ok")
    }

    /// Newest first, from `oldest` on, of the channel itself or of one thread, with metadata only where it is asked for.
    fn history(&self, asked: &Asked, thread: Option<String>) -> Answer {
        let argument = arguments(asked);
        let Some(channel) = argument("channel").filter(|channel| is_id(channel, &CHANNELS)) else {
            return failure("channel_not_found");
        };
        let oldest: f64 = argument("oldest")
            .and_then(|ts| ts.parse().ok())
            .unwrap_or_default();
        let with_metadata =
            argument("include_all_metadata").is_some_and(|flag| flag == "true" || flag == "1");
        let messages: Vec<Value> = lock(&self.posted)
            .iter()
            .rev()
            .filter(|message| message.id == channel && message.ts.parse::<f64>().is_ok_and(|ts| ts >= oldest))
            .filter(|message| message.body["thread_ts"].as_str() == thread.as_deref())
            .map(|message| {
                let mut shown = json!({ "type": "message", "ts": message.ts, "text": message.body["text"] });
                if with_metadata && !message.body["metadata"].is_null() {
                    shown["metadata"] = message.body["metadata"].clone();
                }
                shown
            })
            .collect();
        page("messages", messages, asked)
    }

    fn record(&self, channel: &str, id: &str, body: Value) -> String {
        #[expect(clippy::disallowed_methods, reason = "Slack's clock, not ours")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut posted = lock(&self.posted);
        let ts = format!("{}.{:06}", now.as_secs(), posted.len() + 1);
        posted.push(Posted {
            channel: channel.to_owned(),
            id: id.to_owned(),
            ts: ts.clone(),
            body,
        });
        ts
    }

    /// The id of the channel that a request names: an id is its own, and each person has one conversation with the bot.
    fn id(&self, channel: &str) -> String {
        if is_id(channel, &CHANNELS) {
            return channel.to_owned();
        }
        if is_id(channel, &PEOPLE) {
            return format!("D{}", &channel[1..]);
        }
        let name = bare(channel);
        let given_away = lock(&self.given_away).get(&name).copied().unwrap_or_default();
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("C{:016X}", hash.wrapping_add(given_away))
    }
}

impl Trouble {
    fn answer(self) -> Answer {
        match self {
            Self::RateLimited(seconds) => {
                let mut limited = respond(
                    StatusCode::TOO_MANY_REQUESTS,
                    &json!({ "ok": false, "error": "ratelimited" }),
                );
                limited.headers_mut().insert(RETRY_AFTER, seconds.into());
                limited
            }
            Self::Error(error) => failure(error),
            Self::Status(status) => answer(
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                "text/plain",
                "",
            ),
        }
    }
}

/// Slack says that a call failed with a 200.
fn failure(error: &str) -> Answer {
    respond(StatusCode::OK, &json!({ "ok": false, "error": error }))
}

/// A channel's name without its mark.
fn bare(name: &str) -> String {
    name.trim_start_matches('#').to_owned()
}

fn is_id(text: &str, initials: &[char]) -> bool {
    text.len() >= 9
        && text.starts_with(initials)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// As many of `items` as are asked for, from the cursor on, and the cursor to the rest.
fn page(key: &str, items: Vec<Value>, asked: &Asked) -> Answer {
    let argument = arguments(asked);
    let number = |name: &str| argument(name).and_then(|text| text.parse::<usize>().ok());
    let (start, limit) = (
        number("cursor").unwrap_or(0),
        number("limit").unwrap_or(100).clamp(1, 1000),
    );
    let next = if items.len() > start + limit {
        (start + limit).to_string()
    } else {
        String::new()
    };
    let shown: Vec<Value> = items.into_iter().skip(start).take(limit).collect();
    let mut body =
        json!({ "ok": true, "has_more": !next.is_empty(), "response_metadata": { "next_cursor": next } });
    body[key] = shown.into();
    respond(StatusCode::OK, &body)
}

/// Arguments come in the query, in a form or in JSON.
fn arguments(asked: &Asked) -> impl Fn(&str) -> Option<String> + '_ {
    move |name| {
        let in_form = || {
            url::form_urlencoded::parse(&asked.body)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let in_json = || match serde_json::from_slice::<Value>(&asked.body).ok()?.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        asked.parameter(name).or_else(in_json).or_else(in_form)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
