//! Stories of deliveries, over a real journal and real rules; only the plugins are played.

mod asked;
mod breaker;
mod deadlines;
mod limits;

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
use tokio::sync::Semaphore;
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

mod line;

/// The wall clock of a machine whose time tokio keeps, and leaps over when nothing happens.
#[derive(Debug)]
struct Leaping(tokio::time::Instant, AtomicU64);

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_767_225_600)
            .unwrap()
            .saturating_add(self.0.elapsed())
            .saturating_add(Duration::from_secs(self.1.load(Relaxed)))
    }

    fn steady(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Plays a plugin: notes each call, and answers as it is told.
struct Played {
    calls: Mutex<Vec<StepCall>>,
    answer: Box<dyn Fn(&StepCall) -> Report + Send + Sync>,
    /// Each call takes one before it is answered, or is answered when it is told to stop.
    lets: Semaphore,
}

impl fmt::Debug for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Played")
    }
}

#[async_trait]
impl Caller for Played {
    async fn call(&self, call: StepCall) -> Report {
        self.calls.lock().unwrap().push(call.clone());
        tokio::select! {
            biased;
            permit = self.lets.acquire() => permit.unwrap().forget(),
            () = call.cancelled.cancelled() => {}
        }
        (self.answer)(&call)
    }

    async fn shutdown(&self, _: Duration) {}
}

impl Played {
    fn new(answer: impl Fn(&StepCall) -> Report + Send + Sync + 'static) -> Arc<Self> {
        let lets = Semaphore::new(1_000);
        Arc::new(Self {
            calls: Mutex::default(),
            answer: Box::new(answer),
            lets,
        })
    }

    /// One whose calls wait until they are let.
    fn held(answer: impl Fn(&StepCall) -> Report + Send + Sync + 'static) -> Arc<Self> {
        let lets = Semaphore::new(0);
        Arc::new(Self {
            calls: Mutex::default(),
            answer: Box::new(answer),
            lets,
        })
    }

