//! Makes a case out of what the journal holds of an event.

use std::collections::{BTreeMap, BTreeSet};

use jackfield_event::{Event, EventId};
use serde_json::Value;

use super::{
    Case, read,
    redact::redact,
    write::{self, Left, Written},
};
use crate::{
    delivery::{Outcome, Phase},
    journal::{DeliveryFilter, DeliveryStory, EventStory, Failure, History, JournalError},
    provider,
    reason::Reason,
    router::{Generation, Rehearsed},
};

/// A case, and what was taken out of it.
#[derive(Debug)]
pub struct Captured {
    /// The case, as it stands in a file.
    pub text: String,
    /// The paths of what is redacted.
    pub redacted: Vec<String>,
    /// Routes that match the event, but not without what is redacted; and the other way round.
    pub changed: Vec<String>,
}

/// What a case begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The event.
    Event,
    /// The request that it came from.
    Request,
}

/// Why no case can be made.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is nothing to make it from.
    #[error("{0}")]
    Nothing(String),
    /// What the journal holds cannot be read as what it is.
    #[error("the stored event {event} makes no case: {why}")]
    Unreadable {
        /// The event.
        event: EventId,
        /// In words.
        why: String,
    },
}

/// Makes a case called `name` of a stored event: what `generation` makes of it, where steps put out what they put out in history.
///
/// It passes under these rules; that is tried before it is given away.
///
/// # Errors
///
/// Where there is no such event, or it cannot be read.
pub async fn capture(
    history: &dyn History,
    id: EventId,
    generation: &Generation,
    from: From,
    name: Option<String>,
) -> Result<Captured, CaptureError> {
    let story = history.event(id).await?;
    let story = story.ok_or_else(|| CaptureError::Nothing(format!("there is no event {id}")))?;
    let unreadable = |why: String| CaptureError::Unreadable { event: id, why };
    if let Some(missing) = story.kept.missing() {
        return Err(unreadable(missing.to_owned()));
    }
    let mut redacted = Vec::new();
    let occurrence = match from {
        From::Event => {
            let event = redact(story.event.get(), "event");
            redacted.extend(event.paths);
            write::event(&event.text)
        }
        From::Request => request(history, &story, &mut redacted).await?,
    };
    let mut left = left(history, id, &mut redacted).await?;
    let name = name.unwrap_or_else(|| format!("{} {id}", story.record.kind));
    let head = write::head(&name) + &occurrence;
    let case = parsed(&format!("{}routes = []\n{occurrence}", write::head(&name))).map_err(unreadable)?;
    // A first look finds which routes there are, and what is dead from the start; a second one has their outputs.
    let mut expected = Vec::new();
    for Rehearsed { route, order, .. } in case.rehearse(generation).map_err(unreadable)? {
        let left = left.entry(route.name().to_owned()).or_default();
        if let Err(error) = order {
            left.failure = Some(Failure {
                step: None,
                reason: Reason::OrderKeyFailed,
                error,
            });
        }
        expected.push(self::expected(route.name(), left));
    }
    let case = Case { expected, ..case };
    let rehearsed = case.rehearse(generation).map_err(unreadable)?;
    let mut written = Vec::new();
    for rehearsed in &rehearsed {
        let left = left.remove(rehearsed.route.name()).unwrap_or_default();
        written.push(Written::whole(rehearsed, left));
    }
    let routes = write::routes(&written);
    let matched: BTreeSet<_> = rehearsed.iter().map(|one| one.route.name().to_owned()).collect();
    let changed = changed(&story, generation, &matched).map_err(unreadable)?;
    let mut text = String::new();
    write::comment(
        &mut text,
        &format!(
            "By `jackfield events capture {id}`, under rules of generation {}.",
            generation.id()
        ),
    );
    if !redacted.is_empty() {
        write::comment(&mut text, &format!("Redacted: {}.", redacted.join(", ")));
    }
    if !changed.is_empty() {
        let names = changed.join("`, `");
        write::comment(
            &mut text,
            &format!("With what is redacted, `{names}` would come out otherwise."),
        );
    }
    text += &match rehearsed.is_empty() {
        true => format!("{}routes = []\n{occurrence}", write::head(&name)),
        false => head + &routes,
    };
    let written = parsed(&text).map_err(unreadable)?;
    match written.judge(generation).first() {
        None => Ok(Captured {
            text,
            redacted,
            changed,
        }),
        Some(mismatch) => Err(unreadable(format!(
            "as it is written it does not pass ({}); please report this",
            mismatch.message
        ))),
    }
}

