//! One instance of a plugin: the author's value, and the runtime that it lives on.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    runtime::{EnterGuard, Handle},
    time::{Instant, sleep},
};
use tracing::{Dispatch, Instrument as _, dispatcher};

use crate::{
    Cx, Outcome, Plugin, Start,
    call::{Code, Report},
    engine::{Engine, Hooks},
    error::{Error, Result},
    ffi::{Host, OpenCall},
    log,
    panic::{self, Contained, drop_quietly},
    probe::{self, Probe, Watch},
    provider::Request,
    shared::Shared,
    signal::Signal,
};

/// How long a start may take that has no deadline of its own.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the threads of an instance have to end, even when no grace is given.
const LEAST_GRACE: Duration = Duration::from_millis(100);

/// One instance of the plugin `P`.
pub(crate) struct Instance<P> {
    /// Taken by the shutdown.
    plugin: Mutex<Option<Arc<P>>>,
    home: Home,
}

/// Where an instance lives.
struct Home {
    shared: Arc<Shared>,
    /// Taken by the shutdown.
    engine: Mutex<Option<Engine>>,
    handle: Handle,
    /// Of a test's instance.
    probe: Option<Arc<dyn Probe>>,
    threads: Arc<AtomicUsize>,
    /// Where its threads log, and others while they do something for it.
    log: Dispatch,
}

/// Why there is no instance.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl<P: Plugin> Instance<P> {
    /// Starts an instance, and waits for it. Must not be called on a thread of an async runtime.
    pub(crate) fn start(
        host: Host,
        name: &str,
        config: &[u8],
        deadline: Option<Instant>,
    ) -> Result<Self, Refusal> {
        let host = Arc::new(host);
        let made = Home::build::<P>(host.clone()).and_then(|home| {
            let start = Start::new(host.clone(), name, home.shared.scope.clone());
            let create = create::<P>(config.to_owned(), start, home.probe.clone());
            match home.wait(create, deadline) {
                Ok(plugin) => Ok(Self {
                    plugin: Mutex::new(Some(Arc::new(plugin))),
                    home,
                }),
                Err(refusal) => {
                    home.end(LEAST_GRACE);
                    Err(refusal)
                }
            }
        });
        if made.is_err() {
            host.close();
        }
        made
    }

    /// Makes this thread see the instance's time, where that is not everybody's.
    pub(crate) fn enter_its_time(&self) -> Option<EnterGuard<'_>> {
        self.home.probe.as_ref().map(|_| self.home.handle.enter())
    }

    /// Takes on one call. It ends by itself; who raises the signal can hurry it.
    pub(crate) fn call(&self, call: OpenCall) -> Arc<Signal> {
        let cancel = Arc::new(Signal::default());
        let watch = Watch::new(self.home.probe.clone(), call.id());
        let cx = Cx::new(call, Arc::clone(&cancel), self.home.shared.open());
        let plugin = lock(&self.plugin).clone();
        match plugin {
            Some(plugin) if P::INLINE && watch.lets_begin_anywhere() => {
                self.home.begin_here(drive(plugin, cx, watch));
            }
            Some(plugin) => drop(self.home.handle.spawn(drive(plugin, cx, watch))),
            None => drop(cx.finish(&Report::stopped(
                Code::Shutdown,
                "the instance has been shut down",
            ))),
        }
        cancel
    }

    /// Ends the instance within `grace`. Whether all calls and threads have ended.
    pub(crate) fn shutdown(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace.max(LEAST_GRACE);
        let Some(plugin) = lock(&self.plugin).take() else {
            return self.home.has_ended();
        };
        if self.home.probe.as_ref().is_some_and(|probe| probe.has_crashed()) {
            // Nobody says farewell: what the plugin holds goes, and its calls are dropped where they are.
            self.home.end(LEAST_GRACE);
            drop_quietly(plugin);
            return self.home.has_ended();
        }
        self.home.shared.closing.raise();
        let shared = Arc::clone(&self.home.shared);
        let farewell = async move {
            shared.none_open().await;
            Contained::new(plugin.shutdown()).await.ok();
            // Here, on its own runtime, and not on a thread of the host's.
            drop_quietly(plugin);
            Ok(())
        };
        // A plugin that does not end in time is ended with its runtime.
        let _ = self.home.wait(farewell, Some(deadline));
        self.home.end(
            deadline
                .saturating_duration_since(Instant::now())
                .max(LEAST_GRACE),
        );
        self.home.has_ended()
    }

    /// Lets go of the host.
    pub(crate) fn close(&self) {
        self.home.shared.host.close();
    }
}

