#![forbid(unsafe_code)]
#![expect(
    missing_docs,
    missing_debug_implementations,
    reason = "nobody but its own tests sees its types, and they write them in JSON"
)]
//! A plugin that does whatever its input asks for. `trial.c` beside it does the same in C.

mod asking;
mod panics;
mod requests;
mod waiting;

use std::{sync::Arc, time::Duration};

use jackfield_sdk::{
    __private::AsPlugin,
    prelude::*,
    provider::{Request, Verdict},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::Instant,
};

use panics::Place;
use requests::Requests;
use waiting::Bell;

/// What an instance is configured with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Why the instance is not to start.
    #[serde(default)]
    refuse: Option<String>,
    /// Where the instance is to panic.
    #[serde(default)]
    panic: Option<Place>,
    /// A secret.
    #[serde(default)]
    token: Option<Secret>,
}

/// What to do, and with what.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Which of all that it can do.
    act: Act,
    /// The port of loopback to connect to.
    #[serde(default)]
    port: u16,
    /// How many bytes, or requests, there are to be.
    #[serde(default)]
    size: usize,
    /// A text to do it with.
    #[serde(default)]
    text: String,
    /// Any value.
    #[serde(default)]
    value: Value,
}

/// What it can do.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    Done,
    Skip,
    Retry,
    Fatal,
    Invalid,
    Ambiguous,
    /// Fail with the text.
    Say,
    /// Put the value out.
    Echo,
    /// Tell the length and the sum of the bytes of the event, and those of the text.
    Measure,
    /// Put out a text of that size.
    Large,
    /// Tell how many milliseconds are left.
    Left,
    /// Tell the server at that port of the call, and put out what it answers.
    Connect,

    Panic,
    PanicLate,
    PanicInTask,
    PanicWithBomb,
    /// Keep a receipt of the intent, and panic.
    IntendAndPanic,
    /// Wait for ever, and panic when that is over.
    Bomb,

    /// Wait to be canceled, and be.
    Wait,
    /// Wait to be canceled, and be done all the same.
    Tidy,
    /// Look for nothing but the flag.
    Hog,
    /// Wait for `wake`, and heed nothing else.
    Deaf,
    /// Wait for `wake` on a thread where that is allowed.
    Block,
    Wake,

    Keep,
    Brief,
    KeepLarge,
    KeepAt,
    Forget,
    Burst,
    Late,
    Receipt,
    Secret,
    Emit,
    Log,
    /// Log a line within spans. Only in Rust.
    LogWithin,
    /// Log a line of that size.
    Shout,
    /// Take memory until there is none, or more than a machine can bear.
    Leak,
}

/// An instance.
pub struct Trial {
    token: Option<Secret>,
    proxy: Option<jackfield_sdk::Proxy>,
    bell: Arc<Bell>,
    panic: Option<Place>,
    requests: AsPlugin<Requests>,
}

