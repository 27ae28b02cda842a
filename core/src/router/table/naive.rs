//! A matcher in the plainest words, to hold the table against. It shares no code with it: it reads pattern and event
//! itself, has its own idea of every operator, and follows event-ruler's own way: flatten the event into fields, each with
//! its index in every list around it, and try all combinations that do not contradict one another.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// How many pairs of a pattern and an event a test is to see: so many, unless `JACKFIELD_PAIRS` says otherwise.
pub(super) fn pairs(otherwise: u32) -> u32 {
    std::env::var("JACKFIELD_PAIRS").map_or(otherwise, |pairs| pairs.parse().unwrap())
}

/// A pattern.
#[derive(Clone, Debug)]
pub(super) struct Rule(Vec<Clauses>);

/// What is asked of each path, by one way through the `$or`s.
type Clauses = BTreeMap<Vec<String>, Vec<Json>>;

/// An event.
#[derive(Debug)]
pub(super) struct Flat {
    fields: Vec<Field>,
    pub(super) has_list: bool,
    /// Whether an object has a key twice.
    pub(super) has_double: bool,
    spells_a_path_in_two_ways: bool,
}

/// A value, the names on its way, and the list elements around it.
#[derive(Clone, Debug)]
struct Field {
    path: Vec<String>,
    value: Json,
    around: Vec<(usize, usize)>,
}

impl Rule {
    pub(super) fn read(pattern: &str) -> Self {
        let pattern = Json::read(pattern);
        Self(alternatives(pattern.members(), &[], vec![Clauses::new()]))
    }

    pub(super) fn matches(&self, event: &Flat) -> bool {
        self.0.iter().any(|clauses| {
            let clauses: Vec<_> = clauses.iter().collect();
            solve(&clauses, &event.fields, &[])
        })
    }
}

impl Flat {
    pub(super) fn read(event: &str) -> Self {
        let event = Json::read(event);
        let mut fields = Vec::new();
        flatten(&event, &[], &[], &mut 0, &mut fields);
        Self {
            fields,
            has_list: event.any(|value| matches!(value, Json::List(_))),
            has_double: event.any(Json::has_double),
            spells_a_path_in_two_ways: event.any(Json::spells_a_path_in_two_ways),
        }
    }

    /// Whether an object spells one path in two ways, and there are lists: then what is in a list there goes with less
    /// than event-ruler would have it, which stands in the table of deviations.
    pub(super) fn is_told_differently(&self) -> bool {
        self.has_list && self.spells_a_path_in_two_ways
    }
}

fn alternatives(members: &[(String, Json)], path: &[String], before: Vec<Clauses>) -> Vec<Clauses> {
    members
        .iter()
        .fold(before, |mut so_far, (key, value)| match value {
            Json::List(branches) if key == "$or" => branches
                .iter()
                .flat_map(|branch| alternatives(branch.members(), path, so_far.clone()))
                .collect(),
            Json::List(tests) => {
                for clauses in &mut so_far {
                    clauses.insert(longer(path, key), tests.clone());
                }
                so_far
            }
            value => alternatives(value.members(), &longer(path, key), so_far),
        })
}

fn flatten(
    value: &Json,
    path: &[String],
    around: &[(usize, usize)],
    lists: &mut usize,
    into: &mut Vec<Field>,
) {
    match value {
        Json::Table(members) => {
            for (at, (key, member)) in members.iter().enumerate() {
                let is_last = members[at + 1..].iter().all(|(later, _)| later != key);
                if is_last {
                    flatten(member, &longer(path, key), around, lists, into);
                }
            }
        }
        Json::List(items) => {
            let list = *lists;
            *lists += 1;
            for (index, item) in items.iter().enumerate() {
                let inner = match item {
                    Json::Table(_) | Json::List(_) => &[around, &[(list, index)]].concat(),
                    _ => around,
                };
                flatten(item, path, inner, lists, into);
            }
        }
        scalar => into.push(Field {
            path: path.to_vec(),
            value: scalar.clone(),
            around: around.to_vec(),
        }),
    }
}

