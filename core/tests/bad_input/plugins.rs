//! Files in the plugins directory that are no plugins, and plugins that are not configured as they want.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::site::{ROUTES, Site, eventually, plugin};

/// Instances that cannot be, each with a route that uses it.
const INSTANCES: &str = r#"
[[instance]]
name = "picky"
plugin = "counting-plugin"
config = { report_to = 7 }

[[instance]]
name = "foreign"
plugin = "foreign-plugin1"

[[instance]]
name = "counting-plugin"
"#;
const BROKEN_ROUTES: &str = r#"
[[route]]
name = "to-picky"
when.type = ["io.zeplin.project.screen.version.created"]
[[route.step]]
use = "picky"

[[route]]
name = "to-foreign"
when.type = ["io.zeplin.project.screen.version.created"]
[[route.step]]
use = "foreign"
"#;

/// The counting plugin under another name, as if another major of the ABI had built it.
fn of_another_major() -> Vec<u8> {
    let mut bytes = fs::read(plugin()).unwrap();
    let magic = jackfield_abi::MAGIC;
    let places: Vec<_> = (0..bytes.len() - magic.len())
        .filter(|at| bytes[*at..].starts_with(&magic))
        .filter(|at| bytes[at + 24..].starts_with(b"counting-plugin\0"))
        .collect();
    let [at] = places[..] else {
        panic!("{} notes", places.len())
    };
    bytes[at + 12..at + 16].copy_from_slice(&(jackfield_abi::ABI_MAJOR + 1).to_le_bytes());
    bytes[at + 24..at + 39].copy_from_slice(b"foreign-plugin1");
    bytes
}

/// A shared library of the system.
fn some_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    files.find(|file| file.contains("/libc.so")).unwrap().into()
}

fn drop_in(site: &Site) {
    let plugins = site.router.home().join("plugins");
    let good = fs::read(plugin()).unwrap();
    for (name, bytes) in [
        ("another-major.so", of_another_major()),
        ("empty.so", Vec::new()),
        ("half.so", good[..good.len() / 2].to_vec()),
        ("libc.so", fs::read(some_library()).unwrap()),
        ("notes.so", b"to do: write a plugin\n".to_vec()),
    ] {
        fs::write(plugins.join(name), bytes).unwrap();
    }
}

/// One line for each that is parked.
fn parked(listed: &Value, key: &str, name: &str) -> String {
    let parked = listed[key].as_array().unwrap().iter();
    let parked = parked.filter(|entry| entry["state"] == "parked");
    let lines = parked.map(|entry| {
        format!(
            "{}: {}",
            entry[name].as_str().unwrap_or_default(),
            entry["reason"].as_str().unwrap()
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_is_no_plugin_is_parked_with_the_reason_and_the_router_runs() {
    let mut site = Site::prepare();
    drop_in(&site);
    site.configure(INSTANCES);
    site.rules(&format!("{ROUTES}\n{BROKEN_ROUTES}"));

    let output = site.attempt(&["check"]).await;
    assert_eq!(output.status.code(), Some(78));
    insta::assert_snapshot!(site.plain(&output.stderr), @r#"
    `…/plugins/another-major.so` (plugin `foreign-plugin1`) speaks ABI 2.0, this Jackfield speaks 1.0: build it with the SDK or header of this release
    `…/plugins/empty.so` is not a library: it is empty; a plugin is a shared library (ELF, `crate-type = ["cdylib"]`)
    `…/plugins/half.so` is damaged (Invalid ELF section header offset/size/alignment): copy it again
    `…/plugins/libc.so` is a shared library but not a plugin: it has no Jackfield note; build it with `export_plugin!` of jackfield-sdk, or `JF_DECLARE_NOTE` of jackfield_plugin.h
    `…/plugins/notes.so` is not a library: it is a text; a plugin is a shared library (ELF, `crate-type = ["cdylib"]`)
    instance `foreign` cannot run: its plugin is parked: `…/plugins/another-major.so` (plugin `foreign-plugin1`) speaks ABI 2.0, this Jackfield speaks 1.0: build it with the SDK or header of this release
    instance `picky` cannot run: its configuration does not fit plugin `counting-plugin`: `report_to`: found 7, expected a string

    error: 7 faults in the configuration
    "#);

    site.router.start().await.unwrap();
    let listed = site.router.ask(&["plugin", "list"]).await.unwrap();
    insta::assert_snapshot!(site.plain(parked(&listed, "plugins", "file").as_bytes()), @r#"
    …/plugins/another-major.so: `…/plugins/another-major.so` (plugin `foreign-plugin1`) speaks ABI 2.0, this Jackfield speaks 1.0: build it with the SDK or header of this release
    …/plugins/empty.so: `…/plugins/empty.so` is not a library: it is empty; a plugin is a shared library (ELF, `crate-type = ["cdylib"]`)
    …/plugins/half.so: `…/plugins/half.so` is damaged (Invalid ELF section header offset/size/alignment): copy it again
    …/plugins/libc.so: `…/plugins/libc.so` is a shared library but not a plugin: it has no Jackfield note; build it with `export_plugin!` of jackfield-sdk, or `JF_DECLARE_NOTE` of jackfield_plugin.h
    …/plugins/notes.so: `…/plugins/notes.so` is not a library: it is a text; a plugin is a shared library (ELF, `crate-type = ["cdylib"]`)
    "#);
    insta::assert_snapshot!(site.plain(parked(&listed, "instances", "name").as_bytes()), @r#"
    picky: its configuration does not fit plugin `counting-plugin`: `report_to`: found 7, expected a string
    foreign: its plugin is parked: `…/plugins/another-major.so` (plugin `foreign-plugin1`) speaks ABI 2.0, this Jackfield speaks 1.0: build it with the SDK or header of this release
    "#);

    // What needs them waits, and says for what; what does not is carried out.
    assert_eq!(site.zeplin_posts("first").await.status, 200);
    let mut waiting = Vec::new();
    eventually(async || {
        waiting = site.ask(&["deliveries", "list", "--state", "waiting"]).await;
        waiting.len() == 2
    })
    .await;
    let mut words: Vec<_> = waiting
        .iter()
        .map(|delivery| {
            let word = |key: &str| delivery[key].as_str().unwrap_or_default();
            format!("{} {}: {}", word("route"), word("reason"), word("detail"))
        })
        .collect();
    words.sort();
    insta::assert_snapshot!(site.plain(words.join("\n").as_bytes()), @r#"
    to-foreign instance-parked: the instance `foreign` is parked: its plugin is parked: `…/plugins/another-major.so` (plugin `foreign-plugin1`) speaks ABI 2.0, this Jackfield speaks 1.0: build it with the SDK or header of this release
    to-picky instance-parked: the instance `picky` is parked: its configuration does not fit plugin `counting-plugin`: `report_to`: found 7, expected a string
    "#);
    site.goes_on().await;
}
