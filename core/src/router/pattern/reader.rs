//! Reads a pattern from its nodes, strictly, and reports every mistake.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    Clause, Pattern,
    node::{Member, Node, NodeValue},
    number::Number,
    test::Test,
};

/// Which bytes a mistake is about.
pub(in crate::router) type Span = Range<usize>;

/// Reads one pattern. Mistakes go to `report`, with the next step where there is one.
pub(in crate::router) struct Reader<'r> {
    report: &'r mut dyn FnMut(Span, String, Option<String>),
    path: Vec<Box<str>>,
    /// How many branches of `$or` have been entered; names the scope that a clause was written in.
    scopes: usize,
    /// The paths that were read, each with where it stands.
    paths: Vec<(Arc<[Box<str>]>, Span)>,
    wrong: bool,
}

/// One way through the `$or`s: what each path was given, and in which scope.
type Alternative = BTreeMap<Arc<[Box<str>]>, (Arc<[Test]>, usize)>;

impl<'r> Reader<'r> {
    pub(in crate::router) fn new(report: &'r mut dyn FnMut(Span, String, Option<String>)) -> Self {
        Self {
            report,
            path: Vec::new(),
            scopes: 0,
            paths: Vec::new(),
            wrong: false,
        }
    }

    /// The pattern, where nothing is wrong with it.
    pub(in crate::router) fn pattern(&mut self, node: &Node) -> Option<Pattern> {
        let NodeValue::Table(members) = &node.value else {
            self.wrong(
                &node.span,
                format!("the pattern is {}, expected a table", node.kind()),
            );
            return None;
        };
        let mut alternatives = vec![Alternative::new()];
        self.table(&mut alternatives, members, &node.span, None);
        let clauses = |alternative: Alternative| {
            let clauses = alternative.into_iter();
            clauses.map(|(path, (tests, _))| Clause { path, tests }).collect()
        };
        let alternatives = alternatives.into_iter().map(clauses).collect();
        (!self.wrong).then_some(Pattern { alternatives })
    }

    /// The paths that were read, each with where it stands.
    pub(in crate::router) fn paths(&self) -> &[(Arc<[Box<str>]>, Span)] {
        &self.paths
    }

    /// Adds what `members` ask for to every alternative. `branch` is the scope, within `$or`.
    fn table(
        &mut self,
        alternatives: &mut Vec<Alternative>,
        members: &[Member],
        span: &Span,
        branch: Option<usize>,
    ) {
        if members.is_empty() {
            self.wrong(span, "an empty table, expected at least one field");
        }
        for member in members {
            if member.key == OR {
                self.or(alternatives, member);
                continue;
            }
            if branch.is_some() && RESERVED.contains(&member.key.as_str()) {
                self.wrong(
                    &member.key_span,
                    format!(
                        "`{}` is an operator, and no field within `$or` may have its name",
                        member.key
                    ),
                );
            }
            self.field(alternatives, member, branch);
        }
    }

    fn field(&mut self, alternatives: &mut Vec<Alternative>, member: &Member, branch: Option<usize>) {
        let before = self.path.len();
        self.path.extend(member.key.split('.').map(Box::from));
        match &member.node.value {
            NodeValue::Table(members) => self.table(alternatives, members, &member.node.span, branch),
            NodeValue::List(values) => {
                let tests: Arc<[Test]> = values.iter().filter_map(|value| self.test(value)).collect();
                if values.is_empty() {
                    self.wrong(
                        &member.node.span,
                        format!("{} is an empty list, which nothing can match", self.dotted()),
                    );
                }
                self.put(alternatives, tests, &member.key_span, branch.unwrap_or_default());
            }
            _ => {
                let message = format!(
                    "{} is {}, expected a list of values",
                    self.dotted(),
                    member.node.kind()
                );
                let help = self.help_for_a_lone_value(member);
                self.wrong_with(&member.node.span, message, help);
            }
        }
        self.path.truncate(before);
    }

