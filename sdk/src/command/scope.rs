//! Within which limits programs run.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::spawner::Spawner;
use crate::{Cx, Start, signal::Signal};

/// Within which limits programs run: until when, until which cancellation, and with whose life.
///
/// A `&Cx` or a `&Start` becomes one by itself, so a plugin seldom names it, except to hand it to a spawned task.
#[derive(Clone)]
pub struct Scope {
    deadline: Option<Instant>,
    cancel: Arc<Signal>,
    pub(super) spawner: Arc<Spawner>,
}

impl Scope {
    /// Limits that are nobody's: for the tests of functions that run programs, without a call around them.
    ///
    /// The programs die when the last clone of it goes.
    ///
    /// ```
    /// # use jackfield_sdk::command::{Command, Scope};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let output = Command::new("echo").arg("hello").run(Scope::detached(None)).await?;
    /// assert_eq!(output.success()?.stdout, b"hello\n");
    /// # Ok::<_, jackfield_sdk::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn detached(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            cancel: Arc::default(),
            spawner: Arc::new(Spawner::new("detached")),
        }
    }

    /// The limits of an instance of `plugin`: until `cancel` is raised.
    pub(crate) fn of_instance(plugin: &str, cancel: Arc<Signal>) -> Self {
        Self {
            deadline: None,
            cancel,
            spawner: Arc::new(Spawner::new(plugin)),
        }
    }

    /// The limits of a call of the instance whose limits these are.
    pub(crate) fn for_call(&self, deadline: Option<Instant>, cancel: Arc<Signal>) -> Self {
        Self {
            deadline,
            cancel,
            spawner: self.spawner.clone(),
        }
    }

    /// Starts no more programs.
    pub(crate) fn close(&self) {
        self.spawner.close();
    }

    /// Ends the thread that programs belong to, and with it those that still run.
    pub(crate) fn end(&self) {
        self.spawner.end();
    }

    /// When programs are to have ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Waits until programs are to end before their time.
    pub async fn cancelled(&self) {
        self.cancel.raised().await;
    }

    /// Whether programs are to end before their time.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_raised()
    }
}

impl From<&Self> for Scope {
    fn from(scope: &Self) -> Self {
        scope.clone()
    }
}

impl From<&Cx> for Scope {
    fn from(cx: &Cx) -> Self {
        cx.scope()
    }
}

impl From<&Start> for Scope {
    fn from(start: &Start) -> Self {
        start.scope()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("deadline", &self.deadline)
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
