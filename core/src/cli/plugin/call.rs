//! `plugin call`: one call by hand.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use hyper::Method;
use jackfield_event::EventId;
use serde_json::value::RawValue;

use super::{
    super::{
        Output, Shape,
        control::{ask, is_running},
        given::Given,
        history, load, say, say_json,
        scratch::Scratch,
        show::fields,
        wait,
    },
    check,
};
use crate::{
    admin, app,
    clock::{Clock as _, SystemClock},
    config::{Config, data_dir},
    delivery::Outcome,
    plugin::{
        ByHand, Called, InstanceOptions, Isolation, Logged, Options, Portrait, Registry, Rehearsal,
        directory::{Directory, signature_of},
    },
    telemetry,
};

/// Call an instance once, by hand: no event is stored, no delivery owed, and nothing tried again.
///
/// The call is real, and what it does is done. With a running router it goes to the instance there, and waits for its turn like
/// any other; without one the instance is started for it, in a process of its own, and ended after it: what it keeps (keys,
/// receipts, events that it raises) is then gone with it. It has an idempotency key of its own. What the plugin logs goes to
/// standard error. Exits with 0 where the outcome is done or skipped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Call {
    /// The instance, as `use` in a step names it.
    instance: String,
    /// The input, as `with` of a step would be when its templates are filled in.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    input: Given,
    /// The event: a stored one (evt_…), or a file, as `events show -o json` prints it. By default a screen version of Zeplin's.
    #[arg(long, value_name = "EVENT|FILE")]
    event: Option<String>,
    /// Leave the work directory of the call as it is, and say where it is. The router removes it when it starts again.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    output: Output,
}

