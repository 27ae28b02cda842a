//! Asks a plugin for its manifest, in a child that may crash, hang or exit without harm.
//!
//! A staged library comes in, its [`Manifest`] goes out. The child is this binary (`jackfield plugin-describe`),
//! or whatever else a [`Runner`] names; it gets [`Runner::limit`] to answer, and no environment but what the system's loader
//! must know of the library. The manifest is
//! kept beside the staged file by content, so that a library is asked once and not at each start.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

use super::{
    Limits, Sandbox, elf,
    ffi::{Library, close_inherited},
    manifest::{Manifest, ManifestError},
    reason_of,
    stage::{Reopened, Stage, Staged},
};

/// How the child is started that asks a plugin for its manifest.
#[derive(Clone, Debug)]
pub struct Runner {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; the library's path comes after them.
    pub args: Vec<OsString>,
    /// How long it may take.
    pub limit: Duration,
}

impl Runner {
    /// This program, with the hidden command that ends in [`describe_main`].
    pub fn this() -> Self {
        Self {
            // Not its path: the file may have been replaced since this process began.
            program: PathBuf::from(ITSELF),
            args: vec![OsString::from(COMMAND)],
            limit: Duration::from_secs(5),
        }
    }
}

/// A program by a path that leads to it from every process: what [`Runner::this`] has leads each to itself. Where its file was
/// replaced since, that is what took its place.
pub(super) fn by_path(program: &Path) -> io::Result<PathBuf> {
    if program != Path::new(ITSELF) {
        return Ok(program.to_owned());
    }
    Ok(replaced(std::env::current_exe()?))
}

/// The path of what took the place of the file, where it is no longer there.
fn replaced(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(GONE) {
        Some(before) => OsStr::from_bytes(before).into(),
        None => path,
    }
}

/// The program of whichever process looks.
const ITSELF: &str = "/proc/self/exe";
/// What the kernel puts after the path of a file that is no longer there.
const GONE: &[u8] = b" (deleted)";

/// The hidden command of the CLI.
pub const COMMAND: &str = "plugin-describe";

