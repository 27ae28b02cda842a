//! Calls as a test makes them, and what comes of them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use jackfield_event::{Data, Event, EventId, SpecVersion, Verification};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    Code, Ended,
    clock::{Clock, Timer},
    engine::Op,
    host::TestHost,
};
use crate::call;

/// A call to be made: an input, and whatever else a test cares about.
///
/// ```
/// use std::time::Duration;
/// use jackfield_sdk::{prelude::*, testing::{Call, event}};
///
/// let mut export = event();
/// export.data.title = Some("Tokens are exported".to_owned());
/// let second_attempt = Call::new(json!({ "channel": "#design" })).event(&export).attempt(2).deadline(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) input: Vec<u8>,
    pub(super) event: Vec<u8>,
    pub(super) workdir: Option<PathBuf>,
    pub(super) attempt: u32,
    pub(super) key: String,
    pub(super) deadline: Duration,
    pub(super) cancel_after: Option<Duration>,
}

impl Call {
    /// A first attempt with this input, for the event of [`event`], in a directory of the harness's, with a minute to go.
    pub fn new(input: Value) -> Self {
        Self {
            input: input.to_string().into_bytes(),
            event: event().to_json().into_bytes(),
            workdir: None,
            attempt: 1,
            key: "dlv_test/step".to_owned(),
            deadline: Duration::from_secs(60),
            cancel_after: None,
        }
    }

    /// A request, whose head and body stand in the places of event and input.
    pub(super) fn of_request(head: &Value, body: Vec<u8>) -> Self {
        Self {
            input: body,
            ..Self::new(Value::Null).event(head)
        }
    }

    /// For this event: an [`Event`], or its JSON as a [`Value`].
    ///
    /// # Panics
    ///
    /// Where it has no JSON form.
    #[must_use]
    pub fn event(mut self, event: &impl Serialize) -> Self {
        self.event = serde_json::to_vec(event).expect("an event has a JSON form");
        self
    }

    /// For an event of these bytes, whatever they are.
    #[must_use]
    pub fn event_bytes(mut self, json: impl Into<Vec<u8>>) -> Self {
        self.event = json.into();
        self
    }

    /// In this directory.
    #[must_use]
    pub fn workdir(mut self, dir: impl AsRef<Path>) -> Self {
        self.workdir = Some(dir.as_ref().to_owned());
        self
    }

    /// As this attempt, from 1.
    #[must_use]
    pub fn attempt(mut self, number: u32) -> Self {
        self.attempt = number;
        self
    }

    /// With this idempotency key: calls with an equal key are attempts at the same step, and see each other's receipts.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// With so much time; the call is then canceled, as the router does it.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Canceled after this time. To cancel at a certain point, use [`Harness::begin`](super::Harness::begin).
    #[must_use]
    pub fn cancel_after(mut self, pause: Duration) -> Self {
        self.cancel_after = Some(pause);
        self
    }
}

/// An event for calls that do not care which: `io.supernova.job.success` of the beginning of 2026, unverified, with a title.
///
/// # Panics
///
/// Never.
pub fn event() -> Event {
    let time = "2026-01-01T00:00:00Z".parse().expect("a moment in RFC 3339");
    Event {
        specversion: SpecVersion::V1,
        id: EventId::new(time, 0),
        source: "/in/test".to_owned(),
        kind: "io.supernova.job.success".to_owned(),
        subject: Some("job/6".to_owned()),
        time,
        datacontenttype: "application/json".to_owned(),
        dataschema: jackfield_event::DATA_SCHEMA.to_owned(),
        provider: "supernova".to_owned(),
        sourcename: "test".to_owned(),
        providerdelivery: None,
        providerattempt: None,
        verified: Verification::None,
        data: Data {
            title: Some("A test".to_owned()),
            ..Data::default()
        },
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How it ended.
    pub outcome: Ended,
    /// What kind of failure it was.
    pub code: Code,
    /// What the plugin put out; null for nothing.
    pub output: Value,
    /// What went wrong, or why it was skipped.
    pub message: String,
    /// How long the plugin asks to wait before the next attempt.
    pub retry_after: Option<Duration>,
}

impl Report {
    /// The output of a call that is done.
    ///
    /// # Panics
    ///
    /// Where it is not, with all that is known.
    #[track_caller]
    pub fn done(self) -> Value {
        assert_eq!(self.outcome, Ended::Done, "the call is not done: {self:?}");
        self.output
    }

    pub(super) fn new(raw: &call::Report) -> Self {
        let output = match raw.output.as_slice() {
            [] => Value::Null,
            json => serde_json::from_slice(json).expect("an output is JSON"),
        };
        Self {
            outcome: raw.ended,
            code: raw.code,
            output,
            message: raw.message.clone(),
            retry_after: raw.retry_after,
        }
    }
}

/// A call, or a request, that has begun. Dropped before its end, it is abandoned, as by a router that gives up waiting.
pub struct Running {
    pub(super) op: Arc<Op>,
    pub(super) ended: oneshot::Receiver<call::Report>,
    pub(super) host: TestHost,
    pub(super) id: u64,
    pub(super) time: Time,
}

/// By whose time a call is canceled.
pub(super) enum Time {
    /// By everybody's.
    Ours(Instant),
    /// By the instance's own.
    Theirs(
        Arc<Clock>,
        #[expect(dead_code, reason = "it is there to be dropped")] Timer,
    ),
}

impl Running {
    /// Asks the call to end.
    pub fn cancel(&self) {
        self.op.cancel();
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// Where the plugin's side never ends the call, which the SDK rules out.
    pub async fn end(mut self) -> Report {
        let report = match &self.time {
            Time::Ours(limit) => {
                let (_keep, rings) = alarm(*limit);
                tokio::select! {
                    biased;
                    report = &mut self.ended => report,
                    _ = rings => {
                        self.op.cancel();
                        (&mut self.ended).await
                    }
                }
            }
            Time::Theirs(clock, _) => {
                clock.run_until_the_end_of(self.id);
                (&mut self.ended).await
            }
        };
        self.host.close_call(self.id);
        Report::new(&report.expect("every call ends"))
    }

    /// Whether it has ended already.
    pub fn has_ended(&self) -> bool {
        self.op.has_ended()
    }
}

/// Rings at `limit`, unless what comes with it is dropped before. By a thread, since the test's runtime may keep a time of its
/// own, which leaps while the plugin works.
fn alarm(limit: Instant) -> (mpsc::Sender<()>, oneshot::Receiver<()>) {
    let (keep, kept) = mpsc::channel();
    let (ring, rings) = oneshot::channel();
    thread::spawn(move || {
        let left = limit.saturating_duration_since(Instant::now());
        if kept.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            let _ = ring.send(());
        }
    });
    (keep, rings)
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
