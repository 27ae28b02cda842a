//! The system's ssh server, for the user who runs a test: it lets in one key, and shows one.

use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, ensure};

/// A server on this machine, which ends with the program.
#[derive(Debug)]
pub struct Ssh {
    home: PathBuf,
    port: u16,
}

impl Ssh {
    /// Where the system has one, if it does.
    pub fn program() -> Option<&'static Path> {
        Some(Path::new("/usr/sbin/sshd")).filter(|program| program.exists())
    }

    /// Starts one that keeps its files in `home`.
    ///
    /// # Errors
    ///
    /// Where there is none, no key can be made, or no port be bound.
    pub fn start(home: &Path) -> anyhow::Result<Self> {
        let program = Self::program().context("there is no sshd; install openssh-server")?;
        fs::create_dir_all(home)?;
        let at = |name: &str| home.join(name).display().to_string();
        for key in ["host", "other_host", "key", "other_key"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]))?;
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        for host in ["host", "other_host"] {
            let key = fs::read_to_string(at(&format!("{host}.pub")))?;
            fs::write(at(&format!("known_{host}")), format!("[127.0.0.1]:{port} {key}"))?;
        }
        let (host, key) = (at("host"), at("key.pub"));
        let configuration =
            format!("HostKey {host}\nAuthorizedKeysFile {key}\nStrictModes no\nUsePAM no\nPidFile none\n");
        fs::write(at("config"), configuration)?;
        if rustix::process::geteuid().is_root() {
            // A server that is root wants it, empty; the system's makes it when it starts.
            fs::create_dir_all("/run/sshd")?;
        }
        let arguments = ["-i", "-f", &at("config"), "-E", &at("log")].map(str::to_owned);
        // As inetd would: a process for each connection.
        thread::Builder::new().spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(answers) = stream.try_clone() else { continue };
                let mut server = Command::new(program);
                server
                    .args(&arguments)
                    .stdin(OwnedFd::from(stream))
                    .stdout(OwnedFd::from(answers));
                // A client that is not served says so.
                let _ = server.status();
            }
        })?;
        let home = home.to_owned();
        Ok(Self { home, port })
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The repository at `path`, as git calls it.
    ///
    /// # Errors
    ///
    /// Where the user has no name.
    pub fn url(&self, path: &Path) -> anyhow::Result<String> {
        let user = run(Command::new("id").arg("-un"))?;
        Ok(format!(
            "ssh://{}@{}{}",
            user.trim(),
            self.address(),
            path.display()
        ))
    }

    /// The key that it lets in.
    pub fn key(&self) -> PathBuf {
        self.home.join("key")
    }

    /// A key that it does not.
    pub fn other_key(&self) -> PathBuf {
        self.home.join("other_key")
    }

    /// The hosts' keys, this one's among them.
    pub fn known_hosts(&self) -> PathBuf {
        self.home.join("known_host")
    }

    /// Hosts' keys, by which this one is another.
    pub fn other_hosts(&self) -> PathBuf {
        self.home.join("known_other_host")
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

/// What a program prints, which must end well.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
