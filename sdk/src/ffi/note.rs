//! The identity in the library's ELF note, which a host reads before any code runs.

use jackfield_abi as abi;

use crate::Plugin;

/// The note of a plugin, for [`export_plugin!`](crate::export_plugin).
#[repr(transparent)]
#[derive(Debug)]
pub struct Note(abi::Note);

// SAFETY: plain bytes and numbers; the raw struct has no pointers at all.
unsafe impl Sync for Note {}

/// The note of `P`.
///
/// # Panics
///
/// Where the plugin's name or its version cannot be one: as it is compiled, since the note is a constant.
pub const fn note<P: Plugin>() -> Note {
    assert!(
        is_name(P::NAME),
        "a plugin's name has 1 to 63 characters from a-z, 0-9 and -"
    );
    assert!(
        !P::VERSION.is_empty() && P::VERSION.len() < 32,
        "a plugin's version has 1 to 31 bytes"
    );
    let flags = if cfg!(panic = "abort") {
        abi::IDENT_PANIC_ABORT
    } else {
        0
    };
    Note(abi::Note {
        namesz: 10,
        descsz: super::struct_size::<abi::Ident>(),
        kind: abi::NOTE_TYPE,
        name: padded(abi::NOTE_OWNER),
        desc: abi::Ident {
            magic: abi::MAGIC,
            ident_size: super::struct_size::<abi::Ident>(),
            abi_major: abi::ABI_MAJOR,
            abi_minor: abi::ABI_MINOR,
            flags,
            name: padded(P::NAME),
            version: padded(P::VERSION),
            sdk: padded(concat!("jackfield-sdk ", env!("CARGO_PKG_VERSION"))),
            toolchain: padded(env!("JACKFIELD_TOOLCHAIN")),
        },
    })
}

const _: () = assert!(abi::NOTE_OWNER.len() + 1 == 10, "the note's owner, with its NUL");

const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty() && bytes.len() < 64
}

/// `text` with NULs behind it, at least one; what does not fit is cut off.
const fn padded<const N: usize>(text: &str) -> [u8; N] {
    let (text, mut bytes, mut at) = (text.as_bytes(), [0; N], 0);
    while at < text.len() && at + 1 < N {
        bytes[at] = text[at];
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for name in ["a", "slack-notify", &"x".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "Slack", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn padded_text_ends_with_a_nul() {
        assert_eq!(padded::<4>("ab"), *b"ab\0\0");
        assert_eq!(padded::<4>("abcdef"), *b"abc\0");
    }
}
