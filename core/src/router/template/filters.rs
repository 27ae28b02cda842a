//! The filters of templates.
//!
//! | filter | what it gives |
//! |---|---|
//! | `json` | the value as JSON text |
//! | `date(format="%Y-%m-%d")` | an RFC 3339 time, in UTC, in the given form |
//! | `slug` | lower-case letters and digits with single dashes between |
//! | `truncate(length)` | at most so many characters, the last then being `…` |
//! | `sha256` | the hash of the text, in hex |
//! | `urlencode` | percent-encoded, safe in any part of an address |
//! | `default(value)`, `d` | `value` where there is nothing, or null |
//! | `regex_replace(pattern, to)` | every match of a regular expression replaced; `$1`, `${name}` in `to` are its groups |
//! | `times(number)` | the product; `*` is refused, since it repeats texts and lists as well |
//! | `replace(from, to)` and what else minijinja brings | as there, but for those in [`REMOVED`] |
//!
//! Whatever they take and give is paid for in steps, by minijinja: see [`limits`]. What costs more than that pays more.

use std::{borrow::Cow, fmt::Write, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind},
};
use regex::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};

use super::{
    limits::{self, afford, check_size, pay},
    scan,
};

/// Those of minijinja's that go around escaping, show what is inside, or, as `format` does, give an event that is
/// taken for a format as much as it asks for.
const REMOVED: [&str; 6] = ["safe", "escape", "e", "pprint", "tojson", "format"];

/// Adds our filters and removes those that must not be there.
pub(super) fn install(engine: &mut Environment<'_>) {
    for name in REMOVED {
        engine.remove_filter(name);
    }
    engine.remove_global("debug");
    engine.add_filter("json", |value: &Value| {
        limits::json(value).map_err(|reason| wrong("json", &reason))
    });
    engine.add_filter("date", date);
    engine.add_filter("slug", |text: &str| slug(text));
    engine.add_filter("truncate", truncate);
    engine.add_filter("sha256", |text: &str| hex(&Sha256::digest(text)));
    engine.add_filter("urlencode", |text: &str| urlencode(text));
    engine.add_filter("regex_replace", regex_replace);
    engine.add_filter("default", default);
    engine.add_filter("d", default);
    engine.add_filter("times", times);
    // As minijinja has them, but bounded in what it leaves out.
    engine.add_filter("split", split);
    engine.add_filter("lines", lines);
    engine.add_filter("trim", trim);
    engine.add_filter("sum", sum);
    engine.add_filter("sort", ordered(minijinja::filters::sort));
    engine.add_filter("min", ordered(minijinja::filters::min));
    engine.add_filter("max", ordered(minijinja::filters::max));
    engine.add_filter("unique", ordered(minijinja::filters::unique));
    for name in ["eq", "equalto", "=="] {
        engine.add_test(name, compared(minijinja::tests::is_eq));
    }
    for name in ["ne", "!="] {
        engine.add_test(name, compared(minijinja::tests::is_ne));
    }
    for name in ["lt", "lessthan", "<"] {
        engine.add_test(name, compared(minijinja::tests::is_lt));
    }
    for name in ["le", "<="] {
        engine.add_test(name, compared(minijinja::tests::is_le));
    }
    for name in ["gt", "greaterthan", ">"] {
        engine.add_test(name, compared(minijinja::tests::is_gt));
    }
    for name in ["ge", ">="] {
        engine.add_test(name, compared(minijinja::tests::is_ge));
    }
    engine.add_test("lower", |state: &State<'_, '_>, value: &Value| {
        pay_for(state, value)?;
        Ok::<_, Error>(minijinja::tests::is_lower(value))
    });
    engine.add_test("upper", |state: &State<'_, '_>, value: &Value| {
        pay_for(state, value)?;
        Ok::<_, Error>(minijinja::tests::is_upper(value))
    });
}

/// A filter that pays for all that is in the items which it compares.
fn ordered(
    filter: fn(&State<'_, '_>, Value, Kwargs) -> Result<Value, Error>,
) -> impl Fn(&State<'_, '_>, Value, Kwargs) -> Result<Value, Error> + Send + Sync + 'static {
    move |state, value, kwargs| {
        let value = limits::read(state, &value)?;
        filter(state, value, kwargs)
    }
}

/// A test that pays for what it compares.
fn compared(
    test: fn(&Value, &Value) -> bool,
) -> impl Fn(&State<'_, '_>, &Value, &Value) -> Result<bool, Error> + Send + Sync + 'static {
    move |state, value, other| {
        limits::read(state, value)?;
        Ok(test(value, other))
    }
}

