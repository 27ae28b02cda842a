//! What the router itself must not load, though a process of its own may.
//!
//! A library with a [`Hazard`] passes the inspection, and carries it along: whoever would load it into the router has to
//! get past [`Staged::harmless`](super::super::stage::Staged::harmless) first.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a library must live in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hazard {
    /// A panic in it ends its process.
    PanicAbort,
    /// It needs thread-local storage that is there before the process begins.
    StaticTls {
        /// How many bytes of it, as far as the library itself tells.
        size: u64,
    },
    /// It is linked with a library that cannot be in a process twice.
    OpenSsl,
    /// It brings a runtime that takes over signals.
    Go,
}

impl Hazard {
    /// What would have to be done for the router to load it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::PanicAbort => "build it with panic = \"unwind\"",
            Self::StaticTls { .. } => {
                "leave out the global allocator or library that brings it, or build that one for dynamic loading"
            }
            Self::OpenSsl => "use rustls",
            Self::Go => "write it in Rust or C",
        }
    }
}

/// Goes on after the library's name.
impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PanicAbort => "was built with panic=abort: a panic in it would end the router",
            Self::StaticTls { .. } => {
                "uses static thread-local storage, of which the router has only a few bytes to spare"
            }
            Self::OpenSsl => "is linked with OpenSSL, which breaks when a process has it twice",
            Self::Go => "contains the Go runtime, which takes over signals",
        })
    }
}

/// What the system's loader must find in the environment of a process, so that libraries with these hazards can be loaded
/// into it later.
///
/// Static thread-local storage is laid out when a process begins; glibc keeps a surplus of 512 bytes for what is loaded
/// later, unless this [tunable] says how many. Each thread has them on top of its stack. Other C libraries, and glibc
/// before 2.33, know no such variable and take no notice of it.
///
/// [tunable]: https://sourceware.org/glibc/manual/latest/html_node/Dynamic-Linking-Tunables.html
pub fn environment(hazards: &[Hazard]) -> Option<(&'static str, String)> {
    hazards.iter().find_map(|hazard| match hazard {
        Hazard::StaticTls { size } => {
            let surplus = size.saturating_add(SPARE).min(LARGEST_SURPLUS);
            Some((
                "GLIBC_TUNABLES",
                format!("glibc.rtld.optional_static_tls={surplus}"),
            ))
        }
        Hazard::PanicAbort | Hazard::OpenSsl | Hazard::Go => None,
    })
}

/// What the surplus would be without a word, for libraries that this one brings along, and for alignment.
const SPARE: u64 = 512;
/// The largest surplus: a quarter of a thread's stack, as Rust makes them. What needs more is refused by the loader.
const LARGEST_SURPLUS: u64 = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_only_what_its_library_needs() {
        assert_eq!(
            environment(&[Hazard::PanicAbort, Hazard::OpenSsl, Hazard::Go]),
            None
        );
        for (size, told) in [(488, 1000), (u64::MAX, LARGEST_SURPLUS)] {
            let (name, value) = environment(&[Hazard::PanicAbort, Hazard::StaticTls { size }]).unwrap();
            assert_eq!(name, "GLIBC_TUNABLES");
            assert_eq!(value, format!("glibc.rtld.optional_static_tls={told}"));
        }
    }
}