fn longer(path: &[String], key: &str) -> Vec<String> {
    path.iter()
        .cloned()
        .chain(key.split('.').map(str::to_owned))
        .collect()
}

fn solve(clauses: &[(&Vec<String>, &Vec<Json>)], fields: &[Field], chosen: &[(usize, usize)]) -> bool {
    let [(path, tests), rest @ ..] = clauses else {
        return true;
    };
    let contradicts = |(list, at): &(usize, usize)| chosen.iter().any(|(l, a)| l == list && a != at);
    let here: Vec<_> = fields
        .iter()
        .filter(|field| field.path == **path && !field.around.iter().any(contradicts))
        .collect();
    let absent = tests.iter().any(|test| {
        test.members()
            .iter()
            .any(|(key, there)| key == "exists" && matches!(there, Json::Bool(false)))
    });
    if absent && here.is_empty() && solve(rest, fields, chosen) {
        return true;
    }
    here.iter().any(|field| {
        tests.iter().any(|test| passes(test, &field.value))
            && solve(rest, fields, &[chosen, &field.around].concat())
    })
}

fn passes(test: &Json, value: &Json) -> bool {
    match (test, value) {
        (Json::Table(members), value) => {
            let (operator, operand) = &members[0];
            operator_passes(operator, operand, value)
        }
        (Json::String(expected), Json::String(found)) => {
            let address = address(expected);
            expected == found || (address.is_some() && address == self::address(found))
        }
        (Json::Null, Json::Null) => true,
        (Json::Bool(expected), Json::Bool(found)) => expected == found,
        (test, value) => is_same(test, value),
    }
}

fn is_same(test: &Json, value: &Json) -> bool {
    match (test, value) {
        (Json::String(expected), Json::String(found)) => expected == found,
        (Json::Number(expected), Json::Number(found)) => compare(found, expected).is_eq(),
        _ => false,
    }
}

fn operator_passes(operator: &str, operand: &Json, value: &Json) -> bool {
    match (operator, operand, value) {
        ("exists", Json::Bool(there), _) => *there,
        ("anything-but", Json::List(tests), value) => !tests.iter().any(|test| is_same(test, value)),
        ("anything-but", Json::Table(members), value) => {
            let (operator, operands) = &members[0];
            let operands = match operands {
                Json::List(operands) => operands.as_slice(),
                one => std::slice::from_ref(one),
            };
            !operands
                .iter()
                .any(|operand| operator_passes(operator, operand, value))
        }
        ("anything-but", one, value) => !is_same(one, value),
        ("prefix", Json::String(prefix), Json::String(text)) => text.get(..prefix.len()) == Some(prefix),
        ("suffix", Json::String(suffix), Json::String(text)) => {
            let start = text.len().checked_sub(suffix.len());
            start.and_then(|start| text.get(start..)) == Some(suffix)
        }
        ("prefix", Json::Table(members), Json::String(text)) => {
            places(text).any(|end| are_alike(members[0].1.text(), &text[..end]))
        }
        ("suffix", Json::Table(members), Json::String(text)) => {
            places(text).any(|start| are_alike(members[0].1.text(), &text[start..]))
        }
        ("equals-ignore-case", Json::String(expected), Json::String(text)) => are_alike(expected, text),
        ("wildcard", Json::String(wildcard), Json::String(text)) => {
            let [wildcard, text] = [wildcard, text].map(|text| text.chars().collect::<Vec<_>>());
            fits(&wildcard, &text)
        }
        ("numeric", Json::List(parts), Json::Number(number)) => parts.chunks(2).all(|pair| {
            let order = compare(number, pair[1].text());
            match pair[0].text() {
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                ">=" => order.is_ge(),
                _ => order.is_eq(),
            }
        }),
        ("cidr", Json::String(range), Json::String(text)) => is_within(range, text),
        _ => false,
    }
}

