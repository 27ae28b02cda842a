//! `check`: everything that is wrong, at once, and otherwise what would run.

use std::path::Path;

use anyhow::Context;

use super::{load, salvage, say, scratch::Scratch, table::Table, wait};
use crate::{
    app::{self, FirstRules},
    config::{self, Config, Source},
    delivery::Phase,
    fault::{Fault, Faults},
    journal::{GenerationRecord, History, OpenError},
    plugin::{InstanceRecord, PluginRecord, PluginState, Survey},
    provider::Way,
    router::{Generation, GenerationId, RuleFile},
};

pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let config = load(path).map_err(|faults| and_all_else(faults, path))?;
    let (survey, generation) = examine(&config)?;
    Ok(say(summary(&config, &survey, &generation?))?)
}

/// The `faults` of the configuration at `path`, and all else that is wrong beside it; but not what would only follow from them.
fn and_all_else(mut faults: Faults, path: &Path) -> Faults {
    // That a secret is not at hand is a fault, but keeps nobody from the rest.
    match salvage(path).map(|config| examine(&config)) {
        Some(Ok((_, generation))) => {
            faults.take(generation);
            return faults;
        }
        Some(Err(error)) => faults.push(Fault::new(format!("the plugins cannot be looked at: {error:#}"))),
        None => {}
    }
    // Without all instances, or a look at the plugins, rules can still be told what is no rule.
    and_of_rules(faults, path)
}

/// The `faults` of the configuration at `path`, and what is no rule, whatever plugins there are.
///
/// It is all that `run` tells: it loads no plugin before it can start, and goes on without one that is missing.
pub(super) fn and_of_rules(mut faults: Faults, path: &Path) -> Faults {
    let rules = config::routes(path).and_then(|routes| RuleFile::load(&routes));
    faults.take(rules.and_then(|files| Generation::compile(&files, None)));
    faults
}

/// The plugins that there are, and the rules; or all that is wrong with either.
fn examine(config: &Config) -> anyhow::Result<(Survey, Result<Generation, Faults>)> {
    let survey = survey(config)?;
    let catalog = survey.catalog();
    let mut faults = parked(&survey);
    faults.extend(providers(config, &survey));
    faults.take(app::limits(&config.limits, &catalog));
    let generation = faults.take(app::rules(&config.routes, &catalog));
    Ok((survey, faults.give(generation)))
}

/// Whether a router would start on this configuration and this journal, whatever plugins it would park and go on without.
pub(super) fn would_start(config: &Config) -> anyhow::Result<()> {
    let files = RuleFile::load(&config.routes)?;
    let rules = match app::history(&config.data_dir) {
        Ok(history) => {
            let id = GenerationId::of_files(&files);
            wait(FirstRules::after(&*history, files, &id))??
        }
        // There is none yet, or a start brings it up to date first.
        Err(OpenError::Missing(_) | OpenError::Older { .. }) => FirstRules::alone(files),
        Err(error) => return Err(error.into()),
    };
    let catalog = survey(config)?.catalog();
    let mut faults = Faults::new();
    faults.take(app::limits(&config.limits, &catalog));
    let generation = faults.take(rules.compile(&catalog));
    Ok(faults.give(generation).map(drop)?)
}

fn survey(config: &Config) -> anyhow::Result<Survey> {
    let mut options = app::plugin_options(config);
    // Private copies of plugins go into a directory of our own: the router's may be another user's, or not be there yet.
    let scratch = Scratch::new().context("no temporary directory can be made")?;
    options.data_dir = scratch.path().to_owned();
    wait(Survey::take(options))
}

/// What the router would park and go on without is a fault to whoever checks.
fn parked(survey: &Survey) -> Faults {
    let mut faults = Faults::new();
    for InstanceRecord { name, state, .. } in survey.instances() {
        if let PluginState::Parked { reason } = state {
            faults.push(Fault::new(format!("instance `{name}` cannot run: {reason}")));
        }
    }
    for PluginRecord { state, instances, .. } in survey.plugins() {
        if let PluginState::Parked { reason } = state
            && instances.is_empty()
        {
            faults.push(Fault::new(reason));
        }
    }
    faults
}

/// A source whose provider is a plugin that is not there, or is none, refuses everything.
fn providers(config: &Config, survey: &Survey) -> Faults {
    let mut faults = Faults::new();
    for source in &config.sources {
        let Way::Plugin(foreign) = &source.provider else {
            continue;
        };
        let (name, instance) = (&source.name, foreign.instance());
        match survey.is_provider(instance) {
            Some(true) => {}
            Some(false) => faults.push(Fault::new(format!(
                "source `{name}`: its provider `plugin:{instance}` is an instance of a plugin without the capability `provider`"
            ))),
            None => faults.push(
                Fault::new(format!(
                    "source `{name}`: its provider `plugin:{instance}` names no instance that can run"
                ))
                .help("drop the plugin into the plugins directory, or add an `[[instance]]` of that name"),
            ),
        }
    }
    faults
}

/// The rollback by which a start would put other rules in force than those of the files, where there is one.
fn rollback(history: &dyn History, files: &GenerationId) -> anyhow::Result<Option<GenerationRecord>> {
    let last = wait(history.generations(1))??.pop();
    Ok(last.filter(|last| last.displaced.as_ref() == Some(files)))
}

