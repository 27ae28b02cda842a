//! `plugin test`: an author's own tests, against the library as a router loads it.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};

use super::super::{given::Given, scratch::Scratch, wait};
use crate::plugin::{
    Isolation,
    drive::{Extra, Options, Prepared, VARIABLE},
};

/// Run tests that were written with the SDK's harness against a library, as a router would run it.
///
/// The same tests that `cargo test` runs within one process then run against this file, loaded by the router's own loader: each
/// instance that a test starts lives in a worker process, in a sandbox in which it has what its manifest says that it needs, and
/// all hosts. Whatever the plugin asks of the router is answered by the test, as ever.
///
/// Build the library first. What a harness does within a plugin's process cannot be done there, and fails: time that the test
/// keeps, and `cancel_at_each_await`. Exits as the command does.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Test {
    /// The library.
    file: PathBuf,
    /// Where instances live.
    #[arg(long, value_enum, default_value_t = Place::Process)]
    isolation: Place,
    /// What they are granted besides: `{"read": […], "write": […], "programs": […]}`, as in `[instance.grant]`.
    #[arg(long, value_name = "JSON|@FILE")]
    grant: Option<Given>,
    /// What runs the tests.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// In a process of their own.
    Process,
    /// In the process of the loader, without a sandbox.
    None,
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let scratch = Scratch::new().context("no temporary directory can be made")?;
        let library = self
            .file
            .canonicalize()
            .with_context(|| format!("there is no {}: build the library first", self.file.display()))?;
        let options = Options {
            isolation: match self.isolation {
                Place::Process => Isolation::Process,
                Place::None => Isolation::None,
            },
            grant: self.extra()?,
            scratch: scratch.path().to_owned(),
        };
        // Told here, once, and not by each test. It also fills the directory that they share.
        let prepared = wait(Prepared::new(&library, options.clone()))?.map_err(|words| anyhow!(words))?;
        eprintln!(
            "testing `{}` as it is in {}",
            prepared.plugin(),
            library.display()
        );
        let (program, arguments) = self.command.split_first().context("there is no command")?;
        let status = Command::new(program)
            .args(arguments)
            .env(LIBRARY, &library)
            .env(
                PROGRAM,
                std::env::current_exe().context("this program is not found")?,
            )
            .env(VARIABLE, serde_json::to_string(&options)?)
            .status()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        if let Some(signal) = status.signal() {
            eprintln!("the command died of signal {signal}");
        }
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }

    fn extra(&self) -> anyhow::Result<Extra> {
        let Some(Given(grant)) = &self.grant else {
            return Ok(Extra::default());
        };
        serde_json::from_value(grant.clone())
            .context("`--grant` takes `read`, `write` and `programs`, each a list of texts")
    }
}

/// Where the SDK's harness finds the library, and this program.
const LIBRARY: &str = "JACKFIELD_LIBRARY";
const PROGRAM: &str = "JACKFIELD_PROGRAM";
const EXAMPLES: &str = "\
Examples:
  jackfield plugin test target/release/libhello_plugin.so -- cargo test
  jackfield plugin test libhello.so --isolation none -- cargo test      in one process with the loader
  jackfield plugin test libhello.so --grant '{\"programs\": [\"ssh\"]}' -- cargo test";