/// The one case of a text.
fn parsed(text: &str) -> Result<Case, String> {
    let cases = read::read("the case", text, std::path::Path::new(""), &BTreeMap::new());
    let case = cases.map_err(|faults| faults.to_string())?.pop();
    case.ok_or_else(|| "there is none".to_owned())
}

/// The request of an event, as the case has it.
async fn request(
    history: &dyn History,
    story: &EventStory,
    redacted: &mut Vec<String>,
) -> Result<String, CaptureError> {
    let record = &story.record;
    let why = |words: &str| CaptureError::Nothing(format!("{words}; capture the event, without `--request`"));
    if !provider::names().any(|name| name == record.provider) {
        let words = format!(
            "only its plugin knows what `{}` makes of a request",
            record.provider
        );
        return Err(why(&words));
    }
    let request = history.event_request(record.id).await?;
    let request = request.ok_or_else(|| why(&format!("the journal has no request of {}", record.id)))?;
    let event: Event = serde_json::from_str(story.event.get()).map_err(|error| CaptureError::Unreadable {
        event: record.id,
        why: error.to_string(),
    })?;
    let verified = serde_json::to_value(event.verified).unwrap_or_default();
    let body = redact(&String::from_utf8_lossy(&request.body), "body");
    redacted.extend(body.paths);
    Ok(write::request(
        &[
            ("source", record.source.clone()),
            ("provider", record.provider.clone()),
            ("received", request.received.to_string()),
            ("verified", verified.as_str().unwrap_or_default().to_owned()),
        ],
        &request.headers,
        &body.text,
    ))
}

/// What the deliveries of an event left behind, by route: of several, the newest that did anything.
async fn left(
    history: &dyn History,
    id: EventId,
    redacted: &mut Vec<String>,
) -> Result<BTreeMap<String, Left>, JournalError> {
    let filter = DeliveryFilter {
        event: Some(id),
        limit: usize::MAX,
        ..DeliveryFilter::default()
    };
    let mut left = BTreeMap::new();
    for record in history.deliveries(filter).await? {
        let known: Option<&(Left, Vec<String>)> = left.get(&record.route);
        if known.is_some_and(|(known, _)| !known.outputs.is_empty()) {
            continue;
        }
        let Some(story) = history.delivery(record.id).await? else {
            continue;
        };
        let one = of_delivery(&story);
        if known.is_none() || !one.0.outputs.is_empty() {
            left.insert(record.route, one);
        }
    }
    let left = left.into_iter().map(|(route, (left, paths))| {
        redacted.extend(paths);
        (route, left)
    });
    Ok(left.collect())
}

/// What one delivery left behind, and the paths of what is redacted of it.
fn of_delivery(story: &DeliveryStory) -> (Left, Vec<String>) {
    let mut left = Left::default();
    let mut paths = Vec::new();
    for attempt in &story.attempts {
        let (Some(Outcome::Done), Some(output)) = (attempt.outcome, &attempt.output) else {
            continue;
        };
        let name = format!("output of {}", attempt.step_id);
        let output = redact(output.get(), &name);
        if let Ok(value) = serde_json::from_str::<Value>(&output.text) {
            paths.extend(output.paths);
            left.outputs.insert(attempt.step_id.clone(), value);
        }
    }
    let began = |phase| story.attempts.iter().any(|attempt| attempt.phase == phase);
    left.failure = story.record.failure.clone().filter(|_| began(Phase::OnFailure));
    if let Some(failure) = &mut left.failure {
        let error = redact(&Value::from(failure.error.as_str()).to_string(), "failure.error");
        failure.error = serde_json::from_str(&error.text).unwrap_or_default();
        paths.extend(error.paths);
    }
    (left, paths)
}

/// The routes that the event takes as it is stored, or as it is redacted, but not both.
fn changed(
    story: &EventStory,
    generation: &Generation,
    matched: &BTreeSet<String>,
) -> Result<Vec<String>, String> {
    let whole = generation.explain(story.event.get().as_bytes());
    let before = whole.map_err(|error| error.to_string())?.into_iter();
    let before: BTreeSet<_> = before.filter(|one| one.matched).map(|one| one.route).collect();
    Ok(before.symmetric_difference(matched).cloned().collect())
}

fn expected(name: &str, left: &Left) -> super::Expected {
    let place = crate::fault::Source::new("the case", "").place(0..0);
    let steps = left.outputs.iter().map(|(id, output)| super::ExpectedStep {
        id: id.clone(),
        place: place.clone(),
        fate: super::Fate::Any,
        output: Some(output.to_string().into()),
    });
    super::Expected {
        name: name.to_owned(),
        order: None,
        steps: steps.collect(),
        on_failure: Vec::new(),
        failure: left.failure.clone(),
        place,
    }
}