/// Says which filter or test of an expression there is none of. minijinja says so only when it gets there.
pub(super) fn unknown(engine: &Environment<'_>, expression: &str) -> Option<String> {
    let uses = scan::uses(expression);
    let mut state = engine.empty_state();
    let mut filters = uses.filters.iter();
    let filter = filters.find(|name| {
        // Ours have such names.
        name.starts_with("__") || is(state.apply_filter(name, &[]), ErrorKind::UnknownFilter)
    });
    let mut tests = uses.tests.iter();
    let test = tests.find(|name| is(state.perform_test(name, &[]), ErrorKind::UnknownTest));
    filter
        .map(|name| format!("there is no filter `{name}`"))
        .or_else(|| test.map(|name| format!("there is no test `{name}`")))
}

fn is<T>(result: Result<T, Error>, kind: ErrorKind) -> bool {
    result.is_err_and(|error| error.kind() == kind)
}

fn date(time: &str, format: Option<&str>) -> Result<String, Error> {
    let moment: jackfield_event::Timestamp =
        time.parse().map_err(|error| wrong("date", &format!("{error}")))?;
    let format = format.unwrap_or("%Y-%m-%d");
    if format.len() > LONGEST_FORMAT {
        let length = format.len();
        return Err(wrong(
            "date",
            &format!("the format has {length} bytes, more than {LONGEST_FORMAT}"),
        ));
    }
    let moment = jiff::Timestamp::from_millisecond(moment.as_millis()).unwrap_or_default();
    jiff::fmt::strtime::format(format, moment)
        .map_err(|_| wrong("date", &format!("`{format}` is not a format such as %Y-%m-%d")))
}

fn slug(text: &str) -> String {
    let text = text.to_lowercase();
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn truncate(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn urlencode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => write!(encoded, "%{byte:02X}").expect("a text takes whatever is written"),
        }
    }
    encoded
}

/// One match is found in time that is linear in the text, whatever the pattern. Many are not: a pattern such as
/// `.*;|.` looks at all the rest of the text for each, so each pays for a share of it.
fn regex_replace(state: &mut State<'_, '_>, text: &str, pattern: &str, to: &str) -> Result<String, Error> {
    let pattern = compiled(state, pattern)?;
    pay(state, text.len())?;
    let groups = to.bytes().filter(|byte| *byte == b'$').count();
    let mut replaced = String::new();
    let mut at = 0;
    for found in pattern.captures_iter(text) {
        let whole = found.get_match();
        let rest = text.len() - whole.start();
        pay(state, limits::BYTES_OF_A_STEP + rest / SHARE_OF_A_MATCH)?;
        // No group is longer than the match.
        let fixed = replaced.len() + whole.start() - at + to.len();
        let most = fixed.saturating_add(whole.len().saturating_mul(groups));
        check_size(most).map_err(|reason| wrong("regex_replace", &reason))?;
        replaced += &text[at..whole.start()];
        found.expand(to, &mut replaced);
        at = whole.end();
    }
    Ok(replaced + &text[at..])
}

/// A pattern, and what it was compiled to when it was last asked for, as in a turn of a loop.
struct Compiled(String, Arc<Regex>);

fn compiled(state: &mut State<'_, '_>, pattern: &str) -> Result<Arc<Regex>, Error> {
    match state.get_extension::<Compiled>() {
        Some(Compiled(last, regex)) if last == pattern => return Ok(Arc::clone(regex)),
        _ => pay(state, COST_OF_A_PATTERN)?,
    }
    let regex = compile(pattern).map_err(|reason| wrong("regex_replace", &reason))?;
    let regex = Arc::new(regex);
    let kept = Compiled(pattern.to_owned(), Arc::clone(&regex));
    match state.get_extension_mut::<Compiled>() {
        Some(last) => *last = kept,
        None => {
            state.get_or_insert_extension(kept);
        }
    }
    Ok(regex)
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > LONGEST_PATTERN {
        return Err("the pattern is too large".to_owned());
    }
    let compiled = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
    compiled.map_err(|error| said(&error))
}

/// What is wrong with a pattern, in one line.
fn said(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
        error => {
            let words = error.to_string();
            let last = words.lines().last().unwrap_or_default();
            format!("the pattern is wrong: {}", last.trim_start_matches("error: "))
        }
    }
}

