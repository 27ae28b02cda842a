//! The libraries under test, built for this very run.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use jackfield_stage::cargo;

/// The plugin in Rust, where cargo says that it has put it.
pub(crate) fn rust() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        cargo::build(&["trial-plugin"], "dev")
            .unwrap()
            .library("trial-plugin")
            .unwrap()
    };
    BUILT.get_or_init(build).clone()
}

/// The plugin with an allocator of its own.
pub(crate) fn allocator() -> PathBuf {
    let built = cargo::build(&["allocator-plugin"], "dev").unwrap();
    built.library("allocator-plugin").unwrap()
}

/// The plugin in C, at `to`; `arguments` make it wrong, if any.
pub(crate) fn c(to: &Path, arguments: &[&str]) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-Wall",
            "-Wextra",
            "-Wno-unused",
            "-o",
        ])
        .arg(to)
        .arg(here.join("tests/plugins/trial.c"))
        .arg("-I")
        .arg(here.join("../sdk/abi/include"))
        .args(arguments)
        .arg("-lpthread")
        .output()
        .expect("a C compiler is there");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