async fn create<P: Plugin>(config: Vec<u8>, start: Start, probe: Option<Arc<dyn Probe>>) -> Result<P> {
    let made = Contained::new(async {
        let config = parse("the configuration", &config)?;
        P::create(config, start).await
    });
    let made = made.await;
    if let Some(probe) = probe {
        probe.created();
    }
    made.unwrap_or_else(|message| Err(Error::panicked(message)))
}

/// One call, from its start to its end.
///
/// The order of the arguments matters: where the runtime is ended in the middle, they are dropped from the last to the first, and
/// a probe is told of the end before the host is, as it is otherwise.
async fn drive<P: Plugin>(plugin: Arc<P>, cx: Cx, watch: Watch) {
    let report = attempt(&*plugin, &cx, &watch)
        .instrument(log::call_span(cx.id()))
        .await;
    drop(watch);
    let open = cx.finish(&report);
    drop_quietly(plugin);
    drop(open);
}

async fn attempt<P: Plugin>(plugin: &P, cx: &Cx, watch: &Watch) -> Report {
    if cx.is_cancelled() {
        return Report::stopped(Code::Cancelled, "the call was canceled before it began");
    }
    // A provider has nothing that tells it to tidy up.
    let grace = match cx.is_request() {
        true => Duration::ZERO,
        false => P::CANCEL_GRACE,
    };
    let call = watch.over(Contained::new(async {
        match cx.is_request() {
            true => receive(plugin, cx).await,
            false => carry_out(plugin, cx).await,
        }
    }));
    tokio::select! {
        biased;
        ended = call => match ended {
            Ok(report) => report,
            Err(message) => Error::panicked(message).into_report(),
        },
        report = stopped(cx, grace) => report,
    }
}

/// What the author wrote, with its input read and its output written.
async fn carry_out<P: Plugin>(plugin: &P, cx: &Cx) -> Report {
    let outcome = async {
        let input = parse("the input", cx.input_json())?;
        plugin.call(input, cx).await
    };
    match outcome.await {
        Ok(Outcome::Done(output)) => match serde_json::to_vec(&output) {
            Ok(json) => Report::done(json),
            Err(error) => Error::fatal(format_args!(
                "it happened, but its output has no JSON form: {error}"
            ))
            .into_report(),
        },
        Ok(Outcome::Skipped(reason)) => Report::skipped(reason),
        Err(error) => error.into_report(),
    }
}

/// The same for a request, whose head and body stand in the places of event and input.
async fn receive<P: Plugin>(plugin: &P, cx: &Cx) -> Report {
    let verdict = async {
        let head = parse("the request", cx.event_json())?;
        plugin.receive(&Request::new(head, cx.input_json())).await
    };
    match verdict.await {
        Ok(verdict) => Report::done(verdict.to_json()),
        Err(error) => error.into_report(),
    }
}

/// Waits until the call is to be given up: after its cancellation, or the beginning of the shutdown, and the grace for it.
async fn stopped(cx: &Cx, grace: Duration) -> Report {
    let report = tokio::select! {
        () = cx.cancelled() => Report::stopped(Code::Cancelled, "the call was canceled"),
        () = cx.closing() => {
            Report::stopped(Code::Shutdown, "the instance was shut down in the middle of the call")
        }
    };
    if !grace.is_zero() {
        sleep(grace).await;
    }
    report
}

