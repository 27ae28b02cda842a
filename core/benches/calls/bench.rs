//! The plugins that are measured, and how they are started.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use jackfield::plugin::{
    self, Caller, Housing, InstanceOptions, Isolation, Limits, Options, Registry, Rehearsal, Runner, Sandbox,
    Setup, StepCall, Worker,
    directory::Directory,
    elf,
    stage::{Stage, Staged},
};
use jackfield_event::{DeliveryId, Timestamp};
use jackfield_sdk::testing::event;
use jackfield_stage::cargo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;

/// Where an instance lives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Here,
    HereInline,
    Process,
    ProcessInline,
}

impl Place {
    const ALL: [Self; 4] = [Self::Here, Self::HereInline, Self::Process, Self::ProcessInline];

    /// The instance that lives there.
    fn instance(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::HereInline => "here-inline",
            Self::Process => "process",
            Self::ProcessInline => "process-inline",
        }
    }

    fn options(self) -> InstanceOptions {
        let (plugin, isolation) = match self {
            Self::Here => ("hello", Isolation::None),
            Self::HereInline => ("counting-plugin", Isolation::None),
            Self::Process => ("hello", Isolation::Process),
            Self::ProcessInline => ("counting-plugin", Isolation::Process),
        };
        InstanceOptions {
            name: self.instance().to_owned(),
            isolation,
            config: json!({}),
            ..InstanceOptions::plain(plugin)
        }
    }
}

/// A plugins directory with a plugin that says hello, one that does nothing and one that does what no plugin should, and instances
/// of the first two.
pub(crate) struct Bench {
    directory: TempDir,
    program: PathBuf,
    registry: Registry,
    event: Bytes,
}

impl Bench {
    pub(crate) async fn set() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let plugins = directory.path().join("plugins");
        fs::create_dir(&plugins)?;
        eprintln!("building the router and two plugins that do next to nothing…");
        let built = cargo::build(&["jackfield", "hello-plugin", "counting-plugin"], "release")?;
        let program = built.binary("jackfield")?;
        fs::copy(built.library("hello-plugin")?, plugins.join("hello.so"))?;
        fs::copy(built.library("counting-plugin")?, plugins.join("counting.so"))?;
        compile(&plugins.join("trial.so"))?;
        for library in fs::read_dir(&plugins)? {
            fs::set_permissions(library?.path(), fs::Permissions::from_mode(0o755))?;
        }
        let options = Options {
            dir: Some(plugins),
            data_dir: directory.path().join("data"),
            work_root: directory.path().join("data/work"),
            runner: Runner {
                program: program.clone(),
                args: vec!["plugin-describe".into()],
                limit: Duration::from_secs(60),
            },
            trust: plugin::trust::Options::default(),
            instances: Place::ALL.map(Place::options).into(),
            drain: plugin::DEFAULT_DRAIN,
        };
        let registry = Registry::load(options, Arc::new(Rehearsal::default()), Handle::current()).await;
        for name in Place::ALL.map(Place::instance) {
            let reason = registry.parked(name);
            ensure!(
                reason.is_none(),
                "`{name}` does not run: {}",
                reason.unwrap_or_default()
            );
        }
        Ok(Self {
            directory,
            program,
            registry,
            event: Bytes::from(event().to_json()),
        })
    }

    pub(crate) fn caller(&self, place: Place) -> Arc<dyn Caller> {
        let instance = self.registry.instance(place.instance());
        Arc::clone(&instance.expect("it ran at the start, and no file changes").caller)
    }

    /// A call of the plugin that lives there.
    pub(crate) fn call(&self, place: Place) -> StepCall {
        let input = match place {
            Place::Here | Place::Process => json!({ "name": "you" }),
            Place::HereInline | Place::ProcessInline => json!({}),
        };
        self.call_with(&input, "dlv/step")
    }

    pub(crate) fn call_with(&self, input: &Value, key: &str) -> StepCall {
        StepCall {
            event: Bytes::copy_from_slice(&self.event),
            input: Bytes::from(input.to_string()),
            delivery: DeliveryId::new(Timestamp::from_secs(1_700_000_000).expect("it is a moment"), 7),
            route: "route".to_owned(),
            step: "step".to_owned(),
            attempt: 1,
            idempotency_key: key.to_owned(),
            deadline: Instant::now() + Duration::from_secs(600),
            workdir: self.directory.path().join("work"),
            cancelled: CancellationToken::new(),
        }
    }

    /// Bytes that a call has to carry.
    pub(crate) fn size(&self) -> usize {
        self.event.len()
    }

    /// How long the program takes for nothing, which every worker has to be started as.
    pub(crate) fn run_program(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let output = Command::new(&self.program).arg("version").output()?;
        ensure!(output.status.success(), "the program does not tell its version");
        Ok(began.elapsed())
    }

    /// Another worker of the plugin that does nothing, and how long its start took.
    pub(crate) async fn start_worker(&self) -> anyhow::Result<(Worker, Duration)> {
        let staged = self.staged("counting.so")?;
        let began = Instant::now();
        let worker = self.start("counting-plugin", staged).await?;
        Ok((worker, began.elapsed()))
    }

    /// A worker of the plugin that does what no plugin should.
    pub(crate) async fn start_abused(&self) -> anyhow::Result<Worker> {
        self.start("trial", self.staged("trial.so")?).await
    }

    async fn start(&self, plugin: &str, staged: Staged) -> anyhow::Result<Worker> {
        let setup = Setup {
            plugin: plugin.to_owned(),
            instance: "another".to_owned(),
            config: json!({}),
            secrets: BTreeMap::new(),
            host: Arc::new(Rehearsal::default()),
            runtime: Handle::current(),
            limit: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            busy: false,
            tally: Arc::default(),
        };
        let housing = Housing {
            program: self.program.clone(),
            limits: Limits::default(),
            sandbox: Sandbox::default(),
            exit: None,
            revived: tokio::sync::watch::Sender::default(),
        };
        Ok(Worker::start(staged, setup, housing).await?)
    }

    fn staged(&self, file: &str) -> anyhow::Result<Staged> {
        let directory = Directory::open(&self.directory.path().join("plugins"))?;
        let candidate = directory.read(file.as_ref(), u64::MAX - 1)?;
        let stage = Stage::open(&self.directory.path().join("data"))?;
        Ok(stage.put(elf::inspect(candidate, plugin::glibc())?)?)
    }

    pub(crate) async fn end(self) {
        self.registry.shutdown(Duration::from_secs(5)).await;
    }
}

/// Compiles the plugin in C that does whatever it is asked for.
fn compile(to: &Path) -> anyhow::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("cc")
        .args(["-std=c11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o"])
        .arg(to)
        .arg(here.join("tests/plugins/trial.c"))
        .arg("-I")
        .arg(here.join("../sdk/abi/include"))
        .arg("-lpthread")
        .status()
        .context("a C compiler is needed")?;
    ensure!(status.success(), "the plugin in C does not compile");
    Ok(())
}
