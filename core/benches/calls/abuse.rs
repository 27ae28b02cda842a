//! A plugin that is mistreated, and one beside it that should not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use jackfield::{
    plugin::{Caller, Report, Worker},
    reason::Reason,
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::bench::{Bench, Place};

/// What is done to it, by the name that it has in the plugin.
const ABUSES: [&str; 12] = [
    "segfault",
    "abort",
    "overflow",
    "leak",
    "close",
    "babble",
    "fork",
    "fork-and-die",
    "twice",
    "deaf",
    "spin",
    "large",
];

/// Prints the 99th percentile of the healthy plugin's calls, alone and beside each abuse, and how that ended.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let healthy = bench.caller(Place::Process);
    println!("\na healthy plugin's 99th percentile, 500 calls a second, while another one is asked to");
    for abuse in ABUSES {
        let (mut alone, mut beside, mut ended) = (Vec::new(), Vec::new(), String::new());
        // Turn by turn, since the machine is never the same for long.
        for _ in 0..TURNS {
            alone.extend(times(bench, &healthy, async {}).await);
            // A fresh one each time, so that none counts as one that keeps dying.
            let abused = bench.start_abused().await?;
            let suffering = async { ended = suffer(bench, &abused, abuse).await };
            beside.extend(times(bench, &healthy, suffering).await);
            abused.shutdown(Duration::ZERO).await;
        }
        tell(abuse, alone, beside, &ended);
    }
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        alone.extend(times(bench, &healthy, async {}).await);
        beside.extend(times(bench, &healthy, hoarders()).await);
    }
    tell(
        "(leak)",
        alone,
        beside,
        "for comparison: a program of nobody's does the same",
    );
    Ok(())
}

fn tell(abuse: &str, alone: Vec<f64>, beside: Vec<f64>, ended: &str) {
    let (alone, beside) = (percentile(alone), percentile(beside));
    println!(
        "  {abuse:<12} {:>5.1}x   ({:.2} ms, alone {:.2} ms)   {ended}",
        beside / alone,
        beside / 1e3,
        alone / 1e3
    );
}

/// Runs [`hoard`] in processes that have nothing to do with the router, as often as a plugin is mistreated.
async fn hoarders() {
    for _ in 0..TIMES {
        let program = std::env::current_exe().expect("it has a path");
        let ended = tokio::process::Command::new(program).arg(HOARD).status().await;
        ended.expect("it can be started");
    }
}

/// Takes as much memory as a worker may, and ends with it.
pub(crate) fn hoard() {
    let mut hoard = Vec::new();
    for _ in 0..1000 {
        hoard.push(vec![1_u8; 1 << 20]);
    }
    std::hint::black_box(&hoard);
    std::process::exit(1);
}

/// The argument that makes a hoarder of this program.
pub(crate) const HOARD: &str = "hoard";

/// How many microseconds each call took, over the time that is measured and as long as `meanwhile` lasts.
async fn times(bench: &Bench, healthy: &Arc<dyn Caller>, meanwhile: impl Future<Output = ()>) -> Vec<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let mut calling = JoinSet::new();
    calling.spawn({
        let (healthy, call, over) = (Arc::clone(healthy), bench.call(), Arc::clone(&over));
        async move {
            let began = Instant::now();
            let mut times = Vec::new();
            while began.elapsed() < MEASURED || !over.load(Relaxed) {
                let before = Instant::now();
                healthy.call(call.clone()).await;
                times.push(before.elapsed().as_secs_f64() * 1e6);
                sleep(Duration::from_millis(2)).await;
            }
            times
        }
    });
    meanwhile.await;
    over.store(true, Relaxed);
    let times = calling.join_next().await.expect("it was spawned");
    times.expect("it does not panic")
}

fn percentile(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

/// Has the plugin do this a few times, and says how that ended.
async fn suffer(bench: &Bench, abused: &Worker, abuse: &str) -> String {
    let mut ended = String::new();
    for time in 0..TIMES {
        let input = json!({ "act": abuse, "size": 100_000_000 });
        let mut call = bench.call_with(&input, &format!("dlv/{abuse}/{time}"));
        call.deadline = Instant::now() + Duration::from_secs(2);
        ended = match timeout(Duration::from_secs(30), abused.call(call)).await {
            Ok(report) => told(&report),
            Err(_) => "NOT ENDED".to_owned(),
        };
    }
    ended
}

fn told(report: &Report) -> String {
    let reason = report.reason.map(Reason::code).unwrap_or_default();
    let message = report.message.clone().unwrap_or_default();
    let message: String = message.chars().take(90).collect();
    format!("{} {reason}  {message}", report.outcome.word())
}

/// How often alone and beside take turns, and how long each turn is, at the least.
const TURNS: usize = 5;
const MEASURED: Duration = Duration::from_secs(1);
/// How often it is done: less than what makes an instance count as one that keeps dying.
const TIMES: usize = 2;
