//! `plugin check`: tries a library out, and says what is wrong with it.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;
use jackfield_event::Event;

use super::super::{
    Output, Shape,
    given::Given,
    lists::time,
    say, say_json,
    scratch::Scratch,
    table::{paint, short},
    wait,
};
use crate::plugin::{
    Runner,
    check::{CheckError, Examination, Finding, Options, Verdict, examine},
};

/// Try a plugin out as a router would use it and worse, and say what is wrong with it.
///
/// It is read, loaded, described, started and ended, given configurations and inputs that do not fit, and called and cancelled
/// many times at once; each in a process of its own, so that a crash or a hang is one finding among others, and confined to what
/// the plugin says that it needs, as if a router granted all of that. No router is needed, nor a configuration of one. Exits with 0 if nothing failed, warnings or not, and with 1 if something did.
///
/// The calls are real: give an input whose effect you can bear 64 times, and with one field of it wrong, against an account of no
/// importance. Without one they are made only if the plugin takes the empty input.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Check {
    /// The library.
    #[arg(value_name = "FILE.so")]
    file: PathBuf,
    /// The configuration of its instances, as `[instance.config]` would be, with secrets written out. By default the empty one, if
    /// the plugin takes that.
    #[arg(long, value_name = "JSON|@FILE")]
    instance_config: Option<Given>,
    /// The input of its calls, as `with` of a step would be. By default the empty one, if the plugin takes that.
    #[arg(long, value_name = "JSON|@FILE")]
    input: Option<Given>,
    /// The event of its calls, in JSON, as `events show -o json` prints it. By default a screen version of Zeplin's.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// How long each of the processes may take.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    limit: Duration,
    #[command(flatten)]
    output: Output,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let scratch = Scratch::new().context("no temporary directory can be made")?;
        let options = Options {
            file: self.file,
            config: self.instance_config.map(|given| given.0),
            input: self.input.map(|given| given.0),
            event: event(self.event)?.into(),
            scratch: scratch.path().to_owned(),
            program: Runner::this().program,
            limit: self.limit,
        };
        let examination = match wait(examine(options))? {
            // Nothing is wrong with the plugin, but with what was typed.
            Err(error @ (CheckError::Config(_) | CheckError::Input(_))) => {
                eprintln!("error: {error}");
                return Ok(ExitCode::from(USAGE));
            }
            examined => examined?,
        };
        match self.output.output {
            Shape::Json => say_json(&examination)?,
            Shape::Table => say(report(&examination))?,
        }
        Ok(if examination.passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// The event in that file, or the sample.
pub(super) fn event(file: Option<PathBuf>) -> anyhow::Result<String> {
    let Some(file) = file else {
        return Ok(SAMPLE.to_owned());
    };
    let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    // What `events show -o json` prints has the event in it.
    let json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    let text = json
        .get("event")
        .filter(|event| event.is_object())
        .map_or(text, ToString::to_string);
    Event::from_json(text.as_bytes()).with_context(|| format!("{} is no event", file.display()))?;
    Ok(text)
}

/// For people: who it is, what each check found, and the sum.
fn report(examination: &Examination) -> String {
    let file = examination.file.display();
    let mut text = match &examination.plugin {
        Some(plugin) => format!("{} {}  {file}\n\n", plugin.name, plugin.version),
        None => format!("{file}\n\n"),
    };
    let wide = examination
        .checks
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    for Finding {
        check,
        verdict,
        found,
        next,
    } in &examination.checks
    {
        // Padded before it is painted: colours take no room.
        let word = paint(&format!("{:<7}", verdict.word()), colour(*verdict));
        text += &format!("  {word}  {check:<wide$}  {}\n", short(found, LONGEST));
        if let Some(next) = next {
            text += &format!("  {:7}  {:wide$}  next: {next}\n", "", "");
        }
    }
    text + "\n" + &sum(examination)
}

/// How many of each.
fn sum(examination: &Examination) -> String {
    let verdicts = [
        Verdict::Failed,
        Verdict::Warning,
        Verdict::Skipped,
        Verdict::Passed,
    ];
    let count = |verdict: Verdict| {
        let those = examination
            .checks
            .iter()
            .filter(|finding| finding.verdict == verdict);
        those.count()
    };
    let counts = verdicts.map(|verdict| (count(verdict), verdict));
    let words = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, verdict)| {
            let plural = if *verdict == Verdict::Warning && *count > 1 {
                "s"
            } else {
                ""
            };
            format!("{count} {}{plural}", verdict.word())
        });
    words.collect::<Vec<_>>().join(", ")
}

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "32",
        Verdict::Warning => "33",
        Verdict::Failed => "31",
        Verdict::Skipped => "90",
    }
}

/// The exit code of wrong usage, as that of the arguments' own reader.
const USAGE: u8 = 2;
/// A plugin may have much to say.
const LONGEST: usize = 600;
const SAMPLE: &str = include_str!("check/event.json");
const EXAMPLES: &str = "\
Examples:
  jackfield plugin check target/release/libhello.so
  jackfield plugin check libhello.so --input '{\"name\": \"Ada\"}'           calls, too
  jackfield plugin check libhello.so --instance-config @config.json
  jackfield plugin check libhello.so -o json                           for CI";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_an_event() {
        assert!(Event::from_json(SAMPLE.as_bytes()).is_ok());
    }
}
