//! The real router as a child process: started, asked, stopped, and killed.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use hyper::{HeaderMap, Method};
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
        let log = File::options().append(true).create(true).open(self.log())?;
        let child = AsyncCommand::new(&self.binary)
            .args(["run", "--config"])
            .arg(self.configuration())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.child = Some(child);
        for _ in 0..600 {
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
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
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
        let mut child = self.child.take().context("the router does not run")?;
        let id = child.id().context("the router has ended")?.to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let status = tokio::time::timeout(Duration::from_secs(60), child.wait())
            .await
            .context("it does not stop")??;
        ensure!(
            status.success(),
            "the router ended with {status}:\n{}",
            self.end_of_log()
        );
        Ok(())
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
        let output = AsyncCommand::new(&self.binary)
            .args(arguments)
            .arg("--config")
            .arg(self.configuration())
            .envs(self.environment.iter().cloned())
            .output()
            .await?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "jackfield {} failed: {error}",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

    async fn unsettled(&self) -> anyhow::Result<Vec<Value>> {
        let mut left = Vec::new();
        for state in ["pending", "running", "waiting"] {
            let listed = self.ask(&["deliveries", "list", "--state", state]).await?;
            left.extend(listed.as_array().cloned().unwrap_or_default());
        }
        Ok(left)
    }

    fn log(&self) -> PathBuf {
        self.home.join("jackfield.log")
    }

    /// The last lines of its log.
    pub fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Two ports of loopback that were free a moment ago: the router keeps its address over restarts.
fn free_ports() -> anyhow::Result<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (bind()?, bind()?);
    Ok([first.local_addr()?, second.local_addr()?])
}
