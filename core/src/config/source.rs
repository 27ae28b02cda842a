//! `[[source]]`: one endpoint for a provider.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{LONGEST_BODY, Reader, name, period, reference, size, too_long};
use crate::{
    document::Table,
    fault::{Fault, Faults},
    provider::{self, BuildError, Foreign, Way, plugin_of},
};

/// One configured endpoint.
#[derive(Clone, Debug)]
pub struct Source {
    /// What its address ends with.
    pub name: String,
    /// How its requests are verified, for whoever plays the provider.
    pub options: provider::Options,
    /// Its provider, with its secrets.
    pub provider: Way,
    /// The longest body that it takes.
    pub body_size: usize,
    /// How long redeliveries of its events are told.
    pub dedup_window: Duration,
}

/// What is said of bodies for all sources, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    /// How long one may be where a source does not say.
    pub(super) usual: usize,
    /// How much all of them may take together.
    pub(super) memory: usize,
}

impl Reader<'_> {
    pub(super) fn sources(&self, root: &mut Table<'_>, lengths: Lengths, faults: &mut Faults) -> Vec<Source> {
        let tables = root.tables("source", faults);
        if tables.is_empty() && !root.is_broken() {
            let fault = Fault::new("there is no `[[source]]`, so that no event could come in");
            faults.push(fault.help("`config/jackfield.toml` is a sample with one for each provider"));
        }
        let mut names = Vec::new();
        tables
            .into_iter()
            .filter_map(|table| self.source(table, lengths, &mut names, faults))
            .collect()
    }

    fn source(
        &self,
        mut table: Table<'_>,
        lengths: Lengths,
        names: &mut Vec<String>,
        faults: &mut Faults,
    ) -> Option<Source> {
        let before = faults.len();
        let name = name(&mut table, names, faults);
        let provider = table
            .required("provider", faults)
            .and_then(|item| item.string(faults));
        let secrets = table
            .take("secrets")
            .map(|item| self.secrets(&item, faults))
            .unwrap_or_default();
        let path_token = table
            .take("path_token")
            .and_then(|item| self.secret(&item, faults));
        let unverified = table.bool("unverified", faults).unwrap_or(false);
        let tolerance = table.duration("tolerance", faults);
        let body_size = size(&mut table, "body_size", 1, LONGEST_BODY, faults);
        if let Some(size) = body_size.filter(|size| *size > lengths.memory) {
            faults.push(table.fault(too_long(size, lengths.memory)));
        }
        let dedup_window = period(&mut table, "dedup_window", faults).unwrap_or(DEDUP_WINDOW);
        let own = match provider.as_deref().and_then(plugin_of) {
            Some(_) => self.own(&mut table, faults),
            None => Some(Map::new()),
        };
        let sound = faults.len() == before;
        let options = provider::Options {
            provider: provider?,
            secrets,
            path_token,
            unverified,
            tolerance,
        };
        let provider = match build(&options, own.unwrap_or_default()) {
            Ok(provider) => Some(provider),
            // What cannot be built for a mistake that is reported already needs no second fault.
            Err(error) if sound || error.key() == "provider" => {
                faults.push(reference::fault_at(&table, error.key(), error.to_string()));
                None
            }
            Err(_) => None,
        };
        // What is no key may be a secret under a name that is not quite right.
        faults.concealing(|faults| table.finish(faults));
        Some(Source {
            name: name?,
            options,
            provider: provider?,
            body_size: body_size.unwrap_or(lengths.usual),
            dedup_window,
        })
    }
}

impl Reader<'_> {
    /// Reads `[source.options]`, which are the plugin's own.
    fn own(&self, table: &mut Table<'_>, faults: &mut Faults) -> Option<Map<String, Value>> {
        let Some(item) = table.take("options") else {
            return Some(Map::new());
        };
        if item.as_table().is_none() {
            return item.mismatch("a table", faults);
        }
        match faults.concealing(|faults| self.json(&item, "", &mut BTreeMap::new(), faults))? {
            Value::Object(own) => Some(own),
            _ => None,
        }
    }
}

fn build(options: &provider::Options, own: Map<String, Value>) -> Result<Way, BuildError> {
    match plugin_of(&options.provider) {
        Some(instance) => Foreign::new(instance, options.clone(), own).map(Way::Plugin),
        None => provider::build(options.clone()).map(Way::BuiltIn),
    }
}

/// Longer than any provider goes on retrying.
const DEDUP_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);
