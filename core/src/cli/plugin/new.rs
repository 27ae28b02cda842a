//! `plugin new`: a plugin to begin from, that builds as it is.
//!
//! The templates are plain files in `core/templates`, a plugin that is called `greeter`; what is written is the same under
//! another name.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::super::say;
use crate::plugin::note;

/// Write a plugin to begin from, which builds and passes its tests as it is.
///
/// In Rust: a package with configuration, input and output, tests, a README and a file for CI. In C: one file, the header,
/// a Makefile, a README and a file for CI.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct New {
    /// What the plugin calls itself: what `use` in a step says. 1 to 63 of a-z, 0-9 and `-`.
    name: String,
    /// In which language.
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    lang: Lang,
    /// Where to put it; by default into a new directory of that name, here.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Where the SDK is: the directory `sdk` of a checkout of Jackfield. By default that which this program was built from.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// With the SDK, which leaves no `unsafe` to the author.
    Rust,
    /// With one header.
    C,
}

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { name, lang, .. } = &self;
        if !note::is_name(name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            bail!(
                "`{name}` is no name for a plugin: that is 1 to 63 of a-z, 0-9 and `-`, and begins with a letter, as in \
                 `slack-notify`"
            );
        }
        let directory = self.path.clone().unwrap_or_else(|| PathBuf::from(name));
        claim(&directory)?;
        let words = Words { name };
        for (file, text) in lang.files() {
            put(&directory.join(words.put_into(file)), &words.put_into(text))?;
        }
        let mut notes = Vec::new();
        match lang {
            Lang::Rust => notes.extend(self.take_sdk(&directory)?),
            Lang::C => put(&directory.join("jackfield_plugin.h"), HEADER)?,
        }
        say(told(&directory, *lang, &words, &notes))?;
        Ok(())
    }

    /// Has the package take the SDK from where it is; says what is left to do where that is not known.
    fn take_sdk(&self, directory: &Path) -> anyhow::Result<Option<String>> {
        let built_from = Path::new(SDK);
        let (sdk, note) = match &self.sdk {
            Some(sdk) if !is_sdk(sdk) => bail!(
                "there is no SDK at {}: it is the directory `sdk` of a checkout of Jackfield",
                sdk.display()
            ),
            Some(sdk) => (from(directory, sdk)?, None),
            None if is_sdk(built_from) => (from(directory, built_from)?, None),
            None => {
                let note = format!(
                    "The SDK is not on this machine, or not where this program was built: edit the line `jackfield-sdk = …` in \
                     {}, so that it leads to the directory `sdk` of a checkout of Jackfield.",
                    directory.join("Cargo.toml").display()
                );
                (PathBuf::from("../jackfield/sdk"), Some(note))
            }
        };
        let manifest = directory.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        // Quoted as in JSON, which TOML understands.
        let path = serde_json::Value::from(sdk.display().to_string()).to_string();
        fs::write(&manifest, text.replace("\"../../../sdk\"", &path))?;
        Ok(note)
    }
}

/// Makes the directory; one that is there must be empty.
fn claim(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let mut entries =
        fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    if entries.next().is_some() {
        bail!(
            "{} is not empty, and nothing in it is overwritten; name another place with `--path`",
            directory.display()
        );
    }
    Ok(())
}

/// Writes a file that is not there yet.
fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

fn is_sdk(directory: &Path) -> bool {
    fs::read_to_string(directory.join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.contains("name = \"jackfield-sdk\""))
}

/// The path from a package to the SDK: relative where the package lies beside the checkout, as it would in another place.
fn from(directory: &Path, sdk: &Path) -> anyhow::Result<PathBuf> {
    let (directory, sdk) = (directory.canonicalize()?, sdk.canonicalize()?);
    let beside = directory.parent().filter(|parent| *parent != Path::new("/"));
    match beside.and_then(|parent| sdk.strip_prefix(parent).ok()) {
        Some(below) => Ok(Path::new("..").join(below)),
        None => Ok(sdk),
    }
}

/// What the plugin's name is in its various forms.
struct Words<'n> {
    name: &'n str,
}

impl Words<'_> {
    /// The text of a template, under the plugin's own name.
    fn put_into(&self, text: &str) -> String {
        let forms = [
            ("greeter_plugin", self.library()),
            ("GreeterPlugin", self.kind()),
            ("greeter", self.name.to_owned()),
        ];
        put_in(text, &forms)
    }

    /// The name of the library, without its ending: `slack_notify_plugin`.
    fn library(&self) -> String {
        format!("{}_plugin", self.name.replace('-', "_"))
    }

    /// The name of the type: `SlackNotifyPlugin`, which is neither a word of Rust nor a type of the template's, whatever
    /// the plugin's name is.
    fn kind(&self) -> String {
        let parts = self.name.split('-').chain(["plugin"]).map(|part| {
            let (first, rest) = part.split_at(part.len().min(1));
            first.to_ascii_uppercase() + rest
        });
        parts.collect()
    }
}