/// Why a plugin has no manifest.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The child could not be started or read from.
    #[error("the child that asks plugins for their manifests cannot be run (`{}`)", program.display())]
    Child {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It could not be loaded, or its table not be used.
    #[error("{0}")]
    Unusable(String),
    /// A signal ended it.
    #[error("`{}` crashed when it was asked for its manifest ({signal}){}", path.display(), said(stderr))]
    Crashed {
        /// The library.
        path: PathBuf,
        /// The signal's name.
        signal: String,
        /// The end of what it printed.
        stderr: String,
    },
    /// It ended by itself.
    #[error("`{}` ended the process (status {code}) when it was asked for its manifest{}", path.display(), said(stderr))]
    Exited {
        /// The library.
        path: PathBuf,
        /// With which status.
        code: i32,
        /// The end of what it printed.
        stderr: String,
    },
    /// It did not answer.
    #[error("`{}` did not give its manifest within {limit:?}", path.display())]
    TimedOut {
        /// The library.
        path: PathBuf,
        /// How long it was given.
        limit: Duration,
    },
    /// What it answered is no manifest of this plugin.
    #[error("the manifest of `{}` is unusable", path.display())]
    Manifest {
        /// The library.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
}

/// The manifest of a staged library: the one that was kept, or else what it says in a child.
///
/// # Errors
/// When it crashes, hangs, or says something else.
pub async fn describe(staged: &Staged, stage: &Stage, runner: &Runner) -> Result<Manifest, DescribeError> {
    let (identity, digest) = (staged.identity(), staged.digest());
    if let Some(kept) = stage.manifest(digest)
        && let Ok(manifest) = Manifest::read(&kept, identity)
    {
        return Ok(manifest);
    }
    let path = staged.origin();
    let json = ask(staged, runner).await?;
    let manifest = Manifest::read(&json, identity).map_err(|source| DescribeError::Manifest {
        path: path.to_owned(),
        source,
    })?;
    if let Err(error) = stage.keep_manifest(digest, &json) {
        // It is asked again at the next start, and nothing else is lost.
        tracing::warn!(plugin = %identity.name, error = reason_of(&error), "manifest not kept");
    }
    Ok(manifest)
}

async fn ask(staged: &Staged, runner: &Runner) -> Result<Vec<u8>, DescribeError> {
    let path = staged.origin();
    let failed = |source| DescribeError::Child {
        program: runner.program.clone(),
        source,
    };
    let mut child = Command::new(&runner.program)
        .args(&runner.args)
        .arg(staged.path())
        .env_clear()
        .envs(elf::environment(staged.hazards()))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let Ok(answer) = tokio::time::timeout(runner.limit, answer(&mut child)).await else {
        child.id().into_iter().for_each(end_group);
        return Err(DescribeError::TimedOut {
            path: path.to_owned(),
            limit: runner.limit,
        });
    };
    let answer = answer.map_err(failed)?;
    judge(answer, staged.path(), path)
}

/// How a child ended, and what it wrote.
struct Answer {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

async fn answer(child: &mut Child) -> io::Result<Answer> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(read(stdout, MANIFEST_LIMIT), read(stderr, STDERR_LIMIT))?;
    Ok(Answer {
        status: child.wait().await?,
        stdout,
        stderr,
    })
}

/// Reads to the end and keeps the first `limit` bytes: a child must not block because nobody listens.
pub(super) async fn read(from: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(limit).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

fn judge(answer: Answer, staged: &Path, path: &Path) -> Result<Vec<u8>, DescribeError> {
    let path = path.to_owned();
    let path_of = |path: &Path| path.display().to_string();
    let stderr = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
    match (answer.status.signal(), answer.status.code()) {
        (Some(signal), _) => Err(DescribeError::Crashed {
            path,
            signal: signal_name(signal),
            stderr,
        }),
        (None, Some(code)) if code == i32::from(UNUSABLE) => Err(DescribeError::Unusable(
            stderr.replace(&path_of(staged), &path_of(&path)),
        )),
        // What ended well but said nothing did not end by our hand.
        (None, Some(0)) if !answer.stdout.is_empty() => Ok(answer.stdout),
        (None, code) => Err(DescribeError::Exited {
            path,
            code: code.unwrap_or_default(),
            stderr,
        }),
    }
}

/// Kills the child of that id, which leads a group of its own, and whatever it started.
pub(super) fn end_group(id: u32) {
    signal_group(id, Signal::KILL);
}

/// Signals the child of that id, and whatever it started. The number is the group's as long as anybody is in it, also when the
/// child itself is gone.
pub(super) fn signal_group(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // An error says that they have all ended, which is what is wanted.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Whether anything is left of what that child started, which has been waited for itself.
pub(super) fn is_group_left(id: u32) -> bool {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| {
        // Where this is the first process of a container, they have become its own, to be waited for.
        while let Ok(Some(_)) = rustix::process::waitpgid(pid, WaitOptions::NOHANG) {}
        rustix::process::test_kill_process_group(pid).is_ok()
    })
}

/// What the child does: loads the staged library at `path` and writes its manifest to standard output.
pub fn describe_main(path: &Path) -> ExitCode {
    match manifest_of(path).and_then(|(mut output, manifest)| Ok(output.write_all(&manifest)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one place without a log: standard error is the message.
            let _ = writeln!(io::stderr(), "{}", reason_of(error.as_ref()));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// What every child does first in which there is to be a plugin: it makes sure that it ends with its parent, and closes what was
/// left open to it besides its standard streams, whoever forgot that: nothing bounds what is open already.
pub(super) fn begin() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    close_inherited()
}

fn manifest_of(path: &Path) -> Result<(File, Vec<u8>), Box<dyn std::error::Error>> {
    begin()?;
    // How much its instances may take is not known here, and not needed to say what it is.
    Limits::default().apply()?;
    // Whatever the plugin prints must not get between us and the manifest.
    let output = File::from(rustix::io::dup(io::stdout())?);
    rustix::stdio::dup2_stdout(io::stderr())?;
    let reopened = Reopened::take(path)?;
    // To say what it needs, it needs nothing.
    Sandbox::default().enter(reopened.staged().path())?;
    let library = Library::open_apart(&reopened)?;
    Ok((output, library.describe()))
}

pub(super) fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        17 => "SIGCHLD",
        31 => "SIGSYS",
        number => return format!("signal {number}"),
    };
    name.to_owned()
}

pub(super) fn said(stderr: &str) -> String {
    let mut last: Vec<_> = stderr.lines().rev().take(3).collect();
    last.reverse();
    if last.is_empty() {
        String::new()
    } else {
        format!(", saying: {}", last.join(" / "))
    }
}

/// The child's status when the library could not be loaded.
const UNUSABLE: u8 = 70;
const MANIFEST_LIMIT: u64 = 4 << 20;
const STDERR_LIMIT: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_as_others_find_it_also_when_it_was_replaced() {
        let own = by_path(&Runner::this().program).unwrap();
        assert_eq!(own, std::env::current_exe().unwrap());
        assert_eq!(
            by_path(Path::new("/usr/bin/other")).unwrap(),
            Path::new("/usr/bin/other")
        );
        for (path, expected) in [
            ("/usr/bin/jackfield (deleted)", "/usr/bin/jackfield"),
            ("/usr/bin/jackfield", "/usr/bin/jackfield"),
        ] {
            assert_eq!(replaced(path.into()), Path::new(expected));
        }
    }
}
