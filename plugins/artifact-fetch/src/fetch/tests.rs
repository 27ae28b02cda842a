use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::{StatusCode as Status, header::LOCATION};
use jackfield_stage::http::{Answer, Asked, Server, answer};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;
use crate::place::HostPort;

const HELLO_SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// The path and the `Authorization` of a request.
type Seen = (String, Option<String>);

/// A server and what reached it.
struct StandIn {
    server: Server,
    asked: Arc<Mutex<Vec<Seen>>>,
}

impl StandIn {
    async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let server = Server::start(move |request| {
            let authorization = request.header("authorization").map(str::to_owned);
            seen.lock().unwrap().push((request.path.clone(), authorization));
            let answer = answer(&request);
            async { answer }
        });
        Self {
            server: server.await.unwrap(),
            asked,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    fn place(&self) -> String {
        self.server.address().to_string()
    }

    fn seen(&self) -> Vec<Seen> {
        self.asked.lock().unwrap().clone()
    }
}

/// One try, with a directory of its own.
struct Try {
    directory: TempDir,
    fetcher: Fetcher,
    job: Job,
}

impl Try {
    fn new(url: &str, allow_private: &[String]) -> Self {
        Self::with(url, json!({ "allow_private": allow_private }), &[])
    }

    fn with(url: &str, config: serde_json::Value, names: &[(&str, &[&str])]) -> Self {
        let options = Options::new(serde_json::from_value(config).unwrap()).unwrap();
        let table: HashMap<String, Vec<IpAddr>> = names
            .iter()
            .map(|(name, addresses)| {
                (
                    (*name).to_owned(),
                    addresses.iter().map(|it| it.parse().unwrap()).collect(),
                )
            })
            .collect();
        let directory = TempDir::new().unwrap();
        let job = Job {
            url: Url::parse(url).unwrap(),
            credential: options.credentials.get("token").cloned(),
            sha256: None,
            max_bytes: options.max_bytes,
            to: directory.path().join("artifact"),
            link: Link::default(),
        };
        Self {
            directory,
            fetcher: Fetcher::new(&options, Resolver::Table(table), None),
            job,
        }
    }

    /// In a process of its own: by `proxy`, and with no names of its own.
    fn proxied(url: &str, config: serde_json::Value, proxy: Proxy) -> Self {
        let options = Options::new(serde_json::from_value(config.clone()).unwrap()).unwrap();
        let fetcher = Fetcher::new(&options, Resolver::Table(HashMap::new()), Some(proxy));
        Self {
            fetcher,
            ..Self::with(url, config, &[])
        }
    }

    async fn run(&self) -> Result<Fetched, FetchError> {
        self.fetcher.fetch(&self.job).await
    }

    async fn error(&self) -> FetchError {
        self.run().await.unwrap_err()
    }

    /// The file's bytes; `None` where there is no file of that name.
    fn file(&self) -> Option<Vec<u8>> {
        std::fs::read(self.directory.path().join("artifact")).ok()
    }
}

fn hello() -> Answer {
    answer(Status::OK, "Text/Plain; charset=utf-8", "hello")
}

fn redirect_to(location: &str) -> Answer {
    let mut redirect = answer(Status::FOUND, "text/plain", "");
    redirect.headers_mut().insert(LOCATION, location.parse().unwrap());
    redirect
}

/// A server that says `response` to whoever comes, and hangs up or, where `hold` says so, never does.
async fn raw(response: &'static [u8], hold: bool) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(response).await;
            if hold {
                held.push(stream);
            }
        }
    });
    (place, tasks)
}

/// The router's proxy, which makes no connection and answers with `reply`; but for one to `open`, which it makes.
async fn proxy(reply: u8, open: Option<&StandIn>) -> (Proxy, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socks5h://7:t0ken@{}", listener.local_addr().unwrap());
    let open = open.map(|open| open.server.address());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut tunnels = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            tunnels.spawn(async move {
                let mut said = [0; 512];
                for answer in [&[5, 2][..], &[1, 0]] {
                    let _ = stream.read(&mut said).await;
                    let _ = stream.write_all(answer).await;
                }
                let length = stream.read(&mut said).await.unwrap_or_default();
                let port = open.map(|open| open.port().to_be_bytes());
                let far = match (open, port) {
                    (Some(open), Some(port)) if said[..length].ends_with(&port) => Some(open),
                    _ => None,
                };
                let reply = if far.is_some() { 0 } else { reply };
                let _ = stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await;
                if let Some(far) = far {
                    let mut far = TcpStream::connect(far).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
                }
            });
        }
    });
    (Proxy::new(url), tasks)
}

