//! `GET /v1/plugins`: what there is of plugins and instances, and how those are that run.

use serde::{Deserialize, Serialize};

use crate::plugin::{InstanceRecord, PluginRecord, Registry, Vitals};

/// The plugins and their instances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Every file in the plugins directory.
    pub plugins: Vec<PluginRecord>,
    /// Every instance that is configured or came about by itself.
    pub instances: Vec<InstanceListed>,
}

/// An instance, and how it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceListed {
    /// What it is.
    #[serde(flatten)]
    pub record: InstanceRecord,
    /// How it is, if it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vitals: Option<Vitals>,
}

pub(super) fn listed(registry: &Registry) -> Listed {
    let records = registry.instances();
    let instances = records.iter().map(|record| InstanceListed {
        vitals: registry
            .instance(&record.name)
            .map(|instance| instance.caller.vitals()),
        record: record.clone(),
    });
    Listed {
        plugins: registry.list().to_vec(),
        instances: instances.collect(),
    }
}
