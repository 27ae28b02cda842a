//! How clients reach the real binary: over TLS, on sockets of a supervisor's, and while one router relieves another.
//!
//! The certificates beside this are for `localhost`, by nobody, and their keys are public: good for nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use hyper::{HeaderMap, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use jackfield_stage::{cargo, http, router::Router};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");

const SOURCES: &str = r#"
[[source]]
name = "design-system"
provider = "supernova"
path_token = { env = "TOKEN" }
"#;

const ROUTES: &str = r#"
[[route]]
name = "nothing"
when = { type = ["nothing"] }
[[route.step]]
use = "nobody"
[[route]]
name = "exports"
when = { type = ["io.supernova.job.success"] }
[[route.step]]
use = "nobody"
"#;

const PATH: &str = "/in/design-system/t0ken";

fn prepared(home: &TempDir, configuration: &str) -> Router {
    prepared_as(Path::new(BINARY), home, configuration)
}

fn prepared_as(binary: &Path, home: &TempDir, configuration: &str) -> Router {
    let mut router = Router::prepare(binary, home.path(), &[]).unwrap();
    router.set("TOKEN", "t0ken");
    router
        .configure(
            &format!("{SOURCES}\n[[instance]]\nname = \"nobody\"\n{configuration}"),
            ROUTES,
        )
        .unwrap();
    router
}

/// The request of export number `number`, by which it is told from others.
fn export(number: u64) -> String {
    let body = serde_json::json!({
        "event": "job:updated",
        "designSystem": { "id": "2", "name": "Example Design System" },
        "job": { "id": number.to_string(), "status": "success" },
    })
    .to_string();
    let length = body.len();
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// Sends bytes over a connection of their own, and gives the first line of the answer.
async fn exchange<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    mut stream: S,
    request: &str,
) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // An end without the goodbye of TLS is an end.
    if let Err(error) = stream.read_to_end(&mut answer).await
        && answer.is_empty()
    {
        return Err(error);
    }
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// A client that trusts one certificate.
#[derive(Clone)]
struct Client(TlsConnector);

impl Client {
    fn trusting(certificate: &str, protocol: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(file(certificate)).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        self.0
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/door")
        .join(name)
}

/// Puts a certificate where the router looks for it.
fn install(home: &Path, name: &str) {
    fs::copy(file(&format!("{name}.pem")), home.join("certificate.pem")).unwrap();
    fs::copy(file(&format!("{name}.key.pem")), home.join("key.pem")).unwrap();
}

const OK: &str = "HTTP/1.1 200 OK";

#[tokio::test]
async fn events_come_in_over_tls_and_the_certificate_is_replaced_while_they_do() {
    let home = tempfile::tempdir().unwrap();
    install(home.path(), "first");
    let mut router = prepared(
        &home,
        "[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n",
    );
    router.start().await.unwrap();
    let (first, second) = (
        Client::trusting("first.pem", b"http/1.1"),
        Client::trusting("second.pem", b"http/1.1"),
    );
    let stream = first.connect(router.ingress()).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    assert_eq!(exchange(stream, &export(1)).await.unwrap(), OK);
    // Over HTTP/2, where the client can speak it.
    let stream = Client::trusting("first.pem", b"h2")
        .connect(router.ingress())
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let body = export(2).split_once("\r\n\r\n").unwrap().1.to_owned();
    let request = hyper::Request::post(format!("https://localhost{PATH}"))
        .body(body)
        .unwrap();
    assert_eq!(
        sender.send_request(request).await.unwrap().status(),
        StatusCode::OK
    );

    // Who speaks no TLS is refused, and it is written down.
    let plain = TcpStream::connect(router.ingress()).await.unwrap();
    let answer = exchange(plain, &export(3)).await;
    assert!(!answer.is_ok_and(|line| line.contains("200")));
    let refused = router.ask(&["refused", "list"]).await.unwrap();
    assert_eq!(refused[0]["reason"], "tls-failed", "{refused}");

    // A person who sends something trusts the certificate that is configured, whoever vouches for it.
    let sent = router.ask(&["send", "design-system"]).await.unwrap();
    assert_eq!(sent["status"], 200, "{sent}");
    // Elsewhere it is the system's authorities that vouch.
    let elsewhere = format!("https://localhost:{}", router.ingress().port());
    let send = ["send", "design-system", "--to", &elsewhere];
    router.set("SSL_CERT_FILE", &file("first.pem").display().to_string());
    assert_eq!(router.ask(&send).await.unwrap()["status"], 200);
    router.set("SSL_CERT_FILE", &file("second.pem").display().to_string());
    let output = router.attempt(&send).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("there is no talking TLS to localhost"), "{said}");

