//! What a plugin may ask of the router, in numbers: checked where it asks, and again where a worker process asks in its
//! name, since whatever lives there can write to the router's socket.

use serde::de::IgnoredAny;

use super::HostError;

/// Checks a key, or the name of a secret or an event.
pub(super) fn check_key(key: &str) -> Result<(), HostError> {
    match key.len() {
        0 => Err(HostError::Invalid("the key is empty".to_owned())),
        1..=KEY => Ok(()),
        length => Err(HostError::Invalid(format!(
            "the key has {length} bytes, of {KEY} at most"
        ))),
    }
}

/// Checks a value.
pub(super) fn check_value(value: &[u8]) -> Result<(), HostError> {
    if value.len() > VALUE {
        return Err(HostError::Invalid(format!(
            "the value has {} bytes, of {VALUE} at most",
            value.len()
        )));
    }
    Ok(())
}

/// Checks a value that must be JSON.
pub(super) fn check_json(value: &[u8]) -> Result<(), HostError> {
    check_value(value)?;
    serde_json::from_slice::<IgnoredAny>(value)
        .map(drop)
        .map_err(|error| HostError::Invalid(format!("the value is not JSON: {error}")))
}

/// The text, cut to a bearable length, which one that was cut before has.
pub(super) fn shortened(text: impl AsRef<str> + Into<String>) -> String {
    let whole = text.as_ref();
    if whole.len() <= TEXT {
        return text.into();
    }
    let end = (0..=TEXT - HOW_LONG)
        .rev()
        .find(|&end| whole.is_char_boundary(end))
        .unwrap_or(0);
    format!("{}… ({} bytes)", &whole[..end], whole.len())
}

/// Room for the words that say how long a text was.
const HOW_LONG: usize = 32;
/// The longest text for people, and a metric's name and labels together.
pub(super) const TEXT: usize = 16 << 10;
/// The longest key.
const KEY: usize = 512;
/// The longest value, receipt or event.
const VALUE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_was_cut_is_not_cut_again() {
        let cut = shortened("ä".repeat(TEXT));
        assert!(
            cut.len() <= TEXT && cut.ends_with("ä… (32768 bytes)"),
            "{}",
            cut.len()
        );
        assert_eq!(shortened(cut.clone()), cut);
        assert_eq!(shortened("x".repeat(TEXT)).len(), TEXT);
    }
}
