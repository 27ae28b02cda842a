//! Programs, and that nothing of them is left.

use std::{path::Path, time::Duration};

use jackfield_sdk::{
    command::{Command, Output, Scope},
    prelude::*,
    serde_json::Value,
    testing::{Call, Code, Ended, Harness},
    tokio,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::unix::pipe,
    time::Instant,
};

fn scope() -> Scope {
    Scope::detached(None)
}

fn shell(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// A pipe with a name: it ends for its reader when the last process that has it open is gone.
struct Witness {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    reader: BufReader<pipe::Receiver>,
}

impl Witness {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for temporary files");
        let path = dir.path().join("witness");
        Command::new("mkfifo")
            .arg(&path)
            .run(scope())
            .await
            .and_then(Output::success)
            .expect("mkfifo works");
        let reader = BufReader::new(
            pipe::OpenOptions::new()
                .open_receiver(&path)
                .expect("it was just made"),
        );
        Self {
            _dir: dir,
            path,
            reader,
        }
    }

    /// A program that has it open, and a child that has it too, and would sleep for long.
    fn sleepers(&self, before: &str) -> Command {
        shell(&format!(
            "exec 3>\"$0\"; {before} sleep 1000 & echo ready >&3; wait; echo woken >&3"
        ))
        .arg(&self.path)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        // Before anybody has opened it, it looks ended.
        while self.reader.read_line(&mut line).await.expect("it can be read") == 0 {
            tokio::task::yield_now().await;
        }
        line
    }

    /// All that is written until nobody is left.
    async fn rest(mut self) -> String {
        let mut rest = String::new();
        self.reader
            .read_to_string(&mut rest)
            .await
            .expect("it can be read");
        rest
    }
}

#[tokio::test]
async fn a_program_gets_what_it_is_given_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let output =
        shell("cat; echo \"$1|$PWD|$COLOUR|$HOME|$CARGO_MANIFEST_DIR|${PATH:+path}\"; echo grumble >&2")
            .args(["sh", "a b; $(exit)"])
            .env("COLOUR", "blue")
            .env("COLOUR", "red")
            .current_dir(&dir)
            .stdin("in\n")
            .run(scope())
            .await
            .unwrap()
            .success()
            .unwrap();
    let expected = format!("in\na b; $(exit)|{}|red|||path\n", dir.display());
    assert_eq!(output.stdout_text().unwrap(), expected);
    assert_eq!(output.stderr, b"grumble\n");
}

#[tokio::test]
async fn a_variable_is_inherited_by_name() {
    let path = std::env::var("PATH").unwrap();
    let inherit = Command::new("printenv")
        .env("PATH", "")
        .inherit(["PATH", "NO_SUCH_VARIABLE"]);
    let output = inherit.run(scope()).await.unwrap();
    assert_eq!(output.stdout_text().unwrap(), format!("PATH={path}\n"));
}

#[tokio::test]
async fn a_failure_says_what_the_program_said() {
    let output = shell("echo one >&2; echo >&2; echo two >&2; exit 3")
        .run(scope())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let error = output.success().unwrap_err();
    assert_eq!(error.to_string(), "`sh` ended with exit status: 3: one; two");
    assert!(error.is_retry());
    let error = Command::new("false")
        .run(scope())
        .await
        .unwrap()
        .success()
        .unwrap_err();
    assert_eq!(error.to_string(), "`false` ended with exit status: 1");
}

#[tokio::test]
async fn what_cannot_be_started_is_said_by_name_without_its_arguments() {
    let missing = Command::new("/no/such/program").args(["sub", "--token=hunter2"]);
    let error = missing.run(scope()).await.unwrap_err();
    assert!(
        error.to_string().starts_with("`program sub` cannot be started"),
        "{error}"
    );
    assert!(!format!("{error} {error:?} {missing:?}").contains("hunter2"));
    assert!(!error.is_retry());
    let error = Command::new("true")
        .current_dir("/no/such/dir")
        .run(scope())
        .await
        .unwrap_err();
    assert!(!error.is_retry(), "{error}");
}

#[tokio::test]
async fn a_program_that_reads_nothing_may_be_given_much() {
    let output = Command::new("true")
        .stdin(vec![b'x'; 1 << 20])
        .run(scope())
        .await
        .unwrap();
    assert!(output.status.success());
}

#[tokio::test]
async fn more_output_than_allowed_is_an_error_and_ends_the_program() {
    let witness = Witness::new().await;
    let endless =
        shell("exec 3>\"$0\"; trap '' PIPE; while :; do echo y || sleep 1000; done").arg(&witness.path);
    let error = endless
        .max_output(1000)
        .kill_after(Duration::ZERO)
        .run(scope())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`sh` wrote more than 1000 bytes and was stopped"
    );
    assert!(!error.is_retry());
    assert_eq!(witness.rest().await, "");
    let exact = shell("printf 12345").max_output(5).run(scope()).await.unwrap();
    assert_eq!(exact.stdout, b"12345");
}

