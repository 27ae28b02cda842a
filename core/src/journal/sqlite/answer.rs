//! Answers to those who wait for the writer.
//!
//! A group is answered all at once, and those who wait for it are tasks of a few threads. To wake a task of another
//! thread is a system call, and a hundred of them cost more than the rows that they answer for. So of the tasks of
//! one thread the writer calls one, and that one calls the others where they are.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// One who gives an answer, and one who waits for it: a task of this thread, for as long as it stays.
pub(super) fn channel<T>() -> (Reply<T>, Answer<T>) {
    let slot = Arc::new(Mutex::new(Slot::Open(None)));
    let desk = DESK.with(Arc::clone);
    (
        Reply {
            slot: Arc::clone(&slot),
            desk: Arc::clone(&desk),
        },
        Answer { slot, desk },
    )
}

/// Gives the answer. Dropped without one, it says so.
#[derive(Debug)]
pub(super) struct Reply<T> {
    slot: Arc<Mutex<Slot<T>>>,
    desk: Arc<Desk>,
}

/// Ready with the answer, or with `None` where there will be none.
#[derive(Debug)]
pub(super) struct Answer<T> {
    slot: Arc<Mutex<Slot<T>>>,
    desk: Arc<Desk>,
}

/// What lies between the two. Its lock may be held while that of a desk is taken.
#[derive(Debug)]
enum Slot<T> {
    // Open => (Given | Closed)
    Open(Option<Waker>),
    // Given => Closed
    Given(T),
    Closed,
}

/// Where tasks of one thread are called: those whose answer has been given and who may not know it yet.
///
/// The first of them in a [`Round`] has been called or will be, by that round; and whatever becomes of it, it empties the
/// desk and calls the rest. Only where it is left alone, neither looked at nor dropped, does it not: so each round calls
/// somebody, whoever was called before.
#[derive(Debug, Default)]
struct Desk(Mutex<Vec<Waker>>);

thread_local! {
    static DESK: Arc<Desk> = Arc::default();
}

/// Answers that are given together. Whoever is to be called is called when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Round(Vec<(Arc<Desk>, Waker)>);

