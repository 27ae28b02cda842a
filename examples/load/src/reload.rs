//! The rules replaced under load: every fourth set is one that the router must refuse.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use anyhow::Context as _;
use jackfield::{
    app,
    journal::{EventFilter, EventRecord},
};
use jackfield_stage::{
    change,
    load::{self, Progress, Tally, Template},
    router::Router,
};

use crate::{Plan, ROUTES};

/// What became of the rules that were to replace others.
#[derive(Debug, Default)]
pub(crate) struct Reloaded {
    /// How many were taken up.
    pub(crate) taken: u64,
    /// Why the others were not.
    pub(crate) refused: Vec<String>,
    /// How many sets of rules have decided about events.
    pub(crate) sets: usize,
    /// Events of which it is not so that one set, and that alone, decided about them.
    pub(crate) mixed: Vec<String>,
    /// What 99 in 100 requests did not exceed before rules were replaced, and after.
    pub(crate) quiet: [Duration; 2],
    /// What they did not exceed meanwhile.
    pub(crate) busy: Duration,
}

/// So many rules, of which two match every event that is posted, and whose names tell the set.
pub(crate) fn rules(set: u64, count: u64) -> String {
    let mut text = String::new();
    for half in ["first", "second"] {
        text += &ROUTES.replace("count\"", &format!("{half}-{set}\""));
    }
    for number in 2..count {
        let _ = write!(
            text,
            "\n[[route]]\nname = \"idle-{number}-{set}\"\nwhen.type = [\"com.example.service-{number}.changed\"]\n\
             when.data.project.name = [{{ prefix = \"Project {number}\" }}]\n\n[[route.step]]\nuse = \"counting-plugin\"\n"
        );
    }
    text
}

/// Posts the load: a tenth to warm up; a third of the rest while the rules stay, one while they are replaced, and on until the
/// last of them have been; and one when they stay again.
pub(crate) async fn run(
    router: &Router,
    template: &Template,
    plan: Plan,
    progress: &Progress,
) -> anyhow::Result<(Tally, Reloaded)> {
    let post = async |name: &str, events: u64| {
        let (address, amount) = (router.ingress(), plan.amount(events));
        load::run(address, template, name, plan.connections, amount, progress).await
    };
    // Written beforehand: thousands of rules take time that requests would have to wait for.
    let sets = (1..=plan.reloads)
        .map(|set| replacement(set, plan.rules))
        .collect();
    let third = plan.events * 3 / 10;
    let mut tally = post("warm-up", plan.events - 3 * third).await?;
    let mut before = post("before", third).await?;
    let replacing = replace(router, sets, third / (plan.reloads + 1), progress);
    let mut replacing = std::pin::pin!(replacing);
    let mut reloaded = None;
    let mut busy = Tally::default();
    while reloaded.is_none() {
        let (name, events) = match busy.acknowledged.len() {
            0 => ("busy".to_owned(), third),
            more => (format!("busy-{more}"), MORE),
        };
        let posting = post(&name, events);
        let mut posting = std::pin::pin!(posting);
        let posted = tokio::select! {
            posted = &mut posting => posted?,
            replaced = &mut replacing => {
                reloaded = Some(replaced?);
                posting.await?
            }
        };
        busy.elapsed += posted.elapsed;
        busy.add(posted);
    }
    let mut reloaded = reloaded.context("the loop ends with them")?;
    let mut after = post("after", third).await?;
    reloaded.quiet = [&mut before, &mut after].map(|part| part.percentile(0.99));
    reloaded.busy = busy.percentile(0.99);
    for part in [before, busy, after] {
        tally.elapsed += part.elapsed;
        tally.add(part);
    }
    Ok((tally, reloaded))
}

/// What is to be put in the place of other rules.
fn replacement(set: u64, count: u64) -> String {
    let text = rules(set, count);
    match set % 4 {
        3 => text.replacen("use = \"counting-plugin\"", "use = \"nobody\"", 1),
        _ => text,
    }
}

/// Puts one set of rules after the other in the place of those there are, each after so many more events, and waits each
/// time until the router has taken them up or refused them. Half of them it finds itself, of the others it is told.
async fn replace(
    router: &Router,
    sets: Vec<String>,
    every: u64,
    progress: &Progress,
) -> anyhow::Result<Reloaded> {
    let mut reloaded = Reloaded::default();
    for (text, signal) in sets.into_iter().zip([true, false].into_iter().cycle()) {
        progress.reaches(progress.acknowledged() + every).await;
        match change::rules(router, &text, signal).await? {
            None => reloaded.taken += 1,
            Some(reason) => reloaded.refused.push(reason),
        }
    }
    Ok(reloaded)
}

/// Looks into the journal for what the sets of rules decided: of the router's own view, not of what it then did.
pub(crate) async fn decisions(router: &Router, reloaded: &mut Reloaded) -> anyhow::Result<()> {
    let history = app::history(&router.home().join("data"))?;
    let mut sets = BTreeMap::new();
    let mut before = None;
    loop {
        let filter = EventFilter {
            before,
            limit: PAGE,
            ..EventFilter::default()
        };
        let events = history.events(filter).await?;
        let Some(last) = events.last() else { break };
        before = Some(last.id);
        for event in events {
            let set = set_of(&event);
            // One generation is one set of rules, and the other way round.
            if set.is_none()
                || *sets
                    .entry(event.generation.clone())
                    .or_insert_with(|| set.clone())
                    != set
            {
                reloaded
                    .mixed
                    .push(format!("{} by {:?}", event.id, event.deliveries));
            }
        }
    }
    reloaded.sets = sets.into_values().collect::<BTreeSet<_>>().len();
    Ok(())
}

/// The set whose rules the event owes its deliveries to, if it owes each to that one and all that it asks for.
fn set_of(event: &EventRecord) -> Option<String> {
    let [first, second] = &event.deliveries[..] else {
        return None;
    };
    let set = first.route.strip_prefix("first-")?;
    (second.route.strip_prefix("second-")? == set).then(|| set.to_owned())
}

/// How many events are posted at a time while rules are still replaced.
const MORE: u64 = 500;
/// How many events are read at a time.
const PAGE: usize = 5000;
