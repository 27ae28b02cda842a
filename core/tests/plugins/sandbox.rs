//! What a plugin can do in its sandbox, tried by one that wants out.
//!
//! What takes a newer kernel than this one is skipped, with a word about it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use jackfield::{
    delivery::Outcome,
    plugin::{Grant, Instance, InstanceOptions, PluginState, Registry, Report, unenforced},
    reason::Reason,
};
use jackfield_stage::{process::Process, wait::eventually};
use serde_json::{Value, json};

use crate::{
    battery::check,
    built,
    host::Recorder,
    trial::{Bench, left_open, log, logged},
};

/// A plugin that wants out, and what it may.
struct Prison {
    bench: Bench,
    registry: Registry,
}

impl Prison {
    /// With a plugin that says that it needs this, and that is granted that.
    async fn new(bench: Bench, needs: &str, grant: Grant) -> Self {
        log();
        drop_in(&bench, needs, &[]);
        let options = InstanceOptions {
            grant,
            ..InstanceOptions::plain("escape")
        };
        let registry = bench.load(&Arc::new(Recorder::new()), vec![options]).await;
        Self { bench, registry }
    }

    async fn closed() -> Self {
        Self::new(Bench::new(), "", Grant::default()).await
    }

    /// With a plugin that may start programs.
    async fn with_shell() -> Self {
        let grant = Grant {
            programs: vec!["sh".to_owned()],
            ..Grant::default()
        };
        Self::new(Bench::new(), r#""programs":["sh"]"#, grant).await
    }

    fn instance(&self) -> Arc<Instance> {
        let instance = self.registry.instance("escape");
        instance.unwrap_or_else(|| panic!("{:?}", self.registry.instances()))
    }

    async fn call(&self, input: &Value) -> Report {
        let mut call = self.bench.call("");
        call.input = input.to_string().into();
        self.instance().caller.call(call).await
    }

    /// How an attempt ends.
    async fn attempt(&self, input: Value) -> String {
        let report = self.call(&input).await;
        let output = report
            .output
            .unwrap_or_else(|| panic!("{input}: {:?}", report.message));
        serde_json::from_slice(&output).unwrap()
    }

    /// Makes each attempt, and expects the end that stands beside it.
    async fn all(&self, attempts: impl IntoIterator<Item = (Value, &str)>) {
        let mut wrong = Vec::new();
        for (input, expected) in attempts {
            let end = self.attempt(input.clone()).await;
            if end != expected {
                wrong.push(format!("{input}: {end}, not {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    async fn read(&self, path: &Path, expected: &str) {
        self.all([(json!({ "act": "read", "path": path }), expected)])
            .await;
    }
}

fn drop_in(bench: &Bench, needs: &str, arguments: &[&str]) {
    let needs = format!("-DNEEDS=\"{}\"", needs.replace('"', "\\\""));
    let arguments = [arguments, &[&needs]].concat();
    built::compile("escape.c", &bench.plugins().join("escape.so"), &arguments);
}

/// Whether this kernel can keep plugins in; what it cannot is said.
fn is_whole() -> bool {
    let lacking = unenforced();
    if !lacking.is_empty() {
        println!("skipped, since this kernel does not enforce: {lacking:?}");
    }
    lacking.is_empty()
}

#[tokio::test]
async fn a_plugin_that_is_granted_nothing_reaches_no_file() {
    if !is_whole() {
        return;
    }
    let prison = Prison::closed().await;
    let there = prison.bench.path("there");
    fs::write(&there, "x").unwrap();
    let work = prison.bench.path("data/work");
    let attempts = [
        (json!({ "act": "read", "path": "/etc/passwd" }), "EACCES"),
        (json!({ "act": "read", "path": "/proc/self/environ" }), "EACCES"),
        (json!({ "act": "read", "path": there }), "EACCES"),
        (json!({ "act": "read", "path": "/bin/true" }), "EACCES"),
        (json!({ "act": "environ of the parent" }), "EACCES"),
        (json!({ "act": "list", "path": "/" }), "EACCES"),
        (json!({ "act": "list", "path": "/etc" }), "EACCES"),
        (json!({ "act": "list", "path": work }), "EACCES"),
        (json!({ "act": "list", "path": "/dev" }), "EACCES"),
        (json!({ "act": "watch", "path": work }), "EPERM"),
        (json!({ "act": "write", "path": there }), "EACCES"),
        (json!({ "act": "write", "path": work.join("new") }), "EACCES"),
        (
            json!({ "act": "write", "path": "/dev/shm/jackfield-escape" }),
            "EACCES",
        ),
        (
            json!({ "act": "write", "path": "/usr/lib/jackfield-escape" }),
            "EACCES",
        ),
        // What loading takes, and what all programs expect.
        (json!({ "act": "read", "path": "/dev/urandom" }), "done"),
        (json!({ "act": "write", "path": "/dev/null" }), "done"),
    ];
    prison.all(attempts).await;
    assert_eq!(fs::read_to_string(there).unwrap(), "x");
}

/// Landlock knows none of this.
#[tokio::test]
async fn a_plugin_that_is_granted_nothing_changes_no_modes_owners_or_times() {
    let prison = Prison::closed().await;
    let (file, data) = (prison.bench.path("there"), prison.bench.path("data"));
    fs::write(&file, "x").unwrap();
    let looks = || [&file, &data].map(|path| look(path));
    let before = looks();
    let acts = ["mode", "mode, by a newer call", "owner", "time", "attribute"];
    let of = |path: &Path| acts.map(|act| (json!({ "act": act, "path": path }), "EPERM"));
    prison.all([of(&file), of(&data)].concat()).await;
    // What it may open it may not change either.
    let acts = [
        "mode of what is open",
        "time of what is open",
        "attributes of what is open",
    ];
    prison
        .all(acts.map(|act| (json!({ "act": act, "path": "/dev/null" }), "EPERM")))
        .await;
    assert_eq!(looks(), before);
}

/// What of a file no plugin changes that may not write it.
fn look(path: &Path) -> (u32, u32, i64, i64) {
    let found = fs::metadata(path).unwrap();
    (found.mode(), found.uid(), found.ctime(), found.ctime_nsec())
}

#[tokio::test]
async fn a_worker_that_asks_and_reads_no_answer_is_ended_and_started_again() {
    let prison = Prison::closed().await;
    let instance = prison.instance();
    let process = || instance.caller.vitals().process;
    let first = process().unwrap();
    // Whether its end is heard before that of its worker is chance.
    drop(prison.call(&json!({ "act": "ask on" })).await);
    while process().is_none_or(|process| process == first) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(logged().contains("more than 256 questions"), "{}", logged());
    assert_eq!(prison.attempt(json!({ "act": "thread" })).await, "done");
    prison.registry.shutdown(Duration::from_secs(10)).await;
    assert_eq!(process(), None);
}

#[tokio::test]
async fn a_plugin_that_is_granted_nothing_reaches_no_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let prison = Prison::closed().await;
    for act in [
        "tcp", "tcp6", "sctp", "mptcp", "udp", "raw", "packet", "netlink", "vsock", "unix", "listen",
    ] {
        prison.all([(json!({ "act": act }), "EPERM")]).await;
    }
    let attempts = [
        (
            json!({ "act": "reach", "host": "127.0.0.1", "port": port }),
            "EPERM",
        ),
        (json!({ "act": "pair" }), "done"),
        (json!({ "act": "pair of packets" }), "done"),
        (json!({ "act": "pair of datagrams" }), "EPERM"),
    ];
    prison.all(attempts).await;
    // Neither is a name found, by any way that the C library knows.
    assert_ne!(
        prison
            .attempt(json!({ "act": "reach", "host": "example.com", "port": "443" }))
            .await,
        "done"
    );
}

#[tokio::test]
async fn a_plugin_that_is_granted_nothing_starts_nothing_and_is_alone() {
    let prison = Prison::closed().await;
    for (act, expected) in [
        ("fork", "EPERM"),
        ("exec", "EPERM"),
        ("thread", "done"),
        ("memory of the parent", "EPERM"),
        ("limit of the parent", "EPERM"),
        ("own limit", "done"),
        ("raised limit", "EPERM"),
        ("signal to the parent", "EPERM"),
        ("signal to the parent, by what is open", "EPERM"),
        (
            "signal to the parent, by what is open, by a newer command",
            "EPERM",
        ),
        ("signal to the parent, by a request", "EPERM"),
        ("another signal, by what is open", "EPERM"),
        ("outlive the parent", "EPERM"),
        ("signal to itself", "done"),
        ("trace", "EPERM"),
        ("nice", "EPERM"),
    ] {
        prison.all([(json!({ "act": act }), expected)]).await;
    }
    let attempt = json!({ "act": "run", "program": "sh", "argument": "exit 0" });
    prison.all([(attempt, "EPERM")]).await;
}

#[tokio::test]
async fn what_no_plugin_needs_of_the_kernel_is_not_there() {
    let prison = Prison::closed().await;
    for act in [
        "namespace",
        "clone",
        "mount",
        "chroot",
        "bpf",
        "perf",
        "uring",
        "userfault",
        "key",
        "memory file",
        "shared memory",
    ] {
        prison.all([(json!({ "act": act }), "EPERM")]).await;
    }
    // Said not to exist, so that the C library takes what can be looked into.
    prison.all([(json!({ "act": "clone3" }), "ENOSYS")]).await;
    if cfg!(target_arch = "x86_64") {
        prison.all([(json!({ "act": "other numbers" }), "ENOSYS")]).await;
    }
}

/// A host that gives back what it gets, and its port.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // It ends with the test.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = std::io::copy(&mut &stream, &mut &stream);
        }
    });
    port
}

