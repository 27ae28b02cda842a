//! The table against a matcher that shares no code with it, and what is worth a case of its own.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    naive::{self, Flat, Rule},
    *,
};

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[abc]", 1 => Just("a.b".to_owned()), 1 => Just("a-b".to_owned())]
}

fn any_scalar() -> impl Strategy<Value = Value> {
    let scalars = [
        json!(null),
        json!(true),
        json!(0),
        json!(1.5),
        json!("x"),
        json!("xY"),
        json!(""),
    ];
    prop::sample::select(scalars.to_vec())
}

fn any_event() -> impl Strategy<Value = Value> {
    let value = any_scalar().prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map(key(), value, 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn any_test() -> impl Strategy<Value = Value> {
    let operators = [
        json!({ "exists": true }),
        json!({ "exists": false }),
        json!({ "exists": false }),
        json!({ "prefix": "x" }),
        json!({ "suffix": { "equals-ignore-case": "y" } }),
        json!({ "anything-but": "x" }),
        json!({ "anything-but": [0] }),
        json!({ "numeric": [">=", 0, "<", 2] }),
        json!({ "wildcard": "*x*" }),
    ];
    prop_oneof![2 => any_scalar(), 3 => prop::sample::select(operators.to_vec())]
}

fn any_pattern() -> impl Strategy<Value = Value> {
    let list = prop::collection::vec(any_test(), 1..3).prop_map(Value::from);
    let table = |inner| {
        prop::collection::btree_map(key(), inner, 1..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    };
    let value = list.prop_recursive(3, 12, 3, table);
    let fields = prop::collection::btree_map(key(), value.clone(), 1..4);
    let branch = prop::collection::btree_map(key(), value, 1..3);
    (
        fields,
        prop::option::weighted(0.3, prop::collection::vec(branch, 2..3)),
    )
        .prop_map(|(fields, or)| {
            let mut fields: serde_json::Map<_, _> = fields.into_iter().collect();
            if let Some(branches) = or {
                let branches = branches
                    .into_iter()
                    .map(|branch| Value::Object(branch.into_iter().collect()));
                fields.insert("$or".to_owned(), branches.collect());
            }
            Value::Object(fields)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(naive::pairs(1_000) / 100 + 1))]

    /// With deeper patterns and events than `agreement` has; `JACKFIELD_PAIRS` says how many here, too.
    #[test]
    fn agrees_with_a_naive_matcher(
        patterns in prop::collection::vec(any_pattern(), 10), events in prop::collection::vec(any_event(), 10)
    ) {
        // A path that is given twice is refused.
        let rules = patterns.iter().filter_map(|pattern| {
            let text = pattern.to_string();
            let read = Pattern::from_json("pattern", &text).ok()?;
            Some((read, Rule::read(&text)))
        });
        let (patterns, rules): (Vec<_>, Vec<_>) = rules.unzip();
        let table = Table::compile(patterns);
        for event in &events {
            let event = event.to_string();
            let flat = Flat::read(&event);
            if flat.is_told_differently() {
                continue;
            }
            let mut found = Vec::new();
            table.matches(&View::whole(event.as_bytes()), &mut found).unwrap();
            let matching = (0..rules.len()).filter(|rule| rules[*rule].matches(&flat));
            prop_assert_eq!(found, matching.collect::<Vec<_>>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_event_in_parts_is_the_same_as_the_whole(
        first in any_pattern(), pattern in any_pattern(), top in any_event(), payload in any_event(), more in any_event()
    ) {
        let pattern = json!({ "a": first, "data": { "payload": pattern } }).to_string();
        if let Ok(pattern) = Pattern::from_json("pattern", &pattern) {
            let envelope = json!({ "a": top, "b": more, "data": { "b": more } }).to_string();
            let whole = json!({ "a": top, "b": more, "data": { "b": more, "payload": payload } }).to_string();
            let table = Table::compile(vec![pattern]);
            let matched = |view| {
                let mut matched = Vec::new();
                table.matches(&view, &mut matched).unwrap();
                matched
            };
            let payload = payload.to_string();
            let parts = View::parts(envelope.as_bytes(), payload.as_bytes());
            prop_assert_eq!(matched(parts), matched(View::whole(whole.as_bytes())));
        }
    }
}

#[track_caller]
fn check(pattern: &str, event: &str, matches: bool) {
    let pattern = Pattern::from_json("pattern", pattern).unwrap();
    assert_eq!(pattern.matches(event.as_bytes()).unwrap(), matches, "{event}");
}

#[test]
fn of_members_with_one_key_the_last_wins() {
    check(r#"{"a":["x"]}"#, r#"{"a":"x","a":"y"}"#, false);
    check(r#"{"a":["y"]}"#, r#"{"a":"x","a":"y"}"#, true);
    check(r#"{"a":{"b":["x"]}}"#, r#"{"a":{"b":"x"},"a":{"c":"y"}}"#, false);
    check(r#"{"a":{"b":["x"]}}"#, r#"{"a":{"b":"x"},"a":null}"#, false);
    check(r#"{"a":{"b":["x"]}}"#, r#"{"a.b":"x","a.b":"y"}"#, false);
    check(r#"{"a":["x"],"b":["y"]}"#, r#"{"a":"x","a":"x","b":"y"}"#, true);
    check(
        r#"{"l":{"a":["x"]}}"#,
        r#"{"l":[{"a":"x"},{"a":"y","a":"z"}]}"#,
        true,
    );
}

#[test]
fn members_that_spell_one_path_in_two_ways_are_both_kept() {
    for (text, matches) in [("x", true), ("y", true), ("z", false)] {
        let pattern = format!(r#"{{"a":{{"b":["{text}"]}}}}"#);
        check(&pattern, r#"{"a":{"b":"x"},"a.b":"y"}"#, matches);
    }
    check(
        r#"{"a":{"c":["y"],"d":["z"]}}"#,
        r#"{"a.b":"x","a":{"c":"y"},"a.d":"z"}"#,
        true,
    );
}

#[test]
fn what_one_pattern_looks_at_does_not_change_what_another_finds() {
    let patterns = [
        r#"{"a":{"a":["x"]}}"#,
        r#"{"a":{"b":["y"]}}"#,
        r#"{"a":[{"exists":true}]}"#,
    ];
    let patterns = patterns.map(|text| Pattern::from_json("pattern", text).unwrap());
    let event = br#"{"a":{"a":"x"},"a.b":"y"}"#;
    let mut matched = Vec::new();
    Table::compile(patterns.to_vec())
        .matches(&View::whole(event), &mut matched)
        .unwrap();
    assert_eq!(matched, [0, 1]);
    assert!(patterns[0].matches(event).unwrap() && patterns[1].matches(event).unwrap());
}

#[test]
fn what_others_call_json_is_read_too() {
    check(r#"{"a":["x"]}"#, r#"{"a":"x","b":"\ud83d"}"#, true);
    check(r#"{"a":[{"suffix":"y"}]}"#, r#"{"a":"x\ud83dy"}"#, true);
    check(r#"{"a":[{"numeric":[">",1e300]}]}"#, r#"{"a":1e400}"#, true);
    let pattern = Pattern::from_json("pattern", r#"{"a":["x"]}"#).unwrap();
    for wrong in [
        "",
        "{",
        r#"{"a":"x"} x"#,
        r#"{"a":"x",}"#,
        r#"{"a":01}"#,
        "{\"a\":\"\n\"}",
    ] {
        assert!(pattern.matches(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert!(pattern.matches(b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn deep_events_are_read_without_recursion() {
    let depth = 1_000_000;
    let lists = format!(
        "{{\"a\":{}1{},\"b\":\"x\"}}",
        "[".repeat(depth),
        "]".repeat(depth)
    );
    check(r#"{"b":["x"],"a":[{"exists":false}]}"#, &lists, true);
    let objects = format!(
        "{{\"c\":{}1{},\"b\":\"x\"}}",
        "{\"c\":".repeat(depth),
        "}".repeat(depth)
    );
    check(r#"{"b":["x"]}"#, &objects, true);
    let unclosed = "[".repeat(depth);
    let pattern = Pattern::from_json("pattern", r#"{"b":["x"]}"#).unwrap();
    assert!(pattern.matches(unclosed.as_bytes()).is_err());
}

#[test]
fn large_lists_cost_no_more_than_their_size() {
    // Quadratic work would be ten thousand million steps here, and would not end in a test's time.
    let item = |n: usize| format!(r#"{{"x":{n},"y":{n},"z":[{{"u":{n}}}]}}"#);
    let items: Vec<_> = (0..100_000).map(item).collect();
    let event = format!(r#"{{"a":[{0}],"b":[{0}]}}"#, items.join(","));
    let any = r#"[{"exists":true}]"#;
    let fields = format!(r#"{{"x":{any},"y":{any},"z":{{"u":[{{"anything-but":-1}}]}}}}"#);
    check(
        &format!(r#"{{"a":{fields},"b":{fields},"c":{any}}}"#),
        &event,
        false,
    );
    check(
        &format!(r#"{{"a":{fields},"b":{fields},"c":[{{"exists":false}}]}}"#),
        &event,
        true,
    );
    let members: Vec<_> = (0..100_000).map(|n| format!(r#""a.b":{n},"a":{n}"#)).collect();
    check(r#"{"a":[99999]}"#, &format!("{{{}}}", members.join(",")), true);
}
