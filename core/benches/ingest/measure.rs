//! Runs each server under the same load and prints what came of it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use jackfield::{
    clock::{Clock as _, SystemClock},
    provider,
};
use jackfield_stage::{
    cargo,
    load::{self, Amount, Progress, Tally, Template},
    marks::Marks,
    process::Process,
    router::Router,
    zeplin,
};

use crate::server::{SECRET, zeplin_options};

/// What is compared, in the order of the report.
const SUBJECTS: [Subject; 5] = [
    Subject::Bare,
    Subject::Translate,
    Subject::Floor,
    Subject::Commit,
    Subject::Deliver,
];
const CONNECTIONS: [usize; 2] = [64, 256];
const ROUNDS: usize = 3;
const RATE_MARK: f64 = 65.0;
const CPU_MARK: f64 = 2.0;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Bare,
    Translate,
    Floor,
    Commit,
    Deliver,
}

impl Subject {
    fn title(self) -> &'static str {
        match self {
            Self::Bare => "(a) bare hyper, reads the body",
            Self::Translate => "(b) + verify and translate",
            Self::Floor => "(e) (b) + append, grouped fdatasync",
            Self::Commit => "(c) Jackfield, no route matches",
            Self::Deliver => "(d) Jackfield, one delivery each",
        }
    }
}

/// One round of one subject.
#[derive(Clone, Copy, Default)]
struct Figures {
    rate: f64,
    median: Duration,
    slow: Duration,
    cpu: f64,
    memory: u64,
}

/// Measures everything, prints the report, and tells which marks the most connections reach.
pub(crate) fn all(marks: &mut Marks) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let scratch = tempfile::tempdir()?;
    eprintln!("building the router and a plugin that does nothing…");
    let built = cargo::build(&["jackfield", "counting-plugin"], "release")?;
    println!("fdatasync of 4 KB: median {:?}", sync_time(scratch.path())?);
    let mut figures: BTreeMap<(usize, Subject), Vec<Figures>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for connections in CONNECTIONS {
            for subject in SUBJECTS {
                let home = scratch
                    .path()
                    .join(format!("{round}-{connections}-{}", subject as u8));
                fs::create_dir(&home)?;
                let measured = runtime.block_on(measure(subject, connections, &home, &built))?;
                figures.entry((connections, subject)).or_default().push(measured);
                fs::remove_dir_all(&home)?;
            }
        }
    }
    let of = |connections, subject| middle(&figures[&(connections, subject)]);
    for connections in CONNECTIONS {
        report(connections, |subject| of(connections, subject));
    }
    let [.., connections] = CONNECTIONS;
    let [translate, floor, commit] =
        [Subject::Translate, Subject::Floor, Subject::Commit].map(|subject| of(connections, subject));
    marks.at_least(
        format!("rate of (c), of (e)'s, over {connections} connections"),
        100.0 * commit.rate / floor.rate,
        RATE_MARK,
        "%",
    );
    marks.at_most(
        format!("CPU of (c), to (b)'s, over {connections} connections"),
        commit.cpu / translate.cpu,
        CPU_MARK,
        "x",
    );
    Ok(())
}

async fn measure(
    subject: Subject,
    connections: usize,
    home: &Path,
    built: &cargo::Built,
) -> anyhow::Result<Figures> {
    let template = template()?;
    match subject {
        Subject::Bare => peer("bare", home, &template, connections).await,
        Subject::Translate => peer("translate", home, &template, connections).await,
        Subject::Floor => peer("floor", home, &template, connections).await,
        Subject::Commit => jackfield(built, home, &template, connections, "io.zeplin.ping").await,
        Subject::Deliver => {
            jackfield(
                built,
                home,
                &template,
                connections,
                "io.zeplin.project.screen.version.created",
            )
            .await
        }
    }
}

/// A signed request for a new version of a screen.
fn template() -> anyhow::Result<Template> {
    let body = zeplin::screen_version_of_3_kb();
    let signed = provider::sign(&zeplin_options(), &body, SystemClock.now(), "0")?;
    Ok(Template::post(
        "/in/screens",
        &signed.headers,
        "zeplin-delivery-id",
        &body,
    ))
}

