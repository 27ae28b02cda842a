//! Calls that are cut off at a certain point.
//!
//! The host's answers to what a call asks for while it is polled are held back until it waits, so that it waits exactly once for each,
//! however fast the host's thread is: the third `.await` of one run is the third of the next.

use std::{
    cell::Cell,
    sync::{Arc, mpsc},
};

use super::{
    asked::Asked,
    call::{Call, Report},
    engine::Op,
    harness::{Harness, next_id},
    host::Asker,
    library::only_within,
};
use crate::{Plugin, ffi::double::Answer, panic::Contained};

/// One run of a call that was canceled while it waited: what [`cancel_at_each_await`](Harness::cancel_at_each_await) gives
/// to its check.
#[derive(Debug)]
pub struct Cut {
    /// Where it was canceled: the first time that it waited is 1.
    pub at: usize,
    /// How it ended.
    pub report: Report,
    /// What it asked of the host, in order. It has not heard the answer to the last, if that is what it waited for.
    pub asked: Vec<Asked>,
    pub(super) call: Call,
}

impl<P: Plugin> Harness<P> {
    /// Makes a call again and again: the first time it is canceled where it first waits, at an `.await` or within one, then where it
    /// waits for the second time, and so on until it comes to its end undisturbed. `check` judges each run that was cut off; it may
    /// make the [next attempt](Cut::again). How often that was, and the report of the run that was not.
    ///
    /// Each run is a step of its own: it has its own idempotency key and, unless the call brings one, its own work directory. The
    /// host has carried out what a call asked for before it waits, but a call that is cut off there has not heard of it, as when
    /// the machine dies between the two. A plugin must not block its thread until the host answers, here.
    ///
    /// ```
    /// # use jackfield_sdk::{prelude::*, testing::{Call, Code, Harness}};
    /// # struct Poster;
    /// # #[async_trait]
    /// # impl Plugin for Poster {
    /// #     type Config = Empty;
    /// #     type Input = Empty;
    /// #     type Output = String;
    /// #     const NAME: &'static str = "poster";
    /// #     const VERSION: &'static str = "1.0.0";
    /// #     async fn create(_: Empty, _: Start) -> Result<Self> { Ok(Self) }
    /// #     async fn call(&self, _: Empty, cx: &Cx) -> Result<Outcome<String>> {
    /// #         match cx.receipt::<(), String>().await? {
    /// #             Receipt::Done(posted) => return Ok(Outcome::Done(posted)),
    /// #             Receipt::Intended(()) => return Err(Error::ambiguous("it may have been posted")),
    /// #             Receipt::Absent => {}
    /// #         }
    /// #         cx.intend(&()).await?;
    /// #         cx.record(&"posted").await?;
    /// #         Ok(Outcome::Done("posted".into()))
    /// #     }
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let poster = Harness::<Poster>::start(json!({})).await.unwrap();
    /// let (times, undisturbed) = poster.cancel_at_each_await(Call::new(json!({})), async |cut| {
    ///     assert_eq!(cut.report.code, Code::Cancelled);
    ///     // It is posted, or somebody is asked: but not posted again.
    ///     let again = poster.call(cut.again()).await;
    ///     let intended = matches!(poster.host().receipt(cut.key()), Receipt::Intended(_));
    ///     assert!(again.output == "posted" || intended);
    /// }).await;
    /// assert_eq!((times, undisturbed.done()), (3, json!("posted")));
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// Where `check` panics, a run does not end exactly once, or the call waits a thousand times and goes on; with the place at
    /// which it was cut off.
    pub async fn cancel_at_each_await(&self, call: Call, check: impl AsyncFn(&Cut)) -> (usize, Report) {
        only_within("each `.await` of a call is found");
        for at in 1..=MOST_AWAITS {
            let (cut, reached) = self.cut(&call, at).await;
            if !reached {
                return (at - 1, cut.report);
            }
            if let Err(message) = Contained::new(check(&cut)).await {
                panic!("canceled at {}: {message}", cut.place());
            }
        }
        panic!("a call that has waited {MOST_AWAITS} times does not come to its end");
    }

    /// Makes the call as a step of its own, canceled where it waits for the `at`th time. Whether it came so far.
    async fn cut(&self, call: &Call, at: usize) -> (Cut, bool) {
        let mut call = call.clone().key(format!("{}/await-{at}", call.key));
        let workdir = || self.workdir().join(format!("await-{at}"));
        call.workdir = Some(call.workdir.unwrap_or_else(workdir));
        let (id, asked_before) = (next_id(), self.host().asked().len());
        let (give, op) = mpsc::sync_channel(1);
        self.host().cut(id, at, op);
        let running = self.begin_as(id, call.clone());
        let op = running.op.clone();
        // Where it has ended already, nobody takes it.
        let _ = give.send(op.clone());
        let report = running.end().await;
        let cut = Cut {
            at,
            report,
            asked: self.host().asked().split_off(asked_before),
            call,
        };
        let times = op.times_ended();
        assert_eq!(times, 1, "canceled at {}: it ends exactly once", cut.place());
        (cut, self.host().was_cut(id))
    }
}

/// How often a call may wait.
const MOST_AWAITS: usize = 1000;

impl Cut {
    /// The run's own idempotency key.
    pub fn key(&self) -> &str {
        &self.call.key
    }

    /// The next attempt at the same step, as the router makes it.
    #[must_use]
    pub fn again(&self) -> Call {
        let call = self.call.clone();
        let attempt = call.attempt + 1;
        call.attempt(attempt)
    }

    /// Where it was canceled, in words.
    pub(super) fn place(&self) -> String {
        let at = self.at;
        match self.asked.last() {
            Some(asked) => format!("await {at} (the last that it had asked of the host: {asked})"),
            None => format!("await {at} (it had asked nothing of the host)"),
        }
    }
}

/// Brings what a call is canceled by, as soon as there is such a thing.
pub(super) type NextOp = mpsc::Receiver<Arc<Op>>;

/// What the host has to know of a call that is to be cut off.
pub(super) struct Cutting {
    /// Which time that it waits.
    at: usize,
    waited: usize,
    op: Option<NextOp>,
    held_back: Vec<(Answer, Asker)>,
}

impl Cutting {
    pub(super) fn new(at: usize, op: NextOp) -> Self {
        Self {
            at,
            waited: 0,
            op: Some(op),
            held_back: Vec::new(),
        }
    }

    pub(super) fn hold_back(&mut self, answer: Answer, asker: Asker) {
        self.held_back.push((answer, asker));
    }

    /// Notes that the call waits, or has ended. What it is to be canceled by, if this is the moment; and the answers that it may
    /// have now.
    pub(super) fn polled(&mut self, waits: bool) -> (Option<NextOp>, Vec<(Answer, Asker)>) {
        self.waited += usize::from(waits);
        let now = waits && self.waited == self.at;
        (
            if now { self.op.take() } else { None },
            std::mem::take(&mut self.held_back),
        )
    }

    pub(super) fn was_reached(&self) -> bool {
        self.op.is_none()
    }
}

thread_local! {
    /// The call that is being polled on this thread, if it is one that is to be cut off.
    static POLLED: Cell<Option<u64>> = const { Cell::new(None) };
}

pub(super) fn polling(call: Option<u64>) -> Option<u64> {
    POLLED.replace(call)
}

pub(super) fn being_polled() -> Option<u64> {
    POLLED.get()
}
