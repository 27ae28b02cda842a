//! What may be the reason that a clause failed, where one is near.

use super::walk::Walk;
use crate::router::{
    pattern::{Clause, Scalar, Test, Wildcard, parse_address},
    table::Stop,
};

/// What may be the reason that `clause` failed there, of the values that the event has at its path. Without the event as a whole
/// nothing is said of what it does not have.
pub(super) fn of(
    clause: &Clause,
    stop: Stop,
    actual: &[&Scalar<'_>],
    event: Option<&Walk<'_>>,
) -> Option<String> {
    if stop.elsewhere {
        return Some("a value fits, but in another element of a list than the clauses before it".to_owned());
    }
    if actual.is_empty() {
        return event?.stop(&clause.path);
    }
    let mut pairs = clause
        .tests
        .iter()
        .flat_map(|test| actual.iter().map(move |value| (test, *value)));
    pairs
        .find_map(|(test, value)| near(test, value))
        .map(str::to_owned)
}

/// In what a value is near to what is asked for.
fn near(test: &Test, value: &Scalar<'_>) -> Option<&'static str> {
    match (test, value) {
        (Test::Absent, _) => Some("the pattern asks that there is nothing, and there is a value"),
        (Test::AnythingBut(tests), value) => tests
            .iter()
            .any(|test| test.passes(value))
            .then_some("the value is one of those that `anything-but` excludes"),
        (Test::Null, _) | (Test::Exists, _) => None,
        (_, Scalar::Null) => {
            Some("the event has null there; only `null` itself, `anything-but` and `exists` are met by it")
        }
        (Test::Number(_) | Test::Within(_), Scalar::String(found)) => found
            .parse::<f64>()
            .is_ok()
            .then_some("the event has a string, the pattern asks for a number"),
        (Test::Bool(expected), Scalar::String(found)) => (expected.to_string()
            == found.trim().to_lowercase())
        .then_some("the event has a string, the pattern asks for a truth value"),
        (Test::String(expected), Scalar::Number(found)) => (**expected == found.to_string())
            .then_some("the event has a number, the pattern asks for a string"),
        (Test::String(expected), Scalar::Bool(found)) => (**expected == found.to_string())
            .then_some("the event has a truth value, the pattern asks for a string"),
        (test, Scalar::String(found)) => near_text(test, found),
        _ => None,
    }
}

/// The same for texts.
fn near_text(test: &Test, found: &str) -> Option<&'static str> {
    let lower = found.to_lowercase();
    match test {
        Test::String(expected) if expected.trim() == found.trim() => Some("only the white space differs"),
        Test::String(expected) if expected.to_lowercase() == lower => {
            Some("only the case differs; `equals-ignore-case` ignores it")
        }
        Test::String(expected) if expected.contains('*') => {
            Some("a star in a value is a star; `wildcard` is for patterns")
        }
        Test::String(expected) if !expected.is_empty() && found.starts_with(&**expected) => {
            Some("the value only begins so; `prefix` asks for no more")
        }
        Test::String(expected) if !expected.is_empty() && found.ends_with(&**expected) => {
            Some("the value only ends so; `suffix` asks for no more")
        }
        Test::Prefix(prefix) if lower.starts_with(&prefix.to_lowercase()) => {
            Some("only the case differs; `prefix` with `equals-ignore-case` ignores it")
        }
        Test::Suffix(suffix) if lower.ends_with(&suffix.to_lowercase()) => {
            Some("only the case differs; `suffix` with `equals-ignore-case` ignores it")
        }
        Test::Wildcard(wildcard) if without_case(wildcard).is_some_and(|any| any.matches(&lower)) => {
            Some("only the case differs, which `wildcard` heeds")
        }
        Test::Prefix(prefix) if found.contains(&**prefix) => {
            Some("the value has it, but not at its beginning")
        }
        Test::Suffix(suffix) if found.contains(&**suffix) => Some("the value has it, but not at its end"),
        Test::EqualsIgnoringCase(expected) if expected.text().trim().to_lowercase() == lower.trim() => {
            Some("only the white space differs")
        }
        Test::Cidr(_) if parse_address(found).is_none() => Some("the value is no IP address"),
        _ => None,
    }
}

/// The same in lower case.
fn without_case(wildcard: &Wildcard) -> Option<Wildcard> {
    Wildcard::parse(&wildcard.text().to_lowercase()).ok()
}

#[cfg(test)]
mod tests {
    use crate::router::{Generation, RuleFile};

    /// What is said of the only route, which asks for `pattern` (in JSON), to an event with `data` (in JSON).
    fn said(pattern: &str, data: &str) -> (String, Option<String>) {
        let text =
            format!("[[route]]\nname = \"r\"\nwhen_json = '''{pattern}'''\n[[route.step]]\nuse = \"x\"\n");
        let name = "routes.toml".to_owned();
        let generation = Generation::compile(&[RuleFile { name, text }], None).unwrap();
        let event = format!("{{\"type\":\"io.zeplin.project.screen.created\",\"data\":{data}}}");
        let explanation = generation.explain(event.as_bytes()).unwrap().remove(0);
        let failed = explanation
            .failed
            .unwrap_or_else(|| panic!("{pattern} matches {data}"));
        (failed.path, failed.hint)
    }

    #[test]
    fn of_an_event_that_serde_json_refuses_nothing_false_is_said() {
        for payload in [r#"{"t":"\ud83d"}"#, r#"{"t":1e999}"#] {
            let (path, hint) = said(
                r#"{"data":{"payload":{"x":["y"]}}}"#,
                &format!(r#"{{"payload":{payload}}}"#),
            );
            assert_eq!((path.as_str(), hint), ("data.payload.x", None), "{payload}");
        }
    }

    /// Rules that miss by little, the clause that misses, and what the reason is said to be.
    #[test]
    fn the_true_reason_of_a_near_miss_is_named() {
        let data = r#"{"title":"Home Screen","actor":{"id":"7"},"payload":{"count":"5","ratio":7,"draft":"true","live":true,
            "nothing":null,"none":[],"ip":"not-an-address","tags":["a"],"items":[{"k":"x","v":1},{"k":"y","v":2}],
            "owner":{"name":"Ada"},"a":[{"x":1},{"y":{}}],"b":[{"x":[{"one":1}]},{"x":[{"twoo":2}]}],
            "job.status":"ok","job.resource.id":9,"action":"opened","head":{"commit":{"sha":"c0ffee"}}}}"#;
        for (pattern, path, hint) in [
            (
                r#"{"data":{"title":["home screen"]}}"#,
                "data.title",
                "only the case differs; `equals-ignore-case` ignores it",
            ),
            (
                r#"{"data":{"title":["Home Screen "]}}"#,
                "data.title",
                "only the white space differs",
            ),
            (
                r#"{"data":{"title":["Home"]}}"#,
                "data.title",
                "the value only begins so; `prefix` asks for no more",
            ),
            (
                r#"{"data":{"title":["Screen"]}}"#,
                "data.title",
                "the value only ends so; `suffix` asks for no more",
            ),
            (
                r#"{"data":{"title":["Home*"]}}"#,
                "data.title",
                "a star in a value is a star; `wildcard` is for patterns",
            ),
            (
                r#"{"data":{"title":[{"prefix":"home"}]}}"#,
                "data.title",
                "only the case differs; `prefix` with `equals-ignore-case` ignores it",
            ),
            (
                r#"{"data":{"title":[{"suffix":"SCREEN"}]}}"#,
                "data.title",
                "only the case differs; `suffix` with `equals-ignore-case` ignores it",
            ),
            (
                r#"{"data":{"title":[{"prefix":"Screen"}]}}"#,
                "data.title",
                "the value has it, but not at its beginning",
            ),
            (
                r#"{"data":{"title":[{"suffix":"Home"}]}}"#,
                "data.title",
                "the value has it, but not at its end",
            ),
            (
                r#"{"data":{"title":[{"anything-but":["Home Screen"]}]}}"#,
                "data.title",
                "the value is one of those that `anything-but` excludes",
            ),
            (
                r#"{"data":{"title":[{"exists":false}]}}"#,
                "data.title",
                "the pattern asks that there is nothing, and there is a value",
            ),
            (
                r#"{"data":{"payload":{"ownr":{"name":["Ada"]}}}}"#,
                "data.payload.ownr.name",
                "`data.payload` has no `ownr`, but `owner`",
            ),
            (
                r#"{"data":{"payload":{"ip":{"v4":["x"]}}}}"#,
                "data.payload.ip.v4",
                "`data.payload.ip` is a string, which has no `v4`",
            ),
            (
                r#"{"data":{"payload":{"count":[5]}}}"#,
                "data.payload.count",
                "the event has a string, the pattern asks for a number",
            ),
            (
                r#"{"data":{"payload":{"count":[{"numeric":[">",3]}]}}}"#,
                "data.payload.count",
                "the event has a string, the pattern asks for a number",
            ),
            (
                r#"{"data":{"payload":{"ratio":["7"]}}}"#,
                "data.payload.ratio",
                "the event has a number, the pattern asks for a string",
            ),
            (
                r#"{"data":{"payload":{"draft":[true]}}}"#,
                "data.payload.draft",
                "the event has a string, the pattern asks for a truth value",
            ),
            (
                r#"{"data":{"payload":{"live":["true"]}}}"#,
                "data.payload.live",
                "the event has a truth value, the pattern asks for a string",
            ),
            (
                r#"{"data":{"payload":{"nothing":["x"]}}}"#,
                "data.payload.nothing",
                "the event has null there; only `null` itself, `anything-but` and `exists` are met by it",
            ),
            (
                r#"{"data":{"payload":{"none":["x"]}}}"#,
                "data.payload.none",
                "`data.payload.none` is an empty list",
            ),
            (
                r#"{"data":{"payload":{"ip":[{"cidr":"10.0.0.0/8"}]}}}"#,
                "data.payload.ip",
                "the value is no IP address",
            ),
            (
                r#"{"data":{"payload":{"owner":["Ada"]}}}"#,
                "data.payload.owner",
                "`data.payload.owner` is an object; a pattern looks at the values in it",
            ),
            (
                r#"{"data":{"payload":{"items":{"k":["x"],"v":[2]}}}}"#,
                "data.payload.items.v",
                "a value fits, but in another element of a list than the clauses before it",
            ),
            (
                r#"{"data":{"title":[{"wildcard":"home*SCREEN"}]}}"#,
                "data.title",
                "only the case differs, which `wildcard` heeds",
            ),
            // Of a list, all elements count.
            (
                r#"{"data":{"payload":{"a":{"y":{"z":["x"]}}}}}"#,
                "data.payload.a.y.z",
                "`data.payload.a.y` has no `z`",
            ),
            (
                r#"{"data":{"payload":{"b":{"x":{"two":[2]}}}}}"#,
                "data.payload.b.x.two",
                "`data.payload.b.x` has no `two`, but `twoo`",
            ),
            (
                r#"{"data":{"payload":{"a":{"y":["x"]}}}}"#,
                "data.payload.a.y",
                "`data.payload.a.y` is an object; a pattern looks at the values in it",
            ),
            (
                r#"{"data":{"payload":{"tags":{"name":["a"]}}}}"#,
                "data.payload.tags.name",
                "`data.payload.tags` is a list without objects, which has no `name`",
            ),
            (
                r#"{"data":{"payload":{"items":["x"]}}}"#,
                "data.payload.items",
                "`data.payload.items` is a list of objects; a pattern looks at the values in them",
            ),
            // A key with dots is a path.
            (
                r#"{"data":{"payload":{"job":{"state":["ok"]}}}}"#,
                "data.payload.job.state",
                "`data.payload.job` has no `state`, but `status`",
            ),
            (
                r#"{"data":{"payload":{"job":["ok"]}}}"#,
                "data.payload.job",
                "`data.payload.job` is an object; a pattern looks at the values in it",
            ),
            // The same end of a path, elsewhere in the event.
            (
                r#"{"data":{"commit":{"sha":["c0ffee"]}}}"#,
                "data.commit.sha",
                "`data` has no `commit`, but there is `data.payload.head.commit.sha`",
            ),
            (
                r#"{"data":{"action":["opened"]}}"#,
                "data.action",
                "`data` has no `action`, but there is `data.payload.action`",
            ),
            (
                r#"{"data":{"payload":{"title":["Home Screen"]}}}"#,
                "data.payload.title",
                "`data.payload` has no `title`, but there is `data.title`",
            ),
            (
                r#"{"data":{"resource":{"id":["9"]}}}"#,
                "data.resource.id",
                "`data` has no `resource`, but there is `data.payload.job.resource.id`",
            ),
            // An `id` is found in too many places to be the one that was meant.
            (
                r#"{"data":{"payload":{"owner":{"id":["7"]}}}}"#,
                "data.payload.owner.id",
                "`data.payload.owner` has no `id`",
            ),
        ] {
            assert_eq!(
                said(pattern, data),
                (path.to_owned(), Some(hint.to_owned())),
                "{pattern}"
            );
        }
    }

    #[test]
    fn what_is_not_near_gets_no_hint() {
        let data = r#"{"title":"Home","payload":{"ratio":7}}"#;
        for pattern in [
            r#"{"data":{"title":["Other"]}}"#,
            r#"{"data":{"payload":{"ratio":[8]}}}"#,
            r#"{"data":{"title":["Home?"]}}"#,
            r#"{"data":{"title":[{"wildcard":"*house*"}]}}"#,
        ] {
            assert_eq!(said(pattern, data).1, None, "{pattern}");
        }
    }
}
