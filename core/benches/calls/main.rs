//! What a call of a plugin costs, by where the plugin lives, as ratios to a call of a trait in the same process.
//!
//! In one run, with the sample event: (direct) a [`Caller`] that does nothing; (in process) a plugin that says hello, through
//! the C ABI, on a thread of its own; (inline) one that does nothing, on the thread that calls, as it says it may; and both in
//! processes of their own. One call at a time, and 64 at a time. Rounds alternate, so that whatever else the machine does falls
//! on all of them alike; each figure is the median of its rounds.
//! Beside them, in the same rounds, what the machine takes to wake a thread, and a thread at the other end of a socket.
//! Then: how long a worker takes from its start to the first call, and what an idle one holds for itself of the memory.
//! Then the abuse: what becomes of the slowest of a hundred calls of a healthy plugin while another one is mistreated.
//! A mark that is missed is a failure.
//!
//! `cargo bench --package jackfield --bench calls`

mod abuse;
mod bench;
mod floor;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use bench::{Bench, Place};
use jackfield::{
    delivery::Outcome,
    plugin::{Caller, Report, StepCall},
};
use jackfield_stage::marks::Marks;
use tokio::{task::JoinSet, time::Instant};

/// The binary's, so that nothing has a worse one here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(abuse::HOARD) {
        abuse::hoard();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let mut marks = Marks::default();
    let work = runtime.block_on(measure(&mut marks));
    runtime.shutdown_background();
    marks.end(work)
}

async fn measure(marks: &mut Marks) -> anyhow::Result<()> {
    let bench = Bench::set().await?;
    costs(&bench, marks).await?;
    starts(&bench, marks).await?;
    memory(&bench, marks).await?;
    abuse::measure(&bench, marks).await?;
    bench.end().await;
    Ok(())
}

/// Prints what a call costs.
async fn costs(bench: &Bench, marks: &mut Marks) -> anyhow::Result<()> {
    let there = |name, place| (name, bench.caller(place), place);
    let subjects: [(&str, Arc<dyn Caller>, Place); 5] = [
        ("direct", Arc::new(Nothing), Place::Here),
        there("in process", Place::Here),
        there("inline, in process", Place::HereInline),
        there("in a worker", Place::Process),
        there("inline, in a worker", Place::ProcessInline),
    ];
    println!("{:<20} {:>20} {:>20}", "a call", "one at a time", "64 at a time");
    let mut times: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let (mut wakes, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        wakes.push(floor::wake());
        sockets.push(floor::socket(bench.size())?);
        for (subject, (_, caller, place)) in subjects.iter().enumerate() {
            let calls = || bench.call(*place);
            for in_flight in [1, 64] {
                // What it takes to get going is not what it costs.
                rate((caller, calls), in_flight, WARM_UP).await;
                let time = rate((caller, calls), in_flight, MEASURED).await;
                times.entry((subject, in_flight)).or_default().push(time);
            }
        }
    }
    let figure = |subject, in_flight| median(&times[&(subject, in_flight)]);
    for (subject, (name, ..)) in subjects.iter().enumerate() {
        let told = |in_flight| {
            let time = figure(subject, in_flight);
            format!("{time:.2} µs, {:.0}x", time / figure(0, in_flight))
        };
        println!("{name:<20} {:>20} {:>20}", told(1), told(64));
    }
    println!(
        "to hand something to another thread and back takes {:.1} µs here, to another one over a socket {:.1} µs",
        median(&wakes),
        median(&sockets)
    );
    for (subject, (name, ..)) in subjects.iter().enumerate().skip(1) {
        let [alone, together] = match name.ends_with("worker") {
            true => [25.0, 4.0],
            false => [6.0, 1.0],
        };
        marks.at_most(format!("a call {name}"), figure(subject, 1), alone, "µs");
        marks.at_most(
            format!("a call {name}, of 64 at a time"),
            figure(subject, 64),
            together,
            "µs",
        );
    }
    Ok(())
}

/// How many microseconds pass for each call while so many are in flight.
async fn rate(
    (caller, call): (&Arc<dyn Caller>, impl Fn() -> StepCall),
    in_flight: usize,
    time: Duration,
) -> f64 {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        // One of its own, as each delivery has.
        let (caller, call) = (Arc::clone(caller), call());
        callers.spawn(async move {
            let mut calls = 0_u32;
            while began.elapsed() < time {
                let report = caller.call(call.clone()).await;
                assert_eq!(report.outcome, Outcome::Done, "{report:?}");
                calls += 1;
            }
            calls
        });
    }
    let calls: u32 = callers.join_all().await.into_iter().sum();
    began.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

/// Prints how long a worker takes from its start to its first call.
async fn starts(bench: &Bench, marks: &mut Marks) -> anyhow::Result<()> {
    let (mut times, mut programs) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        programs.push(bench.run_program()?.as_secs_f64() * 1e3);
        let (worker, ready) = bench.start_worker().await?;
        worker.shutdown(Duration::from_secs(5)).await;
        times.push(ready.as_secs_f64() * 1e3);
    }
    println!(
        "\na worker is ready {:.1} ms after its start; to start the program and see it end takes {:.1} ms",
        median(&times),
        median(&programs)
    );
    marks.at_most("start of a worker", median(&times), 5.0, "ms");
    Ok(())
}

/// Prints what a worker that has not been called yet holds for itself of the memory.
async fn memory(bench: &Bench, marks: &mut Marks) -> anyhow::Result<()> {
    let (worker, _) = bench.start_worker().await?;
    let process = worker.vitals().process.context("the worker has a process")?;
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = |name: &str| -> anyhow::Result<f64> {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name));
        let value = value.with_context(|| format!("no {name} of the worker"))?;
        Ok(value.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    };
    let (written, read) = (line("Private_Dirty:")?, line("Private_Clean:")?);
    worker.shutdown(Duration::from_secs(5)).await;
    println!("it shares {written:.1} MiB that it wrote with nobody, and {read:.1} MiB that it only read");
    marks.at_most("memory of an idle worker", written + read, 6.0, "MiB");
    Ok(())
}

/// A caller without a plugin.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Caller for Nothing {
    async fn call(&self, _: StepCall) -> Report {
        Report {
            outcome: Outcome::Done,
            reason: None,
            code: 0,
            output: None,
            message: None,
            retry_after: None,
        }
    }

    async fn shutdown(&self, _: Duration) {}
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_millis(100);
const MEASURED: Duration = Duration::from_millis(700);
