//! minijinja, set up once for all templates.

use std::{collections::HashSet, sync::LazyLock};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, value::ValueKind,
};

use super::{
    escape::Escape,
    filters,
    limits::{self, Bounded, TOO_LARGE, check_size},
    scan::{self, Path, Step},
};
use crate::fault::nearest;

/// An expression that was compiled once, to find its mistakes.
///
/// What minijinja makes of it is not kept: that takes some 15 KB, however short the expression is, and no more than a few
/// microseconds to make again when it is asked for, which is next to a commit or a call.
#[derive(Debug)]
pub(in crate::router) struct Expression {
    source: Box<str>,
    /// What is evaluated in its place, where that is not the same.
    lenient: Option<Box<str>>,
}

impl Expression {
    /// Compiles the text between `{{` and `}}`, or that of an `if`.
    ///
    /// # Errors
    ///
    /// In words, where it is no expression.
    pub(in crate::router) fn compile(source: &str) -> Result<Self, String> {
        let source = source.trim();
        let wrong = |reason: String| format!("`{source}`: {reason}");
        limits::refuse(source).map_err(wrong)?;
        let lenient = lenient(source);
        ENGINE.compile_expression(&lenient).map_err(|error| {
            // In terms of what was written, and not of what was made of it.
            let error = ENGINE.compile_expression(source).err().unwrap_or(error);
            wrong(words(&error))
        })?;
        if let Some(reason) = filters::unknown(&ENGINE, source) {
            return Err(wrong(reason));
        }
        Ok(Self {
            source: source.into(),
            lenient: (lenient != source).then(|| lenient.into()),
        })
    }

    /// The expression as it was given.
    pub(in crate::router) fn source(&self) -> &str {
        &self.source
    }

    /// The value, which is neither undefined nor null.
    pub(in crate::router) fn evaluate(&self, root: &Value) -> Result<Value, String> {
        let lenient = self.lenient.as_ref().unwrap_or(&self.source);
        let value = ENGINE
            .compile_expression(lenient)
            .and_then(|compiled| compiled.eval(root.clone()))
            .map_err(|error| self.explain(&error, root))?;
        if value.is_undefined() {
            return Err(self
                .undefined(root)
                .unwrap_or_else(|| format!("`{}` is undefined", self.source)));
        }
        if value.is_none() {
            return Err(format!("`{}` is null", self.source));
        }
        Ok(value)
    }

    /// The value as a part of a text, escaped.
    pub(super) fn part(&self, root: &Value, escape: Escape) -> Result<String, String> {
        let text = print(&self.evaluate(root)?).map_err(|error| words(&error))?;
        check_size(text.len())?;
        let text = escape.part(&text).into_owned();
        check_size(text.len())?;
        Ok(text)
    }

    fn explain(&self, error: &Error, root: &Value) -> String {
        let undefined = (error.kind() == ErrorKind::UndefinedError).then(|| self.undefined(root));
        undefined.flatten().unwrap_or_else(|| words(error))
    }

    /// What is missing on the way, where the expression is nothing but a path.
    fn undefined(&self, root: &Value) -> Option<String> {
        let uses = scan::uses(&self.source);
        let [path] = uses.paths.as_slice() else {
            return None;
        };
        (path.text == &*self.source)
            .then(|| missing(path, root))
            .flatten()
    }
}

/// Checks a template with blocks.
pub(super) fn check_blocks(source: &str) -> Result<(), String> {
    let lenient = lenient_blocks(source);
    ENGINE
        .template_from_str(&lenient)
        .map_err(|error| words(&ENGINE.template_from_str(source).err().unwrap_or(error)))?;
    for (_, tag) in scan::tags(source) {
        let wrong = |reason| format!("`{}`: {reason}", tag.trim());
        limits::refuse(tag).map_err(wrong)?;
        if let Some(reason) = filters::unknown(&ENGINE, tag) {
            return Err(wrong(reason));
        }
    }
    Ok(())
}

/// The names that an expression takes from outside.
pub(super) fn free_names(source: &str) -> HashSet<String> {
    let compiled = ENGINE.compile_expression_owned(source.to_owned());
    compiled
        .map(|expression| expression.undeclared_variables(false))
        .unwrap_or_default()
}

/// The names that a template with blocks takes from outside.
pub(super) fn free_names_of_blocks(source: &str) -> HashSet<String> {
    let compiled = ENGINE.template_from_str(source);
    compiled
        .map(|template| template.undeclared_variables(false))
        .unwrap_or_default()
}

/// Renders a template with blocks, every value in it escaped.
pub(super) fn render_blocks(source: &str, root: &Value, escape: Escape) -> Result<String, String> {
    let lenient = lenient_blocks(source);
    let template = ENGINE
        .template_from_named_str(escape.name(), &lenient)
        .map_err(|error| words(&error))?;
    let mut output = Bounded::default();
    match template.render_captured_to(root.clone(), &mut output) {
        Ok(_) => String::from_utf8(output.0).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::WriteFailure => Err(TOO_LARGE.to_owned()),
        Err(error) => Err(words(&error)),
    }
}

