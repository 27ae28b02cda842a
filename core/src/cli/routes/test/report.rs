//! What came of cases, for people and for programs.

use serde::Serialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::super::super::table::{paint, short};
use crate::{case::Mismatch, fault::Place};

/// What came of all cases.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// How many were not asked for.
    pub(super) omitted: usize,
    pub(super) cases: Vec<Verdict>,
}

/// What came of one case.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) name: String,
    #[serde(flatten, serialize_with = "line")]
    pub(super) place: Place,
    /// What came out otherwise; nothing where it passed.
    pub(super) mismatches: Vec<Mismatch>,
}

/// A case is told by the line where it begins.
fn line<S: serde::Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("file", &place.file)?;
    map.serialize_entry("line", &place.line)?;
    map.end()
}

impl Report {
    /// Of these, out of so many.
    pub(super) fn of(cases: Vec<Verdict>, all: usize) -> Self {
        let failed = cases.iter().filter(|case| !case.mismatches.is_empty()).count();
        Self {
            passed: cases.len() - failed,
            failed,
            omitted: all - cases.len(),
            cases,
        }
    }

    /// A line for each case, and of those that failed, why.
    pub(super) fn words(&self) -> String {
        let mut lines = Vec::new();
        let mut file = None;
        for case in &self.cases {
            if file.replace(&case.place.file) != Some(&case.place.file) {
                lines.push(case.place.file.clone());
            }
            lines.extend(case.words());
        }
        let mut counts = vec![paint(&format!("{} passed", self.passed), "32")];
        if self.failed > 0 {
            counts.push(paint(&format!("{} failed", self.failed), "31"));
        }
        if self.omitted > 0 {
            counts.push(format!("{} left out", self.omitted));
        }
        lines.push(format!("\n{}", counts.join(", ")));
        lines.join("\n")
    }
}

impl Verdict {
    fn words(&self) -> Vec<String> {
        let name = short(&self.name, 120);
        if self.mismatches.is_empty() {
            return vec![format!("  {}    {name}", paint("ok", "32"))];
        }
        let mut lines = vec![format!("  {}  {name}", paint("FAIL", "31"))];
        for mismatch in &self.mismatches {
            lines.push(format!(
                "    {}: {}",
                mismatch.place,
                short(&subject(mismatch), 400)
            ));
            if let (Some(expected), Some(found)) = (&mismatch.expected, &mismatch.found) {
                lines.extend(
                    values(expected, found)
                        .into_iter()
                        .map(|(side, text)| format!("      {}", paint(&text, side.colour()))),
                );
            }
            let help = mismatch.help.as_ref();
            lines.extend(help.map(|help| format!("      = {}", short(help, 300))));
        }
        lines
    }
}

/// What a mismatch is about, and what is wrong.
pub(super) fn subject(mismatch: &Mismatch) -> String {
    let Mismatch {
        route, step, field, ..
    } = mismatch;
    let names = [("route ", route), ("step ", step), ("", field)];
    let names = names
        .iter()
        .filter_map(|(kind, name)| Some(format!("{kind}`{}`", name.as_deref()?)));
    let names = names.collect::<Vec<_>>().join(", ");
    match names.as_str() {
        "" => mismatch.message.clone(),
        names => format!("{names}: {}", mismatch.message),
    }
}

/// Which of two values a line is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Both,
    Expected,
    Found,
}

impl Side {
    fn colour(self) -> &'static str {
        match self {
            Self::Both => "0",
            Self::Expected => "32",
            Self::Found => "31",
        }
    }
}

/// Two values that differ, so that one sees where: texts of several lines line by line, long ones from where they part.
pub(super) fn values(expected: &str, found: &str) -> Vec<(Side, String)> {
    let text = |json: &str| match serde_json::from_str(json) {
        Ok(Value::String(text)) => Some(text),
        Ok(_) | Err(_) => None,
    };
    if let (Some(expected), Some(found)) = (text(expected), text(found))
        && (expected.contains('\n') || found.contains('\n'))
        && let Some(lines) = by_line(&expected, &found)
    {
        return lines;
    }
    let alike = expected
        .chars()
        .zip(found.chars())
        .take_while(|(one, other)| one == other);
    let start = alike.count().saturating_sub(BEFORE);
    let part = |text: &str| {
        let skip = if start + BEFORE > LONGEST { start } else { 0 };
        let dots = if skip > 0 { "…" } else { "" };
        format!(
            "{dots}{}",
            short(&text.chars().skip(skip).collect::<String>(), LONGEST)
        )
    };
    vec![
        (Side::Expected, format!("expected  {}", part(expected))),
        (Side::Found, format!("found     {}", part(found))),
    ]
}

