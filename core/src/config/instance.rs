//! `[[instance]]`: a plugin with a name and a configuration.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Reader, count, grant, limit, name, period};
use crate::{
    dispatcher,
    document::Table,
    fault::Faults,
    plugin::{DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, InstanceOptions, Isolation},
};

impl Reader<'_> {
    /// The instances, and by name what bounds the calls of each.
    pub(super) fn instances(
        &self,
        root: &mut Table<'_>,
        faults: &mut Faults,
    ) -> (Vec<InstanceOptions>, BTreeMap<String, dispatcher::Limits>) {
        let mut names = Vec::new();
        let tables = root.tables("instance", faults).into_iter();
        tables
            .filter_map(|table| self.instance(table, &mut names, faults))
            .map(|(instance, limits)| {
                let name = instance.name.clone();
                (instance, (name, limits))
            })
            .unzip()
    }

    fn instance(
        &self,
        mut table: Table<'_>,
        names: &mut Vec<String>,
        faults: &mut Faults,
    ) -> Option<(InstanceOptions, dispatcher::Limits)> {
        let name = name(&mut table, names, faults);
        // A plugin that has one instance lends it its name.
        let plugin = table.string("plugin", faults).or_else(|| name.clone());
        let concurrency = count(&mut table, "concurrency", 1024, faults).unwrap_or(DEFAULT_CONCURRENCY);
        let timeout = period(&mut table, "timeout", faults).unwrap_or(DEFAULT_TIMEOUT);
        let places = [("process", Isolation::Process), ("none", Isolation::None)];
        let isolation = table.one_of("isolation", &places, faults).unwrap_or_default();
        let bounds = limit::limits(&mut table, faults);
        let limits = grant::limits(&mut table, isolation, faults);
        let grant = grant::grant(&mut table, isolation, faults);
        let mut secrets = BTreeMap::new();
        let config = match table.take("config") {
            Some(item) if item.as_table().is_some() => {
                faults.concealing(|faults| self.json(&item, "", &mut secrets, faults))
            }
            Some(item) => item.mismatch("a table", faults),
            None => Some(Value::Object(serde_json::Map::new())),
        };
        for item in table.table("secrets", faults).iter().flat_map(Table::entries) {
            secrets.extend(
                self.secret(&item, faults)
                    .map(|secret| (item.key().to_owned(), secret)),
            );
        }
        // What is no key may be a secret under a name that is not quite right.
        faults.concealing(|faults| table.finish(faults));
        let instance = InstanceOptions {
            name: name?,
            plugin: plugin?,
            concurrency,
            timeout,
            isolation,
            limits,
            grant,
            config: config?,
            secrets,
        };
        Some((instance, bounds))
    }
}