impl Call {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        let data_dir = data_dir(config)?;
        let (input, event) = (self.input.0.clone(), self.event(config)?);
        let called = if is_running(&data_dir)? {
            let call = admin::Call {
                instance: self.instance.clone(),
                input,
                event: RawValue::from_string(event).context("the event is not JSON")?,
                keep: self.keep,
            };
            let answer = ask(&data_dir, Method::POST, "/v1/call", serde_json::to_vec(&call)?)?;
            serde_json::from_slice(&answer)?
        } else {
            eprintln!("no router runs: the instance is started for this call, and keeps nothing after it");
            let by_hand = ByHand {
                event: event.into(),
                input,
                // Filled in with what is made for the call.
                work_root: PathBuf::new(),
                keep: self.keep,
                now: SystemClock.now(),
            };
            self.alone(load(config)?, by_hand)?
        };
        self.print(&called)?;
        Ok(match called.outcome {
            Outcome::Done | Outcome::Skipped => ExitCode::SUCCESS,
            Outcome::Retry | Outcome::Fatal | Outcome::Ambiguous => ExitCode::FAILURE,
        })
    }

    fn event(&self, config: &Path) -> anyhow::Result<String> {
        let Some(id) = self
            .event
            .as_ref()
            .and_then(|event| event.parse::<EventId>().ok())
        else {
            return check::event(self.event.as_ref().map(PathBuf::from));
        };
        let story = wait(history(config)?.event(id))??;
        let story = story.with_context(|| format!("there is no event {id}"))?;
        if let Some(missing) = story.kept.missing() {
            anyhow::bail!("{id} cannot be given to a plugin: {missing}");
        }
        Ok(story.event.get().to_owned())
    }

    /// Starts the instance, calls it, and ends it.
    fn alone(&self, config: Config, mut by_hand: ByHand) -> anyhow::Result<Called> {
        telemetry::init_silent();
        let scratch = Scratch::new().context("no temporary directory can be made")?;
        let work = Scratch::new().context("no temporary directory can be made")?;
        work.path().clone_into(&mut by_hand.work_root);
        let options = Options {
            work_root: work.path().to_owned(),
            ..self.options(&config, scratch.path())?
        };
        // Whatever the plugin calls by a relative path lies with the router's own data.
        if config.data_dir.is_dir() {
            std::env::set_current_dir(&config.data_dir)?;
        }
        let name = &self.instance;
        let called = wait(async {
            let runtime = tokio::runtime::Handle::current();
            let registry = Registry::load(options, Arc::new(Rehearsal::default()), runtime).await;
            let called = match registry.instance(name) {
                Some(instance) => instance.call_by_hand(by_hand).await.map_err(anyhow::Error::from),
                None => match registry.parked(name) {
                    Some(reason) => bail!("the instance `{name}` cannot run: {reason}"),
                    None => {
                        let plugins = registry.list();
                        let reasons: Vec<_> = plugins
                            .iter()
                            .filter_map(|plugin| plugin.state.reason())
                            .collect();
                        bail!("the plugin `{name}` cannot run: {}", reasons.join("; "))
                    }
                },
            };
            registry.shutdown(GRACE).await;
            called
        })??;
        if called.workdir.is_some() {
            work.leave();
        }
        Ok(called)
    }

    /// A plugins directory with the one library in it, and the one instance.
    fn options(&self, config: &Config, scratch: &Path) -> anyhow::Result<Options> {
        let directory = config
            .plugins
            .dir
            .as_deref()
            .context("the configuration names no plugins directory: say `dir` in `[plugins]`")?;
        let configured = config
            .instances
            .iter()
            .find(|instance| instance.name == self.instance);
        let plugin = configured.map_or(&self.instance, |instance| &instance.plugin);
        let file = Portrait::find(directory, plugin)?;
        let name = file.file_name().context("the library has no name")?;
        // As a router would read it, and trusted as little.
        let directory = Directory::open(directory)?;
        let candidate = directory.read(name, u64::MAX - 1)?;
        let alone = scratch.join("alone");
        DirBuilder::new().mode(0o700).create(&alone)?;
        put(&alone.join(name), candidate.bytes())?;
        if let Some(signature) = directory.signature(name)? {
            put(&alone.join(signature_of(name)), &signature)?;
        }
        let instances = configured.map(|instance| InstanceOptions {
            isolation: Isolation::Process,
            ..instance.clone()
        });
        Ok(Options {
            dir: Some(alone),
            data_dir: scratch.to_owned(),
            instances: instances.into_iter().collect(),
            ..app::plugin_options(config)
        })
    }

    fn print(&self, called: &Called) -> anyhow::Result<()> {
        for Logged {
            level,
            module,
            message,
            fields,
        } in &called.logs
        {
            let fields = if fields.is_null() {
                String::new()
            } else {
                format!("  {fields}")
            };
            let line = format!("{level:<5} {module}: {message}{fields}");
            eprintln!("{}", line.replace(char::is_control, " "));
        }
        if self.output.output == Shape::Json {
            return say_json(called);
        }
        let workdir = called.workdir.as_ref().map(|path| path.display().to_string());
        let mut text = fields(&[
            ("outcome", called.outcome.word().to_owned()),
            (
                "reason",
                called
                    .reason
                    .map(|reason| reason.code().to_owned())
                    .unwrap_or_default(),
            ),
            ("message", called.message.clone().unwrap_or_default()),
            (
                "retry after",
                called
                    .retry_after_ms
                    .map(|millis| format!("{millis} ms"))
                    .unwrap_or_default(),
            ),
            ("took", format!("{} ms", called.took_ms)),
            ("kept", workdir.unwrap_or_default()),
        ]);
        if let Some(output) = &called.output {
            text += &format!("\nOutput\n{}\n", serde_json::to_string_pretty(output)?);
        }
        Ok(say(text)?)
    }
}

/// Writes a file that nobody else may write to, whatever the umask says: else it would not be trusted.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// How long the instance has to end.
const GRACE: Duration = Duration::from_secs(10);
const EXAMPLES: &str = "\
Examples:
  jackfield plugin call hello --input '{\"name\": \"Ada\"}'
  jackfield plugin call slack --input @message.json --event evt_…     for an event that is stored
  jackfield plugin call artifact-fetch --input @fetch.json --keep     and look at its files";
