//! Stories of deliveries, over a real journal and real rules; only the plugins are played.

mod asked;
mod breaker;
mod deadlines;
mod interruptions;
mod limits;
mod line;
mod power;
mod stage;
mod steps;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jackfield_event::{Event, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{DEFAULT_PATIENCE, Dispatcher, Generations, Limits, Options};
use crate::{
    clock::Clock,
    delivery::{Outcome, State},
    journal::{
        Arrival, Committed, DeliveryFilter, DeliveryStory, History as _, Journal, Options as JournalOptions,
        SqliteJournal,
    },
    plugin::{Caller, Instance, Registry, Report, StepCall, Visits},
    reason::Reason,
    router::{Generation, RuleFile},
    schema::Schema,
};

use stage::{Played, Stage, done, failed, report, states};

const TWO_STEPS: &str = r#"
[[route]]
name = "r"
when.type = ["x"]
[[route.step]]
id = "first"
use = "a"
[[route.step]]
use = "b"
with = { got = "{{ steps.first.value }}", of = "{{ event.data.project.id }}" }
"#;
