//! What can be known of a template's names before there is an event.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{
    Expression, Form, Part, Template, engine,
    scan::{self, Path, Step},
};
use crate::{
    fault::nearest,
    router::{shape, step::join},
    schema::{Schema, Violation},
};

/// The names that a template may use where it stands.
#[derive(Clone, Debug, Default)]
pub(in crate::router) struct Names<'a> {
    /// Steps whose output is known by then.
    pub(in crate::router) earlier: Vec<&'a str>,
    /// Other steps of the route.
    pub(in crate::router) later: Vec<&'a str>,
    /// In `on_failure`, the route's steps proper, whose outputs are not known there.
    pub(in crate::router) gone: Vec<&'a str>,
    /// Whether there is a delivery, and with it `delivery` and `steps`.
    pub(in crate::router) delivery: bool,
    /// Whether there is a `failure`.
    pub(in crate::router) failure: bool,
    /// Whether there is the `input` of a call.
    pub(in crate::router) input: bool,
}

/// Everything that is wrong with the names of a template, in words.
pub(in crate::router) fn check(template: &Template, names: &Names<'_>) -> Vec<String> {
    let expressions = expressions(template).into_iter();
    expressions
        .flat_map(|(expression, free)| names.check_all(expression, &free))
        .collect()
}

/// Everything that is wrong with the names of an expression, in words.
pub(in crate::router) fn check_expression(expression: &Expression, names: &Names<'_>) -> Vec<String> {
    let source = expression.source();
    names.check_all(source, &engine::free_names(source))
}

/// What a template asks of `input` that no input has which fits the schema.
pub(in crate::router) fn check_input(template: &Template, schema: &Schema) -> Vec<Violation> {
    let known: HashSet<_> = schema.fields().into_iter().map(|field| field.path).collect();
    let mut violations = Vec::new();
    for (expression, free) in expressions(template) {
        let paths = scan::uses(expression).paths.into_iter();
        let asked = paths.filter(|path| path.root() == "input" && free.contains("input"));
        for Path { steps, .. } in asked {
            let Sample {
                value,
                pointer,
                field,
            } = Sample::new(&steps[1..]);
            // One of several alternatives may know it, and another be nearer to a sample that has nothing else.
            if !known.contains(&field) {
                let found = schema.check_with_holes(&value, &|at| at == pointer);
                violations.extend(found.into_iter().filter(|found| {
                    let below = pointer.strip_prefix(&found.pointer);
                    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
                }));
            }
        }
    }
    violations.sort();
    violations.dedup();
    violations
}

/// An input with a value in one place, and nothing else.
struct Sample {
    value: Value,
    /// The place as a JSON Pointer.
    pointer: String,
    /// The place as a field is spelled.
    field: String,
}

impl Sample {
    fn new(steps: &[Step<'_>]) -> Self {
        let mut sample = Self {
            value: Value::Null,
            pointer: String::new(),
            field: String::new(),
        };
        for step in steps {
            match step {
                Step::Name(name) => {
                    sample.pointer = join(&sample.pointer, name);
                    let dot = if sample.field.is_empty() { "" } else { "." };
                    sample.field += &format!("{dot}{name}");
                }
                // Whichever it is, it is like the others.
                Step::Index(_) => {
                    sample.pointer += "/0";
                    sample.field += "[]";
                }
            }
        }
        for step in steps.iter().rev() {
            sample.value = match step {
                Step::Name(name) => json!({ *name: sample.value }),
                Step::Index(_) => json!([sample.value]),
            };
        }
        sample
    }
}

/// The expressions of a template, each with the names that are not its own.
fn expressions(template: &Template) -> Vec<(&str, HashSet<String>)> {
    let alone = |expression: &'_ Expression| engine::free_names(expression.source());
    match &template.form {
        Form::Text => Vec::new(),
        Form::Typed(expression) => vec![(expression.source(), alone(expression))],
        Form::Parts(parts) => parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(_) => None,
                Part::Value(expression) => Some((expression.source(), alone(expression))),
            })
            .collect(),
        Form::Blocks => {
            let free = engine::free_names_of_blocks(&template.source);
            let tags = scan::tags(&template.source).into_iter();
            tags.map(|(_, tag)| (tag, free.clone())).collect()
        }
    }
}

