//! What is asked of the file, before the plugin does anything: the steps that a router takes with it, in turn.

use super::{Ruling, seen, some};
use crate::{
    plugin::{
        check::evidence::{Evidence, FileFound, LibraryFound},
        describe::DescribeError,
        elf::{ENTRY, Fault, InspectError},
        manifest::ManifestError,
        reason_of,
    },
    schema::Schema,
};

pub(super) fn file(evidence: &Evidence) -> Ruling {
    match &evidence.file {
        Err(error) => Ruling::failed(reason_of(error)),
        Ok(FileFound {
            untrusted: Some(error),
            ..
        }) => Ruling::warning(reason_of(error))
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

pub(super) fn elf(evidence: &Evidence) -> Ruling {
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

pub(super) fn note(evidence: &Evidence) -> Ruling {
    inspected(evidence, Part::Note, |library| {
        let identity = &library.identity;
        Ruling::passed(format!(
            "{} {}, ABI {}, built with {} and {}",
            identity.name, identity.version, identity.abi, identity.sdk, identity.toolchain
        ))
    })
}

pub(super) fn exports(evidence: &Evidence) -> Ruling {
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

pub(super) fn needs(evidence: &Evidence) -> Ruling {
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

pub(super) fn load(evidence: &Evidence) -> Ruling {
    seen(&evidence.loading, |_| {
        Ruling::passed("it was loaded, and its table of functions is whole")
    })
}

pub(super) fn manifest(evidence: &Evidence) -> Ruling {
    match &evidence.manifest {
        None => Ruling::skipped("the library was not loaded"),
        Some(Err(DescribeError::Unusable(_))) => Ruling::skipped("`load` failed"),
        Some(Err(DescribeError::Manifest {
            source: ManifestError::Schema { .. },
            ..
        })) => Ruling::passed("it is what the ABI asks for, but for its schemas"),
        Some(Err(error)) => Ruling::failed(reason_of(error)),
        Some(Ok(manifest)) => match manifest.description.as_deref() {
            None | Some("") => Ruling::warning("the plugin does not say what it does").next(
                "`const DESCRIPTION`, or `description` in the manifest: one line, which `plugin list` shows",
            ),
            Some(description) => Ruling::passed(description),
        },
    }
}

pub(super) fn schemas(evidence: &Evidence) -> Ruling {
    let manifest = match &evidence.manifest {
        Some(Ok(manifest)) => manifest,
        Some(Err(
            error @ DescribeError::Manifest {
                source: ManifestError::Schema { .. },
                ..
            },
        )) => return Ruling::failed(reason_of(error)),
        Some(Err(_)) => return Ruling::skipped("`manifest` failed"),
        None => return Ruling::skipped("the library was not loaded"),
    };
    let both = [
        ("config_schema", "a configuration", &manifest.config_schema),
        ("input_schema", "an input", &manifest.input_schema),
    ];
    // What no step can use takes no input, and its schema is the router's.
    let both = &both[..if manifest.is_action() { 2 } else { 1 }];
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
