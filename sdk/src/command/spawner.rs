//! The thread that programs are started from.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that started a program ends, not the process. A thread of tokio's may end at any
//! time; this one ends with the instance.

use std::{
    io,
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
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
    // Running => (Closed | Ended)
    Running(mpsc::Sender<Job>, Thread),
    // Closed => Ended
    Closed(Thread),
    Ended,
}

#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected once there is nothing more to start.
    idle: mpsc::Receiver<()>,
    /// While it is there, so is the thread.
    stay: mpsc::Sender<()>,
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
        let mut state = self.state();
        if let State::Idle = *state {
            let (jobs, queue) = mpsc::channel();
            *state = State::Running(jobs, Thread::start(self.thread_name.clone(), queue)?);
        }
        match &*state {
            State::Running(jobs, _) => jobs.send(job).map_err(|_| ended()),
            State::Idle | State::Closed(_) | State::Ended => Err(ended()),
        }
    }

    /// Starts no more programs. Those that have been asked for are started first, and run on.
    ///
    /// To be done before the runtime ends that attends to them: in one that is ending, a program is started, and is then said not
    /// to be.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Running(jobs, thread) => {
                drop(jobs);
                let _ = thread.idle.recv();
                *state = State::Closed(thread);
            }
            State::Closed(thread) => *state = State::Closed(thread),
            State::Idle | State::Ended => {}
        }
    }

    /// Ends the thread, and with it the programs that still run.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Running(jobs, thread) => {
                drop(jobs);
                thread.end();
            }
            State::Closed(thread) => thread.end(),
            State::Idle | State::Ended => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Thread {
    fn start(name: String, queue: mpsc::Receiver<Job>) -> io::Result<Self> {
        let (busy, idle) = mpsc::channel::<()>();
        let (stay, end) = mpsc::channel::<()>();
        let work = move || {
            queue.into_iter().for_each(start);
            drop(busy);
            let _ = end.recv();
        };
        let handle = thread::Builder::new().name(name).spawn(work)?;
        Ok(Self { handle, idle, stay })
    }

    fn end(self) {
        drop(self.stay);
        // The last clone of a scope can go on the thread itself, with the last job.
        if self.handle.thread().id() != thread::current().id() {
            let _ = self.handle.join();
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
    async fn what_is_asked_for_before_the_close_is_started_in_it_and_runs_on() {
        let spawner = Spawner::new("test");
        let mut command = std::process::Command::new("sleep");
        command.arg("1000");
        let (tell, mut told) = oneshot::channel();
        spawner
            .spawn(command, |started| tell.send(started).expect("the test waits"))
            .unwrap();
        spawner.close();
        let mut child = told.try_recv().unwrap().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        spawner.end();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn nothing_is_started_after_the_close_or_the_end() {
        let (closed, over) = (Spawner::new("test"), Spawner::new("test"));
        let start = |spawner: &Spawner| spawner.spawn(std::process::Command::new("true"), drop);
        start(&closed).unwrap();
        closed.close();
        over.end();
        for spawner in [closed, over] {
            let error = start(&spawner).unwrap_err();
            assert_eq!(error.to_string(), "the instance is being shut down");
        }
    }
}
