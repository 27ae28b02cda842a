//! The table against the one without its index, and against a matcher that shares no code with it: many patterns and many
//! events, each with each. Texts are near misses of one another, lists are common, and keys come twice.
//!
//! A few thousand pairs in a normal run. A million take some minutes, this test and that of `tests` side by side:
//!
//! ```sh
//! JACKFIELD_PAIRS=1000000 cargo test -p jackfield --lib router::table
//! ```

use proptest::{prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

use super::{
    naive::{self, Flat, Rule},
    *,
};

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
    prop_oneof![16 => "[ab]", 1 => Just("a.b".to_owned())]
}

fn table(value: impl Strategy<Value = Value>, most: usize) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(key(), value, 1..most)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn pattern(texts: Texts) -> impl Strategy<Value = (Pattern, Rule)> {
    let tests =
        prop::collection::vec(prop_oneof![scalar(texts), operator(texts)], 1..6).prop_map(Value::from);
    let value = prop_oneof![3 => tests.clone(), 1 => table(tests, 3)].boxed();
    let branches = prop::collection::vec(table(value.clone(), 3), 2..4);
    // Nearly each field more means a match less.
    let fields = prop_oneof![2 => table(value.clone(), 2), 1 => table(value, 3)];
    let pattern = (fields, prop::option::weighted(0.25, branches)).prop_map(|(mut fields, or)| {
        if let (Some(fields), Some(or)) = (fields.as_object_mut(), or) {
            fields.insert("$or".to_owned(), or.into());
        }
        fields
    });
    // A path that is given twice and an empty text in `anything-but` are refused.
    pattern.prop_filter_map("refused", |pattern| {
        let text = pattern.to_string();
        let read = Pattern::from_json("pattern", &text).ok()?;
        Some((read, Rule::read(&text)))
    })
}

fn event(texts: Texts) -> impl Strategy<Value = String> {
    let value = scalar(texts).prop_map(|scalar| scalar.to_string());
    let value = value.prop_recursive(3, 24, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            2 => list.prop_map(|items| format!("[{}]", items.join(","))),
            3 => object(inner, 4),
        ]
    });
    object(value, 6)
}

/// By hand, since a key may come twice.
fn object(value: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = String> {
    let members = prop::collection::vec((key(), value), 0..most);
    members.prop_map(|members| {
        let members: Vec<_> = members
            .into_iter()
            .map(|(key, value)| format!("{}:{value}", Value::from(key)))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Of one kind of texts.
fn rules_and_events() -> impl Strategy<Value = (Vec<(Pattern, Rule)>, Vec<String>)> {
    select(&TEXTS[..]).prop_flat_map(|texts| {
        (
            prop::collection::vec(pattern(texts), PATTERNS as usize),
            prop::collection::vec(event(texts), EVENTS as usize),
        )
    })
}

fn cases() -> u32 {
    naive::pairs(4_000) / (PATTERNS * EVENTS) + 1
}

const PATTERNS: u32 = 20;
const EVENTS: u32 = 5;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_global_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn the_index_loses_nothing_and_adds_nothing((rules, events) in rules_and_events()) {
        let (patterns, rules): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
        let table = Table::compile(patterns);
        for event in &events {
            let view = View::whole(event.as_bytes());
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            table.matches(&view, &mut found).unwrap();
            table.matches_one_by_one(&view, &mut expected).unwrap();
            prop_assert_eq!(&found, &expected);
            let event = Flat::read(event);
            if !event.is_told_differently() {
                let matching = (0..rules.len()).filter(|rule| rules[*rule].matches(&event));
                prop_assert_eq!(found, matching.collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn what_is_made_up_matches_often_and_has_lists_and_doubles() {
    let mut runner = TestRunner::deterministic();
    let (mut pairs, mut matching, mut different) = (0, 0, 0);
    let (mut events, mut lists, mut doubles) = (0, 0, 0);
    for _ in 0..200 {
        let (rules, texts) = rules_and_events().new_tree(&mut runner).unwrap().current();
        for event in texts.iter().map(|text| Flat::read(text)) {
            events += 1;
            lists += usize::from(event.has_list);
            doubles += usize::from(event.has_double);
            different += usize::from(event.is_told_differently());
            pairs += rules.len();
            matching += rules.iter().filter(|(_, rule)| rule.matches(&event)).count();
        }
    }
    println!(
        "{matching} of {pairs} pairs match; of {events} events, {lists} have lists, {doubles} doubles, {different} are passed over"
    );
    assert!(
        matching * 10 > pairs && matching * 2 < pairs,
        "{matching} of {pairs}"
    );
    assert!(lists * 3 > events, "{lists} of {events}");
    assert!(doubles * 5 > events, "{doubles} of {events}");
    assert!(different * 3 < events, "{different} of {events}");
}
