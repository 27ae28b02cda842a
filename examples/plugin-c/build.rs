//! Builds the plugin with the system's C compiler, or the one that `CC` names.

use std::{env, path::Path, process::Command};

const SOURCE: &str = "src/count_in_c.c";
const INCLUDE: &str = "../../sdk/abi/include";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed={INCLUDE}");
    println!("cargo::rerun-if-env-changed=CC");
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let out = env::var("OUT_DIR").expect("cargo says where to put what is built");
    let library = Path::new(&out).join("libcount_in_c.so");
    let status = Command::new(&compiler)
        .args([
            "-std=gnu11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-fPIC",
            "-shared",
            "-pthread",
        ])
        .args(["-fvisibility=hidden", "-I", INCLUDE, "-o"])
        .arg(&library)
        .arg(SOURCE)
        .status()
        .unwrap_or_else(|error| panic!("the C compiler `{compiler}` cannot be run: {error}"));
    assert!(status.success(), "`{compiler}` has said why");
    println!("cargo::rustc-env=LIBRARY={}", library.display());
}