    fn help_for_a_lone_value(&self, member: &Member) -> String {
        let value = match &member.node.value {
            NodeValue::String(text) => format!("{text:?}"),
            NodeValue::Number(text) => text.clone(),
            NodeValue::Bool(truth) => truth.to_string(),
            NodeValue::Null => "null".to_owned(),
            NodeValue::Date | NodeValue::List(_) | NodeValue::Table(_) => "…".to_owned(),
        };
        match self.path.first() {
            Some(key) if ROUTE_KEYS.contains(&&**key) => {
                format!(
                    "`{key}` of the route itself stands above `[route.when]`; in the pattern it would be a list"
                )
            }
            _ => format!("write `{} = [{value}]`", member.key),
        }
    }

    fn put(&mut self, alternatives: &mut [Alternative], tests: Arc<[Test]>, span: &Span, scope: usize) {
        let path: Arc<[Box<str>]> = self.path.as_slice().into();
        let mut twice = false;
        for alternative in alternatives {
            let before = alternative.insert(Arc::clone(&path), (Arc::clone(&tests), scope));
            twice |= before.is_some_and(|(_, before)| before == scope);
        }
        if twice {
            self.wrong(span, format!("{} is given twice", self.dotted()));
        }
        self.paths.push((path, span.clone()));
    }

    fn or(&mut self, alternatives: &mut Vec<Alternative>, member: &Member) {
        let NodeValue::List(branches) = &member.node.value else {
            let message = format!("`$or` is {}, expected a list of tables", member.node.kind());
            self.wrong(&member.node.span, message);
            return;
        };
        if branches.len() < 2 {
            self.wrong(
                &member.node.span,
                "`$or` needs at least two tables to choose from",
            );
        }
        let before = std::mem::take(alternatives);
        for branch in branches {
            let NodeValue::Table(members) = &branch.value else {
                self.wrong(
                    &branch.span,
                    format!("found {} in `$or`, expected a table", branch.kind()),
                );
                continue;
            };
            self.scopes += 1;
            let mut here = before.clone();
            self.table(&mut here, members, &branch.span, Some(self.scopes));
            alternatives.append(&mut here);
            if alternatives.len() > MOST_ALTERNATIVES {
                let message =
                    format!("the `$or`s of this pattern have more than {MOST_ALTERNATIVES} combinations");
                self.wrong(&member.key_span, message);
                alternatives.truncate(1);
                return;
            }
        }
    }

    pub(super) fn number(&mut self, node: &Node, text: &str) -> Option<Number> {
        let number = Number::parse(text);
        number.map_err(|reason| self.wrong(&node.span, reason)).ok()
    }

    pub(super) fn string<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            NodeValue::String(text) => Some(text),
            _ => self.unfit(node, "a string"),
        }
    }

    pub(super) fn unfit<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        self.unfit_table(node, &format!("found {}, expected {expected}", node.kind()))
    }

    pub(super) fn unfit_table<T>(&mut self, node: &Node, message: &str) -> Option<T> {
        self.wrong(&node.span, message);
        None
    }

    pub(super) fn wrong(&mut self, span: &Span, message: impl Into<String>) {
        self.wrong = true;
        (self.report)(span.clone(), message.into(), None);
    }

    pub(super) fn wrong_with(&mut self, span: &Span, message: String, help: String) {
        self.wrong = true;
        (self.report)(span.clone(), message, Some(help));
    }

    fn dotted(&self) -> String {
        format!("`{}`", self.path.join("."))
    }
}

const OR: &str = "$or";

/// Names that no field within `$or` may have, as EventBridge reserves them: operators of today and of some day.
const RESERVED: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// Keys of a route that slide under `[route.when]` when they are written below it.
const ROUTE_KEYS: [&str; 11] = [
    "name",
    "description",
    "order_by",
    "deadline",
    "supersede",
    "newest_by",
    "on_stuck",
    "coalesce",
    "step",
    "on_failure",
    "when_json",
];

/// How many ways there may be through the `$or`s of a pattern; EventBridge allows as many.
const MOST_ALTERNATIVES: usize = 1_000;
