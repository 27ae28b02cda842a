//! The checks: each judges what was found out, in words for the plugin's author, and runs nothing.

use super::{
    Finding, Verdict,
    evidence::{Answer, Evidence, FileFound, LibraryFound, Starts, Tried},
    words,
};
use crate::{
    plugin::{
        describe::DescribeError,
        elf::{ENTRY, Fault, InspectError},
        manifest::ManifestError,
    },
    schema::Schema,
};

/// One check.
pub(super) struct Check {
    name: &'static str,
    ask: fn(&Evidence) -> Ruling,
}

impl Check {
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
    check("file", file),
    check("elf", elf),
    check("note", note),
    check("exports", exports),
    check("needs", needs),
    check("load", load),
    check("manifest", manifest),
    check("schemas", schemas),
    check("start", start),
    check("bad-config", bad_config),
    check("bad-input", bad_input),
    check("cancel", cancel),
    check("panics", panics),
    check("process", process),
    check("threads", threads),
    check("descriptors", descriptors),
];

const fn check(name: &'static str, ask: fn(&Evidence) -> Ruling) -> Check {
    Check { name, ask }
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

fn file(evidence: &Evidence) -> Ruling {
    match &evidence.file {
        Err(error) => Ruling::failed(words(error)),
        Ok(FileFound {
            untrusted: Some(error),
            ..
        }) => Ruling::warning(words(error))
            .next("not needed here, but where a router is to load it from: copy it with `install -m 755`"),
        Ok(file) => {
            let digest = file.digest.to_string();
            Ruling::passed(format!(
                "{} KiB, sha256 {}…",
                file.size.div_ceil(1024),
                &digest[..16]
            ))
        }
    }
}

/// What the inspection of a library looks at, in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Elf,
    Note,
    Exports,
    Needs,
}

impl Part {
    fn of(error: &InspectError) -> Self {
        match error.fault() {
            Fault::NoNote | Fault::Note(_) => Self::Note,
            Fault::NoEntry(_) | Fault::Interposes(_) => Self::Exports,
            Fault::Glibc { .. } => Self::Needs,
            _ => Self::Elf,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Elf => "elf",
            Self::Note => "note",
            Self::Exports => "exports",
            Self::Needs => "needs",
        }
    }
}

fn inspected(evidence: &Evidence, part: Part, judge: impl FnOnce(&LibraryFound) -> Ruling) -> Ruling {
    match &evidence.library {
        None => Ruling::skipped("`file` failed"),
        Some(Ok(library)) => judge(library),
        Some(Err(error)) if Part::of(error) == part => Ruling::failed(error.to_string()),
        Some(Err(error)) => Ruling::skipped(format!("`{}` failed", Part::of(error).name())),
    }
}

fn elf(evidence: &Evidence) -> Ruling {
    inspected(evidence, Part::Elf, |library| {
        let Some(hazard) = library.hazards.first() else {
            return Ruling::passed(
                "a shared library for this machine, with nothing in it that a router would not load",
            );
        };
        Ruling::warning(format!(
            "it {hazard}, so that it can only live in a process of its own, as is the default"
        ))
        .next(hazard.remedy())
    })
}

fn note(evidence: &Evidence) -> Ruling {
    inspected(evidence, Part::Note, |library| {
        let identity = &library.identity;
        Ruling::passed(format!(
            "{} {}, ABI {}, built with {} and {}",
            identity.name, identity.version, identity.abi, identity.sdk, identity.toolchain
        ))
    })
}

fn exports(evidence: &Evidence) -> Ruling {
    inspected(evidence, Part::Exports, |_| {
        let exports = evidence.anatomy().map_or(&[][..], |anatomy| &anatomy.exports);
        let others: Vec<_> = exports.iter().filter(|name| *name != ENTRY).collect();
        if others.is_empty() {
            return Ruling::passed(format!("`{ENTRY}`, and nothing else"));
        }
        Ruling::warning(format!("beside `{ENTRY}` it exports {}", some(&others)))
            .next("hide them: `-fvisibility=hidden` in C; in Rust, `#[no_mangle]` is what exports")
    })
}