    // A certificate that cannot be used changes nothing; the next one does.
    assert!(second.connect(router.ingress()).await.is_err());
    fs::copy(file("second.pem"), home.path().join("certificate.pem")).unwrap();
    logs(&router, "the certificate changed and cannot be used").await;
    assert_eq!(
        exchange(first.connect(router.ingress()).await.unwrap(), &export(4))
            .await
            .unwrap(),
        OK
    );
    install(home.path(), "second");
    logs(&router, "another certificate is in use").await;
    assert_eq!(
        exchange(second.connect(router.ingress()).await.unwrap(), &export(5))
            .await
            .unwrap(),
        OK
    );
    router.stop().await.unwrap();

    // And at a start it is a mistake like any.
    fs::write(home.path().join("key.pem"), "nothing").unwrap();
    let output = router.attempt(&["check"]).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78));
    assert!(said.contains("key.pem holds no private key"), "{said}");
}

#[tokio::test]
async fn a_supervisor_may_hold_the_sockets_over_restarts() {
    let home = tempfile::tempdir().unwrap();
    let mut router = prepared(&home, "");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let given = || socket.try_clone().unwrap().into();
    router.start_on(given(), &[]).await.unwrap();
    let connect = || TcpStream::connect(address);
    assert_eq!(exchange(connect().await.unwrap(), &export(1)).await.unwrap(), OK);
    router.stop().await.unwrap();
    // Nobody is here, and nobody is refused: it waits.
    let waiting = connect().await.unwrap();
    router.start_on(given(), &[]).await.unwrap();
    assert_eq!(exchange(waiting, &export(2)).await.unwrap(), OK);
    let events = router.ask(&["events", "list"]).await.unwrap();
    assert_eq!(events.as_array().unwrap().len(), 2);
    router.stop().await.unwrap();
    // One that would take over finds nobody, and starts on them like any.
    router.start_on(given(), &["--take-over"]).await.unwrap();
    assert_eq!(exchange(connect().await.unwrap(), &export(3)).await.unwrap(), OK);
    router.stop().await.unwrap();

    let file = fs::File::open(home.path().join("routes.toml")).unwrap();
    let error = router.start_on(file.into(), &[]).await.unwrap_err().to_string();
    assert!(
        error.contains("descriptor 3 of LISTEN_FDS is not a listening TCP socket"),
        "{error}"
    );
}

/// How clients come in.
#[derive(Clone)]
enum Door {
    Plain,
    Tls(Client),
}

/// What both are, once through.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Door {
    async fn connect(&self, address: SocketAddr) -> Box<dyn Stream> {
        match self {
            Self::Plain => Box::new(TcpStream::connect(address).await.unwrap()),
            Self::Tls(client) => Box::new(client.connect(address).await.unwrap()),
        }
    }
}

/// A connection that is kept from one event to the next.
struct Kept {
    sender: http1::SendRequest<String>,
    _connection: JoinSet<hyper::Result<()>>,
}

impl Kept {
    async fn over(stream: Box<dyn Stream>) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        Self {
            sender,
            _connection: connections,
        }
    }

    /// The answer to an event; none where the router has ended the connection, which it may between two of them.
    async fn send(&mut self, number: u64) -> Option<StatusCode> {
        self.sender.ready().await.ok()?;
        let body = export(number).split_once("\r\n\r\n").unwrap().1.to_owned();
        let request = hyper::Request::post(PATH).header("host", "localhost").body(body);
        let answer = self.sender.send_request(request.unwrap()).await.ok()?;
        Some(answer.status())
    }
}

