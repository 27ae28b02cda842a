//! The report as JUnit XML, which servers for continuous integration read.
//!
//! There is no standard, only what its readers agree on: suites with cases, and in those that failed a `failure`. Times are left
//! out: nothing is run that could be slow.

use std::fmt::Write as _;

use super::report::{Report, Verdict, subject, values};

/// One suite for each file of cases.
pub(super) fn xml(report: &Report) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let all = report.cases.len();
    let failed = report.failed;
    let _ = writeln!(
        xml,
        "<testsuites name=\"jackfield routes test\" tests=\"{all}\" failures=\"{failed}\" errors=\"0\">"
    );
    for cases in report
        .cases
        .chunk_by(|one, other| one.place.file == other.place.file)
    {
        let Some(first) = cases.first() else { continue };
        let failed = cases.iter().filter(|case| !case.mismatches.is_empty()).count();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\">",
            escaped(&first.place.file),
            cases.len()
        );
        cases.iter().for_each(|case| self::case(&mut xml, case));
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn case(xml: &mut String, case: &Verdict) {
    let (name, file) = (escaped(&case.name), escaped(&case.place.file));
    let line = case.place.line;
    let _ = write!(
        xml,
        "    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{line}\""
    );
    if case.mismatches.is_empty() {
        xml.push_str("/>\n");
        return;
    }
    // One failure for each case: most readers take no more.
    let mut text = String::new();
    for mismatch in &case.mismatches {
        let _ = write!(text, "\n{}: {}", mismatch.place, subject(mismatch));
        if let (Some(expected), Some(found)) = (&mismatch.expected, &mismatch.found) {
            for (_, line) in values(expected, found) {
                let _ = write!(text, "\n  {line}");
            }
        }
        if let Some(help) = &mismatch.help {
            let _ = write!(text, "\n  = {help}");
        }
    }
    let more = match case.mismatches.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let message = case.mismatches.first().map(subject).unwrap_or_default() + &more;
    let _ = writeln!(
        xml,
        ">\n      <failure message=\"{}\" type=\"mismatch\">{}\n</failure>\n    </testcase>",
        escaped(&message),
        escaped(&text).replace("&#10;", "\n")
    );
}

/// A text as it can stand anywhere in XML. What no XML may hold, not even escaped, is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // In an attribute they would become blanks.
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::report, *};

    #[test]
    fn a_report_is_xml_that_holds_whatever_is_in_it() {
        insta::assert_snapshot!(xml(&report()), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="jackfield routes test" tests="2" failures="1" errors="0">
          <testsuite name="a.case.toml" tests="2" failures="1" errors="0" skipped="0">
            <testcase name="one is told" classname="a.case.toml" file="a.case.toml" line="1"/>
            <testcase name="two &amp; &lt;three&gt;" classname="a.case.toml" file="a.case.toml" line="7">
              <failure message="route `tokens`: matches, and the case does not name it (and 2 more)" type="mismatch">
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
        </failure>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn what_no_xml_may_hold_is_replaced() {
        assert_eq!(
            escaped("a\u{0}\u{1b}\u{ffff}é😀\u{7f}"),
            "a\u{fffd}\u{fffd}\u{fffd}é😀\u{7f}"
        );
        assert_eq!(
            escaped("<a b=\"c\">&\n]]>"),
            "&lt;a b=&quot;c&quot;&gt;&amp;&#10;]]&gt;"
        );
    }
}
