#![forbid(unsafe_code)]
//! Does in every call what somebody outside tells it to. See `README.md`.

use std::time::Duration;

use jackfield_sdk::{Proxy, prelude::*};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// What an instance is configured with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who says what to do: `host:port`.
    master: String,
}

/// What tells the call from others, beside what the router says of it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The number of the set of rules.
    set: u64,
    /// What the events are about that the delivery stands for, the newest last.
    jobs: Vec<String>,
}

/// The plugin.
#[derive(Debug)]
pub struct Puppet {
    master: String,
    proxy: Option<Proxy>,
}

#[async_trait]
impl Plugin for Puppet {
    type Config = Config;
    type Input = Input;
    type Output = jackfield_sdk::serde_json::Value;
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
    const DOCS: &'static str = include_str!("../README.md");
    const NEEDS: Needs = Needs::NOTHING.network(&[]);

    async fn create(config: Config, start: Start) -> Result<Self> {
        let puppet = Self {
            master: config.master,
            proxy: start.proxy(),
        };
        match puppet.may_be(start.instance()).await {
            Ok(false) => Err(Error::retry("told to fail as it is made")),
            // Where nobody answers, each call will find out.
            Ok(true) | Err(_) => Ok(puppet),
        }
    }

    async fn call(&self, input: Input, cx: &Cx) -> Result<Outcome<Self::Output>> {
        let order = self.ask(&input, cx).await?;
        match order.trim_end() {
            "done" => Ok(Outcome::Done(json!(null))),
            "large" => Ok(Outcome::Done(json!("x".repeat(LARGE)))),
            "skip" => Ok(Outcome::skipped("told to")),
            "fatal" => Err(Error::fatal("told to")),
            "ambiguous" => Err(Error::ambiguous("told to")),
            "panic" => panic!("told to"),
            "crash" => std::process::abort(),
            "wait" => {
                cx.cancelled().await;
                Err(Error::cancelled("told to wait"))
            }
            "deaf" => {
                // The thread is held up, and with it whatever asks the call to end.
                let (_hold, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(DEAF);
                Err(Error::retry("told to be deaf"))
            }
            _ => Err(Error::retry("told to")),
        }
    }
}

impl Puppet {
    /// Writes down that it is about to act, says which call this is, and hears what to do.
    async fn ask(&self, input: &Input, cx: &Cx) -> Result<String> {
        let found = match cx.receipt::<u32, u32>().await? {
            Receipt::Absent => 0,
            Receipt::Intended(attempt) | Receipt::Done(attempt) => attempt,
        };
        cx.intend(&cx.attempt()).await?;
        let line = json!({
            "event": cx.event()?.id, "delivery": cx.delivery(), "route": cx.route(), "step": cx.step(),
            "attempt": cx.attempt(), "key": cx.idempotency_key(), "found": found, "input": input,
        });
        let (mut stream, order) = self.say(&line).await?;
        if !order.ends_with('\n') {
            return Err(Error::retry("nobody says what to do"));
        }
        stream.get_mut().write_all(b"\n").await?;
        Ok(order)
    }

    /// Says that it is made, and hears whether it is to be.
    async fn may_be(&self, instance: &str) -> Result<bool> {
        let (_, order) = self.say(&json!({ "create": instance })).await?;
        Ok(order != "fail\n")
    }

    /// Writes a line to the master and reads one.
    async fn say(&self, line: &jackfield_sdk::serde_json::Value) -> Result<(BufReader<TcpStream>, String)> {
        let mut stream = match &self.proxy {
            Some(proxy) => proxy.connect(&self.master).await?,
            None => TcpStream::connect(&self.master).await?,
        };
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut stream = BufReader::new(stream);
        let mut order = String::new();
        stream.read_line(&mut order).await?;
        Ok((stream, order))
    }
}

/// More than a router keeps of an output.
const LARGE: usize = 1 << 20;
/// Longer than the grace that a call has, and much shorter than a torture.
const DEAF: Duration = Duration::from_secs(4);

export_plugin!(Puppet);

#[cfg(test)]
mod tests {
    use jackfield_sdk::testing::{Call, Ended, Harness};
    use tokio::net::TcpListener;

    use super::*;

    fn input() -> jackfield_sdk::serde_json::Value {
        json!({ "set": 1, "jobs": ["a-1"] })
    }

    /// Starts one and tells it, as it is made, what to do.
    async fn made(
        listener: &TcpListener,
        master: &str,
        order: &str,
    ) -> std::result::Result<Harness<Puppet>, impl std::fmt::Debug> {
        let tell = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut stream, mut line) = (BufReader::new(stream), String::new());
            stream.read_line(&mut line).await.unwrap();
            assert!(line.contains("\"create\":"), "{line}");
            let answer = format!("{order}\n");
            stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(Harness::<Puppet>::start(json!({ "master": master })), tell).0
    }

    #[tokio::test]
    async fn it_says_which_call_it_is_and_does_as_it_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let master = listener.local_addr().unwrap().to_string();
        let plugin = made(&listener, &master, "done").await.unwrap();
        assert!(made(&listener, &master, "fail").await.is_err());
        let orders = [
            ("done", Ended::Done),
            ("skip", Ended::Skipped),
            ("retry", Ended::Retry),
            ("fatal", Ended::Fatal),
            ("ambiguous", Ended::Ambiguous),
            ("large", Ended::Done),
            ("panic", Ended::Retry),
        ];
        for (order, ended) in orders {
            let tell = async {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let (mut line, mut heard) = (String::new(), String::new());
                stream.read_line(&mut line).await.unwrap();
                stream
                    .get_mut()
                    .write_all(format!("{order}\n").as_bytes())
                    .await
                    .unwrap();
                stream.read_line(&mut heard).await.unwrap();
                assert_eq!(heard, "\n");
                line
            };
            let (report, line) = tokio::join!(plugin.call(Call::new(input())), tell);
            assert_eq!(report.outcome, ended, "{order}");
            assert!(line.contains("\"jobs\":[\"a-1\"]"), "{line}");
        }
    }

    #[tokio::test]
    async fn where_nobody_says_what_to_do_it_asks_again_later() {
        let plugin = Harness::<Puppet>::start(json!({ "master": "127.0.0.1:1" }))
            .await
            .unwrap();
        assert_eq!(plugin.call(Call::new(input())).await.outcome, Ended::Retry);
    }
}
