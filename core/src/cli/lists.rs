//! `events`, `deliveries`, `dead`, `refused`: lists of what the journal holds, and one thing whole.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use jackfield_event::{DeliveryId, EventId, Timestamp};

use super::{
    Output, Shape,
    capture::Capture,
    history, say, say_json, settle, show,
    table::{Table, age, short, state, until},
    wait,
};
use crate::{
    clock::{Clock, SystemClock},
    config,
    delivery::State,
    journal::{DeliveryFilter, DeliveryRecord, EventFilter, EventRecord, History, RejectionRecord},
    reason::Reason,
};

/// What came in.
#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// List events, the newest first.
    List {
        /// Only those of this source.
        #[arg(long)]
        source: Option<String>,
        /// Only those of this type, as in io.supernova.job.success.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only those older than this one: the next page.
        #[arg(long, value_name = "EVENT")]
        before: Option<EventId>,
        #[command(flatten)]
        page: Page,
    },
    Capture(Capture),
    /// Show one event: its request, its routes, its JSON.
    Show {
        /// The event, as evt_…
        id: EventId,
        #[command(flatten)]
        output: Output,
    },
}

/// What is owed, and what came of it.
#[derive(Debug, Subcommand)]
pub(super) enum Deliveries {
    /// List deliveries, the newest first.
    List {
        /// Only those in this state; may be given several times.
        #[arg(long, value_enum)]
        state: Vec<StateWord>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show one delivery with every attempt.
    Show {
        /// The delivery, as dlv_…
        id: DeliveryId,
        #[command(flatten)]
        output: Output,
    },
    Cancel(settle::Cancel),
    Resolve(settle::Resolve),
    Skip(settle::Skip),
}

/// Deliveries that were given up.
#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List dead letters with their reasons, the newest first.
    List {
        /// Also those that have been replayed: what came of that is another delivery's story.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show one dead letter with every attempt, and what can be done about it.
    Show {
        /// The delivery, as dlv_…
        id: DeliveryId,
        #[command(flatten)]
        output: Output,
    },
}

/// Requests that were refused.
#[derive(Debug, Subcommand)]
pub(super) enum Refused {
    /// List refused requests with their reasons, the newest first. Only the latest are kept, without bodies.
    List {
        #[command(flatten)]
        page: Page,
    },
}

/// Which deliveries, and how many.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only those of this route.
    #[arg(long)]
    route: Option<String>,
    /// Only those of this event.
    #[arg(long)]
    event: Option<EventId>,
    /// Only those given up, or waiting, for this reason, as in plugin-fatal.
    #[arg(long)]
    reason: Option<Reason>,
    /// Only those of an event of this source.
    #[arg(long)]
    source: Option<String>,
    /// Only those of an event of this type, as in io.supernova.job.success.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only those owed before this moment: a time ago, as in 2h, or a time such as 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only those older than this one: the next page.
    #[arg(long, value_name = "DELIVERY")]
    before: Option<DeliveryId>,
    #[command(flatten)]
    page: Page,
}

/// How many, and how they are printed.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// Only those of the last while, as in 30m, 24h or 7d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Duration>,
    /// How many at most.
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    output: Output,
}

/// A delivery's state, as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StateWord {
    Pending,
    Running,
    Waiting,
    Succeeded,
    Dead,
    Superseded,
    Canceled,
}

impl Events {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let history = &*history(config)?;
        match self {
            Self::Capture(capture) => capture.run(config, history),
            Self::List {
                source,
                kind,
                before,
                page,
            } => {
                let filter = EventFilter {
                    source,
                    kind,
                    since: page.since(),
                    before,
                    limit: page.limit,
                };
                let events = wait(history.events(filter))??;
                page.print(&events, || events_table(&events))
            }
            Self::Show { id, output } => {
                let story = wait(history.event(id))??.with_context(|| format!("there is no event {id}"))?;
                match output.output {
                    Shape::Json => say_json(&story),
                    Shape::Table => {
                        let request = wait(history.event_request(id))??;
                        Ok(say(show::event(&story, request.as_ref()))?)
                    }
                }
            }
        }
    }
}

impl Deliveries {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        match self {
            Self::List { state, filter } => {
                let states = state.into_iter().map(State::from).collect();
                filter.run(&*history(config)?, states, false, deliveries_table)
            }
            Self::Cancel(cancel) => cancel.run(&config::data_dir(config)?),
            Self::Resolve(resolve) => resolve.run(&config::data_dir(config)?),
            Self::Skip(skip) => skip.run(&config::data_dir(config)?),
            Self::Show { id, output } => {
                let Some(story) = wait(history(config)?.delivery(id))?? else {
                    bail!("there is no delivery {id}");
                };
                match output.output {
                    Shape::Json => say_json(&story),
                    Shape::Table => Ok(say(show::delivery(&story))?),
                }
            }
        }
    }
}

impl Dead {
    pub(super) fn run(self, history: &dyn History) -> anyhow::Result<()> {
        match self {
            Self::List { all, filter } => filter.run(history, vec![State::Dead], !all, dead_table),
            Self::Show { id, output } => {
                let Some(story) = wait(history.delivery(id))?? else {
                    bail!("there is no delivery {id}");
                };
                match output.output {
                    Shape::Json => say_json(&story),
                    Shape::Table => Ok(say(show::dead(&story))?),
                }
            }
        }
    }
}

impl Refused {
    pub(super) fn run(self, history: &dyn History) -> anyhow::Result<()> {
        let Self::List { page } = self;
        let mut refused = wait(history.rejections(page.limit))??;
        if let Some(since) = page.since() {
            refused.retain(|record| record.rejection.received >= since);
        }
        page.print(&refused, || refused_table(&refused))
    }
}

