//! What is told to the test, and what the plugin logs among it.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use super::words::Notice;
use crate::plugin::log;

/// The way to the test, line by line. A leaf lock.
#[derive(Clone, Debug)]
pub(super) struct Told(Arc<Mutex<File>>);

impl Told {
    pub(super) fn new(file: File) -> Self {
        Self(Arc::new(Mutex::new(file)))
    }

    pub(super) fn tell(&self, notice: &Notice<'_>) {
        let mut line = serde_json::to_vec(notice).expect("a notice has a JSON form");
        line.push(b'\n');
        // Where the test is gone, its orders end as well, and with them this process.
        let _ = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&line);
    }

    /// Sends all that the plugin logs to the test, and what the router's own code has to say to standard error.
    pub(super) fn take_logs(&self) {
        let lines = Lines(self.clone()).with_filter(filter_fn(is_of_the_plugin));
        let own = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .without_time()
            .with_target(false)
            .with_filter(filter_fn(|meta| {
                *meta.level() <= LevelFilter::WARN && meta.target() != PLUGIN
            }));
        // There is none yet, this being the start of the process.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines).with(own));
    }
}

/// The span of a call, in which its lines are written.
pub(super) fn span() -> tracing::Span {
    tracing::error_span!(target: "drive", "call")
}

fn is_of_the_plugin(meta: &Metadata<'_>) -> bool {
    meta.target() == PLUGIN || meta.target() == DRIVE && meta.is_span()
}

/// Lines as [`log::Line`] writes them.
struct Lines(Told);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        match line.module.as_str() {
            // What the plugin prints, and what a worker process says of itself, is no message of the plugin's.
            "stderr" => eprintln!("{}", line.message),
            "worker" if *event.metadata().level() <= LevelFilter::WARN => eprintln!("{}", line.message),
            "worker" => {}
            target => self.0.tell(&Notice::Log {
                level: log::number(LevelFilter::from_level(*event.metadata().level())),
                target,
                message: &line.message,
                fields: &line.fields,
                in_call: context
                    .event_scope(event)
                    .is_some_and(|mut spans| spans.next().is_some()),
            }),
        }
    }
}

#[derive(Default)]
struct Line {
    module: String,
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "module" => value.clone_into(&mut self.module),
            "fields" => value.clone_into(&mut self.fields),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "module" => self.module = format!("{value:?}"),
            _ => {}
        }
    }
}

/// The target of lines that plugins log.
const PLUGIN: &str = "plugin";
/// That of the spans of calls.
const DRIVE: &str = "drive";
