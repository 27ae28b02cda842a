//! The command line: what a person types, and what they read.
//!
//! Lists read the journal directly and read-only, which works while the router runs and when it is down. Writes go
//! to the running router through its control socket, since only one process may write. Whatever goes out on
//! standard output is the answer; logs, errors and faults go to standard error. `-o json` prints what is listed as
//! JSON. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a plan that changes something, 78 invalid configuration.

mod backup;
mod capture;
mod check;
mod control;
mod explain;
mod given;
mod http;
mod lists;
mod plugin;
mod progress;
mod replay;
mod routes;
mod samples;
mod schema;
mod scratch;
mod send;
mod settle;
mod show;
mod table;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    app,
    config::{self, Config},
    fault::Faults,
    journal::History,
    telemetry::{self, Format},
};

/// Receives webhooks, keeps them, and routes them to plugins.
///
/// A 200 means that the event is on disk, and from there every route that it owes is carried out, or is lying in
/// front of you with the reason why not.
#[derive(Debug, Parser)]
#[command(name = "jackfield", version, max_term_width = 100, after_help = START)]
pub struct Cli {
    /// The configuration file; by default what JACKFIELD_CONFIG names, or else jackfield.toml here.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the router until SIGTERM or Ctrl-C, which drain it; a second Ctrl-C ends it at once.
    Run(Run),
    /// Check configuration, routes and plugins, and say what would run. Exits with 78 on faults.
    Check,
    /// Play a provider: sign a payload as it would and post it to a source.
    Send(send::Send),
    /// What came in.
    #[command(subcommand)]
    Events(lists::Events),
    /// What is owed, and what came of it.
    #[command(subcommand)]
    Deliveries(lists::Deliveries),
    /// Deliveries that were given up.
    #[command(subcommand)]
    Dead(lists::Dead),
    /// Requests that were refused.
    #[command(subcommand)]
    Refused(lists::Refused),
    Replay(Box<replay::Replay>),
    /// Plugins and their instances.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Rules: those in force, others in their place, and what they make of an event.
    #[command(subcommand)]
    Routes(routes::Routes),
    Backup(backup::Backup),
    /// Print a JSON Schema.
    Schema(schema::Schema),
    /// Print the version.
    Version,
    /// Describe a plugin file: what it says of itself, as JSON. The router runs this in a child of its own, so that a
    /// library that crashes when it is loaded takes nothing with it.
    #[command(hide = true)]
    PluginDescribe {
        /// The library.
        file: PathBuf,
    },
    /// Run one plugin instance for a router, which starts this and says by standard input what to do.
    #[command(hide = true)]
    PluginWorker,
    /// Try one thing with a plugin for `plugin check`, which starts this and says by standard input what.
    #[command(hide = true)]
    PluginTrial,
    /// Drive one instance of a library for a test that `plugin test` runs; the SDK starts this, and says by standard input what to
    /// do.
    #[command(hide = true)]
    PluginDrive {
        /// The library.
        file: PathBuf,
    },
    /// Carry standard input and output to a host, through the proxy of the router whose plugin started this.
    #[command(hide = true)]
    PluginTunnel {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// How the router runs.
#[derive(Debug, Args)]
struct Run {
    /// The form of log lines, in place of `log.format`.
    #[arg(long, value_enum)]
    log_format: Option<Format>,
    /// What is logged, in place of `log.level`: a level, or `target=level,…`. RUST_LOG has the last word.
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// Take the listening sockets over from the router that runs on the same data directory, which drains and ends: an upgrade
    /// without a refused connection. Configuration and rules are checked first; where no router runs, this is a start like any.
    #[arg(long)]
    take_over: bool,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Args)]
struct Output {
    /// The form of the answer.
    #[arg(short, long, value_enum, default_value_t = Shape::Table)]
    output: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = cli
        .config
        .or_else(|| std::env::var_os("JACKFIELD_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("jackfield.toml"));
    match cli.command.run(&config) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

impl Command {
    fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(run) => run.run(config)?,
            Self::Check => check::check(config)?,
            Self::Send(send) => return send.run(config),
            Self::Events(command) => command.run(config)?,
            Self::Deliveries(command) => command.run(config)?,
            Self::Dead(command) => command.run(&*history(config)?)?,
            Self::Refused(command) => command.run(&*history(config)?)?,
            Self::Replay(command) => command.run(config)?,
            Self::Plugin(command) => return command.run(config),
            Self::Routes(command) => return command.run(config),
            Self::Backup(backup) => backup.run(config)?,
            Self::Schema(command) => command.run(config)?,
            Self::Version => say(format!("jackfield {}", env!("CARGO_PKG_VERSION")))?,
            Self::PluginDescribe { file } => return Ok(crate::plugin::describe_main(&file)),
            Self::PluginWorker => return Ok(crate::plugin::worker_main()),
            Self::PluginTrial => return Ok(crate::plugin::check::trial_main()),
            Self::PluginDrive { file } => return Ok(crate::plugin::drive::drive_main(&file)),
            Self::PluginTunnel { host, port } => return Ok(crate::plugin::tunnel_main(&host, port)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    fn run(self, path: &Path) -> anyhow::Result<()> {
        let given = app::sockets()?;
        let config = load(path).map_err(|faults| check::and_of_rules(faults, path))?;
        let sockets = if self.take_over {
            // What is found wrong now costs nothing; found after the other has stopped, it would cost the service.
            check::would_start(&config)?;
            app::Sockets::Predecessor(given)
        } else {
            app::Sockets::Given(given)
        };
        let mut log = config.log.clone();
        log.format = self.log_format.unwrap_or(log.format);
        log.level = self.log_level.or(log.level);
        telemetry::init(&log);
        let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
        let result = runtime.block_on(app::run(config, sockets));
        // A plugin may still hold a thread; the journal is closed, and nothing is owed to it.
        runtime.shutdown_background();
        Ok(result?)
    }
}

/// The whole configuration, or all that is wrong with it.
fn load(path: &Path) -> Result<Config, Faults> {
    Config::load(path, &|name| std::env::var(name).ok())
}

/// The configuration as far as it is sound without the variables that are not set: they stand as [`UNSET`].
fn load_without_secrets(path: &Path) -> Result<Config, Faults> {
    Config::load(path, &variable_or_unset)
}

/// What is sound of a configuration that is not, for whoever says what else is wrong.
fn salvage(path: &Path) -> Option<Config> {
    Config::salvage(path, &variable_or_unset)
}

fn variable_or_unset(name: &str) -> Option<String> {
    let set = std::env::var(name).ok().filter(|text| !text.is_empty());
    set.or_else(|| Some(UNSET.to_owned()))
}

/// Stands for a secret whose variable is not set, with the form of a good one, since it is not the mistake to tell.
const UNSET: &str = "0-this-variable-of-the-environment-is-not-set-0";

/// The journal of the configuration, to read; beside a running router, or while there is none.
fn history(path: &Path) -> anyhow::Result<Arc<dyn History>> {
    let data_dir = config::data_dir(path)?;
    app::history(&data_dir).context("the journal cannot be read")
}

/// Runs a future to its end, for commands that only wait for an answer.
fn wait<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

/// Prints a line; whoever reads may stop, as `head` does.
fn say(text: impl AsRef<str>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.as_ref().trim_end_matches('\n')) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints `value` as JSON.
fn say_json<T: serde::Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    Ok(say(serde_json::to_string_pretty(value)?)?)
}

/// Tells what went wrong, from the outermost cause to the innermost.
fn fail(error: &anyhow::Error) -> ExitCode {
    let faults = error.chain().find_map(|cause| cause.downcast_ref::<Faults>());
    if let Some(faults) = faults {
        let count = faults.len();
        eprintln!("{}\n", from_here(faults));
        eprintln!(
            "error: {count} {} in the configuration",
            if count == 1 { "fault" } else { "faults" }
        );
        return ExitCode::from(EX_CONFIG);
    }
    eprintln!("error: {error}");
    // Some errors end with the words of their cause.
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.ends_with(&cause) {
            eprintln!("  because: {cause}");
        }
        said = cause;
    }
    ExitCode::FAILURE
}

/// The same faults, files in or below this directory called as one would type them.
fn from_here(faults: &Faults) -> Faults {
    let here = std::env::current_dir().unwrap_or_default();
    let mut shown = Faults::new();
    for fault in faults.iter() {
        let mut fault = fault.clone();
        if let Some(place) = &mut fault.place
            && let Ok(relative) = Path::new(&place.file).strip_prefix(&here)
        {
            place.file = relative.display().to_string();
        }
        shown.push(fault);
    }
    shown
}

/// `EX_CONFIG` of sysexits(3).
const EX_CONFIG: u8 = 78;

const START: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a plan that changes something, 78 invalid configuration.

Examples:
  jackfield check                           everything that is wrong, at once
  jackfield run                             run the router
  jackfield send design-system              post that source's documented payload, signed
  jackfield events list                     what came in
  jackfield deliveries show dlv_…           every attempt, and what it said
  jackfield routes explain evt_…            why each route matched or did not
  jackfield routes plan                     what the rule files, as they are now, would change
  jackfield routes test                     whether they do what the cases beside them say
  jackfield dead list                       what waits for you
  jackfield plugin new hello                a plugin to begin from";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