/// `text` with each word's form in its place. What was put in is not looked at again: a name may have one of the words in it.
fn put_in(text: &str, forms: &[(&str, String)]) -> String {
    let Some(((word, form), others)) = forms.split_first() else {
        return text.to_owned();
    };
    let parts = text.split(word).map(|part| put_in(part, others));
    parts.collect::<Vec<_>>().join(form)
}

/// What there is now, and what to do next.
fn told(directory: &Path, lang: Lang, words: &Words<'_>, notes: &[String]) -> String {
    let (at, library) = (directory.display(), words.library());
    let name = words.name;
    let (language, build, file, input) = match lang {
        Lang::Rust => (
            "Rust",
            "cargo test\n  cargo build --release",
            format!("target/release/lib{library}.so"),
            " --input '{\"name\": \"Ada\"}'",
        ),
        Lang::C => ("C", "make", format!("{name}.so"), ""),
    };
    let mut text = format!("The plugin `{name}` in {language} is in {at}.\n\n");
    for note in notes {
        text += &format!("{note}\n\n");
    }
    text + &format!(
        "Next:\n  cd {at}\n  {build}\n  jackfield plugin check {file}{input}\n\n\
         Then copy the library into the plugins directory of a router; README.md shows a route that uses it."
    )
}

impl Lang {
    /// The files of the template, by their names in it.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => RUST,
            Self::C => C,
        }
    }
}

macro_rules! files {
    ($directory:literal: $($file:literal),+) => {
        &[$((
            $file,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $directory, "/", $file)),
        )),+]
    };
}

const RUST: &[(&str, &str)] = files!(
    "rust":
        "Cargo.toml",
        "README.md",
        "src/lib.rs",
        "tests/calls.rs",
        ".gitignore",
        ".github/workflows/ci.yml"
);
const C: &[(&str, &str)] =
    files!("c": "Makefile", "README.md", "greeter.c", ".gitignore", ".github/workflows/ci.yml");
const HEADER: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../sdk/abi/include/jackfield_plugin.h"
));
/// The SDK that this program was built with, if its checkout is still there.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk");
const EXAMPLES: &str = "\
Examples:
  jackfield plugin new hello                         a package in Rust, in ./hello
  jackfield plugin new hello --path ~/src/hello
  jackfield plugin new hello --lang c                one file in C, and a Makefile";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_put_in_each_of_its_forms() {
        let text = "greeter greeter-plugin use greeter_plugin::GreeterPlugin; libgreeter_plugin.so greeter.c";
        for (name, written) in [
            (
                "slack-notify",
                "slack-notify slack-notify-plugin use slack_notify_plugin::SlackNotifyPlugin; libslack_notify_plugin.so \
                 slack-notify.c",
            ),
            (
                "greeter-two",
                "greeter-two greeter-two-plugin use greeter_two_plugin::GreeterTwoPlugin; libgreeter_two_plugin.so \
                 greeter-two.c",
            ),
        ] {
            assert_eq!(Words { name }.put_into(text), written);
        }
        for (name, kind) in [
            ("a", "APlugin"),
            ("a--b-", "ABPlugin"),
            ("x-3d", "X3dPlugin"),
            ("self", "SelfPlugin"),
        ] {
            assert_eq!(Words { name }.kind(), kind);
        }
    }

    /// A name may be a word of Rust (`match`), a word of the template (`input`), or no identifier at all (`slack-notify`). So what is
    /// code names the crate and the type, both of which end in a word of ours; all else stands in texts and comments.
    #[test]
    fn any_name_makes_code_that_compiles() {
        for (file, text) in RUST.iter().filter(|(file, _)| file.ends_with(".rs")) {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                // Every other part is a text in quotes.
                for code in line.split('"').step_by(2) {
                    let left = code.replace("greeter_plugin", "").replace("GreeterPlugin", "");
                    assert!(!left.to_lowercase().contains("greeter"), "{file}: {line}");
                }
            }
        }
        let (_, code) = C.iter().find(|(file, _)| *file == "greeter.c").unwrap();
        let named: Vec<_> = code.lines().filter(|line| line.contains("greeter")).collect();
        assert_eq!(named, ["#define NAME \"greeter\""]);
    }

    #[test]
    fn the_package_asks_for_the_rust_that_the_sdk_asks_for() {
        let (_, manifest) = RUST.iter().find(|(file, _)| *file == "Cargo.toml").unwrap();
        let version = concat!("rust-version = \"", env!("CARGO_PKG_RUST_VERSION"), "\"");
        assert!(manifest.contains(version), "{version}");
    }

    #[test]
    fn a_package_beside_the_checkout_takes_the_sdk_by_a_relative_path() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (near, far, sdk) = (
            home.join("near"),
            home.join("far/away"),
            home.join("jackfield/sdk"),
        );
        for directory in [&near, &far, &sdk] {
            fs::create_dir_all(directory).unwrap();
        }
        assert_eq!(from(&near, &sdk).unwrap(), Path::new("../jackfield/sdk"));
        assert_eq!(from(&far, &sdk).unwrap(), sdk);
    }
}
