//! What goes wrong, one thing after the other, as a seed has it; and each time that it is over, the router has to be well again.

mod people;

use std::{collections::BTreeMap, fs, sync::atomic::Ordering, time::Duration};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use hyper::{HeaderMap, Method};
use jackfield::app;
use jackfield_stage::{change, http, router::Signal};
use rustix::io::Errno;
use tokio::time::Instant;

use crate::{
    archive::Archive,
    clock::{Clock, Settings},
    master::{Master, Weather},
    operator::{self, Said},
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
    /// More than an hour has passed while the router was down, and it prunes its journal.
    Age,
    /// Somebody replays what is dead.
    Replay,
    /// Somebody cancels what is owed.
    Cancel,
    /// Somebody deals with what holds up its line or leaves a doubt, and the router may be killed over it.
    Operator,
}

impl Misfortune {
    /// Those that take a file system of its own.
    pub(crate) const OF_A_VOLUME: [Self; 2] = [Self::Full, Self::ReadOnlyStart];

    pub(crate) const ALL: [Self; 18] = [
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
        Self::Age,
        Self::Replay,
        Self::Cancel,
        Self::Operator,
    ];

    /// Whether the router may live on and not hear how calls ended that are under way: their time runs out meanwhile, their end
    /// cannot be written down, or their process is given up for another.
    fn deafens(self) -> bool {
        match self {
            Self::Freeze
            | Self::Plugin
            | Self::Full
            | Self::ReadOnly
            | Self::NoSpace
            | Self::Writes
            | Self::Syncs
            | Self::Slow => true,
            Self::Kill
            | Self::Stop
            | Self::Rules
            | Self::Weather
            | Self::ReadOnlyStart
            | Self::Clock
            | Self::Age
            | Self::Replay
            | Self::Cancel
            | Self::Operator => false,
        }
    }

    /// Whether all instances go on meanwhile: neither the router is started nor a plugin replaced.
    fn leaves_puppets_alone(self) -> bool {
        matches!(
            self,
            Self::Freeze | Self::Weather | Self::Clock | Self::Replay | Self::Cancel
        )
    }

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
            Self::Age => "an hour passed and the journal pruned",
            Self::Replay => "dead letters replayed",
            Self::Cancel => "deliveries canceled",
            Self::Operator => "dead letters dealt with",
        }
    }
}

/// What befell the router.
#[derive(Debug, Default)]
pub(crate) struct Befallen {
    pub(crate) counts: BTreeMap<Misfortune, u64>,
    /// How often in each life of the router something may have kept it from hearing how calls ended, but for its own end.
    pub(crate) deafened: BTreeMap<u64, u64>,
    /// How often it was killed, in the midst of another misfortune as well.
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) rules_taken: u64,
    pub(crate) rules_refused: u64,
    pub(crate) plugins_taken: u64,
    pub(crate) plugins_refused: u64,
    /// How often senders were refused while the disk was full.
    pub(crate) without_room: u64,
    /// What people said of dead letters.
    pub(crate) said: Vec<Said>,
    /// Deliveries that somebody wanted canceled, in time or not.
    pub(crate) canceled: BTreeMap<String, Canceled>,
}

/// A delivery that somebody wanted canceled.
#[derive(Clone, Debug)]
pub(crate) struct Canceled {
    pub(crate) route: String,
    pub(crate) events: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) befallen: Befallen,
    pub(crate) archive: Archive,
    pub(crate) clock: Settings,
}

/// Brings it about.
pub(crate) struct Fate<'s> {
    site: &'s mut Site,
    master: &'s Master,
    counted: &'s Counted,
    random: Rng,
    befallen: Befallen,
    archive: Archive,
    clock: Clock,
    set: u64,
    /// How far the clock has been ahead at most.
    furthest: i64,
    stormy: bool,
}

impl<'s> Fate<'s> {
    pub(crate) fn new(site: &'s mut Site, master: &'s Master, counted: &'s Counted, random: Rng) -> Self {
        Self {
            archive: Archive::new(site.data()),
            clock: Clock::new(site.faults.clone()),
            site,
            master,
            counted,
            random,
            befallen: Befallen::default(),
            set: 0,
            furthest: 0,
            stormy: false,
        }
    }

