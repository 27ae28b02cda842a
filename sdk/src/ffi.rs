//! The boundary: the one module of the SDK that holds `unsafe`.
//!
//! Raw pointers come in here and become types that cannot be misused; safe code asks in here and never sees a pointer. What
//! the ABI promises is written in `jackfield_plugin.h`; every `SAFETY` comment names the promise that it rests on.
//!
//! - [`call`]: an open call, which ends exactly once, whatever happens to its owner
//! - [`host`]: the host's functions, which nobody can call after the instance is gone
//! - [`table`]: the plugin's functions, made for each type that implements [`Plugin`](crate::Plugin)
//! - [`note`](mod@note): the identity in the library's ELF note
//! - [`process`]: what a program does between fork and exec
//! - [`double`]: the other side of all that, for tests
#![expect(
    unsafe_code,
    reason = "this is where the C ABI is spoken; everything else in the SDK is safe"
)]

mod call;
pub(crate) mod double;
mod host;
mod note;
#[cfg(test)]
mod older;
mod process;
mod table;

use std::mem::MaybeUninit;

use jackfield_abi as abi;

pub(crate) use self::{
    call::OpenCall,
    host::{Host, Stage},
    process::die_with_parent,
};
pub use self::{
    note::{Note, note},
    table::{Table, entry},
};
use crate::call::{Code, Ended};

/// A struct of the ABI that begins with its own size, as its writer saw it.
///
/// # Safety
///
/// The type is `repr(C)`, its first field is a `u32` that holds the size, and every bit pattern of it is valid.
unsafe trait Sized32: Copy {
    /// How much of it every writer of this major has written: its size in ABI 1.0. A number, which stays what it is when a later
    /// minor makes the struct longer; `size_of` would refuse whoever has not heard of that minor.
    const LEAST: usize;
}

// SAFETY: of the ABI: `struct_size` first; integers, raw pointers and optional function pointers only.
unsafe impl Sized32 for abi::Call {
    const LEAST: usize = 176;
}
// SAFETY: as above.
unsafe impl Sized32 for abi::CallResult {
    const LEAST: usize = 56;
}
// SAFETY: as above.
unsafe impl Sized32 for abi::Host {
    const LEAST: usize = 112;
}
// SAFETY: as above.
unsafe impl Sized32 for abi::Reply {
    const LEAST: usize = 48;
}
// SAFETY: as above.
unsafe impl Sized32 for abi::Request {
    const LEAST: usize = 80;
}
// SAFETY: as above.
unsafe impl Sized32 for abi::Start {
    const LEAST: usize = 64;
}

/// Copies a struct that the other side wrote, or nothing where there is none, or one that is too short. What an older writer did
/// not know of is 0, NULL or `None`; what a newer one added is left where it is.
///
/// # Safety
///
/// `ptr` is NULL or aligned for `T`, and as many bytes as its first field says can be read from it.
unsafe fn read<T: Sized32>(ptr: *const T) -> Option<T> {
    if ptr.is_null() {
        return None;
    }
    // SAFETY: `T` begins with a `u32`, which every writer writes; the caller vouches for the pointer.
    let written = usize::try_from(unsafe { ptr.cast::<u32>().read() }).unwrap_or(usize::MAX);
    if written < T::LEAST {
        return None;
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    let known = written.min(size_of::<T>());
    // SAFETY: the writer says that so many bytes are there, and there is room for them, which nobody else knows of.
    unsafe {
        ptr.cast::<u8>()
            .copy_to_nonoverlapping(copy.as_mut_ptr().cast(), known)
    };
    // SAFETY: any bytes make a `T`, zeros among them.
    Some(unsafe { copy.assume_init() })
}

/// Whether this SDK can be spoken with in a version of the ABI of that major: in every one of its own.
const fn understands(major: u32) -> bool {
    major == abi::ABI_MAJOR
}

/// The bytes of a slice.
///
/// # Safety
///
/// Where `len` is not 0, so many bytes can be read from `ptr`, and nobody writes to them, for as long as `'a`.
unsafe fn bytes<'a>(slice: abi::Slice) -> &'a [u8] {
    if slice.len == 0 || slice.ptr.is_null() {
        return &[];
    }
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) }
}

