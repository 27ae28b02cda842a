//! `[[instance]]`: a plugin with a name and a configuration.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{Reader, count, name, period, size};
use crate::{
    document::Table,
    fault::Faults,
    plugin::{DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, InstanceOptions, Isolation, Limits},
};

impl Reader<'_> {
    pub(super) fn instances(&self, root: &mut Table<'_>, faults: &mut Faults) -> Vec<InstanceOptions> {
        let mut names = Vec::new();
        root.tables("instance", faults)
            .into_iter()
            .filter_map(|table| self.instance(table, &mut names, faults))
            .collect()
    }

    fn instance(
        &self,
        mut table: Table<'_>,
        names: &mut Vec<String>,
        faults: &mut Faults,
    ) -> Option<InstanceOptions> {
        let name = name(&mut table, names, faults);
        // A plugin that has one instance lends it its name.
        let plugin = table.string("plugin", faults).or_else(|| name.clone());
        let concurrency = count(&mut table, "concurrency", 1024, faults).unwrap_or(DEFAULT_CONCURRENCY);
        let timeout = period(&mut table, "timeout", faults).unwrap_or(DEFAULT_TIMEOUT);
        let places = [("process", Isolation::Process), ("none", Isolation::None)];
        let isolation = table.one_of("isolation", &places, faults).unwrap_or_default();
        let limits = limits(&mut table, isolation, faults);
        let mut secrets = BTreeMap::new();
        let config = match table.take("config") {
            Some(item) if item.as_table().is_some() => self.json(&item, "", &mut secrets, faults),
            Some(item) => item.mismatch("a table", faults),
            None => Some(Value::Object(serde_json::Map::new())),
        };
        for item in table.table("secrets", faults).iter().flat_map(Table::entries) {
            secrets.extend(
                self.secret(&item, faults)
                    .map(|secret| (item.key().to_owned(), secret)),
            );
        }
        table.finish(faults);
        Some(InstanceOptions {
            name: name?,
            plugin: plugin?,
            concurrency,
            timeout,
            isolation,
            limits,
            config: config?,
            secrets,
        })
    }
}

/// Reads `[instance.limits]`, which only a process of its own can have.
fn limits(table: &mut Table<'_>, isolation: Isolation, faults: &mut Faults) -> Limits {
    let mut limits = Limits::default();
    let Some(item) = table.take("limits") else {
        return limits;
    };
    if isolation == Isolation::None {
        let fault = item
            .key_fault("these are limits of a process, and with `isolation = \"none\"` it is the router's");
        faults.push(fault.help("leave out one of the two"));
        return limits;
    }
    let Some(mut table) = item.table(faults) else {
        return limits;
    };
    if let Some(bytes) = size(&mut table, "memory", LEAST_MEMORY, usize::MAX >> 1, faults) {
        limits.memory = bytes as u64;
    }
    if let Some(count) = table.integer("open_files", LEAST_FILES..=1_048_576u64, faults) {
        limits.open_files = count;
    }
    if let Some(item) = table.take("silence")
        && let Some(time) = item.duration(faults)
    {
        if time < LEAST_SILENCE {
            faults.push(item.fault(format!("found {time:?}, expected at least {LEAST_SILENCE:?}")));
        }
        limits.silence = time;
    }
    table.finish(faults);
    limits
}

/// What a plugin with a runtime of its own needs to start.
const LEAST_MEMORY: usize = 32 << 20;
const LEAST_FILES: u64 = 32;
/// A process is asked twice in that time, and the machine may be busy.
const LEAST_SILENCE: Duration = Duration::from_secs(1);