async fn networked(grants: &[&str], programs: &[&str]) -> Prison {
    let grant = Grant {
        network: grants.iter().map(|granted| granted.parse().unwrap()).collect(),
        programs: programs.iter().map(|program| (*program).to_owned()).collect(),
        ..Grant::default()
    };
    Prison::new(Bench::new(), r#""network":[],"programs":[],"files":{}"#, grant).await
}

fn through(host: &str, port: &str) -> Value {
    json!({ "act": "through", "host": host, "port": port })
}

#[tokio::test]
async fn hosts_are_reached_where_they_are_granted_and_by_the_proxy_alone() {
    if !is_whole() {
        return;
    }
    let (port, other) = (echo(), echo());
    let prison = networked(&[&format!("127.0.0.1:{port}")], &[]).await;
    let attempts = [
        (through("127.0.0.1", &port), "done"),
        (through("127.0.0.1", &other), "ENONET"),
        (through("localhost", &port), "ENONET"),
        (through("example.com", "443"), "ENONET"),
        // Others read all of these as 127.0.0.1.
        (through("127.1", &other), "ENONET"),
        (through("2130706433", &other), "ENONET"),
        (through("::ffff:127.0.0.1", &port), "ENONET"),
        (
            json!({ "act": "through with another pass", "port": port }),
            "EKEYREJECTED",
        ),
        (
            json!({ "act": "reach", "host": "127.0.0.1", "port": port }),
            "EACCES",
        ),
        (json!({ "act": "fast open", "port": port }), "EPERM"),
        (json!({ "act": "tcp" }), "done"),
    ];
    prison.all(attempts).await;
    for act in [
        "tcp6", "sctp", "mptcp", "udp", "raw", "packet", "netlink", "vsock", "unix", "listen",
    ] {
        prison.all([(json!({ "act": act }), "EPERM")]).await;
    }
    for place in ["example.com:443".to_owned(), format!("127.0.0.1:{other}")] {
        let line = format!(
            "connection of plugin refused plugin=\"escape\" instance=\"escape\" place=\"{place}\" reason=\"it is not granted"
        );
        assert!(crate::trial::logged().contains(&line), "{place}");
    }
}

#[tokio::test]
async fn a_grant_of_all_hosts_is_one_of_those_that_are_public() {
    let port = echo();
    let all = format!("*:{port}");
    let prison = networked(&[&all], &[]).await;
    prison
        .all([
            (through("localhost", &port), "ENONET"),
            (through("127.0.0.1", &port), "ENONET"),
        ])
        .await;
    assert!(crate::trial::logged().contains("is loopback; if it is meant, `grant.network` has to name both"));
    // Where the address is granted as well, it is reached by that alone.
    let prison = networked(&[&all, &format!("127.0.0.1:{port}")], &[]).await;
    prison
        .all([
            (through("localhost", &port), "ENONET"),
            (through("127.0.0.1", &port), "done"),
        ])
        .await;
}

#[tokio::test]
async fn localhost_is_this_machine_where_it_is_granted_by_name() {
    let port = echo();
    let prison = networked(&[&format!("localhost:{port}")], &[]).await;
    prison
        .all([
            (through("localhost", &port), "done"),
            (through("127.0.0.1", &port), "ENONET"),
        ])
        .await;
}

#[tokio::test]
async fn ssh_gets_to_granted_hosts_by_a_command() {
    if !is_whole() || !has_ssh() {
        return;
    }
    let (port, other) = (echo(), echo());
    let prison = networked(&[&format!("127.0.0.1:{port}")], &["sh", "ssh"]).await;
    let hears = |port: &str| {
        let command = jackfield_sdk::Proxy::COMMAND.replace("%h %p", &format!("127.0.0.1 {port}"));
        let argument = format!(r#"[ $(echo hello | ({command}) 2>/dev/null) = hello ]"#).replace('"', "");
        json!({ "act": "run", "program": "sh", "argument": argument })
    };
    prison
        .all([(hears(&port), "done"), (hears(&other), "ECHILD")])
        .await;
}

#[tokio::test]
async fn ssh_itself_goes_that_way() {
    if !is_whole() || !has_ssh() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let greeted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut greeting = [0; 7];
        let _ = stream.read_exact(&mut greeting);
        greeting
    });
    let prison = networked(&[&format!("127.0.0.1:{port}")], &["sh", "ssh"]).await;
    let command = jackfield_sdk::Proxy::COMMAND.replace('"', "");
    let argument =
        format!("ssh -F /dev/null -o BatchMode=yes -o 'ProxyCommand={command}' -p {port} git@127.0.0.1");
    let attempt = json!({ "act": "run", "program": "sh", "argument": argument });
    // Nobody is there who knows more of ssh than to listen.
    prison.all([(attempt, "ECHILD")]).await;
    // Where it has not come, nobody is waited for.
    drop(TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())));
    assert_eq!(&greeted.join().unwrap(), b"SSH-2.0", "{}", crate::trial::logged());
}