fn needs(evidence: &Evidence) -> Ruling {
    inspected(evidence, Part::Needs, |library| {
        if !library.warnings.is_empty() {
            return Ruling::warning(library.warnings.join("; ")).next("link it statically, or do without");
        }
        let Some(anatomy) = evidence.anatomy() else {
            return Ruling::skipped("what it needs cannot be read");
        };
        let glibc = anatomy.glibc.map(|glibc| format!(", glibc {glibc} or newer"));
        Ruling::passed(format!(
            "{}{}",
            anatomy.needs.join(", "),
            glibc.unwrap_or_default()
        ))
    })
}

fn load(evidence: &Evidence) -> Ruling {
    seen(&evidence.loading, |_| {
        Ruling::passed("it was loaded, and its table of functions is whole")
    })
}

fn manifest(evidence: &Evidence) -> Ruling {
    match &evidence.manifest {
        None => Ruling::skipped("the library was not loaded"),
        Some(Err(DescribeError::Unusable(_))) => Ruling::skipped("`load` failed"),
        Some(Err(DescribeError::Manifest {
            source: ManifestError::Schema { .. },
            ..
        })) => Ruling::passed("it is what the ABI asks for, but for its schemas"),
        Some(Err(error)) => Ruling::failed(words(error)),
        Some(Ok(manifest)) => match manifest.description.as_deref() {
            None | Some("") => Ruling::warning("the plugin does not say what it does").next(
                "`const DESCRIPTION`, or `description` in the manifest: one line, which `plugin list` shows",
            ),
            Some(description) => Ruling::passed(description),
        },
    }
}

fn schemas(evidence: &Evidence) -> Ruling {
    let manifest = match &evidence.manifest {
        Some(Ok(manifest)) => manifest,
        Some(Err(
            error @ DescribeError::Manifest {
                source: ManifestError::Schema { .. },
                ..
            },
        )) => return Ruling::failed(words(error)),
        Some(Err(_)) => return Ruling::skipped("`manifest` failed"),
        None => return Ruling::skipped("the library was not loaded"),
    };
    let both = [
        ("config_schema", "a configuration", &manifest.config_schema),
        ("input_schema", "an input", &manifest.input_schema),
    ];
    for (name, what, schema) in both {
        if let Some(violation) = no_object_fits(schema) {
            return Ruling::failed(format!(
                "nothing fits `{name}`: {what} is always a table, and of one it says: {violation}"
            ))
            .next("let it describe an object");
        }
    }
    let mut faults = Vec::new();
    let mut fields = 0;
    for (name, _, schema) in both {
        if !schema.describes_object() {
            faults.push(format!(
                "`{name}` does not say `\"type\": \"object\"`, so that anything fits"
            ));
        }
        let all = schema.fields();
        fields += all.len();
        // What stands under names of the author's choice is explained with what they are in.
        let silent = all
            .iter()
            .filter(|field| field.description.is_none() && !field.path.ends_with("<name>"));
        let silent: Vec<_> = silent.map(|field| &field.path).collect();
        if !silent.is_empty() {
            faults.push(format!("`{name}` does not say what {} is for", some(&silent)));
        }
    }
    match faults.is_empty() {
        true if fields == 0 => Ruling::passed("they describe objects without fields"),
        true => Ruling::passed("they describe objects, and what each of their fields is for"),
        false => Ruling::warning(faults.join("; ")).next(
            "a doc comment on a field becomes its description; `plugin inspect` and editors show it to whoever configures",
        ),
    }
}

/// Why no object can fit.
fn no_object_fits(schema: &Schema) -> Option<String> {
    let violations = schema.check(&serde_json::json!({}));
    let of_itself = violations
        .into_iter()
        .find(|violation| violation.pointer.is_empty() && violation.message.starts_with("found a table"));
    of_itself.map(|violation| violation.message)
}

