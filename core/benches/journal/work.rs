//! Events as they arrive, and deliveries as a dispatcher carries them out, with nothing behind them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use jackfield::{
    clock::{Clock as _, SystemClock},
    delivery::{Outcome, State},
    journal::{
        Arrival, AttemptStart, Cause, Claim, ClaimRequest, Journal, Next, Options, SqliteJournal, StepEnd,
    },
    router::{Generation, RuleFile},
};
use jackfield_event::{DATA_SCHEMA, Data, Event, EventId, SpecVersion, Verification};
use tokio::task::JoinSet;

/// A journal and the rules by which it is written.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) journal: Arc<SqliteJournal>,
    rules: Arc<Generation>,
    /// One after another, and again from the first.
    bodies: Arc<[Bytes]>,
    next: Arc<AtomicUsize>,
}

impl Desk {
    /// Opens the journal in `directory`, for events whose bodies have so many bytes.
    pub(crate) async fn open(directory: &Path, body: usize) -> anyhow::Result<Self> {
        Self::with(directory, RULES, &[body_of(body)]).await
    }

    /// Opens the journal in `directory` for events with these bodies, and puts these rules in force.
    pub(crate) async fn with(directory: &Path, rules: &str, bodies: &[Bytes]) -> anyhow::Result<Self> {
        let journal = Arc::new(SqliteJournal::open(directory, Options::default())?);
        let file = RuleFile {
            name: "routes.toml".into(),
            text: rules.into(),
        };
        let rules = Generation::compile(&[file], None).map_err(|faults| anyhow::anyhow!("{faults}"))?;
        journal.store_rules(rules.id(), rules.text()).await?;
        journal.put_in_force(rules.id(), Cause::Start, None).await?;
        Ok(Self {
            journal,
            rules: Arc::new(rules),
            bodies: bodies.into(),
            next: Arc::default(),
        })
    }

    /// An event of `kind`, each with a dedup key of its own.
    fn arrival(&self, kind: Kind) -> Arrival {
        let now = SystemClock.now();
        let id = EventId::new(now, fastrand::u128(..));
        let event = Event {
            specversion: SpecVersion::V1,
            id,
            source: "/in/screens".into(),
            kind: kind.word().into(),
            subject: Some("screen/7".into()),
            time: now,
            datacontenttype: "application/json".into(),
            dataschema: DATA_SCHEMA.into(),
            provider: "zeplin".into(),
            sourcename: "screens".into(),
            providerdelivery: None,
            providerattempt: None,
            verified: Verification::Signature,
            data: Data {
                title: Some("A new version of the screen Sign in".into()),
                ..Data::default()
            },
        };
        let body = &self.bodies[self.next.fetch_add(1, Ordering::Relaxed) % self.bodies.len()];
        let routed = self.rules.route(event, body.clone(), Some(id.to_string()));
        Arrival {
            routed: routed.expect("the body is JSON"),
            headers: vec![("user-agent", "Zeplin".into())],
            received: now,
            dedup_window: Duration::from_secs(7 * 24 * 3600),
        }
    }

    pub(crate) async fn append(&self, kind: Kind) -> anyhow::Result<()> {
        self.journal.append(self.arrival(kind)).await?;
        Ok(())
    }

    /// Appends so many, `at_once` of them in flight.
    pub(crate) async fn fill(&self, kind: Kind, count: usize, at_once: usize) -> anyhow::Result<()> {
        let mut appends = JoinSet::new();
        for number in 0..at_once {
            let desk = self.clone();
            let mine = count / at_once + usize::from(number < count % at_once);
            appends.spawn(async move {
                for _ in 0..mine {
                    desk.append(kind).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = appends.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Carries out deliveries until nothing is due, `batch` at a time; how many.
    pub(crate) async fn carry_out(&self, batch: usize) -> anyhow::Result<usize> {
        let mut settled = 0;
        loop {
            let claims = self.claim(batch).await?;
            if claims.is_empty() {
                return Ok(settled);
            }
            settled += claims.len();
            let mut courses = JoinSet::new();
            for claim in claims {
                courses.spawn(settle(Arc::clone(&self.journal), claim));
            }
            while let Some(done) = courses.join_next().await {
                done??;
            }
        }
    }

    pub(crate) async fn claim(&self, limit: usize) -> anyhow::Result<Vec<Claim>> {
        let request = ClaimRequest {
            owner: OWNER.into(),
            now: SystemClock.now(),
            lease: Duration::from_secs(60),
            limit,
            busy: vec![],
        };
        Ok(self.journal.claim(request).await?)
    }
}

/// The start of the one attempt, and its end.
async fn settle(journal: Arc<SqliteJournal>, claim: Claim) -> anyhow::Result<()> {
    let (delivery, phase, now) = (claim.delivery, claim.phase, SystemClock.now());
    journal
        .begin(AttemptStart {
            delivery,
            owner: OWNER.into(),
            phase,
            step: 0,
            step_id: "post".into(),
            instance: "slack".into(),
            attempt: claim.attempts + 1,
            input: Bytes::from_static(b"{\"text\":\"A new version of the screen Sign in\"}"),
            started: now,
            bounds: Vec::new(),
        })
        .await?;
    journal
        .end(StepEnd {
            delivery,
            owner: OWNER.into(),
            phase,
            step: 0,
            step_id: "post".into(),
            attempt: Some(claim.attempts + 1),
            outcome: Outcome::Done,
            reason: None,
            message: None,
            output: Some(Bytes::from_static(b"{\"ts\":\"1767225600.000100\"}")),
            trace: None,
            ended: now,
            next: Next::Settle {
                state: State::Succeeded,
                failure: None,
            },
        })
        .await?;
    Ok(())
}

/// What an event owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nothing,
    OneDelivery,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "io.zeplin.ping",
            Self::OneDelivery => "io.zeplin.project.screen.version.created",
        }
    }
}

/// A body of so many bytes.
pub(crate) fn body_of(bytes: usize) -> Bytes {
    format!("\"{}\"", "x".repeat(bytes.saturating_sub(2))).into()
}

/// How many a second, over so long.
pub(crate) fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// The middle one.
pub(crate) fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// How many deliveries the dispatcher claims at once.
pub(crate) const BATCH: usize = 32;
const OWNER: &str = "bench";
pub(crate) const RULES: &str = r#"
[[route]]
name = "screens"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
id = "post"
use = "slack"
with = { text = "{{ event.data.title }}" }
"#;
