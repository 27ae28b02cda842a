//! The bounds of templates, so that no event makes the router busy or full, whatever stands in it.
//!
//! minijinja counts steps: one for every instruction, and one for every 64 bytes of text or two places of a list
//! that operators, filters and blocks make, before they make it. What it leaves out is bounded here: comparisons pay
//! for what they compare, and `*` is refused, since a list that it repeats costs nothing until it is text.
//! Nothing grows from one turn of a loop to the next, since there are neither namespaces nor macros.
//!
//! Some work on one huge value, done again in each turn of a loop, takes more time than it pays for, and no memory:
//! `loop.changed`, `groupby` by what is deep, and slices from the end of a text.

use std::io::{self, Write};

use minijinja::{Environment, Error, State, Value, value::ValueKind};

use super::scan;

/// How many steps one template may take.
pub(super) const STEPS: u64 = 500_000;
pub(super) const TOO_MUCH: &str = "the template does too much work, more than 500000 steps, of which every 64 bytes of text that it \
    makes are one; cut long texts with `truncate`, or loop over less";
/// How many bytes one template may put out: the largest body, and room around it.
const LARGEST_OUTPUT: usize = 8 << 20;
pub(super) const TOO_LARGE: &str = "the result is larger than 8 MiB";
/// How many bytes of text one step pays for.
pub(super) const BYTES_OF_A_STEP: usize = 64;
/// How many characters an error may have.
const LONGEST_ERROR: usize = 300;
/// A name that no author writes.
const READ: &str = "__read";

/// Adds what [`metered`] calls.
pub(super) fn install(engine: &mut Environment<'_>) {
    // Whatever it holds grows from one turn of a loop to the next.
    engine.remove_global("namespace");
    engine.add_filter(READ, read);
}

/// Whether `length` bytes of output are not too many.
pub(super) fn check_size(length: usize) -> Result<(), String> {
    match length <= LARGEST_OUTPUT {
        true => Ok(()),
        false => Err(TOO_LARGE.to_owned()),
    }
}

/// Takes the steps for work on so many bytes.
pub(super) fn pay(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_OF_A_STEP) as u64)
}

/// Fails where what is left of the steps does not pay for so many bytes, which are paid for when they are there.
pub(super) fn afford(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let left = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
    match (bytes / BYTES_OF_A_STEP) as u64 {
        steps if steps < left => Ok(()),
        steps => state.consume_fuel(steps),
    }
}

/// The value as JSON text.
pub(super) fn json(value: &Value) -> Result<String, String> {
    let mut output = Bounded::default();
    match serde_json::to_writer(&mut output, value) {
        Ok(()) => String::from_utf8(output.0).map_err(|error| error.to_string()),
        Err(error) if error.is_io() => Err(TOO_LARGE.to_owned()),
        Err(error) => Err(format!("the value has no form in JSON: {error}")),
    }
}

/// Says what is wrong with an expression that has no bound, or no end but a panic.
pub(super) fn refuse(expression: &str) -> Result<(), String> {
    if scan::has_star(expression) {
        return Err(
            "`*` would repeat a text or a list as often as an event says, or give as many arguments; numbers are \
            multiplied with `a | times(b)`"
                .to_owned(),
        );
    }
    // minijinja divides by the number of arguments.
    if scan::has_tokens(expression, &["cycle", "(", ")"]) {
        return Err("`cycle()` has nothing to go through, write `cycle('a', 'b')`".to_owned());
    }
    Ok(())
}

/// The expression with every comparison of two things that are not written in it made to pay for the first.
///
/// A filter binds more tightly than any comparison, so it need not be known where the first begins. What an operator
/// in it makes has been paid for already.
pub(super) fn metered(expression: &str) -> String {
    let mut text = String::new();
    let mut at = 0;
    for operator in scan::comparisons(expression) {
        text += &expression[at..operator];
        text += &format!("|{READ} ");
        at = operator;
    }
    text + &expression[at..]
}

/// `error`, or the beginning of it where it quotes a whole event.
pub(super) fn cut(error: &str) -> String {
    match error.char_indices().nth(LONGEST_ERROR) {
        Some((at, _)) => format!("{}…", &error[..at]),
        None => error.to_owned(),
    }
}

/// The value itself, when a step has been paid for each value in it. minijinja lets texts pay.
pub(super) fn read(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let mut pending = vec![value.clone()];
    while let Some(value) = pending.pop() {
        match value.kind() {
            ValueKind::String => pay(state, value.as_str().unwrap_or_default().len())?,
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    state.consume_fuel(1)?;
                    pending.push(item);
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    state.consume_fuel(1)?;
                    pending.push(value.get_item(&key)?);
                }
            }
            _ => {}
        }
    }
    Ok(value.clone())
}

/// Output that ends with an error where it grows too large.
#[derive(Debug, Default)]
pub(super) struct Bounded(pub(super) Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST_OUTPUT {
            return Err(io::Error::other(TOO_LARGE));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