/// The product of two numbers.
fn times(value: &Value, by: &Value) -> Result<Value, Error> {
    for factor in [value, by] {
        match factor.kind() {
            ValueKind::Number => {}
            ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
            kind => return Err(wrong("times", &format!("a {kind} is no number"))),
        }
    }
    if value.is_integer() && by.is_integer() {
        let product = i64::try_from(value.clone())?.checked_mul(i64::try_from(by.clone())?);
        let too_large = || wrong("times", &format!("{value} times {by} is too large"));
        return product.map(Value::from).ok_or_else(too_large);
    }
    Ok(Value::from(
        f64::try_from(value.clone())? * f64::try_from(by.clone())?,
    ))
}

fn split(
    state: &State<'_, '_>,
    value: &Value,
    separator: Option<&str>,
    most: Option<i64>,
) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    let parts = match separator {
        Some(separator) => text.matches(separator).count(),
        None => text.split_whitespace().count(),
    };
    afford(state, parts.saturating_mul(SIZE_OF_A_PART))?;
    minijinja::filters::split(value, separator.map(Arc::from), most)
}

fn lines(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    afford(state, text.lines().count().saturating_mul(SIZE_OF_A_PART))?;
    minijinja::filters::lines(value)
}

fn trim(
    state: &State<'_, '_>,
    text: Cow<'_, str>,
    characters: Option<Cow<'_, str>>,
) -> Result<String, Error> {
    let Some(characters) = characters else {
        return Ok(text.trim().to_owned());
    };
    let characters: Vec<_> = characters.chars().collect();
    // Each character of the text is compared with each of these.
    pay(state, text.len().saturating_mul(characters.len()))?;
    Ok(text.trim_matches(&*characters).to_owned())
}

/// Of numbers only: texts would be copied as often as there are any.
fn sum(
    state: &State<'_, '_>,
    values: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let start = match start {
        Some(start) => Some(start),
        None => options.get("start")?,
    };
    match &start {
        Some(start) if start.kind() != ValueKind::Number => {
            let kind = start.kind();
            Err(wrong(
                "sum",
                &format!("it starts with a number, not with a {kind}; texts and lists go through `join`"),
            ))
        }
        _ => minijinja::filters::sum(state, values, attribute, start, options),
    }
}

fn pay_for(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    pay(state, value.as_str().unwrap_or_default().len())
}

/// How many bytes a compiled pattern may have.
const LARGEST_PATTERN: usize = 256 << 10;
/// How many bytes a pattern may have before it is compiled, which takes much more than it has.
const LONGEST_PATTERN: usize = 4 << 10;
/// The compilation of a usual pattern, in bytes that are copied in the same time.
const COST_OF_A_PATTERN: usize = 64 << 10;
/// The part of the rest of a text that each match pays for, as all of it may have been looked at.
const SHARE_OF_A_MATCH: usize = 8;
/// How many bytes a place of a list takes.
const SIZE_OF_A_PART: usize = 32;
/// How many bytes the format of a date may have; each two may become 255.
const LONGEST_FORMAT: usize = 256;

fn default(value: &Value, instead: Option<Value>) -> Value {
    match value.is_undefined() || value.is_none() {
        true => instead.unwrap_or_else(|| Value::from("")),
        false => value.clone(),
    }
}

fn wrong(filter: &str, reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("`{filter}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const README: &str = include_str!("../../../../README.md");

    /// The names in backquotes of one paragraph.
    fn named(paragraph: &str) -> BTreeSet<&str> {
        let start = README.find(paragraph).expect("the README has that paragraph");
        let text = README[start..].split("\n\n").next().unwrap_or_default();
        let quoted = text.split('`').skip(1).step_by(2);
        quoted
            .map(|text| text.split('(').next().unwrap_or_default())
            .collect()
    }

    #[test]
    fn the_readme_names_every_filter_and_no_other() {
        let mut engine = Environment::new();
        install(&mut engine);
        let shown = format!("{engine:?}");
        let (_, filters) = shown
            .split_once("filters: {")
            .or(shown.split_once("filters: ["))
            .unwrap();
        let filters = filters.split([']', '}']).next().unwrap();
        let there: BTreeSet<_> = filters.split('"').skip(1).step_by(2).collect();
        assert!(there.contains("replace"), "{shown}");
        assert_eq!(named("The filters are "), there);
        assert_eq!(
            named("Not there are "),
            BTreeSet::from_iter(REMOVED.into_iter().chain(["namespace", "*", "a | times"]))
        );
    }
}
