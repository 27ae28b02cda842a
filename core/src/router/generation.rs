//! A generation: one immutable set of routes.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use jackfield_event::{Event, join_payload};
use sha2::{Digest, Sha256};

use super::{
    Context, Deadline, Explanation, GenerationId, NoDeadline, NotJson, Owed, Parts, Route, Routed, RuleFile,
    Step,
    context::Parsed,
    explain, rules,
    table::{Table, View},
    template::{Escape, Template},
};
use crate::{delivery::Phase, fault::Faults, schema::Catalog};

/// One set of routes, compiled. Never changed: a reload makes another beside it.
#[derive(Debug)]
pub struct Generation {
    id: GenerationId,
    text: String,
    routes: Vec<Route>,
    names: HashMap<String, usize>,
    table: Table,
}

impl Generation {
    /// Compiles rule files. With a catalog, what the steps use and give is checked against it; without one, as for
    /// a generation of earlier days, only the language is.
    ///
    /// # Errors
    ///
    /// All mistakes in all files, with their places.
    pub fn compile(files: &[RuleFile], catalog: Option<&Catalog>) -> Result<Self, Faults> {
        let (routes, patterns): (Vec<_>, Vec<_>) = rules::read(files, catalog)?.into_iter().unzip();
        let text = RuleFile::pack(files);
        let names = routes
            .iter()
            .enumerate()
            .map(|(place, route)| (route.name().to_owned(), place));
        Ok(Self {
            id: GenerationId::of(&text),
            names: names.collect(),
            table: Table::compile(patterns),
            text,
            routes,
        })
    }

    /// Compiles a generation again from its stored text; only the language is checked.
    ///
    /// # Errors
    ///
    /// Where the text is not one of [`Generation::text`], or this version no longer accepts its rules.
    pub fn from_stored(text: &str) -> Result<Self, Faults> {
        Self::compile(&RuleFile::unpack(text)?, None)
    }

    /// Checks what its steps give to the instances of `catalog`, whichever others they use.
    ///
    /// # Errors
    ///
    /// All that does not fit any more, with its places in the rules.
    pub fn check(&self, catalog: &Catalog) -> Result<(), Faults> {
        rules::read(&RuleFile::unpack(&self.text)?, Some(&self.complete(catalog))).map(drop)
    }

    /// The catalog, and with it every instance that these rules use: what was known when they came into force is known while
    /// it is away.
    pub fn complete(&self, catalog: &Catalog) -> Catalog {
        let mut complete = catalog.clone();
        for instance in self.instances() {
            if !complete.contains_key(instance) {
                complete.insert(instance.to_owned(), None);
            }
        }
        complete
    }

    /// The instances that its steps use.
    pub fn instances(&self) -> BTreeSet<&str> {
        let steps = self.routes.iter().flat_map(|route| {
            let [steps, on_failure] = [Phase::Steps, Phase::OnFailure].map(|phase| route.steps(phase));
            steps.iter().chain(on_failure)
        });
        steps.map(Step::instance).collect()
    }

    /// Its name: the SHA-256 of its text.
    pub fn id(&self) -> &GenerationId {
        &self.id
    }

    /// Its text to be stored: all rule files with their names.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its routes, in the order of the files.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of that name.
    pub fn find(&self, name: &str) -> Option<&Route> {
        self.names.get(name).map(|place| &self.routes[*place])
    }

    /// The routes that an event matches, given without its payload and with it beside, in the order of the files.
    ///
    /// # Errors
    ///
    /// Where it is not JSON.
    pub fn matching(&self, envelope: &[u8], payload: &[u8]) -> Result<Vec<&Route>, NotJson> {
        let mut matched = Vec::new();
        self.table
            .matches(&View::parts(envelope, payload), &mut matched)?;
        Ok(matched.into_iter().map(|place| &self.routes[place]).collect())
    }

    /// The routes that no value leads to: their patterns only ask whether there is a value, or for any but some. They
    /// are held against nearly every event.
    pub fn unindexed(&self) -> impl Iterator<Item = &Route> {
        let places = self.table.unindexed().into_iter();
        places.map(|place| &self.routes[place])
    }

