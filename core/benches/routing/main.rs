//! What it costs to find the rules that an event matches, as a share of what it costs to read the event at all.
//!
//! For events of GitHub's size and small ones, and for 1 to 100,000 rules of three kinds, in one run: the time of
//! serde_json's strict parse of the same bytes into nothing; of the matcher; of going through all rules one by one; and of the
//! crate quamina, up to a thousand rules. With ten thousand of the mixed ones it panics at every match, since more than 255 rules share one
//! predicate that is not exact; and since it takes 70 KB for each, a hundred thousand exact ones take 7 GB. It does not
//! check that an event is JSON, so that it does less than the strict parse beside it.
//! Rounds alternate, so that whatever else the machine does falls on all of them alike; each figure is the median of
//! its rounds. Beside it: how long it takes to read the rules and to build the table, each at its quickest, and how much memory a rule takes.
//! Then one long list, twice as long, and four times. At last, the goals; one that is missed is a failure.
//!
//! `cargo bench --package jackfield --bench routing [-- large|small] [exact|mixed|substring] [NUMBER]`

mod events;
mod goals;
mod lists;
mod rules;

use std::{
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use cap::Cap;
use events::Size;
use goals::{Figures, Found};
use jackfield::router::{Pattern, Table, View};
use jackfield_stage::marks::Marks;
use quamina::Quamina;
use rules::Kind;
use serde::de::IgnoredAny;

/// The binary's allocator, counting.
#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let mut marks = Marks::default();
    let work = measure(&asked, &mut marks);
    marks.end(work)
}

fn measure(asked: &[String], marks: &mut Marks) -> anyhow::Result<()> {
    let is_asked = |names: &[String], name: &str| {
        !asked.iter().any(|word| names.contains(word)) || asked.iter().any(|word| word == name)
    };
    let name = |thing: &dyn std::fmt::Debug| format!("{thing:?}").to_lowercase();
    let sizes = Size::ALL.map(|size| name(&size));
    let kinds = Kind::ALL.map(|kind| name(&kind));
    let counts = COUNTS.map(|count| count.to_string());
    println!(
        "{:<6} {:<10} {:>7} {:>9} {:>9} {:>6} {:>11} {:>10} {:>9} {:>9} {:>7} {:>8}",
        "events",
        "rules",
        "number",
        "strict",
        "matcher",
        "share",
        "one by one",
        "quamina",
        "reading",
        "building",
        "memory",
        "matches"
    );
    let mut found = Found::default();
    for (size, size_name) in Size::ALL.iter().zip(&sizes) {
        let events = size.events()?;
        for (kind, kind_name) in Kind::ALL.iter().zip(&kinds) {
            for (count, count_name) in COUNTS.iter().zip(&counts) {
                if is_asked(&sizes, size_name) && is_asked(&kinds, kind_name) && is_asked(&counts, count_name)
                {
                    print!("{size_name:<6} {kind_name:<10} {count:>7} ");
                    found.add(*size, *kind, *count, line(&events, &kind.rules(*size, *count))?);
                }
            }
        }
    }
    found.hold_to(marks);
    lists::measure(marks)
}

/// Measures events against rules.
fn line(events: &[Vec<u8>], rules: &[String]) -> anyhow::Result<Figures> {
    let (mut reading, mut building) = (Duration::MAX, Duration::MAX);
    for _ in 0..BUILDS {
        let began = Instant::now();
        let patterns = read(rules)?;
        reading = reading.min(began.elapsed());
        let began = Instant::now();
        let table = Table::compile(patterns);
        building = building.min(began.elapsed());
        drop(table);
    }
    let before = ALLOCATOR.allocated();
    let table = Table::compile(read(rules)?);
    let memory = (ALLOCATOR.allocated() - before) / rules.len();
    let quamina = quamina(rules)?;
    let mut matches = 0;
    for event in events {
        let found = found(&table, event)?;
        let mut expected = Vec::new();
        table.matches_one_by_one(&View::whole(event), &mut expected)?;
        anyhow::ensure!(
            found == expected,
            "the index finds {found:?}, one by one {expected:?}"
        );
        if let Some(quamina) = &quamina {
            let mut others = quamina.matches_for_event(event)?;
            others.sort_unstable();
            anyhow::ensure!(found == others, "the index finds {found:?}, quamina {others:?}");
        }
        matches += found.len();
    }
    let mut matched = Vec::new();
    let few = &events[..events.len().min(20)];
    let [strict, matcher, one_by_one, peer] = medians([
        &mut || each(events, parse),
        &mut || {
            each(events, |event| {
                matched.clear();
                table.matches(&View::whole(event), &mut matched)?;
                black_box(&matched);
                Ok(())
            })
        },
        &mut || {
            each(few, |event| {
                let mut matched = Vec::new();
                table.matches_one_by_one(&View::whole(event), &mut matched)?;
                black_box(&matched);
                Ok(())
            })
        },
        &mut || match &quamina {
            None => Ok(f64::NAN),
            Some(quamina) => each(events, |event| {
                black_box(quamina.matches_for_event(event)?);
                Ok(())
            }),
        },
    ])?;
    println!(
        "{strict:>6.2} µs {matcher:>6.2} µs {:>4.0} % {one_by_one:>8.1} µs {:>10} {:>6.1} ms {:>6.1} ms {memory:>5} B {:>8.2}",
        strict / matcher * 100.0,
        quamina.map_or_else(|| "-".to_owned(), |_| format!("{peer:.2} µs")),
        reading.as_secs_f64() * 1e3,
        building.as_secs_f64() * 1e3,
        matches as f64 / events.len() as f64,
    );
    Ok(Figures {
        strict,
        matcher,
        built: (reading + building).as_secs_f64(),
        memory: memory as f64,
    })
}

/// The same rules in the other matcher, where it survives them.
fn quamina(rules: &[String]) -> anyhow::Result<Option<Quamina<usize>>> {
    if rules.len() > SURVIVED {
        return Ok(None);
    }
    let mut quamina = Quamina::new();
    for (number, rule) in rules.iter().enumerate() {
        quamina.add_pattern(number, rule)?;
    }
    Ok(Some(quamina))
}

fn read(rules: &[String]) -> anyhow::Result<Vec<Pattern>> {
    let patterns = rules.iter().map(|rule| Pattern::from_json("rule", rule));
    Ok(patterns.collect::<Result<_, _>>()?)
}

fn parse(event: &[u8]) -> anyhow::Result<()> {
    black_box(serde_json::from_slice::<IgnoredAny>(black_box(event))?);
    Ok(())
}

fn found(table: &Table, event: &[u8]) -> anyhow::Result<Vec<usize>> {
    let mut matched = Vec::new();
    table.matches(&View::whole(event), &mut matched)?;
    Ok(matched)
}

/// How many microseconds the work takes for each event.
fn each(events: &[Vec<u8>], mut work: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut times = 0;
    while times == 0 || began.elapsed() < ROUND {
        for event in events {
            work(event)?;
        }
        times += events.len();
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / times as f64)
}

/// Does each kind of work in turn, and again; gives the median time of each.
fn medians<const N: usize>(
    mut works: [&mut dyn FnMut() -> anyhow::Result<f64>; N],
) -> anyhow::Result<[f64; N]> {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (work, times) in works.iter_mut().zip(&mut times) {
            times.push(work()?);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}

const COUNTS: [u32; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
/// How often each table is built.
const BUILDS: usize = 3;
/// How many rules of any kind quamina is held against.
const SURVIVED: usize = 1_000;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(15);
