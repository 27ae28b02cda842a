//! The thread that programs are started from.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that started a program ends, not the process. A thread of tokio's may end at any
//! time; this one ends with the instance.

use std::{
    io,
    process::Stdio,
    sync::{Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use tokio::{process::Child, runtime::Handle};

use crate::ffi;

/// Starts programs, from one thread, which is itself started with the first of them.
#[derive(Debug)]
pub(crate) struct Spawner {
    thread_name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    // Idle => (Running | Ended)
    Idle,
    // Running => Ended
    Running(mpsc::Sender<Job>, JoinHandle<()>),
    Ended,
}

struct Job {
    command: std::process::Command,
    runtime: Handle,
    attend: Attend,
}

/// What takes care of a program from its first moment, or hears that it was not started.
type Attend = Box<dyn FnOnce(io::Result<Child>) + Send>;

impl Spawner {
    pub(crate) fn new(plugin: &str) -> Self {
        Self {
            thread_name: format!("plug-{plugin}"),
            state: Mutex::new(State::Idle),
        }
    }

    /// Starts a program as the leader of its own process group, with pipes at all three of its ends.
    ///
    /// `attend` is given it right there, on the thread and within the caller's runtime: were it sent back instead, a caller that
    /// has gone in the meantime would leave behind a program that nobody knows of.
    pub(super) fn spawn(
        &self,
        command: std::process::Command,
        attend: impl FnOnce(io::Result<Child>) + Send + 'static,
    ) -> io::Result<()> {
        self.submit(Job {
            command,
            runtime: Handle::current(),
            attend: Box::new(attend),
        })
    }

    fn submit(&self, job: Job) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Idle = *state {
            let (jobs, queue) = mpsc::channel::<Job>();
            let work = move || queue.into_iter().for_each(start);
            let thread = thread::Builder::new()
                .name(self.thread_name.clone())
                .spawn(work)?;
            *state = State::Running(jobs, thread);
        }
        match &*state {
            State::Running(jobs, _) => jobs.send(job).map_err(|_| ended()),
            State::Idle | State::Ended => Err(ended()),
        }
    }

    /// Ends the thread, and with it the programs that still run.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Running(jobs, thread) = std::mem::replace(&mut *state, State::Ended) {
            drop(jobs);
            // The last clone can go on the thread itself, with the last job.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(mut job: Job) {
    use std::os::unix::process::CommandExt as _;

    job.command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    job.command.process_group(0);
    ffi::die_with_parent(&mut job.command);
    let _runtime = job.runtime.enter();
    (job.attend)(tokio::process::Command::from(job.command).spawn());
}

fn ended() -> io::Error {
    io::Error::other("the instance is being shut down")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_program_dies_with_the_thread_that_started_it() {
        let spawner = Spawner::new("test");
        let mut command = std::process::Command::new("sleep");
        command.arg("1000");
        let (tell, told) = oneshot::channel();
        spawner
            .spawn(command, |started| tell.send(started).expect("the test waits"))
            .unwrap();
        let mut child = told.await.unwrap().unwrap();
        spawner.end();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn nothing_is_started_after_the_end() {
        let spawner = Spawner::new("test");
        spawner.end();
        let error = spawner
            .spawn(std::process::Command::new("true"), |_| unreachable!())
            .unwrap_err();
        assert_eq!(error.to_string(), "the instance is being shut down");
    }
}
