//! Plugins that come, change and go while the router runs: what runs is what a restart would load, or what ran before.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use jackfield::{
    delivery::Outcome,
    plugin::{
        Instance, InstanceOptions, Isolation, Options, PluginRecord, Registry, Report, StepCall, Watch,
        digest::Digest,
        trust::{Key, Lock},
    },
    reason::Reason,
};
use serde_json::json;
use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    battery::check,
    built,
    host::Recorder,
    trial::{Bench, configured, log, logged},
};

/// A registry that follows its directory.
struct Site {
    bench: Bench,
    registry: Arc<Registry>,
    stop: CancellationToken,
    watching: JoinSet<()>,
}

impl Site {
    /// With whatever is in the directory, and these instances.
    async fn of(bench: Bench, instances: Vec<InstanceOptions>) -> Self {
        let options = bench.options(instances);
        Self::with(bench, options).await
    }

    async fn with(bench: Bench, options: Options) -> Self {
        let watch =
            Watch::begin(bench.plugins(), options.trust.lock.clone()).settling(Duration::from_millis(20));
        let host = Arc::new(Recorder::new());
        let registry = Arc::new(Registry::load(options, host as _, Handle::current()).await);
        let stop = CancellationToken::new();
        let mut watching = JoinSet::new();
        watching.spawn(watch.run(Arc::clone(&registry), stop.clone()));
        Self {
            bench,
            registry,
            stop,
            watching,
        }
    }

    /// With version 1 of the plugin, running.
    async fn running() -> Self {
        let bench = Bench::new();
        bench.drop_c("trial.so", &[]);
        let site = Self::of(bench, vec![]).await;
        assert_eq!(site.version(), "1.0.0");
        site
    }

    fn file(&self) -> PathBuf {
        self.bench.plugins().join("trial.so")
    }

    /// Builds the plugin elsewhere, and moves it to its place.
    fn put(&self, arguments: &[&str]) {
        fs::rename(self.build(arguments), self.file()).unwrap();
    }

    fn build(&self, arguments: &[&str]) -> PathBuf {
        let path = self.bench.path("built.so");
        built::c(&path, arguments);
        path
    }

    /// Waits until this is so.
    async fn until(&self, is_so: impl Fn(&Registry) -> bool) {
        let mut changes = self.registry.changes();
        while !is_so(&self.registry) {
            changes.changed().await.unwrap();
        }
    }

    async fn until_version(&self, version: &str) {
        self.until(|registry| {
            registry
                .instance("trial")
                .is_some_and(|instance| instance.version == version)
        })
        .await;
    }

    /// Waits until what lies there is refused for a reason with these words, and makes sure that version 1 goes on.
    async fn until_refused(&self, words: &str) {
        self.until(|registry| refused(&registry.list()).is_some_and(|reason| reason.contains(words)))
            .await;
        assert_eq!(self.version(), "1.0.0");
        assert_eq!(self.act("done").await.outcome, Outcome::Done);
        let generations = self
            .registry
            .list()
            .iter()
            .filter_map(|record| record.generation)
            .collect::<Vec<_>>();
        assert_eq!(generations, [1]);
    }

    fn instance(&self) -> Arc<Instance> {
        self.registry.instance("trial").unwrap()
    }

    fn version(&self) -> String {
        self.instance().version.clone()
    }

    /// How many processes run with the plugin in them.
    fn workers(&self) -> usize {
        let children = fs::read_dir("/proc/self/task").unwrap().flat_map(|thread| {
            let children = fs::read_to_string(thread.unwrap().path().join("children"));
            let children = children.unwrap_or_default();
            children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        });
        let has_it = |child: &String| {
            let maps = fs::read_to_string(format!("/proc/{child}/maps"));
            maps.is_ok_and(|maps| maps.contains("/plugins/"))
        };
        children.filter(has_it).count()
    }

    async fn act(&self, act: &str) -> Report {
        call(&self.instance(), self.bench.call(act)).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.watching.join_all().await;
        self.registry.shutdown(Duration::from_secs(60)).await;
    }
}

