//! Who takes requests to provider plugins.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    delivery::Outcome,
    plugin::{Registry, Report, RequestCall, Visit},
    provider::{Judge, Unheard},
};

/// Takes each request to whatever instance has the name at that moment.
pub(super) struct Plugins {
    registry: Arc<Registry>,
    /// Where plugins are called: one that blocks does not stall a thread of the ingress.
    runtime: Handle,
    tasks: TaskTracker,
}

impl Plugins {
    pub(super) fn new(registry: Arc<Registry>, runtime: Handle) -> Self {
        Self {
            registry,
            runtime,
            tasks: TaskTracker::new(),
        }
    }

    /// Enters the instance of that name; or says why there is none to enter.
    fn enter(&self, name: &str) -> Result<Visit, Unheard> {
        for _ in 0..ENTRIES {
            let Some(instance) = self.registry.instance(name) else {
                break;
            };
            // One that is on its way out has a successor, or none.
            if let Some(visit) = instance.enter() {
                return match instance.caller.down() {
                    Some(why) => Err(Unheard(why.to_string())),
                    None => Ok(visit),
                };
            }
        }
        let why = self.registry.parked(name);
        Err(Unheard(why.map_or_else(
            || format!("no instance of the name `{name}` runs"),
            |why| format!("the instance is parked: {why}"),
        )))
    }
}

#[async_trait]
impl Judge for Plugins {
    async fn judge(&self, instance: &str, head: Bytes, body: Bytes) -> Result<Bytes, Unheard> {
        let visit = self.enter(instance)?;
        let limit = visit.instance().timeout.min(LONGEST);
        let deadline = Instant::now() + limit;
        let late = |_| Unheard(format!("it did not come within {limit:?}"));
        let permits = Arc::clone(&visit.instance().permits);
        let permit = timeout_at(deadline, permits.acquire_owned())
            .await
            .map_err(late)?;
        let request = RequestCall {
            head,
            body,
            deadline,
            cancelled: CancellationToken::new(),
        };
        let receive = async move {
            let _held = permit;
            visit.instance().caller.receive(request).await
        };
        // Whoever is not waited for any more is asked to end as it is dropped.
        let receiving = AbortOnDropHandle::new(self.tasks.spawn_on(receive, &self.runtime));
        match timeout_at(deadline, receiving).await.map_err(late)? {
            Ok(report) => verdict(report),
            Err(_) => Err(Unheard("the router is stopping".to_owned())),
        }
    }
}

/// What the plugin put out, if it did what it was asked for.
fn verdict(report: Report) -> Result<Bytes, Unheard> {
    match report {
        Report {
            outcome: Outcome::Done,
            output: Some(output),
            ..
        } => Ok(output),
        Report { reason, message, .. } => {
            let reason = reason.map_or("no verdict", |reason| reason.code());
            Err(Unheard(match message {
                Some(message) => format!("{reason}: {message}"),
                None => reason.to_owned(),
            }))
        }
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").finish_non_exhaustive()
    }
}

/// How often another instance may have taken the place of the one that was found, until there is none.
const ENTRIES: usize = 3;
/// How long a sender is kept waiting at most, whatever the instance's time-out: the first give up after ten seconds.
const LONGEST: Duration = Duration::from_secs(8);
