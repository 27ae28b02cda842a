//! What goes wrong, one thing after the other, as a seed has it; and each time that it is over, the router has to be well again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::atomic::Ordering,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use hyper::{HeaderMap, Method};
use jackfield_stage::{change, http, router::Signal};
use rustix::io::Errno;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    master::{Master, Weather},
    senders::Counted,
    site::{Site, rules},
};

/// A kind of misfortune.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Misfortune {
    /// SIGKILL, wherever the router stands.
    Kill,
    /// SIGTERM, and a new start.
    Stop,
    /// The process stands still, as on a machine that sleeps.
    Freeze,
    /// The rules are replaced, now and then by faulty ones.
    Rules,
    /// The plugin's file is replaced, now and then by what is none.
    Plugin,
    /// Puppets are told to fail much more often, or not any more.
    Weather,
    /// The file system has no room left.
    Full,
    /// The router finds it read-only when it starts.
    ReadOnlyStart,
    /// It turns read-only under the router.
    ReadOnly,
    /// Writes fail for want of room.
    NoSpace,
    /// Writes fail.
    Writes,
    /// Syncs fail.
    Syncs,
    /// Syncs take long.
    Slow,
    /// The wall clock jumps.
    Clock,
    /// Somebody replays what is dead.
    Replay,
    /// Somebody cancels what is owed.
    Cancel,
}

impl Misfortune {
    pub(crate) const ALL: [Self; 16] = [
        // First, while there is no log of some megabytes in which there is room yet.
        Self::Full,
        Self::Kill,
        Self::Stop,
        Self::Freeze,
        Self::Rules,
        Self::Plugin,
        Self::Weather,
        Self::ReadOnlyStart,
        Self::ReadOnly,
        Self::NoSpace,
        Self::Writes,
        Self::Syncs,
        Self::Slow,
        Self::Clock,
        Self::Replay,
        Self::Cancel,
    ];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Stop => "stopped and started",
            Self::Freeze => "stood still",
            Self::Rules => "rules replaced",
            Self::Plugin => "plugin replaced",
            Self::Weather => "turn of the puppets' temper",
            Self::Full => "disk full",
            Self::ReadOnlyStart => "started on a read-only disk",
            Self::ReadOnly => "disk turned read-only",
            Self::NoSpace => "writes without space",
            Self::Writes => "writes failed",
            Self::Syncs => "syncs failed",
            Self::Slow => "syncs slow",
            Self::Clock => "clock jumped",
            Self::Replay => "dead letters replayed",
            Self::Cancel => "deliveries canceled",
        }
    }
}

/// What befell the router.
#[derive(Debug, Default)]
pub(crate) struct Befallen {
    pub(crate) counts: BTreeMap<Misfortune, u64>,
    /// How often it was killed, in the midst of another misfortune as well.
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) rules_taken: u64,
    pub(crate) rules_refused: u64,
    pub(crate) plugins_taken: u64,
    pub(crate) plugins_refused: u64,
    pub(crate) replays: u64,
    /// Deliveries that somebody wanted canceled, in time or not.
    pub(crate) canceled: BTreeSet<String>,
}

/// Brings it about.
pub(crate) struct Fate<'s> {
    site: &'s mut Site,
    master: &'s Master,
    counted: &'s Counted,
    random: Rng,
    befallen: Befallen,
    set: u64,
    /// How far the clock is ahead, and how far it has been at most.
    ahead: i64,
    furthest: i64,
    stormy: bool,
}

impl<'s> Fate<'s> {
    pub(crate) fn new(site: &'s mut Site, master: &'s Master, counted: &'s Counted, random: Rng) -> Self {
        Self {
            site,
            master,
            counted,
            random,
            befallen: Befallen::default(),
            set: 0,
            ahead: 0,
            furthest: 0,
            stormy: false,
        }
    }

    /// Each of them once, in any order and however long that takes, and then whatever comes, until `end`. Then all is well again.
    pub(crate) async fn run(mut self, end: Instant, say: bool) -> anyhow::Result<Befallen> {
        let mut first = Misfortune::ALL[1..].to_vec();
        self.random.shuffle(&mut first);
        first.push(Misfortune::Full);
        while !first.is_empty() || Instant::now() < end {
            let next = match first.pop() {
                Some(next) => next,
                // Kills are what most is about.
                None if self.random.u8(0..4) == 0 => Misfortune::Kill,
                None => self.random.choice(Misfortune::ALL).context("there are some")?,
            };
            self.rest(100..1200).await;
            if say {
                println!("    {}", next.words());
            }
            self.befall(next).await.with_context(|| next.words())?;
        }
        self.site.faults.shift_clock(self.furthest)?;
        // A plugin that goes on crashing is given rests, and the lines before it take theirs.
        self.master.weather(Weather::FAIR);
        Ok(self.befallen)
    }

