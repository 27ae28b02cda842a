//! Reading what a plugin points to.

use std::mem::MaybeUninit;

use jackfield_abi::{CallResult, Plugin, Provider, Slice};

use crate::plugin::limits;

/// A struct of the ABI that begins with its size.
///
/// # Safety
/// The first field is `struct_size: u32`, and all others hold any bytes (pointers and options of functions do).
pub(super) unsafe trait Sized32: Copy {
    /// How much of it every plugin of this major has written: its size in ABI 1.0. A number, which stays what it is when a later
    /// minor makes the struct longer; `size_of` would refuse every plugin that has not heard of that minor.
    const LEAST: usize;
}

// SAFETY: it begins with `struct_size`, and its fields are numbers and pointers.
unsafe impl Sized32 for CallResult {
    const LEAST: usize = 56;
}
// SAFETY: it begins with `struct_size`, and its fields are numbers, pointers and options of functions.
unsafe impl Sized32 for Plugin {
    const LEAST: usize = 112;
}
// SAFETY: it begins with `struct_size`, and its fields are numbers and options of functions.
unsafe impl Sized32 for Provider {
    const LEAST: usize = 16;
}

/// Why a struct was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StructError {
    /// There is none.
    #[error("the pointer is NULL")]
    Null,
    /// There is something else.
    #[error("the pointer is not aligned")]
    Misaligned,
    /// It lacks fields.
    #[error("its struct_size is {found}, not at least {expected}")]
    Short {
        /// What the plugin wrote.
        found: u32,
        /// What every plugin of this major has.
        expected: usize,
    },
}

/// Copies a struct that the plugin points to. What an older plugin did not know of is 0, NULL or `None`; what a newer one
/// added is left where it is.
///
/// # Safety
/// Where `from` is not NULL and aligned, `struct_size` can be read there, and so can as many bytes as that says.
pub(super) unsafe fn read<T: Sized32>(from: *const T) -> Result<T, StructError> {
    if from.is_null() {
        return Err(StructError::Null);
    }
    if !from.is_aligned() {
        return Err(StructError::Misaligned);
    }
    // SAFETY: the caller says that it can be read, and `Sized32` that it is the first field.
    let found = unsafe { from.cast::<u32>().read() };
    let written = usize::try_from(found).unwrap_or(usize::MAX);
    if written < T::LEAST {
        let expected = T::LEAST;
        return Err(StructError::Short { found, expected });
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    let known = written.min(size_of::<T>());
    // SAFETY: the caller says that so many bytes can be read, and there is room for them, which nobody else knows of.
    unsafe {
        from.cast::<u8>()
            .copy_to_nonoverlapping(copy.as_mut_ptr().cast(), known)
    };
    // SAFETY: `Sized32` says that any bytes make one, and zeros are bytes.
    Ok(unsafe { copy.assume_init() })
}

/// The bytes that the plugin lends.
///
/// # Safety
/// The slice is valid, as the ABI says, for as long as `'a`.
pub(super) unsafe fn bytes<'a>(slice: Slice) -> &'a [u8] {
    if slice.len == 0 || slice.ptr.is_null() || isize::try_from(slice.len).is_err() {
        return &[];
    }
    // SAFETY: the caller says that it is valid; it is neither NULL nor longer than any object can be.
    unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) }
}

/// The text that the plugin lends, with whatever is not UTF-8 replaced, and cut to a bearable length.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text(slice: Slice) -> String {
    // SAFETY: the caller says that it is valid, and it is copied before this returns.
    limits::shortened(String::from_utf8_lossy(unsafe { bytes(slice) }))
}

/// Lends bytes to the plugin.
pub(super) fn lend(bytes: &[u8]) -> Slice {
    Slice {
        ptr: bytes.as_ptr(),
        len: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_or_missing_struct_is_not_read() {
        let empty = lend(b"");
        let mut result = CallResult {
            struct_size: 8,
            outcome: 1,
            code: 0,
            reserved: 0,
            retry_after_ms: 0,
            output: empty,
            message: empty,
        };
        // SAFETY: the struct is there, and longer than it says.
        let short = unsafe { read(&raw const result) };
        assert_eq!(
            short.unwrap_err(),
            StructError::Short {
                found: 8,
                expected: size_of::<CallResult>()
            }
        );
        // SAFETY: NULL may be passed.
        let null = unsafe { read::<CallResult>(std::ptr::null()) };
        assert_eq!(null.unwrap_err(), StructError::Null);
        let odd = (&raw const result)
            .cast::<u8>()
            .wrapping_add(1)
            .cast::<CallResult>();
        // SAFETY: what is not aligned may be passed.
        assert_eq!(unsafe { read(odd) }.unwrap_err(), StructError::Misaligned);
        result.struct_size = u32::MAX;
        // SAFETY: the struct is there; only what this version knows of it is read.
        assert_eq!(unsafe { read(&raw const result) }.unwrap().outcome, 1);
    }

    /// What a struct may look like once it has grown.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        struct_size: u32,
        first: u32,
        later: Option<unsafe extern "C" fn()>,
    }

    // SAFETY: its size first, a number and an option of a function.
    unsafe impl Sized32 for Grown {
        const LEAST: usize = std::mem::offset_of!(Grown, later);
    }

    #[test]
    fn what_an_older_plugin_did_not_know_of_is_nothing() {
        unsafe extern "C" fn later() {}
        for (struct_size, has_later) in [(8, false), (16, true), (24, true)] {
            let grown = Grown {
                struct_size,
                first: 7,
                later: Some(later),
            };
            // SAFETY: a whole struct, whatever its first field says; no more is read than this version knows of.
            let read = unsafe { read(&raw const grown) }.unwrap();
            assert_eq!(
                (read.first, read.later.is_some()),
                (7, has_later),
                "{struct_size}"
            );
        }
    }

    #[test]
    fn an_empty_slice_is_never_dereferenced() {
        for len in [0, usize::MAX] {
            let slice = Slice {
                ptr: std::ptr::null(),
                len,
            };
            // SAFETY: a slice with the NULL pointer is taken for an empty one.
            assert!(unsafe { bytes(slice) }.is_empty());
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "ä".repeat(limits::TEXT);
        // SAFETY: the slice is that of `long`.
        let text = unsafe { text(lend(long.as_bytes())) };
        assert!(text.ends_with("ä… (32768 bytes)"), "{}", text.len());
        // SAFETY: the slice is static.
        assert_eq!(unsafe { super::text(lend(b"a\xffb")) }, "a\u{fffd}b");
    }
}