impl Round {
    /// Gives one answer. Where nobody waits for it any more, it is dropped.
    pub(super) fn give<T>(&mut self, reply: &Reply<T>, answer: T) {
        let mut slot = lock(&reply.slot);
        let Slot::Open(waker) = &mut *slot else { return };
        let waker = waker.take();
        *slot = Slot::Given(answer);
        // Under the lock of the slot: whoever finds the answer there finds its waker at the desk.
        if let Some(waker) = waker {
            let mut called = lock(&reply.desk.0);
            let relied_on = self.0.iter().any(|(desk, _)| Arc::ptr_eq(desk, &reply.desk));
            if called.is_empty() || !relied_on {
                self.0.push((Arc::clone(&reply.desk), waker.clone()));
            }
            called.push(waker);
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(_, waker)| waker.wake());
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let waker = match &mut *lock(&self.slot) {
            Slot::Given(_) | Slot::Closed => None,
            open @ Slot::Open(_) => match std::mem::replace(open, Slot::Closed) {
                Slot::Open(waker) => waker,
                Slot::Given(_) | Slot::Closed => None,
            },
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.slot);
        if let Slot::Open(waker) = &mut *slot {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let given = std::mem::replace(&mut *slot, Slot::Closed);
        drop(slot);
        match given {
            Slot::Given(answer) => {
                self.desk.call_all();
                Poll::Ready(Some(answer))
            }
            Slot::Open(_) | Slot::Closed => Poll::Ready(None),
        }
    }
}

impl<T> Drop for Answer<T> {
    /// An answer that nobody takes may have been the one that was called for the whole desk.
    fn drop(&mut self) {
        let left = std::mem::replace(&mut *lock(&self.slot), Slot::Closed);
        if matches!(left, Slot::Given(_)) {
            self.desk.call_all();
        }
    }
}

impl Desk {
    fn call_all(&self) {
        let called = std::mem::take(&mut *lock(&self.0));
        called.into_iter().for_each(Waker::wake);
    }
}

/// Nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
    };

    use super::*;

    /// Counts how often its task was woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    struct Task<T> {
        bell: Arc<Bell>,
        answer: Pin<Box<Answer<T>>>,
    }

    impl<T> Task<T> {
        fn new(answer: Answer<T>) -> Self {
            Self {
                bell: Arc::default(),
                answer: Box::pin(answer),
            }
        }

        fn poll(&mut self) -> Poll<Option<T>> {
            let waker = Waker::from(Arc::clone(&self.bell));
            self.answer.as_mut().poll(&mut Context::from_waker(&waker))
        }

        fn rung(&self) -> usize {
            self.bell.0.load(SeqCst)
        }
    }

    /// So many tasks that wait, and those who will answer them.
    fn waiting(count: usize) -> (Vec<Reply<usize>>, Vec<Task<usize>>) {
        let (replies, answers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let mut tasks: Vec<_> = answers.into_iter().map(Task::new).collect();
        for task in &mut tasks {
            assert_eq!(task.poll(), Poll::Pending);
        }
        (replies, tasks)
    }

    fn give(replies: &[Reply<usize>]) {
        let mut round = Round::default();
        for (number, reply) in replies.iter().enumerate() {
            round.give(reply, number);
        }
    }

    fn rung(tasks: &[Task<usize>]) -> Vec<usize> {
        tasks.iter().map(Task::rung).collect()
    }

    #[test]
    fn one_task_of_a_thread_is_called_and_calls_the_others() {
        let (replies, mut tasks) = waiting(3);
        give(&replies);
        assert_eq!(rung(&tasks), [1, 0, 0]);
        assert_eq!(tasks[0].poll(), Poll::Ready(Some(0)));
        assert!(tasks[1..].iter().all(|task| task.rung() == 1));
        assert_eq!(tasks[1].poll(), Poll::Ready(Some(1)));
        assert_eq!(tasks[2].poll(), Poll::Ready(Some(2)));
    }

    #[test]
    fn a_task_that_is_gone_before_it_was_called_still_calls_the_others() {
        let (replies, mut tasks) = waiting(3);
        give(&replies);
        drop(tasks.remove(0));
        assert_eq!(rung(&tasks), [1, 1]);
    }

    #[test]
    fn a_task_that_was_gone_before_the_answer_is_not_relied_on() {
        let (replies, mut tasks) = waiting(3);
        drop(tasks.remove(0));
        give(&replies);
        assert_eq!(rung(&tasks), [1, 0]);
    }

    #[test]
    fn a_task_that_looks_too_early_leaves_nobody_behind() {
        let (replies, mut tasks) = waiting(3);
        let mut round = Round::default();
        round.give(&replies[0], 0);
        assert_eq!(tasks[0].poll(), Poll::Ready(Some(0)));
        round.give(&replies[1], 1);
        round.give(&replies[2], 2);
        drop(round);
        assert_eq!((tasks[1].rung(), tasks[2].rung()), (1, 0));
        assert_eq!(tasks[1].poll(), Poll::Ready(Some(1)));
        assert_eq!(tasks[2].rung(), 1);
    }

    #[test]
    fn an_answer_that_is_left_alone_keeps_none_of_a_later_round_waiting() {
        let (replies, mut tasks) = waiting(3);
        give(&replies[..1]);
        give(&replies[1..]);
        assert_eq!(rung(&tasks), [1, 1, 0]);
        assert_eq!(tasks[1].poll(), Poll::Ready(Some(0)));
        assert_eq!(tasks[2].rung(), 1);
    }

    #[test]
    fn whoever_will_not_be_answered_is_told() {
        let (replies, mut tasks) = waiting(1);
        drop(replies);
        assert_eq!(rung(&tasks), [1]);
        assert_eq!(tasks[0].poll(), Poll::Ready(None));
    }

    #[test]
    fn many_threads_miss_no_answer() {
        let (sender, receiver) = std::sync::mpsc::channel::<Reply<usize>>();
        let writer = std::thread::spawn(move || {
            while let Ok(first) = receiver.recv() {
                let mut round = Round::default();
                for reply in std::iter::once(first).chain(receiver.try_iter()) {
                    round.give(&reply, 1);
                }
            }
        });
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        let mut tasks = tokio::task::JoinSet::new();
                        for _ in 0..50 {
                            let sender = sender.clone();
                            tasks.spawn(async move {
                                let mut sum = 0;
                                for turn in 0..200 {
                                    let (reply, answer) = channel();
                                    sender.send(reply).unwrap();
                                    // Now and then nobody waits for it.
                                    if turn % 7 == 0 {
                                        tokio::select! { biased; _ = answer => {} () = tokio::task::yield_now() => {} }
                                    } else {
                                        sum += answer.await.unwrap();
                                    }
                                }
                                sum
                            });
                        }
                        tasks.join_all().await.iter().sum::<usize>()
                    })
                })
            })
            .collect();
        drop(sender);
        for asker in askers {
            assert_eq!(asker.join().unwrap(), 50 * (200 - 29));
        }
        writer.join().unwrap();
    }
}
