//! `tracing` inside a plugin, sent to the router's log.
//!
//! A `.so` has its own copy of `tracing`, so nobody listens in it but this. The subscriber is not the process's but set on
//! each thread of an instance's runtime: then two instances of one library tell their messages apart, and a test's own
//! subscriber is left alone. Threads that a plugin makes by other means are not heard.
//!
//! A line has the fields of its message and of all spans around it, what is closest to it first; and in `span` the names of those
//! spans, `outer:inner`, unless a field of that name says something else.

use std::{cell::RefCell, fmt, sync::Arc};

use serde_json::{Map, Value};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, Interest},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::ffi::Host;

/// The field of a call's own span that says which call it is. It goes beside the message, not into its fields.
const CALL: &str = "jackfield_call";

/// The subscriber that sends all to `host`.
pub(crate) fn dispatch(host: Arc<Host>) -> Dispatch {
    Dispatch::new(Registry::default().with(Forward { host }))
}

thread_local! {
    static SUBSCRIBED: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// Has this thread's messages sent through `dispatch`, until [`forget_this_thread`].
pub(crate) fn forward_from_this_thread(dispatch: &Dispatch) {
    let guard = tracing::dispatcher::set_default(dispatch);
    SUBSCRIBED.set(Some(guard));
}

pub(crate) fn forget_this_thread() {
    SUBSCRIBED.take();
}

/// The span around all that a call does. It has no fields of its own to be shown: the router knows them.
pub(crate) fn call_span(call: u64) -> tracing::Span {
    tracing::error_span!(target: "jackfield", "call", jackfield_call = call)
}

/// Whether it is the span of [`call_span`].
fn is_call(span: &Metadata<'_>) -> bool {
    span.fields().field(CALL).is_some()
}

struct Forward {
    host: Arc<Host>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Forward {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The router changes its level at any time.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        number(*metadata.level()) <= self.host.max_log_level()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut new = Fields::default();
        values.record(&mut new);
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            fields.take_in(new);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let scope = context.event_scope(event);
        let spans: Vec<_> = scope.into_iter().flat_map(|scope| scope.from_root()).collect();
        let mut all = Fields::within(
            spans
                .iter()
                .filter(|span| !is_call(span.metadata()))
                .map(|span| span.name()),
        );
        for span in &spans {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.take_in(fields.clone());
            }
        }
        all.take_in(own);
        let metadata = event.metadata();
        self.host.log(
            all.call.unwrap_or(0),
            number(*metadata.level()),
            metadata.target(),
            &all.message,
            &all.json(),
        );
    }
}

/// The router's number of a level: 1 for errors to 5 for traces.
fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// What a span or an event has recorded.
#[derive(Clone, Default)]
struct Fields {
    call: Option<u64>,
    message: String,
    values: Map<String, Value>,
}

impl Fields {
    /// What is known of a message by the names of the spans that it lies in, from the outermost.
    fn within<'a>(spans: impl Iterator<Item = &'a str>) -> Self {
        let path = spans.collect::<Vec<_>>().join(":");
        let mut fields = Self::default();
        if !path.is_empty() {
            fields.values.insert("span".to_owned(), path.into());
        }
        fields
    }

    /// Adds what is recorded closer to the event; it wins.
    fn take_in(&mut self, closer: Self) {
        self.call = closer.call.or(self.call);
        self.message = closer.message;
        self.values.extend(closer.values);
    }

    fn json(&self) -> String {
        if self.values.is_empty() {
            return String::new();
        }
        serde_json::to_string(&self.values).expect("JSON values have a JSON form")
    }

    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.values.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == CALL {
            self.call = Some(value);
        } else {
            self.add(field, value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
