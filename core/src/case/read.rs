//! Reads the cases of one file.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use bytes::Bytes;
use serde_json::Value;

use super::{Case, Expected, ExpectedStep, Fate, Places, occurrence};
use crate::{
    document::{Document, Item, Kind, Table},
    fault::{Fault, Faults, Place},
    journal::Failure,
    reason::Reason,
};

/// All cases of `text`, which came from `file`; what it says of other files is relative to `base`.
pub(super) fn read(
    file: &str,
    text: &str,
    base: &Path,
    providers: &BTreeMap<String, String>,
) -> Result<Vec<Case>, Faults> {
    let mut faults = Faults::new();
    let document = Document::parse(file, text, &mut faults);
    let mut root = document.root();
    let tables = root.tables("case", &mut faults);
    if tables.is_empty() && faults.is_empty() {
        let fault = Fault::new(format!("{file}: there is no `[[case]]` in it"));
        faults.push(fault.help("`jackfield events capture evt_…` makes one of a stored event"));
    }
    root.finish(&mut faults);
    let mut names = BTreeMap::new();
    let cases = tables
        .into_iter()
        .filter_map(|table| case(table, base, providers, &mut names, &mut faults))
        .collect();
    faults.give(Some(cases))
}

fn case(
    mut table: Table<'_>,
    base: &Path,
    providers: &BTreeMap<String, String>,
    names: &mut BTreeMap<String, Place>,
    faults: &mut Faults,
) -> Option<Case> {
    let name = table
        .required("name", faults)
        .and_then(|item| unique(&item, names, "names are unique in a file", faults));
    let occurrence = occurrence::read(&mut table, base, providers, faults);
    let expectation = expectation(&table);
    let expected = routes(&mut table, faults);
    let place = table.place();
    table.finish(faults);
    Some(Case {
        name: name?,
        place,
        occurrence: occurrence?,
        expected,
        expectation,
    })
}

/// Which bytes say what is to come of a case, where they stand together behind all the rest of it.
fn expectation(table: &Table<'_>) -> Option<Range<usize>> {
    let (said, rest): (Vec<_>, Vec<_>) = table
        .entries()
        .into_iter()
        .partition(|item| matches!(item.key(), "routes" | "route"));
    let start = said.iter().map(|item| match (item.key(), item.as_array()) {
        // The header of the first of them, and not the key in it.
        ("route", Some(tables)) => {
            let headers = tables
                .iter()
                .filter_map(Item::as_table)
                .map(|table| table.span().start);
            headers
                .min()
                .unwrap_or(item.key_span().start)
                .min(item.key_span().start)
        }
        _ => item.key_span().start,
    });
    let (start, end) = (start.min()?, said.iter().map(end_of).max()?);
    rest.iter()
        .all(|item| end_of(item) <= start)
        .then_some(start..end)
}

/// Where an item ends, and all that is in it.
fn end_of(item: &Item<'_>) -> usize {
    let items = item.as_array().unwrap_or_default();
    let entries = item.as_table().map(|table| table.entries()).unwrap_or_default();
    let inner = items.iter().chain(&entries).map(end_of).max();
    inner.unwrap_or(0).max(item.span().end)
}

/// The routes that are to match: names alone, and those of which more is said.
fn routes(table: &mut Table<'_>, faults: &mut Faults) -> Vec<Expected> {
    let mut names = BTreeMap::new();
    let plain = table.take("routes");
    let tables = table.tables("route", faults);
    if plain.is_none() && tables.is_empty() && !table.is_broken() {
        let fault = table.fault("the case does not say which routes are to match");
        faults.push(
            fault.help("name them, as in `routes = [\"tokens\"]`; where none is to match, `routes = []`"),
        );
    }
    let unique = |item: &Item<'_>, names: &mut _, faults: &mut Faults| {
        unique(item, names, "a route is spoken of once", faults)
    };
    let mut expected = Vec::new();
    for item in plain.and_then(|item| item.array(faults)).unwrap_or_default() {
        expected.extend(unique(&item, &mut names, faults).map(|name| Expected {
            name,
            place: item.place(),
            order: None,
            steps: Vec::new(),
            on_failure: Vec::new(),
            failure: None,
        }));
    }
    for mut table in tables {
        let item = table.required("name", faults);
        let name = item.and_then(|item| unique(&item, &mut names, faults));
        let order = table.take("order_by");
        let order = order.and_then(|item| Some((item.string(faults)?, item.place())));
        let failure = table.table("failure", faults);
        let failure = failure.and_then(|table| self::failure(table, faults));
        let mut ids = BTreeMap::new();
        let [steps, on_failure] = ["step", "on_failure"].map(|key| {
            let tables = table.tables(key, faults).into_iter();
            let steps = tables.filter_map(|table| step(table, &mut ids, faults));
            steps.collect::<Vec<_>>()
        });
        if let Some(first) = on_failure.first().filter(|_| failure.is_none()) {
            let fault = Fault {
                place: Some(first.place.clone()),
                ..Fault::new("nothing failed that `on_failure` could be about")
            };
            faults.push(fault.help(
                "say what did, as in `failure = { step = \"fetch\", reason = \"plugin-fatal\", error = \"gone\" }`",
            ));
        }
        let place = table.place();
        table.finish(faults);
        expected.extend(name.map(|name| Expected {
            name,
            place,
            order,
            steps,
            on_failure,
            failure,
        }));
    }
    expected
}

