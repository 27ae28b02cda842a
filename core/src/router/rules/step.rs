//! Reads one step: what it uses, when, with what, and how often.

use super::{Catalog, place::Places, read::identifier};
use crate::{
    delivery::{Backoff, RetryPolicy},
    document::{Item, Kind, Table},
    fault::{Faults, Place},
    router::{
        Step,
        step::Field,
        template::{Expression, Names, Template, check, check_expression},
    },
    schema::Schema,
};

/// A step as it stands in the file, before the ids of the others are known.
pub(super) struct Given<'d> {
    pub(super) id: String,
    pub(super) given_id: Option<Item<'d>>,
    /// What it uses; empty where that is missing.
    pub(super) instance: String,
    pub(super) place: Place,
    table: Table<'d>,
    uses: Option<Item<'d>>,
}

/// What a step's parts are held against.
pub(super) struct Phrase<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) catalog: Option<&'a Catalog>,
}

impl<'d> Given<'d> {
    /// Reads the names of a step.
    pub(super) fn read(mut table: Table<'d>, faults: &mut Faults) -> Self {
        let given_id = table.take("id");
        let id = given_id.as_ref().and_then(|item| identifier(item, faults));
        let uses = table.required("use", faults);
        let instance = uses.as_ref().and_then(|item| item.string(faults));
        Self {
            id: id.unwrap_or_default(),
            given_id,
            instance: instance.unwrap_or_default(),
            place: table.place(),
            table,
            uses,
        }
    }

    /// Reads the rest of it.
    pub(super) fn finish(mut self, phrase: &Phrase<'_>, faults: &mut Faults) -> Option<Step> {
        let before = faults.len();
        let condition = self
            .table
            .take("if")
            .and_then(|item| condition(&item, phrase, faults));
        let mut places = Places::default();
        let with = match self.table.take("with") {
            Some(item) if item.kind() == Kind::Table => {
                self::field(&item, String::new(), phrase, &mut places, faults)
            }
            Some(item) => item.mismatch("a table", faults),
            None => Some(Field::Table(Vec::new())),
        };
        let retry = match self.table.table("retry", faults) {
            Some(table) => retry(table, faults),
            None => RetryPolicy::default(),
        };
        if let Some(with) = &with {
            self.check_input(with, &places, phrase.catalog, faults);
        }
        self.table.finish(faults);
        if faults.len() > before || self.instance.is_empty() || self.id.is_empty() {
            return None;
        }
        Some(Step {
            id: self.id,
            instance: self.instance,
            condition,
            with: with?,
            retry,
        })
    }

    /// Checks what it uses and gives against the catalog.
    fn check_input(&self, with: &Field, places: &Places<'_>, catalog: Option<&Catalog>, faults: &mut Faults) {
        let (Some(catalog), Some(uses)) = (catalog, &self.uses) else {
            return;
        };
        let Some(schema) = catalog.get(&self.instance) else {
            if !self.instance.is_empty() {
                let message = format!("there is no instance `{}`", self.instance);
                faults.push(
                    uses.fault(message)
                        .suggest(&self.instance, catalog.keys().map(String::as_str)),
                );
            }
            return;
        };
        for violation in schema
            .as_deref()
            .map(|schema| violations(with, schema))
            .unwrap_or_default()
        {
            faults.push(places.fault(&violation, |message| self.table.fault(message)));
        }
    }
}

fn violations(with: &Field, schema: &Schema) -> Vec<crate::schema::Violation> {
    let (value, holes) = with.outline();
    schema.check_with_holes(&value, &|pointer| holes.iter().any(|hole| hole == pointer))
}

fn condition(item: &Item<'_>, phrase: &Phrase<'_>, faults: &mut Faults) -> Option<Expression> {
    let source = item.string(faults)?;
    if source.contains("{{") {
        let fault = item.fault("an `if` is an expression and needs no braces");
        let bare = source.replace("{{", "").replace("}}", "");
        faults.push(fault.help(format!("write `if = {:?}`", bare.trim())));
        return None;
    }
    let expression = Expression::compile(&source)
        .map_err(|reason| faults.push(item.fault(reason)))
        .ok()?;
    for reason in check_expression(&expression, phrase.names) {
        faults.push(item.fault(reason));
    }
    Some(expression)
}

/// Reads a value of a `with`, whose JSON Pointer is `at`.
fn field<'d>(
    item: &Item<'d>,
    at: String,
    phrase: &Phrase<'_>,
    places: &mut Places<'d>,
    faults: &mut Faults,
) -> Option<Field> {
    places.add(at.clone(), item);
    match item.kind() {
        Kind::String => {
            let source = item.string(faults)?;
            let template = Template::compile(&source)
                .map_err(|reason| faults.push(item.fault(reason)))
                .ok()?;
            for reason in check(&template, phrase.names) {
                faults.push(item.fault(reason));
            }
            Some(Field::Text(template))
        }
        Kind::Array => {
            let items = item.as_array()?.into_iter().enumerate();
            let fields =
                items.map(|(index, item)| field(&item, format!("{at}/{index}"), phrase, places, faults));
            let fields: Vec<_> = fields.collect();
            fields.into_iter().collect::<Option<_>>().map(Field::List)
        }
        Kind::Table => table(item, &at, phrase, places, faults),
        Kind::Boolean | Kind::Integer | Kind::Float | Kind::Date => item.json(faults).map(Field::Fixed),
    }
}

fn table<'d>(
    item: &Item<'d>,
    at: &str,
    phrase: &Phrase<'_>,
    places: &mut Places<'d>,
    faults: &mut Faults,
) -> Option<Field> {
    let entries = item.as_table()?.entries();
    if let [only] = entries.as_slice()
        && only.key() == "env"
        && only.kind() == Kind::String
        && !at.is_empty()
    {
        let fault =
            item.fault("the environment cannot be read in a rule: a step's input is kept in the journal");
        faults
            .push(fault.help("give the secret to the instance, under `[instance.config]`, and name it here"));
        return None;
    }
    let fields = entries.iter().map(|entry| {
        let name = entry.key().replace('~', "~0").replace('/', "~1");
        let value = field(entry, format!("{at}/{name}"), phrase, places, faults)?;
        Some((entry.key().to_owned(), value))
    });
    let fields: Vec<_> = fields.collect();
    fields.into_iter().collect::<Option<_>>().map(Field::Table)
}

fn retry(mut table: Table<'_>, faults: &mut Faults) -> RetryPolicy {
    let default = RetryPolicy::default();
    let attempts = table.integer("attempts", 1..=MOST_ATTEMPTS, faults);
    let backoff = table.one_of(
        "backoff",
        &[("exponential", Backoff::Exponential), ("fixed", Backoff::Fixed)],
        faults,
    );
    let first = table.duration("first", faults);
    let max = table.take("max");
    let longest = max.as_ref().and_then(|item| item.duration(faults));
    if let (Some(first), Some(longest), Some(item)) = (first, longest, &max)
        && first > longest
    {
        faults.push(item.fault("shorter than `first`, expected the longest rest of all"));
    }
    table.finish(faults);
    let first = first.unwrap_or(default.first.min(longest.unwrap_or(default.first)));
    RetryPolicy {
        attempts: attempts
            .and_then(std::num::NonZeroU32::new)
            .unwrap_or(default.attempts),
        backoff: backoff.unwrap_or(default.backoff),
        first,
        max: longest.unwrap_or(default.max.max(first)),
    }
}

/// How many attempts a policy may ask for.
pub(super) const MOST_ATTEMPTS: u32 = 100;
