//! The project's own table of patterns, `patterns.txt`, line by line.

use jackfield::router::Pattern;

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