#[tokio::test]
async fn git_gets_to_granted_hosts_by_the_proxy() {
    if !is_whole() {
        return;
    }
    let (port, other) = (repository(), repository());
    let prison = networked(&[&format!("127.0.0.1:{port}")], &["sh", "git"]).await;
    let work = prison.bench.path("data/work");
    let lists = |proxy: &str, port: &str| {
        let argument = format!(
            "cd {} && GIT_CEILING_DIRECTORIES={0} GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null \
             git {proxy} ls-remote --exit-code http://127.0.0.1:{port}/x.git refs/heads/main",
            work.display()
        );
        json!({ "act": "run", "program": "sh", "argument": argument })
    };
    let by_proxy = "-c http.proxy=$JACKFIELD_PROXY";
    let attempts = [
        (lists(by_proxy, &port), "done"),
        (lists(by_proxy, &other), "ECHILD"),
        (lists("", &port), "ECHILD"),
    ];
    prison.all(attempts).await;
}

/// A host with a repository, as far as its listing goes, and its port.
fn repository() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // It ends with the test.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let listing = format!("{}\trefs/heads/main\n", "1".repeat(40));
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n";
            let _ = write!(stream, "{head}content-length: {}\r\n\r\n{listing}", listing.len());
        }
    });
    port
}

