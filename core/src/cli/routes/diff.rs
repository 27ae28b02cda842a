//! `routes diff`: what is different between two sets of rules.

use std::{collections::BTreeSet, path::Path, time::Duration};

use clap::Args;
use serde::Serialize;
use similar::TextDiff;

use super::{
    super::{Output, Shape, history, say, say_json},
    stored::Rules,
};
use crate::{config, router::RuleFile};

/// Show what is different between two generations, or between one and the rule files.
///
/// Without arguments: what the rule files as they are now would change.
#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// A generation, or the beginning of its name; by default the one in force.
    from: Option<String>,
    /// Another; by default the rule files as they are now.
    to: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// A rule file that is not the same on both sides.
#[derive(Debug, Serialize)]
struct Difference {
    file: String,
    /// In the unified format.
    diff: String,
}

impl Diff {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<()> {
        let history = history(config)?;
        let from = Rules::stored(&*history, self.from.as_deref())?;
        let to = match &self.to {
            Some(generation) => Rules::stored(&*history, Some(generation))?,
            None => Rules {
                generation: None,
                files: RuleFile::load(&config::routes(config)?)?,
            },
        };
        let differences = differences(&from, &to);
        if self.output.output == Shape::Json {
            return say_json(&differences);
        }
        let texts: Vec<_> = differences.iter().map(|one| one.diff.as_str()).collect();
        Ok(say(match texts.is_empty() {
            true => "no difference".to_owned(),
            false => texts.concat(),
        })?)
    }
}

fn differences(from: &Rules, to: &Rules) -> Vec<Difference> {
    let names = |rules: &Rules| {
        let names = rules.files.iter().map(|file| file.name.clone());
        names.collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<_> = names(from).union(&names(to)).cloned().collect();
    let differences = all.into_iter().filter_map(|file| {
        let [before, after] = [from, to].map(|rules| text(rules, &file));
        (before != after).then(|| Difference {
            diff: TextDiff::configure()
                .timeout(LONGEST)
                .diff_lines(before, after)
                .unified_diff()
                .header(&header(&file, from), &header(&file, to))
                .to_string(),
            file,
        })
    });
    differences.collect()
}

/// What stands in the file; nothing where there is none.
fn text<'r>(rules: &'r Rules, file: &str) -> &'r str {
    let file = rules.files.iter().find(|other| other.name == file);
    file.map_or("", |file| &file.text)
}

fn header(file: &str, rules: &Rules) -> String {
    match &rules.generation {
        Some(id) => format!("{file}\tgeneration {id}"),
        None => format!("{file}\tas it is now"),
    }
}

/// After this long, what is shown is still right, but no longer the shortest there is.
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::GenerationId;

    #[test]
    fn files_that_differ_come_or_go_are_shown_and_no_others() {
        let rules = |generation: Option<&str>, files: &[(&str, &str)]| Rules {
            generation: generation.map(|id| GenerationId(id.into())),
            files: files
                .iter()
                .map(|(name, text)| RuleFile {
                    name: (*name).into(),
                    text: (*text).into(),
                })
                .collect(),
        };
        let from = rules(
            Some("01ab"),
            &[("a", "1\n2\n3\n"), ("b", "same\n"), ("c", "gone\n")],
        );
        let to = rules(None, &[("a", "1\n3\n4\n"), ("b", "same\n"), ("d", "new\n")]);
        let shown: String = differences(&from, &to).into_iter().map(|one| one.diff).collect();
        insta::assert_snapshot!(shown.replace('\t', "  "), @r"
        --- a  generation 01ab
        +++ a  as it is now
        @@ -1,3 +1,3 @@
         1
        -2
         3
        +4
        --- c  generation 01ab
        +++ c  as it is now
        @@ -1 +0,0 @@
        -gone
        --- d  generation 01ab
        +++ d  as it is now
        @@ -0,0 +1 @@
        +new
        ");
    }
}
