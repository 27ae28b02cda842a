//! The built library that harnesses drive, where there is one.

use std::{ffi::OsString, path::PathBuf};

/// The built library that harnesses drive here in place of the plugin that is linked into the test, if there is one: where `jackfield
/// plugin test` runs the tests.
///
/// For tests of what only goes within one process, which fail there:
///
/// ```
/// use jackfield_sdk::testing::library;
///
/// # fn test() {
/// if library().is_some() {
///     return;     // `start_paused`, or `cancel_at_each_await`, follows
/// }
/// # }
/// # assert!(library().is_none());
/// ```
pub fn library() -> Option<PathBuf> {
    std::env::var_os(LIBRARY).map(PathBuf::from)
}

/// The program that drives it.
pub(super) fn program() -> OsString {
    std::env::var_os(PROGRAM).unwrap_or_else(|| "jackfield".into())
}

/// Ends a test that wants to do with the library what only goes within one process.
///
/// # Panics
///
/// Where there is a library.
#[track_caller]
pub(super) fn only_within(what: &str) {
    if let Some(library) = library() {
        panic!(
            "{what}: that only goes within one process, and this test is of the library {}; leave it to `cargo test` alone, with \
             `if testing::library().is_some() {{ return; }}` at its beginning",
            library.display()
        );
    }
}

const LIBRARY: &str = "JACKFIELD_LIBRARY";
const PROGRAM: &str = "JACKFIELD_PROGRAM";
