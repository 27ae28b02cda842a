//! Retention at work under load: so much more is stored than may be that pruning goes on and on, while events are posted as before.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use hyper::{HeaderMap, Method};
use jackfield_stage::{
    http,
    load::{self, Amount, Progress, Tally, Template},
    router::Router,
};

use crate::{PATIENCE, Plan};

/// What retention did, and what it did to those who posted.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    /// How many payloads, events and outcomes went, all together.
    pub(crate) pruned: u64,
    /// By how many bytes the database became shorter.
    pub(crate) given_back: u64,
    /// What 99 in 100 requests did not exceed while there was nothing to prune, before and after.
    pub(crate) quiet: [Duration; 2],
    /// What they did not exceed while there was.
    pub(crate) busy: Duration,
}

/// Posts the load: half of it as a stock, as fast as the router takes it; a sixth while all of it is kept; another while
/// retention is at work, and on until it has done its work; and the last when all is kept again. Each begins with a start of
/// the router, so that they have that in common.
pub(crate) async fn run(
    router: &mut Router,
    configuration: &str,
    routes: &str,
    template: &Template,
    plan: Plan,
    progress: &Progress,
) -> anyhow::Result<(Tally, Retained)> {
    let sixth = plan.events / 6;
    let mut site = Site {
        router,
        template,
        plan,
        progress,
        posts: 0,
    };
    let mut tally = site.post(Amount::Count(plan.events - 3 * sixth)).await?;
    let mut retained = Retained::default();
    // So few that what goes leaves pages to give back, and so many that it comes to an end.
    let few = format!("\n[retention]\nmax_events = {}\n", sixth.max(1000));
    for (number, limits) in ["", &few, ""].into_iter().enumerate() {
        site.router.settled(PATIENCE).await?;
        site.router.stop().await?;
        site.router
            .configure(&format!("{configuration}{limits}"), routes)?;
        site.router.start().await?;
        let mut part = match limits {
            "" => site.post(plan.amount(sixth)).await?,
            _ => site.while_pruned(sixth, &mut retained).await?,
        };
        let slowest = part.percentile(0.99);
        match number {
            0 => retained.quiet[0] = slowest,
            1 => retained.busy = slowest,
            _ => retained.quiet[1] = slowest,
        }
        tally.elapsed += part.elapsed;
        tally.add(part);
    }
    Ok((tally, retained))
}

struct Site<'a> {
    router: &'a mut Router,
    template: &'a Template,
    plan: Plan,
    progress: &'a Progress,
    /// How often something was posted: events have names of their own each time.
    posts: u64,
}

impl Site<'_> {
    async fn post(&mut self, amount: Amount) -> anyhow::Result<Tally> {
        self.posts += 1;
        let name = format!("part-{}", self.posts);
        let (address, connections) = (self.router.ingress(), self.plan.connections);
        load::run(address, self.template, &name, connections, amount, self.progress).await
    }

    /// Posts so many, and on for as long as anything goes or the database becomes shorter; but not for ever, since what is posted
    /// goes as well.
    async fn while_pruned(&mut self, events: u64, retained: &mut Retained) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let first = Standing::of(self.router).await?;
        let mut before = first;
        loop {
            let part = self.post(self.plan.amount(MORE)).await?;
            tally.elapsed += part.elapsed;
            tally.add(part);
            let now = Standing::of(self.router).await?;
            let at_work = now.pruned > before.pruned || now.database < before.database;
            let posted = tally.acknowledged.len() as u64;
            if posted >= events && (!at_work || posted >= events * MOST) {
                retained.pruned = now.pruned;
                retained.given_back = first.database.saturating_sub(now.database);
                return Ok(tally);
            }
            before = now;
        }
    }
}

/// How far retention has come.
#[derive(Clone, Copy, Debug)]
struct Standing {
    pruned: u64,
    database: u64,
}

impl Standing {
    async fn of(router: &Router) -> anyhow::Result<Self> {
        let answer = http::send(router.admin(), Method::GET, "/metrics", &HeaderMap::new(), "").await?;
        ensure!(answer.status == 200, "/metrics answers {}", answer.status);
        let lines = answer.body.lines().filter_map(|line| line.split_once(' '));
        let figures: BTreeMap<_, _> = lines.collect();
        let pruned = figures
            .iter()
            .filter(|(name, _)| name.starts_with("jackfield_pruned_total{"))
            .map(|(_, count)| count.parse::<u64>());
        let database = figures.get("jackfield_journal_bytes{part=\"database\"}");
        Ok(Self {
            pruned: pruned.sum::<Result<_, _>>()?,
            database: database
                .context("/metrics says what the database takes")?
                .parse()?,
        })
    }
}

/// How many events are posted between two looks.
const MORE: u64 = 500;
/// How many times as many events are posted as were to be, at most.
const MOST: u64 = 4;
