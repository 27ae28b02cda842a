//! `git-commit` over ssh as in production: the real binary, its worker in its sandbox, git, ssh, the command that is ssh's way
//! through the proxy, and a server on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{fs, net::TcpListener, os::fd::OwnedFd, path::Path, process::Command};

use jackfield::plugin::unenforced;
use jackfield_stage::{cargo, router::Router};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");
const SERVER: &str = "/usr/sbin/sshd";

/// What it takes besides to have a router.
const SOURCE: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "SECRET" }]
"#;
const ROUTES: &str = r#"
[[route]]
name = "nothing"
when.type = ["com.example.nothing"]
[[route.step]]
use = "trusts"
with = { repository = "git@example.com:x", from = "files" }
"#;

#[tokio::test]
async fn a_commit_goes_by_ssh_to_a_host_whose_key_is_known_and_to_no_other() {
    if !unenforced().is_empty() || !Path::new(SERVER).exists() {
        println!("skipped, since there is no {SERVER}, or a kernel that does not keep plugins in");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (at, port) = (|name: &str| home.path().join(name), prepare(home.path()));
    let built = cargo::build(&["git-commit"], "dev").unwrap();
    let library = built.library("git-commit").unwrap();
    let mut router = Router::prepare(Path::new(BINARY), home.path(), &[library]).unwrap();
    let instances = [("trusts", "host"), ("mistrusts", "stranger")];
    let instances = instances.map(|(name, known)| instance(name, known, port, home.path()));
    router
        .configure(&format!("{SOURCE}{}", instances.concat()), ROUTES)
        .unwrap();
    router.set("SECRET", "s");
    router.start().await.unwrap();
    let user = run(Command::new("id").arg("-un"));
    let input = json!({
        "repository": format!("ssh://{user}@127.0.0.1:{port}{}", at("remote.git").display()),
        "branch": "main",
        "from": at("files"),
        "message": "Tokens",
    });
    let router = &router;
    let commit = async |instance: &str| -> Value {
        let input = input.to_string();
        let arguments = ["plugin", "call", instance, "-o", "json", "--input", &input];
        let called = router.attempt(&arguments).await.unwrap();
        serde_json::from_slice(&called.stdout).unwrap_or_else(|_| panic!("{called:?}"))
    };
    let tips = || {
        run(Command::new("git")
            .arg("-C")
            .arg(at("remote.git"))
            .args(["for-each-ref", "--format=%(objectname)"]))
    };

    let log = || fs::read_to_string(at("sshd.log")).unwrap_or_default();
    let refused = commit("mistrusts").await;
    let message = refused["message"].as_str().unwrap();
    assert_eq!(refused["outcome"], "fatal", "{refused:#}\n{}", log());
    assert!(message.contains("Host key verification failed"), "{message}");
    assert_eq!(tips(), "");
    let done = commit("trusts").await;
    assert_eq!(done["outcome"], "done", "{done:#}\n{}", log());
    assert_eq!(tips(), done["output"]["sha"]);
}

/// Makes keys, files, and a repository with a server of it, whose port this is.
fn prepare(home: &Path) -> u16 {
    for key in ["host", "stranger", "deploy"] {
        let mut command = Command::new("ssh-keygen");
        run(command
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(home.join(key)));
    }
    let mut command = Command::new("git");
    run(command
        .args(["init", "--quiet", "--bare", "--initial-branch=main"])
        .arg(home.join("remote.git")));
    fs::create_dir(home.join("files")).unwrap();
    fs::write(home.join("files/tokens.json"), "{}").unwrap();
    let port = serve(home);
    for key in ["host", "stranger"] {
        let public = fs::read_to_string(home.join(key).with_extension("pub")).unwrap();
        fs::write(
            home.join(format!("known_{key}")),
            format!("[127.0.0.1]:{port} {public}"),
        )
        .unwrap();
    }
    port
}

/// An instance that takes the server for the one that has this key.
fn instance(name: &str, known: &str, port: u16, home: &Path) -> String {
    let home = home.display();
    format!(
        r#"
        [[instance]]
        name = "{name}"
        plugin = "git-commit"
        grant.network = ["127.0.0.1:{port}"]
        grant.programs = ["git", "ssh"]
        grant.read = ["{home}/deploy", "{home}/known_{known}", "{home}/files"]
        grant.write = ["cache"]
        [instance.config]
        repositories = ["*"]
        protocols = ["ssh"]
        committer = {{ name = "Bot", email = "bot@example.com" }}
        ssh = {{ key = "{home}/deploy", known_hosts = "{home}/known_{known}" }}
        sources = ["{home}/files"]
        cache = "cache"
        "#
    )
}

/// Has a server answer on a port: one process for each connection, for which inetd would start it.
fn serve(home: &Path) -> u16 {
    let at = |name: &str| home.join(name).display().to_string();
    let configuration = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n",
        at("host"),
        at("deploy.pub")
    );
    fs::write(at("sshd_config"), configuration).unwrap();
    if rustix::process::geteuid().is_root() {
        // A server that is root wants it, empty; the system's makes it when it starts.
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let arguments = ["-i", "-f", &at("sshd_config"), "-E", &at("sshd.log")].map(str::to_owned);
    // It ends with the test.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut command = Command::new(SERVER);
            command
                .args(&arguments)
                .stdout(OwnedFd::from(stream.try_clone().unwrap()));
            command
                .stdin(OwnedFd::from(stream))
                .spawn()
                .unwrap()
                .wait()
                .unwrap();
        }
    });
    port
}

/// What a program prints, which must end well.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
