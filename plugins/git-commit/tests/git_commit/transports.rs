//! Remotes that are not a path: ssh through a stand-in for `ssh` and to the system's server, http and https through git's own server behind a small one.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use hyper::StatusCode;
use jackfield_sdk::testing::Ended;
use jackfield_stage::{
    http::{Answer, Asked, Server, answer},
    ssh::Ssh,
    tls,
};
use serde_json::{Value, json};

use crate::world::{World, fatal, retry};

const TOKEN: &str = "s3cr3t-t0ken";

#[tokio::test]
async fn ssh_carries_a_commit() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    // Its last argument is the command that the other side is to run.
    let lines = format!(
        "echo \"$@\" >> '{}'\nfor last; do :; done\neval \"$last\"",
        world.at("ssh.log").display()
    );
    let ssh = world.script("fake ssh", &lines);
    let plugin = world
        .start_with(json!({
            "repositories": ["git@github.com:*", "ssh://git@github.com:2222/*"],
            "protocols": ["ssh"],
            "ssh": { "key": "/keys/deploy", "known_hosts": "/keys/known_hosts", "program": ssh },
        }))
        .await;
    let repository = format!("ssh://git@github.com:2222{}", world.remote());
    let output = plugin
        .call(world.call(json!({ "repository": repository })))
        .await
        .done();
    let sha = world.tip("main");
    let page = format!(
        "https://github.com{}/commit/{sha}",
        world.remote().trim_end_matches(".git")
    );
    assert_eq!(
        output,
        json!({ "sha": sha, "changed": true, "url": page, "branch": "main", "files": 1 })
    );

    let log = fs::read_to_string(world.at("ssh.log")).unwrap();
    let expected = "-F /dev/null -i /keys/deploy -o BatchMode=yes -o StrictHostKeyChecking=yes \
                    -o UserKnownHostsFile=\"/keys/known_hosts\"";
    assert!(
        log.lines().count() >= 2 && log.lines().all(|line| line.starts_with(expected)),
        "{log}"
    );
    assert!(
        log.lines()
            .all(|line| line.contains("-p 2222") && line.contains("git@github.com")),
        "{log}"
    );
}

#[tokio::test]
async fn ssh_carries_a_commit_to_a_host_that_is_known_and_to_no_other() {
    if Ssh::program().is_none() {
        println!("skipped, since there is no sshd; install openssh-server");
        return;
    }
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    let server = Ssh::start(&world.at("ssh")).unwrap();
    let repository = server.url(&world.at("remote.git")).unwrap();
    let commit = async |key: PathBuf, known_hosts: PathBuf| {
        let config = json!({
            "repositories": ["*"],
            "protocols": ["ssh"],
            "ssh": { "key": key, "known_hosts": known_hosts },
        });
        let call = world.call(json!({ "repository": repository }));
        world.start_with(config).await.call(call).await
    };

    let impostor = commit(server.key(), server.other_hosts()).await;
    fatal(&impostor, "Host key verification failed");
    fatal(&impostor, "check `ssh.known_hosts`");
    let intruder = commit(server.other_key(), server.known_hosts()).await;
    fatal(&intruder, "check the key or token of this instance");
    assert_eq!(world.count("main"), 1);

    let committed = commit(server.key(), server.known_hosts()).await;
    assert_eq!(committed.outcome, Ended::Done, "{committed:?}\n{}", server.log());
    assert_eq!(committed.done()["sha"], world.tip("main"));
    assert_eq!(world.files("main")["tokens/a.json"], "new");
}

#[tokio::test]
async fn what_ssh_says_tells_whether_to_try_again() {
    for (said, is_final) in [
        (
            "ssh: connect to host github.com port 22: Connection refused",
            false,
        ),
        ("Connection reset by 192.0.2.1 port 22", false),
        ("git@github.com: Permission denied (publickey).", true),
        ("Host key verification failed.", true),
        ("ERROR: Repository not found.", true),
    ] {
        let world = World::new();
        world.brings(&[("a.json", "new")]);
        let ssh = world.script("ssh", &format!("echo '{said}' >&2; exit 255"));
        let config = json!({ "repositories": ["git@github.com:*"], "protocols": ["ssh"], "ssh": { "key": "/key", "program": ssh } });
        let plugin = world.start_with(config).await;
        let report = plugin
            .call(world.call(json!({ "repository": "git@github.com:acme/x.git" })))
            .await;
        if is_final {
            fatal(&report, said)
        } else {
            retry(&report, said)
        }
    }
}

