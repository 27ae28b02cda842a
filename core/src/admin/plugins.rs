//! `GET /v1/plugins`: what there is of plugins and instances, and how those are that run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::journal::{Journal, Rest};
use crate::plugin::{InstanceRecord, PluginRecord, Registry, Vitals, unenforced};

/// The plugins and their instances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Every file in the plugins directory.
    pub plugins: Vec<PluginRecord>,
    /// Every instance that is configured or came about by itself.
    pub instances: Vec<InstanceListed>,
    /// What the kernel does not enforce of the bounds of plugins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unenforced: Vec<String>,
}

/// An instance, and how it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceListed {
    /// What it is.
    #[serde(flatten)]
    pub record: InstanceRecord,
    /// Why it takes no calls for now, although it runs: its process keeps dying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// Until when it rests, and why, although it runs: calls of it failed, or it was asked for a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests: Option<Rest>,
    /// How it is, if it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vitals: Option<Vitals>,
}

pub(super) async fn listed(registry: &Registry, journal: &dyn Journal) -> Listed {
    let mut rests = match journal.rests().await {
        Ok(rests) => rests,
        Err(error) => {
            tracing::warn!(error = %error, "the journal could not tell which instances rest");
            BTreeMap::new()
        }
    };
    let records = registry.instances();
    let instances = records.iter().map(|record| {
        let instance = registry.instance(&record.name);
        let caller = instance.as_ref().map(|instance| &instance.caller);
        InstanceListed {
            down: caller.and_then(|caller| caller.down()).map(|why| why.to_string()),
            rests: rests.remove(&record.name),
            vitals: caller.map(|caller| caller.vitals()),
            record: record.clone(),
        }
    });
    Listed {
        plugins: registry.list().to_vec(),
        instances: instances.collect(),
        unenforced: unenforced().into_iter().map(str::to_owned).collect(),
    }
}