/// Eight clients send events, half of them over connections that they keep, while the router is relieved three times. Whoever
/// connects is answered, and each event is there once.
async fn relieve_under_load(mut router: Router, door: Door) {
    router.start().await.unwrap();
    let (address, stop) = (router.ingress(), CancellationToken::new());
    let mut clients = JoinSet::new();
    for client in 0..8_u64 {
        let (door, stop) = (door.clone(), stop.clone());
        clients.spawn(async move {
            let mut kept: Option<Kept> = None;
            for sent in 0.. {
                if stop.is_cancelled() {
                    return sent;
                }
                let number = client * 1_000_000 + sent;
                if client % 2 == 0 {
                    let stream = door.connect(address).await;
                    assert_eq!(
                        exchange(stream, &export(number)).await.unwrap(),
                        OK,
                        "event {number}"
                    );
                    continue;
                }
                let answer = match &mut kept {
                    Some(kept) => kept.send(number).await,
                    None => None,
                };
                let answer = match answer {
                    Some(answer) => Some(answer),
                    // The first, or the router that had it is gone: its successor answers.
                    None => {
                        kept.insert(Kept::over(door.connect(address).await).await)
                            .send(number)
                            .await
                    }
                };
                assert_eq!(answer, Some(StatusCode::OK), "event {number}");
            }
            unreachable!("it sends until it is stopped")
        });
    }
    let first = router.process();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        router.relieve().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.cancel();
    let sent: u64 = clients.join_all().await.into_iter().sum();
    assert_ne!(router.process(), first);
    let metrics = http::send(
        router.admin(),
        hyper::Method::GET,
        "/metrics",
        &HeaderMap::new(),
        "",
    )
    .await
    .unwrap();
    assert!(sent > 30, "{sent}");
    assert!(
        metrics
            .body
            .lines()
            .any(|line| line == format!("jackfield_events {sent}")),
        "{sent}"
    );
    router.stop().await.unwrap();
}

#[tokio::test]
async fn a_router_relieves_another_under_load_and_no_connection_is_refused() {
    let home = tempfile::tempdir().unwrap();
    relieve_under_load(prepared(&home, ""), Door::Plain).await;
}

#[tokio::test]
async fn a_router_relieves_another_behind_tls_as_well() {
    let home = tempfile::tempdir().unwrap();
    install(home.path(), "first");
    let tls = "[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
    let door = Door::Tls(Client::trusting("first.pem", b"http/1.1"));
    relieve_under_load(prepared(&home, tls), door).await;
}

#[tokio::test]
async fn a_router_that_could_not_start_relieves_nobody() {
    let home = tempfile::tempdir().unwrap();
    let mut router = prepared(&home, "");
    router.start().await.unwrap();
    let first = router.process();
    let rules = home.path().join("routes.toml");
    let sound = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, "[[route]]\n").unwrap();
    let refused = router.attempt(&["run", "--take-over"]).await.unwrap();
    assert_eq!(refused.status.code(), Some(78));

    // A limit that counts by what the plugin is never given, as it is with rules that are taken up.
    fs::write(&rules, &sound).unwrap();
    let built = cargo::build(&["counting-plugin"], "dev").unwrap();
    let library = built.library("counting-plugin").unwrap();
    fs::copy(library, home.path().join("plugins/counting.so")).unwrap();
    let configuration = router.configuration();
    let fitting = fs::read_to_string(&configuration).unwrap();
    let misspelt = "\n[[instance]]\nname = \"counting-plugin\"\n[[instance.limit]]\nby = \"{{ input.chanel }}\"\nrate = \"1/s\"\n";
    fs::write(&configuration, format!("{fitting}{misspelt}")).unwrap();
    let refused = router.attempt(&["run", "--take-over"]).await.unwrap();
    assert_eq!(
        refused.status.code(),
        Some(78),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
    fs::write(&configuration, &fitting).unwrap();

    // An admin side that could not listen, also not when the one that runs has stopped.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = taken.local_addr().unwrap().to_string();
    let moved = fitting.replace(&router.admin().to_string(), &elsewhere);
    fs::write(&configuration, moved).unwrap();
    let refused = router.attempt(&["run", "--take-over"]).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains(&format!("the admin side cannot listen at {elsewhere}")),
        "{said}"
    );
    fs::write(&configuration, &fitting).unwrap();

    // As a newer one would have left it, which somebody wants to go back from.
    let journal = rusqlite::Connection::open(home.path().join("data/journal.db")).unwrap();
    let version: i64 = journal
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    journal.pragma_update(None, "user_version", version + 1).unwrap();
    let refused = router.attempt(&["run", "--take-over"]).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("use the newer one that wrote it"), "{said}");
    journal.pragma_update(None, "user_version", version).unwrap();

    let address = router.ingress();
    let answer = exchange(TcpStream::connect(address).await.unwrap(), &export(77)).await;
    assert_eq!((answer.unwrap().as_str(), router.process()), (OK, first));
}

