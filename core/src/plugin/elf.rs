//! What a library says of itself, read from its bytes without running any of its code.
//!
//! `dlopen` runs constructors, so whatever can be known before it must be: that the file is a library for this
//! machine, that it is a plugin of an ABI that we speak, and that nothing in it would harm the process by being
//! loaded. A [`Candidate`] comes in and goes out as [`Inspected`], which only [`inspect`] can make and which
//! every later step asks for: what did not pass never reaches `dlopen`. What would harm the router but not a process of its
//! own passes, with its [`Hazard`]s.

mod anatomy;
mod content;
mod hazard;
mod header;

use std::{fmt, path::PathBuf};

pub use anatomy::Anatomy;
use content::{Dynamic, File, damaged};
pub use hazard::{Hazard, environment};
use serde::{Deserialize, Serialize, Serializer};

use super::{
    digest::Digest,
    directory::Candidate,
    note::{Identity, NoteError},
};

/// A library that may be loaded: checked, and with the identity that it claims.
#[derive(Clone, Debug)]
pub struct Inspected {
    candidate: Candidate,
    found: Findings,
}

/// What an inspection finds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Findings {
    pub(super) identity: Identity,
    pub(super) hazards: Vec<Hazard>,
    warnings: Vec<String>,
}

impl Inspected {
    /// Who the library says it is.
    pub fn identity(&self) -> &Identity {
        &self.found.identity
    }

    /// Why it must live in a process of its own, if it must.
    pub fn hazards(&self) -> &[Hazard] {
        &self.found.hazards
    }

    /// What is unusual about it, though no reason not to load it.
    pub fn warnings(&self) -> &[String] {
        &self.found.warnings
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.candidate.digest()
    }

    /// The file that it was read from.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// The file, and what was found in it.
    pub(super) fn into_parts(self) -> (Candidate, Findings) {
        (self.candidate, self.found)
    }

    /// A library named `name` that nothing ever looks into.
    #[cfg(test)]
    pub(super) fn example(name: &str, bytes: &[u8]) -> Self {
        Self {
            candidate: Candidate::example(bytes),
            found: Findings {
                identity: Identity::example(name),
                hazards: Vec::new(),
                warnings: Vec::new(),
            },
        }
    }
}

/// Checks a library without running it. `ours` is the C library that this process runs on.
///
/// # Errors
/// When it is not a plugin that a process on this system can load and stay healthy.
pub fn inspect(candidate: Candidate, ours: Option<Glibc>) -> Result<Inspected, InspectError> {
    match examine(candidate.bytes(), ours) {
        Ok(found) => Ok(Inspected { candidate, found }),
        Err(fault) => Err(InspectError {
            path: candidate.path().to_owned(),
            fault,
        }),
    }
}

/// A version of the GNU C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc {
    major: u32,
    minor: u32,
}

impl Glibc {
    /// Reads `2.36`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        Some(Self {
            major: numbers.next()??,
            minor: numbers.next()??,
        })
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Glibc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a file was not accepted as a plugin.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {fault}", path.display())]
pub struct InspectError {
    path: PathBuf,
    fault: Fault,
}

impl InspectError {
    /// What is wrong with it.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What it calls itself, where that could be read although it speaks another ABI.
    pub fn claimed_name(&self) -> Option<&str> {
        match &self.fault {
            Fault::Note(NoteError::Abi { name, .. }) => name.as_deref(),
            _ => None,
        }
    }
}

/// What is wrong with a file. Each message goes on after the file's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is something else altogether.
    #[error("is not a library: it is {0}; a plugin is a shared library (ELF, `crate-type = [\"cdylib\"]`)")]
    NotElf(&'static str),
    /// It was built for another kind of machine.
    #[error("was built for {found}, this machine is {expected}: build it for this machine")]
    Machine {
        /// What it was built for.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// It is a program or an object file.
    #[error("is {0}, not a shared library: build it with `crate-type = [\"cdylib\"]`, or `cc -shared -fPIC`")]
    NotShared(&'static str),
    /// It breaks off, or its tables contradict one another.
    #[error("is damaged ({0}): copy it again")]
    Damaged(String),
    /// A library, but not for us.
    #[error(
        "is a shared library but not a plugin: it has no Jackfield note; build it with `export_plugin!` of \
         jackfield-sdk, or `JF_DECLARE_NOTE` of jackfield_plugin.h"
    )]
    NoNote,
    /// The note is not one that we can read, or is of another ABI.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note is there, what it promises is not.
    #[error("does not export `{0}`, which every plugin must: it was linked without it, or stripped of it")]
    NoEntry(&'static str),
    /// Its code would have to be writable to be loaded.
    #[error("has text relocations: its code would be writable in memory; build it with -fPIC")]
    TextRelocations,
    /// It picks its libraries from a place of its own.
    #[error(
        "has a library search path of its own (`{0}`): libraries must come from the system; link it without -rpath"
    )]
    SearchPath(String),
    /// Data would be code.
    #[error("asks for an executable stack: link it with -z noexecstack")]
    ExecutableStack,
    /// It would take the place of functions that the whole process uses.
    #[error(
        "exports `{0}`, which would be mixed up with the process's own: hide it (-fvisibility=hidden, or a \
         version script)"
    )]
    Interposes(String),
    /// It cannot be loaded on this system.
    #[error(
        "needs version {needed} of the C library, this system has {ours}: build it on a system as old as this one"
    )]
    Glibc {
        /// What it needs.
        needed: Glibc,
        /// What there is.
        ours: Glibc,
    },
}

