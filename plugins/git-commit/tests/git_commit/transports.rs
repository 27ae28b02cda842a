//! Remotes that are not a path: ssh through a stand-in for `ssh`, http through a small server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
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
    let server = Server::start(Answer::Backend(world.at("")));
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
async fn what_an_http_server_says_tells_whether_to_try_again_and_shows_no_token() {
    let elsewhere = Server::start(Answer::Text("HTTP/1.1 500 x\r\n".into()));
    let moved = format!("HTTP/1.1 301 x\r\nLocation: {}/x/info/refs\r\n", elsewhere.origin);
    for (answer, part, is_final) in [
        (
            "HTTP/1.1 401 x\r\nWWW-Authenticate: Basic realm=x\r\n",
            "check the key or token",
            true,
        ),
        ("HTTP/1.1 403 x\r\n", "error: 403", true),
        ("HTTP/1.1 404 x\r\n", "not found", true),
        (moved.as_str(), "name its new address", true),
        ("HTTP/1.1 500 x\r\n", "error: 500", false),
        ("HTTP/1.1 429 x\r\n", "error: 429", false),
    ] {
        let world = World::new();
        world.brings(&[("a.json", "new")]);
        let server = Server::start(Answer::Text(answer.into()));
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

enum Answer {
    /// The head of every answer, without a body.
    Text(String),
    /// What `git http-backend` says about the repositories in a directory.
    Backend(PathBuf),
}

/// As much of a web server as git needs.
struct Server {
    origin: String,
    authorizations: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let authorizations = Arc::new(Mutex::new(Vec::new()));
        let seen = authorizations.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = Request::read(&stream);
                seen.lock()
                    .unwrap()
                    .extend(request.header("authorization").map(str::to_owned));
                let text = match &answer {
                    Answer::Text(head) => {
                        format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
                    }
                    Answer::Backend(root) => request.ask_backend(root),
                };
                let _ = (&stream).write_all(&text);
            }
        });
        Self {
            origin,
            authorizations,
        }
    }

    fn config(&self, more: Value) -> Value {
        let mut config = json!({
            "repositories": [format!("{}/*", self.origin)],
            "protocols": ["http"],
            "tokens": [{ "origin": self.origin, "token": TOKEN }],
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        config
    }

    fn authorizations(&self) -> Vec<String> {
        self.authorizations.lock().unwrap().clone()
    }
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line();
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap(), words.next().unwrap_or_default());
        let headers = std::iter::repeat_with(line)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.split_once(": ")
                    .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            })
            .collect();
        let mut request = Self {
            method,
            target,
            headers,
            body: Vec::new(),
        };
        let length = request
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        request.body = vec![0; length];
        reader.read_exact(&mut request.body).unwrap();
        request
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn ask_backend(&self, root: &std::path::Path) -> Vec<u8> {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut backend = Command::new("git");
        backend
            .arg("http-backend")
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap());
        backend
            .env("GIT_PROJECT_ROOT", root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REMOTE_USER", "x");
        backend
            .env("REQUEST_METHOD", &self.method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query);
        for (name, variable) in [
            ("content-type", "CONTENT_TYPE"),
            ("content-length", "CONTENT_LENGTH"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
        ] {
            if let Some(value) = self.header(name) {
                backend.env(variable, value);
            }
        }
        let mut child = backend
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&self.body).unwrap();
        let output = child.wait_with_output().unwrap().stdout;
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", output.as_slice()].concat()
    }
}