/// Makes a call as the dispatcher does.
async fn call(instance: &Arc<Instance>, call: StepCall) -> Report {
    let _visit = instance.enter().unwrap();
    instance.caller.call(call).await
}

fn refused(records: &[PluginRecord]) -> Option<String> {
    let mut refused = records.iter().filter_map(|record| record.refused.as_ref());
    refused.next().map(|refused| refused.reason.clone())
}

#[tokio::test]
async fn a_file_that_is_dropped_in_is_taken_up() {
    let site = Site::of(Bench::new(), vec![]).await;
    assert!(site.registry.instance("trial").is_none());
    site.put(&[]);
    site.until_version("1.0.0").await;
    assert_eq!(site.act("done").await.outcome, Outcome::Done);
    site.end().await;
}

#[tokio::test]
async fn a_file_that_changes_becomes_the_next_generation_and_the_one_before_ends_when_its_calls_have() {
    log();
    let site = Site::running().await;
    let before = site.instance();
    let visit = before.enter().unwrap();
    let mut calls = JoinSet::new();
    calls.spawn({
        let (before, call) = (Arc::clone(&before), site.bench.call("deaf"));
        async move {
            let report = before.caller.call(call).await;
            drop(visit);
            report
        }
    });
    site.put(&["-DVERSION=\"2.0.0\""]);
    site.until_version("2.0.0").await;
    assert_eq!(site.registry.list()[0].generation, Some(2));
    assert_eq!(site.act("done").await.outcome, Outcome::Done);
    assert!(before.enter().is_none(), "nobody gets in any more");
    // What is in goes on, and is answered.
    assert_eq!(
        before.caller.call(site.bench.call("wake")).await.outcome,
        Outcome::Done
    );
    assert_eq!(calls.join_next().await.unwrap().unwrap().outcome, Outcome::Done);
    let report = loop {
        let report = before.caller.call(site.bench.call("done")).await;
        if report.outcome != Outcome::Done {
            break report;
        }
        tokio::task::yield_now().await;
    };
    check(&report, Outcome::Retry, Reason::Interrupted, "");
    site.end().await;
    assert!(logged().contains("instance ended, its generation being out of use"));
}

#[tokio::test]
async fn a_process_that_dies_on_its_way_out_lives_again_for_the_calls_that_it_has() {
    let site = Site::running().await;
    let before = site.instance();
    let visit = before.enter().unwrap();
    site.put(&["-DVERSION=\"2.0.0\""]);
    site.until_version("2.0.0").await;
    // By then whatever is of no use any more has been removed.
    site.registry.renew().await;
    let crashed = before.caller.call(site.bench.call("segfault")).await;
    assert_eq!(crashed.reason, Some(Reason::PluginCrashed));
    let again = before.caller.call(site.bench.call("done")).await;
    assert_eq!(again.outcome, Outcome::Done, "{again:?}");
    drop(visit);
    site.end().await;
}

