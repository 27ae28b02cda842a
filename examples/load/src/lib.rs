//! Thousands of signed events, the router killed among them, and an oracle outside of it. See `README.md`.
//!
//! [`run`] does it, and what was seen comes out as a [`Run`], which can be [told](Run::tell). Kills, and replacements of
//! the plugin and of the rules, come when so many requests are acknowledged, never by time.

mod counter;
mod reload;
mod replacement;
mod report;
mod retention;

use std::{collections::HashMap, fs, num::NonZeroU32, time::Duration};

use anyhow::{Context as _, ensure};
use jackfield::{
    clock::{Clock as _, SystemClock},
    provider::{self, Options},
    secret::Secret,
};
use jackfield_stage::{
    cargo::Built,
    load::{self, Amount, Progress, Tally, Template},
    router::{Memory, Router},
    zeplin,
};

use counter::{Counter, Counts};
use reload::Reloaded;
use replacement::Replaced;
use retention::Retained;

/// The packages whose files a run needs.
pub const PACKAGES: [&str; 2] = ["jackfield", "counting-plugin"];

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many events are posted.
    pub events: u64,
    /// Over how many connections.
    pub connections: usize,
    /// How often the router is killed.
    pub kills: u64,
    /// How often the plugin's file is replaced, by good and by bad ones in turn. Not together with kills.
    pub replacements: u64,
    /// How often the rules are replaced, every fourth time by faulty ones. With neither of the two.
    pub reloads: u64,
    /// How many rules there are then; two of them match.
    pub rules: u64,
    /// Whether half of it is removed by retention while the rest is posted. With none of the three.
    pub retention: bool,
    /// How many events are posted each second; as many as the router takes where nothing is said.
    pub rate: Option<NonZeroU32>,
}

/// What was seen.
#[derive(Debug)]
pub struct Run {
    plan: Plan,
    tally: Tally,
    /// How often the plugin reported each event.
    delivered: HashMap<String, u64>,
    /// Before the first request.
    idle: Memory,
    /// At the end of each life.
    lives: Vec<Memory>,
    /// What became of the files that were to replace the plugin.
    replaced: Replaced,
    /// What became of rules that were to replace others.
    reloaded: Reloaded,
    /// What retention did, where it was to.
    retained: Option<Retained>,
}

impl Plan {
    /// How many deliveries each event owes.
    fn owed(&self) -> u64 {
        match self.reloads {
            0 => 1,
            _ => 2,
        }
    }

    /// So many events, at the rate that is planned.
    fn amount(&self, events: u64) -> Amount {
        match self.rate {
            Some(rate) => Amount::Paced(events, Duration::from_secs(1) / rate.get()),
            None => Amount::Count(events),
        }
    }
}

