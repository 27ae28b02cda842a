//! An instance at work: its calls, their ends, and its own.

use std::{
    collections::HashMap,
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    prepared::Instance,
    relay::Relay,
    told::{self, Told},
    words::{self, Call, Ended, Notice, Order, Receive, code_word},
};
use crate::{
    plugin::{Report, RequestCall, StepCall, report},
    reason::Reason,
};

/// An instance that is there, and what goes on in it.
pub(super) struct Driven {
    instance: Arc<Instance>,
    relay: Arc<Relay>,
    told: Told,
    tasks: TaskTracker,
    /// By what calls are asked to end, and by what nobody waits for them any more. A leaf lock.
    running: Arc<Mutex<HashMap<u64, Running>>>,
    /// Whether the test has had it shut down.
    ending: CancellationToken,
}

#[derive(Clone, Default)]
struct Running {
    cancelled: CancellationToken,
    abandoned: CancellationToken,
}

impl Driven {
    pub(super) fn new(instance: Instance, relay: Arc<Relay>, told: Told) -> Self {
        Self {
            instance: Arc::new(instance),
            relay,
            told,
            tasks: TaskTracker::new(),
            running: Arc::default(),
            ending: CancellationToken::new(),
        }
    }

    /// Does as it is told, until the instance has ended.
    pub(super) async fn obey(&self, orders: &mut UnboundedReceiver<Order>) {
        let grace = loop {
            match orders.recv().await {
                Some(Order::Call(call)) => self.call(call),
                Some(Order::Receive(request)) => self.receive(request),
                Some(Order::Cancel { call }) => self.running(call).cancelled.cancel(),
                Some(Order::Abandon { call }) => self.running(call).abandoned.cancel(),
                Some(Order::Answer { question, answer }) => self.relay.answered(question, answer),
                Some(Order::Start { .. }) => {}
                Some(Order::End { grace_us }) => break Duration::from_micros(grace_us),
                // The test is gone, or has dropped its instance.
                None => break Duration::ZERO,
            }
        };
        self.ending.cancel();
        let mut ending = std::pin::pin!(self.instance.end(grace));
        let whole = loop {
            tokio::select! {
                whole = &mut ending => break whole,
                Some(order) = orders.recv() => if let Order::Answer { question, answer } = order {
                    self.relay.answered(question, answer);
                },
            }
        };
        if whole {
            // Every call has ended, and is told before the end of all.
            self.tasks.close();
            self.tasks.wait().await;
        }
        self.told.tell(&Notice::Over { whole });
    }

    fn call(&self, call: Call) {
        let Ok(delivery) = call.delivery.parse() else {
            let report = report::fault(format!("`{}` is no delivery", call.delivery));
            return self.told.tell(&Notice::Ended(ended(call.id, report, false)));
        };
        let (relay, key) = (Arc::clone(&self.relay), call.key.clone());
        relay.begun(&key);
        self.carry_out(call.id, move |instance, cancelled| async move {
            let call = StepCall {
                event: call.event.0,
                input: call.input.0,
                delivery,
                route: call.route,
                step: call.step,
                attempt: call.attempt,
                idempotency_key: call.key,
                deadline: Instant::now() + Duration::from_micros(call.left_us),
                workdir: OsString::from_vec(call.workdir.0.to_vec()).into(),
                cancelled,
            };
            let report = instance.caller().call(call).await;
            relay.ended(&key);
            report
        });
    }

    fn receive(&self, request: Receive) {
        self.carry_out(request.id, move |instance, cancelled| async move {
            let request = RequestCall {
                head: request.head.0,
                body: request.body.0,
                deadline: Instant::now() + Duration::from_micros(request.left_us),
                cancelled,
            };
            instance.caller().receive(request).await
        });
    }

    /// Does `work`, which the token asks to end, and tells how it ended.
    fn carry_out<W>(&self, id: u64, work: impl FnOnce(Arc<Instance>, CancellationToken) -> W)
    where
        W: Future<Output = Report> + Send + 'static,
    {
        let running = Running::default();
        lock(&self.running).insert(id, running.clone());
        let work = work(Arc::clone(&self.instance), running.cancelled.clone());
        let (told, all, ending) = (self.told.clone(), Arc::clone(&self.running), self.ending.clone());
        let task = async move {
            let report = tokio::select! {
                report = work => Some(report),
                () = running.abandoned.cancelled() => None,
            };
            lock(&all).remove(&id);
            if let Some(report) = report {
                // Whoever was not asked to end by itself has ended with all others.
                let shut_down = ending.is_cancelled() && !running.cancelled.is_cancelled();
                told.tell(&Notice::Ended(ended(id, report, shut_down)));
            }
        };
        self.tasks.spawn(task.instrument(told::span()));
    }

    /// What is known of a call; of one that has ended, nothing that matters.
    fn running(&self, call: u64) -> Running {
        lock(&self.running).get(&call).cloned().unwrap_or_default()
    }
}

/// A report as the test hears it.
fn ended(call: u64, report: Report, shut_down: bool) -> Ended {
    Ended {
        call,
        outcome: report.outcome.word(),
        code: match report.reason {
            // Where the router stopped a call, the plugin may not have had the time to say so.
            Some(Reason::TimedOut | Reason::Interrupted) if report.code == jackfield_abi::CODE_NONE => {
                code_word(match shut_down {
                    true => jackfield_abi::CODE_SHUTDOWN,
                    false => jackfield_abi::CODE_CANCELLED,
                })
            }
            _ => code_word(report.code),
        },
        // That it is JSON was seen when the call ended.
        output: report
            .output
            .and_then(|output| serde_json::from_slice(&output).ok()),
        message: report.message.unwrap_or_default(),
        retry_after_us: report.retry_after.map(words::micros),
    }
}

/// Nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
