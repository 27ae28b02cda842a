//! Runs git: one command at a time, and with what it says made fit to be shown.

use std::path::{Path, PathBuf};

use jackfield_sdk::{
    Error,
    command::{Command, Scope},
};

use crate::{config::Options, environment::Environment, fault::Fault, redact::redact, remote::Remote};

/// The oldest git that knows all that we rely on (`GIT_CONFIG_GLOBAL`).
const OLDEST: (u32, u32) = (2, 32);

/// The most that git may answer: the listing of a repository with some millions of files.
const MAX_OUTPUT: usize = 512 << 20;

/// git, made ready for one remote.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    program: PathBuf,
    environment: Environment,
    home: PathBuf,
    scope: Scope,
}

/// Why a command of git came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The call ends with this.
    Call(Error),
    /// The mirror is broken: it can be made anew, and all tried again.
    Mirror(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

/// How a command that was let run to its end ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Whether git says that it succeeded.
    pub(crate) success: bool,
    /// What it wrote.
    pub(crate) stdout: Vec<u8>,
    /// What it and the server said, fit to be shown.
    pub(crate) message: String,
}

impl Git {
    /// git for `remote`, within the limits of `scope`, with `home` as its empty home directory.
    pub(crate) fn new(options: &Options, remote: &Remote, home: &Path, scope: Scope) -> Self {
        Self {
            program: options.git.clone(),
            environment: Environment::new(options, remote, home),
            home: home.to_owned(),
            scope,
        }
    }

    /// This git, working on the bare repository at `directory`.
    pub(crate) fn at(&self, directory: &Path) -> Self {
        self.with("GIT_DIR", &directory.to_string_lossy())
    }

    /// This git with one more variable.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut git = self.clone();
        git.environment.set(name, value);
        git
    }

    /// Runs a command and says how it ended, whatever that is.
    pub(crate) async fn end(&self, args: &[&str], stdin: Vec<u8>) -> Result<Ended, Error> {
        let mut command = Command::new(&self.program);
        for (name, value) in self.environment.variables() {
            command = command.env(name, value);
        }
        let output = command
            .args(args)
            .current_dir(&self.home)
            .stdin(stdin)
            .max_output(MAX_OUTPUT)
            .run(&self.scope)
            .await?;
        Ok(Ended {
            success: output.status.success(),
            stdout: output.stdout,
            message: redact(
                &String::from_utf8_lossy(&output.stderr),
                self.environment.secrets(),
            ),
        })
    }

    /// Runs a command on the mirror. That it fails is the mirror's fault.
    pub(crate) async fn local(&self, args: &[&str], stdin: Vec<u8>) -> Result<Vec<u8>, Failure> {
        self.end(args, stdin).await?.of_mirror(args)
    }

    /// Runs a command of [`Git::local`] whose answer is one line.
    pub(crate) async fn line(&self, args: &[&str], stdin: Vec<u8>) -> Result<String, Failure> {
        let stdout = self.local(args, stdin).await?;
        Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned())
    }

    /// Runs a command that talks to the remote.
    pub(crate) async fn remote(&self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let ended = self.end(args, Vec::new()).await?;
        match ended.success {
            true => Ok(ended.stdout),
            false => Err(ended.fault_of_remote()),
        }
    }

    /// Within which limits it runs.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// Makes sure that git is there, and new enough to heed what it is told here.
pub(crate) async fn check(program: &Path, scope: Scope) -> Result<(), Error> {
    let output = Command::new(program).arg("version").run(scope).await?.success()?;
    let said = output.stdout_text()?.trim();
    match version(said) {
        Some(version) if version >= OLDEST => Ok(()),
        _ => {
            let (major, minor) = OLDEST;
            let program = program.display();
            Err(Error::fatal(format!(
                "`{program} version` says `{said}`, but git {major}.{minor} or newer is needed"
            )))
        }
    }
}

impl Ended {
    /// What a command on the mirror wrote. That it fails is the mirror's fault.
    pub(crate) fn of_mirror(self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        if self.success {
            return Ok(self.stdout);
        }
        let message = format!("git {}: {}", args.first().unwrap_or(&""), self.message);
        Err(match Fault::of(&self.message) {
            Fault::DiskFull => Failure::Call(Error::retry(message)),
            Fault::Path => Failure::Call(Error::fatal(message)),
            _ => Failure::Mirror(message),
        })
    }

    /// Tells what a failed conversation with the remote means.
    pub(crate) fn fault_of_remote(self) -> Failure {
        let fault = Fault::of(&self.message);
        let message = match fault.advice() {
            Some(advice) => format!("{}\n{advice}", self.message),
            None => self.message,
        };
        match fault {
            Fault::Denied | Fault::NotFound | Fault::HostKey | Fault::Redirected => {
                Failure::Call(Error::fatal(message))
            }
            Fault::Network | Fault::DiskFull | Fault::Path => Failure::Call(Error::retry(message)),
            Fault::Mirror => Failure::Mirror(message),
        }
    }
}

/// Reads `git version 2.47.3 (…)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (said, expected) in [
            ("git version 2.47.3", Some((2, 47))),
            ("git version 2.39.2 (Apple Git-143)", Some((2, 39))),
            ("git version 2.x", None),
            ("", None),
            ("hub", None),
        ] {
            assert_eq!(version(said), expected, "{said}");
        }
    }
}
