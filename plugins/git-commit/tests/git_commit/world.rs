//! A bare repository, a work directory, a mirror cache, and the plugin between them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use git_commit::GitCommit;
use jackfield_sdk::testing::{Call, Ended, Harness, Report, Running, TestHost};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The idempotency key of calls that do not say another.
pub(crate) const KEY: &str = "dlv_test/step";

pub(crate) struct World {
    root: TempDir,
    pub(crate) host: TestHost,
}

impl World {
    /// A repository with a commit on `main`.
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        world.push(
            "main",
            &[
                ("README.md", "hello"),
                ("tokens/a.json", "1"),
                ("tokens/old/b.json", "2"),
                ("src/x", "3"),
            ],
        );
        world
    }

    /// A repository without a commit.
    pub(crate) fn empty() -> Self {
        let root = tempfile::tempdir().unwrap();
        let world = Self {
            root,
            host: TestHost::new(),
        };
        fs::create_dir(world.at("work")).unwrap();
        world.git(&["init", "--quiet", "--bare", "--initial-branch=main", "remote.git"]);
        world
    }

    /// The host dies, and with it what it was asked for and had not done. What it had written down is there again.
    pub(crate) fn restart_host(&mut self) {
        let receipt = self.host.receipt(KEY);
        self.host = TestHost::new();
        self.host.set_receipt(KEY, receipt);
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn remote(&self) -> String {
        self.at("remote.git").to_str().unwrap().to_owned()
    }

    pub(crate) fn config(&self) -> Value {
        json!({
            "repositories": [format!("{}/*", self.root.path().display())],
            "protocols": ["file"],
            "committer": { "name": "Bot", "email": "bot@acme.example" },
            "cache": self.at("cache"),
        })
    }

    pub(crate) async fn start(&self) -> Harness<GitCommit> {
        self.start_with(json!({})).await
    }

    /// An instance whose configuration has `more`.
    pub(crate) async fn start_with(&self, more: Value) -> Harness<GitCommit> {
        let mut config = self.config();
        merge(&mut config, more);
        Harness::start_on(&self.host, config).await.unwrap()
    }

    /// What a step finds in `out` of its work directory, and nothing else.
    pub(crate) fn brings(&self, files: &[(&str, &str)]) {
        let _ = fs::remove_dir_all(self.at("work/out"));
        for (path, text) in files {
            let path = self.at("work/out").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// A call that commits `out` to `tokens/` of `main`, with `more` in its input; what is null there is left out.
    pub(crate) fn call(&self, more: Value) -> Call {
        let mut input =
            json!({ "repository": self.remote(), "branch": "main", "from": "out", "to": "tokens/" });
        merge(&mut input, more);
        Call::new(input).workdir(self.at("work"))
    }

    /// Runs git as any user would, and returns what it says.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = self.command("git").args(args).output().unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.root.path())
            .stdin(Stdio::null())
            .env_clear();
        command
            .env("PATH", std::env::var("PATH").unwrap())
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Someone")
                .env(format!("GIT_{role}_EMAIL"), "some@one.example");
        }
        command
    }

    /// Asks the remote.
    #[track_caller]
    pub(crate) fn ask(&self, args: &[&str]) -> String {
        let mut all = vec!["--git-dir", "remote.git"];
        all.extend(args);
        self.git(&all)
    }

    /// Somebody else pushes a commit that adds files.
    #[track_caller]
    pub(crate) fn push(&self, branch: &str, files: &[(&str, &str)]) -> String {
        self.push_saying(branch, files, "Work")
    }

    #[track_caller]
    pub(crate) fn push_saying(&self, branch: &str, files: &[(&str, &str)], message: &str) -> String {
        let _ = fs::remove_dir_all(self.at("clone"));
        self.git(&["clone", "--quiet", "remote.git", "clone"]);
        let switched = self
            .command("git")
            .args(["-C", "clone", "switch", "--quiet", branch])
            .output()
            .unwrap();
        if !switched.status.success() {
            self.git(&["-C", "clone", "switch", "--quiet", "--create", branch]);
        }
        for (path, text) in files {
            let path = self.at("clone").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&["-C", "clone", "add", "--all"]);
        self.git(&[
            "-C",
            "clone",
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            message,
        ]);
        self.git(&["-C", "clone", "push", "--quiet", "origin", branch]);
        self.git(&["-C", "clone", "rev-parse", "HEAD"])
    }

    pub(crate) fn tip(&self, branch: &str) -> String {
        self.ask(&["rev-parse", &format!("refs/heads/{branch}")])
    }

    /// How many commits the branch has.
    pub(crate) fn count(&self, branch: &str) -> usize {
        self.ask(&["rev-list", "--count", branch]).parse().unwrap()
    }

    /// The commits of a branch that carry the key of the calls.
    pub(crate) fn ours(&self, branch: &str) -> Vec<String> {
        self.commits_of(KEY, branch)
    }

    /// The commits of a branch that carry this key.
    pub(crate) fn commits_of(&self, key: &str, branch: &str) -> Vec<String> {
        let format = "--format=%H %(trailers:key=Idempotency-Key,valueonly,separator=%x20)";
        let log = self.ask(&["log", format, branch]);
        let ours = |line: &str| line.strip_suffix(key).map(|sha| sha.trim().to_owned());
        log.lines().filter_map(ours).collect()
    }

    /// The files of a branch.
    pub(crate) fn files(&self, branch: &str) -> BTreeMap<String, String> {
        let names = self.ask(&["ls-tree", "-r", "-z", "--name-only", branch]);
        let read = |name: &str| (name.to_owned(), self.ask(&["show", &format!("{branch}:{name}")]));
        names
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(read)
            .collect()
    }

    pub(crate) fn paths(&self, branch: &str) -> Vec<String> {
        self.files(branch).into_keys().collect()
    }

    /// A program made of shell lines.
    pub(crate) fn script(&self, path: &str, lines: &str) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Written by another process: a descriptor of ours, open for writing, could be inherited by a program that
        // another test starts at this moment, and the script would be "busy".
        let mut writer = Command::new("tee")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        write!(writer.stdin.take().unwrap(), "#!/bin/sh\n{lines}\n").unwrap();
        assert!(writer.wait().unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) fn hook(&self, name: &str, lines: &str) {
        self.script(&format!("remote.git/hooks/{name}"), lines);
    }

    /// A named pipe.
    pub(crate) fn pipe(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// The one mirror in the cache.
    pub(crate) fn mirror(&self) -> PathBuf {
        let mut mirrors: Vec<_> = fs::read_dir(self.at("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "git"))
            .collect();
        assert_eq!(mirrors.len(), 1, "{mirrors:?}");
        mirrors.remove(0)
    }
}

/// Waits until somebody writes into a named pipe.
pub(crate) async fn heard(pipe: PathBuf) {
    on_a_thread(move || fs::read(pipe).map(drop)).await;
}

/// Begins a call, and abandons it when somebody writes into a named pipe. It is wrong if it ends before.
pub(crate) async fn abandoned_at(pipe: PathBuf, running: Running) {
    tokio::select! {
        report = running.end() => panic!("the call ended: {report:?}"),
        () = heard(pipe) => {}
    }
}

/// Writes into a named pipe, once somebody reads.
pub(crate) async fn tell(pipe: PathBuf) {
    on_a_thread(move || fs::write(pipe, "go\n")).await;
}

/// Opening a pipe waits for its other end. A thread of tokio's would be waited for in turn, even when a test has failed.
async fn on_a_thread(work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let (done, is_done) = tokio::sync::oneshot::channel();
    thread::spawn(move || done.send(work()));
    is_done.await.unwrap().unwrap();
}

/// Puts the keys of `more` over those of `value`; null takes one away.
fn merge(value: &mut Value, more: Value) {
    let (Value::Object(value), Value::Object(more)) = (value, more) else {
        panic!("two objects")
    };
    for (key, given) in more {
        match given {
            Value::Null => value.remove(&key),
            given => value.insert(key, given),
        };
    }
}

#[track_caller]
pub(crate) fn fatal(report: &Report, part: &str) {
    ended(report, Ended::Fatal, part);
}

#[track_caller]
pub(crate) fn retry(report: &Report, part: &str) {
    ended(report, Ended::Retry, part);
}

#[track_caller]
fn ended(report: &Report, outcome: Ended, part: &str) {
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert!(
        report.message.contains(part),
        "{:?} does not contain {part:?}",
        report.message
    );
}

/// Whether a process looks for what the test cannot see: here, any file below `directory`.
pub(crate) fn files_below(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}
