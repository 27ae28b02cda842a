//! A thread for work that may take a while and that nothing waits for which is in a hurry.

use std::{io, panic, sync::mpsc, thread};

use tokio::sync::oneshot;

/// Stands behind all other threads that want the processor: thousands of rules are compiled while events come in.
pub(super) struct Aside(mpsc::Sender<Work>);

type Work = Box<dyn FnOnce() + Send>;

impl Aside {
    /// Starts the thread, which ends with this.
    pub(super) fn start() -> io::Result<Self> {
        let (send, work) = mpsc::channel::<Work>();
        thread::Builder::new().name("rules".into()).spawn(move || {
            // Of this thread alone. Where it is forbidden, the work is done all the same.
            let _ = rustix::process::nice(BEHIND);
            work.into_iter().for_each(|work| work());
        })?;
        Ok(Self(send))
    }

    /// What comes of `work`.
    pub(super) async fn does<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, done) = oneshot::channel();
        let work = move || {
            // Where nobody waits any more, nobody wants to know.
            drop(send.send(panic::catch_unwind(panic::AssertUnwindSafe(work))));
        };
        self.0.send(Box::new(work)).expect(LIVES);
        match done.await.expect(LIVES) {
            Ok(done) => done,
            Err(panic) => panic::resume_unwind(panic),
        }
    }
}

const BEHIND: i32 = 10;
const LIVES: &str = "the thread lives as long as this, since no panic reaches it";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_handed_on_and_the_next_work_done_behind_all_others() {
        let aside = Arc::new(Aside::start().unwrap());
        let (mut waiting, panicking) = (JoinSet::new(), Arc::clone(&aside));
        waiting.spawn(async move { panicking.does(|| panic!("a bug")).await });
        let ended: Result<(), _> = waiting.join_next().await.unwrap();
        assert!(ended.unwrap_err().is_panic());
        let nice = || rustix::process::getpriority_process(None).unwrap();
        assert_eq!(aside.does(nice).await, (nice() + BEHIND).min(19));
    }
}