/// Carries out `plan` with the router and the plugin in `built`.
///
/// # Errors
///
/// Where the router does not start, a request is not acknowledged within a minute, or deliveries do not settle.
pub async fn run(built: &Built, plan: Plan) -> anyhow::Result<Run> {
    ensure!(
        plan.events > 0 && plan.connections > 0,
        "a load has at least one event and one connection"
    );
    ensure!(
        plan.kills < plan.events,
        "between {} kills there is no room for {} events",
        plan.kills,
        plan.events
    );
    ensure!(
        plan.kills == 0 || plan.replacements == 0,
        "a plugin is replaced under a router that lives: without kills"
    );
    ensure!(
        plan.reloads == 0 || plan.kills + plan.replacements == 0,
        "rules are replaced alone: without kills and replacements of the plugin"
    );
    ensure!(
        plan.reloads == 0 || plan.rules >= 2,
        "two rules match every event"
    );
    ensure!(
        !plan.retention || plan.kills + plan.replacements + plan.reloads == 0,
        "retention works alone: without kills and replacements"
    );
    let home = tempfile::Builder::new().prefix("jackfield-load-").tempdir()?;
    let counter = Counter::start().await?;
    let mut router = Router::prepare(
        &built.binary("jackfield")?,
        home.path(),
        &[built.library("counting-plugin")?],
    )?;
    router.set("ZEPLIN_SECRET", SECRET);
    let rules = match plan.reloads {
        0 => ROUTES.to_owned(),
        _ => reload::rules(0, plan.rules),
    };
    let mut configuration = CONFIGURATION.replace("{counter}", &counter.address().to_string());
    if plan.retention {
        // What redeliveries are told by is not removed before its time, whatever the limits are.
        configuration = configuration.replace("[[instance]]", "dedup_window = \"1ms\"\n\n[[instance]]");
    }
    if plan.replacements > 0 {
        // What follows goes on with `[plugins]`.
        configuration = format!("lock = \"{}\"\n{configuration}", replacement::LOCK);
        replacement::lock(&router, &fs::read(built.library("counting-plugin")?)?).await?;
    }
    router.configure(&configuration, &rules)?;
    router.start().await?;
    let idle = router.memory()?;

    let progress = Progress::default();
    let template = template()?;
    let (mut lives, mut replaced, mut reloaded) = <(Vec<_>, Replaced, Reloaded)>::default();
    let mut retained = None;
    let tally = if plan.retention {
        let (tally, seen) =
            retention::run(&mut router, &configuration, &rules, &template, plan, &progress).await?;
        retained = Some(seen);
        tally
    } else if plan.reloads > 0 {
        let (tally, seen) = reload::run(&router, &template, plan, &progress).await?;
        reloaded = seen;
        tally
    } else {
        let sending = load::run(
            router.ingress(),
            &template,
            "load",
            plan.connections,
            plan.amount(plan.events),
            &progress,
        );
        let meanwhile = async {
            lives = kills(&mut router, plan, &progress).await?;
            let library = built.library("counting-plugin")?;
            replaced = replacement::replacements(&router, &library, plan, &progress).await?;
            Ok(())
        };
        tokio::try_join!(sending, meanwhile)?.0
    };
    router.settled(PATIENCE).await?;
    replaced.workers = replacement::workers_at_the_end(&router).await?;
    lives.push(router.memory()?);
    router.stop().await?;
    if plan.reloads > 0 {
        reload::decisions(&router, &mut reloaded).await?;
    }
    // The plugin is gone, and with it the last connection: what it reported lies here.
    let Counts {
        events: delivered,
        stamps,
    } = counter.finish().await?;
    replaced.handled = stamps;
    Ok(Run {
        plan,
        tally,
        delivered,
        idle,
        lives,
        replaced,
        reloaded,
        retained,
    })
}

/// Kills the router and starts it again, at equal distances of the load; gives the memory of each life that ended.
async fn kills(router: &mut Router, plan: Plan, progress: &Progress) -> anyhow::Result<Vec<Memory>> {
    let mut lives = Vec::new();
    for kill in 1..=plan.kills {
        progress.reaches(plan.events * kill / (plan.kills + 1)).await;
        lives.push(router.memory()?);
        router.kill().await?;
        progress.died();
        router
            .start()
            .await
            .with_context(|| format!("starting the router after kill {kill}"))?;
    }
    Ok(lives)
}

/// A signed request for a new version of a screen, of 3 KB.
fn template() -> anyhow::Result<Template> {
    let options = Options {
        provider: "zeplin".into(),
        secrets: vec![Secret::new(SECRET)],
        ..Options::default()
    };
    let body = zeplin::screen_version_of_3_kb();
    let signed = provider::sign(&options, &body, SystemClock.now(), "0")?;
    Ok(Template::post(
        &signed.path("screens"),
        &signed.headers,
        "zeplin-delivery-id",
        &body,
    ))
}

const SECRET: &str = "load-secret";
const PATIENCE: Duration = Duration::from_secs(300);
const CONFIGURATION: &str = r#"
[[source]]
name = "screens"
provider = "zeplin"
secrets = [{ env = "ZEPLIN_SECRET" }]

[[instance]]
name = "counting-plugin"
concurrency = 64
grant.network = ["{counter}"]
config = { report_to = "{counter}" }
"#;
const ROUTES: &str = r#"
[[route]]
name = "count"
when.type = ["io.zeplin.project.screen.version.created"]

[[route.step]]
use = "counting-plugin"
retry = { first = "50ms" }
"#;