impl Names<'_> {
    /// Checks the paths of `expression` that begin with one of its `free` names; others are its own.
    fn check_all(&self, expression: &str, free: &HashSet<String>) -> Vec<String> {
        let uses = scan::uses(expression);
        let paths = uses.paths.iter().filter(|path| free.contains(path.root()));
        paths.filter_map(|path| self.check(path, expression)).collect()
    }

    fn check(&self, path: &Path<'_>, expression: &str) -> Option<String> {
        let rest = &path.steps[1..];
        match path.root() {
            "event" => check_event(path),
            "events" => None,
            "input" if self.input => None,
            "route" => check_member("route", rest, &["name"]),
            "delivery" if self.delivery => check_member("delivery", rest, &["id"]),
            "failure" if self.failure => check_member("failure", rest, &["step", "reason", "error"]),
            "steps" if self.delivery => self.check_step(rest, expression),
            root => Some(self.unknown(root, expression)),
        }
    }

    fn check_step(&self, rest: &[Step<'_>], expression: &str) -> Option<String> {
        let Some(Step::Name(id)) = rest.first() else {
            return None;
        };
        if self.earlier.contains(id) {
            return None;
        }
        let dashed = format!("{id}-");
        if self
            .earlier
            .iter()
            .any(|id| id.starts_with(&dashed) && expression.contains(*id))
        {
            return None; // Said of what follows the dash.
        }
        if self.later.contains(id) {
            return Some(format!("step `{id}` comes later, its output is not known here"));
        }
        if self.gone.contains(id) {
            return Some(format!(
                "what step `{id}` put out is not known in `on_failure`; `failure` and `event` are"
            ));
        }
        let known = self.earlier.iter().chain(&self.later).copied();
        Some(match nearest(id, known) {
            Some(near) => format!("there is no step `{id}` before this one; did you mean `{near}`?"),
            None => format!("there is no step `{id}` before this one"),
        })
    }

    fn unknown(&self, root: &str, expression: &str) -> String {
        let dashed = format!("-{root}");
        if let Some(id) = self
            .earlier
            .iter()
            .find(|id| id.ends_with(&dashed) && expression.contains(**id))
        {
            return format!(
                "`{id}` is read as a subtraction; write `steps[\"{id}\"]`, or give the step an `id`"
            );
        }
        match root {
            "failure" => "there is no `failure` here, only in `on_failure`".to_owned(),
            "delivery" | "steps" => format!("there is no `{root}` here, before the delivery"),
            _ => match nearest(root, ["event", "events", "steps", "route", "delivery", "failure"]) {
                Some(near) => format!("there is no `{root}`; did you mean `{near}`?"),
                None => format!("there is no `{root}`"),
            },
        }
    }
}

fn check_member(of: &str, rest: &[Step<'_>], known: &[&str]) -> Option<String> {
    let Some(Step::Name(name)) = rest.first() else {
        return None;
    };
    (!known.contains(name)).then(|| format!("`{of}` has only {}", list(known)))
}

fn check_event(path: &Path<'_>) -> Option<String> {
    let names = path.steps[1..].iter().map_while(|step| match step {
        Step::Name(name) => Some(*name),
        Step::Index(_) => None,
    });
    let wrong = shape::missing(names)?;
    let parent = wrong
        .parent
        .iter()
        .fold("event".to_owned(), |path, name| format!("{path}.{name}"));
    Some(
        match nearest(wrong.name, wrong.known.iter().map(String::as_str)) {
            Some(near) => format!("`{parent}` has no `{}`; did you mean `{near}`?", wrong.name),
            None => {
                let known: Vec<_> = wrong.known.iter().map(String::as_str).collect();
                format!("`{parent}` has no `{}`; there is {}", wrong.name, list(&known))
            }
        },
    )
}

fn list(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
