//! What it takes to have a long history, and much that is owed.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context as _, ensure};
use jackfield::journal::{History as _, Journal as _};
use jackfield_stage::marks::Marks;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::{
    counter, start,
    work::{BATCH, Desk, Kind, median, rate},
};

/// How many deliveries are owed at once, and how many events are stored where nothing else is said.
pub(crate) const PENDING: usize = 1_000_000;
const MEMORY_MARK: f64 = 200.0;
const FALL_MARK: f64 = 20.0;
const ROUNDS: usize = 5;
/// How many deliveries make a round.
const DELIVERIES: usize = 5_000;
/// Short bodies, since it is rows that are counted here.
const BODY: usize = 256;

pub(crate) async fn measure(stored: usize, marks: &mut Marks) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    // Laid out as homes of routers.
    let [empty_home, full_home] = ["empty", "full"].map(|name| scratch.path().join(name));
    let [empty, full] = [&empty_home, &full_home].map(|home| home.join("data"));
    println!("\nA history of {stored} events with bodies of {BODY} bytes");
    let desk = Desk::open(&full, BODY).await?;
    let begun = Instant::now();
    desk.fill(Kind::OneDelivery, PENDING, 1024).await?;
    println!(
        "  {PENDING} events with one delivery each: {:.0} a second",
        rate(PENDING, begun)
    );
    desk.journal.close().await?;

    let child = Command::new(std::env::current_exe()?)
        .arg("memory")
        .arg(&full)
        .output()?;
    let error = String::from_utf8_lossy(&child.stderr);
    ensure!(
        child.status.success(),
        "the process that tells its memory failed: {error}"
    );
    let Memory {
        pending,
        opened,
        resident,
        peak,
    } = serde_json::from_slice(&child.stdout).context("what the process told of its memory")?;
    println!(
        "  with {pending} deliveries pending: opened in {opened:.0} ms; {resident:.1} MiB resident, {peak:.1} MiB at most"
    );
    marks.at_most(
        format!("memory with {pending} deliveries pending"),
        peak,
        MEMORY_MARK,
        "MiB",
    );

    let desk = Desk::open(&full, BODY).await?;
    let begun = Instant::now();
    // The process before has claimed some, and they were given back at this start.
    let settled = desk.carry_out(1024).await?;
    println!(
        "  carried out: {settled}, {:.0} a second, 1024 at a time",
        rate(settled, begun)
    );
    desk.fill(Kind::Nothing, stored.saturating_sub(PENDING), 1024)
        .await?;
    let counts = desk.journal.counts().await?;
    ensure!(
        counts.events >= stored as u64 && counts.deliveries["pending"] == 0,
        "the history is not as it was to be: {counts:?}"
    );

    let fresh = Desk::open(&empty, BODY).await?;
    let (mut quick, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quick.push(dispatched(&fresh).await?);
        slow.push(dispatched(&desk).await?);
    }
    let of = |rounds: &[Round], part: fn(&Round) -> f64| median(rounds.iter().map(part).collect());
    let [quick_cpu, slow_cpu] = [&quick, &slow].map(|rounds| of(rounds, |round| round.cpu));
    let [quick, slow] = [&quick, &slow].map(|rounds| of(rounds, |round| round.rate));
    let fall = 100.0 * (1.0 - slow / quick);
    println!(
        "  dispatched, {BATCH} at a time: {quick:.0} deliveries a second on an empty journal, {slow:.0} on one of {} events: \
         {fall:.1} % less",
        counts.events,
    );
    marks.at_most(
        format!("fall of deliveries a second with {} events stored", counts.events),
        fall,
        FALL_MARK,
        "%",
    );
    println!("  of processor time, {quick_cpu:.0} µs for each, and {slow_cpu:.0} µs");
    let bytes = fs::metadata(full.join("journal.db"))?.len();
    println!(
        "  {:.2} KB on disk for each stored event",
        bytes as f64 / 1e3 / counts.events as f64
    );

    desk.fill(Kind::OneDelivery, start::OWED, 1024).await?;
    let stored = desk.journal.counts().await?.events;
    for desk in [fresh, desk] {
        desk.journal.close().await?;
    }
    start::measure(&empty_home, &full_home, stored, marks).await
}

/// What it took to carry out deliveries.
struct Round {
    /// How many a second.
    rate: f64,
    /// Processor time of this process for each, in microseconds: of what else the machine does, it tells less.
    cpu: f64,
}

/// Carries out deliveries, once they are owed.
async fn dispatched(desk: &Desk) -> anyhow::Result<Round> {
    desk.fill(Kind::OneDelivery, DELIVERIES, 256).await?;
    let (begun, worked) = (Instant::now(), processor_time());
    let settled = desk.carry_out(BATCH).await?;
    ensure!(
        settled == DELIVERIES,
        "{settled} of {DELIVERIES} deliveries were carried out"
    );
    Ok(Round {
        rate: rate(settled, begun),
        cpu: (processor_time() - worked) * 1e6 / settled as f64,
    })
}

/// What this process has had of the processors, in seconds.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What a process tells of its memory, in mebibytes.
#[derive(Debug, Deserialize, Serialize)]
struct Memory {
    pending: u64,
    /// How long it took to open the journal, in milliseconds.
    opened: f64,
    resident: f64,
    peak: f64,
}

/// In a process of its own: opens the journal, works a little, and says what memory it took.
pub(crate) async fn tell_memory(directory: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    let desk = Desk::open(directory, BODY).await?;
    let opened = begun.elapsed().as_secs_f64() * 1e3;
    let pending = desk.journal.counts().await?.deliveries["pending"];
    for _ in 0..10 {
        ensure!(!desk.claim(BATCH).await?.is_empty(), "nothing can be claimed");
    }
    let mebibytes = |name| Ok::<_, anyhow::Error>(counter("/proc/self/status", name)? / 1024.0);
    let memory = Memory {
        pending,
        opened,
        resident: mebibytes("VmRSS:")?,
        peak: mebibytes("VmHWM:")?,
    };
    println!("{}", serde_json::to_string(&memory)?);
    Ok(())
}
