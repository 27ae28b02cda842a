//! `rate` and `[[instance.limit]]`: what bounds the calls of an instance.

use std::{num::NonZeroU32, time::Duration};

use super::{count, period};
use crate::{
    dispatcher::{Breaker, KeyLimit, Limits},
    document::{Item, Kind, Table},
    fault::Faults,
    rate::Rate,
    router::LimitKey,
};

/// Reads what bounds the calls of an instance.
pub(super) fn limits(table: &mut Table<'_>, faults: &mut Faults) -> Limits {
    let rate = table.take("rate").and_then(|item| self::rate(&item, faults));
    let breaker = match table.take("breaker") {
        Some(item) => breaker(&item, faults),
        None => Some(Breaker::default()),
    };
    let keys = table.tables("limit", faults);
    Limits {
        rate,
        breaker,
        keys: keys
            .into_iter()
            .filter_map(|table| key_limit(table, faults))
            .collect(),
    }
}

/// Reads `{ failures = 10, rest = "10s", max = "5m" }`, or `false`.
fn breaker(item: &Item<'_>, faults: &mut Faults) -> Option<Breaker> {
    let mut breaker = Breaker::default();
    match item.as_bool() {
        Some(false) => return None,
        Some(true) => return Some(breaker),
        None if item.kind() == Kind::Table => {}
        None => {
            return item.mismatch(
                "`false`, or { failures = 10, rest = \"10s\", max = \"5m\" }",
                faults,
            );
        }
    }
    let mut table = item.table(faults)?;
    if let Some(failures) = table.integer("failures", 1..=10_000u32, faults) {
        breaker.failures = NonZeroU32::new(failures).unwrap_or(breaker.failures);
    }
    breaker.rest = period(&mut table, "rest", faults).unwrap_or(breaker.rest);
    let max = table.take("max");
    let longest = max.as_ref().and_then(|item| item.duration(faults));
    table.finish(faults);
    breaker.max = longest.unwrap_or(breaker.max.max(breaker.rest));
    if breaker.max < breaker.rest || breaker.max > LONGEST_REST {
        let message = format!(
            "the longest rest is {:?}, expected at least the first, {:?}, and at most {LONGEST_REST:?}",
            breaker.max, breaker.rest
        );
        faults.push(max.as_ref().unwrap_or(item).fault(message));
    }
    Some(breaker)
}

fn key_limit(mut table: Table<'_>, faults: &mut Faults) -> Option<KeyLimit> {
    let by = table.required("by", faults).and_then(|item| key(&item, faults));
    let rate = table.take("rate");
    let concurrency = table.take("concurrency");
    if rate.is_none() && concurrency.is_none() {
        faults.push(
            table
                .fault("the limit bounds nothing")
                .help("add `rate = \"1/s\"`, `concurrency = 1`, or both"),
        );
    }
    let rate = rate.and_then(|item| self::rate(&item, faults));
    let concurrency = concurrency.and_then(|item| item.integer(1..=1024usize, faults));
    table.finish(faults);
    Some(KeyLimit {
        by: by?,
        rate,
        concurrency: concurrency.and_then(std::num::NonZeroUsize::new),
    })
}

fn key(item: &Item<'_>, faults: &mut Faults) -> Option<LimitKey> {
    let source = item.string(faults)?;
    let wrong = |reasons: Vec<String>| {
        for reason in reasons {
            let fault = item.fault(reason);
            faults.push(fault.help(
                "a template over `input`, what the step gives, and `event`, as in \"{{ input.channel }}\"",
            ));
        }
    };
    LimitKey::compile(&source).map_err(wrong).ok()
}

/// Reads `"10/s"`, or `{ calls = 10, per = "1s", burst = 5 }`.
fn rate(item: &Item<'_>, faults: &mut Faults) -> Option<Rate> {
    match item.kind() {
        Kind::String => {
            let text = item.string(faults)?;
            let rate = Rate::parse(&text);
            if rate.is_none() {
                faults.push(item.fault(format!("found \"{text}\", expected {EXPECTED}")));
            }
            rate
        }
        Kind::Table => {
            let mut table = item.table(faults)?;
            let calls = table.required("calls", faults);
            let calls = calls.and_then(|item| item.integer(1..=1_000_000u32, faults));
            let before = faults.len();
            let per = period(&mut table, "per", faults);
            if per.is_none() && faults.len() == before {
                faults.push(table.fault(format!("`{}` has no `per`, which is required", item.path())));
            }
            let burst = count(&mut table, "burst", 1_000_000, faults);
            table.finish(faults);
            let burst = burst.and_then(|burst| NonZeroU32::try_from(burst).ok());
            let (calls, per) = (NonZeroU32::new(calls?)?, per?);
            let rate = Rate::new(calls, per, burst.unwrap_or(NonZeroU32::MIN));
            if rate.is_none() {
                let message = format!(
                    "found {calls} calls in {per:?}, expected at most a thousand in a second and at least one in a year"
                );
                faults.push(item.fault(message));
            }
            rate
        }
        Kind::Integer | Kind::Float | Kind::Boolean | Kind::Date | Kind::Array => {
            item.mismatch(EXPECTED, faults)
        }
    }
}

/// Beyond it, somebody has to look anyway.
const LONGEST_REST: Duration = Duration::from_secs(3600);
const EXPECTED: &str =
    "a rate such as \"10/s\", \"50/m\", \"1/30s\" or { calls = 50, per = \"1m\", burst = 5 }";
