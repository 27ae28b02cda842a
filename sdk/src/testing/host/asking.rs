//! The host's desk: what is asked is noted, held, failed or carried out, and answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32, mpsc},
    thread,
};

use tokio::sync::watch;

use super::{
    seen::{Log, Metric},
    store::Store,
};
use crate::{
    ffi::double::{Answer, Double, Replier, Request},
    testing::{
        asked::{Asked, HostCall},
        cut::{self, Cutting},
        driver::Ticket,
    },
};

/// Where an answer goes. Where it is dropped, that is an answer as well.
pub(in crate::testing) enum Asker {
    /// To an instance in this process.
    Instance(Replier),
    /// To the process that an instance lives in.
    Driver(Ticket),
}

impl Asker {
    fn tell(self, answer: &Answer) {
        match self {
            Self::Instance(replier) => replier.send(answer),
            Self::Driver(ticket) => ticket.send(answer),
        }
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) level: Arc<AtomicU32>,
    /// To the thread that replies.
    replies: mpsc::Sender<(Answer, Asker)>,
    /// Changes with every request that is held.
    pub(super) held: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) asked: Vec<Asked>,
    pub(super) logs: Vec<Log>,
    pub(super) metrics: Vec<Metric>,
    pub(super) store: Store,
    pub(super) failing: HashMap<HostCall, usize>,
    pub(super) holding: HashMap<HostCall, Vec<(Request, Asker)>>,
    /// Calls that are to be cut off, by their ids.
    pub(super) cuts: HashMap<u64, Cutting>,
    pub(super) inline: bool,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        let (replies, queue) = mpsc::channel::<(Answer, Asker)>();
        thread::spawn(move || queue.into_iter().for_each(|(answer, asker)| asker.tell(&answer)));
        Arc::new(Self {
            state: Mutex::default(),
            level: Arc::new(AtomicU32::new(5)),
            replies,
            held: watch::channel(()).0,
        })
    }

    pub(super) fn logged(&self, log: Log) {
        self.state().logs.push(log);
    }

    pub(super) fn counted(&self, metric: Metric) {
        let mut state = self.state();
        state.asked.push(Asked::Metric(metric.clone()));
        state.metrics.push(metric);
    }

    pub(super) fn ask(&self, request: Request, asker: Asker) {
        let mut state = self.state();
        state.asked.push(Asked::of(&request));
        let kind = HostCall::of(&request);
        if let Some(held) = state.holding.get_mut(&kind) {
            held.push((request, asker));
            drop(state);
            self.held.send_replace(());
            return;
        }
        drop(state);
        self.carry_out(request, asker);
    }

    pub(super) fn carry_out(&self, request: Request, asker: Asker) {
        let mut state = self.state();
        let answer = state.answer(HostCall::of(&request), request);
        let cutting = cut::being_polled().and_then(|call| state.cuts.get_mut(&call));
        if let Some(cutting) = cutting {
            cutting.hold_back(answer, asker);
        } else {
            drop(state);
            self.reply(answer, asker);
        }
    }

    pub(super) fn reply(&self, answer: Answer, asker: Asker) {
        if self.state().inline {
            asker.tell(&answer);
        } else {
            // The thread ends with the host. Where it has, dropping the asker is a reply.
            let _ = self.replies.send((answer, asker));
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, kind: HostCall, request: Request) -> Answer {
        if let Some(times) = self.failing.get_mut(&kind)
            && *times > 0
        {
            *times -= 1;
            return Answer::Unavailable(format!("the test has {kind:?} fail"));
        }
        self.store.carry_out(request)
    }
}

impl Double for Shared {
    fn log(&self, call: u64, level: u32, target: String, message: String, fields: &[u8]) {
        self.logged(Log::new(level, target, message, fields, call != 0));
    }

    fn metric(&self, name: String, labels: &[u8], value: f64) {
        let labels = serde_json::from_slice(labels).unwrap_or_default();
        self.counted(Metric { name, labels, value });
    }

    fn request(&self, request: Request, reply: Replier) {
        self.ask(request, Asker::Instance(reply));
    }
}
