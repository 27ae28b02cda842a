//! What the child does that runs a plugin: one task, told step by step, so that a crash names what it came of.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jackfield_event::DeliveryId;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    evidence::{
        Answer, Assignment, BadCalls, BadConfigs, BadRequests, Called, Heard, Kind, Left, Line, Loading,
        Starts, Storm, Task,
    },
    footprint::{Changes, Footprint, signal_words},
    misfits::Misfit,
    requests::Unproven,
};
use crate::{
    clock::{Clock as _, SystemClock},
    delivery::Outcome,
    plugin::{
        Caller as _, CreateError, InProcess, Library, Limits, Rehearsal, Report, RequestCall, Setup,
        StepCall, describe::begin, ffi::stray_ends, reason_of, stage::Reopened,
    },
    reason::Reason,
};

/// The hidden command of the CLI.
pub(super) const COMMAND: &str = "plugin-trial";

/// What a child does that tries a plugin out: reads a task from standard input, and tells on standard output what it sees.
pub fn trial_main() -> ExitCode {
    match take_over().and_then(|(assignment, told)| Trial::new(assignment, told).run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the trial cannot go on: {error}");
            ExitCode::from(UNABLE)
        }
    }
}

/// Makes the process one that a plugin may be tried in; what that prints goes to standard error.
fn take_over() -> io::Result<(Assignment, File)> {
    begin()?;
    Limits::default().apply()?;
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let told = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok((serde_json::from_slice(&text)?, told))
}

struct Trial {
    assignment: Assignment,
    told: File,
}

/// Why a task is not carried out to its end.
enum Halt {
    /// The plugin cannot be had do it, for this reason.
    Unable(String),
    /// Nobody can be told.
    Untold(io::Error),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Untold(error)
    }
}

/// Everything is done twice: what is opened once in a process, and kept, is left by the first round alone. Where that
/// does not end, another would tell nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    First,
    Second,
}

const ROUNDS: [Round; 2] = [Round::First, Round::Second];

/// A library that has been loaded, and what that did.
struct Loaded {
    library: Library,
    changes: Changes,
}

impl Trial {
    fn new(assignment: Assignment, told: File) -> Self {
        Self { assignment, told }
    }

