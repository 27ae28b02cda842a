//! Real repositories, through the system's `git`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

/// A bare repository on disk.
#[derive(Clone, Debug)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Makes an empty bare repository with the default branch `main`.
    ///
    /// # Errors
    ///
    /// Where `git` is missing or refuses.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path)?;
        let repository = Self {
            path: path.to_owned(),
        };
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main"])?;
        Ok(repository)
    }

    /// Puts a first commit with one file on `main`.
    ///
    /// # Errors
    ///
    /// Where `git` refuses.
    pub fn seed(&self, file: &str, content: &str) -> anyhow::Result<String> {
        let blob = self.git_with(&["hash-object", "-w", "--stdin"], content)?;
        let tree = self.git_with(&["mktree"], &format!("100644 blob {blob}\t{file}\n"))?;
        let commit = self.git(&["commit-tree", "-m", "Start", &tree])?;
        self.git(&["update-ref", "refs/heads/main", &commit])?;
        Ok(commit)
    }

    /// Installs an executable hook.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn hook(&self, name: &str, script: &str) -> anyhow::Result<()> {
        let hook = self.path.join("hooks").join(name);
        fs::create_dir_all(self.path.join("hooks"))?;
        fs::write(&hook, script)?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many commits `branch` has beyond the first; none where it is missing.
    ///
    /// # Errors
    ///
    /// Where `git` cannot be run.
    pub fn commits(&self, branch: &str) -> anyhow::Result<usize> {
        Ok(self.git(&["rev-list", "--count", branch])?.parse()?)
    }

    /// What a `git` command prints, trimmed.
    ///
    /// # Errors
    ///
    /// Where `git` is missing or refuses; with what it said.
    pub fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.git_with(arguments, "")
    }

    fn git_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        use std::io::Write as _;
        let mut child = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(["-c", "user.name=Stage", "-c", "user.email=stage@example.com"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .context("running git; is it installed?")?;
        child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "git {} failed: {error}",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
