//! Runs programs for a call, so that nothing of them outlives it.
//!
//! ```no_run
//! # use jackfield_sdk::{Cx, Result};
//! use jackfield_sdk::command::Command;
//!
//! async fn head(cx: &Cx, repository: &std::path::Path) -> Result<String> {
//!     let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(repository).run(cx).await?;
//!     Ok(output.success()?.stdout_text()?.trim().to_owned())
//! }
//! ```
//!
//! - There is no shell: each argument reaches the program as it is.
//! - The environment is empty but for `PATH` and what [`Command::env`] and [`Command::inherit`] add.
//! - The program leads a process group of its own. When the call is canceled, passes its deadline, or drops the future of
//!   [`Command::run`], the group gets SIGTERM and, if it is still there [a little later](Command::kill_after), SIGKILL.
//! - It dies with the process that runs the plugin, even when that is killed (`PR_SET_PDEATHSIG`). This reaches the program
//!   itself; programs that it has started find their pipes closed.
//! - Its output is capped, and so is what it can do to memory.

mod output;
mod run;
mod scope;
mod spawner;

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::{output::Output, scope::Scope};

use crate::error::Result;

/// A program to run, with its arguments, its environment and its limits.
///
/// It can be run any number of times.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
    stdin: Vec<u8>,
    max_output: usize,
    timeout: Option<Duration>,
    kill_after: Duration,
}

impl Command {
    /// The program of this name on `PATH`, or at this path, without arguments.
    ///
    /// Unless told otherwise it reads nothing, may write 1 MiB to its standard output, and has until the call's deadline.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let command = Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            current_dir: None,
            stdin: Vec::new(),
            max_output: 1 << 20,
            timeout: None,
            kill_after: Duration::from_secs(2),
        };
        command.inherit(["PATH"])
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the program's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(known, _)| known != name.as_ref());
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Hands on those of these variables that are set in the plugin's own environment.
    #[must_use]
    pub fn inherit(self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        names
            .into_iter()
            .fold(self, |command, name| match std::env::var_os(name.as_ref()) {
                Some(value) => command.env(name, value),
                None => command,
            })
    }

    /// Runs it in this directory. Without one it runs where the router runs, which is seldom wanted.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.current_dir = Some(dir.as_ref().to_owned());
        self
    }

    /// What it reads from its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How many bytes it may write to its standard output. A program that writes more is stopped, and that is an error: half
    /// an answer is worse than none. Of its standard error, the first 64 KiB are kept.
    #[must_use]
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = bytes;
        self
    }

    /// How long it may run, if that is less than the call has left.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// How long it has between SIGTERM and SIGKILL to tidy up. Two seconds, unless told otherwise.
    #[must_use]
    pub fn kill_after(mut self, pause: Duration) -> Self {
        self.kill_after = pause;
        self
    }

    /// Runs it, within the limits of a call (`cx`), of an instance's start, or of a [`Scope`] of one's own, to its end.
    ///
    /// A program that ends with another status than 0 is no error here: see [`Output::success`].
    ///
    /// # Errors
    ///
    /// - invalid: there is no such program, or no such directory
    /// - fatal: it wrote more than it may
    /// - retry: it did not end in time, or could not be started for lack of resources
    /// - canceled: the call was
    pub async fn run(&self, scope: impl Into<Scope>) -> Result<Output> {
        run::run(self, &scope.into()).await
    }

    /// What it is called in messages: the program, and its first argument if that is a word. Never more: arguments can
    /// be secret.
    fn title(&self) -> String {
        let program = Path::new(&self.program)
            .file_name()
            .unwrap_or(&self.program)
            .display();
        match self.args.first().and_then(|arg| arg.to_str()) {
            Some(word)
                if word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
                    && !word.starts_with('-') =>
            {
                format!("`{program} {word}`")
            }
            _ => format!("`{program}`"),
        }
    }

    /// The same in the form of the standard library, without its pipes.
    fn to_std(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env_clear();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        command
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments, environment and input can be secret.
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("current_dir", &self.current_dir)
            .finish_non_exhaustive()
    }
}