/// Faulty rules are what somebody goes back from; they are not used, so that they are in nobody's way.
#[tokio::test]
async fn while_a_rollback_is_in_force_a_successor_is_held_against_its_rules() {
    let home = tempfile::tempdir().unwrap();
    let mut router = prepared(&home, "");
    router.start().await.unwrap();
    let listed = router.ask(&["routes", "history"]).await.unwrap();
    let first = listed[0]["id"].as_str().unwrap().to_owned();
    let rules = home.path().join("routes.toml");
    let sound = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, sound.replace("job.success", "job.failure")).unwrap();
    router.command(&["routes", "reload"]).await.unwrap();
    fs::write(&rules, sound.replace("nobody", "somebody-else")).unwrap();
    router.command(&["routes", "rollback", &first]).await.unwrap();

    let before = router.process();
    router.relieve().await.unwrap();
    assert_ne!(router.process(), before);
    let listed = router.ask(&["routes", "history"]).await.unwrap();
    assert_eq!(listed[0]["id"], first.as_str());
    let answer = exchange(TcpStream::connect(router.ingress()).await.unwrap(), &export(1)).await;
    assert_eq!(answer.unwrap(), OK);
}

#[tokio::test]
async fn who_has_just_connected_when_the_router_stops_is_still_answered() {
    let home = tempfile::tempdir().unwrap();
    let mut router = prepared(&home, "");
    router.start().await.unwrap();
    let connected = TcpStream::connect(router.ingress()).await.unwrap();
    // Whoever comes later finds it accepted.
    let other = TcpStream::connect(router.ingress()).await.unwrap();
    assert_eq!(exchange(other, &export(1)).await.unwrap(), OK);
    router.signal(jackfield_stage::router::Signal::TERM).unwrap();
    logs(&router, "router stops").await;
    assert_eq!(exchange(connected, &export(2)).await.unwrap(), OK);
    assert!(router.ended().await.unwrap().success());
}

#[tokio::test]
async fn who_connects_and_says_nothing_leaves_descriptors_for_the_rest() {
    let home = tempfile::tempdir().unwrap();
    // More than it begins with it may take, but not enough for 4096 connections.
    let bounded = home.path().join("bounded");
    let script = format!("#!/bin/sh\nulimit -n 256\nulimit -S -n 192\nexec '{BINARY}' \"$@\"\n");
    fs::write(&bounded, script).unwrap();
    fs::set_permissions(&bounded, fs::Permissions::from_mode(0o755)).unwrap();
    let mut router = prepared_as(&bounded, &home, "");
    router.start().await.unwrap();
    logs(&router, "fewer connections are taken than configured").await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(router.ingress()).await.unwrap());
    }
    for path in ["/healthz", "/readyz", "/metrics"].repeat(5) {
        let method = hyper::Method::GET;
        let told = http::send(router.admin(), method, path, &HeaderMap::new(), "")
            .await
            .unwrap();
        assert_eq!(told.status, StatusCode::OK, "{path}");
    }
    router.ask(&["routes", "reload"]).await.unwrap();
    drop(silent);
    let stream = TcpStream::connect(router.ingress()).await.unwrap();
    assert_eq!(exchange(stream, &export(1)).await.unwrap(), OK);
    assert!(
        !router.log().contains("could not be accepted"),
        "{}",
        router.end_of_log()
    );
    router.stop().await.unwrap();
}

/// Waits until the router's log says so.
async fn logs(router: &Router, words: &str) {
    for _ in 0..600 {
        if router.log().contains(words) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not in the log: {words}\n{}", router.end_of_log());
}