/// The same, in words.
fn rolled_back(config: &Config, generation: &Generation) -> Option<String> {
    // Where there is no journal yet, or it cannot be read, a start says so itself.
    let history = app::history(&config.data_dir).ok()?;
    let GenerationRecord { id, .. } = rollback(&*history, generation.id()).ok()??;
    Some(format!(
        "By a rollback, generation {id} is in force in place of these rules, until they change or `jackfield routes reload`."
    ))
}

fn summary(config: &Config, survey: &Survey, generation: &Generation) -> String {
    let mut sources = Table::new(["SOURCE", "PROVIDER", "ADDRESS"]);
    for source in &config.sources {
        sources.row([
            source.name.clone(),
            source.options.provider.clone(),
            format!("POST {}", address(config, source)),
        ]);
    }
    let mut instances = Table::new(["INSTANCE", "PLUGIN"]);
    for InstanceRecord { name, plugin, .. } in survey.instances() {
        instances.row([name, plugin]);
    }
    let mut routes = Table::new(["ROUTE", "STEPS", "ON FAILURE"]);
    for route in generation.routes() {
        let steps = |phase| {
            let steps: Vec<_> = route
                .steps(phase)
                .iter()
                .map(|step| step.instance().to_owned())
                .collect();
            if steps.is_empty() {
                "-".to_owned()
            } else {
                steps.join(" → ")
            }
        };
        routes.row([
            route.name().to_owned(),
            steps(Phase::Steps),
            steps(Phase::OnFailure),
        ]);
    }
    let idle: Vec<_> = survey
        .plugins()
        .into_iter()
        .filter_map(|plugin| match plugin.state {
            PluginState::Idle { reason } => Some(format!("{} is not used: {reason}", plugin.file.display())),
            PluginState::Loaded | PluginState::Parked { .. } => None,
        })
        .collect();
    let paragraphs = [
        sources.show("no sources"),
        instances.show("no instances"),
        routes.show("no routes"),
        idle.join("\n"),
        unindexed(generation),
        format!(
            "All is well. Data in {}, generation {}.",
            config.data_dir.display(),
            generation.id()
        ),
        rolled_back(config, generation).unwrap_or_default(),
    ];
    let paragraphs: Vec<_> = paragraphs.into_iter().filter(|text| !text.is_empty()).collect();
    paragraphs.join("\n\n")
}

/// Where the requests of a source come in.
fn address(config: &Config, source: &Source) -> String {
    let scheme = match config.listen.tls {
        Some(_) => "https",
        None => "http",
    };
    let token = match source.options.path_token {
        Some(_) => "/<token>",
        None => "",
    };
    format!("{scheme}://{}/in/{}{token}", config.listen.address, source.name)
}

/// A warning of routes that cost something with every event; empty where there are none.
fn unindexed(generation: &Generation) -> String {
    let names = generation.unindexed().map(|route| format!("`{}`", route.name()));
    match names.collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        names => format!(
            "Warning: no value leads to {}. Such a pattern only asks whether there is a value, or for any but some, so \
             that it is held against nearly every event. A few of them cost nothing to speak of, thousands do.",
            names.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::RuleFile;

    fn warning(patterns: &[&str]) -> String {
        let routes = patterns.iter().enumerate().map(|(number, pattern)| {
            format!(
                "[[route]]\nname = \"r{number}\"\nwhen = {{ {pattern} }}\n[[route.step]]\nuse = \"slack\"\n"
            )
        });
        let file = RuleFile {
            name: "routes.toml".to_owned(),
            text: routes.collect(),
        };
        let generation = Generation::compile(&[file], None).unwrap_or_else(|faults| panic!("{faults}"));
        unindexed(&generation)
    }

    #[test]
    fn an_address_says_whether_tls_is_spoken_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("jackfield.toml");
        let door = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/door/first");
        let tls = format!("[listen.tls]\ncertificate = \"{door}.pem\"\nkey = \"{door}.key.pem\"\n");
        for (tls, expected) in [
            ("", "http://127.0.0.1:8080/in/builds/<token>"),
            (&tls, "https://127.0.0.1:8080/in/builds/<token>"),
        ] {
            let text = format!(
                "data_dir = \"data\"\nroutes = \"routes.toml\"\n[listen]\naddress = \"127.0.0.1:8080\"\n{tls}\
                 [[source]]\nname = \"builds\"\nprovider = \"appflow\"\npath_token = {{ env = \"TOKEN\" }}\n"
            );
            std::fs::write(&file, text).unwrap();
            let config = Config::load(&file, &|_| Some("t0ken".to_owned())).unwrap();
            assert_eq!(address(&config, &config.sources[0]), expected);
        }
    }

    #[test]
    fn routes_that_every_event_is_held_against_are_told() {
        let indexed = [
            "type = [\"a\"]",
            "type = [{ prefix = \"a\" }], subject = [{ exists = false }]",
        ];
        assert_eq!(warning(&indexed), "");
        let shown = warning(&[
            "type = [\"a\"]",
            "subject = [{ exists = true }]",
            "subject = [{ exists = false }], type = [{ anything-but = \"a\" }]",
            "type = [\"a\", { exists = false }]",
            "type = [\"a\", { wildcard = \"*\" }]",
        ]);
        insta::assert_snapshot!(shown, @"Warning: no value leads to `r1`, `r2`, `r3`, `r4`. Such a pattern only asks whether there is a value, or for any but some, so that it is held against nearly every event. A few of them cost nothing to speak of, thousands do.");
    }
}