/// The symbol that every plugin exports.
pub(super) const ENTRY: &str = jackfield_abi::ENTRY_SYMBOL;

fn examine(bytes: &[u8], ours: Option<Glibc>) -> Result<Findings, Fault> {
    header::check(bytes)?;
    let file = File::parse(bytes).map_err(damaged)?;
    content::segments(&file)?;
    let identity = Identity::read(content::note(&file)?.ok_or(Fault::NoNote)?)?;
    let symbols = content::exported(&file)?;
    if !symbols.contains(&ENTRY.as_bytes()) {
        return Err(Fault::NoEntry(ENTRY));
    }
    let dynamic = Dynamic::read(&file)?;
    refuse(&symbols, &dynamic)?;
    if let (Some(needed), Some(ours)) = (content::glibc_needed(&file)?, ours)
        && needed > ours
    {
        return Err(Fault::Glibc { needed, ours });
    }
    let hazards = hazards(&identity, &symbols, &dynamic, content::thread_local(&file));
    let warnings = dynamic.unexpected().map(|library| {
        format!("needs the library `{library}`, which is the system's to provide and may clash with the router's own")
    });
    Ok(Findings {
        identity,
        hazards,
        warnings: warnings.collect(),
    })
}

/// What must not be in any process of ours.
fn refuse(symbols: &[&[u8]], dynamic: &Dynamic) -> Result<(), Fault> {
    if dynamic.text_relocations {
        return Err(Fault::TextRelocations);
    }
    if let Some(path) = &dynamic.search_path {
        return Err(Fault::SearchPath(path.clone()));
    }
    match symbols.iter().find(|symbol| interposes(symbol)) {
        Some(symbol) => Err(Fault::Interposes(String::from_utf8_lossy(symbol).into_owned())),
        None => Ok(()),
    }
}

/// What must not be in the router's own process. `storage` is that of a thread for the library alone, in bytes.
fn hazards(identity: &Identity, symbols: &[&[u8]], dynamic: &Dynamic, storage: u64) -> Vec<Hazard> {
    let needs = |stems: &[&str]| {
        let mut needed = dynamic.needed.iter();
        needed.any(|library| stems.iter().any(|stem| library.starts_with(stem)))
    };
    let go = symbols.iter().any(|symbol| symbol.starts_with(b"_cgo_"));
    let found = [
        (identity.panic_abort, Hazard::PanicAbort),
        (dynamic.static_tls, Hazard::StaticTls { size: storage }),
        (needs(&["libssl.", "libcrypto."]), Hazard::OpenSsl),
        (go || needs(&["libgo."]), Hazard::Go),
    ];
    let present = found.into_iter().filter(|(is_there, _)| *is_there);
    present.map(|(_, hazard)| hazard).collect()
}

fn interposes(symbol: &[u8]) -> bool {
    const ALLOCATOR: &[&[u8]] = &[
        b"malloc",
        b"calloc",
        b"realloc",
        b"free",
        b"memalign",
        b"aligned_alloc",
        b"posix_memalign",
        b"valloc",
        b"malloc_usable_size",
    ];
    ALLOCATOR.contains(&symbol) || symbol.starts_with(b"SSL_") || symbol.starts_with(b"CRYPTO_")
}

#[cfg(test)]
mod tests {
    use super::{header::MACHINE, *};

    fn fault(bytes: &[u8]) -> String {
        inspect(Candidate::example(bytes), None).unwrap_err().to_string()
    }

