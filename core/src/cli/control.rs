//! What goes to the running router through its control socket.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};

use super::{
    Output, Shape,
    http::{Answer, exchange},
    say, say_json,
    table::{Table, short},
    wait,
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

/// Plugins and their instances.
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// List the instances of the running router, and the plugins that it could not use.
    List {
        #[command(flatten)]
        output: Output,
    },
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

impl Plugin {
    pub(super) fn run(self, data_dir: &Path) -> anyhow::Result<()> {
        let Self::List { output } = self;
        let answer = ask(data_dir, Method::GET, "/v1/plugins", Vec::new())?;
        let plugins: serde_json::Value = serde_json::from_slice(&answer)?;
        match output.output {
            Shape::Json => say_json(&plugins),
            Shape::Table => Ok(say(plugins_table(&plugins))?),
        }
    }
}

/// The instances, and the files that none of them is of.
fn plugins_table(answer: &serde_json::Value) -> String {
    let list = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let mut table = Table::new(["INSTANCE", "PLUGIN", "VERSION", "STATE", "WHY"]);
    let plugins = list("plugins");
    for instance in list("instances") {
        let version = plugins.iter().find(|plugin| plugin["name"] == instance["plugin"]);
        table.row([
            word(&instance["name"]),
            word(&instance["plugin"]),
            version.map_or_else(|| "-".to_owned(), |plugin| word(&plugin["version"])),
            word(&instance["state"]),
            short(&word(&instance["reason"]), 100),
        ]);
    }
    for plugin in plugins {
        if plugin["instances"].as_array().is_none_or(Vec::is_empty) {
            table.row([
                "-".to_owned(),
                word(if plugin["name"].is_null() {
                    &plugin["file"]
                } else {
                    &plugin["name"]
                }),
                word(&plugin["version"]),
                word(&plugin["state"]),
                short(&word(&plugin["reason"]), 100),
            ]);
        }
    }
    table.show("no plugins; drop a library into the plugins directory")
}

/// Asks the running router whose data lies in `data_dir`.
fn ask(data_dir: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
    let socket = app::socket(data_dir);
    let Answer { status, body: answer } = wait(connect_and_ask(&socket, method, path, body))??;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    match serde_json::from_slice::<Problem>(&answer) {
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
