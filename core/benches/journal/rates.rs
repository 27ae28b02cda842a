//! Events and deliveries a second, and bytes for each, beside the floor.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    counter,
    floor::Floor,
    work::{BATCH, Desk, Kind, body_of, median, rate},
};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Floor,
    Append,
    Deliver,
}

const SUBJECTS: [Subject; 3] = [Subject::Floor, Subject::Append, Subject::Deliver];
const IN_FLIGHT: [usize; 3] = [1, 64, 256];
const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(2);
const BODY: usize = 3 * 1024;

impl Subject {
    fn title(self) -> &'static str {
        match self {
            Self::Floor => "append to a plain file, grouped fdatasync",
            Self::Append => "durable events, nothing owed",
            Self::Deliver => "full deliveries: commit, claim, begin, end",
        }
    }
}

/// One round: a rate, and the bytes written for each.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    bytes: f64,
}

pub(crate) async fn measure() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    println!("Events with bodies of {BODY} bytes; medians of {ROUNDS} rounds of {LENGTH:?}\n");
    println!(
        "{:>9}  {:<44} {:>9} {:>9} {:>10}",
        "in flight", "", "a second", "of floor", "KB written"
    );
    for in_flight in IN_FLIGHT {
        let mut rounds = SUBJECTS.map(|_| Vec::new());
        for round in 0..ROUNDS {
            for (at, subject) in SUBJECTS.into_iter().enumerate() {
                let home = scratch.path().join(format!("{in_flight}-{round}-{at}"));
                fs::create_dir(&home)?;
                rounds[at].push(one(subject, in_flight, &home).await?);
                fs::remove_dir_all(&home)?;
            }
        }
        let [floor, ..] = &rounds;
        let floor = median(floor.iter().map(|figures| figures.rate).collect());
        for (subject, rounds) in SUBJECTS.into_iter().zip(&rounds) {
            let middle = |part: fn(&Figures) -> f64| median(rounds.iter().map(part).collect());
            let (rate, bytes) = (middle(|figures| figures.rate), middle(|figures| figures.bytes));
            println!(
                "{in_flight:>9}  {:<44} {rate:>9.0} {:>8.0}% {:>10.1}",
                subject.title(),
                100.0 * rate / floor,
                bytes / 1e3
            );
        }
    }
    Ok(())
}

async fn one(subject: Subject, in_flight: usize, home: &Path) -> anyhow::Result<Figures> {
    let written = bytes_written()?;
    let (rate, count) = match subject {
        Subject::Floor => {
            let floor = Floor::open(&home.join("floor"))?;
            under_load(in_flight, move || {
                let floor = floor.clone();
                async move {
                    floor.append(body_of(BODY)).await;
                    anyhow::Ok(())
                }
            })
            .await?
        }
        Subject::Append => {
            let desk = Desk::open(home, BODY).await?;
            under_load(in_flight, move || {
                let desk = desk.clone();
                async move { desk.append(Kind::Nothing).await }
            })
            .await?
        }
        Subject::Deliver => deliver(in_flight, home).await?,
    };
    Ok(Figures {
        rate,
        bytes: (bytes_written()? - written) / count as f64,
    })
}

/// So many do it again and again, each of them one after the other. How many a second, and how many.
async fn under_load<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
    in_flight: usize,
    work: impl Fn() -> F + Clone + Send + 'static,
) -> anyhow::Result<(f64, usize)> {
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let work = work.clone();
        workers.spawn(async move {
            let mut count = 0;
            while begun.elapsed() < LENGTH {
                work().await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = workers.join_next().await {
        count += done??;
    }
    Ok((rate(count, begun), count))
}

/// Events come in while what they owe is carried out, until all is.
async fn deliver(in_flight: usize, home: &Path) -> anyhow::Result<(f64, usize)> {
    let desk = Desk::open(home, BODY).await?;
    let begun = Instant::now();
    let mut dispatching = JoinSet::new();
    // Each goes on as soon as its own are through, as the courses of the dispatcher do.
    for _ in 0..in_flight.div_ceil(BATCH) {
        let dispatcher = desk.clone();
        dispatching.spawn(async move {
            let mut settled = 0;
            while begun.elapsed() < LENGTH {
                let some = dispatcher.carry_out(in_flight.min(BATCH)).await?;
                settled += some;
                if some == 0 {
                    tokio::task::yield_now().await;
                }
            }
            anyhow::Ok(settled)
        });
    }
    let appending = desk.clone();
    let (_, appended) = under_load(in_flight, move || {
        let desk = appending.clone();
        async move { desk.append(Kind::OneDelivery).await }
    })
    .await?;
    let mut settled = 0;
    while let Some(some) = dispatching.join_next().await {
        settled += some??;
    }
    let rest = desk.carry_out(BATCH).await?;
    anyhow::ensure!(
        settled + rest == appended,
        "{settled} and {rest} settled, of {appended}"
    );
    Ok((rate(appended, begun), appended))
}

/// What this process has had written to disk.
fn bytes_written() -> anyhow::Result<f64> {
    counter("/proc/self/io", "write_bytes:")
}
