//! The checks: each judges what was found out, in words for the plugin's author, and runs nothing.

mod behaviour;
mod left;
mod library;
mod provider;

use super::{
    Finding, Verdict,
    evidence::{Evidence, Tried},
};
use crate::plugin::manifest::Manifest;

/// One check.
pub(super) struct Check {
    name: &'static str,
    ask: fn(&Evidence) -> Ruling,
    /// Whether only those are asked that bring a provider.
    of_providers: bool,
}

impl Check {
    /// Whether it asks for what a plugin of this kind can be asked.
    pub(super) fn applies(&self, evidence: &Evidence) -> bool {
        let manifest = evidence
            .manifest
            .as_ref()
            .and_then(|manifest| manifest.as_ref().ok());
        !self.of_providers || manifest.is_some_and(Manifest::is_provider)
    }

    pub(super) fn judge(&self, evidence: &Evidence) -> Finding {
        let Ruling { verdict, found, next } = (self.ask)(evidence);
        Finding {
            check: self.name,
            verdict,
            found,
            next,
        }
    }
}

/// All of them, in the order in which a router would come to what they ask.
pub(super) const ALL: &[Check] = &[
    check("file", library::file),
    check("elf", library::elf),
    check("note", library::note),
    check("exports", library::exports),
    check("needs", library::needs),
    check("load", library::load),
    check("manifest", library::manifest),
    check("schemas", library::schemas),
    check("start", behaviour::start),
    check("bad-config", behaviour::bad_config),
    check("bad-input", behaviour::bad_input),
    check_of_providers("bad-request", provider::bad_request),
    check("cancel", behaviour::cancel),
    check("panics", behaviour::panics),
    check("process", left::process),
    check("threads", left::threads),
    check("descriptors", left::descriptors),
];

const fn check(name: &'static str, ask: fn(&Evidence) -> Ruling) -> Check {
    Check {
        name,
        ask,
        of_providers: false,
    }
}

const fn check_of_providers(name: &'static str, ask: fn(&Evidence) -> Ruling) -> Check {
    Check {
        of_providers: true,
        ..check(name, ask)
    }
}

/// What a check comes to.
struct Ruling {
    verdict: Verdict,
    found: String,
    next: Option<String>,
}

impl Ruling {
    fn passed(found: impl Into<String>) -> Self {
        Self::of(Verdict::Passed, found)
    }

    fn warning(found: impl Into<String>) -> Self {
        Self::of(Verdict::Warning, found)
    }

    fn failed(found: impl Into<String>) -> Self {
        Self::of(Verdict::Failed, found)
    }

    fn skipped(found: impl Into<String>) -> Self {
        Self::of(Verdict::Skipped, found)
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    fn of(verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            verdict,
            found: found.into(),
            next: None,
        }
    }
}

/// What is judged of something that was seen; where nothing was, why.
fn seen<'e, T>(tried: &'e Tried<T>, judge: impl FnOnce(&'e T) -> Ruling) -> Ruling {
    match tried {
        Tried::Saw(evidence) => judge(evidence),
        Tried::Broke(broken) => Ruling::failed(broken.to_string()),
        Tried::Skipped(why) => Ruling::skipped(why),
    }
}

/// Like [`seen`], for a check to which why it was not seen is another's business.
fn seen_by<'e, T>(check: &str, tried: &'e Tried<T>, judge: impl FnOnce(&'e T) -> Ruling) -> Ruling {
    match tried {
        Tried::Saw(evidence) => judge(evidence),
        Tried::Broke(_) => Ruling::skipped(format!("`{check}` failed")),
        Tried::Skipped(_) => Ruling::skipped(format!("`{check}` was skipped")),
    }
}

fn some_of(names: &[String]) -> String {
    some(&names.iter().collect::<Vec<_>>())
}

/// The first few of them.
fn some(names: &[&String]) -> String {
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn quoted(name: &str) -> String {
    if name.contains([' ', '`']) {
        name.to_owned()
    } else {
        format!("`{name}`")
    }
}

const SHOWN: usize = 5;