fn start(evidence: &Evidence) -> Ruling {
    seen(&evidence.start, |starts| {
        for (answer, which) in starts.answers.iter().zip(["first", "second"]) {
            match answer {
                Answer::Made => {}
                Answer::Refused {
                    message,
                    panicked: false,
                } if which == "first" && !evidence.config_was_given => {
                    return Ruling::skipped(format!(
                        "it refuses the empty configuration ({message}): give it one with `--instance-config`"
                    ));
                }
                Answer::Refused { message, .. } => {
                    return Ruling::failed(format!("the {which} instance was refused: {message}"))
                        .next("a configuration that fits the schema should start, again and again");
                }
                Answer::Silent => {
                    return Ruling::failed(format!(
                        "for the {which} instance, `create` gave NULL and no reason"
                    ))
                    .next("call `start->fail` with a message first");
                }
                Answer::Late => return Ruling::failed(format!("the {which} instance did not start in time")),
            }
        }
        if starts.ended.contains(&false) {
            return Ruling::failed("an instance without a call did not end when it was shut down")
                .next("`shutdown` ends every thread of the instance and returns 0");
        }
        Ruling::passed("two instances in turn were created, shut down and destroyed")
    })
}

fn bad_config(evidence: &Evidence) -> Ruling {
    seen(&evidence.bad_configs, |answers| {
        let those = |wanted: fn(&Answer) -> bool| -> Vec<_> {
            let found = answers.iter().filter(|(_, answer)| wanted(answer));
            found.map(|(what, _)| what).collect()
        };
        let silent = those(|answer| matches!(answer, Answer::Silent));
        if !silent.is_empty() {
            return Ruling::failed(format!("it gave no reason why it refuses {}", some(&silent)))
                .next("call `start->fail` with a message before returning NULL");
        }
        let taken = those(|answer| matches!(answer, Answer::Made));
        let words = format!(
            "took {} of {} configurations that do not fit",
            taken.len(),
            answers.len()
        );
        if taken.len() == answers.len() {
            return Ruling::failed(format!("it {words}: it never refuses any")).next(
                "look at the configuration in `create`, and say by `start->fail` what is wrong with it",
            );
        }
        if !taken.is_empty() {
            return Ruling::warning(format!("it {words} its own schema: {}", some(&taken))).next(
                "the router checks the schema first, so this does no harm; an error would be kinder in tests",
            );
        }
        Ruling::passed(format!(
            "{} that do not fit were refused, each with a message",
            answers.len()
        ))
    })
}

fn bad_input(evidence: &Evidence) -> Ruling {
    seen(&evidence.bad_inputs, |bad| {
        if bad.strays > 0 {
            return twice(bad.strays);
        }
        let done = bad.calls.iter().filter(|(_, called)| called.outcome == "done");
        let taken: Vec<_> = done.map(|(what, _)| what).collect();
        if taken.is_empty() {
            return Ruling::passed(format!(
                "{} calls whose input does not fit were refused, and the instance lives",
                bad.calls.len()
            ));
        }
        Ruling::warning(format!(
            "it carried out {} of {} calls whose input does not fit: {}",
            taken.len(),
            bad.calls.len(),
            some(&taken)
        ))
        .next("the router checks the schema first, so this does no harm; an error would be kinder in tests")
    })
}

fn cancel(evidence: &Evidence) -> Ruling {
    seen(&evidence.storm, |storm| {
        if storm.strays > 0 {
            return twice(storm.strays);
        }
        if storm.late > 0 {
            return Ruling::failed(format!(
                "{} of {} calls did not end although they were cancelled",
                storm.late, storm.begun
            ))
            .next("look at `*cancelled` while you wait, or let `op_cancel` wake whoever waits; in Rust, do not block");
        }
        if !storm.ended {
            return Ruling::failed("the instance did not end after its calls had")
                .next("`shutdown` ends every thread of the instance and returns 0");
        }
        let outcomes: Vec<_> = storm
            .outcomes
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        Ruling::passed(format!(
            "{} calls were begun and cancelled at once, and each ended once: {}",
            storm.begun,
            outcomes.join(", ")
        ))
    })
}

fn twice(strays: usize) -> Ruling {
    Ruling::failed(format!("{strays} times it ended a call that had ended already"))
        .next("call `done` exactly once for each call, on every path")
}

