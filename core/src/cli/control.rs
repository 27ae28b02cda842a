//! What goes to the running router through its control socket.

use std::{io::ErrorKind, path::Path};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use jackfield_event::DeliveryId;

use super::{
    Output, Shape,
    http::{Answer, exchange},
    say, say_json, wait,
};
use crate::{
    admin::{self, Problem, Replayed},
    app,
    journal::ReplayKeys,
};

/// Ask for something again.
///
/// A delivery is done again by the rules that it was made under, and only once it is settled. An event is routed
/// anew by today's rules, and each route that matches comes to owe a new delivery.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// A settled delivery (dlv_…) or a stored event (evt_…).
    id: String,
    /// Let every step act again. By default the steps of a replayed delivery keep their idempotency keys, so that what
    /// did happen does not happen twice.
    #[arg(long)]
    new_keys: bool,
    #[command(flatten)]
    output: Output,
}

impl Replay {
    pub(super) fn run(self, data_dir: &Path) -> anyhow::Result<()> {
        let keys = if self.new_keys {
            ReplayKeys::Renew
        } else {
            ReplayKeys::Keep
        };
        let request = serde_json::to_vec(&admin::Replay { id: self.id, keys })?;
        let answer = ask(data_dir, Method::POST, "/v1/replay", request)?;
        let replayed: Replayed = serde_json::from_slice(&answer)?;
        if self.output.output == Shape::Json {
            return say_json(&replayed);
        }
        if replayed.deliveries.is_empty() {
            say("no route matches the event today, so that nothing is owed")?;
        }
        for delivery in replayed.deliveries {
            say(format!(
                "{delivery}  is owed; `jackfield deliveries show {delivery}` follows it"
            ))?;
        }
        Ok(())
    }
}

/// Lets go of what waits behind a dead delivery.
pub(super) fn skip(data_dir: &Path, id: DeliveryId) -> anyhow::Result<()> {
    let request = serde_json::to_vec(&admin::Skip { id })?;
    ask(data_dir, Method::POST, "/v1/skip", request)?;
    Ok(say(format!(
        "{id}  is skipped and stays dead; what waited behind it goes on"
    ))?)
}

/// Whether a router runs whose data lies in `data_dir`.
pub(super) fn is_running(data_dir: &Path) -> anyhow::Result<bool> {
    let socket = app::socket(data_dir);
    match wait(admin::connect(&socket))? {
        Ok(_) => Ok(true),
        // What a router that was killed leaves behind refuses.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be reached", socket.display())),
    }
}

/// Asks the running router whose data lies in `data_dir`.
pub(super) fn ask(data_dir: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
    let socket = app::socket(data_dir);
    let Answer { status, body: answer } = wait(connect_and_ask(&socket, method, path, body))??;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    match serde_json::from_slice::<Problem>(&answer) {
        Ok(Problem {
            faults: Some(faults), ..
        }) => Err(faults.into()),
        Ok(problem) => Err(anyhow!("the router refused: {problem}")),
        Err(_) => bail!(
            "the router answered {status}: {}",
            String::from_utf8_lossy(&answer).trim()
        ),
    }
}

async fn connect_and_ask(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
    let stream = admin::connect(socket).await.with_context(|| {
        format!(
            "no router runs on {}; start it with `jackfield run`, then ask again",
            socket.parent().unwrap_or(socket).display()
        )
    })?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body)))?;
    exchange(stream, request).await
}