fn has_ssh() -> bool {
    let is_there = ["/usr/local/bin/ssh", "/usr/bin/ssh"]
        .iter()
        .any(|ssh| Path::new(ssh).exists());
    if !is_there {
        println!("skipped, since there is no ssh");
    }
    is_there
}

#[tokio::test]
async fn files_are_reached_where_they_are_granted_and_nowhere_else() {
    if !is_whole() {
        return;
    }
    let bench = Bench::new();
    let [readable, secret, cache] = ["readable", "secret", "cache"].map(|name| bench.path(name));
    fs::create_dir(&readable).unwrap();
    fs::write(readable.join("file"), "x").unwrap();
    fs::write(&secret, "x").unwrap();
    std::os::unix::fs::symlink(&secret, readable.join("way-out")).unwrap();
    let grant = Grant {
        read: vec![readable.clone()],
        write: vec![cache.clone()],
        ..Grant::default()
    };
    let prison = Prison::new(bench, r#""files":{}"#, grant).await;
    let work = prison.bench.path("data/work");
    let attempts = [
        (json!({ "act": "read", "path": readable.join("file") }), "done"),
        (json!({ "act": "list", "path": readable }), "done"),
        (json!({ "act": "write", "path": readable.join("file") }), "EACCES"),
        (
            json!({ "act": "read", "path": readable.join("way-out") }),
            "EACCES",
        ),
        (
            json!({ "act": "read", "path": readable.join("../secret") }),
            "EACCES",
        ),
        (json!({ "act": "read", "path": secret }), "EACCES"),
        // Made, since it was not there.
        (json!({ "act": "write", "path": cache.join("file") }), "done"),
        (json!({ "act": "read", "path": cache.join("file") }), "done"),
        // As whoever copies a file does.
        (
            json!({ "act": "mode of what is open", "path": cache.join("file") }),
            "done",
        ),
        (
            json!({ "act": "time of what is open", "path": cache.join("file") }),
            "done",
        ),
        (json!({ "act": "mode", "path": cache.join("file") }), "EPERM"),
        (json!({ "act": "time", "path": cache.join("file") }), "EPERM"),
        (json!({ "act": "write", "path": work.join("file") }), "done"),
        (
            json!({ "act": "rename", "path": work.join("file"), "to": cache.join("other") }),
            "done",
        ),
        (
            json!({ "act": "rename", "path": cache.join("other"), "to": readable.join("other") }),
            "EACCES",
        ),
        (
            json!({ "act": "link", "path": secret, "to": work.join("link") }),
            "done",
        ),
        (json!({ "act": "read", "path": work.join("link") }), "EACCES"),
        (json!({ "act": "fifo", "path": work.join("fifo") }), "EACCES"),
        (json!({ "act": "read", "path": "/etc/passwd" }), "EACCES"),
        (
            json!({ "act": "attributes of what is open", "path": cache.join("file") }),
            "EPERM",
        ),
        (json!({ "act": "watch", "path": cache }), "EPERM"),
        (json!({ "act": "exec" }), "EPERM"),
        (json!({ "act": "tcp" }), "EPERM"),
    ];
    prison.all(attempts).await;
    let device = prison
        .attempt(json!({ "act": "device", "path": work.join("device") }))
        .await;
    assert!(["EPERM", "EACCES"].contains(&device.as_str()), "{device}");
    let mode = fs::metadata(cache).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o700
    );
}

