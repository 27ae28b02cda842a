//! Where it happens: a router with its files, a data directory that can be hurt, and the rules.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
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
             with = {{ set = {set}, jobs = \"{{{{ events | map(attribute='data.resource.id') | list }}}}\" }}\n\
             retry = {{ attempts = {ATTEMPTS}, first = \"30ms\", max = \"300ms\" }}\n\n"
        )
    };
    let route = |name: &str, keys: &str, steps: &str| {
        let ends: Vec<_> = ends(name)
            .iter()
            .map(|end| format!("{{ suffix = \"{end}\" }}"))
            .collect();
        let some = match ends.is_empty() {
            true => String::new(),
            false => format!("when.data.resource.id = [{}]\n", ends.join(", ")),
        };
        format!(
            "[[route]]\nname = \"{name}\"\n{keys}when.type = [\"io.supernova.job.success\"]\n{some}\n{steps}"
        )
    };
    let only = step("only", "puppet");
    let mourn = step(MOURN, "puppet").replace("route.step", "route.on_failure");
    let order = "order_by = \"{{ event.data.project.id }}\"\n";
    let supersede = format!("{order}supersede = true\n");
    let coalesce = |keep: &str| {
        format!("coalesce = {{ window = \"700ms\", max_wait = \"3s\", max_items = 5, keep = \"{keep}\" }}\n")
    };
    [
        route(
            FREE,
            "",
            &(step("first", "puppet") + &step("second", "puppet") + &mourn),
        ),
        route(ORDERED, order, &only),
        route(IN_PROCESS, order, &step("only", "inner")),
        route(NEWEST, &supersede, &only),
        route(BY_TIME, &format!("{supersede}newest_by = \"time\"\n"), &only),
        route(BURST, &format!("{order}{}", coalesce("all")), &only),
        route(LATEST, &format!("{order}{}", coalesce("newest")), &only),
        route(PACED, &supersede, &step("only", "paced")),
        route(HELD, &format!("{order}on_stuck = \"hold\"\n"), &only),
        route(TIMELY, "deadline = \"4s\"\n", &only),
    ]
    .concat()
}

/// The routes that come to owe a delivery for the event of this job.
pub(crate) fn owed(job: &str) -> impl Iterator<Item = &'static str> {
    let matches = |route: &&str| ends(route).is_empty() || ends(route).iter().any(|end| job.ends_with(end));
    ROUTES.into_iter().filter(matches)
}

/// What the jobs end with that a route asks for; nothing, where it asks for all of them.
fn ends(route: &str) -> &'static [&'static str] {
    match route {
        // Of what waits behind a dead one, there is to be no more than can be carried out in the end.
        HELD => &["0", "5"],
        TIMELY => &["2", "7"],
        BY_TIME => &["1", "3", "5", "8"],
        LATEST => &["0", "4", "6", "9"],
        _ => &[],
    }
}

/// All routes.
pub(crate) const ROUTES: [&str; 10] = [
    FREE, ORDERED, IN_PROCESS, NEWEST, BY_TIME, BURST, LATEST, PACED, HELD, TIMELY,
];
/// Those where a newer delivery takes the place of those that wait.
pub(crate) const SUPERSEDING: [&str; 3] = [NEWEST, BY_TIME, PACED];
/// Those where several events become one delivery.
pub(crate) const COALESCING: [&str; 2] = [BURST, LATEST];
/// How often a step is tried.
pub(crate) const ATTEMPTS: u32 = 5;
/// Two steps, no order, and one that runs when they are given up.
pub(crate) const FREE: &str = "free";
/// One step, in order of arrival within a key.
pub(crate) const ORDERED: &str = "ordered";
/// The same, where a newer one takes the place of those that wait.
pub(crate) const NEWEST: &str = "newest";
/// The same, where the newer is the one that happened later.
pub(crate) const BY_TIME: &str = "by-time";
/// Several events become one delivery, and its steps see all of them.
pub(crate) const BURST: &str = "burst";
/// Several events become one delivery, and its steps see the newest.
pub(crate) const LATEST: &str = "latest";
/// The newest, and no faster than [`PACE`] and [`KEY_PACE`] allow. More comes than they do, so that some always wait.
pub(crate) const PACED: &str = "paced";
/// In order, where a dead one holds its line up until a person lets go of it.
pub(crate) const HELD: &str = "held";
/// Of use for some seconds.
pub(crate) const TIMELY: &str = "timely";