/// Whole numbers exactly, all others as `f64`.
fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => {
            let [a, b] = [a, b].map(|text| text.parse::<f64>().unwrap());
            a.partial_cmp(&b).unwrap()
        }
    }
}

/// Where a text can be cut.
fn places(text: &str) -> impl Iterator<Item = usize> {
    (0..=text.len()).filter(|place| text.is_char_boundary(*place))
}

/// Whether each character of `expected`, in its lower or its upper case, is what stands in `text`.
fn are_alike(expected: &str, text: &str) -> bool {
    let Some(c) = expected.chars().next() else {
        return text.is_empty();
    };
    let forms = BTreeSet::from([
        c.to_string(),
        c.to_lowercase().to_string(),
        c.to_uppercase().to_string(),
    ]);
    let rest = &expected[c.len_utf8()..];
    forms.iter().any(|form| {
        text.strip_prefix(form.as_str())
            .is_some_and(|text| are_alike(rest, text))
    })
}

fn fits(wildcard: &[char], text: &[char]) -> bool {
    match wildcard {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|start| fits(rest, &text[start..])),
        ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && fits(rest, &text[1..]),
    }
}

fn address(text: &str) -> Option<IpAddr> {
    match text.contains(':') {
        false => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        // Only the pure spelling: `::ffff:10.0.0.1` is a text like others.
        true if text.contains('.') => None,
        true => text
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| address.to_canonical()),
    }
}

fn is_within(range: &str, text: &str) -> bool {
    let (first, bits) = range.split_once('/').unwrap();
    let bits: usize = bits.parse().unwrap();
    let digits = |address: Option<IpAddr>| {
        address.map(|address| match address {
            IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
            IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
        })
    };
    match (digits(address(first)), digits(address(text))) {
        (Some(first), Some(address)) => first.len() == address.len() && first[..bits] == address[..bits],
        _ => false,
    }
}

/// JSON as its text has it: every member, and numbers as they are written.
#[derive(Clone, Debug)]
enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    List(Vec<Json>),
    Table(Vec<(String, Json)>),
}

impl Json {
    fn read(text: &str) -> Self {
        Self::from_raw(serde_json::from_str(text).unwrap())
    }

    fn from_raw(raw: &RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes()[0] {
            b'n' => Self::Null,
            b't' | b'f' => Self::Bool(text == "true"),
            b'"' => Self::String(serde_json::from_str(text).unwrap()),
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap();
                Self::List(items.into_iter().map(Self::from_raw).collect())
            }
            b'{' => {
                let Members(members) = serde_json::from_str(text).unwrap();
                let read = |(key, value)| (key, Self::from_raw(value));
                Self::Table(members.into_iter().map(read).collect())
            }
            _ => Self::Number(text.to_owned()),
        }
    }

    /// Its members; none, where it is no table.
    fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Table(members) => members,
            _ => &[],
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::String(text) | Self::Number(text) => text,
            other => panic!("expected a text: {other:?}"),
        }
    }

    /// Whether something holds of it, or of anything in it.
    fn any(&self, holds: fn(&Self) -> bool) -> bool {
        holds(self)
            || match self {
                Self::List(items) => items.iter().any(|item| item.any(holds)),
                value => value.members().iter().any(|(_, member)| member.any(holds)),
            }
    }

    fn keys(&self) -> BTreeSet<&str> {
        self.members().iter().map(|(key, _)| key.as_str()).collect()
    }

    fn has_double(&self) -> bool {
        self.keys().len() < self.members().len()
    }

    fn spells_a_path_in_two_ways(&self) -> bool {
        let keys = self.keys();
        let names: BTreeSet<_> = keys.iter().map(|key| key.split('.').next()).collect();
        names.len() < keys.len()
    }
}

/// The members of an object, all of them.
struct Members<'m>(Vec<(String, &'m RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}