    fn run(mut self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let done = match runtime.block_on(self.carry_out()) {
            Err(Halt::Unable(words)) => self.tell(&Line::<()>::Unable(words)),
            Err(Halt::Untold(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        // What the plugin still holds ends with the process.
        runtime.shutdown_background();
        done
    }

    async fn carry_out(&mut self) -> Result<(), Halt> {
        self.during("while it was loaded")?;
        let Loaded { library, changes } = self.load().map_err(Halt::Unable)?;
        match std::mem::replace(&mut self.assignment.task, Task::Load) {
            Task::Load => self.saw(Loading { changes })?,
            Task::Start { config } => {
                let starts = self.starts(library, config.as_bytes()).await?;
                self.saw(starts)?;
            }
            Task::BadConfigs(misfits) => {
                let configs = self.bad_configs(library, &misfits).await?;
                self.saw(configs)?;
            }
            Task::BadInputs {
                config,
                event,
                inputs,
            } => {
                let calls = self.bad_inputs(library, &config, event.into(), &inputs).await?;
                self.saw(calls)?;
            }
            Task::Requests { config, requests } => {
                let heard = self.requests(library, &config, &requests).await?;
                self.saw(heard)?;
            }
            Task::Storm {
                config,
                kind,
                event,
                input,
            } => {
                let storm = self
                    .storm(library, &config, kind, event.into(), input.into())
                    .await?;
                self.saw(storm)?;
            }
        }
        Ok(())
    }

    fn load(&self) -> Result<Loaded, String> {
        let staged = Reopened::take(&self.assignment.library).map_err(|error| reason_of(&error))?;
        // There is no other thread yet, which would stay outside.
        let sandbox = &self.assignment.sandbox;
        sandbox
            .enter(staged.staged().path())
            .map_err(|error| reason_of(&error))?;
        let before = Footprint::take();
        let (library, replaced) = Library::open_and_restore(&staged);
        let mut changes = before.changes();
        changes.shared.extend(replaced.into_iter().map(signal_words));
        let library = library.map_err(|error| reason_of(&error))?;
        Ok(Loaded { library, changes })
    }

    async fn starts(&mut self, library: Library, config: &[u8]) -> io::Result<Starts> {
        let mut starts = Starts {
            answers: Vec::new(),
            ended: Vec::new(),
            alive: Changes::default(),
            left: Vec::new(),
        };
        for ordinal in ["first", "second"] {
            let before = Footprint::take();
            self.during(format!("when its {ordinal} instance was created"))?;
            let made = self.create(library, config).await;
            if starts.answers.is_empty() {
                starts.alive = before.changes();
            }
            starts.answers.push(answer(&made));
            let Ok(instance) = made else { break };
            self.during(format!("when its {ordinal} instance was shut down and destroyed"))?;
            let ended = instance.end(self.grace()).await == Some(true);
            starts.ended.push(ended);
            if !ended {
                break;
            }
            starts.left.push(self.settle(&before).await);
        }
        Ok(starts)
    }

    async fn bad_configs(&mut self, library: Library, misfits: &[Misfit]) -> io::Result<BadConfigs> {
        let (mut answers, mut left) = (Vec::new(), Vec::new());
        for round in ROUNDS {
            let (before, mut all_ended) = (Footprint::take(), true);
            for Misfit { what, bytes } in misfits {
                self.during(format!("when it was created with {what} for a configuration"))?;
                let made = self.create(library, bytes).await;
                if round == Round::First {
                    answers.push((what.clone(), answer(&made)));
                }
                if let Ok(instance) = made {
                    all_ended &= instance.end(self.grace()).await == Some(true);
                }
            }
            if !all_ended {
                break;
            }
            left.push(self.settle(&before).await);
        }
        Ok(BadConfigs { answers, left })
    }

    async fn bad_inputs(
        &mut self,
        library: Library,
        config: &str,
        event: Bytes,
        inputs: &[Misfit],
    ) -> Result<BadCalls, Halt> {
        let mut calls = Vec::new();
        let after = "calls that did not fit";
        let call_all = async |trial: &mut Self, round, instance: &Arc<InProcess>| {
            for (number, Misfit { what, bytes }) in inputs.iter().enumerate() {
                trial.during(format!("when it was called with {what} for an input"))?;
                let call = StepCall {
                    deadline: Instant::now() + trial.grace(),
                    ..trial.call(number, event.clone(), bytes.clone().into())
                };
                let report = instance.call(call).await;
                let late = report.reason == Some(Reason::TimedOut);
                if round == Round::First {
                    let called = Called {
                        taken: late || report.outcome == Outcome::Done,
                        panicked: report.reason == Some(Reason::PluginPanicked),
                        message: report.message.unwrap_or_default(),
                    };
                    calls.push((what.clone(), called));
                }
                // It may wait with each of them, for longer than there is time.
                if late {
                    break;
                }
            }
            Ok(())
        };
        let (left, _) = self.lives(library, config, after, call_all).await?;
        Ok(BadCalls {
            calls,
            strays: stray_ends(),
            left,
        })
    }

    async fn requests(
        &mut self,
        library: Library,
        config: &str,
        requests: &[Unproven],
    ) -> Result<BadRequests, Halt> {
        let mut heard = Vec::new();
        let after = "requests that prove nothing";
        let ask_all = async |trial: &mut Self, round, instance: &Arc<InProcess>| {
            for request in requests {
                trial.during(format!("when it was asked about {}", request.what))?;
                let call = trial.request(request.head.clone().into(), request.body.clone().into());
                let report = instance.receive(call).await;
                if round == Round::First {
                    heard.push((request.clone(), hear(report)));
                }
            }
            Ok(())
        };
        let (left, _) = self.lives(library, config, after, ask_all).await?;
        Ok(BadRequests {
            heard,
            strays: stray_ends(),
            left,
        })
    }

    async fn storm(
        &mut self,
        library: Library,
        config: &str,
        kind: Kind,
        event: Bytes,
        input: Bytes,
    ) -> Result<Storm, Halt> {
        let (mut begun, mut late, mut reports) = (0, 0, Vec::new());
        let after = "its calls were cancelled";
        let break_loose = async |trial: &mut Self, _, instance: &Arc<InProcess>| {
            let word = kind.word();
            trial.during(format!("while {CALLS} {word} were begun and cancelled at once"))?;
            let mut calls = JoinSet::new();
            let mut cancels = Vec::new();
            for number in begun..begun + CALLS {
                let call = trial.call(number, event.clone(), input.clone());
                // Every other one does not even begin in peace.
                if number % 2 == 0 {
                    call.cancelled.cancel();
                }
                cancels.push(call.cancelled.clone());
                let instance = Arc::clone(instance);
                calls.spawn(async move {
                    match kind {
                        Kind::Calls => instance.call(call).await,
                        Kind::Requests => instance.receive(as_request(call)).await,
                    }
                });
            }
            begun += CALLS;
            // Each call runs up to where it first has to wait, before this goes on.
            tokio::task::yield_now().await;
            cancels.iter().for_each(CancellationToken::cancel);
            reports.extend(calls.join_all().await);
            late += instance.stuck();
            Ok(())
        };
        let (left, ended) = self.lives(library, config, after, break_loose).await?;
        let mut outcomes = BTreeMap::new();
        for report in &reports {
            *outcomes.entry(report.outcome.word().to_owned()).or_default() += 1;
        }
        let panicked = |report: &&Report| report.reason == Some(Reason::PluginPanicked);
        Ok(Storm {
            kind,
            begun,
            late,
            strays: stray_ends(),
            ended,
            panics: reports
                .iter()
                .filter(panicked)
                .filter_map(|report| report.message.clone())
                .collect(),
            outcomes,
            left,
        })
    }

    /// Has two instances in turn live through `act`; says what was left after each, and whether they ended.
    async fn lives(
        &mut self,
        library: Library,
        config: &str,
        after: &str,
        mut act: impl AsyncFnMut(&mut Self, Round, &Arc<InProcess>) -> io::Result<()>,
    ) -> Result<(Left, bool), Halt> {
        let mut left = Vec::new();
        for round in ROUNDS {
            let before = Footprint::take();
            self.during("when an instance was created to be called")?;
            let made = self.create(library, config.as_bytes()).await;
            let instance = Arc::new(made.map_err(|error| Halt::Unable(reason_of(&error)))?);
            act(self, round, &instance).await?;
            self.during(format!("when it was shut down after {after}"))?;
            if instance.end(self.grace()).await != Some(true) {
                return Ok((left, false));
            }
            left.push(self.settle(&before).await);
        }
        Ok((left, true))
    }

    async fn create(&self, library: Library, config: &[u8]) -> Result<InProcess, CreateError> {
        let setup = Setup {
            plugin: self.assignment.plugin.clone(),
            instance: self.assignment.plugin.clone(),
            config: Value::Null,
            secrets: BTreeMap::new(),
            host: Arc::new(Rehearsal::default()),
            runtime: Handle::current(),
            limit: self.assignment.limit,
            grace: self.grace(),
            busy: true,
            tally: Arc::default(),
        };
        InProcess::create_from(library, setup, config.to_vec()).await
    }

    fn call(&self, number: usize, event: Bytes, input: Bytes) -> StepCall {
        StepCall {
            event,
            input,
            delivery: DeliveryId::new(SystemClock.now(), number as u128),
            route: "plugin-check".to_owned(),
            step: "check".to_owned(),
            attempt: 1,
            idempotency_key: format!("plugin-check/{number}"),
            deadline: Instant::now() + self.assignment.limit,
            workdir: PathBuf::from(&self.assignment.workdir),
            cancelled: CancellationToken::new(),
        }
    }

    fn request(&self, head: Bytes, body: Bytes) -> RequestCall {
        RequestCall {
            head,
            body,
            deadline: Instant::now() + self.grace(),
            cancelled: CancellationToken::new(),
        }
    }

    /// How long what was asked to end has for it: so that all of it is over before the parent loses patience.
    fn grace(&self) -> Duration {
        (self.assignment.limit / 4).min(Duration::from_secs(5))
    }

    /// What is left of what has ended. The threads of the host's that it was ended on need a moment to be gone.
    async fn settle(&self, before: &Footprint) -> Changes {
        let deadline = Instant::now() + self.grace().min(SETTLING);
        loop {
            let changes = before.changes();
            if changes.left_nothing() || Instant::now() > deadline {
                return changes;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn during(&mut self, what: impl Into<String>) -> io::Result<()> {
        self.tell(&Line::<()>::During(what.into()))
    }

    fn saw<T: Serialize>(&mut self, evidence: T) -> io::Result<()> {
        self.tell(&Line::Saw(evidence))
    }

    fn tell<T: Serialize>(&mut self, line: &Line<T>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.told.write_all(&text)
    }
}

/// A call as a request: its event for a head, and its input for a body.
fn as_request(call: StepCall) -> RequestCall {
    RequestCall {
        head: call.event,
        body: call.input,
        deadline: call.deadline,
        cancelled: call.cancelled,
    }
}

/// What a report says of a request.
fn hear(report: Report) -> Heard {
    let message = report.message.unwrap_or_default();
    match (report.outcome, report.reason, report.output) {
        (_, Some(Reason::TimedOut), _) => Heard::Late,
        (Outcome::Done, _, output) => verdict(output.as_deref().unwrap_or_default()),
        (_, reason, _) => Heard::NoVerdict {
            message,
            panicked: reason == Some(Reason::PluginPanicked),
        },
    }
}

/// What a verdict says; that it fits in all, is the provider's stage to find out.
fn verdict(json: &[u8]) -> Heard {
    let Ok(Value::Object(verdict)) = serde_json::from_slice(json) else {
        return Heard::Nonsense("it is no object in JSON".to_owned());
    };
    let mut fields = verdict.iter();
    match (fields.next(), fields.next()) {
        (Some((word, _)), None) if word == "refused" => Heard::Refused,
        (Some((word, _)), None) if word == "handshake" => Heard::Handshake,
        (Some((word, event)), None) if word == "event" => match event["verified"].as_str() {
            Some(proof) => Heard::Believed(proof.to_owned()),
            None => Heard::Nonsense("its `event` has no `verified`".to_owned()),
        },
        _ => {
            Heard::Nonsense("it has another field than one of `refused`, `event` and `handshake`".to_owned())
        }
    }
}

fn answer(made: &Result<InProcess, CreateError>) -> Answer {
    match made {
        Ok(_) => Answer::Made,
        Err(CreateError::Refused { code, message }) => Answer::Refused {
            message: message.clone(),
            panicked: *code == jackfield_abi::CODE_PANIC,
        },
        Err(CreateError::Silent) => Answer::Silent,
        Err(CreateError::TimedOut(_) | CreateError::Thread(_)) => Answer::Late,
    }
}

/// Calls of a storm on one instance: more than it may ever get at once by default, and few enough to be over at once.
const CALLS: usize = 32;
/// How long threads and descriptors may take to be gone.
const SETTLING: Duration = Duration::from_secs(1);
/// The status of a child that could not go on.
const UNABLE: u8 = 70;
