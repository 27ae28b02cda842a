#![forbid(unsafe_code)]
//! For load runs and benchmarks: does nothing, or reports the id of every event to a socket. See `README.md`.

mod report;
mod stamp;

use jackfield_sdk::prelude::*;

use crate::report::{Address, Reporter};

/// What an instance is configured with.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = stamp::describe)]
pub struct Config {
    /// Where the ids of events go: `host:port`, or the absolute path of a Unix socket. Nowhere if it is left out.
    #[serde(default)]
    report_to: Option<Address>,
}

/// What a step gives: nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

/// The plugin.
#[derive(Debug)]
pub struct Counting(Option<Reporter>);

#[async_trait]
impl Plugin for Counting {
    type Config = Config;
    type Input = Input;
    type Output = ();
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
    const DOCS: &'static str = include_str!("../README.md");
    const NEEDS: Needs = Needs::NOTHING.network(&[]);
    // It does nothing, or waits for its socket.
    const INLINE: bool = true;

    async fn create(config: Config, start: Start) -> Result<Self> {
        stamp::refuses()?;
        Ok(Self(
            config
                .report_to
                .map(|address| Reporter::new(address, start.proxy())),
        ))
    }

    async fn call(&self, _input: Input, cx: &Cx) -> Result<Outcome<()>> {
        if let Some(reporter) = &self.0 {
            let id = cx.event()?.id.to_string();
            let line = match stamp::number() {
                Some(number) => format!("{id} {number}"),
                None => id,
            };
            reporter.report(&line).await?;
        }
        Ok(Outcome::Done(()))
    }
}

export_plugin!(Counting);

#[cfg(test)]
mod tests {
    use jackfield_sdk::testing::{Call, Ended, Harness, event};
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
        net::{TcpListener, UnixListener},
    };

    use super::*;

    /// Hears one line, and says that it has.
    async fn line(from: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
        let mut line = String::new();
        // Of one byte, so that nothing is read ahead and lost with the reader.
        BufReader::with_capacity(1, &mut *from)
            .read_line(&mut line)
            .await
            .unwrap();
        from.write_all(b"\n").await.unwrap();
        line
    }

    #[tokio::test]
    async fn without_an_address_nothing_happens() {
        let plugin = Harness::<Counting>::start(json!({})).await.unwrap();
        plugin.call(Call::new(json!({}))).await.done();
    }

    #[tokio::test]
    async fn every_call_reports_the_id_of_its_event_over_one_connection() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let plugin = Harness::<Counting>::start(json!({ "report_to": path }))
            .await
            .unwrap();
        let first = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            (line(&mut connection).await, connection)
        };
        let (ended, (heard, mut connection)) = tokio::join!(plugin.call(Call::new(json!({}))), first);
        ended.done();
        assert_eq!(heard, format!("{}\n", event().id));
        let (ended, heard) = tokio::join!(plugin.call(Call::new(json!({}))), line(&mut connection));
        ended.done();
        assert_eq!(heard, format!("{}\n", event().id));
    }

    #[tokio::test]
    async fn a_report_that_fails_is_retried_on_a_new_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let plugin = Harness::<Counting>::start(json!({ "report_to": address.to_string() }))
            .await
            .unwrap();
        assert_eq!(plugin.call(Call::new(json!({}))).await.outcome, Ended::Retry);
        let listener = TcpListener::bind(address).await.unwrap();
        let listening = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            line(&mut connection).await
        };
        let (ended, heard) = tokio::join!(plugin.call(Call::new(json!({}))), listening);
        ended.done();
        assert_eq!(heard, format!("{}\n", event().id));
    }
}
