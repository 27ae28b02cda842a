//! Imports go down: words, stages, drivers, root. This reads the `use crate::` lines and every path that begins with
//! `crate::`, and checks them against the table of ARCHITECTURE.md.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Word,
    Stage,
    Driver,
    Root,
}

const MODULES: &[(&str, Layer)] = &[
    ("clock", Layer::Word),
    ("delivery", Layer::Word),
    ("document", Layer::Word),
    ("fault", Layer::Word),
    ("file", Layer::Word),
    ("rate", Layer::Word),
    ("reason", Layer::Word),
    ("schema", Layer::Word),
    ("secret", Layer::Word),
    ("watch", Layer::Word),
    ("journal", Layer::Stage),
    ("plugin", Layer::Stage),
    ("provider", Layer::Stage),
    ("router", Layer::Stage),
    ("admin", Layer::Driver),
    ("dispatcher", Layer::Driver),
    ("ingress", Layer::Driver),
    ("app", Layer::Root),
    ("case", Layer::Root),
    ("cli", Layer::Root),
    ("config", Layer::Root),
    ("lib", Layer::Root),
    ("main", Layer::Root),
    ("telemetry", Layer::Root),
];

/// What one stage may take from the stage before it: the proof that it hands on.
const PROOFS: &[(&str, &str, &[&str])] = &[
    ("router", "provider", &["Translated"]),
    ("journal", "router", &["GenerationId", "Owed", "Routed"]),
];

#[test]
fn every_module_has_a_layer() {
    let modules: BTreeSet<_> = sources().iter().map(|file| module_of(file)).collect();
    let known: BTreeSet<_> = MODULES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let strange: Vec<_> = modules.difference(&known).collect();
    assert!(
        strange.is_empty(),
        "give these a layer in this test and in ARCHITECTURE.md: {strange:?}"
    );
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for file in &sources() {
        let from = module_of(file);
        let text = fs::read_to_string(file).expect("the sources can be read");
        for path in crate_paths(&without_tests(&text)) {
            if !is_allowed(&from, &path) {
                let file = file.strip_prefix(root()).expect("the file lies in the sources");
                wrong.push(format!("{}: crate::{}", file.display(), path.join("::")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that go up or across:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_reader_of_imports_sees_through_groups() {
    let text = "use crate::{clock::Clock, journal::{self, Journal, AppendError as E}, reason::Reason};\n\
                // crate::app::Nothing is only spoken of\n\
                fn f() -> crate::secret::Secret {}\nuse crate::router::*;";
    let paths: Vec<_> = crate_paths(text)
        .into_iter()
        .map(|path| path.join("::"))
        .collect();
    assert_eq!(
        paths,
        [
            "clock::Clock",
            "journal::self",
            "journal::Journal",
            "journal::AppendError",
            "reason::Reason",
            "secret::Secret",
            "router::*",
        ]
    );
    assert!(is_allowed("ingress", &["journal".into(), "Journal".into()]));
    assert!(is_allowed("journal", &["router".into(), "Routed".into()]));
    assert!(!is_allowed("journal", &["router".into(), "Generation".into()]));
    assert!(!is_allowed("clock", &["journal".into()]));
    assert!(!is_allowed("ingress", &["admin".into(), "Admin".into()]));
    assert!(is_allowed("admin", &["ingress".into(), "Handle".into()]));
}

fn is_allowed(from: &str, path: &[String]) -> bool {
    let Some(to) = path.first() else { return true };
    // Macros and re-exports at the root are everybody's.
    let Some(to_layer) = layer(to) else { return true };
    if from == to {
        return true;
    }
    let item = path.get(1).map(String::as_str);
    match (layer(from), to_layer) {
        (Some(Layer::Root), _) => true,
        (_, Layer::Word) => true,
        (Some(Layer::Driver), Layer::Stage) => true,
        (Some(Layer::Driver), Layer::Driver) => item == Some("Handle"),
        (Some(Layer::Stage), Layer::Stage) => PROOFS
            .iter()
            .any(|(a, b, items)| *a == from && b == to && item.is_some_and(|item| items.contains(&item))),
        _ => false,
    }
}

fn layer(module: &str) -> Option<Layer> {
    MODULES
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// All paths that begin with `crate::`, groups taken apart, comments left out.
fn crate_paths(text: &str) -> Vec<Vec<String>> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` belongs to whoever uses the macro.
        if !code[..at].ends_with(['$', '_']) {
            expand(&code[at + "crate::".len()..], &[], &mut paths);
        }
    }
    paths
}

/// Reads one path or group at the start of `text` and gives what is left.
fn expand<'t>(text: &'t str, before: &[String], paths: &mut Vec<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            let after = expand(rest, before, paths).trim_start().trim_start_matches(',');
            if after.len() == rest.len() {
                // Not what an import looks like.
                return after;
            }
            rest = after;
        }
    }
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*'))
        .unwrap_or(text.len());
    let mut path = before.to_vec();
    path.push(text[..end].to_owned());
    let mut rest = &text[end..];
    if let Some(after) = rest.strip_prefix("::")
        && !after.starts_with('<')
    {
        return expand(after, &path, paths);
    }
    paths.push(path);
    let trimmed = rest.trim_start();
    if let Some(alias) = trimmed.strip_prefix("as ") {
        let end = alias
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(alias.len());
        rest = &alias[end..];
    }
    rest
}

/// Tests may use what they like: they stand at a file's end, or in files that are called so.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The top module of a file: `journal` for `src/journal.rs` and for `src/journal/sqlite/writer.rs`.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(root()).expect("the file lies in the sources");
    let first = relative.components().next().expect("the file has a name");
    Path::new(&first).with_extension("").display().to_string()
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("the sources can be read") {
            let path = entry.expect("the sources can be read").path();
            if path
                .file_stem()
                .is_some_and(|stem| stem == "tests" || stem == "contract")
            {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
