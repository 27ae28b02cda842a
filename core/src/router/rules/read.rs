//! Reads the routes of one file.

use std::collections::BTreeMap;

use super::{
    Catalog, line,
    step::{Given, Phrase},
    when,
};
use crate::{
    document::{Document, Item, Table, duration},
    fault::{Faults, Place},
    router::{
        Pattern, Route,
        template::{Names, Template, check},
    },
};

/// Reads one part of a file.
pub(super) struct Reader<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) catalog: Option<&'a Catalog>,
    pub(super) faults: &'a mut Faults,
    /// The routes so far, of this file and of others, and where their names stand.
    pub(super) names: &'a mut BTreeMap<String, Place>,
}

impl Reader<'_> {
    /// The routes of the part that nothing is wrong with.
    pub(super) fn routes(&mut self) -> Vec<(Route, Pattern)> {
        let mut root = self.document.root();
        let tables = root.tables(LIST, self.faults);
        let routes = tables.into_iter().filter_map(|table| self.route(table)).collect();
        root.finish(self.faults);
        routes
    }

    fn route(&mut self, mut table: Table<'_>) -> Option<(Route, Pattern)> {
        let name = self.name(&mut table);
        let description = table.string("description", self.faults);
        let order_by = table.take("order_by").map(|item| self.order_by(&item));
        let deadline = table.take("deadline").map(|item| self.deadline(&item));
        let pattern = when::read(self.document, &mut table, self.faults);
        let steps = table.tables("step", self.faults);
        let on_failure = table.tables("on_failure", self.faults);
        if steps.is_empty() && !table.is_broken() {
            let fault = table.fault("the route has no steps, so that nothing would happen");
            self.faults
                .push(fault.help("write `[[route.step]]` and `use = \"…\"` below it"));
        }
        let line = line::read(&mut table, order_by.is_some(), self.faults);
        table.finish(self.faults);
        let (steps, on_failure) = self.steps(steps, on_failure);
        let order_by = match order_by {
            Some(template) => Some(template?),
            None => None,
        };
        let deadline = match deadline {
            Some(template) => Some(template?),
            None => None,
        };
        let route = Route {
            name: name?,
            description,
            order_by,
            line,
            deadline,
            steps: steps?,
            on_failure: on_failure?,
        };
        Some((route, pattern?))
    }

    fn name(&mut self, table: &mut Table<'_>) -> Option<String> {
        let item = table.required("name", self.faults)?;
        let name = identifier(&item, self.faults)?;
        if let Some(first) = self.names.get(&name) {
            let message = format!("the name of the route at {first} as well; names are unique");
            self.faults.push(item.fault(message));
            return None;
        }
        self.names.insert(name.clone(), item.place());
        Some(name)
    }

    /// A template for the time; or the time itself, which can only be one after the arrival: a moment would be the same for
    /// every event.
    fn deadline(&mut self, item: &Item<'_>) -> Option<Template> {
        let template = self.before_delivery(item)?;
        let is_time = !template.is_text() || duration(template.source().trim()).is_some();
        if !is_time {
            let found = template.source();
            let message = format!("found {found:?}, expected a template, or a time such as \"24h\"");
            self.faults.push(
                item.fault(message)
                    .help("for example \"{{ event.data.artifacts[0].expires | default('24h') }}\""),
            );
        }
        is_time.then_some(template)
    }

    fn order_by(&mut self, item: &Item<'_>) -> Option<Template> {
        self.before_delivery(item)
    }

    /// A template that is rendered before there is a delivery.
    fn before_delivery(&mut self, item: &Item<'_>) -> Option<Template> {
        let source = item.string(self.faults)?;
        let template = Template::compile(&source)
            .map_err(|reason| self.faults.push(item.fault(reason)))
            .ok()?;
        for reason in check(&template, &Names::default()) {
            self.faults.push(item.fault(reason));
        }
        Some(template)
    }

    /// Reads both lists of steps; ids are unique over both, since templates know steps by id alone.
    fn steps(
        &mut self,
        steps: Vec<Table<'_>>,
        on_failure: Vec<Table<'_>>,
    ) -> (Option<Vec<crate::router::Step>>, Option<Vec<crate::router::Step>>) {
        let count = steps.len();
        let tables = steps.into_iter().chain(on_failure);
        let mut given: Vec<_> = tables.map(|table| Given::read(table, self.faults)).collect();
        assign_ids(&mut given, self.faults);
        let ids: Vec<_> = given.iter().map(|step| step.id.clone()).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let finish = |(index, step): (usize, Given<'_>)| {
            // `on_failure` is a phase of its own: what the steps put out is not kept for it.
            let is_failure = index >= count;
            let first = if is_failure { count } else { 0 };
            let names = Names {
                earlier: ids[first..index].to_vec(),
                later: ids[index..].to_vec(),
                gone: ids[..first].to_vec(),
                delivery: true,
                failure: is_failure,
                input: false,
            };
            step.finish(
                &Phrase {
                    names: &names,
                    catalog: self.catalog,
                },
                self.faults,
            )
        };
        let mut finished: Vec<_> = given.into_iter().enumerate().map(finish).collect();
        let after = finished.split_off(count);
        (finished.into_iter().collect(), after.into_iter().collect())
    }
}

/// A name of letters, digits, `-`, `_` and `.`, so that it can stand in a command, a label or a path.
pub(super) fn identifier(item: &Item<'_>, faults: &mut Faults) -> Option<String> {
    let name = item.string(faults)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(fits) {
        faults.push(item.fault(format!(
            "found {name:?}, expected a name of letters, digits, `-`, `_` and `.`"
        )));
        return None;
    }
    Some(name)
}

/// What the list of routes is called.
pub(super) const LIST: &str = "route";

/// Gives every step without an `id` that of its instance, numbered from 2 where that is taken.
fn assign_ids(steps: &mut [Given<'_>], faults: &mut Faults) {
    let mut taken: BTreeMap<String, Place> = BTreeMap::new();
    // What is no id at all is reported already.
    for step in steps.iter().filter(|step| !step.id.is_empty()) {
        let Some(item) = &step.given_id else { continue };
        if let Some(first) = taken.get(&step.id) {
            faults.push(item.fault(format!(
                "the id of the step at {first} as well; ids are unique in a route"
            )));
        } else {
            taken.insert(step.id.clone(), item.place());
        }
    }
    for step in steps.iter_mut().filter(|step| step.given_id.is_none()) {
        let numbered = (2..).map(|number| format!("{}-{number}", step.instance));
        let mut candidates = std::iter::once(step.instance.clone()).chain(numbered);
        if let Some(id) = candidates.find(|id| !taken.contains_key(id)) {
            taken.insert(id.clone(), step.place.clone());
            step.id = id;
        }
    }
}
