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

/// The longest key.
const KEY: usize = 512;
/// The longest value, receipt or event.
const VALUE: usize = 1 << 20;
