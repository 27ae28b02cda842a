//! A plugins directory with libraries under test, and what is loaded from it.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jackfield::plugin::{
    self, Caller, CreateError, DEFAULT_DRAIN, Grant, Housing, InProcess, Instance, InstanceOptions,
    Isolation, Library, Limits, Options, PluginRecord, PluginState, Registry, Report, RequestCall, Runner,
    Sandbox, Setup, StepCall, Survey, Worker,
    directory::Directory,
    elf,
    stage::{Stage, Staged},
};
use jackfield_event::{DeliveryId, Timestamp};
use jackfield_sdk::testing::event;
use rustix::io::FdFlags;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{layer::SubscriberExt as _, reload};

use crate::{
    built::{self, Build},
    host::Recorder,
};

/// A router's directories.
pub(crate) struct Bench {
    directory: TempDir,
    /// The one port that plugins here may reach.
    port: TcpListener,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
            port: TcpListener::bind("127.0.0.1:0").unwrap(),
        };
        fs::create_dir(bench.plugins()).unwrap();
        fs::create_dir_all(bench.path("data/work")).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The port that plugins are granted.
    pub(crate) fn port(&self) -> &TcpListener {
        &self.port
    }

    fn grant(&self) -> Grant {
        let address = self.port.local_addr().unwrap().to_string();
        Grant {
            network: vec![address.parse().unwrap()],
            ..Grant::default()
        }
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.path("plugins")
    }

    /// Drops a good plugin.
    pub(crate) fn drop_good(&self, build: Build) -> PathBuf {
        self.drop_library(&build.library(), "trial.so")
    }

    /// Drops a library that has been built.
    pub(crate) fn drop_library(&self, library: &Path, file: &str) -> PathBuf {
        let path = self.plugins().join(file);
        fs::copy(library, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Drops the plugin in C that these arguments make.
    pub(crate) fn drop_c(&self, file: &str, arguments: &[&str]) -> PathBuf {
        let path = self.plugins().join(file);
        built::c(&path, arguments);
        path
    }

    pub(crate) fn options(&self, instances: Vec<InstanceOptions>) -> Options {
        let program = env!("CARGO_BIN_EXE_jackfield").into();
        Options {
            dir: Some(self.plugins()),
            data_dir: self.path("data"),
            work_root: self.path("data/work"),
            runner: Runner {
                program,
                args: vec!["plugin-describe".into()],
                limit: Duration::from_secs(60),
            },
            instances,
            trust: plugin::trust::Options::default(),
            drain: DEFAULT_DRAIN,
        }
    }

    pub(crate) fn call(&self, act: &str) -> StepCall {
        StepCall {
            event: Bytes::from(event().to_json()),
            input: Bytes::from(json!({ "act": act }).to_string()),
            delivery: DeliveryId::new(Timestamp::from_secs(1_700_000_000).unwrap(), 7),
            route: "tokens".to_owned(),
            step: "commit".to_owned(),
            attempt: 3,
            idempotency_key: format!("dlv/{act}"),
            deadline: Instant::now() + Duration::from_secs(600),
            workdir: self.path("data/work"),
            cancelled: CancellationToken::new(),
        }
    }

    /// A request whose header says what is to come of it.
    pub(crate) fn request(&self, act: &str) -> RequestCall {
        let head = json!({
            "source": "trials", "received": "2026-01-01T00:00:00Z", "headers": [["act", act]], "secrets": ["hunter2"],
            "unverified": false, "path_token": true, "options": {},
        });
        RequestCall {
            head: Bytes::from(head.to_string()),
            body: Bytes::from_static(b"{}"),
            deadline: Instant::now() + Duration::from_secs(600),
            cancelled: CancellationToken::new(),
        }
    }

    pub(crate) async fn survey(&self, instances: Vec<InstanceOptions>) -> Survey {
        Survey::take(self.options(instances)).await
    }

    pub(crate) async fn load(&self, host: &Arc<Recorder>, instances: Vec<InstanceOptions>) -> Registry {
        Registry::load(self.options(instances), Arc::clone(host) as _, Handle::current()).await
    }
}

/// One good plugin, loaded, with one instance.
pub(crate) struct Trial {
    pub(crate) bench: Bench,
    pub(crate) host: Arc<Recorder>,
    pub(crate) registry: Registry,
    pub(crate) instance: Arc<Instance>,
    build: Build,
    isolation: Isolation,
}

impl Trial {
    /// In this process.
    pub(crate) async fn of(build: Build) -> Self {
        Self::on(build, Handle::current()).await
    }

    /// In a process of its own.
    pub(crate) async fn in_a_worker(build: Build) -> Self {
        Self::set(build, Isolation::Process, Handle::current(), json!({})).await
    }

    /// With what is asked of the host done on another runtime.
    pub(crate) async fn on(build: Build, runtime: Handle) -> Self {
        Self::set(build, Isolation::None, runtime, json!({})).await
    }

    /// The same, with an instance that is configured so.
    pub(crate) async fn again(&self, config: Value) -> Self {
        Self::set(self.build, self.isolation, Handle::current(), config).await
    }

    async fn set(build: Build, isolation: Isolation, runtime: Handle, config: Value) -> Self {
        let (bench, host) = (Bench::new(), Arc::new(Recorder::new()));
        let registry = start(&bench, (build, isolation), &host, runtime, config).await;
        assert_eq!(registry.list()[0].state, PluginState::Loaded);
        let instance = registry.instance("trial").unwrap();
        Self {
            bench,
            host,
            registry,
            instance,
            build,
            isolation,
        }
    }

    /// The plugin in C that lies in `bench`, in a process of these limits.
    pub(crate) async fn bounded(bench: Bench, limits: Limits) -> Self {
        log();
        let host = Arc::new(Recorder::new());
        let options = InstanceOptions {
            limits,
            ..configured("trial", json!({ "token": "hunter2" }))
        };
        let registry = bench.load(&host, vec![options]).await;
        let instance = registry.instance("trial").unwrap();
        Self {
            bench,
            host,
            registry,
            instance,
            build: Build::C,
            isolation: Isolation::Process,
        }
    }

    /// Why an instance that is configured so does not start.
    pub(crate) async fn refusal(&self, config: Value) -> String {
        let (bench, host) = (Bench::new(), Arc::new(Recorder::new()));
        let variant = (self.build, self.isolation);
        let registry = start(&bench, variant, &host, Handle::current(), config).await;
        registry.parked("trial").expect("it must not start").to_owned()
    }

    /// Whether a panic ends the process that the plugin is in.
    pub(crate) fn aborts(&self) -> bool {
        self.build == Build::ABORTS
    }

    /// Another instance of the same library in the same place, which waits no longer than a call's deadline.
    pub(crate) async fn impatient(&self) -> Arc<dyn Caller> {
        let file = self.bench.plugins().join("trial.so");
        let (staged, setup) = self.by_hand(&file, "trial", Duration::from_secs(60));
        match self.isolation {
            Isolation::None => {
                let library = Library::open(staged.harmless().unwrap()).unwrap();
                Arc::new(InProcess::create(library, setup).await.unwrap())
            }
            Isolation::Process => {
                let housing = Housing {
                    program: env!("CARGO_BIN_EXE_jackfield").into(),
                    limits: Limits::default(),
                    sandbox: Sandbox::default(),
                    exit: None,
                    revived: tokio::sync::watch::Sender::default(),
                };
                Arc::new(Worker::start(staged, setup, housing).await.unwrap())
            }
        }
    }

    /// An instance of the library at `file` in this process, made step by step, with `limit` to start.
    pub(crate) async fn make_by_hand(
        &self,
        file: &Path,
        plugin: &str,
        limit: Duration,
    ) -> Result<InProcess, CreateError> {
        let (staged, setup) = self.by_hand(file, plugin, limit);
        InProcess::create(Library::open(staged.harmless().unwrap()).unwrap(), setup).await
    }

    fn by_hand(&self, file: &Path, plugin: &str, limit: Duration) -> (Staged, Setup) {
        let directory = Directory::open(&self.bench.plugins()).unwrap();
        let candidate = directory.read(file.file_name().unwrap(), u64::MAX - 1).unwrap();
        let inspected = elf::inspect(candidate, plugin::glibc()).unwrap();
        let staged = Stage::open(&self.bench.path("data"))
            .unwrap()
            .put(inspected)
            .unwrap();
        let setup = Setup {
            plugin: plugin.to_owned(),
            instance: "impatient".to_owned(),
            config: json!({}),
            secrets: BTreeMap::new(),
            host: Arc::clone(&self.host) as _,
            runtime: Handle::current(),
            limit,
            grace: Duration::ZERO,
            busy: false,
            tally: Arc::default(),
        };
        (staged, setup)
    }

    pub(crate) fn call(&self, act: &str) -> StepCall {
        self.bench.call(act)
    }

    pub(crate) async fn make(&self, call: StepCall) -> Report {
        self.instance.caller.call(call).await
    }

    pub(crate) fn request(&self, act: &str) -> RequestCall {
        self.bench.request(act)
    }

    pub(crate) async fn receive(&self, request: RequestCall) -> Report {
        self.instance.caller.receive(request).await
    }

    pub(crate) async fn act(&self, act: &str) -> Report {
        self.make(self.call(act)).await
    }

    /// A call whose input says more than what to do.
    pub(crate) fn call_with(&self, input: &Value) -> StepCall {
        StepCall {
            input: Bytes::from(input.to_string()),
            ..self.call(input["act"].as_str().unwrap())
        }
    }

    /// The output of a call that is done.
    pub(crate) async fn output(&self, act: &str) -> Value {
        self.output_of(self.call(act)).await
    }

    /// The same, for any call.
    pub(crate) async fn output_of(&self, call: StepCall) -> Value {
        let act = String::from_utf8_lossy(&call.input[..call.input.len().min(80)]).into_owned();
        let report = self.make(call).await;
        let output = report
            .output
            .as_ref()
            .unwrap_or_else(|| panic!("{act}: {report:?}"));
        serde_json::from_slice(output).unwrap()
    }
}

/// Drops a build, and loads it with an instance that is configured so.
async fn start(
    bench: &Bench,
    (build, isolation): (Build, Isolation),
    host: &Arc<Recorder>,
    runtime: Handle,
    mut config: Value,
) -> Registry {
    log();
    bench.drop_good(build);
    config["token"] = json!("hunter2");
    // Three hundred calls of the plugin in C have a thread each, and each thread 8 MiB for its stack.
    let limits = Limits {
        memory: 4 << 30,
        ..Limits::default()
    };
    let options = bench.options(vec![InstanceOptions {
        isolation,
        limits,
        grant: bench.grant(),
        ..configured("trial", config)
    }]);
    Registry::load(options, Arc::clone(host) as _, runtime).await
}

/// An instance of the plugin `trial`.
pub(crate) fn configured(name: &str, config: Value) -> InstanceOptions {
    let secrets = BTreeMap::from([("/token".to_owned(), jackfield::secret::Secret::new("hunter2"))]);
    InstanceOptions {
        name: name.to_owned(),
        config,
        secrets,
        ..InstanceOptions::plain("trial")
    }
}

/// Why the file is parked, with `directory` left out; nothing if it is not.
pub(crate) fn reason(records: &[PluginRecord], file: &str, directory: &Path) -> Option<String> {
    let record = records.iter().find(|record| record.file.ends_with(file)).unwrap();
    let reason = record.state.reason()?;
    Some(reason.replace(&format!("{}/", directory.display()), ""))
}

/// What this process has open for whoever it starts, as a careless one leaves it to a router; and its number.
pub(crate) fn left_open() -> (OwnedFd, i32) {
    let file = fs::File::open("/etc/passwd").unwrap();
    let left = rustix::io::fcntl_dupfd_cloexec(file, 300).unwrap();
    rustix::io::fcntl_setfd(&left, FdFlags::empty()).unwrap();
    let number = left.as_raw_fd();
    (left, number)
}

/// All that has been logged by this process, at debug and above where nothing else was wanted.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&log().lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Begins to keep what is logged.
pub(crate) fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    let mut first = false;
    let log = LOG.get_or_init(|| {
        first = true;
        Mutex::default()
    });
    if first {
        let (wanted, handle) = reload::Layer::new(LevelFilter::DEBUG);
        WANTED.get_or_init(|| handle);
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(|| Writer);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(wanted).with(lines))
            .unwrap();
    }
    log
}

/// Keeps what is of this level or above, from now on.
pub(crate) fn want(level: LevelFilter) {
    log();
    WANTED.get().unwrap().reload(level).unwrap();
}

static WANTED: OnceLock<reload::Handle<LevelFilter, tracing_subscriber::Registry>> = OnceLock::new();

struct Writer;

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        log()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