fn failure(mut table: Table<'_>, faults: &mut Faults) -> Option<Failure> {
    let step = table.string("step", faults);
    let reason = table.required("reason", faults).and_then(|item| {
        let code = item.string(faults)?;
        let reason = code.parse::<Reason>();
        reason
            .map_err(|error| {
                let fault = item.fault(error);
                faults.push(fault.suggest(&code, Reason::ALL.iter().map(|reason| reason.code())));
            })
            .ok()
    });
    let error = table.string("error", faults).unwrap_or_default();
    table.finish(faults);
    Some(Failure {
        step,
        reason: reason?,
        error,
    })
}

fn step(
    mut table: Table<'_>,
    ids: &mut BTreeMap<String, Place>,
    faults: &mut Faults,
) -> Option<ExpectedStep> {
    let id = table
        .required("id", faults)
        .and_then(|item| unique(&item, ids, "ids are unique in a route", faults));
    let skipped = table.take("skipped");
    let is_skipped = skipped.as_ref().and_then(|item| item.bool(faults));
    let with = either(&mut table, ["with", "with_json"], faults);
    let output = either(&mut table, ["output", "output_json"], faults);
    if let (Some(item), Some(true)) = (&skipped, is_skipped)
        && (with.is_some() || output.is_some())
    {
        faults.push(item.key_fault("a step that is skipped is given nothing, and puts out nothing"));
    }
    let place = table.place();
    table.finish(faults);
    let fate = match with {
        Some((value, places)) => Fate::Given(value, places),
        None if is_skipped == Some(true) => Fate::Skipped,
        None => Fate::Any,
    };
    Some(ExpectedStep {
        id: id?,
        place,
        fate,
        output: output.map(|(value, _)| Bytes::from(value.to_string())),
    })
}

/// The value of a key in TOML, or in JSON that stands in the text of the other key.
fn either(
    table: &mut Table<'_>,
    [toml, json]: [&'static str; 2],
    faults: &mut Faults,
) -> Option<(Value, Places)> {
    let (item, text) = (table.take(toml), table.take(json));
    if let (Some(_), Some(text)) = (&item, &text) {
        faults.push(text.key_fault(format!("found beside `{toml}`, expected one of the two")));
    }
    if let Some(item) = item {
        let mut places = BTreeMap::new();
        mark(&item, String::new(), &mut places);
        return Some((item.json(faults)?, Places(places)));
    }
    let item = text?;
    let value = self::json(&item, faults)?;
    Some((value, Places(BTreeMap::from([(String::new(), item.place())]))))
}

/// The JSON in the text of an item.
pub(super) fn json(item: &Item<'_>, faults: &mut Faults) -> Option<Value> {
    let text = item.string(faults)?;
    let value = serde_json::from_str(&text);
    value
        .map_err(|error| faults.push(item.fault(format!("not JSON: {error}"))))
        .ok()
}

/// Notes where the parts of an item stand; `at` is its JSON Pointer.
fn mark(item: &Item<'_>, at: String, places: &mut BTreeMap<String, Place>) {
    match item.kind() {
        Kind::Array => {
            for (index, item) in item.as_array().into_iter().flatten().enumerate() {
                mark(&item, format!("{at}/{index}"), places);
            }
        }
        Kind::Table => {
            for item in item.as_table().into_iter().flat_map(|table| table.entries()) {
                let name = item.key().replace('~', "~0").replace('/', "~1");
                mark(&item, format!("{at}/{name}"), places);
            }
        }
        Kind::String | Kind::Integer | Kind::Float | Kind::Boolean | Kind::Date => {}
    }
    places.insert(at, item.place());
}

/// The text of an item that none before it has.
fn unique(
    item: &Item<'_>,
    taken: &mut BTreeMap<String, Place>,
    rule: &str,
    faults: &mut Faults,
) -> Option<String> {
    let text = item.string(faults)?;
    if text.trim().is_empty() {
        faults.push(item.fault("found an empty text, expected a name"));
        return None;
    }
    if let Some(first) = taken.get(&text) {
        faults.push(item.fault(format!("found \"{text}\" again, as at {first}; {rule}")));
        return None;
    }
    taken.insert(text.clone(), item.place());
    Some(text)
}

/// The keys of `table` among `keys`, of which exactly one is to be there; that one.
pub(super) fn one_of<'d>(
    table: &mut Table<'d>,
    keys: &[&'static str],
    what: &str,
    help: &str,
    faults: &mut Faults,
) -> Option<Item<'d>> {
    let mut found: Vec<_> = keys.iter().filter_map(|key| table.take(key)).collect();
    let names: BTreeSet<_> = found.iter().map(|item| item.key()).collect();
    match found.len() {
        0 => {
            if !table.is_broken() {
                faults.push(table.fault(format!("there is no {what}")).help(help));
            }
            None
        }
        1 => found.pop(),
        _ => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("found {}, expected one of them", names.join(" and "));
            faults.push(found[1].key_fault(message));
            None
        }
    }
}
