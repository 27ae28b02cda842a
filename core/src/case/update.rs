//! Rewrites what cases expect into what rules make of them.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    Case, Expected, ExpectedStep, Fate, read, unreadable,
    write::{self, Left, Written},
};
use crate::{
    fault::{Fault, Faults},
    file,
    router::{Generation, Rehearsed},
};

/// Rewrites what the failing cases of a file expect that `is_meant`, and leaves everything else in it as it is. How much is
/// said of a route stays the same: names alone stay so, and steps that may be given anything. Comments among what is rewritten
/// go. A case whose expectation does not stand together behind the rest of it is left alone.
///
/// Gives the cases as they are then.
///
/// # Errors
///
/// Where the file cannot be read or written, or has mistakes in it.
pub fn update(
    path: &Path,
    providers: &BTreeMap<String, String>,
    generation: &Generation,
    is_meant: impl Fn(&Case) -> bool,
) -> Result<Vec<Case>, Faults> {
    let file = path.display().to_string();
    let base = path.parent().unwrap_or(Path::new(""));
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let cases = read::read(&file, &text, base, providers)?;
    let updated = rewritten(&text, &cases, generation, is_meant);
    if updated == text {
        return Ok(cases);
    }
    // What cannot be read again must not take the place of what can.
    let cases = read::read(&file, &updated, base, providers)?;
    file::replace(path, &updated)
        .map_err(|error| Fault::new(format!("{file}: the cases cannot be rewritten: {error}")))?;
    Ok(cases)
}

/// The text with other expectations.
pub(super) fn rewritten(
    text: &str,
    cases: &[Case],
    generation: &Generation,
    is_meant: impl Fn(&Case) -> bool,
) -> String {
    let mut updated = text.to_owned();
    let failing = |case: &&Case| is_meant(case) && !case.judge(generation).is_empty();
    // From the last to the first, so that places stay where they are.
    let mut edits: Vec<_> = cases
        .iter()
        .filter(failing)
        .filter_map(|case| Some((case.expectation.clone()?, case.rehearse(generation).ok()?, case)))
        .collect();
    edits.sort_by_key(|(range, ..)| std::cmp::Reverse(range.start));
    for (range, rehearsed, case) in edits {
        // Whole lines, so that a comment behind the last value goes with it.
        let end = text[range.end..]
            .find('\n')
            .map_or(text.len(), |end| range.end + end + 1);
        updated.replace_range(
            range.start..end,
            expectation(case, &rehearsed).trim_start_matches('\n'),
        );
    }
    updated
}

/// What a case is to expect.
fn expectation(case: &Case, rehearsed: &[Rehearsed<'_>]) -> String {
    let is_plain = |expected: &Expected| {
        expected.order.is_none()
            && expected.failure.is_none()
            && expected.steps.is_empty()
            && expected.on_failure.is_empty()
    };
    let all_plain = case.expected.iter().all(is_plain);
    let (mut names, mut written) = (Vec::new(), Vec::new());
    for rehearsed in rehearsed {
        let name = rehearsed.route.name();
        match case.expected.iter().find(|expected| expected.name == name) {
            Some(expected) if !is_plain(expected) => written.push(of(expected, rehearsed)),
            None if !all_plain => written.push(Written::whole(rehearsed, Left::default())),
            Some(_) | None => names.push(name),
        }
    }
    let names = match names.is_empty() && !written.is_empty() {
        true => String::new(),
        false => write::names(&names),
    };
    names + &write::routes(&written)
}

/// A route, with as much as was said of it.
fn of<'a>(expected: &Expected, rehearsed: &'a Rehearsed<'a>) -> Written<'a> {
    let steps = expected.steps.iter().chain(&expected.on_failure);
    let outputs = steps.clone().filter_map(|ExpectedStep { id, output, .. }| {
        let output = serde_json::from_slice(output.as_ref()?).ok()?;
        Some((id.clone(), output))
    });
    let any = steps
        .clone()
        .filter(|step| matches!(step.fate, Fate::Any))
        .map(|step| step.id.clone());
    Written {
        rehearsed,
        left: Left {
            outputs: outputs.collect(),
            failure: expected.failure.clone(),
        },
        order: expected.order.is_some(),
        steps: [&expected.steps, &expected.on_failure].map(|steps| !steps.is_empty()),
        any: any.collect(),
    }
}
