//! What other rules would make of an event: which routes it would gain or lose, and what would be otherwise in those that it
//! keeps: its line, its deadline, and what the steps are given.

use std::collections::{BTreeMap, BTreeSet};

use jackfield_event::join_payload;
use serde::Serialize;
use serde_json::Value;

use super::{
    Context, Generation, NotJson, Route,
    context::Parsed,
    step::{Field, Step, dotted, join},
    template::{Escape, Template},
};
use crate::delivery::{Line, Phase};

/// Two generations, the one in force and one that could be, to be held against events.
#[derive(Debug)]
pub struct Comparison<'g> {
    before: &'g Generation,
    after: &'g Generation,
    /// The routes of both that do not say the same.
    altered: BTreeSet<&'g str>,
}

/// What is different for one event.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<'g> {
    /// Only the new rules have it go this way.
    Gained(&'g str),
    /// Only the old ones do.
    Lost(&'g str),
    /// Both do, and deal with it otherwise.
    Altered(&'g str, Vec<Difference>),
}

/// What both make of one event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared<'g> {
    /// The routes that both have it go.
    pub kept: Vec<&'g str>,
    /// What is different.
    pub changes: Vec<Change<'g>>,
}

/// A field of a route, or of one of its steps, that comes out differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// The step's id, where it is a step's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The field: `order_by`, `coalesce.window`; of a step, `with.text`, `if`, or `use` where the step is another one, or only in
    /// one of the two.
    pub field: String,
    /// What it was, in JSON; or why it could not be rendered. What an earlier step would have put out stands in it by its name.
    pub before: String,
    /// What it would be.
    pub after: String,
}

impl<'g> Comparison<'g> {
    /// Holds `after` against `before`.
    pub fn new(before: &'g Generation, after: &'g Generation) -> Self {
        let altered = after.routes().iter().filter(|route| {
            let old = before.find(route.name());
            old.is_some_and(|old| definition(old) != definition(route))
        });
        Self {
            before,
            after,
            altered: altered.map(Route::name).collect(),
        }
    }

    /// The routes that only the new rules have.
    pub fn added(&self) -> Vec<&'g str> {
        missing(self.after, self.before)
    }

    /// The routes that only the old rules have.
    pub fn removed(&self) -> Vec<&'g str> {
        missing(self.before, self.after)
    }

    /// What both make of an event, given without its payload and with it beside.
    ///
    /// # Errors
    ///
    /// Where it is not JSON.
    pub fn compare(&self, envelope: &[u8], payload: &[u8]) -> Result<Compared<'g>, NotJson> {
        let (before, after) = (
            self.before.matching(envelope, payload)?,
            self.after.matching(envelope, payload)?,
        );
        let old: BTreeMap<_, _> = before.iter().map(|route| (route.name(), *route)).collect();
        let new: BTreeSet<_> = after.iter().map(|route| route.name()).collect();
        let mut compared = Compared::default();
        let mut event = None;
        for route in after {
            let name = route.name();
            let Some(old) = old.get(name) else {
                compared.changes.push(Change::Gained(name));
                continue;
            };
            compared.kept.push(name);
            if !self.altered.contains(name) {
                continue;
            }
            let event = match &event {
                Some(event) => event,
                None => event.insert(parse(envelope, payload)?),
            };
            let differences = differences(old, route, event);
            if !differences.is_empty() {
                compared.changes.push(Change::Altered(name, differences));
            }
        }
        let lost = before.iter().map(|route| route.name());
        let lost = lost.filter(|name| !new.contains(name));
        compared.changes.extend(lost.map(Change::Lost));
        Ok(compared)
    }
}

fn missing<'g>(from: &'g Generation, of: &Generation) -> Vec<&'g str> {
    let names = from.routes().iter().map(Route::name);
    names.filter(|name| of.find(name).is_none()).collect()
}

fn parse(envelope: &[u8], payload: &[u8]) -> Result<Parsed, NotJson> {
    let whole = join_payload(envelope, payload).map_err(|error| NotJson(error.to_string()))?;
    Parsed::event(&whole).map_err(|error| NotJson(error.to_string()))
}

/// All that decides what becomes of an event on a route.
fn definition(route: &Route) -> impl PartialEq {
    let steps = PHASES.iter().flat_map(|phase| {
        let steps = route.steps(*phase).iter();
        steps.map(|step| {
            let condition = step.condition.as_ref().map(|condition| condition.source());
            (
                *phase,
                step.id(),
                step.instance(),
                condition,
                step.with.outline().0,
            )
        })
    });
    let [order_by, deadline] = [&route.order_by, &route.deadline].map(said);
    (order_by, deadline, *route.line(), steps.collect::<Vec<_>>())
}

