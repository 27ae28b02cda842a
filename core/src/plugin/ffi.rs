//! The boundary to native code: the one module of this package that is `unsafe`.
//!
//! A [`Staged`](super::stage::Staged) library comes in and becomes a [`Library`], of which [`InProcess`] makes
//! instances; their calls go out and end as [`Report`](super::Report)s. What always holds:
//!
//! - A library is never unloaded, so its functions and statics live for ever.
//! - What a plugin gets to hold of ours for longer than a call of one function is a *handle*, a number that is looked
//!   up and may be found missing ([`handles`]), never an address: a second `done`, a reply that is asked for after the end,
//!   a log line of a forgotten thread are errors that are logged, and touch no memory.
//! - The exceptions are `jf_call` and what it points to, kept by its handle until `done`, even if that never comes;
//!   and `jf_host`, a few dozen bytes for each instance, which are never freed.
//! - No panic leaves a function that a plugin calls.

#![expect(
    unsafe_code,
    reason = "native libraries are called through raw pointers; this module keeps them from all others"
)]

mod call;
mod handles;
mod host;
mod instance;
mod library;
mod making;
mod memory;
mod patience;
mod reply;
mod signals;

pub(super) use call::stray_ends;
pub(super) use host::refresh_level;
pub use instance::{InProcess, Setup};
pub use library::{Library, OpenError, TableFault};
pub use making::CreateError;
pub(super) use signals::Snapshot;

use std::{ffi::c_int, fs, io};

use super::elf::Glibc;

/// Closes whatever this process was left open, but for its standard streams. It must have opened nothing itself yet.
pub(super) fn close_inherited() -> io::Result<()> {
    let open = fs::read_dir("/proc/self/fd")?.map(|entry| entry.map(|entry| entry.file_name()));
    let open = open.collect::<io::Result<Vec<_>>>()?;
    let numbers = open
        .iter()
        .filter_map(|name| name.to_str()?.parse::<c_int>().ok());
    for inherited in numbers.filter(|number| *number > libc::STDERR_FILENO) {
        // SAFETY: nothing in this process has opened it, says the caller, so that nothing relies on it. One of these is that of the
        // directory, which is closed by now.
        unsafe { libc::close(inherited) };
    }
    Ok(())
}

/// Which version of Landlock the kernel has; 0 where it has none, or was started without it.
pub(super) fn landlock_version() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag and no attributes, the call makes nothing and reads nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// The version of the C library that this process runs on; `None` where it is another than GNU's.
#[cfg(target_env = "gnu")]
pub fn glibc() -> Option<Glibc> {
    // SAFETY: the function has no requirements.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: the C library says that it is a static string that ends in NUL.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    Glibc::parse(version.to_str().ok()?)
}

/// The version of the C library that this process runs on; `None` where it is another than GNU's.
#[cfg(not(target_env = "gnu"))]
pub fn glibc() -> Option<Glibc> {
    None
}
