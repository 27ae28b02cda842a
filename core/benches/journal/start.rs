//! How long the router takes to be ready, with a long history and much that is owed.

use std::{fs::File, path::Path, time::Duration};

use anyhow::Context as _;
use jackfield_stage::{
    marks::Marks,
    router::{Memory, Router},
};
use rustix::fs::{Advice, fadvise};
use tokio::time::Instant;

use crate::work::median;

/// How many deliveries are owed at a start.
pub(crate) const OWED: usize = 100_000;
const READY_MARK: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

/// How the router before was left.
#[derive(Clone, Copy)]
enum Before {
    Stopped,
    /// And since then, the kernel has forgotten what the journal holds.
    Forgotten,
    /// In the midst of work, so that there is a log to read.
    Killed,
}

impl Before {
    const ALL: [Self; 3] = [Self::Stopped, Self::Forgotten, Self::Killed];

    fn title(self) -> &'static str {
        match self {
            Self::Stopped => "after a clean end",
            Self::Forgotten => "and with nothing of the journal in the page cache",
            Self::Killed => "after SIGKILL in the midst of work",
        }
    }
}

/// Starts the real router on the journals in these homes, again and again.
pub(crate) async fn measure(empty: &Path, full: &Path, stored: u64, marks: &mut Marks) -> anyhow::Result<()> {
    let mut homes = [empty, full]
        .map(|home| router(home, "# There are none.\n"))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    println!("\nA start with {stored} events, of which {OWED} deliveries are owed; medians of {ROUNDS}");
    for before in Before::ALL {
        let mut times = [const { Vec::new() }; 2];
        let (mut read, mut peak) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (home, times) in homes.iter_mut().zip(&mut times) {
                let seen = one(home, before).await?;
                times.push(seen.ready.as_secs_f64() * 1e3);
                read.push(seen.read);
                peak.push(seen.memory.peak);
            }
        }
        let [quick, slow] = times.map(median);
        println!(
            "  {:<50} ready in {slow:.0} ms, an empty journal's in {quick:.0} ms: {:.1} times; {:.1} MB read from the disk, \
             {:.1} MiB of memory at most",
            before.title(),
            slow / quick,
            read.into_iter().fold(0.0, f64::max) / 1e6,
            peak.into_iter().max().unwrap_or(0) as f64 / f64::from(1 << 20),
        );
        marks.at_most(
            format!("ready {}", before.title()),
            slow,
            READY_MARK.as_secs_f64() * 1e3,
            "ms",
        );
    }
    Ok(())
}

/// What a start showed.
struct Seen {
    ready: Duration,
    /// Bytes that the disk was asked for.
    read: f64,
    memory: Memory,
}

async fn one(router: &mut Router, before: Before) -> anyhow::Result<Seen> {
    match before {
        Before::Stopped => {}
        Before::Forgotten => forget(&router.home().join("data/journal.db"))?,
        Before::Killed => {
            router.start().await?;
            tokio::time::sleep(WORK).await;
            router.kill().await?;
        }
    }
    let begun = Instant::now();
    router.start().await?;
    let ready = begun.elapsed();
    let process = router.process().context("the router runs")?;
    let seen = Seen {
        ready,
        read: crate::counter(&format!("/proc/{process}/io"), "read_bytes:")?,
        memory: router.memory()?,
    };
    router.stop().await?;
    Ok(seen)
}

/// A router with these rules. What is owed already is, by the rules in the journal, to an instance that there is not.
pub(crate) fn router(home: &Path, rules: &str) -> anyhow::Result<Router> {
    let mut router = Router::prepare(Path::new(env!("CARGO_BIN_EXE_jackfield")), home, &[])?;
    router.set("ZEPLIN_SECRET", "a secret");
    router.configure(SOURCE, rules)?;
    Ok(router)
}

/// Has the kernel drop what it keeps of a file that nobody has open.
fn forget(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed).context("having the page cache forget the journal")
}

const SOURCE: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]
"#;
/// How long the router that is killed had been at work.
const WORK: Duration = Duration::from_secs(1);