    /// Finds the deliveries that an event owes. `payload` is its body, which `event` itself is without.
    ///
    /// # Errors
    ///
    /// Where the payload is not JSON, which no translation lets through.
    pub fn route(
        &self,
        event: impl Into<Box<Event>>,
        payload: Bytes,
        dedup: Option<String>,
    ) -> Result<Routed, NotJson> {
        let event = event.into();
        let envelope = event.to_json();
        let mut matched = Vec::new();
        self.table
            .matches(&View::parts(envelope.as_bytes(), &payload), &mut matched)?;
        let mut orders = Orders {
            envelope: envelope.as_bytes(),
            payload: &payload,
            whole: None,
        };
        let owed = matched
            .into_iter()
            .map(|place| orders.owed(&self.routes[place]))
            .collect();
        Ok(Routed(Parts {
            event,
            envelope,
            payload,
            dedup,
            generation: self.id.clone(),
            owed,
        }))
    }

    /// What a route owes for an event in JSON, payload and all, whether it matches or not: for a delivery that is made of
    /// another. `None` where there is no such route.
    pub fn owe(&self, route: &str, event: &[u8]) -> Option<Owed> {
        let route = self.find(route)?;
        let mut orders = Orders {
            envelope: event,
            payload: b"null",
            whole: Parsed::event(event).ok(),
        };
        Some(orders.owed(route))
    }

    /// For each route, whether an event in JSON matches it, and if not, where it fails first.
    ///
    /// # Errors
    ///
    /// Where the event is not JSON.
    pub fn explain(&self, event: &[u8]) -> Result<Vec<Explanation>, NotJson> {
        let leaves = self.table.read(&View::whole(event))?;
        // serde_json refuses half a surrogate pair and a number beyond `f64`, which the table lets pass.
        let event: Option<serde_json::Value> = serde_json::from_slice(event).ok();
        let walk = event.as_ref().map(explain::Walk::new);
        let routes = self.routes.iter().enumerate();
        let explain = routes.map(|(place, route)| {
            let trace = self.table.trace(place, &leaves);
            explain::explain(route.name(), &trace, &leaves, &self.table, walk.as_ref())
        });
        Ok(explain.collect())
    }
}

impl GenerationId {
    /// The name of the generation with this text.
    pub fn of(text: &str) -> Self {
        let hash = Sha256::digest(text);
        Self(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The name that the generation of these files has, or would have if nothing were wrong with them.
    pub fn of_files(files: &[RuleFile]) -> Self {
        Self::of(&RuleFile::pack(files))
    }
}

/// Renders what is told before the commit; the event is put together only once it is asked for.
struct Orders<'e> {
    envelope: &'e [u8],
    payload: &'e [u8],
    whole: Option<Parsed>,
}

impl Orders<'_> {
    fn owed(&mut self, route: &Route) -> Owed {
        let first = |phase| route.steps(phase).first().map(|step| step.instance().to_owned());
        let name = route.name();
        Owed {
            route: name.to_owned(),
            instance: first(Phase::Steps).unwrap_or_default(),
            on_failure: first(Phase::OnFailure),
            order: self
                .order(route)
                .map_err(|reason| format!("route `{name}`, `order_by`: {reason}")),
            line: *route.line(),
            deadline: self
                .deadline(route)
                .map_err(|reason| format!("route `{name}`, `deadline`: {reason}")),
        }
    }

    fn order(&mut self, route: &Route) -> Result<Option<String>, String> {
        let Some(template) = &route.order_by else {
            // Without a key of their own, all its deliveries have the same.
            return Ok(route.line().needs_key().then(String::new));
        };
        let key = self.text(route, template)?;
        match key.len() <= LONGEST_KEY {
            true => Ok(Some(key)),
            false => Err(format!(
                "the key has {} bytes, more than {LONGEST_KEY}",
                key.len()
            )),
        }
    }

    /// Nothing, where the template comes to nothing: not every event has one.
    fn deadline(&mut self, route: &Route) -> Result<Option<Deadline>, String> {
        let Some(template) = &route.deadline else {
            return Ok(None);
        };
        let text = self.text(route, template)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|error: NoDeadline| error.to_string())
    }

    fn text(&mut self, route: &Route, template: &Template) -> Result<String, String> {
        let whole = match &self.whole {
            Some(whole) => whole,
            None => {
                let whole = join_payload(self.envelope, self.payload).map_err(|error| error.to_string())?;
                self.whole
                    .insert(Parsed::event(&whole).map_err(|error| error.to_string())?)
            }
        };
        let context = Context::before_delivery(route.name(), whole);
        template.text(context.root(), Escape::None)
    }
}

/// How long an order key may be, in bytes: it is stored with every delivery, and indexed.
const LONGEST_KEY: usize = 1024;

#[cfg(test)]
mod tests;