fn panics(evidence: &Evidence) -> Ruling {
    let mut panics = Vec::new();
    if let Tried::Saw(starts) = &evidence.start {
        panics.extend(
            starts
                .answers
                .iter()
                .filter_map(|answer| panic_of(answer, "its configuration")),
        );
    }
    if let Tried::Saw(answers) = &evidence.bad_configs {
        panics.extend(answers.iter().filter_map(|(what, answer)| panic_of(answer, what)));
    }
    if let Tried::Saw(bad) = &evidence.bad_inputs {
        let panicked = bad.calls.iter().filter(|(_, called)| called.panicked);
        panics.extend(panicked.map(|(what, called)| format!("called with {what}: {}", called.message)));
    }
    if let Tried::Saw(storm) = &evidence.storm {
        panics.extend(storm.panics.iter().map(|message| format!("cancelled: {message}")));
        // One stands for all.
        panics.dedup();
    }
    let Some(first) = panics.first() else {
        return match &evidence.bad_configs {
            Tried::Saw(_) => Ruling::passed("none could be provoked from outside"),
            Tried::Broke(_) => Ruling::skipped("`bad-config` failed"),
            Tried::Skipped(why) => Ruling::skipped(why),
        };
    };
    Ruling::warning(format!("{} were provoked, and contained; the first when {first}", panics.len()))
        .next("a panic fails its call and nothing else, but nobody learns from it: return an error that says what is wrong")
}

fn panic_of(answer: &Answer, what: &str) -> Option<String> {
    match answer {
        Answer::Refused {
            message,
            panicked: true,
        } => Some(format!("created with {what}: {message}")),
        Answer::Refused { .. } | Answer::Made | Answer::Silent | Answer::Late => None,
    }
}

fn process(evidence: &Evidence) -> Ruling {
    seen_by("load", &evidence.loading, |loading| {
        let mut changed = Vec::new();
        let mut note = |when: &str, what: &[String]| {
            changed.extend(what.iter().map(|what| format!("{what}, {when}")));
        };
        note("when it was loaded", &loading.changes.shared);
        let seen = match &evidence.start {
            Tried::Saw(starts) => {
                note("when it was created", &starts.alive.shared);
                "loaded and created"
            }
            Tried::Broke(_) | Tried::Skipped(_) => "loaded",
        };
        if changed.is_empty() {
            return Ruling::passed(format!(
                "signal handlers, umask, working directory and environment are as they were, after it was {seen}"
            ));
        }
        Ruling::failed(format!("it changed {}", changed.join("; ")))
            .next("these belong to the whole process: a plugin leaves them alone")
    })
}

fn threads(evidence: &Evidence) -> Ruling {
    of_what_is_left(evidence, |loading, starts| {
        let left: Vec<_> = starts.left.iter().flat_map(|left| &left.threads).collect();
        if !left.is_empty() {
            return Ruling::failed(format!("threads go on after `destroy`: {}", some(&left)))
                .next("`shutdown` ends every thread of the instance before it returns 0");
        }
        if !loading.is_empty() {
            return Ruling::warning(format!(
                "threads were started when it was loaded: {}",
                some_of(loading)
            ))
            .next("start them in `create`, and end them in `shutdown`");
        }
        Ruling::passed("none is left after `destroy`")
    })
}

fn descriptors(evidence: &Evidence) -> Ruling {
    of_what_is_left(evidence, |_, starts| {
        let of = |number: usize| starts.left.get(number).map_or(&[][..], |left| &left.descriptors);
        match (of(0), of(1)) {
            ([], []) => Ruling::passed("none is left after `destroy`"),
            // What is opened once in a process, and kept, costs nothing more with the next instance.
            (once, []) => Ruling::passed(format!(
                "{} stay open once for the whole library, and no more",
                once.len()
            )),
            (_, more) => Ruling::failed(format!(
                "each instance leaves descriptors open: {}",
                some_of(more)
            ))
            .next("close them in `shutdown` or `destroy`"),
        }
    })
}

fn of_what_is_left(evidence: &Evidence, judge: impl FnOnce(&[String], &Starts) -> Ruling) -> Ruling {
    let loading = match &evidence.loading {
        Tried::Saw(loading) => &loading.changes.threads[..],
        Tried::Broke(_) | Tried::Skipped(_) => &[],
    };
    seen_by("start", &evidence.start, |starts| {
        if starts.left.is_empty() {
            return Ruling::skipped("no instance was made");
        }
        judge(loading, starts)
    })
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