/// The value in JSON.
pub(super) fn json(value: &Value) -> Result<serde_json::Value, String> {
    let text = limits::json(value)?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(limits::STEPS));
    engine.set_debug(true); // so that an error names what is undefined
    engine.set_auto_escape_callback(|name| match Escape::named(name) {
        None | Some(Escape::None) => AutoEscape::None,
        Some(escape) => AutoEscape::Custom(escape.name().into()),
    });
    engine.set_formatter(|output, state, value| {
        let text = print(value)?;
        // By the template's name and not by `auto_escape`, which a block can switch off. What is safe has been
        // escaped before: nothing else makes it so.
        let escape = match Escape::named(state.name()) {
            Some(escape) if !value.is_safe() => escape,
            _ => Escape::None,
        };
        Ok(output.write_str(&escape.part(&text))?)
    });
    filters::install(&mut engine);
    limits::install(&mut engine);
    engine.add_function(REACH, reach);
    engine
});

/// A value as text: JSON where it is no plain text.
fn print(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => Err(Error::new(ErrorKind::InvalidOperation, "a value is null")),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        _ => limits::json(value).map_err(|reason| Error::new(ErrorKind::BadSerialization, reason)),
    }
}

/// minijinja's word for what went wrong, without the place, which is in a text that nobody sees.
fn words(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => limits::TOO_MUCH.to_owned(),
        (_, Some(detail)) => limits::cut(detail),
        (kind, None) => kind.to_string(),
    }
}

/// What is missing first on the way along `path`.
fn missing(path: &Path<'_>, root: &Value) -> Option<String> {
    let mut value = root.clone();
    let mut walked = String::new();
    for step in &path.steps {
        let next = take(&value, step);
        if next.is_undefined() {
            return Some(match step {
                Step::Index(index) => format!("`{walked}` has no element {index}"),
                Step::Name(name) if walked.is_empty() => format!("there is no `{name}`"),
                Step::Name(name) if walked == "steps" => {
                    format!("step `{name}` put out nothing; perhaps it was skipped")
                }
                Step::Name(name) => {
                    let keys: Vec<_> = value.try_iter().ok()?.map(|key| key.to_string()).collect();
                    match nearest(name, keys.iter().map(String::as_str)) {
                        Some(near) => format!("`{walked}` has no `{name}`; did you mean `{near}`?"),
                        None => format!("`{walked}` has no `{name}`"),
                    }
                }
            });
        }
        match step {
            Step::Index(index) => walked += &format!("[{index}]"),
            Step::Name(name) if walked.is_empty() => walked += name,
            Step::Name(name) => walked += &format!(".{name}"),
        }
        value = next;
    }
    None
}

fn take(value: &Value, step: &Step<'_>) -> Value {
    let key = match step {
        Step::Name(name) => Value::from(*name),
        Step::Index(index) => Value::from(*index),
    };
    value.get_item(&key).unwrap_or_default()
}

/// `expression` with every path that `default`, `is defined` or `is undefined` follows made to reach through
/// what is absent on its way, and with every comparison paid for.
fn lenient(expression: &str) -> String {
    limits::metered(&reaching(expression))
}

fn reaching(expression: &str) -> String {
    let mut text = String::new();
    let mut at = 0;
    for path in scan::uses(expression).paths {
        let end = path.start + path.text.len();
        if path.steps.len() > 1 && is_guarded(&expression[end..]) {
            text += &expression[at..path.start];
            text += &call(&path);
            at = end;
        }
    }
    text + &expression[at..]
}

fn lenient_blocks(source: &str) -> String {
    let mut text = String::new();
    let mut at = 0;
    for (start, tag) in scan::tags(source) {
        text += &source[at..start];
        text += &lenient(tag);
        at = start + tag.len();
    }
    text + &source[at..]
}

fn is_guarded(after: &str) -> bool {
    let after = after.trim_start();
    let word = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        text[..end.unwrap_or(text.len())].to_owned()
    };
    if let Some(filter) = after.strip_prefix('|') {
        return matches!(word(filter).as_str(), "default" | "d");
    }
    match after.strip_prefix("is ") {
        Some(test) => {
            let test = test.trim_start();
            let test = test.strip_prefix("not ").unwrap_or(test);
            matches!(word(test).as_str(), "defined" | "undefined")
        }
        None => false,
    }
}

/// The call of [`reach`] that stands for `path`.
fn call(path: &Path<'_>) -> String {
    let arguments: Vec<_> = path
        .steps
        .iter()
        .map(|step| match step {
            // As a template reads it: Rust writes characters that cannot be seen in a way of its own.
            Step::Name(name) => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
            Step::Index(index) => index.to_string(),
        })
        .collect();
    format!("{REACH}({})", arguments.join(", "))
}

/// The value at the end of a path, or undefined where anything on the way is absent.
fn reach(state: &State<'_, '_>, steps: minijinja::value::Rest<Value>) -> Value {
    let mut steps = steps.iter();
    let first = steps.next().and_then(Value::as_str);
    let start = first.and_then(|name| state.lookup(name)).unwrap_or_default();
    steps.fold(start, |value, step| value.get_item(step).unwrap_or_default())
}

/// A name that no author writes.
const REACH: &str = "__reach";
