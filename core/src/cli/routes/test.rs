//! `routes test`: holds rules against the cases beside them.

mod junit;
mod report;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;

use super::super::{Output, Shape, load_without_secrets, say, say_json};
use crate::{
    case::{self, Case},
    config,
    fault::Faults,
    router::{Generation, RuleFile},
};

use report::{Report, Verdict};

/// Try the rules out on the cases beside them: which routes match, and what each step would be given; nothing is done.
///
/// Cases are the files `*.case.toml` beside the rules. Each is an event, or a request, which the provider's own adapter translates
/// as if it had been verified; the routes that match it, and no others; and of their steps, the inputs. What a step puts out,
/// later ones see as the case says it. What plugins would escape or refuse is no part of it. Exits with 0 where all is as the
/// cases say, with 1 where something is not, with 2 where there are none, and with 78 where rules or cases are faulty.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Test {
    /// Only cases with this in their name, or in that of their file.
    name: Option<String>,
    /// The rules: a file or a directory; by default those of the configuration.
    #[arg(long, value_name = "PATH")]
    routes: Option<PathBuf>,
    /// A file of cases, or a directory of such files; may be given several times. By default those beside the rules.
    #[arg(long, value_name = "PATH")]
    cases: Vec<PathBuf>,
    /// Rewrite what failing cases expect into what comes out, as far as it stands behind the rest of them; look through the
    /// difference before you keep it.
    #[arg(long)]
    update: bool,
    /// Write the report to this file as well, as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Test {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        let rules = match &self.routes {
            Some(rules) => rules.clone(),
            None => config::routes(config)?,
        };
        let files = self.files(&rules)?;
        let providers = providers(config);
        let (generation, mut cases) = load(&rules, &files, &providers)?;
        if self.update {
            cases.clear();
            for file in &files {
                cases.extend(case::update(file, &providers, &generation, |case| {
                    self.names(case)
                })?);
            }
        }
        let all = cases.len();
        let verdicts: Vec<_> = cases
            .into_iter()
            .filter(|case| self.names(case))
            .map(|case| Verdict {
                mismatches: case.judge(&generation),
                name: case.name,
                place: case.place,
            })
            .collect();
        if verdicts.is_empty() {
            eprintln!("error: {}", self.nothing(&rules, all));
            return Ok(ExitCode::from(USAGE));
        }
        let report = Report::of(verdicts, all);
        if let Some(file) = &self.junit {
            std::fs::write(file, junit::xml(&report))
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
        match self.output.output {
            Shape::Json => say_json(&report)?,
            Shape::Table => say(report.words())?,
        }
        Ok(match report.failed {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    fn files(&self, rules: &Path) -> Result<Vec<PathBuf>, Faults> {
        let beside = match self.cases.as_slice() {
            [] => std::slice::from_ref(&rules.to_owned()).to_vec(),
            cases => cases.to_vec(),
        };
        let mut files = Vec::new();
        for path in beside {
            match path.is_dir() || self.cases.is_empty() {
                true => files.extend(case::files(&path)?),
                // A file that is named is meant, whatever it is called.
                false => files.push(path),
            }
        }
        Ok(files.iter().map(|file| from_here(file)).collect())
    }

    fn names(&self, case: &Case) -> bool {
        let Some(name) = &self.name else {
            return true;
        };
        let file = Path::new(&case.place.file).file_name().unwrap_or_default();
        case.name.contains(name) || file.to_string_lossy().contains(name)
    }

    fn nothing(&self, rules: &Path, all: usize) -> String {
        match &self.name {
            Some(name) if all > 0 => {
                format!("none of {all} cases has `{name}` in its name, or in that of its file")
            }
            _ => format!(
                "there are no cases (`*.case.toml`) beside {}; `jackfield events capture evt_…` makes one of a stored event",
                from_here(rules).display()
            ),
        }
    }
}

/// Rules and cases, or all that is wrong with either.
fn load(
    rules: &Path,
    files: &[PathBuf],
    providers: &BTreeMap<String, String>,
) -> Result<(Generation, Vec<Case>), Faults> {
    let mut faults = Faults::new();
    // What they make of events depends on them alone, so that neither plugins nor secrets are asked for.
    let generation = RuleFile::load(rules).and_then(|files| Generation::compile(&files, None));
    let generation = faults.take(generation);
    let mut cases = Vec::new();
    for file in files {
        cases.extend(faults.take(Case::load(file, providers)).unwrap_or_default());
    }
    faults.give(generation.map(|generation| (generation, cases)))
}

/// The providers of the sources, where there is a configuration that can be read: rules can be tried out without one.
fn providers(config: &Path) -> BTreeMap<String, String> {
    let sources = load_without_secrets(config).map(|config| config.sources);
    let sources = sources.unwrap_or_default().into_iter();
    sources
        .map(|source| (source.name, source.options.provider))
        .collect()
}

/// A path in or below this directory as one would type it.
fn from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

/// The exit code of wrong usage: whoever tests nothing has not passed.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
A case, in tokens.case.toml beside routes.toml:
  [[case]]
  name = \"a finished export is fetched and told\"
  event.type = \"io.supernova.job.success\"
  event.data.title = \"Done\"
  event.data.artifacts = [{ url = \"https://a.example/1.zip\" }]

  [[case.route]]
  name = \"tokens\"
  [[case.route.step]]
  id = \"fetch\"
  with = { url = \"https://a.example/1.zip\" }
  output = { files = 3 }
  [[case.route.step]]
  id = \"slack\"
  with = { text = \"Done: 3 files\" }

Examples:
  jackfield events capture evt_… > tokens.case.toml     a case out of what happened
  jackfield routes test                                 all of them
  jackfield routes test tokens --junit report.xml       some of them, for a machine as well";
