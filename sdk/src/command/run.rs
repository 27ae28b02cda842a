//! One run of a program, from its start to the end of its whole group.
//!
//! The program belongs to a task of its own, so that it is tidied away also when the future that waits for it is dropped in
//! its middle.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Child,
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{Command, Output, Scope};
use crate::error::{Error, Result};

/// How much of standard error is kept.
const MAX_STDERR: usize = 64 << 10;
/// How long the pipes of a program that has ended may stay open in the hands of others.
const PIPES_LINGER: Duration = Duration::from_secs(2);

/// Runs `command` to its end.
pub(super) async fn run(command: &Command, scope: &Scope) -> Result<Output> {
    let title = command.title();
    if scope.is_cancelled() {
        return Err(Error::cancelled(format_args!(
            "{title} was not started: the call was canceled"
        )));
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, mut told) = oneshot::channel();
    let (input, max_output, kill_after) = (command.stdin.clone(), command.max_output, command.kill_after);
    let attend = move |started: io::Result<Child>| match started {
        Ok(child) => {
            // Here, and not in the task: of a runtime that is going, it may never begin.
            let program = Program::new(child, kill_after);
            // The task ends soon after `stop` is dropped. Where nobody waits, there is nobody to be told.
            drop(Handle::current().spawn(async move {
                let _ = tell.send(program.attend(input, max_output, stopped).await);
            }));
        }
        Err(error) => drop(tell.send(Ended::NotStarted(error))),
    };
    scope
        .spawner
        .spawn(command.to_std(), attend)
        .map_err(|error| not_started(&title, &error))?;

    let limit = earlier(
        scope.deadline(),
        command.timeout.map(|limit| Instant::now() + limit),
    );
    let stop_reason = tokio::select! {
        ended = &mut told => return finished(&title, max_output, ended?),
        () = scope.cancelled() => Error::cancelled(format_args!("{title} was stopped: the call was canceled")),
        () = until(limit) => Error::retry(format_args!("{title} did not end in time and was stopped")),
    };
    drop(stop);
    told.await?;
    Err(stop_reason)
}

/// How the task of a program ended.
enum Ended {
    NotStarted(io::Error),
    Exited(ExitStatus, Vec<u8>, Vec<u8>),
    TooMuchOutput,
    Stopped,
    Failed(io::Error),
}

fn finished(title: &str, max_output: usize, ended: Ended) -> Result<Output> {
    match ended {
        Ended::Exited(status, stdout, stderr) => Ok(Output {
            status,
            stdout,
            stderr,
            title: title.to_owned(),
        }),
        Ended::TooMuchOutput => Err(Error::fatal(format_args!(
            "{title} wrote more than {max_output} bytes and was stopped"
        ))),
        Ended::NotStarted(error) => Err(not_started(title, &error)),
        Ended::Stopped => Err(Error::cancelled(format_args!("{title} was stopped"))),
        Ended::Failed(error) => Err(Error::retry(format_args!("{title} was lost sight of: {error}"))),
    }
}

fn not_started(title: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
            Error::invalid(format_args!(
                "{title} cannot be started (is it, and its directory, there?): {error}"
            ))
        }
        _ => Error::retry(format_args!("{title} cannot be started: {error}")),
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

async fn until(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// A program that runs.
struct Program {
    child: Child,
    group: Group,
    kill_after: Duration,
}

impl Program {
    fn new(child: Child, kill_after: Duration) -> Self {
        Self {
            group: Group::of(&child),
            child,
            kill_after,
        }
    }

    /// Feeds and reads the program until it ends, writes too much, or `stopped` resolves; then sees to it that it is gone.
    async fn attend(mut self, input: Vec<u8>, max_output: usize, stopped: oneshot::Receiver<()>) -> Ended {
        let mut stdin = self.child.stdin.take().expect("stdin is piped");
        let stdout = self.child.stdout.take().expect("stdout is piped");
        let stderr = self.child.stderr.take().expect("stderr is piped");
        // A program need not read all of its input.
        let feed = async move {
            let _ = stdin.write_all(&input).await;
            Ok(())
        };
        let talk = async move {
            let (out, err, ()) = tokio::try_join!(
                read_capped(stdout, max_output),
                read_up_to(stderr, MAX_STDERR),
                feed
            )?;
            Ok((out, err))
        };
        let ended = tokio::select! {
            ended = exit_and_talk(&mut self.child, talk) => ended,
            _ = stopped => Ended::Stopped,
        };
        match ended {
            // What it has left behind was to go on without it.
            Ended::Exited(..) => self.group.signal(Signal::KILL),
            _ => self.stop().await,
        }
        self.group.release();
        ended
    }

    /// SIGTERM to the group, and SIGKILL if it does not help.
    async fn stop(&mut self) {
        self.group.signal(Signal::TERM);
        if timeout(self.kill_after, self.child.wait()).await.is_err() {
            self.group.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
        // Whatever of the group has outlived its leader.
        self.group.signal(Signal::KILL);
    }
}

/// Waits for the exit and for the ends of both pipes, but for the latter only a little longer than for the former.
async fn exit_and_talk(
    child: &mut Child,
    talk: impl Future<Output = Result<(Vec<u8>, Vec<u8>), Ended>>,
) -> Ended {
    tokio::pin!(talk);
    let (mut status, mut texts) = (None, None);
    while status.is_none() || texts.is_none() {
        let linger = status.is_some();
        tokio::select! {
            exited = child.wait(), if status.is_none() => match exited {
                Ok(exited) => status = Some(exited),
                Err(error) => return Ended::Failed(error),
            },
            talked = &mut talk, if texts.is_none() => match talked {
                Ok(both) => texts = Some(both),
                Err(ended) => return ended,
            },
            () = tokio::time::sleep(PIPES_LINGER), if linger => {
                let held = "something that it started keeps its output open";
                return Ended::Failed(io::Error::other(held));
            }
        }
    }
    match (status, texts) {
        (Some(status), Some((out, err))) => Ended::Exited(status, out, err),
        _ => unreachable!("the loop ends with both"),
    }
}

/// All that `pipe` gives, unless that is more than `max`.
async fn read_capped(pipe: impl AsyncRead + Unpin, max: usize) -> Result<Vec<u8>, Ended> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    pipe.take(limit)
        .read_to_end(&mut bytes)
        .await
        .map_err(Ended::Failed)?;
    if bytes.len() > max {
        Err(Ended::TooMuchOutput)
    } else {
        Ok(bytes)
    }
}

/// The first `max` bytes that `pipe` gives. The rest is read as well, so that the writer does not stall.
async fn read_up_to(mut pipe: impl AsyncRead + Unpin, max: usize) -> Result<Vec<u8>, Ended> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    (&mut pipe)
        .take(limit)
        .read_to_end(&mut bytes)
        .await
        .map_err(Ended::Failed)?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink())
        .await
        .map_err(Ended::Failed)?;
    Ok(bytes)
}

/// A process group with a living leader. Dropped before [`release`](Self::release), it is killed: then the runtime itself is
/// going, and there is no time left.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // It fails where the group is gone, which is what we want.
            let _ = kill_process_group(leader, signal);
        }
    }

    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
