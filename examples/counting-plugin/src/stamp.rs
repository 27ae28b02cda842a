//! What is written into the built library itself, so that one build can be made into many: the number of a generation, which
//! each report then bears, and what is wrong with it.

use std::hint::black_box;

use jackfield_sdk::{Error, Result, schemars::Schema, serde_json::json};

/// In the file, four digits and a letter stand behind the colon: whoever replaces the plugin writes others over them. The mark
/// before it stands there once, so that no document of the plugin may spell it out. What is behind it is read through
/// [`black_box`], since the compiler knows what stands here, and not what will.
static STAMP: [u8; 30] = *b"stamp of counting-plugin:0000s";

/// The number, where somebody has written one.
pub(crate) fn number() -> Option<String> {
    let number = String::from_utf8_lossy(&black_box(&STAMP)[25..29]).into_owned();
    (number != "0000").then_some(number)
}

/// What is wrong, by its letter: `s` for a sound library.
fn fault() -> u8 {
    black_box(&STAMP)[29]
}

/// An `r` refuses to start.
pub(crate) fn refuses() -> Result<()> {
    match fault() {
        b'r' => Err(Error::fatal("this library is stamped to refuse")),
        _ => Ok(()),
    }
}

/// A `c` crashes as soon as it is asked what it is, and a `w` wants a configuration that nobody has.
pub(crate) fn describe(configuration: &mut Schema) {
    match fault() {
        b'c' => std::process::abort(),
        b'w' => drop(configuration.insert("required".to_owned(), json!(["what_nobody_has"]))),
        _ => {}
    }
}