fn said(template: &Option<Template>) -> Option<&str> {
    template.as_ref().map(Template::source)
}

/// In what two routes of one name would deal with an event otherwise.
fn differences(before: &Route, after: &Route, event: &Parsed) -> Vec<Difference> {
    let context = Context::unperformed(after.name(), event);
    let mut differences = Vec::new();
    let mut found = Found {
        step: None,
        differences: &mut differences,
    };
    found.text("order_by", &before.order_by, &after.order_by, &context);
    found.line(before.line(), after.line());
    found.text("deadline", &before.deadline, &after.deadline, &context);
    for (phase, list) in PHASES.into_iter().zip(["step", "on_failure"]) {
        found.add(list, order(before, after, phase), order(after, before, phase));
    }
    for phase in PHASES {
        let old: BTreeMap<_, _> = steps(before, phase).collect();
        let new: BTreeMap<_, _> = steps(after, phase).collect();
        for step in old.keys().chain(new.keys()).copied().collect::<BTreeSet<_>>() {
            let mut found = Found {
                step: Some(step),
                differences: &mut differences,
            };
            match (old.get(step), new.get(step)) {
                (Some(old), Some(new)) => found.step(old, new, &context),
                (old, new) => found.add("use", user(old), user(new)),
            }
        }
    }
    differences
}

/// The steps of a route that the other has as well, in their order.
fn order(route: &Route, other: &Route, phase: Phase) -> String {
    let others: BTreeSet<_> = steps(other, phase).map(|(step, _)| step).collect();
    let steps = steps(route, phase).map(|(step, _)| step);
    let in_both: Vec<_> = steps.filter(|step| others.contains(step)).collect();
    in_both.join(", ")
}

fn user(step: Option<&&Step>) -> String {
    step.map_or("no such step", |step| step.instance()).to_owned()
}

fn steps(route: &Route, phase: Phase) -> impl Iterator<Item = (&str, &Step)> {
    route.steps(phase).iter().map(|step| (step.id(), step))
}

/// Where the differences of a route go, or of one of its steps.
struct Found<'a> {
    step: Option<&'a str>,
    differences: &'a mut Vec<Difference>,
}

impl Found<'_> {
    fn add(&mut self, field: &str, before: String, after: String) {
        if before != after {
            self.differences.push(Difference {
                step: self.step.map(str::to_owned),
                field: field.to_owned(),
                before,
                after,
            });
        }
    }

    /// What is rendered before there is a delivery.
    fn text(&mut self, field: &str, before: &Option<Template>, after: &Option<Template>, context: &Context) {
        if said(before) != said(after) {
            let [before, after] = [before, after].map(|template| match template {
                None => NOTHING.to_owned(),
                Some(template) => match template.text(context.root(), Escape::None) {
                    Ok(text) => Value::from(text).to_string(),
                    Err(error) => error,
                },
            });
            self.add(field, before, after);
        }
    }

    fn line(&mut self, before: &Line, after: &Line) {
        let lines = [before, after];
        let mut add = |field, shown: &dyn Fn(&Line) -> Option<String>| {
            let [before, after] = lines.map(|line| shown(line).unwrap_or_else(|| NOTHING.to_owned()));
            self.add(field, before, after);
        };
        add("supersede", &|line| Some(line.supersede.to_string()));
        add("newest_by", &|line| Some(line.newest_by.word().to_owned()));
        add("on_stuck", &|line| Some(line.on_stuck.word().to_owned()));
        add("coalesce.window", &|line| {
            Some(format!("{:?}", line.coalesce?.window))
        });
        add("coalesce.max_wait", &|line| {
            Some(format!("{:?}", line.coalesce?.max_wait))
        });
        add("coalesce.max_items", &|line| {
            Some(line.coalesce?.max_items.to_string())
        });
        add("coalesce.keep", &|line| {
            Some(line.coalesce?.keep.word().to_owned())
        });
    }

    fn step(&mut self, before: &Step, after: &Step, context: &Context) {
        self.add("use", before.instance().to_owned(), after.instance().to_owned());
        if source(before) != source(after) {
            let enabled = |step: &Step| {
                let enabled = step.enabled(context);
                enabled.map_or_else(|error| error.to_string(), |enabled| enabled.to_string())
            };
            self.add("if", enabled(before), enabled(after));
        }
        self.field(
            String::new(),
            (before, &before.with),
            (after, &after.with),
            context,
        );
    }

    /// Only what does not say the same is rendered: what does comes out alike, also where it needs what only a step that has
    /// run can tell.
    fn field(&mut self, at: String, before: (&Step, &Field), after: (&Step, &Field), context: &Context) {
        let ((old, before), (new, after)) = (before, after);
        if let (Field::Table(these), Field::Table(those)) = (before, after) {
            let [these, those] = [these, those].map(|members| {
                let members = members.iter().map(|(name, field)| (name.as_str(), field));
                members.collect::<BTreeMap<_, _>>()
            });
            for name in these.keys().chain(those.keys()).collect::<BTreeSet<_>>() {
                let at = join(&at, name);
                match (these.get(name), those.get(name)) {
                    (Some(one), Some(other)) => self.field(at, (old, one), (new, other), context),
                    (one, other) => {
                        let shown = |step, field: Option<&&Field>| {
                            field.map_or_else(|| NOTHING.to_owned(), |field| shown(step, field, &at, context))
                        };
                        self.add(&dotted(&at), shown(old, one), shown(new, other));
                    }
                }
            }
            return;
        }
        if before.outline().0 != after.outline().0 {
            self.add(
                &dotted(&at),
                shown(old, before, &at, context),
                shown(new, after, &at, context),
            );
        }
    }
}

