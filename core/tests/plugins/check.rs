//! `plugin check`: good plugins pass, and each fault is found by the check that asks for it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use jackfield::plugin::unenforced;
use jackfield_stage::cargo;
use serde_json::Value;

use crate::{
    built::{self, Build},
    trial::Bench,
};

/// What `plugin check` says of that library.
fn check(library: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jackfield"))
        .args(["plugin", "check"])
        .arg(library)
        .args(arguments)
        .output()
        .unwrap()
}

/// The same as JSON, and the exit code.
fn checked(library: &Path, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = check(library, &[arguments, &["-o", "json"]].concat());
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (json, output.status.code())
}

/// The checks with that verdict, by their names.
fn with(report: &Value, verdict: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let those = checks.filter(|check| check["verdict"] == verdict);
    those
        .map(|check| check["check"].as_str().unwrap().to_owned())
        .collect()
}

/// The library in C with that fault has that verdict, by that check and no other, with these words.
#[track_caller]
fn faulty(compile: &[&str], arguments: &[&str], verdict: &str, name: &str, words: &str) -> Value {
    let bench = Bench::new();
    let library = bench.drop_c("faulty.so", compile);
    found(&library, arguments, verdict, name, words)
}

#[track_caller]
fn found(library: &Path, arguments: &[&str], verdict: &str, name: &str, words: &str) -> Value {
    let (report, code) = checked(library, arguments);
    let shown = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(code, Some(i32::from(verdict == "failed")), "{shown}");
    if verdict == "failed" {
        assert_eq!(with(&report, "failed"), [name], "{shown}");
    }
    let mut checks = report["checks"].as_array().unwrap().iter();
    let found = checks.find(|check| check["check"] == name).unwrap();
    assert_eq!(found["verdict"], verdict, "{shown}");
    assert!(found["found"].as_str().unwrap().contains(words), "{shown}");
    report
}

