//! What it takes to hold other rules against what came in: `routes plan`, as a person runs it.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use jackfield::journal::Journal as _;
use jackfield_stage::{marks::Marks, process::Process, router::Router};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{
    counter,
    events::{Size, repository_name},
    start,
    work::{self, Desk, Kind, body_of},
};

const EVENTS: usize = 100_000;
/// Events as large as they may be, which come then.
const LARGE: usize = 100;
const LARGE_BODY: usize = 5 << 20;
/// Routes beside the one that takes every event.
const ROUTES: u32 = 1_000;
const TIME_MARK: f64 = 10.0;
/// The program with both sets of rules and 4 MiB of events takes 27 MiB, and 46 where events of 5 MiB are read and matched. All events
/// have twelve times as much, and the large ones eight times, so that a plan that kept either would miss it.
const MEMORY_MARK: f64 = 64.0;
const ROUNDS: usize = 3;

pub(crate) async fn measure(marks: &mut Marks) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let (home, other) = (scratch.path(), scratch.path().join("other.toml"));
    let router = start::router(home, &rules(false))?;
    fs::write(&other, rules(true))?;
    let bodies = bodies()?;
    let mean = bodies.iter().map(Bytes::len).sum::<usize>() / bodies.len();
    println!(
        "\nA plan over {EVENTS} events with bodies of {:.1} KB, by {ROUTES} routes of which a tenth is changed, and one that takes \
         them all and gives its step something else; the quickest of {ROUNDS}, and the most memory",
        mean as f64 / 1e3
    );
    let mut seen = Vec::new();
    for (what, bodies, count) in [
        (format!("{EVENTS} events"), bodies, EVENTS),
        (
            format!("{LARGE} events of 5 MiB more"),
            vec![body_of(LARGE_BODY)],
            LARGE,
        ),
    ] {
        let data = home.join("data");
        let desk = Desk::with(&data, work::RULES, &bodies).await?;
        // The journal takes few of the large ones at once.
        desk.fill(Kind::Nothing, count, if count > LARGE { 64 } else { 2 })
            .await?;
        desk.journal.close().await?;
        // In force only now, so that nothing is owed.
        let desk = Desk::with(&data, &rules(false), &bodies).await?;
        desk.journal.close().await?;
        seen.push(count);
        let (mut time, mut worked, mut peak) = (f64::INFINITY, f64::INFINITY, 0.0_f64);
        for _ in 0..ROUNDS {
            let run = run(&router, &other, seen.iter().sum()).await?;
            time = time.min(run.time);
            worked = worked.min(run.worked);
            peak = peak.max(run.peak);
        }
        println!("  {what:<28} {time:.2} s, {worked:.2} s of processor time, {peak:.1} MiB at most");
        if seen.len() == 1 {
            marks.at_most(format!("time of a plan over {what}"), time, TIME_MARK, "s");
        }
        marks.at_most(format!("memory of a plan over {what}"), peak, MEMORY_MARK, "MiB");
    }
    Ok(())
}

struct Run {
    /// In seconds.
    time: f64,
    /// What it had of the processors in that time: of what else the machine does, it tells less.
    worked: f64,
    /// In mebibytes.
    peak: f64,
}

async fn run(router: &Router, other: &Path, events: usize) -> anyhow::Result<Run> {
    let said = router.home().join("plan.json");
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_jackfield"))
        .args(["routes", "plan", "-o", "json"])
        .arg(other)
        .arg("--config")
        .arg(router.configuration())
        .stdout(Stdio::from(File::create(&said)?))
        .kill_on_drop(true)
        .spawn()?;
    let process = child.id().context("the plan was started")?;
    let (mut worked, mut peak) = (0.0_f64, 0.0_f64);
    let status = loop {
        // There is none any more just before its end.
        if let Ok(now) = counter(&format!("/proc/{process}/status"), "VmHWM:") {
            peak = peak.max(now / 1024.0);
        }
        if let Ok(Process { time, .. }) = Process::find(process) {
            worked = worked.max(time.as_secs_f64());
        }
        if let Ok(ended) = timeout(LOOK, child.wait()).await {
            break ended?;
        }
    };
    let time = begun.elapsed().as_secs_f64();
    let plan: Value = serde_json::from_slice(&fs::read(said)?).context("what the plan said")?;
    ensure!(
        status.code() == Some(DIFFERENT) && plan["events"] == events && plan["left_out"] == 0,
        "the plan ended with {status} after {} events of {events}",
        plan["events"]
    );
    let fate = |route: &str, what: &str| plan["routes"][route][what]["count"].as_u64().unwrap_or(0);
    ensure!(
        fate("all", "altered") > 0 && fate("route-1", "lost") > 0 && fate("route-2", "gained") > 0,
        "the plan finds too little: {}",
        plan["routes"]
    );
    Ok(Run { time, worked, peak })
}

/// What is in the payload of events as large as GitHub's.
fn bodies() -> anyhow::Result<Vec<Bytes>> {
    let bodies = Size::Large.events()?.into_iter().map(|event| {
        let event: Value = serde_json::from_slice(&event)?;
        Ok(event["data"]["payload"].to_string().into())
    });
    bodies.collect()
}

/// The rules, as they are or changed.
fn rules(changed: bool) -> String {
    let suffix = if changed { "!" } else { "." };
    let mut rules = String::new();
    let mut route = |name: &str, repository: &str, text: &str| {
        let _ = write!(
            rules,
            "[[route]]\nname = \"{name}\"\nwhen.data.payload.repository.full_name = [{repository}]\n\n\
             [[route.step]]\nid = \"post\"\nuse = \"slack\"\nwith = {{ text = \"{text}\" }}\n\n"
        );
    };
    route(
        "all",
        "{ exists = true }",
        &format!("{{{{ event.data.title }}}} in {{{{ event.data.payload.repository.full_name }}}}{suffix}"),
    );
    for number in 1..=ROUTES {
        // Of each ten, the second takes what the first took.
        let thing = match number % 10 {
            1 if changed => number + ROUTES,
            2 if changed => number - 1,
            _ => number,
        };
        let repository = format!("\"{}\"", repository_name(thing));
        route(&format!("route-{number}"), &repository, "{{ event.data.title }}");
    }
    rules
}

/// How often its memory is looked at; the kernel keeps the most that it had.
const LOOK: Duration = Duration::from_millis(2);
/// The exit code of a plan by which something would be different.
const DIFFERENT: i32 = 3;