    async fn befall(&mut self, misfortune: Misfortune) -> anyhow::Result<()> {
        let faults = self.site.faults.clone();
        match misfortune {
            Misfortune::Kill => self.kill().await?,
            Misfortune::Stop => self.stop().await?,
            Misfortune::Freeze => {
                self.site.router.signal(Signal::STOP)?;
                self.rest(200..3000).await;
                self.site.router.signal(Signal::CONT)?;
            }
            Misfortune::Rules => self.rules().await?,
            Misfortune::Plugin => self.plugin().await?,
            Misfortune::Weather => {
                self.stormy = !self.stormy;
                self.master.weather(if self.stormy {
                    Weather::STORM
                } else {
                    Weather::CALM
                });
            }
            Misfortune::Full => match &self.site.volume {
                Ok(volume) => {
                    let ballast = volume.fill()?;
                    self.until_refused(Duration::from_secs(3)).await;
                    self.maybe_die().await?;
                    drop(ballast);
                    self.alive_again().await?;
                }
                Err(_) => return Ok(()),
            },
            Misfortune::ReadOnlyStart => {
                if self.site.volume.is_err() {
                    return Ok(());
                }
                self.read_only_start().await?;
            }
            Misfortune::ReadOnly => {
                faults.fail_writes(Some(Errno::ROFS))?;
                faults.fail_opens(Some(Errno::ROFS))?;
                self.endure().await?;
                faults.fail_opens(None)?;
                faults.fail_writes(None)?;
                self.alive_again().await?;
            }
            Misfortune::NoSpace | Misfortune::Writes => {
                let error = if misfortune == Misfortune::Writes {
                    Errno::IO
                } else {
                    Errno::NOSPC
                };
                faults.fail_writes(Some(error))?;
                self.endure().await?;
                faults.fail_writes(None)?;
                self.alive_again().await?;
            }
            Misfortune::Syncs => {
                faults.fail_syncs(Some(Errno::IO))?;
                self.endure().await?;
                faults.fail_syncs(None)?;
                self.alive_again().await?;
            }
            Misfortune::Slow => {
                faults.delay_syncs(Duration::from_millis(self.random.u64(20..400)))?;
                self.endure().await?;
                faults.delay_syncs(Duration::ZERO)?;
                self.alive_again().await?;
            }
            Misfortune::Clock => {
                // Mostly some seconds, as a service that sets clocks does; now and then an hour.
                let far = if self.random.u8(0..4) == 0 {
                    3_600_000
                } else {
                    20_000
                };
                self.ahead += self.random.i64(-far / 4..far);
                self.furthest = self.furthest.max(self.ahead);
                faults.shift_clock(self.ahead)?;
            }
            Misfortune::Replay => {
                let keys = if self.random.bool() { "keep" } else { "renew" };
                for delivery in self.some(&["dead"], 5).await? {
                    // Another look at it may find it replayed already, which is as good as any.
                    let replay = ["replay", &delivery, "--keys", keys];
                    let replayed = self.site.router.attempt(&replay).await?;
                    self.befallen.replays += u64::from(replayed.status.success());
                }
            }
            Misfortune::Cancel => {
                for delivery in self.some(&["pending", "waiting", "running"], 3).await? {
                    // What has settled meanwhile is not canceled.
                    self.site
                        .router
                        .attempt(&["deliveries", "cancel", &delivery])
                        .await?;
                    self.befallen.canceled.insert(delivery);
                }
            }
        }
        *self.befallen.counts.entry(misfortune).or_default() += 1;
        Ok(())
    }

    /// A while of it, in which the router may be killed as well.
    async fn endure(&mut self) -> anyhow::Result<()> {
        self.rest(300..2500).await;
        self.maybe_die().await
    }

    async fn maybe_die(&mut self) -> anyhow::Result<()> {
        if self.random.u8(0..4) == 0 {
            self.site.router.kill().await?;
            self.master.next_life();
            self.befallen.kills += 1;
        }
        Ok(())
    }