/// So many calls in some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How many may begin at once.
    pub(crate) burst: u32,
    /// From one to the next.
    pub(crate) interval: Duration,
    /// How many run at once at most, so that they may be seen so much later than they began.
    pub(crate) at_once: u32,
}

/// Of the instance, as it is configured.
pub(crate) const PACE: Pace = Pace {
    burst: 3,
    interval: Duration::from_millis(250),
    at_once: 4,
};
/// Of each order key: so slow that a restart is much shorter than what fills it, and one that forgot the bucket is found out.
pub(crate) const KEY_PACE: Pace = Pace {
    burst: 2,
    interval: Duration::from_secs(10),
    at_once: 1,
};
/// How many calls run at a time of all order keys that begin alike, and what of them tells.
pub(crate) const GROUP_AT_ONCE: usize = 2;
pub(crate) const GROUP: usize = 2;
/// How long redeliveries are told: shorter than the clock leaps at times, so that what is older can be pruned.
pub(crate) const DEDUP_WINDOW: Duration = Duration::from_secs(30 * 60);

/// An instance, and how many calls it takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub(crate) name: &'static str,
    pub(crate) at_once: u32,
}

impl Instance {
    /// As they are configured.
    pub(crate) const ALL: [Self; 3] = [
        Self {
            name: "puppet",
            at_once: 24,
        },
        Self {
            name: "inner",
            at_once: 8,
        },
        Self {
            name: "paced",
            at_once: 4,
        },
    ];

    /// That which the steps of a route use.
    pub(crate) fn of(route: &str) -> Self {
        let name = match route {
            IN_PROCESS => "inner",
            PACED => "paced",
            _ => "puppet",
        };
        let mut all = Self::ALL.into_iter();
        all.find(|instance| instance.name == name)
            .expect("each of the three is one of all")
    }
}

const CONFIGURATION: &str = r#"
[[source]]
name = "exports"
provider = "supernova"
path_token = { env = "PATH_TOKEN" }
dedup_window = "30m"

[retention]
payloads = "1h"
events = "1h"
outcomes = "1h"
dead_letters = "1h"
max_events = 1000
max_size = "64MiB"

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

[[instance]]
name = "paced"
plugin = "puppet-plugin"
concurrency = 4
timeout = "2s"
grant.network = ["{master}"]
config = { master = "{master}" }
rate = { calls = 4, per = "1s", burst = 3 }

[[instance.limit]]
by = "{{ event.data.project.id }}"
rate = { calls = 1, per = "10s", burst = 2 }

[[instance.limit]]
by = "{{ event.data.project.id[:2] }}"
concurrency = 2
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
        assert_eq!(text.matches("set = 7").count(), ROUTES.len() + 2);
    }

    #[test]
    fn instances_are_configured_as_they_are_judged() {
        for Instance { name, at_once } in Instance::ALL {
            let (_, text) = CONFIGURATION.split_once(&format!("name = \"{name}\"")).unwrap();
            let (_, text) = text.split_once("concurrency = ").unwrap();
            assert!(text.starts_with(&format!("{at_once}\n")), "{name}");
        }
    }

    #[test]
    fn some_routes_ask_for_some_jobs() {
        assert_eq!(owed("k01-000001").count(), 7);
        assert!(owed("k01-000010").any(|route| route == HELD));
        assert!(owed("k01-000012").any(|route| route == TIMELY));
    }
}
