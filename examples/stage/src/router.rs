//! The real router as a child process: started, asked, measured, stopped, and killed.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use hyper::{HeaderMap, Method};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command as AsyncCommand};

use crate::http;

/// A directory with a configuration, rules and plugins, and the router that runs on it.
#[derive(Debug)]
pub struct Router {
    binary: PathBuf,
    home: PathBuf,
    environment: Vec<(String, String)>,
    ingress: SocketAddr,
    admin: SocketAddr,
    child: Option<Child>,
}

/// What a process takes of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// At this moment.
    pub resident: u64,
    /// At most, since it was started.
    pub peak: u64,
}

impl Router {
    /// Lays out `home` for the router `binary`: `plugins/` with the given libraries, and free ports.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written.
    pub fn prepare(binary: &Path, home: &Path, libraries: &[PathBuf]) -> anyhow::Result<Self> {
        let plugins = home.join("plugins");
        fs::create_dir_all(&plugins)?;
        for library in libraries {
            let name = library.file_name().context("a library without a name")?;
            fs::copy(library, plugins.join(name))
                .with_context(|| format!("copying {}", library.display()))?;
        }
        let [ingress, admin] = free_ports()?;
        let (binary, home) = (binary.to_owned(), home.to_owned());
        Ok(Self {
            binary,
            home,
            environment: Vec::new(),
            ingress,
            admin,
            child: None,
        })
    }

    /// Writes `jackfield.toml`: addresses and directories, then `rest`; and `routes.toml`.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written.
    pub fn configure(&self, rest: &str, routes: &str) -> anyhow::Result<()> {
        let configuration = format!(
            "data_dir = \"data\"\nroutes = \"routes.toml\"\n\n[listen]\naddress = \"{}\"\n\n[admin]\naddress = \"{}\"\n\n\
             [plugins]\ndir = \"plugins\"\n\n{rest}",
            self.ingress, self.admin
        );
        fs::write(self.configuration(), configuration)?;
        fs::write(self.home.join("routes.toml"), routes)?;
        Ok(())
    }

