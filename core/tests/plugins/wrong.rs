//! Plugins that are wrong: each is parked with the reason, and the good one beside them runs.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    sync::Arc,
    time::Duration,
};

use jackfield::plugin::{InstanceOptions, PluginState, Survey, directory::Directory, elf};
use serde_json::json;

use crate::{
    built::Build,
    host::Recorder,
    trial::{Bench, configured, log, logged, reason},
};

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_and_stops_nothing() {
    log();
    let (bench, host) = (Bench::new(), Arc::new(Recorder::new()));
    bench.drop_good(Build::C);
    let plugins = bench.plugins();
    fs::write(plugins.join("text.so"), "not a library").unwrap();
    fs::write(plugins.join("empty.so"), "").unwrap();
    let writable = bench.drop_c("writable.so", &["-DNAME=\"writable\""]);
    fs::set_permissions(&writable, fs::Permissions::from_mode(0o775)).unwrap();
    symlink("trial.so", plugins.join("link.so")).unwrap();
    for (name, arguments) in FAULTS {
        let named = format!("-DNAME=\"{}\"", name.trim_end_matches(".so"));
        bench.drop_c(name, &[&[named.as_str()], *arguments].concat());
    }
    let registry = bench.load(&host, Vec::new()).await;
    assert!(registry.instance("trial").is_some());
    assert_eq!(
        registry
            .list()
            .iter()
            .filter(|record| record.state == PluginState::Loaded)
            .count(),
        2
    );

    let mut reasons = String::new();
    for record in &*registry.list() {
        let file = record.file.file_name().and_then(OsStr::to_str).unwrap();
        let why = reason(&registry.list(), file, &plugins).unwrap_or_else(|| "loaded".to_owned());
        reasons += &format!("{file}: {why}\n");
    }
    // Where our copy is, and which version of its loader the system has, is not the same everywhere.
    let copies = bench.path("data/plugins").display().to_string();
    insta::assert_snapshot!(reasons.replace(&copies, "…"), @r#"
    abi.so: `abi.so` (plugin `abi`) speaks ABI 7.0, this Jackfield speaks 1.0: build it with the SDK or header of this release
    abort.so: `abort.so` crashed when it was asked for its manifest (SIGABRT), saying: first line / assertion failed: I exist
    crash.so: `crash.so` crashed when it was asked for its manifest (SIGSEGV)
    empty.so: `empty.so` is not a library: it is empty; a plugin is a shared library (ELF, `crate-type = ["cdylib"]`)
    entry-refuses.so: `entry-refuses.so` refuses this Jackfield (ABI 1.0)
    exit.so: `exit.so` ended the process (status 3) when it was asked for its manifest
    hoard.so: `hoard.so` crashed when it was asked for its manifest (SIGABRT), saying: no memory for 2 GiB
    leave.so: `leave.so` ended the process (status 0) when it was asked for its manifest
    link.so: `link.so` is a symbolic link, not a regular file: put the file itself there
    malloc.so: `malloc.so` exports `malloc`, which would be mixed up with the process's own: hide it (-fvisibility=hidden, or a version script)
    manifest-other.so: the manifest of `manifest-other.so` is unusable: it is that of `other 1.0.0`, the note that of `manifest-other 1.0.0`: the library was linked from parts of two plugins
    manifest-text.so: the manifest of `manifest-text.so` is unusable: it is not what the ABI asks for: expected value at line 1 column 1
    name.so: `name.so` calls itself `Not A Name`: a plugin's name is 1 to 63 of a-z, 0-9 and `-`
    no-entry.so: `no-entry.so` does not export `jf_plugin_entry`, which every plugin must: it was linked without it, or stripped of it
    no-note.so: `no-note.so` is a shared library but not a plugin: it has no Jackfield note; build it with `export_plugin!` of jackfield-sdk, or `JF_DECLARE_NOTE` of jackfield_plugin.h
    note-other.so: `note-other.so` is not built to the ABI: its note says name `note-another`, its code `note-other`
    rpath.so: `rpath.so` has a library search path of its own (`/opt/somewhere`): libraries must come from the system; link it without -rpath
    signals.so: loaded
    silent.so: the plugin gave no instance and no reason, which the ABI requires
    stack.so: `stack.so` asks for an executable stack: link it with -z noexecstack
    table-hole.so: `table-hole.so` is not built to the ABI: it has no function `call`
    table-other.so: `table-other.so` is not built to the ABI: its note says name `table-other`, its code `other`
    table-short.so: `table-short.so` is not built to the ABI: the table of its functions cannot be read: its struct_size is 16, not at least 112
    text-relocation.so: `text-relocation.so` has text relocations: its code would be writable in memory; build it with -fPIC
    text.so: `text.so` is not a library: it is a text; a plugin is a shared library (ELF, `crate-type = ["cdylib"]`)
    trial.so: loaded
    unresolved.so: `unresolved.so` cannot be loaded: dlopen failed: unresolved.so: undefined symbol: nobody_has_this
    writable.so: `writable.so` has mode 0775: others than its owner may change it, and so run code in this process: chmod go-w 'writable.so'
    "#);
    assert!(logged().contains("plugin replaced a signal handler while it was loaded; put back"));
    registry.shutdown(Duration::from_secs(60)).await;
}

/// Ways to be wrong.
const FAULTS: &[(&str, &[&str])] = &[
    ("abi.so", &["-DOTHER_MAJOR"]),
    ("abort.so", &["-DDESCRIBE_ABORT"]),
    ("crash.so", &["-DDESCRIBE_CRASH"]),
    ("entry-refuses.so", &["-DENTRY_REFUSES"]),
    ("exit.so", &["-DDESCRIBE_EXIT"]),
    ("hoard.so", &["-DHOARDS"]),
    ("leave.so", &["-DDESCRIBE_LEAVE"]),
    ("malloc.so", &["-DMALLOC", "-fno-builtin"]),
    ("manifest-other.so", &["-DDESCRIBE_OTHER"]),
    ("manifest-text.so", &["-DDESCRIBE_TEXT"]),
    ("name.so", &["-DNOTE_NAME=\"Not A Name\""]),
    ("no-entry.so", &["-DNO_ENTRY"]),
    ("no-note.so", &["-DNO_NOTE"]),
    ("note-other.so", &["-DNOTE_NAME=\"note-another\""]),
    ("rpath.so", &["-Wl,-rpath,/opt/somewhere"]),
    ("signals.so", &["-DSIGNALS"]),
    ("silent.so", &["-DCREATE_SILENT"]),
    ("stack.so", &["-Wl,-z,execstack"]),
    ("table-hole.so", &["-DTABLE_HOLE"]),
    ("table-other.so", &["-DTABLE_OTHER"]),
    ("table-short.so", &["-DTABLE_SHORT"]),
    ("text-relocation.so", &["-DTEXT_RELOCATION", "-Wl,-z,notext"]),
    ("unresolved.so", &["-DUNRESOLVED"]),
];

#[tokio::test]
async fn a_plugin_that_hangs_when_it_is_asked_for_its_manifest_is_killed() {
    let bench = Bench::new();
    bench.drop_c("hang.so", &["-DDESCRIBE_HANG"]);
    let mut options = bench.options(Vec::new());
    options.runner.limit = Duration::from_millis(300);
    let plugins = Survey::take(options).await.plugins();
    let reason = reason(&plugins, "hang.so", &bench.plugins());
    insta::assert_snapshot!(reason.unwrap(), @"`hang.so` did not give its manifest within 300ms");
}

#[tokio::test]
async fn libraries_are_asked_for_their_manifests_beside_one_another() {
    let bench = Bench::new();
    for name in ["first", "second", "third"] {
        bench.drop_c(&format!("{name}.so"), &[&format!("-DNAME=\"{name}\"")]);
    }
    let mut options = bench.options(Vec::new());
    // Each waits until all are being asked, or until its time is over.
    let (asked, script) = (
        bench.path("asked"),
        r#"touch "$0/$$"; while [ "$(ls "$0" | wc -l)" -lt 3 ]; do sleep 0.02; done; exec "$@""#,
    );
    fs::create_dir(&asked).unwrap();
    let program = std::mem::replace(&mut options.runner.program, "/bin/sh".into());
    let before = ["-c".into(), script.into(), asked.into(), program.into()];
    options.runner.args.splice(0..0, before);
    let plugins = Survey::take(options).await.plugins();
    let states: Vec<_> = plugins
        .iter()
        .map(|plugin| (plugin.name.as_deref().unwrap(), &plugin.state))
        .collect();
    let loaded = &PluginState::Loaded;
    assert_eq!(states, [("first", loaded), ("second", loaded), ("third", loaded)]);
}

#[tokio::test]
async fn what_is_parked_is_known_by_its_name_and_what_is_idle_is_not() {
    let (bench, host) = (Bench::new(), Arc::new(Recorder::new()));
    bench.drop_c("crash.so", &["-DNAME=\"crash\"", "-DDESCRIBE_CRASH"]);
    bench.drop_c("abi.so", &["-DNAME=\"abi\"", "-DOTHER_MAJOR"]);
    bench.drop_c("idle.so", &["-DNAME=\"idle\"", "-DNEEDS_CONFIG"]);
    bench.drop_c("named.so", &["-DNAME=\"named\"", "-DDESCRIBE_CRASH"]);
    let registry = bench
        .load(
            &host,
            vec![
                configured("plain", json!({})),
                InstanceOptions {
                    plugin: "named".to_owned(),
                    ..configured("other", json!({}))
                },
            ],
        )
        .await;
    let catalog = registry.catalog();
    assert_eq!(
        catalog.keys().collect::<Vec<_>>(),
        ["abi", "crash", "other", "plain"]
    );
    assert!(catalog["crash"].is_none());
    for (name, words) in [
        ("crash", "crashed when it was asked"),
        ("abi", "speaks ABI 7.0"),
        ("idle", "needs a configuration"),
    ] {
        let why = registry.parked(name).unwrap();
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn of_two_files_with_one_name_the_first_is_used() {
    let bench = Bench::new();
    bench.drop_c("a.so", &[]);
    bench.drop_c("b.so", &["-DNEEDS_CONFIG"]);
    let plugins = bench.survey(Vec::new()).await.plugins();
    assert_eq!(plugins[0].state, PluginState::Loaded);
    let reason = reason(&plugins, "b.so", &bench.plugins());
    insta::assert_snapshot!(reason.unwrap(), @"`b.so` calls itself `trial`, and so does `a.so`, which came first: remove one of them");
    assert!(plugins[1].instances.is_empty());
}

#[tokio::test]
async fn a_directory_that_others_may_write_to_is_not_loaded_from() {
    let bench = Bench::new();
    bench.drop_good(Build::C);
    fs::set_permissions(bench.plugins(), fs::Permissions::from_mode(0o777)).unwrap();
    let plugins = bench.survey(Vec::new()).await.plugins();
    assert_eq!(plugins.len(), 1);
    let reason = plugins[0].state.reason().unwrap();
    assert!(
        reason.ends_with(&format!("chmod go-w '{}'", bench.plugins().display())),
        "{reason}"
    );
}

#[test]
fn a_library_that_breaks_off_anywhere_is_refused() {
    let bench = Bench::new();
    let path = bench.drop_c("trial.so", &[]);
    let whole = fs::read(&path).unwrap();
    let directory = Directory::open(&bench.plugins()).unwrap();
    let accepted = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        elf::inspect(directory.read(OsStr::new("trial.so"), 1 << 20).unwrap(), None).is_ok()
    };
    assert!(accepted(&whole));
    for length in (0..whole.len()).rev().step_by(61) {
        assert!(!accepted(&whole[..length]), "{length} of {}", whole.len());
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]
    #[test]
    fn damage_of_a_library_is_never_a_panic(damage in proptest::collection::vec((0usize..700, proptest::num::u8::ANY), 1..40)) {
        static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let whole = WHOLE.get_or_init(|| {
            let bench = Bench::new();
            fs::read(bench.drop_c("trial.so", &[])).unwrap()
        });
        let mut bytes = whole.clone();
        for (near, byte) in damage {
            // Most of what is read lies in the first and the last few hundred bytes.
            let index = if byte % 2 == 0 { near } else { bytes.len() - 1 - near };
            bytes[index] = byte;
        }
        let bench = Bench::new();
        fs::write(bench.plugins().join("damaged.so"), bytes).unwrap();
        let candidate = Directory::open(&bench.plugins()).unwrap().read(OsStr::new("damaged.so"), 1 << 20).unwrap();
        drop(elf::inspect(candidate, None));
    }
}
