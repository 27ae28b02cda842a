//! The project's own table of patterns, `patterns.txt`, line by line; what `PATTERNS.md` says to users; and the inputs that
//! the fuzzer kept.

use std::{fs, path::Path};

use jackfield::router::{Generation, Pattern, RuleFile};
use serde_json::Value;

/// What the fuzzer holds an input to.
#[path = "../fuzz/fuzz_targets/check.rs"]
mod check;

#[path = "patterns/page.rs"]
mod page;

use page::{PAGE, table};

#[test]
fn patterns_match_as_the_table_says() {
    let mut pattern = "";
    let mut checked = 0;
    for (number, line) in include_str!("patterns.txt").lines().enumerate() {
        let place = format!("patterns.txt:{}: {pattern} {line}", number + 1);
        let Some(case) = line.strip_prefix("  ") else {
            pattern = if line.starts_with('#') { "" } else { line };
            continue;
        };
        let (word, rest) = case.split_once(' ').unwrap();
        let read = Pattern::from_json("pattern", pattern);
        match word {
            "wrong" => {
                let faults = read.expect_err(&place).to_string();
                assert!(faults.contains(rest), "{place}\n{faults}");
            }
            word => {
                let pattern = read.unwrap_or_else(|faults| panic!("{place}\n{faults}"));
                let matches = pattern.matches(rest.trim().as_bytes()).expect(&place);
                assert_eq!(matches, word == "yes", "{place}");
            }
        }
        checked += 1;
    }
    assert!(checked > 100, "only {checked} lines");
}

#[test]
fn every_operator_on_the_page_does_what_is_said_of_it() {
    let mut said = String::new();
    for row in table("## Values and operators") {
        let [_, pattern, matching, other] = row[..] else {
            panic!("four cells: {row:?}");
        };
        let pattern = pattern.trim_matches('`');
        let (path, _) = pattern.split_once(" = ").expect(pattern);
        let read: Value = toml::from_str(pattern).expect(pattern);
        let read = Pattern::from_json(pattern, &read.to_string()).unwrap_or_else(|faults| panic!("{faults}"));
        for (value, matches) in [(matching, true), (other, false)] {
            let event = match value {
                "nothing" => "{}".to_owned(),
                value => format!("{{{path:?}: {}}}", value.trim_matches('`')),
            };
            assert_eq!(
                read.matches(event.as_bytes()).expect(pattern),
                matches,
                "{pattern}\n{event}"
            );
        }
        said.push_str(pattern);
    }
    for operator in OPERATORS {
        assert!(said.contains(&format!("{{ {operator} = ")), "{operator}");
    }
}

#[test]
fn the_rules_on_the_page_are_sound() {
    let blocks: Vec<_> = PAGE.split("```toml\n").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let text = block.split("```").next().unwrap().to_owned();
        let name = "PATTERNS.md".to_owned();
        let read = Generation::compile(&[RuleFile { name, text }], None);
        read.unwrap_or_else(|faults| panic!("{faults}"));
    }
}

#[test]
fn the_inputs_that_the_fuzzer_kept_are_without_a_finding() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/matches");
    let mut count = 0;
    for entry in fs::read_dir(kept).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check::check(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 2, "only {count} inputs");
}

const OPERATORS: [&str; 9] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "exactly",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
];