#[tokio::test]
async fn a_program_that_talks_too_much_on_its_standard_error_goes_on() {
    let output = shell("yes oops | head -n 100000 >&2; echo done")
        .run(scope())
        .await
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert_eq!(output.stderr.len(), 64 << 10);
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let witness = Witness::new().await;
    let script = "exec 3>\"$0\"; echo ready >&3; sleep 1000 </dev/null >/dev/null 2>&1 &";
    let output = shell(script).arg(&witness.path).run(scope()).await.unwrap();
    assert!(output.success().is_ok());
    assert_eq!(witness.rest().await, "ready\n");
}

#[tokio::test]
async fn a_deadline_ends_the_whole_group() {
    let witness = Witness::new().await;
    let sleepers = witness.sleepers("").timeout(Duration::from_millis(200));
    let error = sleepers.run(scope()).await.unwrap_err();
    assert_eq!(error.to_string(), "`sh` did not end in time and was stopped");
    // Whether or not it had come so far, nobody is left.
    assert!(["", "ready\n"].contains(&witness.rest().await.as_str()));
    let late = Scope::detached(Some(Instant::now()));
    let error = Command::new("sleep").arg("1000").run(late).await.unwrap_err();
    assert!(error.is_retry());
}

#[tokio::test]
async fn a_dropped_run_ends_the_whole_group() {
    let mut witness = Witness::new().await;
    let sleepers = witness.sleepers("");
    tokio::select! {
        ended = sleepers.run(scope()) => panic!("it sleeps for long: {ended:?}"),
        line = witness.line() => assert_eq!(line, "ready\n"),
    }
    assert_eq!(witness.rest().await, "");
}

#[tokio::test]
async fn a_program_may_tidy_up_before_it_is_killed() {
    // The scope has to stay: with it, its programs are killed.
    let scope = scope();
    let mut witness = Witness::new().await;
    let sleepers = witness
        .sleepers("trap 'echo bye >&3; exit' TERM;")
        .kill_after(Duration::from_secs(600));
    tokio::select! {
        ended = sleepers.run(&scope) => panic!("it sleeps for long: {ended:?}"),
        line = witness.line() => assert_eq!(line, "ready\n"),
    }
    assert_eq!(witness.rest().await, "bye\n");
}

#[tokio::test]
async fn a_program_that_does_not_listen_is_killed() {
    let scope = scope();
    let mut witness = Witness::new().await;
    let deaf =
        shell("exec 3>\"$0\"; trap '' TERM; echo ready >&3; while :; do sleep 1000; done").arg(&witness.path);
    let deaf = deaf.kill_after(Duration::from_millis(1));
    tokio::select! {
        ended = deaf.run(&scope) => panic!("it sleeps for long: {ended:?}"),
        line = witness.line() => assert_eq!(line, "ready\n"),
    }
    assert_eq!(witness.rest().await, "");
}

/// Runs the program in its input.
struct Runner;

#[derive(Deserialize, JsonSchema)]
struct Script {
    witness: String,
}

#[async_trait]
impl Plugin for Runner {
    type Config = Value;
    type Input = Script;
    type Output = String;
    const NAME: &'static str = "runner";
    const VERSION: &'static str = "1.0.0";
    const CANCEL_GRACE: Duration = Duration::from_secs(600);

    async fn create(_: Value, start: Start) -> Result<Self> {
        Command::new("true").run(&start).await?.success()?;
        Ok(Self)
    }

    async fn call(&self, input: Script, cx: &Cx) -> Result<Outcome<String>> {
        let script = shell("exec 3>\"$0\"; echo ready >&3; sleep 1000 & wait").arg(Path::new(&input.witness));
        let output = script.run(cx).await?.success()?;
        Ok(Outcome::Done(output.stdout_text()?.to_owned()))
    }
}

#[tokio::test]
async fn a_cancelled_call_takes_its_programs_with_it() {
    let mut witness = Witness::new().await;
    let runner = Harness::<Runner>::start(json!({})).await.unwrap();
    let running = runner.begin(Call::new(json!({ "witness": witness.path })));
    assert_eq!(witness.line().await, "ready\n");
    running.cancel();
    let report = running.end().await;
    assert_eq!((report.outcome, report.code), (Ended::Retry, Code::Cancelled));
    assert_eq!(report.message, "`sh` was stopped: the call was canceled");
    assert_eq!(witness.rest().await, "");
    assert!(runner.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_crash_of_the_instance_takes_its_programs_with_it() {
    let mut witness = Witness::new().await;
    let runner = Harness::<Runner>::start(json!({})).await.unwrap();
    let running = runner.begin(Call::new(json!({ "witness": witness.path })));
    assert_eq!(witness.line().await, "ready\n");
    runner.crash().await;
    assert_eq!(running.end().await.code, Code::Shutdown);
    assert_eq!(witness.rest().await, "");
}