fn source(step: &Step) -> Option<&str> {
    step.condition.as_ref().map(|condition| condition.source())
}

fn shown(step: &Step, field: &Field, at: &str, context: &Context) -> String {
    // Without the plugins nobody knows what is escaped; that is the same on both sides.
    let value = step.field(field, at.to_owned(), context, None);
    value.map_or_else(|error| error.to_string(), |value| value.to_string())
}

const PHASES: [Phase; 2] = [Phase::Steps, Phase::OnFailure];
const NOTHING: &str = "nothing";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::RuleFile;

    fn generation(text: &str) -> Generation {
        let file = RuleFile {
            name: "routes.toml".to_owned(),
            text: text.to_owned(),
        };
        Generation::compile(&[file], None).unwrap()
    }

    fn route(name: &str, kind: &str, with: &str) -> String {
        format!(
            "[[route]]\nname = \"{name}\"\nwhen.type = [\"{kind}\"]\n[[route.step]]\nid = \"fetch\"\nuse = \"fetch\"\n\
             [[route.step]]\nid = \"post\"\nuse = \"slack\"\n{with}\n"
        )
    }

    /// What is different between two sets of rules for an event of type `a`, in a line each.
    fn changes(before: &str, after: &str) -> Vec<String> {
        let (before, after) = (generation(before), generation(after));
        let envelope =
            r#"{"specversion":"1.0","id":"evt_1","source":"/s","type":"a","data":{"title":"Home"}}"#;
        let comparison = Comparison::new(&before, &after);
        let compared = comparison
            .compare(envelope.to_string().as_bytes(), b"{}")
            .unwrap();
        let line = |change: &Change<'_>| match change {
            Change::Gained(route) => format!("+ {route}"),
            Change::Lost(route) => format!("- {route}"),
            Change::Altered(route, differences) => {
                let differences = differences.iter().map(|found| {
                    let step = found.step.iter().map(|step| format!("{step}."));
                    let step: String = step.collect();
                    format!("{step}{}: {} → {}", found.field, found.before, found.after)
                });
                format!("~ {route}: {}", differences.collect::<Vec<_>>().join("; "))
            }
        };
        compared.changes.iter().map(line).collect()
    }

    #[test]
    fn a_route_is_gained_or_lost_where_only_one_side_matches() {
        let (one, other) = (route("r", "a", ""), route("r", "b", ""));
        assert_eq!(changes(&one, &other), ["- r"]);
        assert_eq!(changes(&other, &one), ["+ r"]);
        assert_eq!(changes(&one, &route("s", "a", "")), ["+ s", "- r"]);
    }

    #[test]
    fn inputs_that_come_out_alike_are_no_change() {
        let same = |before: &str, after: &str| {
            let none: [&str; 0] = [];
            assert_eq!(changes(&route("r", "a", before), &route("r", "a", after)), none);
        };
        same("with.text = \"{{ event.data.title }}\"", "with.text = \"Home\"");
        same(
            "with.text = \"{{ steps.fetch.path | slug }}\"",
            "with.text = \"{{ steps.fetch.path | slug }}\"",
        );
        same("if = \"true\"", "if = \"event.data.title == 'Home'\"");
        same("retry.attempts = 3", "retry.attempts = 4");
    }

    #[test]
    fn steps_in_another_order_are_a_change() {
        let step = |id: &str| format!("[[route.step]]\nid = \"{id}\"\nuse = \"x\"\n");
        let route = |steps: [&str; 2]| {
            let steps = steps.map(step).concat();
            format!("[[route]]\nname = \"r\"\nwhen.type = [\"a\"]\n{steps}")
        };
        let changed = changes(&route(["one", "two"]), &route(["two", "one"]));
        assert_eq!(changed, ["~ r: step: one, two → two, one"]);
    }

    #[test]
    fn each_input_that_differs_is_told_with_both_values() {
        let told = |before: &str, after: &str| {
            let changes = changes(&route("r", "a", before), &route("r", "a", after));
            changes.concat()
        };
        for (before, after, expected) in [
            (
                "with.text = \"New: {{ event.data.title }}\"",
                "with.text = \"Old: {{ event.data.title }}\"",
                "~ r: post.with.text: \"New: Home\" → \"Old: Home\"",
            ),
            (
                "with = { a = 1, b = [1] }",
                "with = { b = [2], c = 3 }",
                "~ r: post.with.a: 1 → nothing; post.with.b: [1] → [2]; post.with.c: nothing → 3",
            ),
            (
                "with.dir = \"{{ steps.fetch.path }}\"",
                "with.dir = \"{{ steps.fetch.files[0] }}\"",
                "~ r: post.with.dir: \"‹steps.fetch.path›\" → \"‹steps.fetch.files[0]›\"",
            ),
            (
                "with.text = \"{{ event.data.title }}\"",
                "with.text = \"{{ event.data.actor.name }}\"",
                "~ r: post.with.text: \"Home\" → route `r`, step `post`, `with.text`: `event.data` has no `actor`",
            ),
            (
                "",
                "if = \"event.data.title == 'Away'\"",
                "~ r: post.if: true → false",
            ),
        ] {
            assert_eq!(told(before, after), expected);
        }
    }

    #[test]
    fn a_step_that_comes_goes_or_uses_another_instance_is_told() {
        let one = "[[route]]\nname = \"r\"\nwhen.type = [\"a\"]\n[[route.step]]\nid = \"x\"\nuse = \"one\"\n";
        let two = one.replace("\"one\"", "\"two\"");
        let more = format!("{one}[[route.step]]\nid = \"y\"\nuse = \"one\"\n");
        assert_eq!(changes(one, &two), ["~ r: x.use: one → two"]);
        assert_eq!(changes(one, &more), ["~ r: y.use: no such step → one"]);
        assert_eq!(changes(&more, one), ["~ r: y.use: one → no such step"]);
    }

    #[test]
    fn another_line_or_deadline_is_told() {
        let with = |keys: &str| route("r", "a", "").replacen("when.", &format!("{keys}\nwhen."), 1);
        let told = |before: &str, after: &str| changes(&with(before), &with(after)).concat();
        for (before, after, expected) in [
            (
                "deadline = '24h'",
                "deadline = '12h'",
                "~ r: deadline: \"24h\" → \"12h\"",
            ),
            (
                "",
                "deadline = '{{ event.time }}'",
                "~ r: deadline: nothing → `event` has no `time`",
            ),
            (
                "deadline = '{{ event.data.title }}'",
                "deadline = '{{ event.data.title | default(\"1h\") }}'",
                "",
            ),
            (
                "order_by = '{{ event.data.title }}'",
                "order_by = '{{ event.type }}'\non_stuck = 'hold'",
                "~ r: order_by: \"Home\" → \"a\"; on_stuck: go-on → hold",
            ),
            (
                "supersede = true",
                "supersede = true\nnewest_by = 'time'",
                "~ r: newest_by: arrival → time",
            ),
            (
                "coalesce = { window = '30s' }",
                "coalesce = { window = '1m', keep = 'all' }",
                "~ r: coalesce.window: 30s → 60s; coalesce.max_wait: 300s → 600s; coalesce.keep: newest → all",
            ),
        ] {
            assert_eq!(told(before, after), expected);
        }
        assert!(told("", "coalesce = { window = '30s' }").contains("coalesce.window: nothing → 30s"));
    }
}
