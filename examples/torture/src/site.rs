//! Where it happens: a router with its files, a data directory that can be hurt, and the rules.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jackfield_stage::{
    cargo::Built,
    disk::{Faults, Interposer},
    router::Router,
};

use crate::{
    master::{IN_PROCESS, MOURN},
    senders::TOKEN,
    volume::Volume,
};

/// The packages whose files a run needs.
pub const PACKAGES: [&str; 2] = ["jackfield", "puppet-plugin"];

/// The site, in a directory of its own.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) faults: Faults,
    /// The file system of the data directory, or why it is none of its own.
    pub(crate) volume: Result<Volume, String>,
    /// The plugin as it was built.
    pub(crate) library: PathBuf,
}

impl Site {
    /// Lays it out in `home`, for puppets whose master listens at `master`.
    pub(crate) fn prepare(built: &Built, home: &Path, master: &str) -> anyhow::Result<Self> {
        let (binary, library) = (built.binary(PACKAGES[0])?, built.library(PACKAGES[1])?);
        let data = home.join("data");
        let volume = Volume::mount(&home.join("volume.ext4"), &data).map_err(|error| format!("{error:#}"));
        fs::create_dir_all(&data)?;
        let mut router = Router::prepare(&binary, home, std::slice::from_ref(&library))?;
        let interposer = Interposer::new(&home.join("interposer"), &data)?;
        router.set("PATH_TOKEN", TOKEN);
        router.set("RUST_LOG", "info");
        for (name, value) in interposer.environment() {
            router.set(&name, &value);
        }
        router.configure(&CONFIGURATION.replace("{master}", master), &rules(0))?;
        Ok(Self {
            router,
            faults: interposer.faults(),
            volume,
            library,
        })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.router.home().join("data")
    }
}

/// The rules number `set`: the same routes each time, which tell their number.
pub(crate) fn rules(set: u64) -> String {
    let step = |id: &str, instance: &str| {
        format!(
            "[[route.step]]\nid = \"{id}\"\nuse = \"{instance}\"\n\
             with = {{ set = {set}, job = \"{{{{ event.data.resource.id }}}}\", events = \"{{{{ events | length }}}}\" }}\n\
             retry = {{ attempts = {ATTEMPTS}, first = \"30ms\", max = \"300ms\" }}\n\n"
        )
    };
    let mourn = step(MOURN, "puppet").replace("route.step", "route.on_failure");
    let route = |name: &str, keys: &str, steps: &str| {
        format!("[[route]]\nname = \"{name}\"\n{keys}when.type = [\"io.supernova.job.success\"]\n\n{steps}")
    };
    let order = "order_by = \"{{ event.data.project.id }}\"\n";
    let mut text = route(
        FREE,
        "",
        &(step("first", "puppet") + &step("second", "puppet") + &mourn),
    );
    text += &route(ORDERED, order, &step("only", "puppet"));
    text += &route(IN_PROCESS, order, &step("only", "inner"));
    text += &route(
        NEWEST,
        &format!("{order}supersede = true\n"),
        &step("only", "puppet"),
    );
    let coalesce = "coalesce = { window = \"700ms\", max_wait = \"3s\", max_items = 5, keep = \"all\" }\n";
    text += &route(BURST, &format!("{order}{coalesce}"), &step("only", "puppet"));
    text
}

/// The routes that every event owes a delivery to.
pub(crate) const ROUTES: [&str; 5] = [FREE, ORDERED, IN_PROCESS, NEWEST, BURST];
/// How often a step is tried.
pub(crate) const ATTEMPTS: u32 = 5;
/// Two steps, no order, and one that runs when they are given up.
pub(crate) const FREE: &str = "free";
/// One step, in order of arrival within a key.
pub(crate) const ORDERED: &str = "ordered";
/// The same, where a newer one takes the place of those that wait.
pub(crate) const NEWEST: &str = "newest";
/// Several events become one delivery.
pub(crate) const BURST: &str = "burst";

const CONFIGURATION: &str = r#"
[[source]]
name = "exports"
provider = "supernova"
path_token = { env = "PATH_TOKEN" }

[[instance]]
name = "puppet"
plugin = "puppet-plugin"
concurrency = 24
timeout = "2s"
grant.network = ["{master}"]
config = { master = "{master}" }

[[instance]]
name = "inner"
plugin = "puppet-plugin"
isolation = "none"
concurrency = 8
timeout = "2s"
config = { master = "{master}" }
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_the_same_routes_and_tells_its_number() {
        let text = rules(7);
        for route in ROUTES {
            assert!(text.contains(&format!("name = \"{route}\"")), "{route}");
        }
        assert_eq!(text.matches("set = 7").count(), 7);
    }
}
