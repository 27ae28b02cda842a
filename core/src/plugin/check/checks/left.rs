//! What is asked of what a plugin leaves behind, whatever it was put through.

use super::{Ruling, seen_by, some, some_of};
use crate::plugin::check::{
    evidence::{Evidence, Kind, Left, Loading, Tried},
    footprint::Changes,
};

/// Something that the plugin was put through, and that may have left something behind.
struct Ordeal<'e> {
    /// The check that asks how it bore that.
    check: &'static str,
    /// What that was.
    tried: &'static str,
    /// What was left, if it was carried out at all; or else, what became of that.
    left: Result<&'e [Changes], &'static str>,
}

impl<'e> Ordeal<'e> {
    fn new<T>(
        check: &'static str,
        tried: &'static str,
        what_became: &'e Tried<T>,
        left: fn(&T) -> &Left,
    ) -> Self {
        let left = match what_became {
            Tried::Saw(seen) => Ok(&left(seen)[..]),
            Tried::Broke(_) => Err("failed"),
            Tried::Skipped(_) => Err("was skipped"),
        };
        Self { check, tried, left }
    }

    /// Why it says nothing of what is left, where it does not.
    fn untried(&self) -> Option<String> {
        let why = match self.left {
            Ok([_, _]) => return None,
            Ok(_) => "did not come to its end",
            Err(why) => why,
        };
        Some(format!("`{}` {why}", self.check))
    }
}

/// All of them, in turn.
fn ordeals(evidence: &Evidence) -> Vec<Ordeal<'_>> {
    let Evidence {
        start,
        bad_configs,
        bad_inputs,
        requests,
        storms,
        ..
    } = evidence;
    let mut all = vec![
        Ordeal::new("start", "instances without calls", start, |seen| &seen.left),
        Ordeal::new(
            "bad-config",
            "configurations that do not fit",
            bad_configs,
            |seen| &seen.left,
        ),
        Ordeal::new("bad-input", "inputs that do not fit", bad_inputs, |seen| {
            &seen.left
        }),
    ];
    if evidence.is_provider() {
        let tried = "requests that prove nothing";
        all.push(Ordeal::new("bad-request", tried, requests, |seen| &seen.left));
    }
    for storm in storms {
        let of_requests = matches!(storm, Tried::Saw(storm) if storm.kind == Kind::Requests);
        let tried = match of_requests {
            true => "requests that were cancelled",
            false => "calls that were cancelled",
        };
        all.push(Ordeal::new("cancel", tried, storm, |seen| &seen.left));
    }
    all
}

/// That nothing was found, in these words: a pass where everything was tried, and otherwise not yet one.
pub(super) fn nothing_found(evidence: &Evidence, words: &str) -> Ruling {
    let ordeals = ordeals(evidence);
    match ordeals.iter().find_map(Ordeal::untried) {
        Some(why) => Ruling::skipped(format!("{words} as far as was tried, but {why}")),
        None => {
            let tried: Vec<_> = ordeals.iter().map(|ordeal| ordeal.tried).collect();
            Ruling::passed(format!("{words} (tried: {})", tried.join(", ")))
        }
    }
}

pub(super) fn process(evidence: &Evidence) -> Ruling {
    seen_by("load", &evidence.loading, |loading| {
        let mut seen = vec![(&loading.changes, "when it was loaded".to_owned())];
        if let Tried::Saw(starts) = &evidence.start {
            seen.push((&starts.alive, "when it was created".to_owned()));
            let left = starts.left.iter();
            seen.extend(left.map(|left| (left, "when it was shut down or destroyed".to_owned())));
        }
        for Ordeal { tried, left, .. } in ordeals(evidence) {
            let left = left.unwrap_or_default().iter();
            seen.extend(left.map(|left| (left, format!("with {tried}"))));
        }
        let mut changed: Vec<(&String, String)> = Vec::new();
        for (changes, when) in seen {
            for what in &changes.shared {
                // Told where it was seen first.
                if !changed.iter().any(|(known, _)| *known == what) {
                    changed.push((what, when.clone()));
                }
            }
        }
        if changed.is_empty() {
            return nothing_found(
                evidence,
                "signal handlers, umask, working directory and environment are as they were",
            );
        }
        let changed: Vec<_> = changed
            .iter()
            .map(|(what, when)| format!("{what}, {when}"))
            .collect();
        Ruling::failed(format!("it changed {}", changed.join("; ")))
            .next("these belong to the whole process: a plugin leaves them alone")
    })
}

pub(super) fn threads(evidence: &Evidence) -> Ruling {
    for Ordeal { tried, left, .. } in ordeals(evidence) {
        let left = left.unwrap_or_default().iter();
        let threads: Vec<_> = left.flat_map(|left| &left.threads).collect();
        if !threads.is_empty() {
            return Ruling::failed(format!("threads go on after {tried}: {}", some(&threads)))
                .next("`shutdown` ends every thread of the instance before it returns 0");
        }
    }
    if let Tried::Saw(Loading { changes }) = &evidence.loading
        && !changes.threads.is_empty()
    {
        return Ruling::warning(format!(
            "threads were started when it was loaded: {}",
            some_of(&changes.threads)
        ))
        .next("start them in `create`, and end them in `shutdown`");
    }
    nothing_found(evidence, "none is left after `destroy`")
}

pub(super) fn descriptors(evidence: &Evidence) -> Ruling {
    let mut once = 0;
    for Ordeal { tried, left, .. } in ordeals(evidence) {
        match left.unwrap_or_default() {
            // What is opened once in a process, and kept, costs nothing more the next time.
            [first, second] if second.descriptors.is_empty() => once = once.max(first.descriptors.len()),
            [_, second] => {
                return Ruling::failed(format!(
                    "descriptors stay open after {tried}, more each time: {}",
                    some_of(&second.descriptors)
                ))
                .next("close them at the end of a call, in `shutdown`, or in `destroy`");
            }
            _ => {}
        }
    }
    match once {
        0 => nothing_found(evidence, "none is left after `destroy`"),
        once => nothing_found(
            evidence,
            &format!("{once} stay open once for the whole library, and no more"),
        ),
    }
}