/// The lines that differ and those around them; nothing where nobody would see by what, as by a blank at the end.
fn by_line(expected: &str, found: &str) -> Option<Vec<(Side, String)>> {
    let diff = TextDiff::from_lines(expected, found);
    let mut lines = vec![
        (Side::Expected, "- expected".to_owned()),
        (Side::Found, "+ found".to_owned()),
    ];
    let mut differing = [Vec::new(), Vec::new()];
    for group in diff.grouped_ops(2) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let text = short(change.value().trim_end_matches('\n'), LONGEST);
            lines.push(match change.tag() {
                ChangeTag::Equal => (Side::Both, format!("  {text}")),
                ChangeTag::Delete => (Side::Expected, format!("- {text}")),
                ChangeTag::Insert => (Side::Found, format!("+ {text}")),
            });
            match change.tag() {
                ChangeTag::Equal => {}
                ChangeTag::Delete => differing[0].push(text.trim_end().to_owned()),
                ChangeTag::Insert => differing[1].push(text.trim_end().to_owned()),
            }
        }
    }
    let [expected, found] = differing;
    (expected != found).then_some(lines)
}

/// How much of a value is shown, and how much of what is alike before it.
const LONGEST: usize = 160;
const BEFORE: usize = 40;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn place(line: usize) -> Place {
        Place {
            file: "a.case.toml".into(),
            line,
            column: 1,
            width: 1,
            text: None,
        }
    }

    fn mismatch(line: usize, message: &str) -> Mismatch {
        Mismatch {
            place: place(line),
            route: Some("tokens".into()),
            step: None,
            field: None,
            message: message.into(),
            expected: None,
            found: None,
            help: None,
        }
    }

    pub(in super::super) fn report() -> Report {
        let failed = vec![
            mismatch(8, "matches, and the case does not name it"),
            Mismatch {
                step: Some("tell".into()),
                field: Some("with.text".into()),
                expected: Some("\"one\\ntwo\\n\\u001b[2J\"".into()),
                found: Some("\"one\\n2\\n\"".into()),
                ..mismatch(12, "comes out otherwise")
            },
            Mismatch {
                expected: Some("1".into()),
                found: Some("nothing".into()),
                help: Some("did you mean `x`?".into()),
                ..mismatch(13, "comes out otherwise")
            },
        ];
        let verdict = |line, name: &str, mismatches| Verdict {
            name: name.into(),
            place: place(line),
            mismatches,
        };
        Report::of(
            vec![
                verdict(1, "one is told", Vec::new()),
                verdict(7, "two & <three>", failed),
            ],
            3,
        )
    }

    #[test]
    fn a_report_reads_like_that_of_a_test_runner() {
        insta::assert_snapshot!(report().words(), @r"
        a.case.toml
          ok    one is told
          FAIL  two & <three>
            a.case.toml:8:1: route `tokens`: matches, and the case does not name it
            a.case.toml:12:1: route `tokens`, step `tell`, `with.text`: comes out otherwise
              - expected
              + found
                one
              - two
              -  [2J
              + 2
            a.case.toml:13:1: route `tokens`: comes out otherwise
              expected  1
              found     nothing
              = did you mean `x`?

        1 passed, 1 failed, 1 left out
        ");
    }

    #[test]
    fn long_values_are_shown_from_where_they_part() {
        let (same, tail) = ("a".repeat(500), "z".repeat(500));
        let shown = values(&format!("\"{same}b{tail}\""), &format!("\"{same}c{tail}\""));
        assert!(
            shown[0]
                .1
                .starts_with(&format!("expected  …{}b", "a".repeat(BEFORE))),
            "{shown:?}"
        );
        assert!(
            shown[1]
                .1
                .starts_with(&format!("found     …{}c", "a".repeat(BEFORE))),
            "{shown:?}"
        );
        assert!(shown.iter().all(|(_, line)| line.chars().count() < 180));
    }

    #[test]
    fn what_nobody_would_see_line_by_line_is_shown_as_it_is_written() {
        let shown = values("\"a\\nb\"", "\"a\\nb\\n\"");
        let shown: Vec<_> = shown.into_iter().map(|(_, line)| line).collect();
        assert_eq!(shown, ["expected  \"a\\nb\"", "found     \"a\\nb\\n\""]);
    }

    #[test]
    fn a_program_reads_the_same() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["failed"], 1);
        assert_eq!(json["omitted"], 1);
        assert_eq!(json["cases"][1]["line"], 7);
        assert_eq!(json["cases"][1]["mismatches"][1]["field"], "with.text");
        assert_eq!(json["cases"][1]["mismatches"][1]["line"], 12);
    }
}
