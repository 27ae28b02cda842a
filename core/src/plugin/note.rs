//! Who a plugin is: the identity in its ELF note, which can be read before any of its code runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the note says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What the plugin calls itself, and what `plugin = "…"` of an instance names.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// The SDK that it was built with.
    pub sdk: String,
    /// The compiler that built it.
    pub toolchain: String,
    /// The ABI that it speaks.
    pub abi: Abi,
    /// Whether a panic in it ends the process.
    pub panic_abort: bool,
}

/// A version of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abi {
    /// Incompatible when it differs.
    pub major: u32,
    /// Appended to.
    pub minor: u32,
}

impl Abi {
    /// The one that this process speaks.
    pub const OURS: Self = Self {
        major: jackfield_abi::ABI_MAJOR,
        minor: jackfield_abi::ABI_MINOR,
    };

    /// Whether a plugin of this version can be spoken with: minors only add, on either side.
    pub fn is_ours(self) -> bool {
        self.major == Self::OURS.major
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Identity {
    /// Reads the description of a note: `jf_ident` of the ABI.
    ///
    /// # Errors
    /// When it is not one, or of an ABI that this process does not speak.
    pub fn read(description: &[u8]) -> Result<Self, NoteError> {
        let mut rest = description;
        if take(&mut rest, MAGIC.len())? != MAGIC {
            return Err(NoteError::Garbled("it does not begin with its magic"));
        }
        let mut number = || {
            Ok::<_, NoteError>(u32::from_le_bytes(
                *take(&mut rest, 4)?.first_chunk().expect("4 bytes were taken"),
            ))
        };
        let (_size, major, minor, flags) = (number()?, number()?, number()?, number()?);
        let abi = Abi { major, minor };
        // Before anything else is read: another major may have moved it.
        if !abi.is_ours() {
            return Err(NoteError::Abi {
                found: abi,
                name: text(&mut rest, NAME).ok(),
            });
        }
        let identity = Self {
            name: text(&mut rest, NAME)?,
            version: text(&mut rest, VERSION)?,
            sdk: text(&mut rest, SDK)?,
            toolchain: text(&mut rest, TOOLCHAIN)?,
            abi,
            panic_abort: flags & jackfield_abi::IDENT_PANIC_ABORT != 0,
        };
        if is_name(&identity.name) {
            Ok(identity)
        } else {
            Err(NoteError::Name(identity.name))
        }
    }

    /// An identity with nothing but a name.
    #[cfg(test)]
    pub(super) fn example(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            sdk: "test".to_owned(),
            toolchain: "test".to_owned(),
            abi: Abi::OURS,
            panic_abort: false,
        }
    }
}

/// Why a note was not accepted. Each message goes on after the file's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is too short, or holds what is no text.
    #[error(
        "has a Jackfield note that cannot be read ({0}): build it again with the SDK or header of this release"
    )]
    Garbled(&'static str),
    /// It is of another ABI.
    #[error(
        "{}speaks ABI {found}, this Jackfield speaks {}: build it with the SDK or header of this release",
        name.as_ref().map(|name| format!("(plugin `{name}`) ")).unwrap_or_default(), Abi::OURS
    )]
    Abi {
        /// What the plugin speaks.
        found: Abi,
        /// What it calls itself, as far as that can be read.
        name: Option<String>,
    },
    /// What it calls itself cannot be written in a configuration.
    #[error("calls itself `{0}`: a plugin's name is 1 to 63 of a-z, 0-9 and `-`")]
    Name(String),
}

const MAGIC: &[u8] = &jackfield_abi::MAGIC;

// The lengths of the texts in `jf_ident`.
const NAME: usize = 64;
const VERSION: usize = 32;
const SDK: usize = 32;
const TOOLCHAIN: usize = 96;

fn take<'data>(rest: &mut &'data [u8], length: usize) -> Result<&'data [u8], NoteError> {
    let (taken, after) = rest
        .split_at_checked(length)
        .ok_or(NoteError::Garbled("it is too short"))?;
    *rest = after;
    Ok(taken)
}

fn text(rest: &mut &[u8], length: usize) -> Result<String, NoteError> {
    let field = take(rest, length)?;
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .ok_or(NoteError::Garbled("a text in it has no end"))?;
    let text =
        std::str::from_utf8(&field[..end]).map_err(|_| NoteError::Garbled("a text in it is not UTF-8"))?;
    Ok(text.to_owned())
}

/// Whether a plugin can be called so.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < NAME
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(abi: Abi, flags: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [240, abi.major, abi.minor, flags] {
            bytes.extend(u32::to_le_bytes(number));
        }
        for (text, length) in [
            (name, NAME),
            (b"1.2.0", VERSION),
            (b"c", SDK),
            (b"gcc 12", TOOLCHAIN),
        ] {
            bytes.extend(text);
            bytes.resize(bytes.len() + length - text.len(), 0);
        }
        bytes
    }

    fn refusal(description: &[u8]) -> String {
        Identity::read(description).unwrap_err().to_string()
    }

    #[test]
    fn a_note_is_read() {
        let expected = Identity {
            version: "1.2.0".to_owned(),
            sdk: "c".to_owned(),
            toolchain: "gcc 12".to_owned(),
            panic_abort: true,
            ..Identity::example("slack-notify")
        };
        assert_eq!(
            Identity::read(&description(Abi::OURS, 1, b"slack-notify")),
            Ok(expected)
        );
    }

    #[test]
    fn another_abi_is_refused_with_both_versions() {
        let other = Abi { major: 7, minor: 3 };
        insta::assert_snapshot!(refusal(&description(other, 0, b"hello")), @"(plugin `hello`) speaks ABI 7.3, this Jackfield speaks 1.0: build it with the SDK or header of this release");
        let newer = Abi {
            minor: Abi::OURS.minor + 1,
            ..Abi::OURS
        };
        assert!(newer.is_ours(), "minors only add");
    }

    #[test]
    fn a_note_that_makes_no_sense_is_refused() {
        insta::assert_snapshot!(refusal(&description(Abi::OURS, 0, b"Hello World")), @"calls itself `Hello World`: a plugin's name is 1 to 63 of a-z, 0-9 and `-`");
        insta::assert_snapshot!(refusal(&description(Abi::OURS, 0, &[b'a'; NAME])), @"has a Jackfield note that cannot be read (a text in it has no end): build it again with the SDK or header of this release");
        assert!(refusal(b"JFPLUGIM").contains("magic"));
        assert!(refusal(&description(Abi::OURS, 0, b"\xff")).contains("not UTF-8"));
    }

    proptest::proptest! {
        #[test]
        fn a_note_that_breaks_off_is_refused(length in 0usize..240) {
            let whole = description(Abi::OURS, 0, b"hello");
            proptest::prop_assert!(length >= whole.len() || Identity::read(&whole[..length]).is_err());
        }
    }
}
