#![forbid(unsafe_code)]
//! A plugin that does whatever its input asks for. `trial.c` beside it does the same in C.

use std::time::Duration;

use jackfield_sdk::{NewEvent, prelude::*};
use serde_json::Value;
use tokio::sync::Notify;

/// What an instance is configured with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Why the instance is not to start.
    #[serde(default)]
    refuse: Option<String>,
    /// A secret.
    #[serde(default)]
    token: Option<Secret>,
}

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Which of all that it can do.
    act: Act,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Act {
    Done,
    Skip,
    Retry,
    Fatal,
    Invalid,
    Ambiguous,
    Panic,
    /// Wait to be canceled, and be.
    Wait,
    /// Wait for `wake`, and heed nothing else.
    Deaf,
    Wake,
    Keep,
    Receipt,
    Secret,
    Emit,
    Log,
    /// Take memory until there is none, or more than a machine can bear.
    Leak,
}

struct Trial {
    token: Option<Secret>,
    wake: Notify,
}

#[async_trait]
impl Plugin for Trial {
    type Config = Config;
    type Input = Input;
    type Output = Value;
    const NAME: &'static str = "trial";
    const VERSION: &'static str = "1.0.0";
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
    // For ever: a canceled call ends when it wants to, or never.
    const CANCEL_GRACE: Duration = Duration::from_secs(1 << 32);

    async fn create(config: Config, _start: Start) -> Result<Self> {
        match config.refuse {
            Some(why) => Err(Error::invalid(why)),
            None => Ok(Self {
                token: config.token,
                wake: Notify::new(),
            }),
        }
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Value>> {
        let output = match input.act {
            Act::Done => {
                let file = cx.workdir()?.join("trace");
                tokio::fs::write(file, cx.event()?.kind.as_bytes()).await?;
                json!({
                    "delivery": cx.delivery(), "route": cx.route(), "step": cx.step(), "attempt": cx.attempt(),
                    "key": cx.idempotency_key()
                })
            }
            Act::Skip => return Ok(Outcome::skipped("nothing to do")),
            Act::Retry => return Err(Error::retry("not now").after(Duration::from_millis(1500))),
            Act::Fatal => return Err(Error::fatal("never")),
            Act::Invalid => return Err(Error::invalid("not like this")),
            Act::Ambiguous => return Err(Error::ambiguous("who knows")),
            Act::Panic => panic!("on purpose"),
            Act::Wait => {
                cx.cancelled().await;
                return Err(Error::cancelled("stopped"));
            }
            Act::Deaf => {
                cx.metric("deaf_total", &[], 1.0);
                self.wake.notified().await;
                Value::Null
            }
            Act::Wake => {
                self.wake.notify_one();
                Value::Null
            }
            Act::Keep => keep(cx).await?,
            Act::Receipt => receipt(cx).await?,
            Act::Secret => self.secret(cx).await?,
            Act::Emit => json!(cx.emit("first", &NewEvent::new("com.example.trial")).await?),
            Act::Log => {
                tracing::warn!(kind = "trial", "a line of {}", cx.step());
                tracing::trace!("a line that nobody wants");
                cx.metric("trials_total", &[("kind", "log")], 2.0);
                Value::Null
            }
            Act::Leak => {
                let blocks: Vec<_> = (0..64).map(|_| vec![1_u8; 16 << 20]).collect();
                json!(blocks.len())
            }
        };
        Ok(Outcome::Done(output))
    }
}

impl Trial {
    async fn secret(&self, cx: &Cx) -> Result<Value> {
        let named = cx.secret("/token").await?;
        let same = self
            .token
            .as_ref()
            .is_some_and(|token| token.expose() == named.expose());
        let missing = cx.secret("/missing").await.is_err();
        Ok(json!({ "same": same, "missing": missing }))
    }
}

async fn keep(cx: &Cx) -> Result<Value> {
    let kv = cx.kv();
    kv.put("cursor", "17").await?;
    let kept = kv
        .get("cursor")
        .await?
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    kv.delete("cursor").await?;
    let gone = kv.get("cursor").await?.is_none();
    Ok(json!({ "kept": kept, "gone": gone }))
}

async fn receipt(cx: &Cx) -> Result<Value> {
    match cx.receipt::<Value, Value>().await? {
        Receipt::Absent => {
            cx.intend(&json!({ "about": "to" })).await?;
            Ok(json!("absent"))
        }
        Receipt::Intended(_) => {
            cx.record(&json!({ "has": "been" })).await?;
            Ok(json!("intended"))
        }
        Receipt::Done(_) => Ok(json!("done")),
    }
}

export_plugin!(Trial);