#[tokio::test]
async fn programs_run_where_they_are_granted_and_within_the_same_bounds() {
    if !is_whole() {
        return;
    }
    let bench = Bench::new();
    let secret = bench.path("secret");
    fs::write(&secret, "x").unwrap();
    let grant = Grant {
        programs: vec!["sh".to_owned()],
        ..Grant::default()
    };
    let prison = Prison::new(bench, r#""programs":["sh"]"#, grant).await;
    let run =
        |program: &str, argument: &str| json!({ "act": "run", "program": program, "argument": argument });
    let attempts = [
        (run("sh", "exit 0"), "done"),
        (run("sh", "exit 3"), "ECHILD"),
        (run("true", ""), "EACCES"),
        (run("/bin/true", ""), "EACCES"),
        (run("sh", "/bin/true"), "ECHILD"),
        (run("sh", &format!("read line < {}", secret.display())), "ECHILD"),
        (run("sh", "read line < /etc/passwd"), "ECHILD"),
        (run("sh", &format!("echo > {}", secret.display())), "ECHILD"),
        (run("sh", "kill -0 $PPID"), "done"),
        (json!({ "act": "fork" }), "done"),
        (json!({ "act": "namespace" }), "EPERM"),
        (json!({ "act": "clone" }), "EPERM"),
        (json!({ "act": "signal to the parent" }), "EPERM"),
        (json!({ "act": "signal to the parent, by what is open" }), "EPERM"),
        (json!({ "act": "tcp" }), "EPERM"),
    ];
    prison.all(attempts).await;
    assert_eq!(fs::read_to_string(secret).unwrap(), "x");
}

#[tokio::test]
async fn what_a_worker_has_started_ends_with_it_however_that_ends() {
    let prison = Prison::with_shell().await;
    for (act, words) in [
        ("fork and die", "died of SIGABRT"),
        ("fork, tidy up and die", "died of SIGABRT, saying: all tidied up"),
        ("fork, stay and die", "died of SIGABRT"),
    ] {
        let worker = prison.instance().caller.vitals().process.unwrap();
        let report = prison.call(&json!({ "act": act })).await;
        check(&report, Outcome::Retry, Reason::PluginCrashed, words);
        // What was killed may take a moment.
        assert!(eventually(async || !has_members(worker)).await, "{act}");
        prison.all([(json!({ "act": "fork" }), "done")]).await;
    }
}

#[tokio::test]
async fn a_call_that_comes_while_what_a_worker_started_is_tidied_away_is_made_in_the_next_worker() {
    let prison = Prison::with_shell().await;
    let worker = prison.instance().caller.vitals().process.unwrap();
    let (dying, next) = (json!({ "act": "fork, stay and die" }), json!({ "act": "fork" }));
    let dies = prison.call(&dying);
    let comes = async {
        let is_gone = async || Process::all().unwrap().iter().all(|process| process.id != worker);
        assert!(eventually(is_gone).await);
        // What it has started has a while yet.
        prison.call(&next).await
    };
    let (died, report) = tokio::join!(dies, comes);
    check(&died, Outcome::Retry, Reason::PluginCrashed, "died of SIGABRT");
    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
}

/// As the first process of a container has to.
#[tokio::test]
async fn what_a_worker_leaves_to_its_router_is_waited_for() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let prison = Prison::with_shell().await;
    let worker = prison.instance().caller.vitals().process.unwrap();
    let report = prison.call(&json!({ "act": "fork and die" })).await;
    check(&report, Outcome::Retry, Reason::PluginCrashed, "died of SIGABRT");
    let left = Process::all().unwrap();
    assert!(left.iter().all(|process| process.group != worker), "{left:?}");
}

