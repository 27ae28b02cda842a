//! `[retention]`: how long the journal keeps what.

use std::time::Duration;

use crate::{
    document::{Item, Table},
    fault::Faults,
    journal::Retention,
};

pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults) -> Retention {
    let usual = Retention::default();
    let mut layers = [
        Layer::read("payloads", usual.payloads, table, faults),
        Layer::read("events", usual.events, table, faults),
        Layer::read("outcomes", usual.outcomes, table, faults),
    ];
    in_order(&layers, faults);
    // What is not named follows what is.
    for at in 0..layers.len() {
        if layers[at].item.is_none() {
            let named = |layer: &&Layer<'_>| layer.item.is_some();
            let least = layers[..at].iter().filter(named).map(|layer| layer.age).max();
            let most = layers[at + 1..].iter().filter(named).map(|layer| layer.age).min();
            let age = layers[at].age.max(least.unwrap_or(Duration::ZERO));
            layers[at].age = age.min(most.unwrap_or(Duration::MAX));
        }
    }
    let [payloads, events, outcomes] = layers.map(|layer| layer.age);
    let dead_letters = table.take("dead_letters").and_then(|item| age(&item, faults));
    Retention {
        payloads,
        events,
        outcomes,
        dead_letters: dead_letters.unwrap_or(usual.dead_letters),
        max_events: table.integer("max_events", LEAST_EVENTS..=MOST_EVENTS, faults),
        max_bytes: super::size(table, "max_size", LEAST_SIZE, usize::MAX >> 1, faults)
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(usual.max_bytes),
    }
}

/// One of what is kept, as the file names it.
struct Layer<'d> {
    key: &'static str,
    item: Option<Item<'d>>,
    age: Duration,
}

impl<'d> Layer<'d> {
    fn read(key: &'static str, usual: Duration, table: &mut Table<'d>, faults: &mut Faults) -> Self {
        let named = table
            .take(key)
            .and_then(|item| age(&item, faults).map(|age| (item, age)));
        let (item, age) = named.unzip();
        Self {
            key,
            item,
            age: age.unwrap_or(usual),
        }
    }
}

/// Each is kept at least as long as what is read with it.
fn in_order(layers: &[Layer<'_>], faults: &mut Faults) {
    let named: Vec<_> = layers
        .iter()
        .filter_map(|layer| Some((layer, layer.item.as_ref()?)))
        .collect();
    for pair in named.windows(2) {
        let [(before, _), (layer, item)] = pair else {
            continue;
        };
        if layer.age < before.age {
            let fault = item.fault(format!(
                "found {}, expected at least the {} of `{}`",
                words(layer.age),
                words(before.age),
                before.key
            ));
            faults.push(fault.help("payloads go first, then events, then what became of them"));
        }
    }
}

/// A time, or for ever.
fn age(item: &Item<'_>, faults: &mut Faults) -> Option<Duration> {
    if item.as_str() == Some(FOREVER) {
        return Some(Duration::MAX);
    }
    let age = item.duration(faults)?;
    if age < LEAST_AGE {
        faults.push(item.fault(format!(
            "found {}, expected at least an hour, as in \"30d\", or \"{FOREVER}\"",
            words(age)
        )));
        return None;
    }
    Some(age)
}

fn words(age: Duration) -> String {
    let seconds = age.as_secs();
    match (age, seconds % 86_400, seconds % 3_600) {
        (Duration::MAX, _, _) => format!("\"{FOREVER}\""),
        (_, 0, _) if seconds > 0 => format!("{}d", seconds / 86_400),
        (_, _, 0) if seconds > 0 => format!("{}h", seconds / 3_600),
        _ => format!("{age:?}"),
    }
}

const FOREVER: &str = "forever";

/// Shorter than this, what a person wants to look at has gone before they come.
const LEAST_AGE: Duration = Duration::from_secs(60 * 60);

/// Few enough to try it out with.
const LEAST_EVENTS: u64 = 1_000;
/// More than any disk holds.
const MOST_EVENTS: u64 = 1_000_000_000_000;

/// What an empty journal takes, and its log beside it, must not make it prune.
const LEAST_SIZE: usize = 64 << 20;
