//! What the journal takes: events a second, deliveries from commit to outcome, bytes for each, and what a long history costs.
//!
//! Beside each rate is that of the floor in the same run: the same bodies appended to a plain file, whatever waits under one
//! fdatasync. Rounds alternate, so that whatever else the machine does falls on all of them alike; each figure is the median of its rounds.
//! Then a million deliveries are owed, and a process of its own tells what memory it takes to have a journal of those open;
//! they are carried out; and with so many stored events the same work is done again, beside an empty journal. At last some are owed
//! again, and the real router is started on both. Apart from that, `routes plan` goes through a hundred thousand events.
//!
//! `cargo bench --package jackfield --bench journal [-- --stored 10000000]`; a million are stored unless more are asked for. With
//! the word `history` the rates beside the floor are left out, and with the word `plan` all but the plan. A mark that is missed is a failure.

#[path = "../routing/events.rs"]
#[expect(dead_code, reason = "the matcher is measured with more kinds of events")]
mod events;
#[path = "../ingest/floor.rs"]
mod floor;
mod history;
mod plan;
mod rates;
mod start;
mod work;

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context as _;
use jackfield_stage::marks::Marks;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut marks = Marks::default();
    let work = bench(&mut marks);
    marks.end(work)
}

fn bench(marks: &mut Marks) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (mut stored, mut with_rates, mut with_history) = (history::PENDING, true, true);
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("`{word}` needs a value"))
        };
        match word.as_str() {
            "memory" => return runtime.block_on(history::tell_memory(Path::new(&value()?))),
            "history" => with_rates = false,
            "plan" => (with_rates, with_history) = (false, false),
            "--stored" => stored = value()?.parse().context("`--stored` is a number of events")?,
            _ => anyhow::bail!(
                "`{word}` is none of what can be said; `history`, `plan` and `--stored NUMBER` are"
            ),
        }
    }
    if with_rates {
        runtime.block_on(rates::measure())?;
    }
    if with_history {
        runtime.block_on(history::measure(stored, marks))?;
    }
    runtime.block_on(plan::measure(marks))
}

/// A figure that the kernel keeps of a process, by its name in one of its files.
fn counter(file: &str, name: &str) -> anyhow::Result<f64> {
    let figures = fs::read_to_string(file)?;
    let value = figures.lines().find_map(|line| line.strip_prefix(name));
    let value = value.with_context(|| format!("there is no {name} in {file}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}
