//! `plugin list`: the plugins and instances of the running router.

use std::path::Path;

use clap::Args;
use hyper::Method;

use super::super::{
    Output, Shape,
    control::ask,
    say, say_json,
    table::{Table, short},
};

/// List the instances of the running router, and the plugins that it could not use.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    output: Output,
}

impl List {
    pub(super) fn run(self, data_dir: &Path) -> anyhow::Result<()> {
        let answer = ask(data_dir, Method::GET, "/v1/plugins", Vec::new())?;
        let plugins: serde_json::Value = serde_json::from_slice(&answer)?;
        match self.output.output {
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