/// The text of a slice, mended where it is not UTF-8.
///
/// # Safety
///
/// As for [`bytes`], for the duration of the call.
unsafe fn text(slice: abi::Slice) -> String {
    // SAFETY: the caller vouches for it.
    let bytes = unsafe { bytes(slice) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// A slice over `bytes`, valid as long as they are.
const fn slice(bytes: &[u8]) -> abi::Slice {
    abi::Slice {
        ptr: bytes.as_ptr(),
        len: bytes.len(),
    }
}

/// The size of a struct of the ABI, as it writes it into itself.
const fn struct_size<T>() -> u32 {
    let size = size_of::<T>();
    assert!(size <= u32::MAX as usize, "a struct of the ABI is small");
    #[expect(clippy::cast_possible_truncation, reason = "just checked")]
    {
        size as u32
    }
}

const ENDED: [(Ended, u32); 5] = [
    (Ended::Done, abi::DONE),
    (Ended::Skipped, abi::SKIPPED),
    (Ended::Retry, abi::RETRY),
    (Ended::Fatal, abi::FATAL),
    (Ended::Ambiguous, abi::AMBIGUOUS),
];

const CODES: [(Code, u32); 6] = [
    (Code::None, abi::CODE_NONE),
    (Code::Invalid, abi::CODE_INVALID),
    (Code::Cancelled, abi::CODE_CANCELLED),
    (Code::Panic, abi::CODE_PANIC),
    (Code::Unsupported, abi::CODE_UNSUPPORTED),
    (Code::Shutdown, abi::CODE_SHUTDOWN),
];

/// The number of a word in one of the tables above.
fn number<T: Copy + PartialEq>(table: &[(T, u32)], word: T) -> u32 {
    let row = table.iter().find(|(known, _)| *known == word);
    row.expect("each word is in its table").1
}

/// The word of a number, if there is one.
fn word<T: Copy>(table: &[(T, u32)], number: u32) -> Option<T> {
    table
        .iter()
        .find(|(_, known)| *known == number)
        .map(|(word, _)| *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_that_is_missing_or_too_short_is_not_read() {
        let reply = |struct_size| abi::Reply {
            struct_size,
            status: abi::OK,
            stage: 0,
            reserved: 0,
            value: slice(b""),
            message: slice(b""),
        };
        let whole = struct_size::<abi::Reply>();
        for (size, readable) in [(whole, true), (whole + 8, true), (whole - 1, false), (0, false)] {
            let reply = reply(size);
            // SAFETY: a whole struct, whatever its first field says.
            let read = unsafe { read(&raw const reply) };
            assert_eq!(read.is_some(), readable, "{size}");
        }
        // SAFETY: NULL is allowed.
        assert!(unsafe { read::<abi::Reply>(std::ptr::null()) }.is_none());
    }

    /// What `jf_result` may look like once it has grown.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        struct_size: u32,
        first: u32,
        later: u64,
    }

    // SAFETY: its size first, and numbers.
    unsafe impl Sized32 for Grown {
        const LEAST: usize = std::mem::offset_of!(Grown, later);
    }

    #[test]
    fn what_an_older_writer_did_not_know_of_is_nothing() {
        let told = |struct_size| {
            let grown = Grown {
                struct_size,
                first: 7,
                later: u64::MAX,
            };
            // SAFETY: a whole struct, whatever its first field says.
            let read = unsafe { read(&raw const grown) };
            read.map(|grown| (grown.first, grown.later))
        };
        assert_eq!(told(7), None);
        assert_eq!(told(8), Some((7, 0)));
        assert_eq!(told(16), Some((7, u64::MAX)));
        assert_eq!(told(24), Some((7, u64::MAX)));
    }

    #[test]
    fn an_empty_slice_is_not_dereferenced() {
        for ptr in [std::ptr::null(), std::ptr::without_provenance(7)] {
            // SAFETY: its length is 0.
            assert_eq!(unsafe { bytes(abi::Slice { ptr, len: 0 }) }, b"");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_mended() {
        // SAFETY: the bytes are static.
        assert_eq!(unsafe { text(slice(b"a\xffb")) }, "a\u{fffd}b");
    }
}
