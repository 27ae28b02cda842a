//! `plugin lock`: writes down which libraries there may be.

use std::{io, path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::Args;

use super::super::{load_without_secrets, say, table::Table};
use crate::{
    fault::chain,
    file,
    plugin::{
        digest::Digest,
        survey,
        trust::{self, Lock as LockFile, LockError},
    },
};

/// Lock the plugins: write down the SHA-256 of each library that lies in the plugins directory now.
///
/// With `lock = "plugins.lock"` in `[plugins]`, the router loads only what that file names. Keep the file in version control,
/// and lock again after an update; a router that runs takes up at once what is locked. No code of a library is run for
/// this, and where `keys` are configured, its signature is checked. The exit code is 1 where a library had to be left out,
/// or where `--check` finds a difference.
#[derive(Debug, Args)]
pub(in crate::cli) struct Lock {
    /// Write nothing, and say what would change.
    #[arg(long)]
    check: bool,
}

impl Lock {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        let plugins = load_without_secrets(config)?.plugins;
        let path = plugins.trust.lock.clone().context(
            "the configuration names no lock file; add `lock = \"plugins.lock\"` to `[plugins]`, then lock again",
        )?;
        let dir = plugins
            .dir
            .context("there is no plugins directory; make it, or name it as `dir` in `[plugins]`")?;
        let before = match LockFile::read(&path) {
            Err(LockError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                LockFile::check_place(&path)?;
                LockFile::default()
            }
            read => read?,
        };
        // What was locked is what is about to change.
        let trust = trust::Options {
            lock: None,
            ..plugins.trust
        };
        let (mut libraries, mut left_out) = (Vec::new(), Vec::new());
        for (file, seen) in survey::identities(&dir, &trust)? {
            match seen {
                Ok((name, digest)) => libraries.push((name, digest)),
                Err(error) => left_out.push(format!("left out: {}", said_of(&file, &chain(&error)))),
            }
        }
        let now = LockFile::of(libraries);
        if !self.check && now != before {
            file::replace(&path, &now.to_string())
                .with_context(|| format!("`{}` cannot be written", path.display()))?;
        }
        say(changes(&before, &now))?;
        for line in &left_out {
            say(line)?;
        }
        let differs = self.check && now != before;
        Ok(ExitCode::from(u8::from(differs || !left_out.is_empty())))
    }
}

/// What is wrong with a file, beginning with its name where it is not told.
fn said_of(file: &Path, error: &str) -> String {
    let file = file.display().to_string();
    match error.contains(&file) {
        true => error.to_owned(),
        false => format!("`{file}`: {error}"),
    }
}

/// Every plugin that is or was locked, and what became of it.
fn changes(before: &LockFile, now: &LockFile) -> String {
    let find = |lock: &LockFile, name: &str| -> Option<Digest> {
        let mut libraries = lock.libraries();
        libraries
            .find(|(known, _)| *known == name)
            .map(|(_, digest)| digest)
    };
    let mut names: Vec<_> = before
        .libraries()
        .chain(now.libraries())
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut table = Table::new(["PLUGIN", "SHA-256", ""]);
    for name in names {
        let (was, is) = (find(before, name), find(now, name));
        let change = match (was, is) {
            (None, _) => "new",
            (_, None) => "removed",
            (Some(was), Some(is)) if was == is => "as before",
            (Some(_), Some(_)) => "changed",
        };
        let digest = is.or(was).map(|digest| digest.to_string()).unwrap_or_default();
        table.row([name.to_owned(), digest, change.to_owned()]);
    }
    table.show("no plugins; drop a library into the plugins directory, then lock again")
}