    /// Waits until the router is ready, and starts it where it is no more.
    async fn alive_again(&mut self) -> anyhow::Result<()> {
        if self.site.router.process().is_none() {
            return self.site.router.start().await;
        }
        let patience = Instant::now() + RECOVERY;
        let mut said = "it does not answer".to_owned();
        while Instant::now() < patience {
            let address = self.site.router.admin();
            match http::send(address, Method::GET, "/readyz", &HeaderMap::new(), "").await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => said = answer.body,
                Err(error) => said = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the router is not ready {RECOVERY:?} after it was over: {said}")
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        self.site.router.kill().await?;
        self.master.next_life();
        self.befallen.kills += 1;
        self.rest(0..400).await;
        if self.random.u8(0..5) == 0 {
            // Once more, while it starts: it is not ready yet, or only just.
            let patience = Duration::from_millis(self.random.u64(5..150));
            let started = tokio::time::timeout(patience, self.site.router.start()).await;
            if let Ok(started) = started {
                started?;
            }
            self.site.router.kill().await?;
            self.master.next_life();
            self.befallen.kills += 1;
        }
        self.site.router.start().await
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.site.router.stop().await?;
        self.master.next_life();
        self.befallen.stops += 1;
        self.site.router.start().await
    }

    async fn read_only_start(&mut self) -> anyhow::Result<()> {
        self.site.router.stop().await?;
        self.master.next_life();
        self.befallen.stops += 1;
        let volume = self
            .site
            .volume
            .as_ref()
            .map_err(|why| anyhow::anyhow!("{why}"))?;
        volume.read_only(true)?;
        let started = self.site.router.start().await;
        volume.read_only(false)?;
        match started {
            Ok(()) => bail!("the router started on a read-only disk"),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(
                    error.contains("ead-only file system"),
                    "the router does not say why it did not start: {error}"
                );
            }
        }
        self.site.router.start().await
    }

    async fn rules(&mut self) -> anyhow::Result<()> {
        self.set += 1;
        let mut text = rules(self.set);
        let faulty = self.random.u8(0..4) == 0;
        if faulty {
            text = text.replacen("use = \"puppet\"", "use = \"nobody\"", 1);
        }
        let refused = change::rules(&self.site.router, &text, self.random.bool()).await?;
        ensure!(
            refused.is_some() == faulty,
            "rules (faulty: {faulty}) were refused: {refused:?}"
        );
        match refused {
            None => self.befallen.rules_taken += 1,
            Some(_) => {
                self.befallen.rules_refused += 1;
                // A start would refuse them as well.
                self.set += 1;
                let text = rules(self.set);
                let refused = change::rules(&self.site.router, &text, false).await?;
                ensure!(refused.is_none(), "good rules were refused: {refused:?}");
                self.befallen.rules_taken += 1;
            }
        }
        Ok(())
    }

    async fn plugin(&mut self) -> anyhow::Result<()> {
        let good = fs::read(&self.site.library)?;
        // What follows the end of a library is nothing to it, but makes it another one.
        let another = |number: u64| [&good[..], &number.to_le_bytes()].concat();
        let (number, library) = (self.random.u64(..), self.site.library.clone());
        if self.random.u8(0..4) == 0 {
            let half = [&good[..good.len() / 2], &number.to_le_bytes()].concat();
            let refused = change::library(&self.site.router, &library, &half).await?;
            ensure!(refused.is_some(), "half a library was taken up");
            self.befallen.plugins_refused += 1;
        }
        let refused = change::library(&self.site.router, &library, &another(number)).await?;
        ensure!(refused.is_none(), "a good library was refused: {refused:?}");
        self.befallen.plugins_taken += 1;
        Ok(())
    }

    /// Any deliveries in one of these states, so many at most.
    async fn some(&mut self, states: &[&str], most: usize) -> anyhow::Result<Vec<String>> {
        let asked = states.iter().flat_map(|state| ["--state", state]);
        let command: Vec<_> = ["deliveries", "list"].into_iter().chain(asked).collect();
        let listed = self.site.router.ask(&command).await?;
        let listed = listed.as_array().context("a list of deliveries")?;
        let id = |delivery: &Value| delivery["id"].as_str().unwrap_or_default().to_owned();
        let mut ids: Vec<_> = listed.iter().map(id).collect();
        self.random.shuffle(&mut ids);
        ids.truncate(most);
        Ok(ids)
    }

    /// Waits until an answer is a refusal, or so long.
    async fn until_refused(&self, patience: Duration) {
        let before = self.counted.refused.load(Ordering::Relaxed);
        let end = Instant::now() + patience;
        while self.counted.refused.load(Ordering::Relaxed) == before && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn rest(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(milliseconds))).await;
    }
}

/// How long the router may take to be ready when a misfortune is over.
const RECOVERY: Duration = Duration::from_secs(20);
