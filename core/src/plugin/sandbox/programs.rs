//! Programs: found by their names, and given what they need to run.
//!
//! What is true of all: the file itself, whatever interprets it, and the libraries that every process may load. What the
//! known ones need besides stands in a table. A program is no way out: it runs within what the plugin was given.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use object::{
    Endianness,
    elf::{FileHeader64, PT_INTERP},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use super::{SandboxError, files::Given};
use crate::plugin::egress::TUNNEL;

/// Where programs are looked for.
pub(super) const PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Gives the program of that name, or at that path.
///
/// Where several directories have one, all are given: which of them is taken is the business of whoever starts it.
///
/// What knows no proxy is given the program that is its way to it, where this process was told of one.
pub(super) fn give(name: &str, given: &mut Given) -> Result<(), SandboxError> {
    let found = find(name);
    if found.is_empty() {
        return Err(SandboxError::Program {
            name: name.to_owned(),
        });
    }
    found.iter().for_each(|path| run(path, given));
    let file = Path::new(name).file_name();
    if let Some(known) = KNOWN.iter().find(|known| file == Some(OsStr::new(known.name))) {
        known.runs.iter().for_each(|path| run(Path::new(path), given));
        given.read_if_there(known.reads);
        if known.needs_tunnel
            && let Some(tunnel) = std::env::var_os(TUNNEL)
        {
            run(Path::new(&tunnel), given);
        }
    }
    Ok(())
}

/// Gives a program and what interprets it, and what interprets that.
fn run(path: &Path, given: &mut Given) {
    let mut next = Some(path.to_owned());
    for _ in 0..INTERPRETERS {
        let Some(path) = next else { return };
        given.run(&path);
        next = interpreter(&path);
    }
}

fn find(name: &str) -> Vec<PathBuf> {
    let is_program = |path: &PathBuf| {
        let metadata = path.metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let paths = match name {
        path if path.starts_with('/') => vec![PathBuf::from(path)],
        path if path.contains('/') => Vec::new(),
        name => PATH
            .iter()
            .map(|directory| Path::new(directory).join(name))
            .collect(),
    };
    paths.into_iter().filter(is_program).collect()
}

/// What the kernel runs instead of the file, with its path: the loader of a program, or what a script begins with.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(START).read_to_end(&mut start).ok()?;
    let name = match start.strip_prefix(b"#!") {
        Some(rest) => rest
            .split(|byte| *byte == b'\n')
            .next()?
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .find(|word| !word.is_empty())?
            .to_vec(),
        None => loader(&start)?.to_vec(),
    };
    Some(PathBuf::from(OsStr::from_bytes(&name)))
}

fn loader(start: &[u8]) -> Option<&[u8]> {
    let header = FileHeader64::<Endianness>::parse(start).ok()?;
    let endian = header.endian().ok()?;
    let mut segments = header.program_headers(endian, start).ok()?.iter();
    let segment = segments.find(|segment| segment.p_type(endian) == PT_INTERP)?;
    segment.interpreter(endian, start).ok()?
}

/// What a program needs besides itself.
struct Known {
    name: &'static str,
    runs: &'static [&'static str],
    reads: &'static [&'static str],
    /// Whether it runs a command in place of a connection.
    needs_tunnel: bool,
}

const KNOWN: &[Known] = &[
    Known {
        name: "git",
        // A shell runs what it is told to talk by: ssh, or git itself on a repository of this machine.
        runs: &[
            "/usr/lib/git-core",
            "/usr/libexec/git-core",
            "/usr/local/lib/git-core",
            "/usr/local/libexec/git-core",
            "/bin/sh",
        ],
        reads: &[
            "/usr/share/git-core",
            "/usr/local/share/git-core",
            "/etc/passwd",
            "/etc/nsswitch.conf",
        ],
        needs_tunnel: false,
    },
    Known {
        name: "ssh",
        // A shell runs `ProxyCommand`.
        runs: &["/bin/sh"],
        // Not the directory, where a host has its private keys.
        reads: &[
            "/etc/ssh/ssh_config",
            "/etc/ssh/ssh_config.d",
            "/etc/ssh/ssh_known_hosts",
            "/etc/passwd",
            "/etc/nsswitch.conf",
        ],
        needs_tunnel: true,
    },
];

/// How much of a file is read: its headers, with the segment that names the loader.
const START: u64 = 64 << 10;
/// A script's interpreter may be a script, whose interpreter has a loader; the kernel goes no deeper either.
const INTERPRETERS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name_or_its_path() {
        let shells = find("sh");
        assert!(shells.contains(&PathBuf::from("/bin/sh")));
        assert_eq!(find("/bin/sh"), [PathBuf::from("/bin/sh")]);
        for wrong in ["no-such-program", "/etc/passwd", "/usr/bin", "../bin/sh", ""] {
            assert!(find(wrong).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn what_runs_a_file_is_read_in_its_first_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        for (text, expected) in [
            ("#!/bin/sh\necho", Some("/bin/sh")),
            ("#! /usr/bin/env  python3\n", Some("/usr/bin/env")),
            ("#!\n", None),
            ("echo", None),
            ("", None),
        ] {
            std::fs::write(&script, text).unwrap();
            assert_eq!(interpreter(&script), expected.map(PathBuf::from), "{text:?}");
        }
        let loader = interpreter(Path::new("/bin/sh")).unwrap();
        assert!(loader.exists(), "{}", loader.display());
    }
}