    /// The header of an ELF file with some bytes in it set.
    fn elf(set: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16] = 3;
        bytes[18..20].copy_from_slice(&MACHINE.0.0.to_le_bytes());
        for &(at, byte) in set {
            bytes[at] = byte;
        }
        bytes
    }

    #[test]
    fn what_is_no_library_is_called_what_it_is() {
        insta::assert_snapshot!(fault(b"hello\n"), @r#"`/plugins/example.so` is not a library: it is a text; a plugin is a shared library (ELF, `crate-type = ["cdylib"]`)"#);
        for (bytes, expected) in [
            (&b""[..], "it is empty;"),
            (b"MZ\x90\0", "it is a Windows program or library;"),
            (b"\xcf\xfa\xed\xfe\x07", "it is a macOS program or library;"),
            (b"#!/bin/sh\n", "it is a script;"),
            (b"!<arch>\n", "it is a static library or rlib;"),
            (b"\x7fELF\x02", "it is only the beginning of one;"),
            (b"\x00\x01\x02\x03", "it is of no known format;"),
        ] {
            let fault = fault(bytes);
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn a_library_for_another_machine_is_refused_with_both_names() {
        for (set, expected) in [
            (
                &[(18, 40), (19, 0), (4, 1)][..],
                "was built for ARM (32 bit), this machine is ",
            ),
            (&[(18, 22), (19, 0)], "was built for S/390, this machine is "),
            (
                &[(18, 0x39), (19, 0x30)],
                "was built for machine number 12345, this machine is ",
            ),
            (&[(5, 2)], " (big-endian), this machine is "),
        ] {
            let fault = fault(&elf(set));
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn a_program_or_an_object_file_is_no_plugin() {
        insta::assert_snapshot!(fault(&elf(&[(16, 2)])), @r#"`/plugins/example.so` is a program, not a shared library: build it with `crate-type = ["cdylib"]`, or `cc -shared -fPIC`"#);
        insta::assert_snapshot!(fault(&elf(&[(16, 1)])), @r#"`/plugins/example.so` is an object file, not a shared library: build it with `crate-type = ["cdylib"]`, or `cc -shared -fPIC`"#);
    }

    #[test]
    fn a_library_without_our_note_is_no_plugin() {
        // The test itself is such a file: position-independent programs have the type of libraries.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(examine(&program, None).unwrap_err(), Fault::NoNote);
    }

    #[test]
    fn what_the_router_must_not_load_is_told_from_what_a_library_needs() {
        let needs = |library: &str| {
            let dynamic = Dynamic {
                needed: vec!["libc.so.6".to_owned(), library.to_owned()],
                ..Dynamic::default()
            };
            hazards(&Identity::example("hello"), &[], &dynamic, 0)
        };
        assert_eq!(needs("libssl.so.3"), [Hazard::OpenSsl]);
        assert_eq!(needs("libcrypto.so.1.1"), [Hazard::OpenSsl]);
        assert_eq!(needs("libgo.so.21"), [Hazard::Go]);
        assert_eq!(needs("libsslim.so"), []);
        let (aborts, goes) = (
            Identity {
                panic_abort: true,
                ..Identity::example("hello")
            },
            &b"_cgo_topofstack"[..],
        );
        assert_eq!(
            hazards(&aborts, &[goes], &Dynamic::default(), 0),
            [Hazard::PanicAbort, Hazard::Go]
        );
    }

    #[test]
    fn versions_of_the_c_library_are_compared_as_numbers() {
        let glibc = |text| Glibc::parse(text).unwrap();
        assert!(glibc("2.4") < glibc("2.36"));
        assert!(glibc("2.2.5") < glibc("2.3"));
        assert_eq!(Glibc::parse("PRIVATE"), None);
    }

    #[test]
    fn symbols_of_the_allocator_and_of_openssl_interpose() {
        for (symbol, expected) in [
            ("malloc", true),
            ("free", true),
            ("SSL_new", true),
            ("freedom", false),
            ("jackfield_plugin_entry", false),
        ] {
            assert_eq!(interposes(symbol.as_bytes()), expected, "{symbol}");
        }
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_are_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2048)) {
            proptest::prop_assert!(examine(&bytes, None).is_err());
        }

        #[test]
        fn random_bytes_after_a_good_header_are_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 44..2048)) {
            let mut file = elf(&[]);
            file.truncate(20);
            file.extend(bytes);
            proptest::prop_assert!(examine(&file, None).is_err());
        }
    }
}
