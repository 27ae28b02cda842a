//! `schema`: what files and events look like, for editors and other programs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

use super::{load_without_secrets, say_json, scratch::Scratch, wait};
use crate::{
    app, case,
    plugin::{self, InstanceOptions, Runner, Survey, trust},
    router,
    schema::Catalog,
};

/// Print a JSON Schema (2020-12).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Schema {
    /// Of what.
    #[arg(value_enum)]
    of: Of,
    /// For rules: where the plugins are that steps use, in place of the directory that the configuration names. Where there is
    /// no configuration, each of them is known by its own name.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Of {
    /// The common event: what rules match and plugins read.
    Event,
    /// The configuration file, `jackfield.toml`.
    Config,
    /// Rule files, with what each instance of the configuration takes as input.
    Routes,
    /// Files of cases, `*.case.toml`: events, and what the rules are to make of them.
    Case,
}

impl Schema {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        ensure!(
            self.plugins.is_none() || self.of == Of::Routes,
            "`--plugins` is for the schema of `routes`"
        );
        match self.of {
            Of::Event => say_json(&jackfield_event::schema()),
            Of::Config => say_json(&crate::config::schema()),
            Of::Routes => say_json(&router::schema(&self.catalog(config)?)),
            Of::Case => say_json(&case::schema()),
        }
    }

    /// What steps can use.
    fn catalog(self, config: &Path) -> anyhow::Result<Catalog> {
        let scratch = Scratch::new().context("no temporary directory can be made")?;
        if let Some(dir) = self.plugins.clone().filter(|_| !config.exists()) {
            return alone(dir, &scratch);
        }
        let mut options = app::plugin_options(&load_without_secrets(config)?);
        options.data_dir = scratch.path().to_owned();
        options.dir = self.plugins.or(options.dir);
        Ok(wait(Survey::take(options))?.catalog())
    }
}

/// The plugins in a directory that no configuration names.
fn alone(dir: PathBuf, scratch: &Scratch) -> anyhow::Result<Catalog> {
    let options = |instances| plugin::Options {
        dir: Some(dir.clone()),
        data_dir: scratch.path().to_owned(),
        work_root: scratch.path().to_owned(),
        runner: Runner::this(),
        trust: trust::Options::default(),
        instances,
        drain: plugin::DEFAULT_DRAIN,
    };
    let plugins = wait(Survey::take(options(Vec::new())))?.plugins();
    let names = plugins.iter().filter_map(|plugin| plugin.name.as_deref());
    // Those that need a configuration have an input all the same.
    let instances = names.map(InstanceOptions::plain).collect();
    Ok(wait(Survey::take(options(instances)))?.catalog())
}

const EXAMPLES: &str = "\
Editors take the schema of a TOML file from its first line:
  jackfield schema routes > routes.schema.json
  #:schema ./routes.schema.json             at the head of routes.toml
  jackfield schema case > case.schema.json
  #:schema ./case.schema.json               at the head of routes.case.toml";