#[tokio::test]
async fn what_is_counted_of_an_instance_goes_on_in_the_next_generation() {
    for isolation in [Isolation::Process, Isolation::None] {
        let bench = Bench::new();
        bench.drop_c("trial.so", &[]);
        let instance = InstanceOptions {
            isolation,
            ..configured("trial", json!({}))
        };
        let site = Site::of(bench, vec![instance]).await;
        site.act("done").await;
        site.act("retry").await;
        let before = site.instance().caller.vitals();
        assert_eq!((before.calls, before.failures), (2, 1));
        site.put(&["-DVERSION=\"2.0.0\""]);
        site.until_version("2.0.0").await;
        site.act("done").await;
        let vitals = site.instance().caller.vitals();
        assert_eq!((vitals.calls, vitals.failures), (3, 1));
        let is_apart = isolation == Isolation::Process;
        assert_eq!(
            vitals.restarts,
            is_apart.then_some(0),
            "to be replaced is no restart"
        );
        assert_eq!(vitals.process != before.process, is_apart);
        site.end().await;
    }
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_asked_to_end_and_is_no_crash() {
    for isolation in [Isolation::Process, Isolation::None] {
        let bench = Bench::new();
        bench.drop_c("trial.so", &[]);
        let options = Options {
            drain: Duration::ZERO,
            ..bench.options(vec![InstanceOptions {
                isolation,
                ..configured("trial", json!({}))
            }])
        };
        let site = Site::with(bench, options).await;
        let mut calls = JoinSet::new();
        let (before, step) = (site.instance(), site.bench.call("wait"));
        calls.spawn(async move { (call(&before, step).await, before.is_leaving()) });
        // It has begun when this one has gone through behind it.
        site.act("done").await;
        site.put(&["-DVERSION=\"2.0.0\""]);
        let (report, is_leaving) = calls.join_next().await.unwrap().unwrap();
        check(&report, Outcome::Retry, Reason::Interrupted, "");
        assert!(is_leaving);
        site.until_version("2.0.0").await;
        site.end().await;
    }
}

#[tokio::test]
async fn what_cannot_take_the_place_of_what_runs_is_refused_with_the_reason() {
    let site = Site::running().await;
    site.put(&["-DVERSION=\"2.0.0\"", "-DCREATE_REFUSE"]);
    site.until_refused("its instance `trial` cannot go on: the plugin refuses to start: not in this version")
        .await;
    site.put(&["-DVERSION=\"2.0.0\"", "-DDESCRIBE_CRASH"]);
    site.until_refused("SIGSEGV").await;
    site.put(&["-DVERSION=\"2.0.0\"", "-DNEEDS_CONFIG"]);
    site.until_refused("it needs a configuration: `token`: missing")
        .await;
    site.put(&["-DVERSION=\"2.0.0\"", "-DOTHER_MAJOR"]);
    site.until_refused("ABI").await;
    fs::write(site.bench.path("text"), "hello\n").unwrap();
    fs::rename(site.bench.path("text"), site.file()).unwrap();
    site.until_refused("it is a text").await;
    fs::remove_file(site.file()).unwrap();
    symlink("/etc/passwd", site.file()).unwrap();
    site.until_refused("is a symbolic link").await;
    fs::remove_file(site.file()).unwrap();
    site.put(&["-DVERSION=\"2.0.0\""]);
    site.until_version("2.0.0").await;
    assert_eq!(refused(&site.registry.list()), None);
    assert_eq!(
        site.registry.list()[0].generation,
        Some(2),
        "what was refused is no generation"
    );
    site.end().await;
}

#[tokio::test]
async fn permissions_that_let_others_write_are_refused_until_they_are_mended() {
    let site = Site::running().await;
    let mode = |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(site.file(), 0o777);
    site.until_refused("chmod").await;
    mode(site.file(), 0o755);
    site.until(|registry| refused(&registry.list()).is_none()).await;
    mode(site.bench.plugins(), 0o777);
    site.until_refused("chmod").await;
    mode(site.bench.plugins(), 0o755);
    site.until(|registry| refused(&registry.list()).is_none()).await;
    assert_eq!(
        site.registry.list()[0].generation,
        Some(1),
        "it is the same all along"
    );
    site.end().await;
}

#[tokio::test]
async fn a_file_that_is_written_over_in_place_harms_nothing_and_is_taken_up_once_it_is_whole() {
    for isolation in [Isolation::Process, Isolation::None] {
        let bench = Bench::new();
        bench.drop_c("trial.so", &[]);
        let options = vec![InstanceOptions {
            isolation,
            ..configured("trial", json!({}))
        }];
        let site = Site::of(bench, options).await;
        let next = fs::read(site.build(&["-DVERSION=\"2.0.0\""])).unwrap();
        fs::write(site.file(), &next[..next.len() / 2]).unwrap();
        site.until_refused("is damaged").await;
        fs::write(site.file(), &next).unwrap();
        site.until_version("2.0.0").await;
        assert_eq!(site.act("done").await.outcome, Outcome::Done);
        site.end().await;
    }
}

#[tokio::test]
async fn a_file_that_is_removed_ends_its_instances_which_come_back_with_it() {
    let site = Site::running().await;
    let (before, kept) = (site.instance(), site.bench.path("kept.so"));
    fs::rename(site.file(), &kept).unwrap();
    site.until(|registry| registry.instance("trial").is_none()).await;
    assert!(before.enter().is_none());
    let why = site.registry.parked("trial").unwrap();
    insta::assert_snapshot!(why, @"the file of its plugin `trial` was removed; put it back, or another of that name");
    assert!(site.registry.list().is_empty());
    site.put(&["-DNEEDS_CONFIG"]);
    let needs_one = |why: String| why.contains("it needs a configuration: `token`: missing");
    site.until(|registry| registry.parked("trial").is_some_and(needs_one))
        .await;
    fs::remove_file(site.file()).unwrap();
    fs::rename(&kept, site.bench.plugins().join("another-name.so")).unwrap();
    site.until_version("1.0.0").await;
    assert_eq!(site.registry.parked("trial"), None);
    assert_eq!(site.registry.list()[0].generation, Some(2));
    site.end().await;
}

#[tokio::test]
async fn a_file_that_gets_another_name_goes_on_as_it_is() {
    let site = Site::running().await;
    let before = site.instance();
    fs::rename(site.file(), site.bench.plugins().join("renamed.so")).unwrap();
    site.until(|registry| {
        registry
            .list()
            .iter()
            .any(|record| record.file.ends_with("renamed.so"))
    })
    .await;
    assert!(Arc::ptr_eq(&before, &site.instance()));
    assert_eq!(site.registry.list().len(), 1);
    site.end().await;
}

#[tokio::test]
async fn a_directory_that_is_out_of_reach_changes_nothing_until_it_is_back() {
    let site = Site::running().await;
    let before = site.instance();
    let away = site.bench.path("away");
    fs::rename(site.bench.plugins(), &away).unwrap();
    site.until_refused("cannot be read").await;
    fs::rename(&away, site.bench.plugins()).unwrap();
    site.until(|registry| refused(&registry.list()).is_none()).await;
    assert!(Arc::ptr_eq(&before, &site.instance()));
    site.end().await;
}

#[tokio::test]
async fn all_instances_of_a_plugin_change_over_or_none() {
    let bench = Bench::new();
    bench.drop_c("trial.so", &[]);
    let instances = vec![
        configured("plain", json!({})),
        configured("tokened", json!({ "token": "x" })),
        configured("unwilling", json!({ "refuse": "never" })),
    ];
    let site = Site::of(bench, instances).await;
    let versions = |registry: &Registry| -> Vec<_> {
        let running = registry.running();
        running
            .iter()
            .map(|instance| (instance.name.clone(), instance.version.clone()))
            .collect()
    };
    let both = |version: &str| {
        [
            ("plain".to_owned(), version.to_owned()),
            ("tokened".to_owned(), version.to_owned()),
        ]
    };
    assert_eq!(versions(&site.registry), both("1.0.0"));
    // Without a token, which this one needs, `plain` cannot go on.
    site.put(&["-DVERSION=\"2.0.0\"", "-DNEEDS_CONFIG"]);
    site.until(|registry| refused(&registry.list()).is_some()).await;
    assert_eq!(versions(&site.registry), both("1.0.0"));
    site.put(&["-DVERSION=\"3.0.0\""]);
    site.until(|registry| versions(registry) == both("3.0.0")).await;
    site.end().await;
}

#[tokio::test]
async fn a_generation_that_does_not_fit_the_rules_is_refused() {
    let site = Site::running().await;
    site.registry.have_approved(Box::new(|catalog| {
        let schema = catalog["trial"].as_ref().unwrap();
        let violations = schema.check(&json!({ "act": "done" }));
        violations
            .first()
            .map_or(Ok(()), |violation| Err(violation.to_string()))
    }));
    site.put(&["-DVERSION=\"2.0.0\"", "-DNEEDS_MORE"]);
    site.until_refused("`reason`: missing").await;
    site.put(&["-DVERSION=\"3.0.0\""]);
    site.until_version("3.0.0").await;
    site.end().await;
}

#[tokio::test]
async fn a_plugin_that_comes_back_is_held_against_the_rules_as_well() {
    let site = Site::running().await;
    fs::remove_file(site.file()).unwrap();
    site.until(|registry| registry.instance("trial").is_none()).await;
    assert!(
        site.registry.catalog()["trial"].is_none(),
        "its name is known, and not what it takes"
    );
    let rules = Arc::new(Mutex::new(Err("the rules do not fit it")));
    let in_force = Arc::clone(&rules);
    site.registry
        .have_approved(Box::new(move |_| in_force.lock().unwrap().map_err(str::to_owned)));
    site.put(&["-DVERSION=\"2.0.0\""]);
    let why = |registry: &Registry| registry.parked("trial").unwrap_or_default();
    site.until(|registry| why(registry) == "the rules do not fit it")
        .await;
    assert!(site.registry.instance("trial").is_none());
    *rules.lock().unwrap() = Ok(());
    site.registry.reconsider();
    site.until_version("2.0.0").await;
    site.end().await;
}

#[tokio::test]
async fn a_generation_that_was_refused_takes_over_when_the_rules_have_come_to_fit_it_and_not_meanwhile() {
    let site = Site::running().await;
    let rules = Arc::new(Mutex::new(Err("the rules do not fit it")));
    let in_force = Arc::clone(&rules);
    site.registry
        .have_approved(Box::new(move |_| in_force.lock().unwrap().map_err(str::to_owned)));
    site.put(&["-DVERSION=\"2.0.0\""]);
    site.until_refused("the rules do not fit it").await;

    let held = site.registry.hold().await;
    assert!(held.catalog().contains_key("trial"));
    *rules.lock().unwrap() = Err("rules are being put in force, and it is asked for its place all the same");
    site.registry.reconsider();
    // It is started meanwhile, beside the one that runs.
    while site.workers() < 2 {
        tokio::task::yield_now().await;
    }
    *rules.lock().unwrap() = Ok(());
    drop(held);
    site.until_version("2.0.0").await;
    site.end().await;
}

#[tokio::test]
async fn what_is_not_locked_is_refused_until_it_is() {
    let bench = Bench::new();
    let lock = bench.path("plugins.lock");
    let write = |files: &[PathBuf]| {
        let digests = files.iter().map(|file| Digest::of(&fs::read(file).unwrap()));
        let lock_of = Lock::of(digests.map(|digest| ("trial".to_owned(), digest)));
        fs::write(&lock, lock_of.to_string()).unwrap();
    };
    write(&[bench.drop_c("trial.so", &[])]);
    let mut options = bench.options(vec![]);
    options.trust.lock = Some(lock.clone());
    let site = Site::with(bench, options).await;
    assert_eq!(site.version(), "1.0.0");
    site.put(&["-DVERSION=\"2.0.0\""]);
    site.until_refused("if it is the one that you mean, `jackfield plugin lock` says so")
        .await;
    write(&[site.file()]);
    site.until_version("2.0.0").await;
    site.end().await;
}

#[tokio::test]
async fn what_is_not_signed_is_refused_until_it_is() {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let sign = |file: PathBuf| {
        let signed = minisign::sign(None, &pair.sk, &*fs::read(&file).unwrap(), Some("release"), None);
        fs::write(file.with_extension("so.minisig"), signed.unwrap().into_string()).unwrap();
    };
    let bench = Bench::new();
    sign(bench.drop_c("trial.so", &[]));
    let mut options = bench.options(vec![]);
    options.trust.keys = vec![Key::parse(&pair.pk.to_base64()).unwrap()];
    options.trust.require_signed = true;
    let site = Site::with(bench, options).await;
    assert_eq!(site.version(), "1.0.0");
    assert_eq!(site.registry.list()[0].signed.as_deref(), Some("release"));
    site.put(&["-DVERSION=\"2.0.0\""]);
    site.until_refused("it is of other bytes").await;
    sign(site.file());
    site.until_version("2.0.0").await;
    fs::remove_file(site.file().with_extension("so.minisig")).unwrap();
    site.until(|registry| refused(&registry.list()).is_some_and(|reason| reason.contains("is not signed")))
        .await;
    assert_eq!(site.version(), "2.0.0", "which was signed when it was taken up");
    site.end().await;
}