#[test]
fn a_good_plugin_passes_in_rust() {
    let (report, code) = checked(&Build::RUST.library(), &["--input", r#"{"act":"wait"}"#]);
    assert_eq!(code, Some(0));
    assert_eq!(report["passed"], true);
    assert_eq!(with(&report, "passed").len(), 17, "{report:#}");
}

#[test]
fn a_good_plugin_passes_in_c() {
    let bench = Bench::new();
    let library = bench.drop_good(Build::C);
    let (report, code) = checked(&library, &["--input", r#"{"act":"wait"}"#]);
    assert_eq!(code, Some(0));
    // Its fields are not explained, and of an object it looks at two fields only.
    assert_eq!(with(&report, "warning"), ["schemas", "bad-config"], "{report:#}");
    assert_eq!(with(&report, "passed").len(), 15);
}

#[test]
fn what_cannot_be_tried_is_skipped_with_what_it_takes() {
    let (bench, verdict) = (Bench::new(), "skipped");
    let library = bench.drop_c("needy.so", &["-DNEEDS_CONFIG"]);
    let (report, code) = checked(&library, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        with(&report, verdict),
        [
            "start",
            "bad-input",
            "bad-request",
            "cancel",
            "panics",
            "process",
            "threads",
            "descriptors"
        ]
    );
    let (report, _) = checked(&library, &["--instance-config", r#"{"token":"x"}"#]);
    // It needs an input, and without one nobody knows what its calls do.
    assert_eq!(
        with(&report, verdict),
        ["cancel", "panics", "process", "threads", "descriptors"]
    );
    let words = "none could be provoked as far as was tried, but `cancel` was skipped";
    assert!(report.to_string().contains(words), "{report:#}");
    let misfit = check(&library, &["--instance-config", r#"{"tokn":"x"}"#]);
    assert_eq!(misfit.status.code(), Some(2));
    let said = String::from_utf8_lossy(&misfit.stderr).into_owned();
    insta::assert_snapshot!(said.trim(), @"error: the configuration that was given does not fit the plugin: `token`: missing; `tokn`: unknown; did you mean `token`?");
}

#[test]
fn what_is_wrong_with_the_file_is_found_before_it_is_loaded() {
    for (compile, name, words) in [
        (&["-DNO_NOTE"][..], "note", "it has no Jackfield note"),
        (&["-DOTHER_MAJOR"], "note", "speaks ABI 7."),
        (&["-DNO_ENTRY"], "exports", "does not export `jf_plugin_entry`"),
        (&["-DMALLOC", "-fno-builtin"], "exports", "exports `malloc`"),
        (&["-Wl,-rpath,/opt/somewhere"], "elf", "search path"),
        (&["-Wl,-z,execstack"], "elf", "executable stack"),
    ] {
        let report = faulty(compile, &[], "failed", name, words);
        assert!(with(&report, "skipped").contains(&"load".to_owned()));
    }
    faulty(&["-DEXPORTS"], &[], "warning", "exports", "`helper`");
    let other = ["-Wl,--no-as-needed", "-lresolv"];
    faulty(&other, &[], "warning", "needs", "libresolv.so.2");
}

#[test]
fn what_only_a_process_of_its_own_can_bear_is_tried_in_one_and_told() {
    let apart = "can only live in a process of its own";
    for fault in ["-DPANIC_ABORT", "-DSTATIC_TLS=4096", "-DGO"] {
        faulty(&[fault], &[], "warning", "elf", apart);
    }
    let (report, code) = checked(&Build::ALLOCATOR.library(), &["--input", r#"{"act":"wait"}"#]);
    assert_eq!(
        (code, with(&report, "warning")),
        (Some(0), vec!["elf".to_owned()]),
        "{report:#}"
    );
}

#[test]
fn what_is_wrong_with_its_table_and_manifest_is_found() {
    for (compile, name, words) in [
        (&["-DUNRESOLVED"][..], "load", "undefined symbol: nobody_has_this"),
        (&["-DTABLE_HOLE"], "load", "it has no function `call`"),
        (&["-DENTRY_REFUSES"], "load", "refuses this Jackfield"),
        (
            &["-DDESCRIBE_CRASH"],
            "manifest",
            "crashed when it was asked for its manifest (SIGSEGV)",
        ),
        (
            &["-DDESCRIBE_TEXT"],
            "manifest",
            "it is not what the ABI asks for",
        ),
        (&["-DSCHEMA_WRONG"], "schemas", "`config_schema` is unusable"),
        (&["-DSCHEMA_OF_TEXT"], "schemas", "nothing fits `config_schema`"),
    ] {
        faulty(compile, &[], "failed", name, words);
    }
}

#[test]
fn what_it_does_with_configurations_is_found() {
    for (compile, verdict, name, words) in [
        (
            &["-DTAKES_ANYTHING"][..],
            "failed",
            "bad-config",
            "never refuses any",
        ),
        (
            &["-DGARBAGE_SILENT"],
            "failed",
            "bad-config",
            "no reason why it refuses text that is not JSON",
        ),
        (
            &["-DGARBAGE_CRASH"],
            "failed",
            "bad-config",
            "crashed (SIGSEGV), when it was created with text that is not JSON",
        ),
        (
            &["-DGARBAGE_PANIC"],
            "warning",
            "panics",
            "text that is not JSON: index out of bounds",
        ),
    ] {
        faulty(compile, &[], verdict, name, words);
    }
    let bench = Bench::new();
    // That there is no other beside it is no matter.
    let endless = bench.drop_c("endless.so", &["-DNEVER_ENDS", "-DCREATE_ONCE"]);
    let (report, _) = checked(&endless, &[]);
    assert_eq!(with(&report, "failed"), ["start", "cancel"], "{report:#}");
    assert!(
        report.to_string().contains("did not end when it was shut down"),
        "{report:#}"
    );
    let silent = bench.drop_c("silent.so", &["-DCREATE_SILENT"]);
    assert_eq!(with(&checked(&silent, &[]).0, "failed"), ["start", "bad-config"]);
    let library = bench.drop_good(Build::C);
    let (report, code) = checked(&library, &["--instance-config", r#"{"refuse":"not today"}"#]);
    assert_eq!(
        (code, with(&report, "failed")),
        (Some(1), vec!["start".to_owned()])
    );
}

#[test]
fn a_plugin_that_hangs_is_ended_and_the_rest_is_tried_all_the_same() {
    let report = faulty(
        &["-DGARBAGE_HANG"],
        &["--limit", "1s"],
        "failed",
        "bad-config",
        "did not end within 1s: when it was created with text that is not JSON",
    );
    assert!(with(&report, "passed").contains(&"start".to_owned()));
}

#[test]
fn a_library_for_a_newer_system_is_found() {
    let bench = Bench::new();
    let library = bench.drop_c("newer.so", &[]);
    let mut bytes = fs::read(&library).unwrap();
    // The versions of the C library that it was linked with, each of them become one that nobody has yet.
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"GLIBC_2.") {
            bytes[at..][..8].copy_from_slice(b"GLIBC_9.");
        }
    }
    fs::write(&library, bytes).unwrap();
    let report = found(&library, &[], "failed", "needs", "needs version 9.");
    let words = "of the C library, this system has 2.";
    assert!(report.to_string().contains(words), "{report:#}");
    assert_eq!(
        with(&report, "passed"),
        ["file"],
        "what was not looked at is not judged"
    );
}

#[test]
fn what_it_does_to_the_process_is_found() {
    for (fault, words) in [
        ("-DSIGNALS", "the handler of SIGUSR2, when it was loaded"),
        ("-DSETS_SIGNAL", "the handler of SIGUSR1, when it was created"),
        ("-DSETS_UMASK", "the umask, from"),
        ("-DSETS_DIRECTORY", "to /tmp, when it was created"),
        ("-DSETS_ENVIRONMENT", "the variable TRIAL of the environment"),
        (
            "-DSETS_SIGNAL_IN_SHUTDOWN",
            "the handler of SIGUSR1, when it was shut down or destroyed",
        ),
        ("-DSETS_UMASK_IN_CALL", "to 0000, with inputs that do not fit"),
    ] {
        faulty(&[fault], &[], "failed", "process", words);
    }
}

/// What a router would not let it do, it is not let do here.
#[test]
fn what_it_does_not_say_that_it_needs_it_does_not_get() {
    let lacking = unenforced();
    if !lacking.is_empty() {
        println!("skipped, since this kernel does not enforce: {lacking:?}");
        return;
    }
    let given = ["--instance-config", "{}", "--input", r#"{"act":"wait"}"#];
    let words = "the first instance was refused: Permission denied";
    faulty(&["-DREADS_PASSWORDS"], &given, "failed", "start", words);
}

#[test]
fn what_it_leaves_behind_is_found_whenever_that_is() {
    let wait = ["--input", r#"{"act":"wait"}"#];
    for (fault, name, words) in [
        (
            "-DLEAVES_THREAD",
            "threads",
            "threads go on after instances without calls: `lingers`",
        ),
        (
            "-DLEAVES_THREAD_OF_CALL",
            "threads",
            "threads go on after inputs that do not fit: `lingers`",
        ),
        (
            "-DLEAVES_DESCRIPTOR",
            "descriptors",
            "after instances without calls, more each time: `/dev/zero`",
        ),
        (
            "-DLEAVES_DESCRIPTOR_OF_CALL",
            "descriptors",
            "after inputs that do not fit, more each time: `/dev/zero`",
        ),
    ] {
        faulty(&[fault], &wait, "failed", name, words);
    }
}

#[test]
fn what_it_does_with_calls_is_found() {
    let wait = ["--input", r#"{"act":"wait"}"#];
    let once = "a call that had ended already";
    let bench = Bench::new();
    let library = bench.drop_c("twice.so", &["-DENDS_TWICE"]);
    let (report, _) = checked(&library, &wait);
    assert_eq!(with(&report, "failed"), ["bad-input", "cancel"]);
    assert!(report.to_string().contains(once));
    faulty(&[], &["--input", r#"{"act":"twice"}"#], "failed", "cancel", once);
    let deaf = ["--limit", "4s", "--input", r#"{"act":"deaf"}"#];
    faulty(
        &[],
        &deaf,
        "failed",
        "cancel",
        "32 of 32 calls did not end although they were cancelled",
    );
    let fatal = ["--input", r#"{"act":"segfault"}"#];
    faulty(
        &[],
        &fatal,
        "failed",
        "cancel",
        "crashed (SIGSEGV), while 32 calls were begun and cancelled",
    );
}

#[test]
fn a_provider_that_believes_nobody_passes() {
    let bench = Bench::new();
    let path = bench.plugins().join("provider.so");
    built::compile("provider.c", &path, &[]);
    let acme = cargo::build(&["provider-plugin"], "dev").unwrap();
    for library in [path, acme.library("provider-plugin").unwrap()] {
        let (report, code) = checked(&library, &[]);
        assert_eq!((code, with(&report, "passed").len()), (Some(0), 17), "{report:#}");
        for words in [
            "15 requests that prove nothing were handed over: none was believed that may not be",
            "64 requests of two instances were begun and cancelled at once",
        ] {
            assert!(report.to_string().contains(words), "{report:#}");
        }
    }
}

#[test]
fn a_provider_that_is_an_action_as_well_is_tried_as_both() {
    let bench = Bench::new();
    let library = bench.plugins().join("provider.so");
    built::compile("provider.c", &library, &["-DACTS"]);
    let (report, code) = checked(&library, &["--input", r#"{"act":"done"}"#]);
    assert_eq!(code, Some(0), "{report:#}");
    for words in [
        "64 calls of two instances were begun and cancelled at once",
        "64 requests of two instances were begun and cancelled at once",
    ] {
        assert!(report.to_string().contains(words), "{report:#}");
    }
    // Without an input for its calls, its requests are tried all the same.
    found(&library, &[], "skipped", "cancel", "a call has to have an input");
    built::compile("provider.c", &library, &["-DACTS", "-DANSWERS_TWICE"]);
    let (report, _) = checked(&library, &[]);
    assert_eq!(with(&report, "failed"), ["bad-request", "cancel"], "{report:#}");
}

#[test]
fn a_provider_that_believes_what_proves_nothing_is_found() {
    let bench = Bench::new();
    for (fault, verdict, name, words) in [
        (
            "-DBELIEVES_UNSIGNED",
            "failed",
            "bad-request",
            "it takes 12 of 15 requests for signed that nobody has signed",
        ),
        (
            "-DBELIEVES_ANYBODY",
            "warning",
            "bad-request",
            "(as `none`), which the source has not allowed",
        ),
        (
            "-DSHAKES_HANDS",
            "warning",
            "bad-request",
            "it answers as a handshake what proves nothing",
        ),
        (
            "-DSPEAKS_NONSENSE",
            "failed",
            "bad-request",
            "no verdict that the ABI knows",
        ),
        (
            "-DCRASHES_ON_TEXT",
            "failed",
            "bad-request",
            "crashed (SIGABRT), when it was asked about a body that is no text",
        ),
        (
            "-DPANICS",
            "warning",
            "panics",
            "asked about nothing but an address, where there is no secret: index out of bounds",
        ),
    ] {
        let library = bench.plugins().join("provider.so");
        built::compile("provider.c", &library, &[fault]);
        found(&library, &[], verdict, name, words);
    }
    for (fault, arguments, words) in [
        ("-DANSWERS_TWICE", &[][..], "a call that had ended already"),
        ("-DNEVER_ANSWERS", &["--limit", "1s"], "did not end"),
    ] {
        let library = bench.plugins().join("provider.so");
        built::compile("provider.c", &library, &[fault]);
        let (report, _) = checked(&library, arguments);
        assert_eq!(with(&report, "failed"), ["bad-request", "cancel"], "{report:#}");
        assert!(report.to_string().contains(words), "{report:#}");
    }
}

#[test]
fn the_report_is_for_people_unless_it_is_asked_for_as_json() {
    let bench = Bench::new();
    let library = bench.drop_c("faulty.so", &["-DLEAVES_DESCRIPTOR"]);
    let output = check(&library, &["--input", r#"{"act":"wait"}"#]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = said.lines().next().unwrap();
    assert_eq!(first, format!("trial 1.0.0  {}", library.display()));
    for line in [
        "  passed   exports      `jf_plugin_entry`, and nothing else",
        "  failed   descriptors  descriptors stay open after instances without calls, more each time: `/dev/zero`",
        "                        next: close them at the end of a call, in `shutdown`, or in `destroy`",
        "1 failed, 2 warnings, 14 passed",
    ] {
        assert!(said.lines().any(|found| found == line), "{line:?} in\n{said}");
    }
    let missing = check(Path::new("/no/such.so"), &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("`/no/such.so` cannot be read"));
    let usage = check(&library, &["--input", "name=Ada"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("it is not JSON"));
}
