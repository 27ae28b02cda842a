//! Builds packages of this workspace and says where their files are, as cargo itself says it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Files that a build put out.
#[derive(Clone, Debug, Default)]
pub struct Built {
    libraries: HashMap<String, PathBuf>,
    binaries: HashMap<String, PathBuf>,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Variables that cargo sets for one package.
const OF_A_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// Builds `packages` in the profile `dev` or `release`.
///
/// Paths come from cargo's messages and are never guessed: a `cdylib` of another package is built by no other
/// means, and a file that lies about may be stale.
///
/// # Errors
///
/// Where cargo is missing or the build fails; cargo's diagnostics go to standard error.
pub fn build(packages: &[&str], profile: &str) -> anyhow::Result<Built> {
    let mut command = command(profile);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // With this package itself, which has been built, or else nobody would be asking: then the features of
    // dependencies are those that they were built with, and nothing is built twice.
    for package in packages.iter().chain(&[env!("CARGO_PKG_NAME")]) {
        command.args(["--package", package]);
    }
    run(command).with_context(|| format!("building {}", packages.join(", ")))
}

/// Builds the package with that manifest, in this workspace or in one of its own, and nothing that it does not need; what is
/// made goes to `target`.
///
/// # Errors
///
/// As for [`build`]; and where the package's lock would have to change.
pub fn build_alone(manifest: &Path, profile: &str, target: &Path) -> anyhow::Result<Built> {
    let mut command = command(profile);
    command
        .arg("--locked")
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target);
    run(command).with_context(|| format!("building {}", manifest.display()))
}

fn command(profile: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args([
            "build",
            "--message-format=json-render-diagnostics",
            "--profile",
            profile,
        ])
        .stderr(Stdio::inherit());
    // `cargo run` and `cargo test` tell their program what package it is of. Build scripts that watch those variables
    // (ring's does) would run again for this build, and once more for the next one by hand: minutes, each time.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| OF_A_PACKAGE.iter().any(|prefix| name.starts_with(prefix)))
        {
            command.env_remove(name);
        }
    }
    command
}

fn run(mut command: Command) -> anyhow::Result<Built> {
    let output = command.output().context("running cargo")?;
    ensure!(
        output.status.success(),
        "cargo failed, and has said why on standard error"
    );
    let mut built = Built::default();
    for line in output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        built.note(serde_json::from_slice(line).context("reading cargo's messages")?);
    }
    Ok(built)
}

impl Built {
    fn note(&mut self, message: Message) {
        let (true, Some(target)) = (message.reason == "compiler-artifact", message.target) else {
            return;
        };
        if let Some(executable) = message.executable {
            self.binaries.insert(target.name.clone(), executable);
        }
        if target.kind.iter().any(|kind| kind == "cdylib")
            && let Some(library) = message
                .filenames
                .into_iter()
                .find(|file| file.extension().is_some_and(|e| e == "so"))
        {
            self.libraries.insert(target.name, library);
        }
    }

    /// The `.so` of a package, whose target may spell `-` as `_`.
    ///
    /// # Errors
    ///
    /// Where the build put out none.
    pub fn library(&self, package: &str) -> anyhow::Result<PathBuf> {
        self.libraries
            .get(package)
            .or_else(|| self.libraries.get(&package.replace('-', "_")))
            .cloned()
            .with_context(|| format!("the build put out no library for `{package}`"))
    }

    /// The binary of that name.
    ///
    /// # Errors
    ///
    /// Where the build put out none.
    pub fn binary(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.binaries
            .get(name)
            .cloned()
            .with_context(|| format!("the build put out no binary `{name}`"))
    }
}
