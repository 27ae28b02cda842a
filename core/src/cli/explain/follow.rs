//! `routes explain --follow`: events as they come in.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use jackfield_event::{EventId, Timestamp};
use serde::Serialize;

use super::{
    super::{
        Shape,
        table::{paint, short},
    },
    words,
};
use crate::{
    admin::{Explained, deliveries_of},
    clock::{Clock as _, SystemClock},
    journal::{EventFilter, EventRecord, History},
    router::{Generation, GenerationId},
};

/// An event that came in, and what the routes said to it.
#[derive(Serialize)]
struct Followed<'a> {
    #[serde(flatten)]
    event: &'a EventRecord,
    routes: Vec<Explained>,
}

/// Explains each event once it is committed, until nobody reads on.
pub(super) async fn follow(history: &dyn History, route: Option<&str>, shape: Shape) -> anyhow::Result<()> {
    let mut tail = Tail::from(SystemClock.now());
    let mut rules = Rules {
        history,
        compiled: HashMap::new(),
    };
    if shape == Shape::Table {
        eprintln!("events are explained as they come in; Ctrl-C ends it");
    }
    loop {
        for event in tail.next(history).await? {
            let Some(story) = history.event(event.id).await? else {
                continue;
            };
            let generation = rules.of(&event.generation).await?;
            let deliveries = deliveries_of(history, event.id).await?;
            let mut routes = Explained::of_stored(generation, &story, &deliveries)?;
            if let Some(route) = route {
                routes.retain(|explained| explained.explanation.route == route);
            }
            let followed = Followed {
                event: &event,
                routes,
            };
            if !print(&followed, shape)? {
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What comes in, in the order in which it can be seen.
///
/// An event is named when its request is whole, and committed a little later, by groups: a later one may be seen first. So a
/// stretch of the past is looked through each time, and what was seen of it is known.
struct Tail {
    since: Timestamp,
    seen: BTreeSet<EventId>,
}

impl Tail {
    fn from(start: Timestamp) -> Self {
        Self {
            since: start,
            seen: BTreeSet::new(),
        }
    }

    /// Events that were not there before, oldest first.
    async fn next(&mut self, history: &dyn History) -> anyhow::Result<Vec<EventRecord>> {
        let filter = EventFilter {
            since: Some(self.since),
            limit: usize::MAX,
            ..EventFilter::default()
        };
        let mut events = history.events(filter).await?;
        events.reverse();
        events.retain(|event| self.seen.insert(event.id));
        if let Some(newest) = events.last() {
            let back = newest
                .received
                .as_millis()
                .saturating_sub(LATEST.as_millis().try_into().unwrap_or(0));
            self.since = Timestamp::from_millis(back).unwrap_or(self.since).max(self.since);
            self.seen = self.seen.split_off(&EventId::new(self.since, 0));
        }
        Ok(events)
    }
}

/// The rules of the generations that events were routed under.
struct Rules<'h> {
    history: &'h dyn History,
    compiled: HashMap<GenerationId, Generation>,
}

impl Rules<'_> {
    async fn of(&mut self, id: &GenerationId) -> anyhow::Result<&Generation> {
        if !self.compiled.contains_key(id) {
            let text = self.history.rules(id).await?;
            let text = text.context("the journal does not have the rules of an event")?;
            // One that comes into force takes the place of another.
            self.compiled.clear();
            self.compiled.insert(id.clone(), Generation::from_stored(&text)?);
        }
        self.compiled.get(id).context("the rules were compiled just now")
    }
}

/// Prints an event; false where nobody reads any more.
fn print(followed: &Followed<'_>, shape: Shape) -> anyhow::Result<bool> {
    let text = match shape {
        Shape::Json => serde_json::to_string(followed)?,
        Shape::Table => {
            let EventRecord {
                id,
                source,
                kind,
                title,
                ..
            } = followed.event;
            let title = title.as_deref().map(|title| format!("  {}", short(title, 80)));
            let head = format!(
                "{}  {}  {}{}",
                paint(&id.to_string(), "1"),
                short(source, 64),
                short(kind, 80),
                title.unwrap_or_default()
            );
            let routes = match followed.routes.is_empty() {
                true => "there is no such route in the rules that it was routed under".to_owned(),
                false => words(&followed.routes),
            };
            format!("{head}\n{routes}\n")
        }
    };
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How long it is until the next look.
const PAUSE: Duration = Duration::from_millis(250);
/// How much later than its neighbours an event may be committed and still be seen.
const LATEST: Duration = Duration::from_secs(5);
