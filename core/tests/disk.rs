//! A disk that has no room left, or stands still: nothing is promised that cannot be kept, nothing that was promised is lost,
//! and when it is well again the router goes on by itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hyper::{HeaderMap, Method, StatusCode};
use jackfield_stage::{
    change,
    disk::Interposer,
    http,
    router::{Router, Signal},
    wait::eventually,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

const BINARY: &str = env!("CARGO_BIN_EXE_jackfield");

const SOURCES: &str = r#"
[[source]]
name = "design-system"
provider = "supernova"
path_token = { env = "TOKEN" }
"#;

/// What it owes waits, since there is no plugin of that name.
const ROUTES: &str = r#"
[[route]]
name = "exports"
when = { type = ["io.supernova.job.success"] }
[[route.step]]
use = "nobody"
"#;

/// A router whose disk misbehaves, sooner or later.
struct Stage {
    router: Router,
    home: TempDir,
    /// The events that it answered with a 200 for.
    promised: BTreeSet<String>,
}

impl Stage {
    /// Starts the router behind `script`, which knows `$binary` and `$home`.
    async fn start(script: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let before = home.path().join("router.sh");
        fs::write(
            &before,
            format!(
                "#!/bin/sh\nbinary={BINARY}\nhome={}\n{script}\n",
                home.path().display()
            ),
        )
        .unwrap();
        fs::set_permissions(&before, fs::Permissions::from_mode(0o755)).unwrap();
        let mut stage = Self::prepare(&before, home);
        stage.router.start().await.unwrap();
        stage
    }

    fn prepare(binary: &Path, home: TempDir) -> Self {
        let mut router = Router::prepare(binary, home.path(), &[]).unwrap();
        router
            .configure(&format!("{SOURCES}\n[[instance]]\nname = \"nobody\"\n"), ROUTES)
            .unwrap();
        router.set("TOKEN", "t0ken");
        Self {
            router,
            home,
            promised: BTreeSet::new(),
        }
    }

    /// Posts an event; what is promised is noted.
    async fn post(&mut self, number: usize) -> StatusCode {
        let (status, promised) = post(self.router.ingress(), number).await;
        self.promised.extend(promised);
        status
    }

    /// Posts until nothing is taken in any more, several times in a row.
    async fn fill(&mut self) {
        let mut refused = 0;
        for number in 0..2_000 {
            match self.post(number).await {
                StatusCode::OK => refused = 0,
                _ => refused += 1,
            }
            if refused == 10 {
                return;
            }
        }
        panic!("the disk does not fill up: {}", self.router.end_of_log());
    }

    async fn is(&self, path: &str) -> http::Answered {
        http::send(self.router.admin(), Method::GET, path, &HeaderMap::new(), "")
            .await
            .unwrap()
    }

    /// Waits until `/readyz` answers so.
    async fn turns(&self, status: StatusCode) -> String {
        for _ in 0..600 {
            let answered = self.is("/readyz").await;
            if answered.status == status {
                return answered.body;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("/readyz does not turn {status}: {}", self.router.end_of_log());
    }

    /// The name of the rules in force.
    async fn in_force(&self) -> Value {
        let standing = change::standing(&self.router).await.unwrap();
        standing["in_force"]["id"].clone()
    }

    fn lift_the_quota(&self) {
        let none = Rlimit {
            current: None,
            maximum: None,
        };
        let pid = Pid::from_raw(self.process().cast_signed()).unwrap();
        prlimit(Some(pid), Resource::Fsize, none).unwrap();
    }

    fn process(&self) -> u32 {
        self.router.process().unwrap()
    }

    /// The events in the journal, as `look` reads it.
    fn kept(&self, mut look: Command) -> BTreeSet<String> {
        let listed = look
            .arg("--config")
            .arg(self.router.configuration())
            .args(["events", "list", "-n", "10000", "-o", "json"])
            .output()
            .unwrap();
        assert!(
            listed.status.success(),
            "{}",
            String::from_utf8_lossy(&listed.stderr)
        );
        let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
        listed
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Posts an event of 100 KB, and tells which it was promised to be.
async fn post(ingress: SocketAddr, number: usize) -> (StatusCode, Option<String>) {
    let job = json!({ "id": number.to_string(), "status": "in_progress" });
    let body = json!({ "job": job, "padding": "x".repeat(100_000) }).to_string();
    let path = "/in/design-system/t0ken";
    let answered = http::send(ingress, Method::POST, path, &HeaderMap::new(), body)
        .await
        .unwrap();
    if answered.status != StatusCode::OK {
        assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answered.headers.contains_key("retry-after"));
        return (answered.status, None);
    }
    let answer: Value = serde_json::from_str(&answered.body).unwrap();
    (answered.status, Some(answer["id"].as_str().unwrap().to_owned()))
}

/// No file of the router's may grow beyond 4 MB: what a quota does, and what every machine allows to do.
const WITH_A_QUOTA: &str = "trap '' XFSZ\nulimit -S -f 8192\nexec \"$binary\" \"$@\"";

#[tokio::test]
async fn a_router_whose_files_may_not_grow_promises_nothing_and_goes_on_when_they_may() {
    let mut stage = Stage::start(WITH_A_QUOTA).await;
    let process = stage.process();
    let waiting = stage.router.ask(&["send", "design-system"]).await.unwrap();
    stage
        .promised
        .insert(waiting["body"]["id"].as_str().unwrap().to_owned());
    stage.fill().await;
    let why = stage.turns(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(why.contains("the journal cannot commit"), "{why}");
    assert_eq!(stage.is("/healthz").await.status, StatusCode::OK);
    assert!(stage.promised.len() > 10, "{:?}", stage.promised);
    let rules = stage.in_force().await;
    fs::write(
        stage.home.path().join("routes.toml"),
        format!("# Changed.\n{ROUTES}"),
    )
    .unwrap();
    assert!(eventually(async || stage.router.log().contains("rules not taken up")).await);
    assert_eq!(stage.in_force().await, rules);

    stage.lift_the_quota();
    stage.turns(StatusCode::OK).await;
    for number in 5_000..5_010 {
        assert_eq!(stage.post(number).await, StatusCode::OK);
    }
    assert_eq!(stage.process(), process, "it was not started again");
    assert_eq!(stage.kept(Command::new(BINARY)), stage.promised);
    assert!(
        eventually(async || stage.in_force().await != rules).await,
        "{}",
        stage.router.end_of_log()
    );
    let owed = stage.router.ask(&["deliveries", "list"]).await.unwrap();
    assert_eq!(
        (owed.as_array().unwrap().len(), &owed[0]["state"]),
        (1, &"waiting".into())
    );
}

#[tokio::test]
async fn rule_files_that_a_person_asked_for_end_a_rollback_though_there_was_no_room_at_first() {
    let mut stage = Stage::start(WITH_A_QUOTA).await;
    let first = stage.in_force().await;
    let refused = change::rules(&stage.router, &format!("# Changed.\n{ROUTES}"), false).await;
    assert_eq!(refused.unwrap(), None);
    let changed = stage.in_force().await;
    let name = first.as_str().unwrap();
    stage.router.ask(&["routes", "rollback", name]).await.unwrap();
    assert_eq!(stage.in_force().await, first);
    stage.fill().await;
    stage.turns(StatusCode::SERVICE_UNAVAILABLE).await;
    stage.router.signal(Signal::HUP).unwrap();
    assert!(
        eventually(async || stage.router.log().contains("rules not taken up")).await,
        "{}",
        stage.router.end_of_log()
    );
    assert_eq!(stage.in_force().await, first);

    stage.lift_the_quota();
    assert!(
        eventually(async || stage.in_force().await == changed).await,
        "{}",
        stage.router.end_of_log()
    );
}

/// A file system of 16 MB of its own, which something else fills as well.
#[tokio::test]
async fn a_router_on_a_full_file_system_goes_on_when_there_is_room_again() {
    let may = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output();
    if !may.is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: this machine lets nobody mount a file system of their own");
        return;
    }
    let script = "export binary home\nexec unshare -rm sh -c 'mkdir -p \"$home/data\" && \
                  mount -t tmpfs -o size=16m,mode=700 tmpfs \"$home/data\" && exec \"$binary\" \"$@\"' sh \"$@\"";
    let mut stage = Stage::start(script).await;
    let process = stage.process();
    let filler = seen_from_here(process, &stage.home.path().join("data/filler"));
    // Where the router's file system is seen.
    let look = || {
        let mut look = Command::new("nsenter");
        look.args([
            "--preserve-credentials",
            "-U",
            "-m",
            "-t",
            &process.to_string(),
            BINARY,
        ]);
        look
    };
    for number in 0..10 {
        assert_eq!(stage.post(number).await, StatusCode::OK);
    }
    fill_up(&filler);
    stage.fill().await;
    stage.turns(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(stage.kept(look()).is_superset(&stage.promised));

    fs::remove_file(&filler).unwrap();
    stage.turns(StatusCode::OK).await;
    for number in 5_000..5_010 {
        assert_eq!(stage.post(number).await, StatusCode::OK);
    }
    assert_eq!(stage.process(), process, "it was not started again");
    assert_eq!(stage.kept(look()), stage.promised);
}

/// A router on a disk whose syncs can be delayed. It waits a second for one, and stops within another.
async fn on_a_slow_disk() -> (Stage, Interposer) {
    let mut stage = Stage::prepare(Path::new(BINARY), tempfile::tempdir().unwrap());
    let (home, data) = (stage.home.path().join("disk"), stage.home.path().join("data"));
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let disk = Interposer::new(&home, &data).unwrap();
    for (name, value) in disk.environment() {
        stage.router.set(&name, &value);
    }
    let configuration = fs::read_to_string(stage.router.configuration()).unwrap();
    let hasty = configuration.replace(
        "[listen]",
        "[listen]\ncommit_timeout = \"1s\"\nbody_memory = \"8MiB\"",
    );
    let hasty = format!("{hasty}\n[shutdown]\ngrace = \"1s\"\n");
    fs::write(stage.router.configuration(), hasty).unwrap();
    stage.router.start().await.unwrap();
    (stage, disk)
}

/// No sync ends any more, as with a volume whose network is gone.
const FOR_EVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_router_whose_disk_stands_still_tells_every_client_and_goes_on_when_it_moves_again() {
    let (mut stage, disk) = on_a_slow_disk().await;
    assert_eq!(stage.post(0).await, StatusCode::OK);

    let before = stage.router.memory().unwrap().resident;
    disk.faults().delay_syncs(FOR_EVER).unwrap();
    let ingress = stage.router.ingress();
    let waiting: JoinSet<_> = (1..=100).map(|number| post(ingress, number)).collect();
    for (status, _) in waiting.join_all().await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
    // Nobody waits any more for what the journal cannot do: whoever comes is told before its body does.
    let mut bodiless = TcpStream::connect(ingress).await.unwrap();
    let head = "POST /in/design-system/t0ken HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    bodiless.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    bodiless.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    let storm: JoinSet<_> = (101..=500).map(|number| post(ingress, number)).collect();
    for (status, _) in storm.join_all().await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let grown = stage.router.memory().unwrap().peak - before;
    assert!(
        grown < 32 << 20,
        "it grew by {grown} bytes of the 50 MB that it was sent"
    );
    let why = stage.turns(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(why.contains("the journal"), "{why}");
    assert_eq!(stage.is("/healthz").await.status, StatusCode::OK);

    disk.faults().delay_syncs(Duration::ZERO).unwrap();
    stage.turns(StatusCode::OK).await;
    // Some of them are there already, though nobody was promised so. What is sent again is told, and not told twice.
    for number in 1..=101 {
        assert_eq!(stage.post(number).await, StatusCode::OK);
    }
    assert_eq!(stage.promised.len(), 102);
    assert_eq!(stage.kept(Command::new(BINARY)), stage.promised);
}

#[tokio::test]
async fn a_router_stops_though_its_disk_stands_still_and_nothing_that_it_promised_is_gone() {
    let (mut stage, disk) = on_a_slow_disk().await;
    assert_eq!(stage.post(0).await, StatusCode::OK);
    disk.faults().delay_syncs(FOR_EVER).unwrap();
    assert_eq!(stage.post(1).await, StatusCode::SERVICE_UNAVAILABLE);

    stage.router.stop().await.unwrap();
    let log = stage.router.log();
    assert!(
        log.contains("could not be closed in time: its disk stands still"),
        "{log}"
    );

    disk.faults().delay_syncs(Duration::ZERO).unwrap();
    stage.router.start().await.unwrap();
    for number in 0..=1 {
        assert_eq!(stage.post(number).await, StatusCode::OK);
    }
    assert_eq!(stage.promised.len(), 2);
    assert_eq!(stage.kept(Command::new(BINARY)), stage.promised);
}

/// A path of the process's own mounts.
fn seen_from_here(process: u32, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/root{}", path.display()))
}

/// Writes until there is no room left.
fn fill_up(path: &Path) {
    let mut file = File::create(path).unwrap();
    for block in [1 << 16, 1 << 9, 1] {
        while file.write_all(&vec![7; block]).is_ok() {}
    }
}
