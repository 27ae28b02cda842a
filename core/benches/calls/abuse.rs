//! A plugin that is mistreated, and one beside it that should not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use jackfield::{
    delivery::Outcome,
    plugin::{Caller, Report, Worker},
    reason::Reason,
};
use jackfield_stage::marks::Marks;
use serde_json::json;
use tokio::{
    runtime::Handle,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use crate::bench::{Bench, Place};

/// What is done to it, by the name that it has in the plugin, and how each call of it ends.
const ABUSES: [(&str, &str); 10] = [
    ("segfault", "retry plugin-crashed"),
    ("abort", "retry plugin-crashed"),
    ("overflow", "retry plugin-crashed"),
    ("leak", "retry plugin-crashed"),
    ("close", "retry plugin-crashed"),
    ("babble", "retry plugin-crashed"),
    ("twice", "done"),
    ("deaf", "retry timed-out"),
    ("spin", "retry timed-out"),
    ("large", "fatal plugin-fatal"),
];

/// Prints the 99th percentile of the healthy plugin's calls, alone and beside each abuse, and how that ended.
pub(crate) async fn measure(bench: &Bench, marks: &mut Marks) -> anyhow::Result<()> {
    let healthy = bench.caller(Place::Process);
    println!("\na healthy plugin's 99th percentile, 500 calls a second, while another one is asked to");
    for (abuse, end) in ABUSES {
        let (mut alone, mut beside, mut ended) = (Vec::new(), Vec::new(), String::new());
        // Turn by turn, since the machine is never the same for long.
        for _ in 0..TURNS {
            alone.extend(times(bench, &healthy, async {}).await);
            // A fresh one each time, so that none counts as one that keeps dying.
            let abused = bench.start_abused().await?;
            let suffering = async { ended = suffer(bench, &abused, abuse).await };
            beside.extend(times(bench, &healthy, suffering).await);
            abused.shutdown(Duration::ZERO).await;
            ensure!(
                ended.starts_with(end),
                "a plugin that is asked to {abuse} ends with `{ended}`, not with `{end}`"
            );
        }
        let ratio = tell(abuse, alone, beside, &ended);
        marks.at_most(format!("99th percentile beside {abuse}"), ratio, 2.0, "x");
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

/// Prints how many times as long as alone the slowest of a hundred calls took, and gives that back.
fn tell(abuse: &str, alone: Vec<f64>, beside: Vec<f64>, ended: &str) -> f64 {
    let (alone, beside) = (percentile(alone), percentile(beside));
    println!(
        "  {abuse:<12} {:>5.1}x   ({:.2} ms, alone {:.2} ms)   {ended}",
        beside / alone,
        beside / 1e3,
        alone / 1e3
    );
    beside / alone
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

/// How many microseconds each call took since it was due, over the time that is measured and as long as `meanwhile` lasts.
///
/// They are made at their times, whether those before have ended or not: while nothing moves, all that are due grow old.
async fn times(bench: &Bench, healthy: &Arc<dyn Caller>, meanwhile: impl Future<Output = ()>) -> Vec<f64> {
    let over = Arc::new(AtomicBool::new(false));
    // A thread of its own: the runtime's timers tell the time to a millisecond.
    let beat = spawn_blocking({
        let (healthy, call, over) = (Arc::clone(healthy), bench.call(Place::Process), Arc::clone(&over));
        let runtime = Handle::current();
        move || {
            let (mut calls, began) = (JoinSet::new(), Instant::now());
            let mut due = began;
            while due - began < MEASURED || !over.load(Relaxed) {
                #[expect(clippy::disallowed_methods, reason = "what is waited for is the time")]
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let (healthy, call) = (Arc::clone(&healthy), call.clone());
                let made = async move {
                    let report = healthy.call(call).await;
                    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
                    due.elapsed().as_secs_f64() * 1e6
                };
                calls.spawn_on(made, &runtime);
                due += PERIOD;
            }
            calls
        }
    });
    meanwhile.await;
    over.store(true, Relaxed);
    beat.await.expect("it does not panic").join_all().await
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
        call.deadline = tokio::time::Instant::now() + Duration::from_secs(2);
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
/// The healthy plugin is called 500 times a second.
const PERIOD: Duration = Duration::from_millis(2);
/// How often it is done: less than what makes an instance count as one that keeps dying.
const TIMES: usize = 2;
