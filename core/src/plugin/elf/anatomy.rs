//! What a library is made of, for people: nothing is decided by it.

use serde::Serialize;

use super::{
    Glibc,
    content::{self, Dynamic, File},
};

/// The names that a library gives and takes.
#[derive(Clone, Debug, Serialize)]
pub struct Anatomy {
    /// The symbols that it exports, sorted.
    pub exports: Vec<String>,
    /// The libraries that it is linked with.
    pub needs: Vec<String>,
    /// The oldest GNU C library that has all that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glibc: Option<Glibc>,
}

impl Anatomy {
    /// Reads it; `None` where it cannot be read, which [`inspect`](super::inspect) refuses with the reason.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let file = File::parse(bytes).ok()?;
        let exported = content::exported(&file).ok()?;
        let mut exports: Vec<_> = exported
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        exports.sort();
        Some(Self {
            exports,
            needs: Dynamic::read(&file).ok()?.needed,
            glibc: content::glibc_needed(&file).ok()?,
        })
    }
}