#[async_trait]
impl Plugin for Trial {
    type Config = Config;
    type Input = Input;
    type Output = Value;
    const NAME: &'static str = "trial";
    const VERSION: &'static str = "1.0.0";
    const DESCRIPTION: &'static str = "Does whatever its input asks for";
    const NEEDS: Needs = Needs::NOTHING.work().network(&[]);
    // For ever: a canceled call ends when it wants to, or never.
    const CANCEL_GRACE: Duration = Duration::from_secs(1 << 32);
    // The package `inline` has the same source, and this besides.
    const INLINE: bool = matches!(env!("CARGO_PKG_NAME").as_bytes(), b"inline-plugin");
    // Both at once, which the ABI allows, and the SDK's authors do without.
    const CAPABILITIES: &'static [&'static str] = &["action", "provider"];

    async fn create(config: Config, start: Start) -> Result<Self> {
        Place::Create.reached(config.panic);
        match config.refuse {
            Some(why) => Err(Error::invalid(why)),
            None => Ok(Self {
                token: config.token,
                proxy: start.proxy(),
                bell: Arc::default(),
                panic: config.panic,
                requests: AsPlugin::create(Empty {}, start).await?,
            }),
        }
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Value>> {
        let bell = &*self.bell;
        let output = match input.act {
            Act::Done => told(cx).await?,
            Act::Skip => return Ok(Outcome::skipped("nothing to do")),
            Act::Retry => return Err(Error::retry("not now").after(Duration::from_millis(1500))),
            Act::Fatal => return Err(Error::fatal("never")),
            Act::Invalid => return Err(Error::invalid("not like this")),
            Act::Ambiguous => return Err(Error::ambiguous("who knows")),
            Act::Say => return Err(Error::fatal(input.text)),
            Act::Echo => input.value,
            Act::Measure => {
                json!({ "event": measured(cx.event_json()), "text": measured(input.text.as_bytes()) })
            }
            Act::Large => json!("a".repeat(input.size)),
            Act::Left => json!(left(cx)),
            Act::Connect => json!(connect(self.proxy.as_ref(), input.port, cx.idempotency_key()).await?),

            Act::Panic => panic!("on purpose"),
            Act::PanicLate => panics::late().await,
            Act::PanicInTask => panics::in_task().await,
            Act::PanicWithBomb => panics::with_bomb(),
            Act::IntendAndPanic => panics::after_intent(cx).await?,
            Act::Bomb => panics::when_dropped(cx).await,

            Act::Wait => return waiting::until_cancelled(cx).await,
            Act::Tidy => waiting::tidy(cx).await?,
            Act::Hog => return waiting::hog(cx).await,
            Act::Deaf => bell.wait_here(cx).await,
            Act::Block => Bell::wait_aside(&self.bell, cx).await?,
            Act::Wake => bell.ring(),

            Act::Keep => asking::keep(cx).await?,
            Act::Brief => asking::keep_briefly(cx).await?,
            Act::KeepLarge => asking::keep_large(cx, input.size).await?,
            Act::KeepAt => asking::keep_at(cx, &input.text).await?,
            Act::Forget => asking::forget(cx).await?,
            Act::Burst => asking::burst(cx, input.size).await?,
            Act::Late => asking::late(cx, &self.bell),
            Act::Receipt => asking::receipt(cx).await?,
            Act::Secret => asking::secret(cx, self.token.as_ref()).await?,
            Act::Emit => asking::emit(cx).await?,
            Act::Log => asking::log(cx),
            Act::LogWithin => asking::log_within().await,
            Act::Shout => asking::shout(input.size),
            Act::Leak => {
                let blocks: Vec<_> = (0..64).map(|_| vec![1_u8; 16 << 20]).collect();
                json!(blocks.len())
            }
        };
        Ok(Outcome::Done(output))
    }

    async fn receive(&self, request: &Request<'_>) -> Result<Verdict> {
        self.requests.receive(request).await
    }

    async fn shutdown(&self) {
        Place::Shutdown.reached(self.panic);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        Place::Drop.reached(self.panic);
    }
}

/// Leaves a file with the event's type, and says what the call is about.
async fn told(cx: &Cx) -> Result<Value> {
    let kind = &cx.event()?.kind;
    tokio::fs::write(cx.workdir()?.join("trace"), kind.as_bytes()).await?;
    Ok(json!({
        "delivery": cx.delivery(), "route": cx.route(), "step": cx.step(), "attempt": cx.attempt(),
        "key": cx.idempotency_key()
    }))
}

fn measured(bytes: &[u8]) -> Value {
    let sum = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    json!([bytes.len(), sum])
}

fn left(cx: &Cx) -> u128 {
    let left = cx.deadline().map(|deadline| deadline - Instant::now());
    left.unwrap_or_default().as_millis()
}

async fn connect(proxy: Option<&jackfield_sdk::Proxy>, port: u16, name: &str) -> Result<String> {
    let address = format!("127.0.0.1:{port}");
    let mut stream = match proxy {
        Some(proxy) => proxy.connect(&address).await?,
        None => TcpStream::connect(&address).await?,
    };
    stream.write_all(format!("{name}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    Ok(answer.trim_end().to_owned())
}

export_plugin!(Trial);