/// Another process of this benchmark, serving `kind`.
async fn peer(kind: &str, home: &Path, template: &Template, connections: usize) -> anyhow::Result<Figures> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", kind])
        .arg(home.join("floor"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse().context("the server's address")?;
    let measured = under_load(child.id(), address, template, connections).await;
    stop(&mut child);
    Ok(measured?.0)
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The real router, with one route for events of `kind`.
async fn jackfield(
    built: &cargo::Built,
    home: &Path,
    template: &Template,
    connections: usize,
    kind: &str,
) -> anyhow::Result<Figures> {
    let libraries: [PathBuf; 1] = [built.library("counting-plugin")?];
    let mut router = Router::prepare(&built.binary("jackfield")?, home, &libraries)?;
    router.set("ZEPLIN_SECRET", SECRET);
    router.set("RUST_LOG", "warn");
    router.configure(
        "[[source]]\nname = \"screens\"\nprovider = \"zeplin\"\nsecrets = [{ env = \"ZEPLIN_SECRET\" }]\n\n\
         [[instance]]\nname = \"counting-plugin\"\nplugin = \"counting-plugin\"\nconcurrency = 64\n",
        &format!(
            "[[route]]\nname = \"count\"\nwhen.type = [\"{kind}\"]\n\n[[route.step]]\nuse = \"counting-plugin\"\n"
        ),
    )?;
    router.start().await?;
    let process = router.process().context("the router runs")?;
    let before = cpu_time(process)?;
    let started = Instant::now();
    let (mut figures, acknowledged) = under_load(process, router.ingress(), template, connections).await?;
    // What was accepted is only paid for when it is settled, and a delivery costs what it costs after the 200.
    router.settled(Duration::from_secs(300)).await?;
    if kind != "io.zeplin.ping" {
        figures.rate = acknowledged as f64 / started.elapsed().as_secs_f64();
        figures.cpu = micros(cpu_time(process)? - before) / acknowledged as f64;
    }
    router.stop().await?;
    Ok(figures)
}

/// Warms up, measures, and gives the figures with how many requests were acknowledged in all.
async fn under_load(
    process: u32,
    address: SocketAddr,
    template: &Template,
    connections: usize,
) -> anyhow::Result<(Figures, usize)> {
    let progress = Progress::default();
    let warm = load::run(
        address,
        template,
        "warm",
        connections,
        Amount::For(WARM_UP),
        &progress,
    )
    .await?;
    let before = cpu_time(process)?;
    let mut tally: Tally = load::run(
        address,
        template,
        "load",
        connections,
        Amount::For(MEASURED),
        &progress,
    )
    .await?;
    let cpu = cpu_time(process)? - before;
    ensure!(!tally.acknowledged.is_empty(), "nothing was acknowledged");
    let (refused, broken) = (tally.refused, tally.broken() + tally.unreached);
    ensure!(refused + broken == 0, "{refused} refused, {broken} broken");
    let count = tally.acknowledged.len() as f64;
    let figures = Figures {
        rate: count / tally.elapsed.as_secs_f64(),
        median: tally.percentile(0.5),
        slow: tally.percentile(0.99),
        cpu: micros(cpu) / count,
        memory: resident(process)?,
    };
    Ok((figures, warm.acknowledged.len() + tally.acknowledged.len()))
}

fn report(connections: usize, of: impl Fn(Subject) -> Figures) {
    let (translate, floor) = (of(Subject::Translate), of(Subject::Floor));
    println!(
        "\n{connections} connections{:24}req/s  of (e)    p50 ms    p99 ms  CPU us  to (b)  memory MiB",
        ""
    );
    for subject in SUBJECTS {
        let figures = of(subject);
        println!(
            "{:38}{:>8.0}{:>7.0}%{:>10.2}{:>10.2}{:>8.1}{:>7.2}x{:>12.1}",
            subject.title(),
            figures.rate,
            100.0 * figures.rate / floor.rate,
            micros(figures.median) / 1e3,
            micros(figures.slow) / 1e3,
            figures.cpu,
            figures.cpu / translate.cpu,
            figures.memory as f64 / (1024.0 * 1024.0),
        );
    }
}

/// The round with the median rate.
fn middle(rounds: &[Figures]) -> Figures {
    let mut rounds = rounds.to_vec();
    rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    rounds[rounds.len() / 2]
}

/// How long the disk takes for 4 KB, as the median of many.
fn sync_time(directory: &Path) -> anyhow::Result<Duration> {
    let mut file = File::create(directory.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// User and system time that `process` and the processes of its own have used, its workers among them.
fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let all = Process::all()?;
    let its_own = all
        .iter()
        .filter(|one| one.id == process || one.parent == process);
    Ok(its_own.map(|one| one.time).sum())
}

/// Resident memory of `process`, in bytes.
fn resident(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