    /// Gives the router a variable of the environment, for secrets.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The variables that it was given, for whoever runs its commands by hand.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Where its files are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.home.join("jackfield.toml")
    }

    /// Where webhooks go.
    pub fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// Where it tells how it is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Starts it and waits until it is ready. Its log goes to `jackfield.log`.
    ///
    /// # Errors
    ///
    /// Where it ends or is not ready within half a minute; with the end of its log.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the router runs already");
        let command = AsyncCommand::new(&self.binary);
        self.child = Some(self.spawn(command, &[], Stdio::null())?);
        self.ready().await
    }

    /// The same, on a socket that listens already, as systemd hands it over.
    ///
    /// # Errors
    ///
    /// As for [`Router::start`].
    pub async fn start_on(&mut self, socket: OwnedFd, arguments: &[&str]) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the router runs already");
        let mut command = AsyncCommand::new("sh");
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        command.args(["-c", script, "sh"]).arg(&self.binary);
        self.child = Some(self.spawn(command, arguments, Stdio::from(socket))?);
        self.ready().await
    }

    /// Starts another that takes over from this one, and waits until this one has ended and the other is ready.
    ///
    /// # Errors
    ///
    /// Where this one does not run or ends with an error, or the other is not ready.
    pub async fn relieve(&mut self) -> anyhow::Result<()> {
        let successor = self.spawn(AsyncCommand::new(&self.binary), &["--take-over"], Stdio::null())?;
        let ended = self.ended().await;
        self.child = Some(successor);
        let ended = ended?;
        ensure!(ended.success(), "it ended with {ended}:\n{}", self.end_of_log());
        self.ready().await
    }

    fn spawn(&self, mut command: AsyncCommand, arguments: &[&str], stdin: Stdio) -> anyhow::Result<Child> {
        let log = File::options().append(true).create(true).open(self.log_file())?;
        command
            .args(["run", "--config"])
            .arg(self.configuration())
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(stdin)
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))
    }

    /// Waits until what was started is ready.
    async fn ready(&mut self) -> anyhow::Result<()> {
        // Often, since benchmarks tell the time of it.
        for _ in 0..3000 {
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
                .transpose()?
            {
                self.child = None;
                bail!("the router ended with {status}:\n{}", self.end_of_log());
            }
            match http::send(self.admin, Method::GET, "/readyz", &HeaderMap::new(), "").await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        bail!("the router is not ready after 30 s:\n{}", self.end_of_log())
    }

    /// SIGKILL: no destructor, no flush, no goodbye.
    ///
    /// # Errors
    ///
    /// Where it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the router does not run")?;
        child.kill().await.context("killing the router")
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    ///
    /// Where it does not run, or ends with an error.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(
            status.success(),
            "the router ended with {status}:\n{}",
            self.end_of_log()
        );
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// Where it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.process().context("the router does not run")?;
        let id = Pid::from_raw(id.try_into()?).context("no process has the id 0")?;
        kill_process(id, signal).context("signalling the router")
    }

    /// Waits for its end, which something else has brought about.
    ///
    /// # Errors
    ///
    /// Where it does not run, or goes on for a minute.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("the router does not run")?;
        let ended = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
        Ok(ended.context("it does not stop")??)
    }

    /// What it takes of memory, as `/proc` says.
    ///
    /// # Errors
    ///
    /// Where it does not run.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let id = self.process().context("the router does not run")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = |name: &str| -> anyhow::Result<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let value = value.with_context(|| format!("no {name} in /proc/{id}/status"))?;
            Ok(value.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        Ok(Memory {
            resident: line("VmRSS:")?,
            peak: line("VmHWM:")?,
        })
    }

    /// The processes that it has started and that have not ended: the workers of its plugins' instances.
    ///
    /// # Errors
    ///
    /// Where it does not run.
    pub fn workers(&self) -> anyhow::Result<usize> {
        let id = self.process().context("the router does not run")?;
        let mut workers = 0;
        for thread in fs::read_dir(format!("/proc/{id}/task"))? {
            let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            workers += children.split_whitespace().count();
        }
        Ok(workers)
    }

    /// Its process id.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Posts a request to it.
    ///
    /// # Errors
    ///
    /// Where there is no whole answer.
    pub async fn post(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> anyhow::Result<http::Answered> {
        http::send(self.ingress, Method::POST, path, headers, body.to_vec()).await
    }

    /// What a command of the CLI prints.
    ///
    /// # Errors
    ///
    /// Where it fails; with what it said.
    pub async fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.attempt(arguments).await?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "jackfield {} failed: {error}",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a command of the CLI prints and how it ends, well or not.
    ///
    /// # Errors
    ///
    /// Where the binary cannot be run.
    pub async fn attempt(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = AsyncCommand::new(&self.binary)
            .args(arguments)
            .arg("--config")
            .arg(self.configuration())
            .envs(self.environment.iter().cloned())
            .kill_on_drop(true)
            .output();
        output
            .await
            .with_context(|| format!("running {}", self.binary.display()))
    }

    /// The same, as JSON.
    ///
    /// # Errors
    ///
    /// Where it fails, or prints something else.
    pub async fn ask(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.command(&[arguments, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("jackfield {} printed {text}", arguments.join(" ")))
    }

    /// All that is known of each delivery: the newest first, with its attempts.
    ///
    /// # Errors
    ///
    /// As for [`Router::ask`].
    pub async fn stories(&self) -> anyhow::Result<Vec<Value>> {
        let listed = self.ask(&["deliveries", "list"]).await?;
        let mut stories = Vec::new();
        for delivery in listed.as_array().context("a list of deliveries")? {
            let id = delivery["id"].as_str().context("a delivery has an id")?;
            stories.push(self.ask(&["deliveries", "show", id]).await?);
        }
        Ok(stories)
    }

    /// Waits until nothing is owed any more.
    ///
    /// # Errors
    ///
    /// Where that takes longer than `patience`; with what is left.
    pub async fn settled(&self, patience: Duration) -> anyhow::Result<()> {
        let unsettled = async {
            loop {
                let left = self.unsettled().await?;
                if left.is_empty() {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(patience, unsettled).await {
            Ok(settled) => settled,
            Err(_) => bail!(
                "still owed: {:#}\n{}",
                Value::from(self.unsettled().await?),
                self.end_of_log()
            ),
        }
    }

    /// What is owed, by one look: by several, something could slip from one state into another between them.
    async fn unsettled(&self) -> anyhow::Result<Vec<Value>> {
        let states = ["pending", "running", "waiting"].map(|state| ["--state", state]);
        let listed = self
            .ask(&[&["deliveries", "list"], states.as_flattened()].concat())
            .await?;
        listed.as_array().cloned().context("a list of deliveries")
    }

    /// The file of its log.
    pub fn log_file(&self) -> PathBuf {
        self.home.join("jackfield.log")
    }

    /// Its log, of all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log.
    pub fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Two ports of loopback that were free a moment ago: the router keeps its address over restarts.
///
/// They lie below those that the system gives to connections. Of those, one could be given to a client that tries to
/// reach the router while it is down; it would reach itself, and the router could not have its address back.
fn free_ports() -> anyhow::Result<[SocketAddr; 2]> {
    let mut free = Vec::new();
    for _ in 0..1000 {
        // Held until both are found, so that they differ.
        free.extend(TcpListener::bind((
            Ipv4Addr::LOCALHOST,
            fastrand::u16(10_000..32_768),
        )));
        if let [first, second] = &free[..] {
            return Ok([first.local_addr()?, second.local_addr()?]);
        }
    }
    bail!("there are no free ports")
}