/// Whether a process of that group has not ended.
fn has_members(group: u32) -> bool {
    let all = Process::all().unwrap();
    all.iter()
        .any(|process| process.group == group && !process.is_over)
}

#[tokio::test]
async fn what_is_granted_and_not_needed_is_not_given() {
    if !is_whole() {
        return;
    }
    let grant = Grant {
        read: vec!["/etc/passwd".into()],
        network: vec!["localhost".parse().unwrap()],
        programs: vec!["sh".to_owned()],
        write: Vec::new(),
    };
    let prison = Prison::new(Bench::new(), "", grant).await;
    prison.read(Path::new("/etc/passwd"), "EACCES").await;
    prison
        .all([
            (json!({ "act": "fork" }), "EPERM"),
            (json!({ "act": "tcp" }), "EPERM"),
        ])
        .await;
    for kind in ["network", "read", "programs"] {
        let line = format!(
            "grant not given: the plugin does not say that it needs it instance=\"escape\" plugin=\"escape\" kind=\"{kind}\""
        );
        assert!(crate::trial::logged().contains(&line), "{kind}");
    }
}

#[tokio::test]
async fn what_is_needed_and_not_granted_parks_the_instance_with_the_lines_to_add() {
    let bench = Bench::new();
    drop_in(
        &bench,
        r#""network":["example.com:443"],"files":{"read":["/key"]},"programs":["git","ssh"]"#,
        &[],
    );
    let options = InstanceOptions {
        config: json!({ "key": "/run/secrets/key" }),
        grant: Grant {
            programs: vec!["git".to_owned()],
            ..Grant::default()
        },
        ..InstanceOptions::plain("escape")
    };
    let survey = bench.survey(vec![options]).await;
    insta::assert_snapshot!(survey.instances()[0].state.reason().unwrap(), @r#"plugin `escape` needs what it is not granted; add to its `[[instance]]`: `grant.network = ["example.com:443"]`, `grant.read = ["/run/secrets/key"]`, `grant.programs = ["git", "ssh"]`"#);
    let survey = bench.survey(Vec::new()).await;
    let PluginState::Idle { reason } = &survey.plugins()[0].state else {
        panic!("{:?}", survey.plugins())
    };
    insta::assert_snapshot!(reason, @r#"no `[[instance]]` says `plugin = "escape"`, and it needs what only that can grant: give it one with `grant.network = ["example.com:443"]`, `grant.programs = ["git", "ssh"]`"#);
}

#[tokio::test]
async fn what_is_granted_and_not_there_parks_the_instance() {
    let nowhere = Path::new("/nonexistent/key");
    for (grant, reason) in [
        (
            Grant {
                read: vec![nowhere.into()],
                ..Grant::default()
            },
            "`/nonexistent/key`, which it is granted for reading, cannot be opened: No such file or directory (os error 2)",
        ),
        (
            Grant {
                programs: vec!["no-such-program".to_owned()],
                ..Grant::default()
            },
            "there is no program `no-such-program`, which it is granted, in /usr/local/bin, /usr/bin, /bin",
        ),
    ] {
        let prison = Prison::new(Bench::new(), r#""files":{},"programs":[]"#, grant).await;
        assert_eq!(prison.registry.instances()[0].state.reason(), Some(reason));
    }
}

#[tokio::test]
async fn a_plugin_is_kept_in_while_it_says_what_it_needs() {
    if !is_whole() {
        return;
    }
    let bench = Bench::new();
    let (_left, number) = left_open();
    drop_in(&bench, "", &[&format!("-DESCAPE_EARLY={number}")]);
    let survey = bench.survey(Vec::new()).await;
    assert_eq!(survey.plugins()[0].description.as_deref(), Some("kept in"));
}