#[tokio::test]
async fn a_file_is_fetched_whole() {
    let files = StandIn::start(|_| hello()).await;
    let attempt = Try::new(&files.at("/hello.txt"), &[files.place()]);
    let fetched = attempt.run().await.unwrap();
    let expected = Fetched {
        sha256: HELLO_SHA256.to_owned(),
        size: 5,
        media_type: Some("text/plain".to_owned()),
    };
    assert_eq!(fetched, expected);
    assert_eq!(attempt.file().unwrap(), b"hello");
    assert_eq!(std::fs::read_dir(attempt.directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_credential_goes_when_the_origin_changes_and_does_not_come_back() {
    let (api_place, storage_place) = (
        Arc::new(Mutex::new(String::new())),
        Arc::new(Mutex::new(String::new())),
    );
    let (to_api, to_storage) = (Arc::clone(&api_place), Arc::clone(&storage_place));
    let api = StandIn::start(move |asked| match asked.path.as_str() {
        "/start" => redirect_to("/next"),
        "/next" => redirect_to(&format!("http://{}/stored", to_storage.lock().unwrap())),
        _ => hello(),
    });
    let storage = StandIn::start(move |_| redirect_to(&format!("http://{}/back", to_api.lock().unwrap())));
    let (api, storage) = (api.await, storage.await);
    *api_place.lock().unwrap() = api.place();
    *storage_place.lock().unwrap() = storage.place();

    for credential in [
        json!({ "bearer": "hunter2" }),
        json!({ "header": { "name": "Authorization", "value": "Bearer hunter2" } }),
    ] {
        let mut config = json!({ "allow_private": [api.place(), storage.place()], "credentials": { "token": credential } });
        config["credentials"]["token"]["origins"] = json!([api.server.url(), storage.server.url()]);
        Try::with(&api.at("/start"), config, &[]).run().await.unwrap();
    }
    let token = Some("Bearer hunter2".to_owned());
    let once = [
        ("/start".to_owned(), token.clone()),
        ("/next".to_owned(), token),
        ("/back".to_owned(), None),
    ];
    assert_eq!(api.seen(), [once.clone(), once].concat());
    assert_eq!(storage.seen(), vec![("/stored".to_owned(), None); 2]);
}

#[tokio::test]
async fn a_credential_is_not_sent_to_an_origin_that_it_is_not_for() {
    let files = StandIn::start(|_| hello()).await;
    let config = json!({
        "allow_private": [files.place()],
        "credentials": { "token": { "origins": ["https://api.supernova.io"], "bearer": "hunter2" } }
    });
    let error = Try::with(&files.at("/"), config, &[]).error().await;
    assert_eq!(
        error.to_string(),
        format!(
            "the credential `token` is only for https://api.supernova.io, and the link leads to {}; it was not sent",
            files.server.url()
        )
    );
    assert_eq!(error.remedy(), Remedy::Person);
    assert!(files.seen().is_empty());
}

/// Links that must not be followed, and the word in the error that tells why.
const HOSTILE: &[(&str, &str)] = &[
    ("ftp://files.example/a", "has the scheme `ftp`"),
    ("file:///etc/passwd", "has the scheme `file`"),
    ("http://files.example/a", "is plain http"),
    ("https://user:hunter2@files.example/a", "user name or password"),
    ("https://hunter2@files.example/a", "user name or password"),
    ("https://127.0.0.1/a", "127.0.0.1 is loopback"),
    ("https://127.1/a", "127.0.0.1 is loopback"),
    ("https://0x7f000001/a", "127.0.0.1 is loopback"),
    ("https://2130706433/a", "127.0.0.1 is loopback"),
    ("https://0177.0.0.1/a", "127.0.0.1 is loopback"),
    ("https://１２７.0.0.1/a", "127.0.0.1 is loopback"),
    ("https://0/a", "0.0.0.0 is unspecified"),
    ("https://10.0.0.1/a", "10.0.0.1 is private"),
    (
        "https://169.254.169.254/latest/meta-data/",
        "169.254.169.254 is link-local",
    ),
    (
        "https://100.100.100.200/a",
        "100.100.100.200 is shared by a carrier's NAT",
    ),
    ("https://[::1]/a", "::1 is loopback"),
    ("https://[::]/a", ":: is unspecified"),
    ("https://[::ffff:127.0.0.1]/a", "is IPv4-mapped"),
    ("https://[64:ff9b::10.0.0.1]/a", "is translated by NAT64"),
    ("https://[fd00:ec2::254]/a", "is unique-local"),
    ("https://[fe80::1]/a", "is link-local"),
    ("https://inside.example/a", "10.1.2.3 is private"),
    ("https://inside6.example/a", "is loopback"),
    ("https://metadata.google.internal/a", "is link-local"),
    ("https://nowhere.example/a", "was not found"),
    ("https://empty.example/a", "was not found"),
];

const NAMES: &[(&str, &[&str])] = &[
    ("inside.example", &["10.1.2.3"]),
    ("inside6.example", &["::1", "fe80::1"]),
    ("metadata.google.internal", &["169.254.169.254"]),
    ("empty.example", &[]),
];

#[tokio::test]
async fn hostile_links_are_refused() {
    for (url, expected) in HOSTILE {
        let error = Try::with(url, json!({}), NAMES).error().await.to_string();
        assert!(error.contains(expected), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn hostile_links_are_refused_on_every_hop() {
    let files = StandIn::start(|asked| match asked.parameter("to") {
        Some(to) if asked.path == "/twice" => {
            let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
            redirect_to(&format!("/once?to={to}"))
        }
        Some(to) => redirect_to(Url::parse(&to).unwrap().as_str()),
        None => hello(),
    })
    .await;
    for (url, expected) in HOSTILE {
        let mut link = Url::parse(&files.at("/twice")).unwrap();
        link.query_pairs_mut().append_pair("to", url);
        let config = json!({ "allow_private": [files.place()] });
        let error = Try::with(link.as_str(), config, NAMES).error().await.to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }
    assert_eq!(files.seen().len(), 2 * HOSTILE.len());
}

#[tokio::test]
async fn what_the_proxy_refuses_goes_to_a_person_and_what_it_does_not_reach_is_asked_again() {
    const NOT_ALLOWED: u8 = 2;
    let files = StandIn::start(|_| redirect_to("https://metadata.google.internal/x?sig=hunter2")).await;
    for link in ["https://metadata.google.internal/x?sig=hunter2", &files.at("/")] {
        for (reply, remedy) in [
            (1, Remedy::Retry(None)),
            (NOT_ALLOWED, Remedy::Person),
            (3, Remedy::Retry(None)),
            (4, Remedy::Retry(None)),
            (5, Remedy::Retry(None)),
            (6, Remedy::Retry(None)),
        ] {
            let (proxy, _running) = proxy(reply, Some(&files)).await;
            let attempt = Try::proxied(link, json!({ "allow_private": [files.place()] }), proxy);
            let error = attempt.error().await;
            assert_eq!(error.remedy(), remedy, "{reply}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            if remedy == Remedy::Person {
                assert_eq!(
                    error.to_string(),
                    "the router's proxy refuses to connect to metadata.google.internal:443: the host is not granted, or its \
                     address is not public; the router's log says which, and what to add to `grant.network` if it is meant"
                );
            }
        }
    }
    assert_eq!(
        files.seen().len(),
        6,
        "each redirection was followed, by the proxy"
    );
}

#[tokio::test]
async fn an_exception_is_for_its_own_port_and_spelling() {
    let files = StandIn::start(|_| hello()).await;
    let other = StandIn::start(|_| hello()).await;
    let port = files.server.address().port();
    for url in [
        other.at("/"),
        format!("http://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
    ] {
        let names: &[(&str, &[&str])] = &[("localhost", &["127.0.0.1"])];
        let config = json!({ "allow_private": [files.place()] });
        let error = Try::with(&url, config, names).error().await;
        assert!(matches!(error, FetchError::PlainHttp(_)), "{url}: {error}");
    }
    assert!(files.seen().is_empty() && other.seen().is_empty());
}

#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_checked() {
    let files =
        StandIn::start(|asked| answer(Status::OK, "text/plain", asked.header("host").unwrap().to_owned()))
            .await;
    let place = format!("files.example:{}", files.server.address().port());
    let config = json!({ "allow_private": [place] });
    let attempt = Try::with(
        &format!("http://{place}/"),
        config,
        &[("files.example", &["127.0.0.1"])],
    );
    attempt.run().await.unwrap();
    assert_eq!(attempt.file().unwrap(), place.as_bytes());
}

#[tokio::test]
async fn redirects_end_somewhere() {
    let files = StandIn::start(|_| redirect_to("/again")).await;
    let error = Try::new(&files.at("/"), &[files.place()]).error().await;
    assert_eq!(
        error.to_string(),
        "the link leads through more than 5 redirects (`max_redirects`)"
    );
    assert_eq!(files.seen().len(), 6);

    let mute = StandIn::start(|_| answer(Status::FOUND, "text/plain", "")).await;
    let error = Try::new(&mute.at("/"), &[mute.place()]).error().await;
    assert!(matches!(error, FetchError::BadRedirect(_)), "{error}");
}

#[tokio::test]
async fn what_a_server_refuses_for_good_goes_to_a_person() {
    let table = [
        (410, "", None, "", "has expired; have the provider send a new one"),
        (
            410,
            "",
            None,
            "appflow",
            "has expired (Appflow's links die after 24 hours); have",
        ),
        (
            403,
            "",
            Some("2026-01-02T00:00:00Z"),
            "appflow",
            "(the event says that it expires at 2026-01-02T00:00:00Z), or the credential",
        ),
        (
            403,
            "<Message>Request has expired</Message>",
            None,
            "",
            "has expired; have the provider send a new one",
        ),
        (
            400,
            "<Code>ExpiredToken</Code>",
            None,
            "",
            "has expired; have the provider send a new one",
        ),
        (
            400,
            "<Message>Only one auth mechanism allowed</Message>",
            None,
            "",
            "the request was refused",
        ),
        (401, "", None, "", "check `auth`"),
        (404, "", None, "", "nothing at the link, or no longer"),
        (206, "", None, "", "not the whole file"),
        (204, "", None, "", "not the whole file"),
        (304, "", None, "", "leads nowhere"),
    ];
    for (status, body, expires, provider, expected) in table {
        let files =
            StandIn::start(move |_| answer(Status::from_u16(status).unwrap(), "text/plain", body)).await;
        let mut attempt = Try::new(&files.at("/secret-path?sig=hunter2"), &[files.place()]);
        attempt.job.link = Link {
            expires: expires.map(str::to_owned),
            provider: provider.to_owned(),
        };
        let error = attempt.error().await;
        let text = error.to_string();
        assert!(text.contains(expected), "{status}: {text}");
        assert!(
            text.contains(&format!("{} answered {status}", files.server.url())),
            "{text}"
        );
        assert!(
            !text.contains("hunter2") && !text.contains("secret-path"),
            "{text}"
        );
        assert_eq!(error.remedy(), Remedy::Person, "{status}");
        assert_eq!(attempt.file(), None);
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says() {
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    let later = "Wed, 21 Oct 2015 07:29:30 GMT";
    let table = [
        (429, Some("7"), Some(7)),
        (503, Some("120"), Some(120)),
        (503, Some(later), Some(90)),
        (503, Some("Wed, 21 Oct 2015 07:00:00 GMT"), None),
        (503, Some("soon"), None),
        (408, None, None),
        (500, None, None),
        (502, None, None),
    ];
    for (status, after, expected) in table {
        let files = StandIn::start(move |_| {
            let mut busy = answer(Status::from_u16(status).unwrap(), "text/plain", "");
            busy.headers_mut().insert("date", date.parse().unwrap());
            if let Some(after) = after {
                busy.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            busy
        });
        let files = files.await;
        let error = Try::new(&files.at("/"), &[files.place()]).error().await;
        assert_eq!(
            error.remedy(),
            Remedy::Retry(expected.map(Duration::from_secs)),
            "{status} {after:?}: {error}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_kept() {
    for response in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\nxx".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nxxxxxx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nxxxxxx",
        b"HTTP/1.0 200 OK\r\n\r\nxxxxxx",
    ] {
        let (place, _server) = raw(response, false).await;
        let config = json!({ "allow_private": [place], "max_bytes": 5 });
        let attempt = Try::with(&format!("http://{place}/"), config, &[]);
        let error = attempt.error().await;
        assert!(
            matches!(error, FetchError::TooLarge { max_bytes: 5, .. }),
            "{error}"
        );
        assert_eq!(error.remedy(), Remedy::Person);
        assert_eq!(attempt.file(), None);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_asked_for_again() {
    for (response, hold) in [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".as_slice(),
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            false,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", true),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n", true),
        (b"", true),
        (b"", false),
        (b"SSH-2.0-OpenSSH_9.2\r\n", false),
    ] {
        let (place, _server) = raw(response, hold).await;
        let config = json!({ "allow_private": [place], "stall_timeout": "50ms" });
        let attempt = Try::with(&format!("http://{place}/secret-path?sig=hunter2"), config, &[]);
        let error = attempt.error().await;
        assert_eq!(error.remedy(), Remedy::Retry(None), "{error}");
        let text = error.to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("secret-path"),
            "{text}"
        );
        assert_eq!(attempt.file(), None);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_asked_again() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let error = Try::new(
        &format!("http://{gone}/secret-path?sig=hunter2"),
        std::slice::from_ref(&gone),
    )
    .error()
    .await;
    assert_eq!(error.remedy(), Remedy::Retry(None));
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_file_of_another_digest_is_not_kept() {
    let files = StandIn::start(|_| hello()).await;
    let mut attempt = Try::new(&files.at("/"), &[files.place()]);
    attempt.job.sha256 = Some("0".repeat(64));
    let error = attempt.error().await;
    assert_eq!(
        error.to_string(),
        format!(
            "the file's sha256 is {HELLO_SHA256} (5 bytes), and {} was expected",
            "0".repeat(64)
        )
    );
    assert_eq!(attempt.file(), None);
    attempt.job.sha256 = Some(HELLO_SHA256.to_owned());
    assert_eq!(attempt.run().await.unwrap().size, 5);
}

#[tokio::test]
async fn a_body_in_a_content_coding_is_not_the_file() {
    let files = StandIn::start(|asked| {
        assert_eq!(asked.header("accept-encoding"), Some("identity"));
        let mut coded = hello();
        coded
            .headers_mut()
            .insert("content-encoding", "gzip".parse().unwrap());
        coded
    })
    .await;
    let error = Try::new(&files.at("/"), &[files.place()]).error().await;
    assert!(
        matches!(&error, FetchError::Encoded(coding) if coding == "gzip"),
        "{error}"
    );
}

/// Where the program that a test starts of itself is to fetch from.
const TRUSTED_URL: &str = "JACKFIELD_TEST_TRUSTED_URL";

#[tokio::test]
async fn a_server_is_known_by_the_systems_roots_and_by_nothing_else() {
    let files = Server::start_tls(|_| async { hello() }).await.unwrap();
    let url = format!("https://localhost:{}/", files.address().port());
    let names: &[(&str, &[&str])] = &[("localhost", &["127.0.0.1"])];
    let config = json!({ "allow_private": [url.trim_start_matches("https://").trim_end_matches('/')] });
    let error = Try::with(&url, config, names).error().await;
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");

    // The roots are read from where the environment says, and that is one for the whole process.
    let trusting = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fetch::tests::a_server_that_the_system_trusts_is_fetched_from",
            "--ignored",
        ])
        .env("SSL_CERT_FILE", jackfield_stage::tls::authority())
        .env(TRUSTED_URL, url)
        // Nobody listens there: a request that went through a proxy would not arrive.
        .env("https_proxy", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .output();
    let output = trusting.await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
#[ignore = "started by the test before it, in a process of its own"]
async fn a_server_that_the_system_trusts_is_fetched_from() {
    let url = std::env::var(TRUSTED_URL).unwrap();
    let names: &[(&str, &[&str])] = &[("localhost", &["127.0.0.1"]), ("other.example", &["127.0.0.1"])];
    let place = |url: &str| HostPort::of(&Url::parse(url).unwrap()).unwrap().to_string();
    let attempt = |url: &str| Try::with(url, json!({ "allow_private": [place(url)] }), names);
    assert_eq!(attempt(&url).run().await.unwrap().sha256, HELLO_SHA256);
    // The certificate is for another name.
    let error = attempt(&url.replace("localhost", "other.example")).error().await;
    assert!(error.to_string().contains("certificate"), "{error}");
}
