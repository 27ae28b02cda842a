//! A dispatcher over a real journal and real rules, whose plugins are played and whose clock leaps.

use super::*;

/// The wall clock of a machine whose time tokio keeps, and leaps over when nothing happens.
#[derive(Debug)]
pub(super) struct Leaping(tokio::time::Instant, pub(super) AtomicU64);

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
pub(super) struct Played {
    pub(super) calls: Mutex<Vec<StepCall>>,
    pub(super) answer: Box<dyn Fn(&StepCall) -> Report + Send + Sync>,
    /// Each call takes one before it is answered, or is answered when it is told to stop.
    pub(super) lets: Semaphore,
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
    pub(super) fn new(answer: impl Fn(&StepCall) -> Report + Send + Sync + 'static) -> Arc<Self> {
        let lets = Semaphore::new(1_000);
        Arc::new(Self {
            calls: Mutex::default(),
            answer: Box::new(answer),
            lets,
        })
    }

    /// One whose calls wait until they are let.
    pub(super) fn held(answer: impl Fn(&StepCall) -> Report + Send + Sync + 'static) -> Arc<Self> {
        let lets = Semaphore::new(0);
        Arc::new(Self {
            calls: Mutex::default(),
            answer: Box::new(answer),
            lets,
        })
    }

    /// The inputs that it was called with, in order.
    pub(super) fn inputs(&self) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|call| serde_json::from_slice(&call.input).unwrap())
            .collect()
    }

    pub(super) async fn is_called(&self, times: usize) {
        while self.calls.lock().unwrap().len() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) fn report(outcome: Outcome) -> Report {
    Report {
        outcome,
        reason: None,
        code: 0,
        output: None,
        message: None,
        retry_after: None,
    }
}

pub(super) fn done(output: &Value) -> Report {
    Report {
        output: Some(output.to_string().into()),
        ..report(Outcome::Done)
    }
}

pub(super) fn failed(outcome: Outcome, message: &str) -> Report {
    Report {
        message: Some(message.to_owned()),
        ..report(outcome)
    }
}

/// A data directory, rules, and plugins that are played.
pub(super) struct Stage {
    pub(super) directory: TempDir,
    pub(super) journal: Arc<SqliteJournal>,
    pub(super) clock: Arc<Leaping>,
    pub(super) rules: Arc<Generation>,
    pub(super) plugins: BTreeMap<&'static str, (usize, Arc<Played>)>,
    pub(super) arrivals: usize,
    pub(super) limits: BTreeMap<String, Limits>,
}

impl Stage {
    pub(super) fn set(
        rules: &str,
        plugins: impl IntoIterator<Item = (&'static str, usize, Arc<Played>)>,
    ) -> Self {
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
    pub(super) async fn accept(&mut self, project: &str) {
        let committed = self.deliver(project, None).await;
        assert!(!committed.is_duplicate());
    }

    /// The provider delivers an event for project `project`, which it tells from others by `dedup`.
    pub(super) async fn deliver(&mut self, project: &str, dedup: Option<&str>) -> Committed {
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

    pub(super) fn dispatcher(&self) -> Dispatcher {
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
    pub(super) async fn settle(&self) -> Vec<DeliveryStory> {
        self.until(|stories| stories.iter().all(|story| story.record.state.is_settled()))
            .await
    }

    /// Runs until `enough`, then stops.
    pub(super) async fn until(&self, enough: impl Fn(&[DeliveryStory]) -> bool) -> Vec<DeliveryStory> {
        let stop = CancellationToken::new();
        let watch = async {
            let stories = loop {
                self.let_the_disk_keep_up().await;
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

    /// Waits for what is being written, on a thread that may block: time stands still for as long as there is such a one. Else a
    /// slow disk would have it leap from turn to turn, past what was to come when the disk was done.
    async fn let_the_disk_keep_up(&self) {
        let (runtime, journal) = (Handle::current(), Arc::clone(&self.journal));
        let written = tokio::task::spawn_blocking(move || runtime.block_on(journal.sync()));
        // A journal that takes nothing any more has nothing to write.
        let _ = written.await.unwrap();
    }

    pub(super) async fn stories(&self) -> Vec<DeliveryStory> {
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
    pub(super) async fn die_and_rise(self) -> Self {
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

pub(super) fn open(directory: &TempDir, clock: &Arc<Leaping>) -> SqliteJournal {
    let options = JournalOptions {
        clock: Arc::clone(clock) as _,
        ..JournalOptions::default()
    };
    SqliteJournal::open(directory.path(), options).unwrap()
}

pub(super) fn states(stories: &[DeliveryStory]) -> Vec<State> {
    stories.iter().map(|story| story.record.state).collect()
}
