//! Passes JSON: functions from the place where something begins to the place after it.
//!
//! Functions of places, so that the place stays in a register; texts are passed eight bytes at a time. Nothing recurses,
//! however deep it goes.

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong;

/// The lists and objects around a place, the innermost last: a bit for each, set where it is an object.
struct Nest {
    /// The last 63, below a bit that is always set.
    inner: u64,
    outer: Vec<u64>,
}

/// Where the value ends that begins at `at`, white space before it included.
pub(super) fn after_value(bytes: &[u8], mut at: usize) -> Result<usize, Wrong> {
    let mut nest = Nest::new();
    loop {
        at = space(bytes, at);
        match byte(bytes, at).ok_or(Wrong)? {
            b'"' => at = after_string(bytes, at + 1)?,
            b'{' => {
                at = space(bytes, at + 1);
                if byte(bytes, at) != Some(b'}') {
                    nest.enter(true);
                    at = after_key(bytes, at)?;
                    continue;
                }
                at += 1;
            }
            b'[' => {
                at = space(bytes, at + 1);
                if byte(bytes, at) != Some(b']') {
                    nest.enter(false);
                    continue;
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => at = after_number(bytes, at)?,
            _ => at = after_word(bytes, at)?,
        }
        loop {
            let Some(is_object) = nest.innermost() else {
                return Ok(at);
            };
            at = space(bytes, at);
            match (byte(bytes, at), is_object) {
                (Some(b','), true) => {
                    at = after_key(bytes, at + 1)?;
                    break;
                }
                (Some(b','), false) => {
                    at += 1;
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    at += 1;
                    nest.leave();
                }
                _ => return Err(Wrong),
            }
        }
    }
}

#[inline(always)]
pub(super) fn after_key(bytes: &[u8], at: usize) -> Result<usize, Wrong> {
    let at = expect(bytes, at, b'"')?;
    let at = after_string(bytes, at)?;
    expect(bytes, at, b':')
}

/// Where the text ends, quote and all, whose first character is at `at`.
#[inline(always)]
pub(super) fn after_string(bytes: &[u8], mut at: usize) -> Result<usize, Wrong> {
    loop {
        at = run(bytes, at);
        match byte(bytes, at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = after_escape(bytes, at)?,
            _ => return Err(Wrong),
        }
    }
}

/// Where a quote, a backslash or a control character is next, or the end.
#[inline(always)]
pub(super) fn run(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..at + 8) {
        let special = special(chunk);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    run_bytewise(bytes, at)
}

#[cold]
fn run_bytewise(bytes: &[u8], at: usize) -> usize {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ');
    let rest = bytes.get(at..).unwrap_or_default().iter();
    at + rest.take_while(|byte| !is_special(byte)).count()
}

/// The bytes among eight that end a run, by their upper bits: quotes, backslashes, control characters. The lowest
/// one that is marked is one; those above it need not be (Mycroft's way to find bytes in a word).
#[inline(always)]
fn special(chunk: &[u8]) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    let chunk = chunk.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let control = chunk.wrapping_sub(EACH * 0x20);
    let quote = (chunk ^ (EACH * 0x22)).wrapping_sub(EACH);
    let backslash = (chunk ^ (EACH * 0x5C)).wrapping_sub(EACH);
    (control | quote | backslash) & !chunk & (EACH << 7)
}

/// Where the escape ends whose backslash is at `at`.
pub(super) fn after_escape(bytes: &[u8], at: usize) -> Result<usize, Wrong> {
    match byte(bytes, at + 1) {
        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'"' | b'\\' | b'/') => Ok(at + 2),
        Some(b'u') => {
            let digits = bytes.get(at + 2..at + 6).ok_or(Wrong)?;
            let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
            if is_hex { Ok(at + 6) } else { Err(Wrong) }
        }
        _ => Err(Wrong),
    }
}

#[inline(always)]
pub(super) fn after_number(bytes: &[u8], mut at: usize) -> Result<usize, Wrong> {
    at += usize::from(byte(bytes, at) == Some(b'-'));
    at = match byte(bytes, at) {
        Some(b'0') => at + 1,
        _ => after_digits(bytes, at)?,
    };
    if byte(bytes, at) == Some(b'.') {
        at = after_digits(bytes, at + 1)?;
    }
    if matches!(byte(bytes, at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(byte(bytes, at), Some(b'+' | b'-')));
        at = after_digits(bytes, at)?;
    }
    Ok(at)
}

/// Where digits end, of which there must be one.
#[inline(always)]
fn after_digits(bytes: &[u8], at: usize) -> Result<usize, Wrong> {
    let mut end = at;
    while matches!(byte(bytes, end), Some(b'0'..=b'9')) {
        end += 1;
    }
    if end > at { Ok(end) } else { Err(Wrong) }
}

#[inline(always)]
pub(super) fn after_word(bytes: &[u8], at: usize) -> Result<usize, Wrong> {
    let word: &[u8] = match byte(bytes, at) {
        Some(b'n') => b"null",
        Some(b't') => b"true",
        _ => b"false",
    };
    let end = at + word.len();
    if bytes.get(at..end) == Some(word) {
        Ok(end)
    } else {
        Err(Wrong)
    }
}

#[inline(always)]
pub(super) fn expect(bytes: &[u8], at: usize, expected: u8) -> Result<usize, Wrong> {
    let at = space(bytes, at);
    if byte(bytes, at) == Some(expected) {
        Ok(at + 1)
    } else {
        Err(Wrong)
    }
}

/// Where something else than white space is next.
#[inline(always)]
pub(super) fn space(bytes: &[u8], at: usize) -> usize {
    match byte(bytes, at) {
        Some(0..=b' ') => all_space(bytes, at),
        _ => at,
    }
}

#[cold]
fn all_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = byte(bytes, at) {
        at += 1;
    }
    at
}

#[inline(always)]
pub(super) fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

impl Nest {
    fn new() -> Self {
        Self {
            inner: 1,
            outer: Vec::new(),
        }
    }

    fn enter(&mut self, is_object: bool) {
        if self.inner.leading_zeros() == 0 {
            self.outer.push(self.inner);
            self.inner = 1;
        }
        self.inner = self.inner << 1 | u64::from(is_object);
    }

    /// Whether the innermost is an object, where there is one.
    fn innermost(&self) -> Option<bool> {
        (self.inner > 1).then_some(self.inner & 1 == 1)
    }

    fn leave(&mut self) {
        self.inner >>= 1;
        if self.inner == 1 {
            self.inner = self.outer.pop().unwrap_or(1);
        }
    }
}
