//! `plugin list`: plugins and instances, and how they are.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use hyper::Method;

use super::super::{
    Output, Shape,
    control::{ask, is_running},
    load_without_secrets, say, say_json,
    scratch::Scratch,
    table::{Table, paint, short, until},
    wait,
};
use crate::{
    admin::{InstanceListed, Listed},
    app,
    config::data_dir,
    plugin::{Isolation, PluginRecord, PluginState, Survey, Vitals, unenforced},
};

/// List the instances, and the plugins that none of them is of: their state, their code, and how they do.
///
/// Of a running router, GEN is the generation of the plugin's code that is in use; CALLS, FAILED and RESTARTS are those of the
/// instance since the router started, whatever code was in use; NOW are the calls in flight; PID is the worker process. Without
/// a router it is said what one would start.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    output: Output,
}

impl List {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let data_dir = data_dir(config)?;
        let runs = is_running(&data_dir)?;
        let listed = if runs {
            serde_json::from_slice(&ask(&data_dir, Method::GET, "/v1/plugins", Vec::new())?)?
        } else {
            survey(config)?
        };
        match self.output.output {
            Shape::Json => say_json(&listed),
            Shape::Table => {
                if !runs {
                    eprintln!("no router runs on {}; one would have:", data_dir.display());
                }
                Ok(say(table(&listed))?)
            }
        }
    }
}

/// What a router would have.
fn survey(config: &Path) -> anyhow::Result<Listed> {
    let mut options = app::plugin_options(&load_without_secrets(config)?);
    let scratch = Scratch::new().context("no temporary directory can be made")?;
    options.data_dir = scratch.path().to_owned();
    let survey = wait(Survey::take(options))?;
    let instances = survey.instances().into_iter();
    Ok(Listed {
        plugins: survey.plugins(),
        instances: instances
            .map(|record| InstanceListed {
                record,
                down: None,
                rests: None,
                vitals: None,
            })
            .collect(),
        unenforced: unenforced().into_iter().map(str::to_owned).collect(),
    })
}

/// The instances, and the files that none of them is of.
fn table(listed: &Listed) -> String {
    let mut table = Table::new([
        "INSTANCE",
        "PLUGIN",
        "VERSION",
        "GEN",
        "DIGEST",
        "STATE",
        "ISOLATION",
        "CALLS",
        "FAILED",
        "NOW",
        "RESTARTS",
        "PID",
        "WHY",
    ]);
    for InstanceListed {
        record,
        down,
        rests,
        vitals,
    } in &listed.instances
    {
        let of = listed
            .plugins
            .iter()
            .find(|plugin| plugin.name.as_ref() == Some(&record.plugin));
        let [calls, failed, now, restarts, process] = numbers(vitals.as_ref());
        table.row([
            record.name.clone(),
            record.plugin.clone(),
            version(of),
            generation(of),
            digest(of),
            match (down, rests) {
                (Some(_), _) => paint("down", "31"),
                (None, Some(_)) => paint("resting", "33"),
                (None, None) => state(&record.state),
            },
            isolation(record.isolation).to_owned(),
            calls,
            failed,
            now,
            restarts,
            process,
            match (down, rests) {
                (Some(why), _) => short(why, 100),
                (None, Some(rest)) => format!("{} (due {})", short(&rest.detail, 100), until(rest.until)),
                (None, None) => why(&record.state, of),
            },
        ]);
    }
    for plugin in listed.plugins.iter().filter(|plugin| plugin.instances.is_empty()) {
        let name = plugin
            .name
            .clone()
            .unwrap_or_else(|| plugin.file.display().to_string());
        let [calls, failed, now, restarts, process] = numbers(None);
        table.row([
            nothing(),
            name,
            version(Some(plugin)),
            generation(Some(plugin)),
            digest(Some(plugin)),
            state(&plugin.state),
            nothing(),
            calls,
            failed,
            now,
            restarts,
            process,
            why(&plugin.state, Some(plugin)),
        ]);
    }
    let mut shown = table.show("no plugins; drop a library into the plugins directory");
    for part in &listed.unenforced {
        shown += &format!("\nnot enforced by this kernel: {part}");
    }
    shown
}

fn numbers(vitals: Option<&Vitals>) -> [String; 5] {
    let Some(vitals) = vitals else {
        return [(); 5].map(|()| nothing());
    };
    let number = |number: Option<u64>| number.map_or_else(nothing, |number| number.to_string());
    [
        vitals.calls.to_string(),
        vitals.failures.to_string(),
        vitals.in_flight.to_string(),
        number(vitals.restarts),
        number(vitals.process.map(u64::from)),
    ]
}

fn version(plugin: Option<&PluginRecord>) -> String {
    plugin
        .and_then(|plugin| plugin.version.clone())
        .unwrap_or_else(nothing)
}

fn generation(plugin: Option<&PluginRecord>) -> String {
    let generation = plugin.and_then(|plugin| plugin.generation);
    generation.map_or_else(nothing, |generation| generation.to_string())
}

/// Enough of it to tell one from another.
fn digest(plugin: Option<&PluginRecord>) -> String {
    let digest = plugin.and_then(|plugin| plugin.digest);
    digest.map_or_else(nothing, |digest| digest.to_string()[..12].to_owned())
}

fn state(state: &PluginState) -> String {
    match state {
        PluginState::Loaded => paint("loaded", "32"),
        PluginState::Idle { .. } => paint("idle", "90"),
        PluginState::Parked { .. } => paint("parked", "31"),
    }
}

fn isolation(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Process => "process",
        Isolation::None => "none",
    }
}

/// Why it is not in use; or else why what lies in its place is not, or what is unusual about it.
fn why(state: &PluginState, plugin: Option<&PluginRecord>) -> String {
    let warnings = || {
        plugin
            .map(|plugin| plugin.warnings.join("; "))
            .filter(|words| !words.is_empty())
    };
    let refused = || {
        let refused = plugin?.refused.as_ref()?;
        Some(format!("not replaced: {}", refused.reason))
    };
    let words = state
        .reason()
        .map(str::to_owned)
        .or_else(refused)
        .or_else(warnings);
    words.map_or_else(nothing, |words| short(&words, 100))
}

fn nothing() -> String {
    "-".to_owned()
}
