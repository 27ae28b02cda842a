//! Reads a pattern from its nodes, strictly, and reports every mistake.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    Clause, Pattern,
    address::{self, Cidr},
    node::{Member, Node, NodeValue},
    number::Number,
    test::{Bound, Test},
    text::{Folded, Wildcard},
};
use crate::fault::nearest;

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
        match self.path.as_slice() {
            [key] if ROUTE_KEYS.contains(&&**key) => {
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

    fn test(&mut self, node: &Node) -> Option<Test> {
        match &node.value {
            NodeValue::Null => Some(Test::Null),
            NodeValue::Bool(truth) => Some(Test::Bool(*truth)),
            NodeValue::Number(text) => self.number(node, text).map(Test::Number),
            NodeValue::String(text) => Some(match address::parse(text) {
                Some(address) => Test::Address(text.as_str().into(), address),
                None => Test::String(text.as_str().into()),
            }),
            NodeValue::Table(members) => self.operator(node, members),
            NodeValue::List(_) => self.unfit(node, "a value or an operator"),
            NodeValue::Date => {
                self.wrong_with(
                    &node.span,
                    "found a bare date, expected a string".to_owned(),
                    "write the date in quotes".to_owned(),
                );
                None
            }
        }
    }

    fn operator(&mut self, node: &Node, members: &[Member]) -> Option<Test> {
        let operator = self.only_member(node, members)?;
        let operand = &operator.node;
        match operator.key.as_str() {
            "exactly" => self.string(operand).map(|text| Test::String(text.into())),
            "prefix" => self.end(
                operand,
                |text| Test::Prefix(text.into()),
                Test::PrefixIgnoringCase,
            ),
            "suffix" => self.end(
                operand,
                |text| Test::Suffix(text.into()),
                Test::SuffixIgnoringCase,
            ),
            "equals-ignore-case" => self
                .string(operand)
                .map(|text| Test::EqualsIgnoringCase(Folded::new(text))),
            "wildcard" => self.wildcard(operand),
            "anything-but" => self.anything_but(operand),
            "numeric" => self.numeric(operand),
            "cidr" => {
                let text = self.string(operand)?;
                let range = Cidr::parse(text);
                range
                    .map(Test::Cidr)
                    .map_err(|reason| self.wrong(&operand.span, reason))
                    .ok()
            }
            "exists" => match operand.value {
                NodeValue::Bool(true) => Some(Test::Exists),
                NodeValue::Bool(false) => Some(Test::Absent),
                _ => self.unfit(operand, "`true` or `false` for `exists`"),
            },
            unknown => {
                let message = format!("there is no operator `{unknown}`");
                let help = match nearest(unknown, OPERATORS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "there is: {}",
                        OPERATORS.map(|name| format!("`{name}`")).join(", ")
                    ),
                };
                self.wrong_with(&operator.key_span, message, help);
                None
            }
        }
    }

    /// The one member of an operator's table.
    fn only_member<'n>(&mut self, node: &Node, members: &'n [Member]) -> Option<&'n Member> {
        match members {
            [only] => Some(only),
            [] => self.unfit_table(node, "an empty table, expected an operator such as `prefix`"),
            [_, more, ..] => {
                let message = format!(
                    "`{}` beside another operator, expected one in each table",
                    more.key
                );
                self.wrong_with(&more.key_span, message, "write two tables to say or".to_owned());
                None
            }
        }
    }

    /// `prefix` or `suffix`: of a text, or of one that ignores case.
    fn end(
        &mut self,
        operand: &Node,
        plain: impl FnOnce(&str) -> Test,
        ignoring_case: impl FnOnce(Folded) -> Test,
    ) -> Option<Test> {
        let NodeValue::Table(members) = &operand.value else {
            return self.string(operand).map(plain);
        };
        let inner = self.only_member(operand, members)?;
        if inner.key != "equals-ignore-case" {
            self.wrong(
                &inner.key_span,
                format!("found `{}`, expected a string or `equals-ignore-case`", inner.key),
            );
            return None;
        }
        self.string(&inner.node)
            .map(|text| ignoring_case(Folded::new(text)))
    }

    fn wildcard(&mut self, operand: &Node) -> Option<Test> {
        let text = self.string(operand)?;
        match Wildcard::parse(text) {
            Ok(wildcard) => Some(Test::Wildcard(wildcard)),
            Err(reason) => {
                self.wrong(&operand.span, reason);
                None
            }
        }
    }

    fn anything_but(&mut self, operand: &Node) -> Option<Test> {
        match &operand.value {
            NodeValue::Table(members) => self.anything_but_text(operand, members),
            NodeValue::List(nodes) => {
                let tests: Option<Vec<_>> = nodes.iter().map(|node| self.excluded(node)).collect();
                let tests = tests?;
                let numbers = tests
                    .iter()
                    .filter(|test| matches!(test, Test::Number(_)))
                    .count();
                if tests.is_empty() || (numbers > 0 && numbers < tests.len()) {
                    return self.unfit_table(
                        operand,
                        "`anything-but` needs a list of strings or a list of numbers",
                    );
                }
                Some(Test::AnythingBut(tests.into()))
            }
            _ => self
                .excluded(operand)
                .map(|test| Test::AnythingBut([test].into())),
        }
    }

    /// A string or a number that is not to be.
    fn excluded(&mut self, node: &Node) -> Option<Test> {
        match &node.value {
            NodeValue::String(text) => Some(Test::String(text.as_str().into())),
            NodeValue::Number(text) => self.number(node, text).map(Test::Number),
            _ => self.unfit(node, "a string or a number in `anything-but`"),
        }
    }

    /// `anything-but` of an operator, with one string or a list of them.
    fn anything_but_text(&mut self, operand: &Node, members: &[Member]) -> Option<Test> {
        let inner = self.only_member(operand, members)?;
        let may_be_empty = match inner.key.as_str() {
            "prefix" | "suffix" => false,
            "equals-ignore-case" | "wildcard" => true,
            other => {
                let message = format!(
                    "found `{other}` in `anything-but`, expected `prefix`, `suffix`, `equals-ignore-case` or `wildcard`"
                );
                self.wrong(&inner.key_span, message);
                return None;
            }
        };
        let nodes = match &inner.node.value {
            NodeValue::List(nodes) if nodes.is_empty() => {
                return self.unfit(&inner.node, "at least one string");
            }
            NodeValue::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(&inner.node),
        };
        let tests = nodes.iter().map(|node| {
            let text = self.string(node)?;
            if text.is_empty() && !may_be_empty {
                self.wrong(
                    &node.span,
                    format!("an empty `{}`, which every string has", inner.key),
                );
                return None;
            }
            match inner.key.as_str() {
                "prefix" => Some(Test::Prefix(text.into())),
                "suffix" => Some(Test::Suffix(text.into())),
                "wildcard" => self.wildcard(node),
                _ => Some(Test::EqualsIgnoringCase(Folded::new(text))),
            }
        });
        let tests = tests
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Option<Vec<_>>>()?;
        Some(Test::AnythingBut(tests.into()))
    }

    /// `["=", 1]`, `[">", 1]`, `[">=", 1, "<", 5]` and so on.
    fn numeric(&mut self, operand: &Node) -> Option<Test> {
        let expected = "an operator and a number, or a range such as [\">=\", 0, \"<\", 5]";
        let NodeValue::List(parts) = &operand.value else {
            return self.unfit(operand, expected);
        };
        let mut pairs = Vec::new();
        for pair in parts.chunks(2) {
            let [operator, number] = pair else {
                return self.unfit_table(
                    operand,
                    &format!("an operator without a number, expected {expected}"),
                );
            };
            let operator = self.string(operator)?;
            let NodeValue::Number(text) = &number.value else {
                return self.unfit(number, &format!("a number after `{operator}`"));
            };
            pairs.push((operator, self.number(number, text)?));
        }
        let bound = |number, inclusive| Some(Bound { number, inclusive });
        let (low, high) = match pairs.as_slice() {
            [("=", number)] => return Some(Test::Number(*number)),
            [(">", low)] => (bound(*low, false), None),
            [(">=", low)] => (bound(*low, true), None),
            [("<", high)] => (None, bound(*high, false)),
            [("<=", high)] => (None, bound(*high, true)),
            [(from @ (">" | ">="), low), (to @ ("<" | "<="), high)] => {
                if low >= high {
                    return self
                        .unfit_table(operand, &format!("the range ends at {high} and begins at {low}"));
                }
                (bound(*low, *from == ">="), bound(*high, *to == "<="))
            }
            _ => return self.unfit_table(operand, &format!("not a range of numbers, expected {expected}")),
        };
        Some(Test::Within(low, high))
    }

    fn number(&mut self, node: &Node, text: &str) -> Option<Number> {
        let number = Number::parse(text);
        number.map_err(|reason| self.wrong(&node.span, reason)).ok()
    }

    fn string<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            NodeValue::String(text) => Some(text),
            _ => self.unfit(node, "a string"),
        }
    }

    fn unfit<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        self.unfit_table(node, &format!("found {}, expected {expected}", node.kind()))
    }

    fn unfit_table<T>(&mut self, node: &Node, message: &str) -> Option<T> {
        self.wrong(&node.span, message);
        None
    }

    fn wrong(&mut self, span: &Span, message: impl Into<String>) {
        self.wrong = true;
        (self.report)(span.clone(), message.into(), None);
    }

    fn wrong_with(&mut self, span: &Span, message: String, help: String) {
        self.wrong = true;
        (self.report)(span.clone(), message, Some(help));
    }

    fn dotted(&self) -> String {
        format!("`{}`", self.path.join("."))
    }
}

const OR: &str = "$or";

const OPERATORS: [&str; 8] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
];

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
const ROUTE_KEYS: [&str; 8] = [
    "name",
    "description",
    "order_by",
    "supersede",
    "step",
    "on_failure",
    "when_json",
    "enabled",
];

/// How many ways there may be through the `$or`s of a pattern; EventBridge allows as many.
const MOST_ALTERNATIVES: usize = 1_000;
