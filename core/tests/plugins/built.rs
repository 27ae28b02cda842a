//! The libraries under test, built for this very run.

use std::{
    fs::File,
    hash::BuildHasher as _,
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use jackfield_stage::cargo;

/// A build of the plugin `trial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// In C, by the system's compiler.
    C,
    /// In Rust: a package beside this file that is built with the rest of the workspace, for debugging.
    Shared(&'static str),
    /// In Rust: a package beside this file, and a profile in which nothing else is built.
    Alone(&'static str, &'static str),
}

impl Build {
    /// The plugin in Rust.
    pub(crate) const RUST: Self = Self::Shared("trial");
    /// The one that has another allocator than the router.
    pub(crate) const ALLOCATOR: Self = Self::Shared("allocator");
    /// The one whose calls begin on the threads that bring them.
    pub(crate) const INLINE: Self = Self::Shared("inline");
    /// The one whose panics end its process.
    pub(crate) const ABORTS: Self = Self::Alone("trial", "abort");

    /// The one with an older tokio than the router's.
    pub(crate) const OLDER_TOKIO: Self = Self::Alone("older-tokio", "dev");

    /// Where it is. The first that asks builds it.
    pub(crate) fn library(self) -> PathBuf {
        match self {
            Self::C => once("trial-c", |name| {
                let path = target().join(name).with_extension("so");
                c(&path, &[]);
                path
            }),
            Self::Shared(package) => once(package, |_| {
                let package = format!("{package}-plugin");
                let built = cargo::build(&[package.as_str()], "dev").unwrap();
                built.library(&package).unwrap()
            }),
            Self::Alone(package, profile) => once(&format!("{package}-{profile}"), |_| {
                let manifest = here().join(package).join("Cargo.toml");
                let built = cargo::build_alone(&manifest, profile, &target().join("alone")).unwrap();
                built.library(&format!("{package}-plugin")).unwrap()
            }),
        }
    }
}

/// Builds once in a run of the tests, which may be processes of their own: whoever comes later reads where it is.
fn once(name: &str, build: impl FnOnce(&str) -> PathBuf) -> PathBuf {
    /// nextest names its runs; without it there is one process, which is the run.
    static RUN: LazyLock<String> = LazyLock::new(|| {
        std::env::var("NEXTEST_RUN_ID")
            .unwrap_or_else(|_| std::hash::RandomState::new().hash_one(0).to_string())
    });
    let stamp = target().join(name).with_extension("built");
    let mut stamp = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(stamp)
        .unwrap();
    // Given back when the file is closed.
    stamp.lock().unwrap();
    let mut text = String::new();
    stamp.read_to_string(&mut text).unwrap();
    if let Some((run, path)) = text.split_once('\n')
        && *run == *RUN
    {
        return path.into();
    }
    let path = build(name);
    stamp.set_len(0).unwrap();
    stamp.rewind().unwrap();
    write!(stamp, "{}\n{}", *RUN, path.display()).unwrap();
    path
}

/// The plugin in C, at `to`; `arguments` make it wrong, if any.
pub(crate) fn c(to: &Path, arguments: &[&str]) {
    compile("trial.c", to, arguments);
}

/// A plugin in C that is beside this file, at `to`.
pub(crate) fn compile(source: &str, to: &Path, arguments: &[&str]) {
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
        .arg(here().join(source))
        .arg("-I")
        .arg(here().join("../../../sdk/abi/include"))
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

/// Where the plugins under test are.
pub(crate) fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins")
}

/// Where tests may leave what they make.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The one version of tokio in the lock beside that manifest.
fn tokio_of(directory: &Path) -> String {
    let lock = std::fs::read_to_string(directory.join("Cargo.lock")).unwrap();
    let lock: toml::Table = toml::from_str(&lock).unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    let mut tokios = packages.filter(|package| package["name"].as_str() == Some("tokio"));
    let version = tokios.next().unwrap()["version"].as_str().unwrap().to_owned();
    assert!(tokios.next().is_none());
    version
}

#[test]
fn the_older_tokio_is_the_oldest_that_the_sdk_takes_and_not_the_routers() {
    let workspace = here().join("../../..");
    let sdk = std::fs::read_to_string(workspace.join("sdk/Cargo.toml")).unwrap();
    let sdk: toml::Table = toml::from_str(&sdk).unwrap();
    let taken = sdk["dependencies"]["tokio"]["version"].as_str().unwrap();
    let older = tokio_of(&here().join("older-tokio"));
    assert_eq!(older, format!("{taken}.0"));
    assert_ne!(older, tokio_of(&workspace));
}
