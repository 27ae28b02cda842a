//! The configuration of an instance, as it is written.

use std::collections::BTreeMap;

use jackfield_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// The rules by which an instance fetches. All of them have defaults.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Credentials by name, for steps that say `auth = "<name>"`. Each is sent to its own origins only.
    pub credentials: BTreeMap<String, CredentialConfig>,
    /// Hosts, each as `host:port` and as the link spells it, that may be fetched from although their address is
    /// private or they speak plain http.
    pub allow_private: Vec<String>,
    /// The largest file that is fetched, in bytes. 512 MiB by default.
    pub max_bytes: u64,
    /// How many redirects are followed. 5 by default.
    pub max_redirects: u32,
    /// How long a server may be silent before the attempt is given up, as in `30s`, which is the default. The whole
    /// attempt is bounded by the instance's `timeout`.
    pub stall_timeout: String,
    /// How many files and directories an archive may hold. 10,000 by default.
    pub max_entries: u64,
    /// How many bytes an archive may unpack to. 2 GiB by default.
    pub max_unpacked_bytes: u64,
    /// How many times its own size an archive may unpack to; what stays below 16 MiB is never questioned. 200 by
    /// default.
    pub max_ratio: u64,
}

/// A credential and where it may be sent. Exactly one of `bearer` and `header` is given.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// Where it may be sent: scheme, host and port, as in `https://api.supernova.io`.
    pub origins: Vec<String>,
    /// A token for `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// Another header, for services that want one of their own.
    pub header: Option<HeaderConfig>,
}

/// A header that holds a secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderConfig {
    /// The header's name, as in `X-Api-Key`.
    pub name: String,
    /// The header's whole value.
    pub value: Secret,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            credentials: BTreeMap::new(),
            allow_private: Vec::new(),
            max_bytes: 512 << 20,
            max_redirects: 5,
            stall_timeout: "30s".to_owned(),
            max_entries: 10_000,
            max_unpacked_bytes: 2 << 30,
            max_ratio: 200,
        }
    }
}