#[tokio::test]
async fn http_carries_a_commit_and_the_token_its_header() {
    let world = World::new();
    world.ask(&["config", "http.receivepack", "true"]);
    world.brings(&[("a.json", "new")]);
    let server = Forge::http(Answers::Backend(world.at(""))).await;
    // What `ps` would show.
    let log = world.at("arguments");
    let git = world.script(
        "logging-git",
        &format!("echo \"$@\" >> '{}'\nexec git \"$@\"", log.display()),
    );
    let plugin = world.start_with(server.config(json!({ "git": git }))).await;
    let repository = format!("{}/remote.git", server.origin);
    let output = plugin
        .call(world.call(json!({ "repository": repository })))
        .await
        .done();
    assert_eq!(output["sha"], world.tip("main"));
    assert_eq!(world.files("main")["tokens/a.json"], "new");

    let basic = "Basic eC1hY2Nlc3MtdG9rZW46czNjcjN0LXQwa2Vu";
    let headers = server.authorizations();
    assert!(
        headers.len() >= 3 && headers.iter().all(|header| header == basic),
        "{headers:?}"
    );
    let arguments = fs::read_to_string(log).unwrap();
    assert!(
        arguments.contains("push") && !arguments.contains(TOKEN) && !arguments.contains("czNjcjN0"),
        "{arguments}"
    );
}

#[tokio::test]
async fn https_carries_a_commit_to_a_server_that_the_authority_vouches_for() {
    let world = World::new();
    world.ask(&["config", "http.receivepack", "true"]);
    world.brings(&[("a.json", "new")]);
    let forge = Forge::https(Answers::Backend(world.at(""))).await;
    let repository = format!("{}/remote.git", forge.origin);
    let to = |repository: &str| world.call(json!({ "repository": repository }));

    let config = forge.config(json!({ "ca_file": tls::authority() }));
    let output = world.start_with(config).await.call(to(&repository)).await.done();
    assert_eq!(output["sha"], world.tip("main"));
    assert_eq!(world.files("main")["tokens/a.json"], "new");
    assert!(forge.authorizations().len() >= 3, "{:?}", forge.authorizations());
}

#[tokio::test]
async fn https_tells_nothing_to_a_server_that_is_not_who_it_should_be() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    let forge = Forge::https(Answers::Backend(world.at(""))).await;
    // A name of this machine's that the certificate does not have.
    let other = forge.origin.replace("localhost", "other.localhost");
    for (origin, ca_file) in [
        (&forge.origin, Some(tls::stranger())),
        (&forge.origin, None),
        (&other, Some(tls::authority())),
    ] {
        let config = json!({
            "repositories": ["*"],
            "tokens": [{ "origin": origin, "token": TOKEN }],
            "ca_file": ca_file,
        });
        let config = forge.config(config);
        let repository = format!("{origin}/remote.git");
        let report = world
            .start_with(config)
            .await
            .call(world.call(json!({ "repository": repository })))
            .await;
        fatal(
            &report,
            "check `ssh.known_hosts` or `ca_file` of this instance against the host",
        );
    }
    assert_eq!(forge.authorizations(), Vec::<String>::new());
    assert_eq!(world.count("main"), 1);
}

