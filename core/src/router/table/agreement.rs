//! The index against the table without it: many patterns and many events, each with each.
//!
//! A few thousand pairs in a normal run; `JACKFIELD_PAIRS` says how many else.

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;

/// Texts that are nearly one another: by case, by an end, by one character, by how an address is spelled. What goes
/// together is of one kind, so that patterns and events meet often.
const TEXTS: [&[&str]; 4] = [
    &["", "x", "X", "xy", "xY", "xyz", "yx", "1", "null"],
    &[
        "refs/heads/main",
        "refs/heads/main-2",
        "Refs/Heads/Main",
        "refs/heads/release-2026",
        "refs/tags/release-2026",
    ],
    &[
        "10.0.0.1",
        "10.0.0.77",
        "::ffff:10.0.0.1",
        "2001:db8::1",
        "2001:DB8:0::1",
        "2001:db9::1",
        "10.0.0.x",
    ],
    &["straße", "STRASSE", "Straße", "straßen", "ße", "SSE"],
];

/// The kind of texts that patterns and events are made of.
type Texts = &'static [&'static str];

const WILDCARDS: [&str; 16] = [
    "*",
    "x*",
    "*x",
    "*x*",
    "*y*z",
    "x*y*",
    "xyz",
    "refs/*/main",
    "refs/*",
    "*/release-2026",
    "*/heads/*",
    "*s/heads/m*",
    "*release-*",
    "*efs/*ain*",
    "*10.0*7*",
    "*ß*",
];

const CIDRS: [&str; 6] = [
    "10.0.0.0/24",
    "10.0.0.64/26",
    "0.0.0.0/0",
    "2001:db8::/32",
    "::/0",
    "10.0.0.1/31",
];

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3..4).prop_map(Value::from),
        select(vec![
            json!(0.5),
            json!(1.0),
            json!(-1.5),
            json!(1e300),
            json!(u64::MAX)
        ])
    ]
}

fn scalar(texts: Texts) -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => select(vec![json!(null), json!(true), json!(false)]),
        2 => number(),
        5 => text(texts),
    ]
}

fn text(texts: Texts) -> impl Strategy<Value = Value> {
    select(texts).prop_map(Value::from)
}

fn range() -> impl Strategy<Value = Value> {
    let one = (select(vec!["<", "<=", ">", ">=", "="]), number())
        .prop_map(|(operator, number)| json!({ "numeric": [operator, number] }));
    let two = (select(vec![">", ">="]), -3..2, select(vec!["<", "<="]), 1..4)
        .prop_map(|(from, low, to, length)| json!({ "numeric": [from, low, to, low + length] }));
    prop_oneof![one, two]
}

fn anything_but(texts: Texts) -> impl Strategy<Value = Value> {
    let some = || prop::collection::vec(text(texts), 1..3);
    let inner = prop_oneof![
        some().prop_map(Value::from),
        prop::collection::vec(number(), 1..3).prop_map(Value::from),
        (select(vec!["prefix", "suffix", "equals-ignore-case"]), some())
            .prop_map(|(operator, texts)| json!({ operator: texts })),
        select(WILDCARDS.to_vec()).prop_map(|wildcard| json!({ "wildcard": wildcard })),
    ];
    inner.prop_map(|inner| json!({ "anything-but": inner }))
}

fn operator(texts: Texts) -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (select(vec!["prefix", "suffix", "equals-ignore-case"]), text(texts)).prop_map(|(operator, text)| json!({ operator: text })),
        2 => (select(vec!["prefix", "suffix"]), text(texts)).prop_map(|(operator, text)| json!({ operator: { "equals-ignore-case": text } })),
        3 => select(WILDCARDS.to_vec()).prop_map(|wildcard| json!({ "wildcard": wildcard })),
        2 => range(),
        1 => select(CIDRS.to_vec()).prop_map(|range| json!({ "cidr": range })),
        1 => anything_but(texts),
        1 => any::<bool>().prop_map(|there| json!({ "exists": there })),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[ab]", 1 => Just("a.b".to_owned())]
}

fn table(value: impl Strategy<Value = Value>, most: usize) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(key(), value, 1..most)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn pattern(texts: Texts) -> impl Strategy<Value = Pattern> {
    let tests =
        prop::collection::vec(prop_oneof![scalar(texts), operator(texts)], 1..3).prop_map(Value::from);
    let value = prop_oneof![3 => tests.clone(), 1 => table(tests, 3)].boxed();
    let branches = prop::collection::vec(table(value.clone(), 3), 2..4);
    let pattern = (table(value, 3), prop::option::weighted(0.25, branches)).prop_map(|(mut fields, or)| {
        if let (Some(fields), Some(or)) = (fields.as_object_mut(), or) {
            fields.insert("$or".to_owned(), or.into());
        }
        fields
    });
    // A path that is given twice and an empty text in `anything-but` are refused.
    pattern.prop_filter_map("refused", |pattern| {
        Pattern::from_json("pattern", &pattern.to_string()).ok()
    })
}

fn event(texts: Texts) -> impl Strategy<Value = String> {
    let value = scalar(texts).prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => table(inner, 4),
        ]
    });
    let members = prop::collection::vec((key(), value), 0..5);
    // By hand, since a key may come twice.
    members.prop_map(|members| {
        let members: Vec<_> = members
            .into_iter()
            .map(|(key, value)| format!("{}:{value}", Value::from(key)))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

fn cases() -> u32 {
    let pairs = std::env::var("JACKFIELD_PAIRS").map_or(4_000, |pairs| pairs.parse().unwrap());
    pairs / (PATTERNS * EVENTS) + 1
}

const PATTERNS: u32 = 20;
const EVENTS: u32 = 5;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_global_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn the_index_loses_nothing_and_adds_nothing(
        (patterns, events) in select(&TEXTS[..]).prop_flat_map(|texts| (
            prop::collection::vec(pattern(texts), PATTERNS as usize),
            prop::collection::vec(event(texts), EVENTS as usize),
        ))
    ) {
        let table = Table::compile(patterns);
        for event in &events {
            let event = View::whole(event.as_bytes());
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            table.matches(&event, &mut found).unwrap();
            table.matches_one_by_one(&event, &mut expected).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
