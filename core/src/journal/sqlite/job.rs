//! What waits for the writer: a piece of work within a transaction, and who is told of its end.

use std::time::Instant;

use super::{
    answer::{self, Answer, Reply, Round},
    store::Store,
    writer::text,
};
use crate::journal::JournalError;

/// Why a piece of work was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// It cannot be, as things stand. Nothing was written for it.
    Refused(JournalError),
    /// SQLite failed; what was written for it must be taken back.
    Store(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::Refused(error)
    }
}

/// A piece of work of any kind. It may be done twice: where a group fails, its jobs are done again, each apart.
pub(super) trait Job: Send {
    /// When it was asked for.
    fn asked(&self) -> Instant;

    /// Does it within the open transaction and keeps the answer.
    ///
    /// # Errors
    ///
    /// Where SQLite failed.
    fn run(&mut self, store: &mut Store<'_>) -> rusqlite::Result<()>;

    /// It failed, alone.
    fn fail(&mut self, error: &rusqlite::Error);

    /// Tells who asked: the answer, once it is committed, or why it is not.
    fn tell(self: Box<Self>, committed: Result<(), JournalError>, round: &mut Round);
}

/// A job and the one who waits for it.
pub(super) struct Asked<T, W> {
    asked: Instant,
    work: W,
    answer: Option<Result<T, JournalError>>,
    reply: Reply<Result<T, JournalError>>,
}

impl<T, W> Asked<T, W>
where
    T: Send,
    W: FnMut(&mut Store<'_>) -> Result<T, Fault> + Send,
{
    /// A job that does `work`, and where its answer will be.
    pub(super) fn new(work: W) -> (Box<Self>, Answer<Result<T, JournalError>>) {
        let (reply, answer) = answer::channel();
        (
            Box::new(Self {
                asked: Instant::now(),
                work,
                answer: None,
                reply,
            }),
            answer,
        )
    }
}

impl<T, W> Job for Asked<T, W>
where
    T: Send,
    W: FnMut(&mut Store<'_>) -> Result<T, Fault> + Send,
{
    fn asked(&self) -> Instant {
        self.asked
    }

    fn run(&mut self, store: &mut Store<'_>) -> rusqlite::Result<()> {
        self.answer = Some(match (self.work)(store) {
            Ok(answer) => Ok(answer),
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Store(error)) => return Err(error),
        });
        Ok(())
    }

    fn fail(&mut self, error: &rusqlite::Error) {
        self.answer = Some(Err(JournalError::Store(text(error))));
    }

    fn tell(self: Box<Self>, committed: Result<(), JournalError>, round: &mut Round) {
        let Self { answer, reply, .. } = *self;
        let answer = committed.and_then(|()| answer.unwrap_or(Err(JournalError::Closed)));
        // Where nobody waits for it any more, as a client hung up, what is committed stays.
        round.give(&reply, answer);
    }
}