#[tokio::test]
async fn what_an_http_server_says_tells_whether_to_try_again_and_shows_no_token() {
    let elsewhere = Forge::http(Answers::Always(500, None)).await;
    let moved = ("location", format!("{}/x/info/refs", elsewhere.origin));
    let challenge = ("www-authenticate", "Basic realm=x".to_owned());
    for (status, header, part, is_final) in [
        (401, Some(challenge), "check the key or token", true),
        (403, None, "error: 403", true),
        (404, None, "not found", true),
        (301, Some(moved), "name its new address", true),
        (500, None, "error: 500", false),
        (429, None, "error: 429", false),
    ] {
        let world = World::new();
        world.brings(&[("a.json", "new")]);
        let server = Forge::http(Answers::Always(status, header)).await;
        let plugin = world.start_with(server.config(json!({}))).await;
        let repository = format!("{}/x", server.origin);
        let report = plugin.call(world.call(json!({ "repository": repository }))).await;
        if is_final {
            fatal(&report, part)
        } else {
            retry(&report, part)
        }
        assert!(
            !report.message.contains(TOKEN) && !report.message.contains("Basic e"),
            "{}",
            report.message
        );
        assert!(!server.authorizations().is_empty());
    }
    assert_eq!(
        elsewhere.authorizations(),
        Vec::<String>::new(),
        "a redirection takes the token nowhere"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_retry() {
    let world = World::new();
    world.brings(&[("a.json", "new")]);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = json!({ "repositories": ["*"], "protocols": ["http"] });
    let plugin = world.start_with(config).await;
    let report = plugin
        .call(world.call(json!({ "repository": format!("http://127.0.0.1:{port}/x") })))
        .await;
    retry(&report, "Failed to connect");
}

/// What a forge answers.
enum Answers {
    /// This to everything, with one header, and without a body.
    Always(u16, Option<(&'static str, String)>),
    /// What `git http-backend` says about the repositories in a directory.
    Backend(PathBuf),
}

/// A forge on this machine.
struct Forge {
    origin: String,
    authorizations: Arc<Mutex<Vec<String>>>,
    _server: Server,
}

impl Forge {
    async fn http(answers: Answers) -> Self {
        Self::start(answers, false).await
    }

    /// One whose certificate is for `localhost`, by the authority of the stage.
    async fn https(answers: Answers) -> Self {
        Self::start(answers, true).await
    }

    async fn start(answers: Answers, is_secure: bool) -> Self {
        let (authorizations, answers) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(answers));
        let seen = Arc::clone(&authorizations);
        let respond = move |asked: Asked| {
            let authorization = asked.header("authorization").map(str::to_owned);
            seen.lock().unwrap().extend(authorization);
            let answers = Arc::clone(&answers);
            async move {
                tokio::task::spawn_blocking(move || answers.to(&asked))
                    .await
                    .unwrap()
            }
        };
        let (scheme, server) = match is_secure {
            true => ("https", Server::start_tls(respond).await.unwrap()),
            false => ("http", Server::start(respond).await.unwrap()),
        };
        Self {
            origin: format!("{scheme}://localhost:{}", server.address().port()),
            authorizations,
            _server: server,
        }
    }

    fn config(&self, more: Value) -> Value {
        let mut config = json!({
            "repositories": [format!("{}/*", self.origin)],
            "protocols": ["http", "https"],
            "tokens": [{ "origin": self.origin, "token": TOKEN }],
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        config
    }

    /// What the requests so far have shown to be let in.
    fn authorizations(&self) -> Vec<String> {
        self.authorizations.lock().unwrap().clone()
    }
}

impl Answers {
    fn to(&self, asked: &Asked) -> Answer {
        match self {
            Self::Always(status, header) => {
                let mut always = answer(StatusCode::from_u16(*status).unwrap(), "text/plain", "");
                if let Some((name, value)) = header {
                    always.headers_mut().insert(*name, value.parse().unwrap());
                }
                always
            }
            Self::Backend(root) => ask_backend(root, asked),
        }
    }
}

fn ask_backend(root: &Path, asked: &Asked) -> Answer {
    let mut backend = Command::new("git");
    backend
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "x")
        .env("REQUEST_METHOD", asked.method.as_str())
        .env("PATH_INFO", &asked.path)
        .env("QUERY_STRING", &asked.query)
        .env("CONTENT_LENGTH", asked.body.len().to_string());
    for (name, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = asked.header(name) {
            backend.env(variable, value);
        }
    }
    let mut child = backend
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&asked.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(output[..end].to_vec()).unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let content_type = lines.find_map(|(name, value)| (name == "Content-Type").then_some(value));
    answer(StatusCode::OK, content_type.unwrap(), output[end + 4..].to_vec())
}