    /// Each of them once, in any order and however long that takes, and then whatever comes, until `end`. Then all is well again.
    pub(crate) async fn run(&mut self, end: Instant, say: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut first = Misfortune::ALL[1..].to_vec();
        self.random.shuffle(&mut first);
        first.push(Misfortune::Full);
        while !first.is_empty() || Instant::now() < end {
            let next = match first.pop() {
                Some(next) => next,
                // Kills are what most is about; and whoever holds a line up is not to do so for long.
                None => match self.random.u8(0..8) {
                    0 | 1 => Misfortune::Kill,
                    2 => Misfortune::Operator,
                    _ => self.random.choice(Misfortune::ALL).context("there are some")?,
                },
            };
            self.rest(100..1200).await;
            if say {
                println!("    {:5} s  {}", began.elapsed().as_secs(), next.words());
            }
            // A process that is made anew meanwhile is one that has crashed, and is tried again.
            self.master.unwilling(next.leaves_puppets_alone());
            self.befall(next).await.with_context(|| next.words())?;
            self.master.unwilling(true);
            if self.archive.is_due() {
                self.archive.look().await?;
            }
        }
        self.set_clock(self.furthest).await?;
        self.master.unwilling(false);
        // A plugin that goes on crashing is given rests, and the lines before it take theirs.
        self.master.weather(Weather::FAIR);
        Ok(())
    }

    /// Waits until nothing is owed any more, and has a person let go of what holds it up.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<()> {
        let (mut patience, mut least) = (Instant::now() + PATIENCE, u64::MAX);
        loop {
            for dead in operator::holding(&self.site.router).await? {
                self.deal_with(&dead).await?;
            }
            let counts = app::history(&self.site.data())?.counts().await?;
            let owed = ["pending", "running", "waiting"].map(|state| counts.deliveries[state]);
            let left = owed.iter().sum();
            if left == 0 && operator::holding(&self.site.router).await?.is_empty() {
                return Ok(());
            }
            if left < least {
                (patience, least) = (Instant::now() + PATIENCE, left);
            }
            if Instant::now() > patience {
                let states = OWED.iter().flat_map(|state| ["--state", state]);
                let command: Vec<_> = ["deliveries", "list"].into_iter().chain(states).collect();
                let some = self.site.router.ask(&command).await?;
                bail!(
                    "{left} deliveries have not settled, and none did for {PATIENCE:?}; some of them: {some:#}"
                );
            }
            if self.archive.is_due() {
                self.archive.look().await?;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops the router, and has a last look at what it leaves.
    pub(crate) async fn end(mut self) -> anyhow::Result<Ended> {
        self.site.router.stop().await?;
        self.archive.close().await?;
        Ok(Ended {
            befallen: self.befallen,
            archive: self.archive,
            clock: self.clock.into_settings(),
        })
    }

    async fn befall(&mut self, misfortune: Misfortune) -> anyhow::Result<()> {
        let faults = self.site.faults.clone();
        if misfortune.deafens() {
            *self.befallen.deafened.entry(self.master.life()).or_default() += 1;
        }
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
                    self.befallen.without_room += self.until_refused(Duration::from_secs(3)).await;
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
                let ahead = self.clock.ahead() + self.random.i64(-far / 4..far);
                self.set_clock(ahead).await?;
            }
            Misfortune::Age => self.age().await?,
            Misfortune::Replay => self.replay().await?,
            Misfortune::Cancel => self.cancel().await?,
            Misfortune::Operator => self.operate().await?,
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

    /// Sets the clock. Where it leaps far, what was settled may be pruned soon.
    async fn set_clock(&mut self, ahead: i64) -> anyhow::Result<()> {
        if ahead - self.clock.ahead() > FAR {
            self.archive.look().await?;
        }
        self.furthest = self.furthest.max(ahead);
        self.clock.set(ahead)
    }

    async fn age(&mut self) -> anyhow::Result<()> {
        self.archive.look().await?;
        self.site.router.kill().await?;
        self.master.next_life();
        self.befallen.kills += 1;
        self.set_clock(self.clock.ahead() + AGE).await?;
        // It prunes when it starts; and now and then it dies over it.
        self.site.router.start().await?;
        self.rest(0..1500).await;
        self.maybe_die().await?;
        self.alive_again().await
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
        let faulty = self.befallen.rules_refused == 0 || self.random.u8(0..4) == 0;
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
        if self.befallen.plugins_refused == 0 || self.random.u8(0..4) == 0 {
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

    /// Waits until an answer is a refusal, or so long; and says how many were.
    async fn until_refused(&self, patience: Duration) -> u64 {
        let before = self.counted.refused.load(Ordering::Relaxed);
        let end = Instant::now() + patience;
        while self.counted.refused.load(Ordering::Relaxed) == before && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.counted.refused.load(Ordering::Relaxed) - before
    }

    async fn rest(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(milliseconds))).await;
    }
}

/// The states of what is not settled.
const OWED: [&str; 3] = ["pending", "running", "waiting"];
/// How long the router may take to be ready when a misfortune is over.
const RECOVERY: Duration = Duration::from_secs(20);
/// How long nothing may settle when nothing goes wrong any more: longer than a plugin rests that kept crashing.
const PATIENCE: Duration = Duration::from_secs(90);
/// A leap of the clock that brings the ages of retention nearer by much, in milliseconds.
const FAR: i64 = 600_000;
/// A little more than what retention keeps everything for, in milliseconds.
const AGE: i64 = 65 * 60 * 1000;