    /// The inputs that it was called with, in order.
    fn inputs(&self) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|call| serde_json::from_slice(&call.input).unwrap())
            .collect()
    }

    async fn is_called(&self, times: usize) {
        while self.calls.lock().unwrap().len() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn report(outcome: Outcome) -> Report {
    Report {
        outcome,
        reason: None,
        code: 0,
        output: None,
        message: None,
        retry_after: None,
    }
}

fn done(output: &Value) -> Report {
    Report {
        output: Some(output.to_string().into()),
        ..report(Outcome::Done)
    }
}

fn failed(outcome: Outcome, message: &str) -> Report {
    Report {
        message: Some(message.to_owned()),
        ..report(outcome)
    }
}

/// A data directory, rules, and plugins that are played.
struct Stage {
    directory: TempDir,
    journal: Arc<SqliteJournal>,
    clock: Arc<Leaping>,
    rules: Arc<Generation>,
    plugins: BTreeMap<&'static str, (usize, Arc<Played>)>,
    arrivals: usize,
    limits: BTreeMap<String, Limits>,
}

impl Stage {
    fn set(rules: &str, plugins: impl IntoIterator<Item = (&'static str, usize, Arc<Played>)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Leaping(tokio::time::Instant::now(), AtomicU64::new(0)));
        let rules = RuleFile {
            name: "routes.toml".into(),
            text: rules.into(),
        };
        Self {
            journal: Arc::new(open(&directory, &clock)),
            directory,
            clock,
            rules: Arc::new(Generation::compile(&[rules], None).unwrap()),
            plugins: plugins
                .into_iter()
                .map(|(name, calls, played)| (name, (calls, played)))
                .collect(),
            arrivals: 0,
            limits: BTreeMap::new(),
        }
    }

    /// An event for project `project` is accepted.
    async fn accept(&mut self, project: &str) {
        let committed = self.deliver(project, None).await;
        assert!(!committed.is_duplicate());
    }

    /// The provider delivers an event for project `project`, which it tells from others by `dedup`.
    async fn deliver(&mut self, project: &str, dedup: Option<&str>) -> Committed {
        self.arrivals += 1;
        let now = self.clock.now();
        let event = json!({
            "specversion": "1.0", "id": jackfield_event::EventId::new(now, fastrand::u128(..)).to_string(),
            "source": "/in/x", "type": "x", "time": now.to_string(), "datacontenttype": "application/json",
            "dataschema": jackfield_event::DATA_SCHEMA, "provider": "x", "sourcename": "x", "verified": "none",
            "data": { "project": { "kind": "project", "id": project } }
        });
        let event = Event::from_json(event.to_string().as_bytes()).unwrap();
        let dedup = dedup.map(str::to_owned);
        let routed = self.rules.route(event, Bytes::from_static(b"{}"), dedup).unwrap();
        self.journal
            .store_rules(self.rules.id(), self.rules.text())
            .await
            .unwrap();
        let dedup_window = Duration::from_secs(3600);
        self.journal
            .append(Arrival {
                routed,
                headers: Vec::new(),
                received: now,
                dedup_window,
            })
            .await
            .unwrap()
    }

    fn dispatcher(&self) -> Dispatcher {
        let instances = self.plugins.iter().map(|(name, (calls, played))| Instance {
            name: (*name).to_owned(),
            plugin: (*name).to_owned(),
            version: "1.0.0".to_owned(),
            timeout: Duration::from_secs(60),
            permits: Arc::new(Semaphore::new(*calls)),
            input_schema: Arc::new(Schema::compile(json!({ "type": "object" })).unwrap()),
            caller: Arc::clone(played) as Arc<dyn Caller>,
            visits: Visits::default(),
        });
        let generations = Generations::default();
        generations.insert(Arc::clone(&self.rules));
        let journal: Arc<dyn Journal> = Arc::clone(&self.journal) as _;
        let registry = Arc::new(Registry::of(instances));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let mut options = Options::new(self.directory.path().join("work"));
        options.limits = self.limits.clone();
        Dispatcher::new(journal, registry, Arc::new(generations), clock, options).unwrap()
    }

    /// Runs until every delivery has settled, and gives their stories in order of arrival.
    async fn settle(&self) -> Vec<DeliveryStory> {
        self.until(|stories| stories.iter().all(|story| story.record.state.is_settled()))
            .await
    }

    /// Runs until `enough`, then stops.
    async fn until(&self, enough: impl Fn(&[DeliveryStory]) -> bool) -> Vec<DeliveryStory> {
        let stop = CancellationToken::new();
        let watch = async {
            let stories = loop {
                let stories = self.stories().await;
                if enough(&stories) {
                    break stories;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            stop.cancel();
            stories
        };
        let (stories, ()) = tokio::join!(watch, self.dispatcher().run(stop.clone()));
        stories
    }

    async fn stories(&self) -> Vec<DeliveryStory> {
        let listed = self
            .journal
            .deliveries(DeliveryFilter {
                limit: 100,
                ..DeliveryFilter::default()
            })
            .await
            .unwrap();
        let mut stories = Vec::new();
        for record in listed.into_iter().rev() {
            stories.push(self.journal.delivery(record.id).await.unwrap().unwrap());
        }
        stories
    }

    /// The process dies and another begins.
    async fn die_and_rise(self) -> Self {
        let Self {
            directory,
            journal,
            clock,
            rules,
            plugins,
            arrivals,
            limits,
        } = self;
        journal.close().await.unwrap();
        drop(journal);
        Self {
            journal: Arc::new(open(&directory, &clock)),
            directory,
            clock,
            rules,
            plugins,
            arrivals,
            limits,
        }
    }
}

fn open(directory: &TempDir, clock: &Arc<Leaping>) -> SqliteJournal {
    let options = JournalOptions {
        clock: Arc::clone(clock) as _,
        ..JournalOptions::default()
    };
    SqliteJournal::open(directory.path(), options).unwrap()
}

fn states(stories: &[DeliveryStory]) -> Vec<State> {
    stories.iter().map(|story| story.record.state).collect()
}

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

#[tokio::test(start_paused = true)]
async fn steps_run_in_turn_and_see_what_those_before_put_out() {
    let a = Played::new(|call| {
        std::fs::create_dir(&call.workdir).unwrap();
        done(&json!({ "value": [1, 2] }))
    });
    let b = Played::new(|call| {
        assert!(call.workdir.is_dir(), "what the step before left is there");
        report(Outcome::Done)
    });
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!(b.inputs(), [json!({ "got": [1, 2], "of": "p" })]);
    let (first, second) = (
        a.calls.lock().unwrap()[0].clone(),
        b.calls.lock().unwrap()[0].clone(),
    );
    assert_eq!(first.workdir, second.workdir, "one directory for all steps");
    assert!(
        !first.workdir.exists(),
        "it is gone when the delivery has settled"
    );
    assert_ne!(first.idempotency_key, second.idempotency_key);
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_again_under_the_same_key_until_it_is_done() {
    let a = Played::new(|call| match call.attempt {
        1 => failed(Outcome::Retry, "not yet"),
        2 => Report {
            retry_after: Some(Duration::from_secs(300)),
            ..failed(Outcome::Retry, "in five minutes")
        },
        _ => done(&json!({ "value": 1 })),
    });
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    let before = stage.clock.now();
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert!(
        stage.clock.now().saturating_since(before) >= Duration::from_secs(300),
        "what the plugin asks for is kept"
    );
    let outcomes: Vec<_> = stories[0]
        .attempts
        .iter()
        .map(|attempt| attempt.outcome.unwrap())
        .collect();
    assert_eq!(
        outcomes,
        [Outcome::Retry, Outcome::Retry, Outcome::Done, Outcome::Done]
    );
    let calls = a.calls.lock().unwrap();
    assert!(
        calls
            .iter()
            .all(|call| call.idempotency_key == calls[0].idempotency_key)
    );
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_given_up_runs_its_on_failure_steps_whatever_becomes_of_each() {
    let rules = r#"
[[route]]
name = "r"
when.type = ["x"]
[[route.step]]
use = "a"
retry = { attempts = 3, first = "1s" }
[[route.on_failure]]
use = "b"
with = { what = "{{ failure.step }}: {{ failure.reason }}: {{ failure.error }}" }
[[route.on_failure]]
use = "c"
"#;
    let a = Played::new(|_| failed(Outcome::Retry, "no"));
    let b = Played::new(|_| failed(Outcome::Fatal, "not even this"));
    let c = Played::new(|_| report(Outcome::Done));
    let plays = [
        ("a", 1, Arc::clone(&a)),
        ("b", 1, Arc::clone(&b)),
        ("c", 1, Arc::clone(&c)),
    ];
    let mut stage = Stage::set(rules, plays);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    let failure = stories[0].record.failure.clone().unwrap();
    assert_eq!(
        (failure.step.as_deref(), failure.reason),
        (Some("a"), Reason::AttemptsExhausted)
    );
    assert_eq!(
        b.inputs(),
        [json!({ "what": format!("a: attempts-exhausted: {}", failure.error) })]
    );
    insta::assert_snapshot!(failure.error, @"no (plugin-retry), in attempt 3 of 3");
    // Each attempt says how it ended itself, so that it can be told whether it may have acted.
    let reasons: Vec<_> = stories[0].attempts.iter().map(|attempt| attempt.reason).collect();
    assert_eq!(reasons[..3], [Some(Reason::PluginRetry); 3]);
    assert_eq!((a.inputs().len(), c.inputs().len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_a_dead_letter_and_not_tried_again() {
    let a = Played::new(|_| {
        failed(
            Outcome::Ambiguous,
            "the connection broke after the request was sent",
        )
    });
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    assert_eq!(
        stories[0].record.failure.as_ref().unwrap().reason,
        Reason::PluginAmbiguous
    );
    assert_eq!(a.inputs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_stays_so_although_its_files_cannot_be_synced() {
    let a = Played::new(|call| {
        std::fs::write(&call.workdir, "no directory").unwrap();
        failed(Outcome::Ambiguous, "the connection broke")
    });
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    assert_eq!(
        stories[0].record.failure.as_ref().unwrap().reason,
        Reason::PluginAmbiguous
    );
    assert_eq!(a.inputs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_condition_is_false_is_skipped_and_one_that_is_misspelt_kills() {
    let rules = r#"
[[route]]
name = "false"
when.type = ["x"]
[[route.step]]
use = "a"
if = "event.data.project.id == 'other'"

[[route]]
name = "misspelt"
when.type = ["x"]
[[route.step]]
use = "a"
if = "event.data.payload.no_such_thing"
"#;
    let a = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(rules, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded, State::Dead]);
    assert_eq!(stories[0].attempts[0].reason, Some(Reason::ConditionFalse));
    let failure = stories[1].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::TemplateFailed);
    assert!(failure.error.contains("no_such_thing"), "{}", failure.error);
    assert_eq!(a.inputs().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_one_order_key_run_one_at_a_time_and_a_dead_one_frees_its_key() {
    let rules = r#"
[[route]]
name = "r"
order_by = "{{ event.data.project.id }}"
when.type = ["x"]
[[route.step]]
use = "a"
with = { of = "{{ event.data.project.id }}" }
"#;
    let a = Played::held(|call| {
        let input: Value = serde_json::from_slice(&call.input).unwrap();
        if input["of"] == "p" {
            failed(Outcome::Fatal, "no")
        } else {
            report(Outcome::Done)
        }
    });
    let mut stage = Stage::set(rules, [("a", 8, Arc::clone(&a))]);
    for project in ["p", "p", "q"] {
        stage.accept(project).await;
    }
    let direct = async {
        a.is_called(2).await;
        // The two keys run beside one another, in whichever order.
        let mut called: Vec<_> = a.inputs().iter().map(|input| input["of"].to_string()).collect();
        called.sort();
        assert_eq!(called, ["\"p\"", "\"q\""], "the second of `p` waits");
        a.lets.add_permits(3);
    };
    let (stories, ()) = tokio::join!(stage.settle(), direct);
    assert_eq!(states(&stories), [State::Dead, State::Dead, State::Succeeded]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_instance_is_missing_waits_and_says_so() {
    let mut stage = Stage::set(TWO_STEPS, []);
    stage.accept("p").await;
    let stories = stage
        .until(|stories| stories[0].record.state == State::Waiting)
        .await;
    assert_eq!(stories[0].record.reason, Some(Reason::InstanceMissing));
    assert!(stories[0].record.detail.as_ref().unwrap().contains("`a`"));
    let a = Played::new(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    stage.plugins = BTreeMap::from([("a", (1, a)), ("b", (1, b))]);
    assert_eq!(states(&stage.settle().await), [State::Succeeded]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_given_up_when_its_instance_is_missing_for_longer_than_the_patience() {
    let mut stage = Stage::set(TWO_STEPS, []);
    stage.accept("p").await;
    let waits = |stories: &[DeliveryStory]| stories[0].record.state == State::Waiting;
    let first = stage.until(waits).await[0].record.due;
    // Half of it is far from the end, however far time leaps meanwhile.
    stage.clock.1.store(DEFAULT_PATIENCE.as_secs() / 2, Relaxed);
    stage
        .until(|stories| waits(stories) && stories[0].record.due > first)
        .await;
    stage.clock.1.store(DEFAULT_PATIENCE.as_secs(), Relaxed);
    let stories = stage.settle().await;
    let failure = stories[0].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::InstanceMissing);
    assert!(
        failure.error.contains("it was waited for since 2026-01-01"),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_instance_keeps_no_other_waiting() {
    let rules = r#"
[[route]]
name = "slow"
when.type = ["x"]
[[route.step]]
use = "slow"

[[route]]
name = "quick"
when.type = ["x"]
[[route.step]]
use = "quick"
"#;
    let slow = Played::held(|_| report(Outcome::Done));
    let quick = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(
        rules,
        [("slow", 1, Arc::clone(&slow)), ("quick", 1, Arc::clone(&quick))],
    );
    for _ in 0..40 {
        stage.accept("p").await;
    }
    let direct = async {
        quick.is_called(40).await;
        assert_eq!(slow.inputs().len(), 1);
        slow.lets.add_permits(40);
    };
    let (stories, ()) = tokio::join!(stage.settle(), direct);
    assert!(stories.iter().all(|story| story.record.state == State::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_call_end_and_the_next_run_goes_on_at_the_next_step() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stop = CancellationToken::new();
    let direct = async {
        a.is_called(1).await;
        stop.cancel();
        a.lets.add_permits(1);
    };
    tokio::join!(stage.dispatcher().run(stop.clone()), direct);
    assert_eq!((a.inputs().len(), b.inputs().len()), (1, 0));
    let stage = stage.die_and_rise().await;
    assert_eq!(states(&stage.settle().await), [State::Succeeded]);
    assert_eq!(
        (a.inputs().len(), b.inputs().len()),
        (1, 1),
        "the first step is not repeated"
    );
}

#[tokio::test]
async fn rules_that_are_not_at_hand_come_out_of_the_journal() {
    let a = Played::new(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, a), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let forgotten = dispatcher.shared.generations.retain(&[]);
    assert_eq!(forgotten[0].id(), stage.rules.id());
    let direct = async {
        b.is_called(1).await;
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(states(&stage.stories().await), [State::Succeeded]);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_takes_no_delivery_from_under_its_call() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 2, Arc::clone(&a)), ("b", 2, Arc::clone(&b))]);
    stage.accept("p").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let direct = async {
        a.is_called(1).await;
        stage.clock.1.store(3600, Relaxed);
        stage.accept("q").await;
        a.is_called(2).await;
        a.lets.add_permits(2);
        b.is_called(2).await;
        stop.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(states(&stage.stories().await), [State::Succeeded; 2]);
    assert_eq!(a.inputs().len(), 2, "no call is made twice");
}

#[tokio::test(start_paused = true)]
async fn what_backs_off_does_so_for_as_long_as_it_should_though_the_clock_is_set() {
    for (before, after) in [(0, 3_600), (7_200, 0)] {
        let a = Played::new(|call| match call.attempt {
            1 => Report {
                retry_after: Some(Duration::from_secs(300)),
                ..failed(Outcome::Retry, "in five minutes")
            },
            _ => done(&json!({ "value": 1 })),
        });
        let b = Played::new(|_| report(Outcome::Done));
        let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
        stage.clock.1.store(before, Relaxed);
        stage.accept("p").await;
        let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
        let direct = async {
            a.is_called(1).await;
            let began = tokio::time::Instant::now();
            stage.until(|stories| states(stories) == [State::Waiting]).await;
            stage.clock.1.store(after, Relaxed);
            a.is_called(2).await;
            stop.cancel();
            began.elapsed()
        };
        let ((), rested) = tokio::join!(dispatcher.run(stop.clone()), direct);
        let asked = Duration::from_secs(290)..Duration::from_secs(400);
        assert!(asked.contains(&rested), "{before} {after}: {rested:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_end_of_the_router_interrupts_is_no_failed_attempt() {
    let a = Arc::new(Played {
        calls: Mutex::default(),
        answer: Box::new(|call| match call.attempt {
            1 => Report {
                reason: Some(Reason::Interrupted),
                ..failed(Outcome::Retry, "the call was asked to stop")
            },
            _ => done(&json!({ "value": 1 })),
        }),
        lets: Semaphore::new(0),
    });
    let b = Played::new(|_| report(Outcome::Done));
    let rules = TWO_STEPS.replace("use = \"a\"", "use = \"a\"\nretry = { attempts = 1 }");
    let mut stage = Stage::set(&rules, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let cancelled = dispatcher.shared.cancel.clone();
    let direct = async {
        a.is_called(1).await;
        stop.cancel();
        cancelled.cancelled().await;
        a.lets.add_permits(2);
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(
        states(&stage.die_and_rise().await.settle().await),
        [State::Succeeded]
    );
}

#[tokio::test]
async fn without_its_journal_a_dispatcher_ends() {
    let stage = Stage::set(TWO_STEPS, []);
    let dispatcher = stage.dispatcher();
    stage.journal.close().await.unwrap();
    dispatcher.run(CancellationToken::new()).await;
    assert!(stage.journal.sync().await.is_err());
}

#[tokio::test]
async fn who_stands_in_line_at_a_stop_is_not_called_any_more() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    stage.accept("q").await;
    let (dispatcher, stop) = (stage.dispatcher(), CancellationToken::new());
    let stopping = dispatcher.shared.stopping.clone();
    let direct = async {
        a.is_called(1).await;
        stop.cancel();
        stopping.cancelled().await;
        a.lets.add_permits(2);
    };
    tokio::join!(dispatcher.run(stop.clone()), direct);
    assert_eq!(a.inputs().len(), 1);
    assert_eq!(states(&stage.stories().await), [State::Pending; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_dead_process_left_behind_is_made_again_under_the_same_key() {
    let a = Played::held(|_| done(&json!({ "value": 1 })));
    let b = Played::new(|_| report(Outcome::Done));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, b)]);
    stage.accept("p").await;
    tokio::select! {
        () = stage.dispatcher().run(CancellationToken::new()) => panic!("it was not told to stop"),
        () = a.is_called(1) => {}
    }
    let stage = stage.die_and_rise().await;
    a.lets.add_permits(2);
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!(stories[0].attempts[0].reason, Some(Reason::Interrupted));
    let calls = a.calls.lock().unwrap();
    assert_eq!(calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(calls[0].idempotency_key, calls[1].idempotency_key);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_the_process_every_time_is_given_up() {
    let rules = r#"
[[route]]
name = "r"
when.type = ["x"]
[[route.step]]
use = "a"
retry = { attempts = 1 }
"#;
    let a = Played::held(|_| report(Outcome::Done));
    let mut stage = Stage::set(rules, [("a", 1, Arc::clone(&a))]);
    stage.accept("p").await;
    for times in 1..=4 {
        tokio::select! {
            () = stage.dispatcher().run(CancellationToken::new()) => panic!("it was not told to stop"),
            () = a.is_called(times) => {}
        }
        stage = stage.die_and_rise().await;
    }
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Dead]);
    assert_eq!(
        stories[0].record.failure.as_ref().unwrap().reason,
        Reason::AttemptsExhausted
    );
    assert_eq!(
        a.inputs().len(),
        4,
        "one attempt, and three more for what may not have been its doing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_in_its_process_at_two_deaths_is_not_made_again_whatever_happens_between() {
    let a = Played::new(|call| match call.attempt {
        // The first was there by chance, and the next one shows it.
        2 => failed(Outcome::Retry, "not yet"),
        _ => Report {
            reason: Some(Reason::PluginCrashed),
            ..failed(Outcome::Retry, "the plugin's process died")
        },
    });
    let text = TWO_STEPS.replace(
        "use = \"a\"",
        "use = \"a\"\nretry = { first = \"1m\", backoff = \"fixed\" }",
    );
    let mut stage = Stage::set(
        &text,
        [
            ("a", 1, Arc::clone(&a)),
            ("b", 1, Played::new(|_| report(Outcome::Done))),
        ],
    );
    stage.accept("p").await;
    stage
        .until(|stories| stories[0].record.attempts == 3 && stories[0].record.state == State::Waiting)
        .await;
    // What is known of it is known after a restart as well.
    let stage = stage.die_and_rise().await;
    let stories = stage.settle().await;
    let outcomes: Vec<_> = stories[0].attempts.iter().map(|attempt| attempt.reason).collect();
    assert_eq!(
        outcomes,
        [
            Reason::PluginCrashed,
            Reason::PluginRetry,
            Reason::PluginCrashed,
            Reason::Quarantined
        ]
        .map(Some)
    );
    let failure = stories[0].record.failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::Quarantined);
    insta::assert_snapshot!(failure.error, @"the plugin's process died; the call was in it the last 2 times that it did");
}

#[tokio::test(start_paused = true)]
async fn a_step_answers_for_no_other_that_crashed() {
    let crash = || Report {
        reason: Some(Reason::PluginCrashed),
        ..failed(Outcome::Retry, "the plugin's process died")
    };
    let once = move |call: &StepCall| match call.attempt {
        1 => crash(),
        _ => done(&json!({ "value": 1 })),
    };
    let (a, b) = (Played::new(once), Played::new(once));
    let mut stage = Stage::set(TWO_STEPS, [("a", 1, Arc::clone(&a)), ("b", 1, Arc::clone(&b))]);
    stage.accept("p").await;
    let stories = stage.settle().await;
    assert_eq!(states(&stories), [State::Succeeded]);
    assert_eq!((a.inputs().len(), b.inputs().len()), (2, 2));
}