impl Filter {
    fn run(
        self,
        history: &dyn History,
        states: Vec<State>,
        unreplayed: bool,
        table: fn(&[DeliveryRecord]) -> String,
    ) -> anyhow::Result<()> {
        let filter = DeliveryFilter {
            states,
            route: self.route,
            event: self.event,
            source: self.source,
            kind: self.kind,
            reason: self.reason,
            since: self.page.since(),
            until: self.until,
            unreplayed,
            before: self.before,
            limit: self.page.limit,
            ..DeliveryFilter::default()
        };
        let deliveries = wait(history.deliveries(filter))??;
        self.page.print(&deliveries, || table(&deliveries))
    }
}

impl Page {
    fn since(&self) -> Option<Timestamp> {
        before_now(self.since?)
    }

    fn print<T: serde::Serialize>(&self, records: &[T], table: impl Fn() -> String) -> anyhow::Result<()> {
        match self.output.output {
            Shape::Json => say_json(records),
            Shape::Table => Ok(say(table())?),
        }
    }
}

/// The moment that was so long ago.
pub(super) fn before_now(past: Duration) -> Option<Timestamp> {
    let past = i64::try_from(past.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(SystemClock.now().as_millis().saturating_sub(past))
}

impl From<StateWord> for State {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Pending => Self::Pending,
            StateWord::Running => Self::Running,
            StateWord::Waiting => Self::Waiting,
            StateWord::Succeeded => Self::Succeeded,
            StateWord::Dead => Self::Dead,
            StateWord::Superseded => Self::Superseded,
            StateWord::Canceled => Self::Canceled,
        }
    }
}

pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    crate::document::duration(text).ok_or("expected a time such as 30m, 24h or 7d")
}

/// A moment: so long ago, or as it is written in events.
pub(super) fn moment(text: &str) -> Result<Timestamp, &'static str> {
    let expected = "expected a time ago such as 30m, 24h or 7d, or a time such as 2026-01-31T08:00:00Z";
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    time(text).ok().and_then(before_now).ok_or(expected)
}

fn events_table(events: &[EventRecord]) -> String {
    let mut table = Table::new(["EVENT", "RECEIVED", "SOURCE", "TYPE", "TITLE", "DELIVERIES"]);
    for event in events {
        table.row([
            event.id.to_string(),
            age(event.received),
            event.source.clone(),
            short(&event.kind, 48),
            short(event.title.as_deref().unwrap_or("-"), 40),
            show::marks(&event.deliveries),
        ]);
    }
    table.show("no events found; `jackfield send <source>` posts one")
}

fn deliveries_table(deliveries: &[DeliveryRecord]) -> String {
    let mut table = Table::new([
        "DELIVERY", "OWED", "STATE", "ROUTE", "STEP", "INSTANCE", "ATTEMPTS", "WHY",
    ]);
    for delivery in deliveries {
        table.row([
            delivery.id.to_string(),
            age(delivery.created),
            state(delivery.state),
            short(&delivery.route, 32),
            (delivery.step + 1).to_string(),
            short(&delivery.instance, 24),
            delivery.attempts.to_string(),
            short(&why(delivery), 60),
        ]);
    }
    table.show("no deliveries")
}

fn dead_table(deliveries: &[DeliveryRecord]) -> String {
    let mut table = Table::new(["DELIVERY", "DIED", "ROUTE", "STEP", "REASON", "ERROR"]);
    for delivery in deliveries {
        let failure = delivery.failure.as_ref();
        table.row([
            delivery.id.to_string(),
            age(delivery.settled.unwrap_or(delivery.created)),
            short(&delivery.route, 32),
            failure
                .and_then(|failure| failure.step.clone())
                .unwrap_or_else(|| "-".into()),
            failure.map_or("-", |failure| failure.reason.code()).to_owned(),
            short(failure.map_or("-", |failure| &failure.error), 80),
        ]);
    }
    table.show("no dead letters; `--all` lists those as well that have been replayed")
}

fn refused_table(refused: &[RejectionRecord]) -> String {
    let mut table = Table::new(["RECEIVED", "SOURCE", "REASON", "FROM", "DETAIL", "OMITTED"]);
    for record in refused {
        let rejection = &record.rejection;
        table.row([
            age(rejection.received),
            rejection.source.clone().unwrap_or_else(|| "-".into()),
            rejection.reason.to_string(),
            rejection
                .remote
                .map_or_else(|| "-".into(), |remote| remote.to_string()),
            short(&rejection.detail, 80),
            record.omitted.to_string(),
        ]);
    }
    table.show("no request was refused lately")
}

/// Why a delivery stands where it stands, where that is not plain.
pub(super) fn why(delivery: &DeliveryRecord) -> String {
    if let Some(failure) = &delivery.failure
        && delivery.state != State::Canceled
    {
        let held = if delivery.held {
            "; holds up those of its order key"
        } else {
            ""
        };
        return format!("{}: {}{held}", failure.reason, failure.error);
    }
    let mut words = Vec::new();
    if let Some(reason) = delivery.reason {
        words.push(reason.to_string());
    }
    if let (Some(cancel), false) = (&delivery.cancel, delivery.state.is_settled()) {
        words.push(format!("to be canceled {}", cancel.asker.words()));
    }
    if let Some(successor) = &delivery.successor {
        words.push(format!("by {successor}"));
    }
    if let Some(detail) = &delivery.detail {
        words.push(detail.clone());
    }
    let mut text = words.join(": ");
    if delivery.blocked {
        text = "behind an older one of its order key".to_owned();
    }
    if let Some(due) = delivery.due {
        text = format!("{text} (due {})", until(due));
    }
    text
}