/// Reads JSON from the host, and names the field where it does not fit.
fn parse<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T> {
    // A step without `with` gives nothing; that is the empty object.
    let json = if json.is_empty() { b"{}" } else { json };
    // The host wrote the JSON, in one line: columns in it mean nothing to anybody.
    let without_place = |error: &serde_json::Error| {
        let error = error.to_string();
        let what = error.rsplit_once(" at line ").map(|(what, _)| what.to_owned());
        what.unwrap_or(error)
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        let error = without_place(error.inner());
        match place.as_str() {
            "." => Error::invalid(format_args!("{what} does not fit: {error}")),
            place => Error::invalid(format_args!("{what} does not fit at `{place}`: {error}")),
        }
    })?;
    let ended = reader.end();
    ended.map_err(|error| Error::invalid(format_args!("{what} does not fit: {}", without_place(&error))))?;
    Ok(value)
}

impl Home {
    /// A runtime with one worker thread, all of whose threads log to the host.
    fn build<P: Plugin>(host: Arc<Host>) -> Result<Self, Refusal> {
        let threads = Arc::new(AtomicUsize::new(0));
        let log = log::dispatch(host.clone());
        let hooks = Hooks {
            begin: Arc::new({
                let log = log.clone();
                move || {
                    log::forward_from_this_thread(&log);
                    panic::report_from_this_thread();
                }
            }),
            end: Arc::new(log::forget_this_thread),
            alive: threads.clone(),
        };
        let probe = probe::take();
        let name = format!("plug-{}", P::NAME);
        let engine = match &probe {
            #[cfg(feature = "virtual-time")]
            Some(probe) if probe.is_paused() => Engine::start_paused(&name, hooks),
            _ => Engine::start(&name, hooks),
        };
        let engine = engine.map_err(|error| {
            Refusal::new(
                Code::None,
                format!("the plugin's runtime cannot be started: {error}"),
            )
        })?;
        if let Some(probe) = &probe {
            probe.built(engine.handle());
        }
        Ok(Self {
            handle: engine.handle().clone(),
            shared: Shared::new(host, P::NAME),
            engine: Mutex::new(Some(engine)),
            probe,
            threads,
            log,
        })
    }

    /// Runs `call` on this thread until it waits, and from there on the runtime.
    fn begin_here(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut call = Box::pin(call);
        let began = || {
            let _runtime = self.handle.enter();
            // Whoever wakes it before the runtime has it wakes nobody; and the runtime polls it in any case.
            call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        let began = || dispatcher::with_default(&self.log, began);
        // Where it panics, its drop ends the call.
        if let Ok(Poll::Pending) = panic::reported(|| panic::contain(began)) {
            self.handle.spawn(call);
        } else {
            drop_quietly(call);
        }
    }

    /// Runs `work` on the runtime, and waits for it until `deadline`.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
        deadline: Option<Instant>,
    ) -> Result<T, Refusal> {
        let (tell, told) = mpsc::sync_channel(1);
        let work = async move {
            let result = Contained::new(work)
                .await
                .unwrap_or_else(|message| Err(Error::panicked(message)));
            // Nobody is there any longer where it came too late.
            let _ = tell.send(result);
        };
        self.handle.spawn(work);
        let limit = deadline.map_or(START_LIMIT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        match told.recv_timeout(limit) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Refusal::new(error.code(), error.to_string())),
            Err(_) => Err(Refusal::new(
                Code::Cancelled,
                format!("it was not ready within {limit:.1?}"),
            )),
        }
    }

    /// Ends the runtime: tasks at their next `.await`, threads within `grace`.
    fn end(&self, grace: Duration) {
        self.shared.closing.raise();
        self.shared.scope.close();
        let engine = lock(&self.engine).take();
        if let Some(engine) = engine {
            engine.end(grace);
        }
        self.shared.scope.end();
    }

    fn has_ended(&self) -> bool {
        !self.shared.is_any_open() && self.threads.load(Ordering::Relaxed) == 0
    }
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use crate::Empty;

    use super::*;

    #[test]
    fn what_is_read_is_one_value_and_nothing_after_it() {
        let read = |json: &[u8]| parse::<Empty>("the input", json).map_err(|error| error.to_string());
        assert_eq!(read(b"{}").unwrap(), Empty {});
        assert_eq!(read(b"").unwrap(), Empty {});
        assert_eq!(
            read(b"{} {}").unwrap_err(),
            "the input does not fit: trailing characters"
        );
        assert_eq!(
            read(b"{\"a\": 1}").unwrap_err(),
            "the input does not fit at `a`: unknown field `a`, there are no fields"
        );
    }
}
