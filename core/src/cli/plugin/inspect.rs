//! `plugin inspect`: everything that can be said of one plugin.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;

use super::super::{
    Output, Shape, load_without_secrets, say, say_json,
    scratch::Scratch,
    show::fields,
    table::{Table, short},
    wait,
};
use crate::{
    plugin::{Portrait, Runner},
    schema::{Field, Schema},
};

/// Show everything of one plugin: who it is, what it is made of, and what can be configured and given, field by field.
///
/// A file needs no router and no configuration. A name is looked for in the plugins directory of the configuration: that of a
/// plugin, or of an instance.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Inspect {
    /// A library, or the name of a plugin or an instance.
    #[arg(value_name = "FILE.so|NAME")]
    plugin: String,
    /// Print what its author has to say as well, in Markdown.
    #[arg(long)]
    docs: bool,
    #[command(flatten)]
    output: Output,
}

impl Inspect {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<ExitCode> {
        let file = self.file(config)?;
        let scratch = Scratch::new().context("no temporary directory can be made")?;
        let portrait = wait(Portrait::of(&file, scratch.path(), &Runner::this()))??;
        match self.output.output {
            Shape::Json => say_json(&portrait)?,
            Shape::Table => say(shown(&portrait, self.docs))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn file(&self, config: &Path) -> anyhow::Result<PathBuf> {
        let path = Path::new(&self.plugin);
        if self.plugin.contains('/') || path.extension().is_some_and(|extension| extension == "so") {
            return Ok(path.to_owned());
        }
        let config = load_without_secrets(config)?;
        let directory = config.plugins.dir.context(
            "the configuration names no plugins directory: say `dir` in `[plugins]`, or name a file",
        )?;
        let instance = config
            .instances
            .iter()
            .find(|instance| instance.name == self.plugin);
        let name = instance.map_or(&self.plugin, |instance| &instance.plugin);
        Ok(Portrait::find(&directory, name)?)
    }
}

fn shown(portrait: &Portrait, with_docs: bool) -> String {
    let Portrait {
        identity, manifest, ..
    } = portrait;
    let description = manifest
        .description
        .as_deref()
        .unwrap_or("it does not say what it does");
    let mut text = format!(
        "{} {}: {}\n\n",
        identity.name,
        identity.version,
        short(description, LONGEST)
    );
    let needs = portrait.anatomy.as_ref().map(|anatomy| {
        let glibc = anatomy.glibc.map(|glibc| format!(", glibc {glibc} or newer"));
        anatomy.needs.join(", ") + &glibc.unwrap_or_default()
    });
    text += &fields(&[
        ("file", portrait.file.display().to_string()),
        ("size", format!("{} KiB", portrait.size.div_ceil(1024))),
        ("sha256", portrait.digest.to_string()),
        ("abi", identity.abi.to_string()),
        ("sdk", identity.sdk.clone()),
        ("toolchain", identity.toolchain.clone()),
        ("on panic", on_panic(identity.panic_abort).to_owned()),
        ("needs", needs.unwrap_or_default()),
        ("is", manifest.capabilities.join(", ")),
        ("unusual", portrait.warnings.join("; ")),
    ]);
    text += &schema(
        "Configuration, as `config` of an `[[instance]]`",
        &manifest.config_schema,
    );
    text += &schema("Input, as `with` of a step", &manifest.input_schema);
    if let Some(output) = &manifest.output_schema {
        text += &schema("Output, as `steps.<id>` in the steps after it", output);
    }
    match manifest
        .docs
        .as_deref()
        .map(str::trim)
        .filter(|docs| !docs.is_empty())
    {
        Some(docs) if with_docs => text += &format!("\n{docs}\n"),
        Some(_) => text += "\n`--docs` prints what its author has to say as well.\n",
        None => {}
    }
    text
}

fn on_panic(abort: bool) -> &'static str {
    if abort {
        "the process ends"
    } else {
        "the call fails, and nothing else"
    }
}

fn schema(title: &str, schema: &Schema) -> String {
    let mut table = Table::new(["  FIELD", "TYPE", "DEFAULT", "MEANING"]);
    for Field {
        path,
        kind,
        required,
        default,
        description,
    } in schema.fields()
    {
        let default = match default {
            _ if required => "required".to_owned(),
            Some(value) => short(&value.to_string(), 24),
            None => "-".to_owned(),
        };
        let meaning = description
            .as_deref()
            .map_or_else(|| "-".to_owned(), |words| short(words, LONGEST));
        table.row([format!("  {path}"), short(&kind, 40), default, meaning]);
    }
    let nothing = if schema.describes_object() {
        "  nothing"
    } else {
        "  anything"
    };
    format!("\n{title}\n{}\n", table.show(nothing))
}

/// Of a text that a plugin's author wrote.
const LONGEST: usize = 120;
const EXAMPLES: &str = "\
Examples:
  jackfield plugin inspect target/release/libhello_plugin.so
  jackfield plugin inspect slack                     the plugin of that instance, or of that name
  jackfield plugin inspect slack -o json             with the whole schemas";
